"""Lets Headway see Windows: Python imports this module at its start if its folder is on PYTHONPATH.

Headway's modules get os, sys, signal, ... without what Windows lacks, a msvcrt, and no fcntl. Where the standard
library acts for them, it follows the rules of Windows: open files are neither renamed nor deleted, and `rename`
replaces nothing. A text file that is opened without an encoding is an error. Other packages see the real system.
"""

import builtins
import errno
import fcntl
import importlib
import os
import signal
import stat
import struct
import types
import warnings
from typing import Any

NO_MODULES = {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
NOT_IN_OS = frozenset(
    """
    EX_OK O_CLOEXEC O_DIRECTORY O_DSYNC O_NOCTTY O_NOFOLLOW O_NONBLOCK O_SYNC WNOHANG chown chroot
    confstr ctermid fchdir fchown fdatasync fork forkpty getegid geteuid getgid getgroups getloadavg
    getpgid getpgrp getpriority getresuid getsid getuid getxattr initgroups killpg lchown lockf
    major makedev minor mkfifo mknod nice openpty pathconf pipe2 posix_fadvise posix_fallocate
    posix_spawn pread preadv pwrite pwritev sched_getaffinity sched_setaffinity sched_yield sendfile
    setgid setpgid setpriority setsid setuid setxattr statvfs sync sysconf tcgetpgrp ttyname uname
    wait wait3 wait4 waitid
    """.split()  # noqa: SIM905
)
NOT_IN_SIGNAL = frozenset(
    """
    ITIMER_REAL SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP
    SIGSYS SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH SIG_BLOCK alarm getitimer pause
    pthread_kill pthread_sigmask setitimer siginterrupt sigpending sigwait
    """.split()  # noqa: SIM905
)
OPEN_FILE = "The process cannot access the file because it is being used by another process"


class Seen(types.ModuleType):
    """A module as Headway sees it: what is not replaced or missing is that of the real one."""

    def __init__(self, name: str, missing: Any = (), /, **own: Any) -> None:
        super().__init__(name)
        self.__dict__.update(own, _missing=frozenset(missing))

    def __getattr__(self, name: str) -> Any:
        if name in self._missing:
            raise AttributeError(f"on Windows, module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(self.__name__), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(importlib.import_module(self.__name__), name, value)


def open_descriptor(path: Any, flags: int, *more: Any, **options: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
    return os.open(path, flags, *more, **options)


def sync(descriptor: int) -> None:
    if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    os.fsync(descriptor)


def kill(*_: Any) -> None:
    raise AssertionError("os.kill ends the process on Windows, whatever the signal is, and signal 0 is Ctrl+C")


def locking(descriptor: int, mode: int, count: int) -> None:
    """msvcrt.locking, with locks that belong to the open file, as on Windows."""
    start = os.lseek(descriptor, 0, os.SEEK_CUR)
    assert start >= os.fstat(descriptor).st_size, "locked bytes cannot be read by other processes"
    kind = fcntl.F_UNLCK if mode == 0 else fcntl.F_WRLCK
    try:
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, start, count, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
    except OSError as error:
        raise PermissionError(errno.EACCES, "Permission denied") from error


def new_process(*arguments: Any, creationflags: int = 0, start_new_session: bool = False, **options: Any) -> Any:
    import subprocess

    assert creationflags == 0x200 | 0x8000000
    assert not start_new_session

    class Process(subprocess.Popen[bytes]):
        """Ends with 1 when it is killed."""

        def poll(self) -> int | None:
            code = super().poll()
            self.returncode = 1 if code is not None and code < 0 else code
            return self.returncode

    return Process(*arguments, start_new_session=True, **options)


def context(method: str | None = None) -> Any:
    import multiprocessing

    if method not in (None, "spawn"):
        raise ValueError(f"cannot find context for {method!r}")
    return multiprocessing.get_context("spawn")


BREAK = signal.SIGUSR2  # tests send it in place of Ctrl+Break
SEEN = {
    "os": Seen("os", NOT_IN_OS, name="nt", open=open_descriptor, fsync=sync, kill=kill),
    "sys": Seen("sys", platform="win32"),
    "signal": Seen("signal", NOT_IN_SIGNAL, SIGBREAK=BREAK),
    "msvcrt": Seen("msvcrt", locking=locking, LK_UNLCK=0, LK_LOCK=1, LK_NBLCK=2),
    "subprocess": Seen("subprocess", Popen=new_process, CREATE_NEW_PROCESS_GROUP=0x200, CREATE_NO_WINDOW=0x8000000),
    "multiprocessing": Seen("multiprocessing", get_context=context),
    "psutil": Seen("psutil", BELOW_NORMAL_PRIORITY_CLASS=10),
    "socket": Seen("socket", ["AF_UNIX", "SO_REUSEPORT"], SO_EXCLUSIVEADDRUSE=2),  # the number of SO_REUSEADDR here
    "select": Seen("select", ["epoll", "poll"]),
    "time": Seen("time", ["tzset"]),
}
imported = builtins.__import__


def import_seen(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    package = (globals or {}).get("__package__") or ""
    if level == 0 and package.partition(".")[0] == "headway":
        if name.partition(".")[0] in NO_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        if name in SEEN:
            return SEEN[name]
    return imported(name, globals, locals, fromlist, level)


def location(path: Any, folder: int | None = None) -> str:
    path = os.fsdecode(path)
    parent = os.getcwd() if folder is None else os.readlink(f"/proc/self/fd/{folder}")
    path = os.path.join(parent, path)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def refuse_open(path: str) -> None:
    """Raises PermissionError if this process has opened or mapped a file, or one in a folder."""
    held = set()
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISREG(os.stat(f"/proc/self/fd/{descriptor}").st_mode):
                held.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        held.update(line[line.index("/") :].rstrip("\n") for line in maps if "/" in line)
    for one in held:
        if one == path or one.startswith(f"{path}/"):
            raise PermissionError(errno.EACCES, OPEN_FILE, one)


def follow_windows(name: str) -> None:
    """Replaces a function of `os` by one with the rules of Windows."""
    real = getattr(os, name)

    def renamed(
        source: Any, destination: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        refuse_open(location(source, src_dir_fd))
        target = location(destination, dst_dir_fd)
        if os.path.lexists(target):
            if name == "rename":
                raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
            if os.path.isdir(target):
                raise PermissionError(errno.EACCES, "Access is denied", target)
            refuse_open(target)
        real(source, destination, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def deleted(path: Any, *, dir_fd: int | None = None) -> None:
        refuse_open(location(path, dir_fd))
        real(path, dir_fd=dir_fd)

    setattr(os, name, renamed if name in ("rename", "replace") else deleted)


for function in ("rename", "replace", "unlink", "remove"):
    follow_windows(function)
builtins.__import__ = import_seen
warnings.simplefilter("ignore", EncodingWarning)
warnings.filterwarnings("error", category=EncodingWarning, module=r"headway\b")

"""A server that ends quietly at SIGTERM or SIGINT, whatever connections are open."""

import asyncio
import atexit
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from ..interrupts import INTERRUPTIONS


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT stop the server in the block without an error, and the process soon after it."""
    atexit.register(gc.freeze)  # the interpreter's last garbage collections take seconds with torch and Gradio loaded
    handlers = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    for number in handlers:
        signal.signal(number, lambda *_: None)  # uvicorn raises the signal again after the shutdown
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


class QuietServer(uvicorn.Server):
    """A server whose open connections do not delay its end.

    uvicorn itself closes idle connections, and waits for requests in progress. A page that listens for events has a
    request that never ends, and a request whose body never arrives does not end either.

    Args:
        config: of uvicorn.
        grace: seconds after which requests in progress are disconnected, as if their clients had gone.
    """

    def __init__(self, config: uvicorn.Config, grace: float) -> None:
        super().__init__(config)
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops listening, lets the requests in progress end, and then ends the application."""
        disconnecting = asyncio.ensure_future(self._disconnect())
        await super().shutdown(sockets)
        disconnecting.cancel()

    async def _disconnect(self) -> None:
        connections: Any = self.server_state.connections
        for connection in list(connections):
            if connection.cycle is not None and connection.cycle.more_body:  # the request has not arrived completely
                connection.transport.abort()
        await asyncio.sleep(self._grace)
        for connection in list(connections):
            connection.transport.abort()

"""Pauses in a forward pass, so that the thread that computes a long text can compute short ones in between."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..models.heads import Backbone


@contextmanager
def pausing(backbone: Backbone, pause: Callable[[], None]) -> Iterator[None]:
    """Calls `pause` before every block that this thread computes until the `with` block ends.

    `pause` may use the backbone itself: the pass that it interrupts keeps all its values.

    Args:
        backbone: of a model in use; other threads may use it as well.
        pause: called before each block, and so about once for each layer.
    """
    thread = threading.get_ident()
    paused = False

    def before_block(*_: Any) -> None:
        nonlocal paused
        if paused or threading.get_ident() != thread:
            return
        paused = True  # the blocks that are computed in the pause do not pause
        try:
            pause()
        finally:
            paused = False

    with ExitStack() as hooks:
        for block in set(backbone.blocks):  # prepared for inference, shared layers are one module
            hooks.callback(block.register_forward_pre_hook(before_block).remove)
        yield

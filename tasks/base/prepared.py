"""The network of a model prepared for inference: when it is first used, and again when it has changed."""

from collections.abc import Callable, Mapping
from threading import RLock
from typing import Any

import torch

from ...core.inference.inference import prepare_for_inference
from ...core.models.heads import Network
from .text_distance import NetworkWithDistance, TextDistance


class PreparedNetwork:
    """A network prepared for inference; several threads may ask for it, and one prepares it."""

    def __init__(self) -> None:
        self.lock = RLock()  # of the network that it is made of
        self._made: tuple[Any, Network] | None = None  # with the state that it was made of

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: without the network, which can be made again."""
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        PreparedNetwork.__init__(self)

    def make(
        self,
        network: Network,
        unread: Mapping[str, Any] | None,
        choose_precision: Callable[[torch.device], str],
        distance: TextDistance | None,
    ) -> Network:
        """The prepared network; prepared again if the weights, the precision or the distance are others.

        Args:
            network: with plain weights.
            unread: the weights, if the network has none yet.
            choose_precision: of a device.
            distance: of texts from the training texts, which is computed in addition; None: it is not.
        """
        with self.lock:
            parameters = list(network.parameters())
            precision = choose_precision(torch.device("cpu") if unread else parameters[0].device)
            state = (precision, distance, *(parameter._version for parameter in parameters))
            if self._made is None or self._made[0] != state:
                self._made = None  # frees its memory first
                prepared = prepare_for_inference(network.eval(), precision, unread)
                self._made = state, prepared if distance is None else NetworkWithDistance(prepared, distance)
            return self._made[1]

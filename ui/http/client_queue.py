"""A queue of requests that serves the clients in turn."""

from collections.abc import KeysView
from typing import Generic, Protocol, TypeVar


class FromClient(Protocol):
    """A request that knows who sent it."""

    client: str


Request = TypeVar("Request", bound=FromClient)


class ClientQueue(Generic[Request]):
    """Round-robin over clients, and over the requests of each client; changes take constant time.

    A client that sends many requests waits longer for each of them and delays no other client.
    """

    def __init__(self) -> None:
        self._clients: dict[str, dict[Request, None]] = {}  # both ordered: the next one is the first

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __len__(self) -> int:
        return sum(len(requests) for requests in self._clients.values())

    @property
    def clients(self) -> KeysView[str]:
        """The clients with a request in the queue, the next one first."""
        return self._clients.keys()

    def add(self, request: Request) -> None:
        """Adds a request behind the others of its client."""
        self._clients.setdefault(request.client, {})[request] = None

    def first(self) -> Request:
        """The request whose turn it is."""
        return next(iter(next(iter(self._clients.values()))))

    def pop(self) -> Request:
        """Removes the request whose turn it is; the next turn is another client's."""
        return self.pop_of(next(iter(self._clients)))

    def pop_of(self, client: str) -> Request:
        """Removes the first request of a client, whose next turn is after that of the others."""
        requests = self._clients.pop(client)
        request = next(iter(requests))
        del requests[request]
        if requests:
            self._clients[client] = requests
        return request

    def discard(self, request: Request) -> None:
        """Removes a request that is in the queue or not."""
        requests = self._clients.get(request.client, {})
        requests.pop(request, None)
        if not requests:
            self._clients.pop(request.client, None)

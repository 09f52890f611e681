"""A queue of requests that serves the clients in turn."""

from typing import Generic, Protocol, TypeVar


class FromClient(Protocol):
    """A request that knows who sent it."""

    client: str


Request = TypeVar("Request", bound=FromClient)


class ClientQueue(Generic[Request]):
    """Round-robin over clients, and over the requests of each client; every operation takes constant time.

    A client that sends many requests waits longer for each of them and delays no other client.
    """

    def __init__(self) -> None:
        self._clients: dict[str, dict[Request, None]] = {}  # both ordered: the next one is the first

    def __bool__(self) -> bool:
        return bool(self._clients)

    def add(self, request: Request) -> None:
        """Adds a request behind the others of its client."""
        self._clients.setdefault(request.client, {})[request] = None

    def first(self) -> Request:
        """The request whose turn it is."""
        return next(iter(next(iter(self._clients.values()))))

    def pop(self) -> Request:
        """Removes the request whose turn it is; the next turn is another client's."""
        request = self.first()
        requests = self._clients.pop(request.client)
        del requests[request]
        if requests:
            self._clients[request.client] = requests
        return request

    def discard(self, request: Request) -> None:
        """Removes a request that is in the queue or not."""
        requests = self._clients.get(request.client, {})
        requests.pop(request, None)
        if not requests:
            self._clients.pop(request.client, None)

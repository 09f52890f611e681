"""A generated text as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each event is one line of JSON: `{"piece": ...}` for a piece of text, the complete text at its end, and `[DONE]` last,
as in OpenAI's streams. An error during the stream is an event of type `error`.
"""

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...core.errors import HeadwayError
from .errors import error_body, status_of
from .middleware import Client, ClientGone

if TYPE_CHECKING:
    from ...core.generation.decoding import Generation
    from ...core.generation.generation import StreamedText
    from .interleaving import GenerationRequest

DONE = b"data: [DONE]\n\n"
INTERNAL_ERROR = "Internal error; the server's log has the details. Try again, or tell the server's administrator."
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the latter stops nginx from buffering


def generation_json(generation: "Generation") -> dict[str, Any]:
    """A complete text as plain JSON types."""
    return {
        "text": generation.text,
        "token_ids": list(generation.token_ids),
        "score": generation.score,
        "finish_reason": generation.finish_reason,
    }


class EventStream(Response):
    """Streams a generation until it ends or the client disconnects.

    Args:
        first: the first part, awaited before the response starts so that errors before it have their own status.
        request: the remaining parts.
        timeout: maximum number of seconds for each part.
        truncated: whether a part of the prompt was not read.
    """

    media_type = "text/event-stream"

    def __init__(
        self, first: "StreamedText", request: "GenerationRequest[StreamedText]", timeout: float, *, truncated: bool
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._first, self._request, self._timeout, self._truncated = first, request, timeout, truncated

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends the events."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def send_body(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        try:
            with Client(receive) as client:
                sample = 0
                part: StreamedText | None = self._first
                while part is not None:
                    if part.piece:
                        await send_body(_event({"sample": sample, "piece": part.piece}))
                    if part.generation is not None:
                        await send_body(
                            _event(
                                {**generation_json(part.generation), "sample": sample, "truncated": self._truncated}
                            )
                        )
                        sample += 1
                    part = await client.wait_for(anext(self._request, None), self._timeout)
            await send_body(DONE)
        except ClientGone:
            return
        except HeadwayError as error:
            await send_body(b"event: error\n" + _event(error_body(status_of(error), str(error))))
        except Exception:  # sent to the client, and raised again for the log
            await send_body(b"event: error\n" + _event(error_body(500, INTERNAL_ERROR)), more=False)
            raise
        finally:
            self._request.close()
        await send_body(b"", more=False)


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, allow_nan=False)}\n\n".encode("ascii")

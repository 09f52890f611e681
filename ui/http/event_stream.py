"""A text as it comes, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Each event is a line of JSON: `{"piece": ...}` for a piece of text, the whole text where one ends, and `[DONE]` as the
last, as OpenAI's streams have it. What goes wrong on the way is an event `error`.
"""

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...core.errors import HeadwayError
from .middleware import Asker, ClientGone, error_body, status_of

if TYPE_CHECKING:
    from ...core.generation.decoding import Generation
    from ...core.generation.generation import StreamedText
    from .interleaving import Writing

DONE = b"data: [DONE]\n\n"
OUR_FAULT = "Something went wrong in the server; its log says what. Ask again, or tell whoever runs it."
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would keep the pieces back


def plain(found: "Generation") -> dict[str, Any]:
    """A text that has ended, as plain JSON."""
    return {
        "text": found.text,
        "token_ids": list(found.token_ids),
        "score": found.score,
        "finish_reason": found.finish_reason,
    }


class EventStream(Response):
    """A text as it comes, until it ends or nobody reads it any longer.

    Args:
        first: its first part, so that what cannot be written at all has been refused already.
        writing: the rest.
        seconds: that each part may take.
    """

    media_type = "text/event-stream"

    def __init__(self, first: "StreamedText", writing: "Writing[StreamedText]", seconds: float) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._first, self._writing, self._seconds = first, writing, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

        async def out(data: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        try:
            with Asker(receive) as asker:
                sample = 0
                part: StreamedText | None = self._first
                while part is not None:
                    if part.piece:
                        await out(_event({"sample": sample, "piece": part.piece}))
                    if part.generation is not None:
                        await out(_event({"sample": sample, **plain(part.generation)}))
                        sample += 1
                    part = await asker.waits_for(anext(self._writing, None), self._seconds)
            await out(DONE)
        except ClientGone:
            return
        except HeadwayError as error:
            await out(b"event: error\n" + _event(error_body(status_of(error), str(error))))
        except Exception:  # told to the client, and raised on for the log
            await out(b"event: error\n" + _event(error_body(500, OUR_FAULT)), more=False)
            raise
        finally:
            self._writing.close()
        await out(b"", more=False)


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, allow_nan=False)}\n\n".encode("ascii")

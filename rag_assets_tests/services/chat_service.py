"""A chat model on the loopback that speaks OpenAI's `POST /v1/chat/completions`.

It asks for the first long sentence of each passage, in a fixed way, or answers what it is told to:

    with ChatService() as service:
        service.answer('{"question": "…", "quote": "…"}')   # the next answers, one each
        service.fail(503, headers={"retry-after": "1"})
        ...                      # the base URL: service.url
        service.asked            # the bodies of all requests
"""

import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-chat-0123456789"
PASSAGE = re.compile(r"Passage:\n(.*)", re.DOTALL)
SENTENCE = re.compile(r"[A-Z][^.!?#|\n]{20,300}[.!?]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer that was laid ready."""

    content: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Instead of all else: what a broken server sends."""


class ChatService:
    """The service in a thread of this process."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.ready: deque[Reply] = deque()
        self.tokens = [0, 0]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        """What a client of OpenAI takes for its `base_url`."""
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, *contents: str) -> None:
        self.ready.extend(Reply(content) for content in contents)

    def fail(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.ready.append(Reply(status=status, headers=headers or {}))

    def break_off(self, body: bytes) -> None:
        self.ready.append(Reply(body=body))

    def __enter__(self) -> "ChatService":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def usual(body: Mapping[str, Any]) -> str:
    """A question and a quote that keep the rules, made of the passage in a request."""
    [passage] = [
        found[1] for each in body["messages"] if (found := PASSAGE.search(each["content"]))
    ]
    sentences = SENTENCE.findall(passage)
    quote = sentences[0] if sentences else "There was no sentence in it."
    words = re.findall(r"\w+", quote)
    return json.dumps({"question": f"Is it so that {words[-1]} {words[0]}?", "quote": quote})


def tokens_of(text: str) -> int:
    return len(text.split())


def _handler_of(service: ChatService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            service.asked.append(body | {"_key": self.headers.get("authorization", "")})
            reply = service.ready.popleft() if service.ready else Reply()
            if self.headers.get("authorization") not in (f"Bearer {KEY}", "Bearer none"):
                key = self.headers.get("authorization", "").removeprefix("Bearer ")
                reply = Reply(f"Incorrect API key provided: {key}", 401)
            self._send(reply, body)

        def _send(self, reply: Reply, body: Mapping[str, Any]) -> None:
            content = (
                reply.body if reply.body is not None else json.dumps(_told(reply, body)).encode()
            )
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    def _told(reply: Reply, body: Mapping[str, Any]) -> dict[str, Any]:
        if reply.status != 200:
            code = "invalid_api_key" if reply.status == 401 else None
            return {"error": {"message": reply.content or "It failed.", "type": "", "code": code}}
        content = usual(body) if reply.content is None else reply.content
        sent = sum(tokens_of(each["content"]) for each in body["messages"])
        service.tokens[0] += sent
        service.tokens[1] += tokens_of(content)
        return {
            "id": "chat-1",
            "object": "chat.completion",
            "created": 1,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
            "usage": {
                "prompt_tokens": sent,
                "completion_tokens": tokens_of(content),
                "total_tokens": sent + tokens_of(content),
            },
        }

    return Handler

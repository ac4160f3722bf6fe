"""Slack, PagerDuty and a plain webhook on the loopback, with their rules and their errors.

with AlertService() as service:
    service.fail("slack", Trouble.TOO_MANY)
    ...                      # addresses: service.slack_url, service.pagerduty_url, service.url
    service.taken("slack")   # the messages that were taken, as they came
"""

import hashlib
import hmac
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLACK_TOKEN = "T0LOOP/B0LOOP/slackcanary24charslong"
PAGERDUTY_KEY = "0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET = "a-shared-secret"
OLDEST_S = 300
SEVERITIES = ("critical", "error", "warning", "info")


class Trouble(StrEnum):
    """What happens to one request."""

    TOO_MANY = "too_many"
    """429, and `Retry-After: 0`."""
    WAIT_LONG = "wait_long"
    """429, and `Retry-After: 60`."""
    BROKEN = "broken"
    """500 with a page that repeats the address."""
    HANG = "hang"
    """No answer comes."""
    CLOSED = "closed"
    """The connection ends before a word of the answer."""
    LOST = "lost"
    """It is taken, and the connection ends before that is said."""
    GONE = "gone"
    """404 `no_service`, as Slack answers for a webhook that was removed."""
    REDIRECT = "redirect"
    """302 to another address."""


@dataclass(frozen=True)
class Came:
    """One request, whatever became of it."""

    channel: str
    body: Any
    headers: dict[str, str]
    status: int


class AlertService:
    """The three in a thread of this process."""

    def __init__(self) -> None:
        self.came: list[Came] = []
        self.seen: Callable[[bytes], object] = lambda _: None
        """Is handed each body, byte for byte."""
        self.stopping = threading.Event()
        self._troubles: dict[str, deque[Trouble]] = defaultdict(deque)
        self._down: dict[str, Trouble] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.service = self
        self._thread = threading.Thread(target=self._serve, name="alert service", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def slack_url(self) -> str:
        return f"{self.url}/services/{SLACK_TOKEN}"

    @property
    def webhook_url(self) -> str:
        return f"{self.url}/hook?token=webhook-url-canary"

    @property
    def environment(self) -> dict[str, str]:
        """What a corpus with all channels needs."""
        return {
            "ALERT_SLACK": self.slack_url,
            "ALERT_PAGERDUTY": PAGERDUTY_KEY,
            "ALERT_WEBHOOK": self.webhook_url,
            "ALERT_SECRET": WEBHOOK_SECRET,
            "RAG_ASSETS_PAGERDUTY_URL": self.url,
        }

    def fail(self, channel: str, *troubles: Trouble) -> None:
        """The next requests to a channel meet these, one each."""
        with self._lock:
            self._troubles[channel].extend(troubles)

    def take_down(self, channel: str, trouble: Trouble = Trouble.BROKEN) -> None:
        """All requests meet it, until the channel is brought back."""
        self._down[channel] = trouble

    def bring_back(self, channel: str) -> None:
        self._down.pop(channel, None)

    def taken(self, channel: str) -> list[Any]:
        with self._lock:
            return [
                each.body
                for each in self.came
                if each.channel == channel and 200 <= each.status < 300
            ]

    def forget(self) -> None:
        with self._lock:
            self.came.clear()

    def next_trouble(self, channel: str) -> Trouble | None:
        with self._lock:
            waiting = self._troubles[channel]
            return waiting.popleft() if waiting else self._down.get(channel)

    def note(self, came: Came) -> None:
        with self._lock:
            self.came.append(came)

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.05)

    def __enter__(self) -> "AlertService":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    service: AlertService
    daemon_threads = True
    block_on_close = False


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.service.seen(content)
        path = self.path.partition("?")[0]
        channel = {"/v2/enqueue": "pagerduty", "/hook": "webhook"}.get(path, "slack")
        trouble = self.server.service.next_trouble(channel)
        if trouble is None or trouble is Trouble.LOST:
            status, body = getattr(self, f"_{channel}")(content)
        else:
            status, body = 0, ""
        came = Came(channel, _read(content), dict(self.headers), status)
        self.server.service.note(came)
        if trouble is None:
            self._send(status, body)
        else:
            self._trouble(trouble)

    def _trouble(self, trouble: Trouble) -> None:
        match trouble:
            case Trouble.TOO_MANY | Trouble.WAIT_LONG:
                wait = "0" if trouble is Trouble.TOO_MANY else "60"
                self._send(429, "rate_limited", **{"Retry-After": wait})
            case Trouble.BROKEN:
                self._send(500, f"<html>Cannot POST {self.path} for {self.headers}</html>")
            case Trouble.GONE:
                self._send(404, "no_service")
            case Trouble.REDIRECT:
                self._send(302, "", Location=f"{self.server.service.url}/elsewhere")
            case Trouble.HANG:
                self.server.service.stopping.wait(30)
                self.close_connection = True
            case Trouble.CLOSED | Trouble.LOST:
                self.close_connection = True

    # --- the rules of each -----------------------------------------------------------------------

    def _slack(self, content: bytes) -> tuple[int, str]:
        if self.path != f"/services/{SLACK_TOKEN}":
            return 403, "invalid_token"
        message = _read(content)
        if not isinstance(message, dict):
            return 400, "invalid_payload"
        if not message.get("text"):
            return 400, "no_text"
        return (200, "ok") if _are_blocks(message.get("blocks", [])) else (400, "invalid_blocks")

    def _pagerduty(self, content: bytes) -> tuple[int, str]:
        event = _read(content)
        problem = _problem_of_event(event)
        if problem:
            told = {"status": "invalid event", "message": "Event object is invalid"}
            return 400, json.dumps({**told, "errors": [problem]})
        told = {"status": "success", "message": "Event processed", "dedup_key": event["dedup_key"]}
        return 202, json.dumps(told)

    def _webhook(self, content: bytes) -> tuple[int, str]:
        """As the page on alerts tells people to check it."""
        at = self.headers.get("X-Rag-Assets-Timestamp", "")
        signed = f"{at}.".encode() + content
        wanted = hmac.new(WEBHOOK_SECRET.encode(), signed, hashlib.sha256).hexdigest()
        told = self.headers.get("X-Rag-Assets-Signature", "")
        if not hmac.compare_digest(told, f"sha256={wanted}"):
            return 401, "wrong signature"
        return (204, "") if abs(time.time() - int(at)) < OLDEST_S else (401, "too old")

    def _send(self, status: int, body: str, **headers: str) -> None:
        content = body.encode()
        self.send_response(status)
        kind = "application/json" if body.startswith("{") else "text/html"
        self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if status != 204:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: what came is remembered."""


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _are_blocks(blocks: object) -> bool:
    """The limits that Slack puts on what we send."""
    if not isinstance(blocks, list) or len(blocks) > 50:
        return False
    for block in blocks:
        match block:
            case {"type": "header", "text": {"type": "plain_text", "text": str(text)}}:
                fits = 0 < len(text) <= 150
            case {"type": "section", "text": {"type": "mrkdwn", "text": str(text)}}:
                fits = 0 < len(text) <= 3000
            case {"type": "context", "elements": [*elements]}:
                fits = 0 < len(elements) <= 10 and all(each["text"] for each in elements)
            case _:
                fits = False
        if not fits:
            return False
    return True


def _problem_of_event(event: Any) -> str:
    match event:
        case {
            "routing_key": str(key),
            "event_action": "trigger" | "resolve",
            "dedup_key": str(dedup),
            "payload": {"summary": str(summary), "source": str(), "severity": str(severity)},
        }:
            if key != PAGERDUTY_KEY:
                return "Invalid routing key"
            if not 0 < len(summary) <= 1024 or not 0 < len(dedup) <= 255:
                return "Length is out of bounds"
            if severity not in SEVERITIES:
                return "'payload.severity' is invalid"
        case _:
            return "'payload' is missing or blank"
    try:
        datetime.fromisoformat(event["payload"]["timestamp"])
    except (KeyError, ValueError):
        return "'payload.timestamp' is invalid"
    links = event.get("links", [])
    return "" if all(each["href"].startswith("http") for each in links) else "'links' is invalid"

"""How people are told: Slack, PagerDuty, or any address that takes a signed message.

An address is a secret: whoever knows one can write to its channel. It is read when a message is
sent, and stands in no error and in no log.
"""

import hmac
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rag_assets.errors import AlertError, ConfigurationError
from rag_assets.model import Alert, AlertPhase, Urgency
from rag_assets.ports import Clock
from rag_assets.settings import Secret

if TYPE_CHECKING:
    import httpx

TIMEOUT_S, CONNECT_TIMEOUT_S = 5.0, 3.0
ATTEMPTS = 2
PAUSE_S, LONGEST_PAUSE_S = 0.5, 2.0
"""The next look comes after half a minute: nobody waits here for long."""
TOO_MANY, BROKEN = 429, 500
LONGEST_SUMMARY, LONGEST_HEADING = 1024, 150

_MARKS = {Urgency.CRITICAL: "🔴", Urgency.ERROR: "🔴", Urgency.WARNING: "🟠", Urgency.INFO: "🟢"}
_WORDS = {AlertPhase.REMINDED: "Still: ", AlertPhase.RECOVERED: "Recovered: "}


def headline(alert: Alert) -> str:
    """One line, for a list or a lock screen."""
    return f"{_WORDS.get(alert.phase, '')}{alert.corpus}: {alert.title}"


@dataclass(frozen=True, slots=True)
class SlackWebhook:
    """An incoming webhook of Slack: its address is its key."""

    variable: str
    clock: Clock
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    timeout_s: float = TIMEOUT_S
    name: str = "Slack"
    urgent_only: bool = False

    def send(self, alert: Alert) -> str:
        address = _address(self.variable, self.environ, self.name)
        body = json.dumps(_slack_message(alert)).encode()
        return _Sending(self.name, self.clock, self.timeout_s).post(address, body)


def _slack_message(alert: Alert) -> dict[str, object]:
    mark = _MARKS[Urgency.INFO if alert.phase is AlertPhase.RECOVERED else alert.urgency]
    heading = _shortened(f"{mark} {headline(alert)}", LONGEST_HEADING)
    lines = [_escaped(alert.detail)] if alert.detail else []
    lines.append(" · ".join(_facts(alert)))
    return {
        "text": _escaped(heading),
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": heading}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "\n".join(lines)}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": _slack_links(alert)}]},
        ],
    }


def _facts(alert: Alert) -> Iterator[str]:
    yield f"since {_moment(alert.since)}"
    if alert.phase is AlertPhase.RECOVERED:
        yield f"over at {_moment(alert.at)}"
    if alert.count > 1:
        yield f"{alert.count} times"
    yield f"`{alert.cause}`"


def _slack_links(alert: Alert) -> str:
    links = [f"<{alert.run_url}|The run>"] if alert.run_url else []
    if alert.runbook:
        is_address = alert.runbook.startswith("http")
        links.append(f"<{alert.runbook}|What to do>" if is_address else f"`{alert.runbook}`")
    return " · ".join([*links, f"corpus {alert.corpus}"])


def _escaped(text: str) -> str:
    """What Slack reads as its own signs, as letters."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True, slots=True)
class PagerDuty:
    """A service of PagerDuty, by Events API v2: one incident a cause, which it closes itself."""

    variable: str
    url: str
    """Where events are taken: it is another one in each region."""
    ui_url: str
    clock: Clock
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    timeout_s: float = TIMEOUT_S
    name: str = "PagerDuty"
    urgent_only: bool = True

    def send(self, alert: Alert) -> str:
        key = _secret(self.variable, self.environ, self.name)
        event = {"routing_key": key.reveal(), **self._event(alert)}
        address = Secret(f"{self.url}/v2/enqueue")
        sending = _Sending(self.name, self.clock, self.timeout_s)
        said = sending.post(address, json.dumps(event).encode())
        if alert.phase is not AlertPhase.TRIAL:
            return said
        over = {**event, "event_action": "resolve"}
        return f"{said}, then {sending.post(address, json.dumps(over).encode())}"

    def _event(self, alert: Alert) -> dict[str, object]:
        resolves = alert.phase is AlertPhase.RECOVERED
        links = [("The run", alert.run_url), ("What to do", alert.runbook)]
        return {
            "event_action": "resolve" if resolves else "trigger",
            "dedup_key": f"rag_assets/{alert.corpus}/{alert.cause}"[:255],
            "client": "rag_assets",
            "client_url": self.ui_url,
            "links": [
                {"href": href, "text": text}
                for text, href in links
                if href and href.startswith("http")
            ],
            "payload": {
                "summary": _shortened(headline(alert), LONGEST_SUMMARY),
                "source": f"rag_assets/{alert.corpus}",
                "severity": alert.urgency.value,
                "timestamp": alert.at.isoformat(),
                "component": alert.corpus,
                "class": alert.cause.partition(":")[0],
                "custom_details": _told(alert),
            },
        }


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    """An address that gets each alert as JSON, signed where a secret is named."""

    variable: str
    clock: Clock
    secret_variable: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    timeout_s: float = TIMEOUT_S
    name: str = "webhook"
    urgent_only: bool = False

    def send(self, alert: Alert) -> str:
        address = _address(self.variable, self.environ, self.name)
        body = json.dumps(_told(alert)).encode()
        return _Sending(self.name, self.clock, self.timeout_s).post(
            address, body, self._signature(body)
        )

    def _signature(self, body: bytes) -> dict[str, str]:
        """Over the time too, so that a message which was overheard cannot be sent again later."""
        if self.secret_variable is None:
            return {}
        secret = _secret(self.secret_variable, self.environ, self.name)
        at = str(int(self.clock.now().timestamp()))
        signed = hmac.digest(secret.reveal().encode(), at.encode() + b"." + body, "sha256")
        return {"X-Rag-Assets-Timestamp": at, "X-Rag-Assets-Signature": f"sha256={signed.hex()}"}


def _told(alert: Alert) -> dict[str, object]:
    return {
        "id": alert.id,
        "phase": alert.phase.value,
        "corpus": alert.corpus,
        "cause": alert.cause,
        "title": alert.title,
        "detail": alert.detail,
        "urgency": alert.urgency.value,
        "since": alert.since.isoformat(),
        "at": alert.at.isoformat(),
        "count": alert.count,
        "run_url": alert.run_url,
        "runbook": alert.runbook,
    }


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


# --- over HTTP -----------------------------------------------------------------------------------


def _secret(variable: str, environ: Mapping[str, str], channel: str) -> Secret:
    secret = Secret.from_environment(variable, environ)
    if secret is None:
        raise ConfigurationError(
            f"{variable} is not set, and alerts to {channel} need it. Set it, or {variable}_FILE,"
            " in the environment of Dagster's daemon and code server."
        )
    return secret


def _address(variable: str, environ: Mapping[str, str], channel: str) -> Secret:
    address = _secret(variable, environ, channel)
    problem = ""
    try:
        parts = urlsplit(address.reveal())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            problem = "holds no address"
    except ValueError:
        problem = "holds an address that cannot be read"
    if problem:  # outside of the handler: its error may hold the address
        raise ConfigurationError(
            f"{variable} {problem}; it should begin with https://, and lead to {channel}."
        )
    return address


@dataclass(frozen=True, slots=True)
class _Sending:
    """A few requests, in the hope that one is taken."""

    channel: str
    clock: Clock
    timeout_s: float

    def post(self, address: Secret, body: bytes, headers: Mapping[str, str] | None = None) -> str:
        """What came back, in a word or two."""
        said = ""
        for attempt in range(ATTEMPTS):
            answer, said = self._asked(address, body, headers or {})
            if answer is not None and answer.is_success:
                return said
            pause = _pause_s(answer)
            if pause is None or attempt == ATTEMPTS - 1:
                break
            self.clock.pause(pause, unless=Event())
        raise AlertError(f"{self.channel} {said}")

    def _asked(
        self, address: Secret, body: bytes, headers: Mapping[str, str]
    ) -> "tuple[httpx.Response | None, str]":
        import httpx

        timeout = httpx.Timeout(self.timeout_s, connect=min(self.timeout_s, CONNECT_TIMEOUT_S))
        own = {"Content-Type": "application/json", "User-Agent": "rag_assets"}
        try:
            with _unlogged(), httpx.Client(timeout=timeout) as client:
                answer = client.post(address.reveal(), content=body, headers={**own, **headers})
        except httpx.TimeoutException:
            return None, f"gave no answer within {self.timeout_s:g} seconds"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None, "cannot be reached: the connection broke, or was not made"
        return answer, f"answered {answer.status_code}{_saying(answer)}"


def _pause_s(answer: "httpx.Response | None") -> float | None:
    """How long to wait before asking again; None where that is of no use, or would be too long."""
    if answer is None:
        return PAUSE_S
    if answer.status_code == TOO_MANY:
        told = answer.headers.get("Retry-After", "")
        wait = float(told) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", told) else PAUSE_S
        return wait if wait <= LONGEST_PAUSE_S else None
    return PAUSE_S if answer.status_code >= BROKEN else None


def _saying(answer: "httpx.Response") -> str:
    """A code such as `no_service` is passed on; anything longer might repeat what was sent."""
    try:
        found: Any = answer.json()
    except ValueError:
        found = answer.text
    word = found.get("status") if isinstance(found, dict) else found
    is_code = isinstance(word, str) and re.fullmatch(r"[a-z]+([_ ][a-z]+){0,5}", word.strip())
    return f" ({word.strip()})" if is_code and isinstance(word, str) else ""


_SENDING: ContextVar[bool] = ContextVar("sending an alert", default=False)


class _WithoutAddresses(logging.Filter):
    """The HTTP client logs each address that it asks; ours are secrets."""

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002
        return not _SENDING.get()


_FILTER = _WithoutAddresses()


@contextmanager
def _unlogged() -> Iterator[None]:
    for name in ("httpx", "httpcore", "httpcore.connection", "httpcore.http11", "httpcore.proxy"):
        logging.getLogger(name).addFilter(_FILTER)  # it is added once, however often
    token = _SENDING.set(True)
    try:
        yield
    finally:
        _SENDING.reset(token)

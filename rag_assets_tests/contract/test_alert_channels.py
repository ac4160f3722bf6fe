"""Each way in which people are told, against a service that keeps its rules."""

import logging
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from rag_assets.adapters.alerting import LONGEST_PAUSE_S, PagerDuty, SignedWebhook, SlackWebhook
from rag_assets.errors import AlertError, ConfigurationError
from rag_assets.model import Alert, AlertPhase, Urgency
from rag_assets.ports import AlertChannel
from rag_assets_tests.services.alert_service import (
    PAGERDUTY_KEY,
    SLACK_TOKEN,
    WEBHOOK_SECRET,
    AlertService,
    Trouble,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "get-told.md"
NOW = datetime.now(UTC)
SECRETS = (SLACK_TOKEN, "slackcanary", PAGERDUTY_KEY, WEBHOOK_SECRET, "webhook-url-canary")
ALERT = Alert(
    id="abc",
    phase=AlertPhase.OPENED,
    corpus="notes",
    cause="run_failed:embeddings:EmbeddingError",
    title="Runs fail at embeddings: EmbeddingError",
    detail="The model <m> said no & went.",
    urgency=Urgency.ERROR,
    since=NOW - timedelta(hours=1),
    at=NOW,
    count=3,
    run_url="https://dagster.example.com/runs/r1",
    runbook="https://git.example.com/docs/runbooks/run-failed.md",
)
Make = Callable[..., AlertChannel]


@dataclass
class Watch:
    """A clock whose pauses are written down, and take no time."""

    pauses: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> datetime:
        return datetime.now(UTC)

    def pause(self, seconds: float, *, unless: Event) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def service() -> Iterator[AlertService]:
    with AlertService() as running:
        yield running


@pytest.fixture
def clock() -> Watch:
    return Watch()


@pytest.fixture(params=["slack", "pagerduty", "webhook"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def channel(name: str, service: AlertService, clock: Watch) -> AlertChannel:
    return made(name, service, clock)


def made(name: str, service: AlertService, clock: Watch, **changed: str) -> AlertChannel:
    environ = service.environment | changed
    match name:
        case "slack":
            return SlackWebhook("ALERT_SLACK", clock, environ, timeout_s=0.3)
        case "pagerduty":
            ui = "https://dagster.example.com"
            return PagerDuty("ALERT_PAGERDUTY", service.url, ui, clock, environ, timeout_s=0.3)
        case _:
            return SignedWebhook("ALERT_WEBHOOK", clock, "ALERT_SECRET", environ, timeout_s=0.3)


def chain_of(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)


def test_a_message_is_taken_once(name: str, channel: AlertChannel, service: AlertService) -> None:
    said = channel.send(ALERT)

    assert said.startswith("answered 20")
    assert len(service.taken(name)) == len(service.came) == 1
    text = str(service.taken(name)[0])
    assert "notes: Runs fail at embeddings: EmbeddingError" in text or name == "webhook"
    assert "https://dagster.example.com/runs/r1" in text
    assert "https://git.example.com/docs/runbooks/run-failed.md" in text


@pytest.mark.parametrize("trouble", [Trouble.TOO_MANY, Trouble.BROKEN, Trouble.CLOSED])
def test_what_passes_is_tried_once_more(
    name: str, channel: AlertChannel, service: AlertService, clock: Watch, trouble: Trouble
) -> None:
    service.fail(name, trouble)

    channel.send(ALERT)

    assert len(service.taken(name)) == 1
    assert len(clock.pauses) == 1


@pytest.mark.parametrize("trouble", [*set(Trouble) - {Trouble.LOST}])
def test_what_stays_is_told_in_words_without_the_address(
    name: str, channel: AlertChannel, service: AlertService, clock: Watch, trouble: Trouble
) -> None:
    service.take_down(name, trouble)

    with pytest.raises(AlertError) as caught:
        channel.send(ALERT)

    assert channel.name in str(caught.value)
    assert "127.0.0.1" not in chain_of(caught.value)
    assert [secret for secret in SECRETS if secret in chain_of(caught.value)] == []
    assert len(service.came) <= 2
    assert all(pause <= LONGEST_PAUSE_S for pause in clock.pauses)
    if trouble in (Trouble.GONE, Trouble.REDIRECT, Trouble.WAIT_LONG):
        assert len(service.came) == 1, "asking again at once is of no use"


def test_a_service_that_is_not_there_is_told_without_the_address(name: str, clock: Watch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with AlertService() as gone:
        channel = made(
            name,
            gone,
            clock,
            ALERT_SLACK=f"http://127.0.0.1:{port}/services/{SLACK_TOKEN}",
            ALERT_WEBHOOK=f"http://127.0.0.1:{port}/hook?token=webhook-url-canary",
        )
        if isinstance(channel, PagerDuty):
            channel = replace(channel, url=f"http://127.0.0.1:{port}")

    with pytest.raises(AlertError, match="cannot be reached") as caught:
        channel.send(ALERT)

    assert [secret for secret in SECRETS if secret in chain_of(caught.value)] == []


def test_no_log_of_any_level_holds_an_address_or_a_key(
    channel: AlertChannel, service: AlertService, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        channel.send(ALERT)
        logging.getLogger("httpx").info("what others ask for")

    assert [secret for secret in SECRETS if secret in caplog.text] == []
    assert "what others ask for" in caplog.text, "others log as before"


def test_what_is_missing_or_wrong_is_told_by_the_name_of_its_variable(
    name: str, service: AlertService, clock: Watch
) -> None:
    variable = {"slack": "ALERT_SLACK", "pagerduty": "ALERT_PAGERDUTY"}.get(name, "ALERT_WEBHOOK")
    with pytest.raises(ConfigurationError, match=f"{variable} is not set"):
        made(name, service, clock, **{variable: ""}).send(ALERT)
    if name == "pagerduty":
        return
    for wrong in (SLACK_TOKEN, f"ftp://{SLACK_TOKEN}", f"https://[{SLACK_TOKEN}", "https://"):
        with pytest.raises(ConfigurationError, match=variable) as caught:
            made(name, service, clock, **{variable: wrong}).send(ALERT)
        assert SLACK_TOKEN not in chain_of(caught.value)


def test_slack_shows_letters_and_never_takes_them_for_its_own_signs(
    service: AlertService, clock: Watch
) -> None:
    made("slack", service, clock).send(replace(ALERT, detail="<!channel> & <https://evil|x>"))

    [message] = service.taken("slack")
    assert "&lt;!channel&gt; &amp; &lt;https://evil|x&gt;" in str(message["blocks"])
    assert "<!channel>" not in str(message)


def test_a_message_that_is_very_long_still_fits(name: str, channel: AlertChannel) -> None:
    channel.send(replace(ALERT, title="x" * 5000, detail="y" * 600))


def test_pagerduty_opens_and_closes_one_incident_for_a_cause(
    service: AlertService, clock: Watch
) -> None:
    channel = made("pagerduty", service, clock)

    channel.send(ALERT)
    channel.send(replace(ALERT, phase=AlertPhase.REMINDED))
    channel.send(replace(ALERT, phase=AlertPhase.RECOVERED, urgency=Urgency.INFO))

    events = service.taken("pagerduty")
    assert [each["event_action"] for each in events] == ["trigger", "trigger", "resolve"]
    keys = {each["dedup_key"] for each in events}
    assert keys == {"rag_assets/notes/run_failed:embeddings:EmbeddingError"}
    assert events[0]["payload"]["severity"] == "error"
    assert events[0]["payload"]["custom_details"]["since"] == ALERT.since.isoformat()


def test_pagerduty_gets_no_link_that_is_none(service: AlertService, clock: Watch) -> None:
    made("pagerduty", service, clock).send(replace(ALERT, runbook="docs/runbooks/run-failed.md"))

    [event] = service.taken("pagerduty")
    assert [each["text"] for each in event["links"]] == ["The run"]
    assert event["payload"]["custom_details"]["runbook"] == "docs/runbooks/run-failed.md"


def test_a_test_of_pagerduty_leaves_no_incident_open(service: AlertService, clock: Watch) -> None:
    made("pagerduty", service, clock).send(replace(ALERT, phase=AlertPhase.TRIAL))

    assert [each["event_action"] for each in service.taken("pagerduty")] == ["trigger", "resolve"]


def test_a_message_whose_answer_was_lost_is_sent_again_under_the_same_id(
    service: AlertService, clock: Watch
) -> None:
    service.fail("webhook", Trouble.LOST)

    made("webhook", service, clock).send(ALERT)

    assert [each["id"] for each in service.taken("webhook")] == ["abc", "abc"]


def test_a_webhook_without_a_secret_gets_no_signature(service: AlertService, clock: Watch) -> None:
    plain = SignedWebhook("ALERT_WEBHOOK", clock, environ=service.environment)

    with pytest.raises(AlertError, match=r"answered 401 \(wrong signature\)"):
        plain.send(ALERT)

    [came] = service.came
    assert not [header for header in came.headers if header.lower().startswith("x-rag-assets")]


def test_the_signature_is_verified_by_the_lines_of_the_page(
    service: AlertService, clock: Watch
) -> None:
    raw: list[bytes] = []
    service.seen = raw.append
    made("webhook", service, clock).send(ALERT)
    [came], [body] = service.came, raw
    scope: dict[str, Any] = {}
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(code, scope)
    is_ours = scope["is_ours"]

    assert is_ours(body, came.headers, WEBHOOK_SECRET)
    assert not is_ours(body + b" ", came.headers, WEBHOOK_SECRET)
    assert not is_ours(body, came.headers, "another")
    later = str(int(came.headers["X-Rag-Assets-Timestamp"]) + 1)
    assert not is_ours(body, {**came.headers, "X-Rag-Assets-Timestamp": later}, WEBHOOK_SECRET)

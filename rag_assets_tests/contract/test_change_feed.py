"""What a queue of a bucket's events promises, against a queue that speaks SQS."""

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from rag_assets.adapters.aws import KEPT_S, KeptClients
from rag_assets.adapters.sqs import NotAnEventError, SqsChanges, client_of, told_in
from rag_assets.errors import SourceDownError
from rag_assets.model import ChangeEvent, S3Settings
from rag_assets.testing import StoppedClock
from rag_assets_tests.services.object_store import (
    ENVIRONMENT,
    ObjectStore,
    event,
    through_event_bridge,
    through_sns,
)


@dataclass
class Queue:
    store: ObjectStore
    url: str

    def feed(self, **settings: Any) -> SqsChanges:
        told = self.store.settings("documents", queue_url=self.url, **settings)
        return SqsChanges(told, client_of(told))

    def send(self, *bodies: Any) -> None:
        for body in bodies:
            self.store.send(self.url, body)

    @property
    def waiting(self) -> int:
        return self.store.waiting(self.url)


@pytest.fixture
def queue(object_store: ObjectStore) -> Queue:
    object_store.make_bucket("documents")
    return Queue(object_store, object_store.make_queue("changes"))


def ids(events: Sequence[ChangeEvent]) -> list[str]:
    return sorted(each.doc_id for each in events if each.doc_id is not None)


def test_looks_use_one_client_until_its_time_is_over(queue: Queue) -> None:
    clock = StoppedClock()
    clients = KeptClients(clock.monotonic)
    told = queue.store.settings("documents", queue_url=queue.url)
    first = client_of(told, clients=clients)
    clock.seconds += KEPT_S - 1
    assert client_of(told, clients=clients) is first
    clock.seconds += 1
    second = client_of(told, clients=clients)
    assert second is not first
    assert client_of(told, clients=clients) is second


def test_another_queue_or_other_credentials_have_another_client(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = KeptClients()
    told = queue.store.settings("documents", queue_url=queue.url)
    first = client_of(told, clients=clients)
    other = queue.store.settings("documents", queue_url=queue.store.make_queue("other"))
    assert client_of(other, clients=clients) is not first
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIALOOPBACK11111111")
    assert client_of(told, clients=clients) is not first


def test_threads_share_the_client_that_one_of_them_makes(queue: Queue) -> None:
    clients = KeptClients()
    told = queue.store.settings("documents", queue_url=queue.url)
    with ThreadPoolExecutor(8) as pool:
        made = [pool.submit(client_of, told, clients=clients) for _ in range(8)]
    assert len({id(each.result()) for each in made}) == 1


def test_after_a_queue_was_away_the_client_is_made_anew(queue: Queue) -> None:
    told = queue.store.settings("documents", queue_url=queue.url)
    first = client_of(told)
    queue.store.fail(403)
    with pytest.raises(SourceDownError):
        SqsChanges(told, first).receive()
    assert client_of(told) is not first
    assert client_of(told) is client_of(told)


def test_what_happens_in_a_bucket_is_told(queue: Queue) -> None:
    queue.store.notify("documents", queue.url)
    for key in ("wiki/a.md", "wiki/ü b+c%20.md", "other/d.md", "wiki/e.bin"):
        queue.store.put("documents", key)
    queue.store.delete("documents", "wiki/a.md")
    feed = queue.feed(prefix="wiki/")
    events = feed.receive()
    assert ids(events) == ["a.md", "a.md", "ü b+c%20.md"]
    feed.done(events)
    assert queue.waiting == 0


def test_what_is_not_done_comes_again(object_store: ObjectStore) -> None:
    queue = Queue(object_store, object_store.make_queue("changes"))
    object_store.sqs.set_queue_attributes(QueueUrl=queue.url, Attributes={"VisibilityTimeout": "1"})
    queue.send(event("documents", "a.md"))
    feed = queue.feed()
    assert ids(feed.receive()) == ["a.md"]
    deadline = time.monotonic() + 10
    while not (again := feed.receive()):
        assert time.monotonic() < deadline
    assert ids(again) == ["a.md"]
    feed.done(again)
    assert queue.waiting == 0


FORMS = {
    "S3": event("documents", "a b.md"),
    "SNS": through_sns(event("documents", "a b.md")),
    "EventBridge": through_event_bridge("documents", "a b.md"),
    "EventBridge through SNS": through_sns(through_event_bridge("documents", "a b.md")),
    "a deletion": event("documents", "a b.md", "ObjectRemoved:Delete"),
    "a delete marker": event("documents", "a b.md", "ObjectRemoved:DeleteMarkerCreated"),
    "an expiry": event("documents", "a b.md", "LifecycleExpiration:DeleteMarkerCreated"),
    "a deletion in EventBridge": through_event_bridge("documents", "a b.md", "Object Deleted"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_an_event_names_its_document(queue: Queue, form: str) -> None:
    queue.send(FORMS[form])
    assert ids(queue.feed().receive()) == ["a b.md"]


def test_only_where_a_key_is_encoded_is_it_decoded(queue: Queue) -> None:
    queue.send(event("documents", "a+b%20.md"), through_event_bridge("documents", "c+d%20.md"))
    assert ids(queue.feed().receive()) == ["a+b%20.md", "c+d%20.md"]


def test_a_message_of_several_objects_is_forgotten_as_one(queue: Queue) -> None:
    records = [event("documents", key)["Records"][0] for key in ("a.md", "b.md", "a.md")]
    queue.send({"Records": records})
    feed = queue.feed()
    events = feed.receive()
    assert ids(events) == ["a.md", "b.md"]
    feed.done(events)
    assert queue.waiting == 0


def test_what_is_of_no_document_is_forgotten_with_the_rest(queue: Queue) -> None:
    queue.send(
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "documents"},
        event("another", "a.md"),
        event("documents", "elsewhere/a.md"),
        event("documents", "wiki/a.bin"),
        event("documents", "wiki/"),
        through_sns({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "documents"}),
        {"Records": []},
    )
    feed = queue.feed(prefix="wiki/")
    events = feed.receive()
    assert [each.doc_id for each in events] == [None] * 7
    feed.done(events)
    assert queue.waiting == 0


RUBBISH = [
    "no JSON",
    "[]",
    "null",
    '"text"',
    "{}",
    "[" * 100_000,
    '{"Records": [{}]}',
    '{"Records": [{"s3": {"bucket": {"name": "documents"}, "object": {"key": 5}}}]}',
    '{"Records": [{"s3": {"bucket": {"name": "documents"}, "object": {"key": "\\ud800"}}}]}',
    '{"Type": "Notification", "Message": "hello"}',
    '{"Type": "Notification", "Message": "{\\"Type\\": \\"Notification\\"}"}',
    '{"source": "aws.s3"}',
]


@pytest.mark.parametrize("body", RUBBISH, ids=range(len(RUBBISH)))
def test_what_is_no_event_is_known_for_it(body: str) -> None:
    with pytest.raises(NotAnEventError):
        told_in(body)


def test_rubbish_is_named_in_the_log_and_keeps_nobody_waiting(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue.send("secret rubbish", event("documents", "a.md"), "[]")
    feed = queue.feed()
    with caplog.at_level(logging.WARNING):
        events = feed.receive()
    assert ids(events) == ["a.md"]
    assert caplog.text.count("is no event of S3") == 2
    assert "secret" not in caplog.text
    feed.done(events)
    assert queue.waiting == 0


def test_rubbish_is_left_to_a_redrive_policy(object_store: ObjectStore) -> None:
    queue = Queue(object_store, object_store.make_queue("changes", redrive_to="put-aside"))
    queue.send("rubbish", event("documents", "a.md"))
    feed = queue.feed()
    feed.done(feed.receive())
    assert queue.waiting == 1


def test_a_full_queue_is_taken_in_large_portions_and_an_empty_one_is_not_waited_for(
    queue: Queue,
) -> None:
    queue.send(*(event("documents", f"{number}.md") for number in range(45)))
    feed = queue.feed()
    events = feed.receive()
    assert len(set(ids(events))) == 45
    feed.done(events)
    assert queue.waiting == 0
    began = time.monotonic()
    assert feed.receive() == []
    assert time.monotonic() - began < 5


def test_a_queue_that_is_not_there_is_told(queue: Queue) -> None:
    nowhere = Queue(queue.store, queue.url.replace("changes", "never"))
    with pytest.raises(SourceDownError, match=r"never: it does not exist.*source\.s3\.queue_url"):
        nowhere.feed().receive()


def test_a_queue_that_may_not_be_read_is_told_without_a_secret(queue: Queue) -> None:
    secret = ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
    body = {"__type": "com.amazonaws.sqs#AccessDeniedException", "message": secret}
    queue.store.fail(403, body=json.dumps(body).encode(), only="POST /")
    with pytest.raises(SourceDownError, match="sqs:ReceiveMessage") as raised:
        queue.feed().receive()
    assert secret not in str(raised.value)


def test_a_queue_that_is_away_is_told_and_what_it_holds_stays(queue: Queue) -> None:
    queue.send(event("documents", "a.md"))
    feed = queue.feed()
    queue.store.stop()
    with pytest.raises(SourceDownError, match="no connection"):
        feed.receive()
    queue.store.start()
    assert ids(feed.receive()) == ["a.md"]


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/changes", "eu-west-1"),
        ("https://ap-southeast-2.queue.amazonaws.com/123456789012/changes", "ap-southeast-2"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/changes", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/changes", "cn-north-1"),
        ("https://queues.example/123456789012/changes", "eu-central-1"),
    ],
)
def test_the_address_of_a_queue_names_its_server_and_region(
    object_store: ObjectStore, url: str, region: str
) -> None:
    client: Any = client_of(S3Settings("documents", region="eu-central-1", queue_url=url))
    assert client.meta.region_name == region
    assert url.startswith(client.meta.endpoint_url + "/")

"""A queue of a bucket's events: as S3 itself sends them, or through SNS, or through EventBridge."""

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote_plus, urlsplit

from rag_assets.adapters.aws import CLIENTS, Asked, KeptClients, client_config, failures_of
from rag_assets.adapters.document_names import documents_among_keys
from rag_assets.model import ChangeEvent, S3Settings

_WAIT_S = 1
"""For the first message; with no wait at all SQS asks only some of its servers."""
_BATCH = 10
"""SQS gives, and forgets, no more at once."""
_BATCHES = 100
_LONGEST_S = 10
"""What has not come by then waits for the next look: half a minute later it would come again."""
_REGION = re.compile(r"\b[a-z]{2}(?:-[a-z]+)+-[0-9]+\b")

_log = logging.getLogger(__name__)


class SqsClient(Protocol):
    """What is asked of boto3's client."""

    def receive_message(self, **asked: Any) -> Mapping[str, Any]: ...

    def delete_message_batch(self, **asked: Any) -> Mapping[str, Any]: ...

    def get_queue_attributes(self, **asked: Any) -> Mapping[str, Any]: ...


class Told(NamedTuple):
    """The object that an event is about."""

    bucket: str
    key: str


class NotAnEventError(ValueError):
    """A message that no form of S3 event has."""


@dataclass(frozen=True, slots=True)
class SqsChanges:
    """What a queue tells of the corpus's documents, with what else is in it, to be forgotten too.

    A message that cannot be read keeps nobody waiting: where the queue has a redrive policy it is
    left to that, else it is forgotten. Either way the log names it; a listing finds what it told.
    """

    settings: S3Settings
    client: SqsClient

    def receive(self) -> Sequence[ChangeEvent]:
        doc_id_of = documents_among_keys(self.settings)
        events: list[ChangeEvent] = []
        strange: list[Mapping[str, Any]] = []
        for message in self._messages():
            try:
                told = told_in(message["Body"])
            except NotAnEventError:
                strange.append(message)
                continue
            keys = [each.key for each in told if each.bucket == self.settings.bucket]
            doc_ids = {doc_id for key in keys if (doc_id := doc_id_of(key)) is not None}
            receipt = message["ReceiptHandle"]
            events += [ChangeEvent(receipt, each) for each in sorted(doc_ids)]
            if not doc_ids:
                events.append(ChangeEvent(receipt, None))
        return [*events, *self._given_up(strange)]

    def done(self, events: Sequence[ChangeEvent]) -> None:
        """One that the queue does not forget comes again, which does no harm."""
        receipts = list(dict.fromkeys(each.receipt for each in events))
        for start in range(0, len(receipts), _BATCH):
            some = receipts[start : start + _BATCH]
            entries = [{"Id": str(at), "ReceiptHandle": each} for at, each in enumerate(some)]
            with self._failures():
                self.client.delete_message_batch(QueueUrl=self.settings.queue_url, Entries=entries)

    def _messages(self) -> Iterator[Mapping[str, Any]]:
        ends = time.monotonic() + _LONGEST_S
        for batch in range(_BATCHES):
            with self._failures():
                answer = self.client.receive_message(
                    QueueUrl=self.settings.queue_url,
                    MaxNumberOfMessages=_BATCH,
                    WaitTimeSeconds=0 if batch else _WAIT_S,
                )
            messages: Sequence[Mapping[str, Any]] = answer.get("Messages", ())
            yield from messages
            if not messages or time.monotonic() > ends:
                return

    def _given_up(self, strange: Sequence[Mapping[str, Any]]) -> list[ChangeEvent]:
        if not strange:
            return []
        redriven = self._redrives()
        for message in strange:
            _log.warning(
                "The message %s in the queue %s is no event of S3 (%s characters). %s",
                message.get("MessageId"),
                self.settings.queue_url,
                len(message["Body"]),
                "It is left to the queue's redrive policy." if redriven else "It is deleted.",
            )
        return [] if redriven else [ChangeEvent(each["ReceiptHandle"], None) for each in strange]

    def _redrives(self) -> bool:
        """Whether the queue itself puts aside what nobody deletes; no, where that is not told."""
        from botocore.exceptions import ClientError

        with self._failures():
            try:
                told = self.client.get_queue_attributes(
                    QueueUrl=self.settings.queue_url, AttributeNames=["RedrivePolicy"]
                )
            except ClientError:
                return False
        return bool(told.get("Attributes", {}).get("RedrivePolicy"))

    def _failures(self) -> AbstractContextManager[None]:
        return failures_of(_asked(self.settings))


def client_of(settings: S3Settings, *, clients: KeptClients = CLIENTS) -> SqsClient:
    """Of the server and the region that the queue's address names."""
    made_from = ("sqs", settings.queue_url, settings.region, settings.profile)
    client: SqsClient = clients.client(made_from, lambda: _client(settings))
    return client


def _client(settings: S3Settings) -> SqsClient:
    import boto3

    place = urlsplit(settings.queue_url or "")
    region = _REGION.search(place.netloc)
    with failures_of(_asked(settings)):
        client: SqsClient = boto3.session.Session(profile_name=settings.profile).client(
            "sqs",
            endpoint_url=f"{place.scheme}://{place.netloc}",
            region_name=region[0] if region else settings.region,
            config=client_config(),
        )
    return client


def told_in(body: str) -> list[Told]:
    """The objects that a message tells of; none where S3 only tries whether it can send.

    >>> told_in('{"Event": "s3:TestEvent", "Bucket": "b"}')
    []
    """
    try:
        return list(_told(json.loads(body)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NotAnEventError from error


def _told(message: Any, *, wrapped: bool = False) -> Iterator[Told]:
    """In any of the three forms; SNS wraps the other two, with all they have, into a text."""
    if message.get("Type") == "Notification" and not wrapped:
        yield from _told(json.loads(message["Message"]), wrapped=True)
    elif message.get("Event") == "s3:TestEvent":
        return
    elif message.get("source") == "aws.s3":
        detail = message["detail"]
        yield _checked(detail["bucket"]["name"], detail["object"]["key"])
    else:
        for record in message["Records"]:
            about = record["s3"]
            yield _checked(about["bucket"]["name"], unquote_plus(about["object"]["key"]))


def _checked(bucket: str, key: str) -> Told:
    key.encode()  # what is no text is no key
    return Told(bucket, key)


def _asked(settings: S3Settings) -> Asked:
    return Asked(
        f"The queue {settings.queue_url}",
        setting="source.s3.queue_url",
        address="source.s3.queue_url",
        needs="sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes for the queue",
    )

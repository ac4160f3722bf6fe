"""A bucket of an object store as a source of documents."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from rag_assets.adapters.aws import (
    ATTEMPTS,
    CLIENTS,
    Asked,
    KeptClients,
    code_of,
    failures_of,
    patient_sessions,
)
from rag_assets.adapters.document_names import (
    LARGEST_BYTES,
    LONGEST_ID,
    documents_among_keys,
    may_be_shortened,
    name_of,
)
from rag_assets.errors import SourceError
from rag_assets.model import S3Settings, SourceObject

_PIECE_BYTES = 2**20
_LONGEST_READ_S = 120
"""In which a content must have come: half a megabyte a second, for the largest."""

Answer = Mapping[str, Any]


class S3Client(Protocol):
    """What is asked of boto3's client; its waits and retries are set where it is made."""

    def list_objects_v2(self, **asked: Any) -> Answer: ...

    def head_object(self, **asked: Any) -> Answer: ...

    def get_object(self, **asked: Any) -> Answer: ...


@dataclass(frozen=True, slots=True)
class S3Objects:
    """Lists and reads what lies below a prefix of a bucket; of versions, only the current ones."""

    settings: S3Settings
    client: S3Client

    def objects(self) -> Iterator[SourceObject]:
        doc_id_of = documents_among_keys(self.settings)
        for page in self._pages():
            for entry in page.get("Contents", ()):
                if not {"Key", "ETag", "Size", "LastModified"} <= entry.keys():
                    raise self._not_a_listing()
                doc_id = doc_id_of(entry["Key"])
                if doc_id is not None and not _is_folder(entry["Key"], entry["Size"]):
                    yield self._object(doc_id, entry["Key"], entry, size=entry["Size"])

    def look(self, doc_id: str) -> SourceObject | None:
        """Sees what a listing would, also where the object's own answer is denied."""
        key = self._key_of(doc_id)
        if key is None or documents_among_keys(self.settings)(key) != doc_id:
            return None
        if (head := self._head(key)) is not None:
            found, size = head, head["ContentLength"]
        elif (entry := self._listed_alone(key)) is not None:
            found, size = entry, entry["Size"]
        else:
            return None
        return None if _is_folder(key, size) else self._object(doc_id, key, found, size=size)

    def read(self, doc_id: str) -> bytes | None:
        key = self._key_of(doc_id)
        if key is None:
            return None
        ends = time.monotonic() + _LONGEST_READ_S
        for attempt in range(1, ATTEMPTS + 1):
            answer = self._got(doc_id, key)
            if answer is None:
                return None
            content = self._content(doc_id, answer, ends=ends, last=attempt == ATTEMPTS)
            if content is not None:
                return content
        raise AssertionError  # the last attempt raises

    # --- listing ---------------------------------------------------------------------------------

    def _pages(self) -> Iterator[Answer]:
        """Every page, by our own hand: boto3's paginator takes a lost mark for the end."""
        after: dict[str, str] = {}
        while True:
            page = self._page(Prefix=self.settings.prefix, **after)
            yield page
            if not page["IsTruncated"]:
                return
            mark = page.get("NextContinuationToken")
            if not mark or mark == after.get("ContinuationToken"):
                raise self._not_a_listing()
            after = {"ContinuationToken": mark}

    def _page(self, **asked: Any) -> Answer:
        with self._failures(after=" Nothing was deleted."):
            page = self.client.list_objects_v2(Bucket=self.settings.bucket, **asked)
        if "IsTruncated" not in page:
            raise self._not_a_listing()
        return page

    def _not_a_listing(self) -> SourceError:
        return SourceError(
            f"{self._name}: what was answered is not a whole listing. Nothing was deleted. See"
            " whether a proxy answers instead, and whether the store speaks S3's ListObjectsV2."
        )

    def _listed_alone(self, key: str) -> Answer | None:
        """A key comes before all that it begins."""
        entries = self._page(Prefix=key, MaxKeys=1).get("Contents", ())
        found: Answer | None = next(iter(entries), None)
        return found if found is not None and found["Key"] == key else None

    # --- one object ------------------------------------------------------------------------------

    def _head(self, key: str) -> Answer | None:
        """None where it is refused, for whatever reason: its answer has no body to say which."""
        from botocore.exceptions import ClientError

        with self._failures():
            try:
                return self.client.head_object(Bucket=self.settings.bucket, Key=key)
            except ClientError:
                return None

    def _got(self, doc_id: str, key: str) -> Answer | None:
        from botocore.exceptions import ClientError

        with self._failures(doc_id):
            try:
                return self.client.get_object(Bucket=self.settings.bucket, Key=key)
            except ClientError as error:
                if code_of(error) != "NoSuchKey":
                    raise
        if may_be_shortened(doc_id):
            raise SourceError(
                f"The key of {doc_id} is longer than {LONGEST_ID} bytes. Give the object a shorter"
                " one, or exclude it in the corpus's `source`."
            )
        return None

    def _content(self, doc_id: str, answer: Answer, *, ends: float, last: bool) -> bytes | None:
        """None where its connection broke off, and it is worth another attempt."""
        from botocore.exceptions import BotoCoreError

        with closing(answer["Body"]) as body:
            try:
                return b"".join(self._pieces(doc_id, answer, body.read, ends=ends))
            except BotoCoreError as error:
                if not last:
                    return None
                why = f"it broke off {ATTEMPTS} times: {type(error).__name__}"
        raise self._unreadable(doc_id, why)

    def _pieces(
        self, doc_id: str, answer: Answer, read: Callable[[int], bytes], *, ends: float
    ) -> Iterator[bytes]:
        told, come = answer.get("ContentLength", 0), 0
        while max(told, come) <= LARGEST_BYTES:
            if time.monotonic() > ends:
                raise self._unreadable(doc_id, f"it did not come within {_LONGEST_READ_S} seconds")
            if not (piece := read(_PIECE_BYTES)):
                return
            come += len(piece)
            yield piece
        raise self._unreadable(doc_id, f"it has more than {LARGEST_BYTES >> 20} MB")

    def _unreadable(self, doc_id: str, why: str) -> SourceError:
        return SourceError(
            f"{self._name}: {doc_id} cannot be read ({why}). Mend it, or exclude it in the corpus's"
            " `source`. It is tried again by itself a few times."
        )

    # --- names -----------------------------------------------------------------------------------

    def _object(self, doc_id: str, key: str, found: Answer, *, size: int) -> SourceObject:
        return SourceObject(
            doc_id=doc_id,
            uri=f"s3://{self.settings.bucket}/{quote(key)}",
            source_hash=_source_hash(found["ETag"], size),
            modified_at=found["LastModified"].replace(microsecond=0),  # as a look tells it
        )

    def _key_of(self, doc_id: str) -> str | None:
        try:
            return self.settings.prefix + name_of(doc_id).decode()
        except UnicodeDecodeError:
            return None  # keys are UTF-8

    @property
    def _name(self) -> str:
        return _named(self.settings)

    def _failures(
        self, document: str | None = None, *, after: str = ""
    ) -> AbstractContextManager[None]:
        return failures_of(_asked(self.settings, document=document, after=after))


def client_of(
    settings: S3Settings, make: Callable[[], S3Client], *, clients: KeptClients = CLIENTS
) -> S3Client:
    """The one that was made lately for the same store, or another that somebody else makes."""
    made_from = ("s3", settings.endpoint_url, settings.region, settings.profile)
    client: S3Client = clients.client(made_from, lambda: _made(settings, make))
    return client


def _made(settings: S3Settings, make: Callable[[], S3Client]) -> S3Client:
    with making_client(settings):
        return make()


@contextmanager
def making_client(settings: S3Settings) -> Iterator[None]:
    """Whoever makes a client meanwhile gets one that gives up soon, and errors that we can tell."""
    with patient_sessions(), failures_of(_asked(settings)):
        yield


def _asked(settings: S3Settings, *, document: str | None = None, after: str = "") -> Asked:
    return Asked(
        _named(settings),
        setting="source.s3.bucket",
        address="source.s3.endpoint_url",
        needs="s3:ListBucket for the bucket and s3:GetObject for its objects (kms:Decrypt for a"
        " key of your own)",
        document=document,
        after=after,
    )


def _named(settings: S3Settings) -> str:
    at = f" at {settings.endpoint_url}" if settings.endpoint_url else ""
    return f"The bucket {settings.bucket}{at}"


def _source_hash(etag: str, size: int) -> bytes:
    """The same for the same bytes, however often they are put; an ETag alone is not a promise."""
    return hashlib.blake2b(f"{etag.strip(chr(34))} {size}".encode(), digest_size=16).digest()


def _is_folder(key: str, size: int) -> bool:
    """What consoles make so that a folder shows before anything is in it."""
    return key.endswith("/") and size == 0

"""Documents, what can go wrong with them, and who said that they changed."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


def bucket_of(doc_id: str, buckets: int) -> int:
    """The partition of a document: stable for ever, even over any number of buckets.

    >>> bucket_of("how-to/roll-back.md", 16), bucket_of("how-to/roll-back.md", 7)
    (9, 1)
    """
    digest = hashlib.blake2b(doc_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % buckets


def bucket_key(bucket: int, buckets: int) -> str:
    """The Dagster partition key of a bucket, padded so that keys sort.

    >>> bucket_key(3, 16), bucket_key(3, 200)
    ('03', '003')
    """
    return str(bucket).zfill(max(2, len(str(buckets - 1))))


@dataclass(frozen=True, slots=True)
class SourceObject:
    """One thing a source lists. `source_hash` changes whenever its content may have changed."""

    doc_id: str
    uri: str
    source_hash: bytes
    rev: int | None = None
    modified_at: datetime | None = None
    """When its source says it changed last."""


class DocumentState(StrEnum):
    LIVE = "live"
    DELETED = "deleted"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class ObservedDocument:
    """What was last seen of one document at its source."""

    doc_id: str
    uri: str
    source_hash: bytes
    content_hash: bytes
    parser: str
    title: str
    acl: tuple[str, ...]
    state: DocumentState
    rev: int | None = None


class Mark(NamedTuple):
    """Of a recorded document what a listing is compared with; one a document of the corpus."""

    doc_id: str
    source_hash: bytes
    uri: str
    rev: int | None
    state: str
    own_parser: bool
    """Whether the corpus's parser of today read it."""
    own_acl: bool
    """Whether those may see it whom the corpus names today."""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    title: str
    start: int


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text of one content, the offsets of its headings, and what the parser had to mend."""

    title: str
    text: str
    headings: tuple[Heading, ...] = ()
    warnings: tuple[str, ...] = ()
    pages: tuple[int, ...] = ()
    """The first character of each page, where the format has pages."""


@dataclass(frozen=True, slots=True)
class StoredText:
    """A parsed document under the key that every later stage uses."""

    content_hash: bytes
    parser: str
    parsed: ParsedDocument


class Stage(StrEnum):
    """Where a document can fail for good."""

    READ = "read"
    PARSE = "parse"
    CHUNK = "chunk"
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document that could not be processed: at which stage, by what, and why.

    It speaks of one content: when the document changes at its source, it says nothing any more.
    """

    doc_id: str
    stage: Stage
    error: str
    reason: str
    """For people. Never a word of the document, nor a secret."""
    code_version: str
    subject: str = ""
    """Identity of the parser, chunker or embedder that failed; the others may not."""
    attempts: int = 1
    content_hash: bytes | None = None
    source_hash: bytes | None = None
    first_seen_at: datetime | None = None
    last_seen_at: datetime | None = None
    retry_at: datetime | None = None
    """When it is tried again by itself; None: not before the document or the code changes."""
    dropped: bool = False
    """Somebody wants to hear no more of it: it keeps its document out, and is not shown."""


class WhyWithheld(StrEnum):
    """Why deletions were not believed."""

    TOO_MANY = "too many"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class WithheldDeletion:
    """A document that its source lists no longer, kept because that is not believed."""

    doc_id: str
    reason: WhyWithheld
    since: datetime


@dataclass(frozen=True, slots=True)
class Hint:
    """Somebody said that this document may have changed."""

    doc_id: str
    seq: int
    rev: int | None = None


@dataclass(frozen=True, slots=True)
class ParseJob:
    """Bytes to be read by one parser."""

    doc_id: str
    content: bytes
    parser: str
    """The parser's identity, such as `auto@2`."""

"""What a run sees of its source: a whole listing, or looks at the documents that were hinted at."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rag_assets.indexing.noticing import digest_of, digest_of_nothing
from rag_assets.model import Corpus, SourceObject, bucket_of
from rag_assets.ports import Source


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the source: all of it, or the documents that were hinted at."""

    here: Mapping[int, Mapping[str, SourceObject]]
    """By bucket, of those that are held."""
    elsewhere: Mapping[str, bytes] = field(default_factory=dict)
    """In all other buckets: id to source hash."""
    asked: Mapping[int, Collection[str]] | None = None
    """By bucket, the documents that were looked at; None: the source was listed."""
    digests: Mapping[int, int] = field(default_factory=dict)
    """Of the listing, by bucket."""

    @property
    def lists_nothing(self) -> bool:
        return self.asked is None and not self.elsewhere and not any(self.here.values())

    def asked_in(self, bucket: int) -> Collection[str] | None:
        return None if self.asked is None else self.asked.get(bucket, ())


def listed(source: Source, corpus: Corpus, *, buckets: Collection[int]) -> Seen:
    """One listing, however many buckets it is for."""
    here: dict[int, dict[str, SourceObject]] = {bucket: {} for bucket in buckets}
    elsewhere: dict[str, bytes] = {}
    digests = dict.fromkeys(buckets, digest_of_nothing(corpus))
    for found in source.objects():
        bucket = bucket_of(found.doc_id, corpus.buckets)
        mine = here.get(bucket)
        if mine is None:
            elsewhere[found.doc_id] = found.source_hash
        else:
            mine[found.doc_id] = found
            digests[bucket] ^= digest_of(found)
    return Seen(here, elsewhere, digests=digests)


def looked_at(source: Source, doc_ids: Collection[str], *, of_buckets: int) -> Seen:
    """As many looks as there are documents, however large the source is."""
    here: dict[int, dict[str, SourceObject]] = {}
    asked: dict[int, list[str]] = {}
    for doc_id in sorted(doc_ids):
        bucket = bucket_of(doc_id, of_buckets)
        asked.setdefault(bucket, []).append(doc_id)
        if (found := source.look(doc_id)) is not None:
            here.setdefault(bucket, {})[doc_id] = found
    return Seen(here, asked=asked)

"""What the source holds now, document by document."""

from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.assets.shape import Column, buckets_in, corpus_asset, report
from rag_assets.indexing.observing import BucketObserved, observe
from rag_assets.model import Corpus
from rag_assets.resources import Platform, run_of

COLUMNS = (
    Column("doc_id", "text", "The document's name in its source, stable while it stays there"),
    Column("bucket", "smallint", "The partition: a hash of doc_id"),
    Column("source_hash", "bytea", "What the source says of the content, without reading it"),
    Column("content_hash", "bytea", "Hash of the bytes: the key of everything derived"),
    Column("parser", "text", "What read the bytes last"),
    Column("uri", "text", "Where the document can be opened"),
    Column("title", "text", "From front matter, the first heading, or the first line"),
    Column("acl", "text[]", "The principals that may see the document"),
    Column("state", "text", "live, deleted (a tombstone), or dead (no text could be read)"),
    Column("run_id", "text", "The run that recorded this"),
    Column("observed_at", "timestamptz", "When it was recorded"),
)


def build(corpus: Corpus) -> dg.AssetsDefinition:
    @corpus_asset(
        corpus,
        after=(),
        kinds={"file", "postgres"},
        code_version=wiring.recipe_of(corpus).parser,
        columns=COLUMNS,
    )
    def raw_documents(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any]:
        """Every document of the source as it was last seen, with its content's hash.

        Only files that changed are read again. A document that cannot be read becomes a dead
        letter and stops no other.
        """
        stores = platform.stores()
        found = observe(
            corpus,
            buckets_in(context),
            source=wiring.source_of(corpus),
            parsers=wiring.parsers_of(corpus, stores.generations.living(corpus.name)),
            store=stores.documents,
            run=run_of(context.run.run_id),
        )
        counts = stores.documents.counts(corpus.name)
        report(
            context,
            corpus,
            {
                bucket: {"dagster/row_count": counts.get(bucket, {}).get("live", 0), **_seen(seen)}
                for bucket, seen in found.items()
            },
        )
        return dg.MaterializeResult(metadata=_totals(found.values()))

    return raw_documents


def _seen(seen: BucketObserved) -> dict[str, int]:
    return {
        "added": seen.added,
        "changed": seen.changed,
        "deleted": seen.deleted,
        "dead": seen.dead,
        "unchanged": seen.unchanged,
    }


def _totals(buckets: Any) -> dict[str, int]:
    totals: dict[str, int] = {}
    for seen in buckets:
        for name, number in _seen(seen).items():
            totals[f"run/{name}"] = totals.get(f"run/{name}", 0) + number
    return totals

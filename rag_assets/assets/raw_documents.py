"""What the source holds now, document by document."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from rag_assets import wiring
from rag_assets.assets.reporting import ROWS, diff_of_run, judged_in_run, report
from rag_assets.assets.shape import Column, buckets_in, corpus_asset
from rag_assets.indexing.observing import BucketObserved, observe
from rag_assets.indexing.quality import judgings_of_parsers
from rag_assets.model import Corpus, DeadLetter, S3Settings
from rag_assets.resources import HINTED_TAG, WAIT_TAG, Platform, run_of

NAMED = 50
"""How many documents with dead letters are named."""

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
        kinds={"s3" if isinstance(corpus.source, S3Settings) else "file", "postgres"},
        code_version=wiring.recipe_of(corpus).parser,
        columns=COLUMNS,
        table="documents",
        may_be_left=True,
    )
    def raw_documents(
        context: dg.AssetExecutionContext, platform: Platform
    ) -> dg.MaterializeResult[Any] | None:
        """Every document of the source as it was last seen, with its content's hash.

        Only files that changed are read again. A document that cannot be read becomes a dead
        letter and stops no other. Too many deletions at once are not believed until somebody
        approves them. Buckets that another run has are left to it: it looks once more. A text that
        breaks a rule of quality is kept out of the index, or only told of.
        """
        stores, buckets = platform.stores(), buckets_in(context)
        run = run_of(context.run.run_id)
        parsers = wiring.parsers_of(corpus, stores.generations.living(corpus.name))
        before = stores.provenance.versions(corpus.name, buckets)
        with wiring.parsing() as parsing:
            found = observe(
                corpus,
                buckets,
                source=platform.source(corpus),
                parsers=parsers,
                parsing=parsing,
                store=stores.documents,
                run=run,
                wait=WAIT_TAG in context.run.tags,
                hinted=HINTED_TAG in context.run.tags,
            )
        if not found:
            context.log.info("Another run has all of these buckets; it looks at the source again.")
            return None
        rules = judgings_of_parsers(parsers, corpus.quality)
        judged = stores.quality.judge(corpus.name, rules, list(found), run)
        if HINTED_TAG not in context.run.tags:  # also where no daemon watches the source
            stores.sources.listed(corpus.name, None)
        counts = stores.documents.counts(corpus.name, found)
        changes = stores.provenance.changes(corpus.name, context.run.run_id, before)
        rows = {each: _row(found.get(each), counts.get(each)) for each in buckets}
        report(context, corpus, rows, changes)
        return dg.MaterializeResult(
            metadata={
                **diff_of_run(changes),
                **_totals(found.values()),
                "run/held_by_another_run": len(buckets) - len(found),
                **judged_in_run(judged),
                **_waiting(corpus, stores.documents.dead_letters(corpus.name)),
            },
            # Says whether chunks are stale. In a range of buckets Dagster has one for all of them.
            data_version=dg.DataVersion(stores.documents.fingerprint(corpus.name, buckets)),
        )

    return raw_documents


def _row(seen: BucketObserved | None, counts: Mapping[str, int] | None) -> dict[str, int | bool]:
    if seen is None:
        return {"held_by_another_run": True}
    return {ROWS: (counts or {}).get("live", 0), **_seen(seen)}


def _seen(seen: BucketObserved) -> dict[str, int]:
    return {
        "added": seen.added,
        "changed": seen.changed,
        "described": seen.described,
        "deleted": seen.deleted,
        "withheld": seen.withheld,
        "blocked": seen.blocked,
        "dead": seen.dead,
        "retried": seen.retried,
        "unchanged": seen.unchanged,
    }


def _totals(buckets: Iterable[BucketObserved]) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for seen in buckets:
        totals.update({f"run/{name}": number for name, number in _seen(seen).items()})
    return dict(totals)


def _waiting(corpus: Corpus, letters: Sequence[DeadLetter]) -> dict[str, dg.MetadataValue[Any]]:
    """All dead letters of the corpus, and how to look at them; names and counts, never text."""
    if not letters:
        return {"dead_letters": dg.MetadataValue.int(0)}
    look = f"rag-assets dead-letters list {corpus.name}"
    kinds = Counter((str(letter.stage), letter.error) for letter in letters)
    names = sorted({letter.doc_id for letter in letters})
    return {
        "dead_letters": dg.MetadataValue.int(len(letters)),
        "dead_letters/documents": dg.MetadataValue.json(names[:NAMED]),
        "dead_letters/kinds": dg.MetadataValue.table(
            [
                dg.TableRecord({"stage": stage, "error": error, "documents": number})
                for (stage, error), number in kinds.most_common()
            ]
        ),
        "dead_letters/look": dg.MetadataValue.md(
            f"`{look}` lists them with their reasons, `rag-assets dead-letters show {corpus.name}"
            " DOC_ID` shows one, `retry` and `drop` open and forget them."
        ),
    }

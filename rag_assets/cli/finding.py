"""What commands look for first: a corpus, its stores, and what is to be read of it."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rag_assets import __version__
from rag_assets.errors import UnknownDocumentError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.forecasting import Forecaster
    from rag_assets.labelling import Labelling
    from rag_assets.model import Corpus, Forecast, RunIdentity
    from rag_assets.ports import Source
    from rag_assets.publishing import Publisher
    from rag_assets.wiring import Stores


def publisher_of(corpus: str | None) -> "Publisher":
    from rag_assets import installation, wiring
    from rag_assets.publishing import Publisher

    settings = Settings.from_environment()
    urls = wiring.database_urls(settings)
    return Publisher(installation.corpus_named(settings, corpus), urls, settings.home)


def labelling_of(corpus: str | None) -> "Labelling":
    from rag_assets.labelling import Labelling

    return Labelling(publisher_of(corpus))


def forecaster_of(corpus: str | None) -> tuple["Corpus", "Forecaster"]:
    from rag_assets import installation, wiring
    from rag_assets.adapters.prices import Prices
    from rag_assets.forecasting import Forecaster

    settings = Settings.from_environment()
    installation.require_database(settings)
    chosen = installation.corpus_named(settings, corpus)
    urls = wiring.database_urls(settings)
    return chosen, Forecaster(chosen, urls, Prices.read(settings.prices))


def source_of(corpus: "Corpus") -> "Source":
    """A bucket is read with the client of Dagster's own S3 resource, which is slow to load."""
    from rag_assets import wiring
    from rag_assets.model import S3Settings

    if isinstance(corpus.source, S3Settings):
        from rag_assets.resources import Platform

        return Platform().source(corpus)
    return wiring.source_of(corpus)


def for_scripts(found: "Forecast") -> dict[str, Any]:
    """A plan for scripts: with its totals, and those of each index."""
    totals = ("to_embed", "tokens", "tokens_at_most", "usd", "usd_at_most", "seconds", "nothing")
    indexes = [
        asdict(each) | {"usd": each.usd, "usd_at_most": each.usd_at_most} for each in found.indexes
    ]
    return asdict(found) | {"indexes": indexes} | {each: getattr(found, each) for each in totals}


def open_stores() -> "Stores":
    from rag_assets import installation, wiring

    settings = Settings.from_environment()
    installation.require_database(settings)
    return wiring.stores(wiring.database_urls(settings))


def chunk_of(text: str, option: str) -> tuple[str, int]:
    """Document and number of a chunk, as `search` shows it."""
    doc_id, _, number = text.rpartition("#")
    if not doc_id or not (number.isascii() and number.isdecimal()):
        raise click.BadParameter(
            f"{text!r}: write it as `search` shows it, as in how-to/roll-back.md#2.",
            param_hint=option,
        )
    return doc_id, int(number)


def stored_corpus(corpus: str | None) -> tuple["Stores", str]:
    """The stores, and a corpus that the database holds: without a name, the only one."""
    from rag_assets import installation

    stores = open_stores()
    return stores, installation.stored_corpus(stores, corpus)


def chosen_documents(doc_ids: tuple[str, ...], *, every: bool) -> tuple[str, ...] | None:
    """None for all of them: saying neither is as likely a slip as saying both."""
    if every == bool(doc_ids):
        raise click.UsageError("Name documents, or choose all of them with --all.")
    return None if every else doc_ids


def refuse_missing(corpus: str, doc_ids: Sequence[str], found: Sequence[str]) -> None:
    missing = [doc_id for doc_id in doc_ids if doc_id not in found]
    if missing:
        raise UnknownDocumentError(
            f"{corpus} has no dead letter of {', '.join(missing)}. `rag-assets dead-letters list"
            f" {corpus}` shows those it has."
        )


def reading(
    corpus: str | None, principals: tuple[str, ...], generation: int | None
) -> dict[str, Any]:
    """What searching and answering need: the reader's index, and who asks."""
    from rag_assets import wiring

    settings = Settings.from_environment()
    urls = wiring.database_urls(settings)
    index = wiring.search_index(urls)
    pinned = None
    if generation is not None:
        publisher = publisher_of(corpus or index.published(None).corpus)
        pinned = publisher.pinned(publisher.living_one(generation), index)
    return {
        "index": pinned or index,
        "embedder_for": wiring.embedder_for,
        "corpus": corpus,
        "principals": principals or settings.principals,
    }


def command_run(command: str) -> "RunIdentity":
    from rag_assets.model import RunIdentity

    return RunIdentity(f"{command}-{uuid.uuid4().hex[:12]}", __version__)


def buckets_of(text: str | None, corpus: "Corpus") -> list[int]:
    if text is None:
        return list(range(corpus.buckets))
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < corpus.buckets):
        raise click.BadParameter(
            f"{text!r}: write one bucket or a range, from 0 to {corpus.buckets - 1}, as in 00-07.",
            param_hint="--buckets",
        )
    return list(range(int(first), int(last) + 1))

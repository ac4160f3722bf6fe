"""From the source of a corpus to its index, and back to where a passage came from."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from rag_assets.cli.finding import (
    buckets_of,
    chunk_of,
    command_run,
    open_stores,
    publisher_of,
    source_of,
)
from rag_assets.cli.running import materialized, refuse_failed
from rag_assets.cli.shape import (
    FAILED,
    TEXT,
    examples,
    json_option,
    main,
    optional_corpus,
    print_json,
    required_corpus,
)
from rag_assets.settings import Settings


@main.command()
@json_option
def check(*, as_json: bool) -> None:
    """Validate every defs.yaml without starting anything.

    Exit code 1 if one is wrong: a problem a line, as FILE:LINE: SETTING: what is wrong. The golden
    sets that they name are read too.
    """
    from rag_assets import installation, printing

    defs = Settings.from_environment().defs
    corpora, problems = installation.checked(defs)
    if as_json:
        print_json([asdict(problem) for problem in problems])
    else:
        printing.checked(defs, corpora, problems)
    if problems:
        raise SystemExit(FAILED)


@main.command(epilog=examples("materialize", "materialize handbook --buckets 00-07"))
@optional_corpus
@click.option("--buckets", metavar="FIRST-LAST", help="Only these buckets, as in 03 or 00-07.")
@json_option
def materialize(*, corpus: str | None, buckets: str | None, as_json: bool) -> None:
    """Bring CORPUS up to date, from source to readers.

    One run of Dagster, which its UI shows like any other. It costs what has changed: nothing is
    read, cut or embedded twice. Where settings have changed, a second run builds their index beside
    the published one; with --buckets it does not. CORPUS need not be named where there is only one.
    Exit code 1 if a step fails, or a check that is more than a warning.
    """
    from rag_assets import installation, printing

    settings = Settings.from_environment()
    installation.require_database(settings)
    chosen = installation.corpus_named(settings, corpus)
    report = materialized(chosen, settings, buckets_of(buckets, chosen), quiet=as_json)
    print_json(asdict(report)) if as_json else printing.run_report(report, chosen.name)
    refuse_failed(report, chosen.name)


@main.command(epilog=examples("adopt handbook --table my.notes --text body --vector embedding"))
@required_corpus
@click.option("--table", type=TEXT, required=True, metavar="SCHEMA.TABLE", help="What to read.")
@click.option("--text", type=TEXT, required=True, metavar="COLUMN", help="The texts.")
@click.option("--vector", type=TEXT, required=True, metavar="COLUMN", help="Their embeddings.")
@click.option(
    "--document",
    type=TEXT,
    metavar="COLUMN[.KEY]",
    help="The id, address or path of the document, in a column or in its JSON, as in"
    " cmetadata.source. Without it, documents are found by their words.",
)
@click.option(
    "--only", type=TEXT, metavar="COLUMN[.KEY]=VALUE", help="Only rows in which this is so."
)
@click.option(
    "--from-url-env",
    metavar="VARIABLE",
    help="The variable that holds the URL of the table's database, if it is another one.",
)
@click.option(
    "--model",
    type=TEXT,
    metavar="PROVIDER:MODEL",
    help="What made the vectors. [default: the embedder of CORPUS]",
)
@click.option("--name", type=TEXT, help="What to call it. [default: the name of the table]")
@click.option(
    "--sample",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="How many texts to embed again, to see whether the model made their vectors.",
)
@click.option(
    "--min-cosine",
    type=click.FloatRange(0, 1),
    default=0.995,
    show_default=True,
    help="How alike each of them must be to its vector.",
)
@click.option("--unverified", is_flag=True, help="Take it on trust; that is recorded.")
@click.option("--dry-run", is_flag=True, help="Write nothing, and ask no model.")
@json_option
def adopt(
    *,
    corpus: str,
    table: str,
    text: str,
    vector: str,
    document: str | None,
    only: str | None,
    from_url_env: str | None,
    model: str | None,
    name: str | None,
    sample: int,
    min_cosine: float,
    unverified: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Take over passages and vectors that others have made.

    Nothing of them is embedded again. The text of each row is looked up in the documents of CORPUS
    as they are now; rows of other texts are left out and counted. The table is only read. A few
    texts are embedded first: vectors that the model did not make are refused. Afterwards `chunking:
    {adopted: NAME}` has an index made of it. Can be called again, for what is new.
    """
    from rag_assets import adopting, installation, printing, wiring
    from rag_assets.adapters.prices import Prices
    from rag_assets.model import AdoptionWish, ForeignTable
    from rag_assets.printing import adoption

    settings = Settings.from_environment()
    installation.require_database(settings)
    chosen, urls = installation.corpus_named(settings, corpus), wiring.database_urls(settings)
    schema, _, relation = table.rpartition(".")
    wish = AdoptionWish(
        table=ForeignTable(
            schema or "public",
            relation,
            text=text,
            vector=vector,
            document=adopting.column_of(document) if document else None,
            only=adopting.condition_of(only) if only else None,
        ),
        model=model or chosen.embedder,
        name=adopting.checked_name(name) if name else adopting.default_name(relation),
        sample=sample,
        min_cosine=min_cosine,
        verify=not unverified,
        rehearsal=dry_run,
    )
    with printing.Doing(f"adopting for {chosen.name}") as doing:
        found = adopting.Adopter(
            chosen,
            urls,
            adopting.url_in(from_url_env, os.environ) if from_url_env else urls.owner,
            command_run("adopt"),
            source=lambda: source_of(chosen),
            spending=wiring.Spending(Prices.read(settings.prices)),
            tell=doing.now,
        ).adopt(wish)
    print_json(asdict(found)) if as_json else adoption.adopted(found, chosen, wish)


@main.command()
@required_corpus
def rebucket(*, corpus: str) -> None:
    """Move CORPUS to the number of buckets in its defs.yaml.

    Rows are moved; nothing is read from the source and nothing is embedded.
    """
    publisher = publisher_of(corpus)
    buckets = publisher.corpus.buckets
    moved = publisher.stores.corpora.rebucket(
        corpus, buckets, run_id=command_run("rebucket").run_id
    )
    click.echo(
        f"{corpus} has {buckets} buckets now: {moved} documents were moved, deleted ones among"
        " them; nothing was embedded."
    )


@main.command()
@required_corpus
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(*, corpus: str, yes: bool) -> None:
    """Take CORPUS out of the database; its source stays.

    Texts and embeddings go with it where no other corpus uses them.
    """
    from rag_assets import wiring

    stores = wiring.stores(wiring.database_urls(Settings.from_environment()))
    stores.corpora.named(corpus)
    if not yes:
        click.confirm(f"Remove corpus {corpus} and its index from the database?", abort=True)
    gone = stores.corpora.remove(corpus)
    click.echo(
        f"Removed {corpus}: {gone.documents} documents, {gone.generations} generations,"
        f" {gone.texts} texts and {gone.embeddings} embeddings that nothing else used."
    )


@main.command(
    epilog=examples(
        "lineage",
        "lineage --corpus handbook --html lineage.html",
        "lineage --citation how-to/roll-back.md#2",
    )
)
@click.option("--corpus", type=TEXT, help="Only this one.")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with everything into FILE.",
)
@click.option(
    "--citation",
    type=TEXT,
    metavar="CHUNK",
    help="Follow one chunk to its source; as `search` shows it: DOC_ID#NUMBER.",
)
@click.option("--generation", type=int, help="Of the chunk. [default: the published one]")
@json_option
def lineage(
    *,
    corpus: str | None,
    html: Path | None,
    citation: str | None,
    generation: int | None,
    as_json: bool,
) -> None:
    """Show what is made from what, and what last runs did.

    For each asset its checks, freshness, buckets, code version, and what has changed. --html writes
    one page with the graph, the columns and the generations too. It needs no server and no network,
    so that it can be attached to a review. No word of a document stands in any of it.

    --citation follows one chunk of an answer to its characters, the version of its document, its
    place in the source, and the runs and code that made it. It needs the writer's rights, and asks
    for no permission to see the document.
    """
    if citation is not None:
        if html is not None:
            raise click.UsageError("--html shows whole corpora; leave --citation out.")
        _citation(citation, corpus=corpus, generation=generation, as_json=as_json)
        return
    if generation is not None:
        raise click.UsageError("--generation says of which generation the --citation is.")
    from rag_assets import installation, printing

    settings = Settings.from_environment()
    corpora = installation.valid_corpora(settings)
    if corpus is not None:
        corpora = [installation.corpus_named(settings, corpus)]
    home = installation.dagster_of(settings).prepared_home()
    with printing.Doing("reading the lineage"):
        from rag_assets import materializing  # loads Dagster, which takes a while
        from rag_assets.lineage.page import page
        from rag_assets.lineage.reading import read

        stores = installation.stores_if_up(settings)
        with materializing.instance_of(home) as instance:
            found = read(corpora, instance, stores, now=datetime.now(UTC))
    if html is not None:
        html.write_text(page(found), encoding="utf-8")
        click.echo(f"Wrote {html}.", err=as_json)
    if as_json:
        print_json(asdict(found))
    elif html is None:
        printing.lineage(found)


def _citation(chunk: str, *, corpus: str | None, generation: int | None, as_json: bool) -> None:
    from rag_assets import installation, printing

    doc_id, number = chunk_of(chunk, "--citation")
    stores = open_stores()
    name = installation.corpus_with(stores, doc_id, corpus)
    found = stores.provenance.origin(name, doc_id, number, generation=generation)
    print_json(asdict(found)) if as_json else printing.origin(found)

"""The commands of `rag-assets`. What a command does not need, it does not import."""

import io
import json
import logging
import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets import __version__
from rag_assets.errors import NotReadyError, RagAssetsError, UnknownDocumentError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.forecasting import Forecaster
    from rag_assets.labelling import Labelling
    from rag_assets.materializing import RunReport
    from rag_assets.model import Corpus, CostKey, Forecast, RunIdentity
    from rag_assets.ports import Source
    from rag_assets.publishing import Publisher
    from rag_assets.wiring import Stores

FAILED, REFUSED, INTERRUPTED = 1, 3, 130


class Text(click.types.StringParamType):
    """Words of a person; bytes that the locale could not make sense of are read as UTF-8."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(value).encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            self.fail("this is not UTF-8. Set your terminal to UTF-8, and try again.", param, ctx)


def _usd(ctx: click.Context, param: click.Parameter, value: str | None) -> Decimal | None:
    """An amount of money, exactly as it is written."""
    if value is None:
        return None
    amount = value.strip().removeprefix("$")
    if not re.fullmatch(r"\d+(\.\d+)?|\.\d+", amount, re.ASCII):
        told = f"{value!r} is no amount of US dollars; write it as in 2.50."
        raise click.BadParameter(told, ctx, param)
    return Decimal(amount)


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A day, or how long ago."""
    if value is None:
        return None
    if found := re.fullmatch(r"(\d{1,5})([hdw])", value.strip(), re.ASCII):
        unit = {"h": "hours", "d": "days", "w": "weeks"}[found[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(found[1])})
    try:
        day = datetime.fromisoformat(value.strip())
    except ValueError as error:
        told = f"{value!r}: write a day, as in 2026-01-31, or 30d, 12h or 2w."
        raise click.BadParameter(told, ctx, param) from error
    return day if day.tzinfo else day.replace(tzinfo=UTC)


TEXT = Text()

json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON, for scripts.")
corpus_option = click.option(
    "--corpus", type=TEXT, help="Which corpus; not needed where only one is published."
)
as_option = click.option(
    "--as",
    "principals",
    type=TEXT,
    multiple=True,
    metavar="PRINCIPAL",
    help="Ask as this user or group (several times for several). [default: RAG_ASSETS_PRINCIPALS]",
)
generation_option = click.option(
    "--generation", type=int, help="Another generation than the published one."
)
required_corpus = click.argument("corpus", type=TEXT)
optional_corpus = click.argument("corpus", type=TEXT, required=False)
several_documents = click.argument("doc_ids", type=TEXT, nargs=-1, metavar="[DOC_ID]...")
every_option = click.option("--all", "every", is_flag=True, help="All dead letters of CORPUS.")


class Commands(click.Group):
    """Prints an error that a person can mend as one message, and never a traceback for it."""

    def main(self, *args: Any, **options: Any) -> Any:
        logging.getLogger().addHandler(logging.NullHandler())  # what libraries log is not for here
        _write_any_letter()
        with _written_out():
            return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except RagAssetsError as error:
            _fail(ctx, str(error))
        except KeyboardInterrupt:
            click.echo("\nInterrupted. What was finished stays; the next run goes on.", err=True)
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@contextmanager
def _written_out() -> Iterator[None]:
    """A full disk or a reader that has gone shows here, and not when the interpreter ends."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # as where it was closed: `>&-`
                sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has gone; there is nothing to say
        _leave_the_output()
    except OSError as error:
        what = error.filename or "The operating system refuses"
        click.echo(
            f"Error: {what}: {error.strerror or error}. Mend this, then try again.", err=True
        )
        _leave_the_output()


def _leave_the_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    raise SystemExit(FAILED)


def _write_any_letter() -> None:
    """A terminal that lacks a letter shows a question mark for it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def examples(*commands: str) -> str:
    r"""The end of a help text; `\b` keeps its lines as they are."""
    return "\n".join(["\b", "Examples:", *(f"  rag-assets {command}" for command in commands)])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("up --database-only", "materialize", 'ask "How do I roll back?"'),
)
@click.version_option(__version__, prog_name="rag-assets")
def main() -> None:
    """Keeps retrieval indexes right: equal to their sources, evaluated, published, cited.

    Exit codes: 0 done, 1 a problem was found or the command failed, 2 wrong usage, 3 the question
    was refused, 130 interrupted.
    """


# --- services ----------------------------------------------------------------------------------


@main.command()
@click.option("--database-only", is_flag=True, help="Leave the Dagster UI and daemon out.")
def up(*, database_only: bool) -> None:
    """Start the database and Dagster in the background.

    Where they run already, nothing happens to them. The database is brought to the schema of this
    version. The Dagster UI listens on 127.0.0.1, on the port that RAG_ASSETS_PORT names.
    """
    from rag_assets import installation, printing
    from rag_assets.adapters.postgres.connections import where

    settings = Settings.from_environment()
    with printing.Doing("starting the database") as doing:
        urls = installation.start_database(settings, doing.now)
    click.echo(f"The database is up: {where(urls.reader)}")
    if not database_only:
        installation.valid_corpora(settings)
        dagster = installation.dagster_of(settings)
        with printing.Doing("starting the Dagster UI and daemon"):
            if dagster.has_history and not dagster.status().pids:
                from rag_assets import materializing  # it costs seconds, and is seldom needed here

                materializing.end_lost_runs(dagster.home)
            dagster.start()
        click.echo(f"The Dagster UI is up: {dagster.status().url}")
        click.echo("`rag-assets down` (or `make down`) stops all of it.")


@main.command()
def down() -> None:
    """Stop what `up` started, and nothing else."""
    from rag_assets import installation, printing

    with printing.Doing("stopping"):
        stopped = installation.stop_everything(Settings.from_environment())
    click.echo(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.")


@main.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say what runs and what each corpus holds.

    Exit code 1 if the database does not answer.
    """
    from rag_assets import installation, printing

    found = installation.standing(Settings.from_environment())
    _print_json(asdict(found)) if as_json else printing.standing(found)
    if not found.database_running:
        raise SystemExit(FAILED)


@main.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Examine the installation; say how to mend it.

    Exit code 1 if anything is wrong.
    """
    from rag_assets import installation, printing

    findings = installation.examined(Settings.from_environment())
    _print_json([asdict(each) for each in findings]) if as_json else printing.findings(findings)
    if not all(each.ok for each in findings):
        raise SystemExit(FAILED)


# --- corpora -----------------------------------------------------------------------------------


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
        _print_json([asdict(problem) for problem in problems])
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
    report = _materialized(chosen, settings, _buckets(buckets, chosen), quiet=as_json)
    _print_json(asdict(report)) if as_json else printing.run_report(report, chosen.name)
    _refuse_failed(report, chosen.name)


def _materialized(
    corpus: "Corpus",
    settings: Settings,
    buckets: Sequence[int],
    *,
    quiet: bool,
    max_usd: Decimal | None = None,
) -> "RunReport":
    """The runs that bring a corpus up to date, in this process; what they finish is shown."""
    from rag_assets import installation, printing

    home = installation.dagster_of(settings).prepared_home()
    with printing.Doing(f"materializing {corpus.name}") as doing:
        from rag_assets import materializing  # loads Dagster, which takes a while

        with materializing.instance_of(home) as instance:
            return materializing.materialize(
                corpus,
                instance=instance,
                buckets=buckets,
                on_start=lambda asset: doing.now(f"materializing {corpus.name}: {asset}"),
                on_asset=doing.aside(printing.asset_done) if not quiet else lambda _: None,
                max_usd=max_usd,
            )


def _refuse_failed(report: "RunReport", corpus: str) -> None:
    if report.interrupted:
        raise KeyboardInterrupt
    if report.failure is not None:
        raise RagAssetsError(f"{report.failure}\n(This was Dagster run {report.run_id}.)")
    if failed := report.failed_checks:
        names = ", ".join(f"{check.asset}.{check.check}" for check in failed)
        raise RagAssetsError(
            f"The run did what it could, but {corpus} is not as it should be: {names}."
            f"\n(This was Dagster run {report.run_id}.)"
        )


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
    from rag_assets import adopting, installation, printing, showing_adoption, wiring
    from rag_assets.adapters.prices import Prices
    from rag_assets.model import AdoptionWish, ForeignTable

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
            _command_run("adopt"),
            source=lambda: _source(chosen),
            spending=wiring.Spending(Prices.read(settings.prices)),
            tell=doing.now,
        ).adopt(wish)
    _print_json(asdict(found)) if as_json else showing_adoption.adopted(found, chosen, wish)


# --- plans -------------------------------------------------------------------------------------


@main.command(epilog=examples("plan", "plan handbook --json"))
@optional_corpus
@json_option
def plan(*, corpus: str | None, as_json: bool) -> None:
    """Say what `apply` or `materialize` would do for CORPUS, why, and what it would cost.

    The source is looked at, and what is new there is read and cut, in memory. Nothing is written
    and no model is asked. CORPUS need not be named where there is only one.
    """
    from rag_assets import printing, showing_plans

    chosen, forecaster = _forecaster(corpus)
    with printing.Doing(f"planning {chosen.name}"):
        found = forecaster.forecast(_source(chosen))
    _print_json(_planned(found)) if as_json else showing_plans.plan(found)


@main.command(epilog=examples("apply handbook", "apply handbook --max-cost 5 --yes"))
@optional_corpus
@click.option(
    "--max-cost",
    callback=_usd,
    metavar="USD",
    help="Stop before more than this is spent on models.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def apply(*, corpus: str | None, max_cost: Decimal | None, yes: bool, as_json: bool) -> None:
    """Bring CORPUS up to date after its plan was shown: what `materialize` does, with a limit.

    With --max-cost, no request is made that might cost more than is left; what was paid for is
    kept, and the next `apply` goes on from there. A model whose price nobody has stated is refused
    then, before anything is spent. Exit code 1 if the limit is reached, or if a step fails.
    """
    from rag_assets import printing, showing_plans

    chosen, forecaster = _forecaster(corpus)
    with printing.Doing(f"planning {chosen.name}"):
        planned = forecaster.forecast(_source(chosen))
    if not as_json:
        showing_plans.plan(planned)
    if max_cost is not None:
        forecaster.require_prices(planned)
        if not as_json:
            showing_plans.above_the_limit(planned, max_cost)
    if not yes:
        click.confirm(f"Apply this to {chosen.name}?", abort=True, err=as_json)
    settings, buckets = Settings.from_environment(), range(chosen.buckets)
    report = _materialized(chosen, settings, buckets, quiet=as_json, max_usd=max_cost)
    spent = forecaster.stores.provenance.spent(chosen.name, by="model", runs=report.run_ids)
    if as_json:
        told = {"plan": _planned(planned), "run": asdict(report)}
        _print_json(told | {"spent": [asdict(each) for each in spent]})
    else:
        printing.run_report(report, chosen.name)
        showing_plans.spent(planned, spent)
    _refuse_failed(report, chosen.name)
    if report.waits:
        raise RagAssetsError("\n".join(report.waits))


@main.command(epilog=examples("explain handbook"))
@required_corpus
@json_option
def explain(*, corpus: str, as_json: bool) -> None:
    """Say whether an index of CORPUS would be built anew, and which changed setting is the reason.

    The recipe of what is published is held against that of today's settings, part by part. The
    source is not looked at: `plan` does that.
    """
    from rag_assets import showing_plans

    _, forecaster = _forecaster(corpus)
    found = forecaster.explanation()
    _print_json(asdict(found)) if as_json else showing_plans.explanation(found)


@main.command(epilog=examples("costs", "costs handbook --since 30d --by model"))
@optional_corpus
@click.option("--since", callback=_since, metavar="WHEN", help="As in 30d, 12h or 2026-01-31.")
@click.option(
    "--by",
    type=click.Choice(["run", "day", "model", "provider", "generation", "bucket"]),
    default="run",
    show_default=True,
    help="What to add up by.",
)
@json_option
def costs(*, corpus: str | None, since: datetime | None, by: "CostKey", as_json: bool) -> None:
    """Show what was asked of embedding models and what it cost, for CORPUS or for every corpus.

    Each line keeps the price of its day. Requests that failed are counted too.
    """
    from rag_assets import installation, showing_plans

    stores = _stores()
    name = None if corpus is None else installation.stored_corpus(stores, corpus)
    found = stores.provenance.spent(name, by=by, since=since)
    _print_json([asdict(each) for each in found]) if as_json else showing_plans.costs(found, by)


@main.command(
    epilog=examples(
        "publish handbook",
        "publish handbook --generation 3",
        'publish handbook --force "the golden set is out of date"',
    )
)
@required_corpus
@click.option("--generation", type=int, help="Which one. [default: the newest candidate]")
@click.option(
    "--force", type=TEXT, metavar="REASON", help="Publish it though the gate refuses; recorded."
)
def publish(*, corpus: str, generation: int | None, force: str | None) -> None:
    """Let readers see a generation, if the gate accepts it."""
    from rag_assets import printing, showing
    from rag_assets.model import GenerationState

    publisher, run = _publisher(corpus), _command_run("publish")
    chosen = publisher.chosen(generation)
    if chosen.state is GenerationState.PUBLISHED:
        click.echo(f"Generation {chosen.number} of {corpus} is published already.")
        return
    if force:
        publisher.publish(chosen, run=run, reason=f"forced: {force}", forced=True)
    else:
        with printing.Doing(f"scoring generation {chosen.number} of {corpus}"):
            verdict = publisher.verdict(chosen, publisher.golden_set(), run, anew=True)
        showing.verdict(verdict)
        if not verdict.accepted:
            raise NotReadyError(
                f"Generation {chosen.number} of {corpus} is not published; what is published stays."
                " `--force REASON` overrules the gate."
            )
        publisher.publish(chosen, run=run, reason=" ".join(verdict.reasons))
    click.echo(f"Generation {chosen.number} of {corpus} is published.")


@main.command()
@required_corpus
def rollback(*, corpus: str) -> None:
    """Publish the generation again that was published before."""
    target = _publisher(corpus).roll_back(run=_command_run("rollback"))
    click.echo(f"Generation {target.number} of {corpus} is published again.")


@main.command(epilog=examples("cancel handbook", "cancel handbook --generation 3"))
@required_corpus
@click.option("--generation", type=int, help="Which one. [default: the one that is built or waits]")
def cancel(*, corpus: str, generation: int | None) -> None:
    """End a build of CORPUS, or a candidate.

    A run that builds it ends with its next turn. What was embedded stays, so that another build
    pays for nothing twice. Settings whose build was cancelled are built again only by hand: by
    `rag-assets materialize`.
    """
    generations = _publisher(corpus).stores.generations
    ended = generations.cancel(corpus, generation, reason="cancelled by hand")
    click.echo(f"Generation {ended.number} of {corpus} is cancelled; what is published stays.")


@main.command()
@required_corpus
def rebuild(*, corpus: str) -> None:
    """Begin to build the index of CORPUS again, with the settings it has.

    Beside the published one, which stays until the new one is accepted. Nothing is embedded that
    was embedded before. The daemon builds it, or `rag-assets materialize` does at once.
    """
    from rag_assets import wiring

    publisher = _publisher(corpus)
    recipe = wiring.recipe_of(publisher.corpus)
    begun = publisher.stores.generations.rebuild(corpus, recipe)
    click.echo(
        f"Generation {begun.number} of {corpus} is to be built: by the daemon, or at once by"
        f" `rag-assets materialize {corpus}`."
    )


@main.command()
@required_corpus
def rebucket(*, corpus: str) -> None:
    """Move CORPUS to the number of buckets in its defs.yaml.

    Rows are moved; nothing is read from the source and nothing is embedded.
    """
    publisher = _publisher(corpus)
    buckets = publisher.corpus.buckets
    moved = publisher.stores.corpora.rebucket(
        corpus, buckets, run_id=_command_run("rebucket").run_id
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
    """Show what is made from what, and what the last runs did.

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
        _print_json(asdict(found))
    elif html is None:
        printing.lineage(found)


def _citation(chunk: str, *, corpus: str | None, generation: int | None, as_json: bool) -> None:
    from rag_assets import installation, printing

    doc_id, number = _chunk(chunk, "--citation")
    stores = _stores()
    name = installation.corpus_with(stores, doc_id, corpus)
    found = stores.provenance.origin(name, doc_id, number, generation=generation)
    _print_json(asdict(found)) if as_json else printing.origin(found)


# --- what needs a person -----------------------------------------------------------------------


@main.group(
    name="dead-letters",
    epilog=examples(
        "dead-letters list",
        "dead-letters show handbook minutes/2019.md",
        "dead-letters retry handbook --all",
    ),
)
def dead_letters() -> None:
    """Look after documents that could not be processed."""


@dead_letters.command(name="list", epilog=examples("dead-letters list handbook"))
@optional_corpus
@json_option
def list_dead_letters(*, corpus: str | None, as_json: bool) -> None:
    """Show which documents of CORPUS could not be processed, and why.

    CORPUS need not be named where the database holds only one.
    """
    from rag_assets import printing

    stores, name = _stored(corpus)
    letters = stores.documents.dead_letters(name)
    _print_json([asdict(each) for each in letters]) if as_json else printing.dead_letters(
        letters, name
    )


@dead_letters.command(name="show")
@required_corpus
@click.argument("doc_id", type=TEXT)
@json_option
def show_dead_letter(*, corpus: str, doc_id: str, as_json: bool) -> None:
    """Show everything that is known of the failures of one document.

    Exit code 1 if it has none.
    """
    from rag_assets import printing

    stores, name = _stored(corpus)
    letters = stores.documents.dead_letters(name, doc_id=doc_id)
    _refuse_missing(name, [doc_id], [letter.doc_id for letter in letters])
    _print_json([asdict(each) for each in letters]) if as_json else printing.dead_letter(letters)


@dead_letters.command(name="retry", epilog=examples("dead-letters retry handbook a.md b.md"))
@required_corpus
@several_documents
@every_option
def retry_dead_letters(*, corpus: str, doc_ids: tuple[str, ...], every: bool) -> None:
    """Try documents again in the next run, whatever failed before.

    By itself, a document is tried again when it changes at its source, when the code that failed
    has another version, and, where it could not be read, after a growing while.
    """
    chosen = _chosen(doc_ids, every=every)
    stores, name = _stored(corpus)
    tried = stores.documents.retry_dead_letters(name, chosen, _command_run("dead-letters-retry"))
    click.echo(
        f"{_counted(len(tried), 'document')} of {name} will be tried again by the next run:"
        f" `rag-assets materialize {name}`."
    )
    _refuse_missing(name, doc_ids, tried)


@dead_letters.command(name="drop", epilog=examples("dead-letters drop handbook a.md"))
@required_corpus
@several_documents
@every_option
def drop_dead_letters(*, corpus: str, doc_ids: tuple[str, ...], every: bool) -> None:
    """Show dead letters no more.

    Their documents stay out of the index until they change at their source, or until
    `dead-letters retry` names them.
    """
    chosen = _chosen(doc_ids, every=every)
    stores, name = _stored(corpus)
    dropped = stores.documents.drop_dead_letters(name, chosen, _command_run("dead-letters-drop"))
    click.echo(f"Dropped the dead letters of {_counted(len(dropped), 'document')} of {name}.")
    _refuse_missing(name, doc_ids, dropped)


@main.group(
    epilog=examples("quarantine list handbook", "quarantine release handbook minutes/2019.md")
)
def quarantine() -> None:
    """Look after documents that break a rule of quality."""


@quarantine.command(name="list", epilog=examples("quarantine list handbook --json"))
@required_corpus
@json_option
def list_quarantine(*, corpus: str, as_json: bool) -> None:
    """Show which documents of CORPUS are in quarantine, and which rule each of them breaks.

    Those that were released are shown too.
    """
    from rag_assets import printing

    stores, name = _stored(corpus)
    found = stores.quality.verdicts(name, quarantined=True)
    _print_json([asdict(each) for each in found]) if as_json else printing.quarantine(found, name)


@quarantine.command(name="release", epilog=examples("quarantine release handbook minutes/2019.md"))
@required_corpus
@click.argument("doc_id", type=TEXT)
def release_from_quarantine(*, corpus: str, doc_id: str) -> None:
    """Let the present content of a document through, whatever rule it breaks.

    The next run serves it. When its content changes, it is judged like any other. Exit code 1 if
    the document is not in quarantine.
    """
    stores, name = _stored(corpus)
    rules = stores.quality.release(name, doc_id, _command_run("quarantine-release"))
    if not rules:
        raise UnknownDocumentError(
            f"{doc_id} is not in quarantine in {name}; nothing was changed. `rag-assets quarantine"
            f" list {name}` names the documents that are."
        )
    click.echo(
        f"Released {doc_id} of {name}, though it breaks {', '.join(rules)}: `rag-assets materialize"
        f" {name}` serves it."
    )


@main.command(name="approve-deletions", epilog=examples("approve-deletions handbook --up-to 120"))
@required_corpus
@click.option(
    "--up-to",
    type=click.IntRange(0),
    required=True,
    metavar="N",
    help="How many deletions the next run may make at most; 0 takes an approval back.",
)
def approve_deletions(*, corpus: str, up_to: int) -> None:
    """Let the next run delete more documents than is usual.

    When a source suddenly lists many documents less, their deletion is withheld. This permits it
    up to a ceiling, for 24 hours: the next run looks at the source again, and if more than N
    documents are gone by then, it deletes none of them. A source that lists nothing at all deletes
    nothing, with or without approval.
    """
    from rag_assets import printing

    stores, name = _stored(corpus)
    printing.withheld(stores.documents.withheld(name), name)
    stores.documents.approve_deletions(name, up_to=up_to)
    if up_to:
        click.echo(
            f"The next run of {name} may delete up to {_counted(up_to, 'document')}. Run"
            f" `rag-assets materialize {name}` within 24 hours."
        )
    else:
        click.echo(f"No unusual number of deletions is approved for {name}.")


@main.command(epilog=examples("verify", "verify handbook --repair"))
@optional_corpus
@click.option("--repair", is_flag=True, help="Mend what is damaged, from what is sound.")
@json_option
def verify(*, corpus: str | None, repair: bool, as_json: bool) -> None:
    """Recompute all that is stored of CORPUS, and compare.

    Without CORPUS, of every corpus. Texts, chunks, vectors and the rows that are searched are held
    against their checksums and against each other. Nothing is embedded. Exit code 1 if anything is
    damaged, or if something is left to do after --repair.
    """
    from rag_assets import installation, printing

    stores = _stores()
    names = installation.stored_corpora(stores)
    if corpus:
        names = [installation.stored_corpus(stores, corpus)]
    found = []
    for name in names:
        with printing.Doing(f"verifying {name}"):
            verified = installation.verified(stores, name, _command_run("verify"), repair=repair)
        found.append(verified)
        if not as_json:
            printing.verified(verified, repaired=repair)
    if as_json:
        _print_json([asdict(each) for each in found])
    if any(each.left for each in found):
        raise SystemExit(FAILED)


@main.command(epilog=examples("expect", "expect handbook --generation 2"))
@optional_corpus
@click.option("--generation", type=int, help="Which one. [default: the newest complete one]")
@json_option
def expect(*, corpus: str | None, generation: int | None, as_json: bool) -> None:
    """Judge what is expected of the rows of CORPUS.

    By Great Expectations, in the database: what is always expected, and the `expectations` of the
    corpus. Writes pages that show the results. Nothing is quarantined. Exit code 1 if something
    does not hold that is more than a warning.
    """
    from rag_assets import printing

    publisher = _publisher(corpus)
    chosen = publisher.newest() if generation is None else publisher.living_one(generation)
    with printing.Doing(f"judging {publisher.corpus.name}"):
        found = publisher.expected(chosen, _command_run("expect"))
    if as_json:
        _print_json([asdict(each) for each in found])
    else:
        printing.expected(found)
    if any(not each.warns_only for stage in found for each in stage.unmet):
        raise SystemExit(FAILED)


@main.command(epilog=examples("upkeep", "upkeep handbook --dry-run"))
@optional_corpus
@click.option("--dry-run", is_flag=True, help="Only count what would go.")
@json_option
def upkeep(*, corpus: str | None, dry_run: bool, as_json: bool) -> None:
    """Take away what nothing uses any more.

    Generations whose grace is over, the texts, chunks and vectors that no document and no
    generation needs, and old measurements; then tables in which much has changed are vacuumed.
    What was made of earlier versions of documents stays for as long as `upkeep` in the defs.yaml of
    CORPUS says. Without CORPUS, of every corpus. It may run at any time, beside other runs, and be
    interrupted. Dagster does it every night.
    """
    from rag_assets import installation, printing

    stores = _stores()
    done = []
    for each in installation.corpora_to_keep(Settings.from_environment(), stores, corpus):
        with printing.Doing(f"looking after {each.name}"):
            done.append(installation.upkept(stores, each, rehearsal=dry_run))
        if not as_json:
            printing.upkeep(done[-1], dry_run=dry_run)
    tables = [] if dry_run else stores.collecting.vacuum()
    if as_json:
        _print_json({"corpora": [asdict(each) for each in done], "vacuumed": tables})
    else:
        printing.vacuumed(tables)


@main.command(epilog=examples("erase minutes/2019.md", "erase a.md --corpus notes --unblock"))
@click.argument("doc_id", type=TEXT)
@click.option("--corpus", type=TEXT, help="Whose document; not needed where only one has it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--unblock", is_flag=True, help="Erase nothing; let an erased document come back.")
@json_option
def erase(*, doc_id: str, corpus: str | None, yes: bool, unblock: bool, as_json: bool) -> None:
    """Erase a document, every version of it, for good.

    Texts, chunks and vectors go where no other document has them. Its id is blocked, so that
    neither a run that is going on nor the next one brings it back. The receipt says what was taken
    away, which documents have the same content, and what this command cannot reach. Exit code 1 if
    something is left.
    """
    from rag_assets import installation, printing

    stores = _stores()
    if unblock:
        name = installation.stored_corpus(stores, corpus)
        if not stores.erasing.unblock(name, doc_id):
            raise UnknownDocumentError(f"{doc_id} is not blocked in {name}; nothing was changed.")
        click.echo(f"{doc_id} may come back to {name}: the next run takes it if the source has it.")
        return
    name = installation.corpus_with(stores, doc_id, corpus)
    if not yes:
        click.confirm(f"Erase {doc_id} from corpus {name}? It cannot be undone.", abort=True)
    receipt = stores.erasing.erase(name, doc_id, _command_run("erase"))
    _print_json(asdict(receipt)) if as_json else printing.receipt(receipt)
    if receipt.remaining:
        raise SystemExit(FAILED)


# --- alerts ------------------------------------------------------------------------------------


@main.group()
def alerts() -> None:
    """The channels that tell people what failed."""


@alerts.command(name="test", epilog=examples("alerts test handbook"))
@required_corpus
@json_option
def test_alerts(*, corpus: str, as_json: bool) -> None:
    """Send a test message to every channel of CORPUS.

    What came back is shown. In PagerDuty an incident opens, and is resolved at once. Exit code 1 if
    a channel did not take it, or if CORPUS names none.
    """
    from rag_assets import installation, printing

    tried = installation.alerts_tried(Settings.from_environment(), corpus)
    _print_json([asdict(each) for each in tried]) if as_json else printing.alerts_tried(tried)
    if not all(each.taken for each in tried):
        raise SystemExit(FAILED)


# --- questions ---------------------------------------------------------------------------------


@main.command(
    epilog=examples(
        'ask "How do I roll back?"',
        'ask --corpus handbook --as alice --as sales "Who may see it?"',
        'ask --json "What is a bucket?" | jq -r ".citations[].uri"',
    )
)
@click.argument("question", type=TEXT)
@corpus_option
@as_option
@generation_option
@json_option
def ask(
    *,
    question: str,
    corpus: str | None,
    principals: tuple[str, ...],
    generation: int | None,
    as_json: bool,
) -> None:
    """Answer QUESTION in the corpus's words, with citations.

    Exit code 3 if no passage supports an answer.
    """
    from rag_assets import printing
    from rag_assets.answering import pipeline

    found = pipeline.answer(question, **_reading(corpus, principals, generation))
    _print_json(asdict(found) | {"refused": found.refused, "text": found.text}) if (
        as_json
    ) else printing.answer(found)
    if found.refused:
        raise SystemExit(REFUSED)


@main.command(epilog=examples('search "roll back"', 'search "roll back" --generation 2 --limit 3'))
@click.argument("query", type=TEXT)
@corpus_option
@as_option
@generation_option
@click.option(
    "--limit",
    type=click.IntRange(1, 100),
    default=10,
    show_default=True,
    help="How many chunks at most.",
)
@json_option
def search(
    *,
    query: str,
    corpus: str | None,
    principals: tuple[str, ...],
    generation: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the best chunks for QUERY, with their scores."""
    from rag_assets import printing
    from rag_assets.answering import pipeline

    found = pipeline.search(query, limit=limit, **_reading(corpus, principals, generation))
    _print_json(asdict(found)) if as_json else printing.search_result(found)


@main.command(name="eval", epilog=examples("eval", "eval handbook --generation 2 --compare 1"))
@optional_corpus
@generation_option
@click.option("--compare", type=int, metavar="N", help="Hold it against generation N.")
@json_option
def evaluate(
    *, corpus: str | None, generation: int | None, compare: int | None, as_json: bool
) -> None:
    """Score a generation on the golden set.

    Another generation than the published one is held against the published one, or against the
    one that --compare names: metric by metric, with how sure the difference is, then the questions
    that changed. Exit code 1 if its scores alone would let the gate refuse it.
    """
    from rag_assets import printing, showing
    from rag_assets.evaluation.comparing import judged

    publisher, run = _publisher(corpus), _command_run("eval")
    chosen = publisher.standing_one(generation)
    other = publisher.standing_one(compare) if compare is not None else publisher.rival_of(chosen)
    golden_set = publisher.golden_set()
    with printing.Doing(
        f"scoring {publisher.corpus.name} on {len(golden_set.questions)} questions"
    ):
        after = publisher.scores(chosen, golden_set, run)
        before = publisher.scores(other, golden_set, run) if other else None
    verdict = judged(after, before=before, settings=publisher.corpus.evaluation)
    stale = publisher.stale_labels(golden_set)
    changes = publisher.changes(other, chosen, golden_set) if other else []
    gate = publisher.corpus.evaluation.gate
    if as_json:
        found = {"scores": asdict(after), "means": after.means, "verdict": asdict(verdict)}
        compared = {"scores": asdict(before), "means": before.means} if before else None
        questions = [asdict(each) for each in changes]
        _print_json(
            found | {"compared_with": compared, "questions": questions, "stale_labels": stale}
        )
    else:
        printing.scores(after, publisher.corpus.name)
        printing.stale_labels(stale)
        if other:
            showing.comparison(
                verdict.differences, gate=gate, before=other.number, after=chosen.number
            )
            asked = {each.question_id: each.question for each in changes[: showing.SHOWN]}
            first = publisher.found_first(other, chosen, asked)
            showing.questions(changes, gate=gate, first=first)
        showing.verdict(verdict)
    if not verdict.accepted:
        raise SystemExit(FAILED)


@main.command(epilog=examples("history handbook"))
@optional_corpus
@json_option
def history(*, corpus: str | None, as_json: bool) -> None:
    """What readers of CORPUS saw when, and why.

    Every change of what is published, by which run, forced or rolled back; what became of each
    generation; and what the gate has refused.
    """
    from rag_assets import showing

    stores, name = _stored(corpus)
    publications = stores.generations.publications(name)
    generations = stores.generations.history(name)
    decisions = stores.evaluations.decisions(name)
    if as_json:
        _print_json(
            {
                "publications": [asdict(each) for each in publications],
                "generations": [asdict(each) for each in generations],
                "gate_verdicts": [asdict(each) for each in decisions],
            }
        )
    else:
        showing.history(name, publications, generations, decisions)


@main.command(epilog=examples("diff handbook 1 2"))
@required_corpus
@click.argument("before", type=int, metavar="A")
@click.argument("after", type=int, metavar="B")
@json_option
def diff(*, corpus: str, before: int, after: int, as_json: bool) -> None:
    """Say what generations A and B of CORPUS differ in.

    Both must be living. Their recipes, the documents that one serves and the other does not, their
    chunks by the hashes of their texts, and their scores, where both were scored on the golden set
    as they are now; nothing is scored for this.
    """
    from rag_assets import printing, showing

    publisher = _publisher(corpus)
    with printing.Doing(f"comparing generations {before} and {after} of {corpus}"):
        found = publisher.diff(before, after)
    if as_json:
        _print_json(asdict(found))
    else:
        showing.diff(found.served, before=before, after=after, recipe=found.recipe)
        gate = publisher.corpus.evaluation.gate
        showing.comparison(found.differences, gate=gate, before=before, after=after)
        showing.questions(found.questions, gate=gate, first={})
        if not found.differences:
            command = f"rag-assets eval {corpus} --generation {after} --compare {before}"
            click.echo(f"scores     `{command}` measures them.")


# --- golden sets and feedback ------------------------------------------------------------------

to_file = click.option(
    "--to",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The YAML file to write.",
)
replace_option = click.option("--replace", is_flag=True, help="Replace what is there.")
since_option = click.option(
    "--since",
    callback=_since,
    metavar="WHEN",
    help="Only what was said since, as in 30d, 12h or 2026-01-31.",
)


@main.group(
    epilog=examples(
        "golden check handbook",
        "golden generate handbook --to golden.yaml",
        "golden mine handbook --to mined.yaml",
    )
)
def golden() -> None:
    """Questions with the places that answer them."""


@golden.command(name="check", epilog=examples("golden check", "golden check mined.yaml --json"))
@click.argument("which", type=TEXT, required=False, metavar="[CORPUS|PATH]")
@click.option("--corpus", type=TEXT, help="Of which corpus the golden set at PATH is.")
@json_option
def check_golden_set(*, which: str | None, corpus: str | None, as_json: bool) -> None:
    """Hold every label against the stored documents.

    Where a sentence no longer stands, the nearest one is shown: it may have moved or been reworded.
    Also says which questions ask the same, and how small a difference between two generations the
    questions can show. Exit code 1 if a label or a question is to be mended.
    """
    from rag_assets import printing, showing_labels
    from rag_assets.evaluation.golden_set import read_golden_set

    path = Path(which) if which and corpus is None and Path(which).exists() else None
    path = Path(which) if which and corpus is not None else path
    labelling = _labelling(corpus if path else which)
    golden_set = read_golden_set(path) if path else labelling.publisher.golden_set()
    with printing.Doing(f"checking {golden_set.name}"):
        found = labelling.check(golden_set)
    _print_json(asdict(found)) if as_json else showing_labels.checked(found)
    if not found.sound:
        raise SystemExit(FAILED)


@golden.command(
    name="export",
    epilog=examples(
        "golden export handbook --to golden.yaml", "golden export handbook --to bench --beir"
    ),
)
@required_corpus
@click.option(
    "--to", type=click.Path(path_type=Path), required=True, metavar="PATH", help="Where to."
)
@click.option("--beir", is_flag=True, help="As a folder in the layout of BEIR.")
@click.option("--documents", is_flag=True, help="With --beir: the documents too, as corpus.jsonl.")
@replace_option
def export_golden_set(*, corpus: str, to: Path, beir: bool, documents: bool, replace: bool) -> None:
    """Write the golden set of CORPUS.

    As a YAML file, in which each label is a quote; or as a folder with queries.jsonl,
    qrels/test.tsv, and answers.jsonl, which has the characters of each answer as they are now.
    """
    if documents and not beir:
        raise click.UsageError("--documents goes with --beir.")
    done = _labelling(corpus).export(to, beir=beir, documents=documents, replace=replace)
    click.echo(f"Wrote {_counted(len(done.questions), 'question')} of {done.name} to {to}.")


@golden.command(name="import", epilog=examples("golden import bench --to golden.yaml"))
@click.argument("path", type=click.Path(path_type=Path))
@to_file
@click.option("--corpus", type=TEXT, help="Whose documents; not needed where there is only one.")
@replace_option
def import_golden_set(*, path: Path, to: Path, corpus: str | None, replace: bool) -> None:
    """Turn a BEIR folder, a TSV, CSV or JSONL file into a golden set.

    A table has a header with question, doc and quote, and as needed id, start, end, whole, grade
    and tags. Every label must stand in its document; all that is wrong is named at once, and then
    nothing is written.
    """
    done = _labelling(corpus).import_(path, to, replace=replace)
    click.echo(f"Wrote {_counted(len(done.questions), 'question')} to {to}.")


@golden.command(
    name="generate",
    epilog=examples(
        "golden generate handbook --to golden.yaml",
        "golden generate handbook --to new.yaml --model openai:gpt-4o-mini",
    ),
)
@required_corpus
@to_file
@click.option(
    "--questions",
    type=click.IntRange(1, 5000),
    default=100,
    show_default=True,
    help="How many at most.",
)
@click.option("--model", type=TEXT, help="A chat model that writes them, as openai:NAME.")
@click.option("--base-url", type=TEXT, help="Another server that speaks OpenAI's protocol.")
@click.option("--api-key-env", type=TEXT, help="The variable that holds its key.")
@click.option("--max-cost", callback=_usd, metavar="USD", help="Stop before more is spent.")
@replace_option
def generate_golden_set(
    *,
    corpus: str,
    to: Path,
    questions: int,
    model: str | None,
    base_url: str | None,
    api_key_env: str | None,
    max_cost: Decimal | None,
    replace: bool,
) -> None:
    """Make test questions from the documents of CORPUS.

    Without --model offline, of headings and of the rarest sentences. With --model, passages are
    sent to that model, which asks a question and quotes the sentence that answers it; what it says
    is held against the document, asked for once more where it cannot be, and else left out. The
    cost is kept in the table `costs`.
    """
    from rag_assets import printing, showing_labels
    from rag_assets.labelling import ChatModel

    labelling, run = _labelling(corpus), _command_run("golden")
    if model is None:
        if base_url or api_key_env or max_cost is not None:
            raise click.UsageError("--base-url, --api-key-env and --max-cost go with --model.")
        made = labelling.generate_offline(to, questions, replace=replace)
        click.echo(f"Wrote {_counted(len(made.questions), 'question')} to {to}.")
        return
    prices = Settings.from_environment().prices
    how = ChatModel(model, base_url, api_key_env, prices, max_cost)
    with printing.Doing(f"{model} writes questions") as doing:
        found = labelling.generate(
            to,
            questions,
            how,
            run,
            replace=replace,
            told=lambda done: doing.now(f"{model} writes questions: {done} of {questions}"),
        )
    showing_labels.generated(found, to, questions)
    if found.failure is not None:
        raise found.failure
    if not found.questions:
        raise SystemExit(FAILED)


@golden.command(name="mine", epilog=examples("golden mine handbook --to mined.yaml"))
@required_corpus
@to_file
@since_option
@replace_option
@json_option
def mine_golden_set(
    *, corpus: str, to: Path, since: datetime | None, replace: bool, as_json: bool
) -> None:
    """Make test questions of what people have said of passages.

    A question with helpful passages becomes a labelled one. Where people disagree, or the passage
    stands no longer, nothing is made. Questions that nothing helped with are listed: whether the
    corpus has an answer is for a person to say.
    """
    from rag_assets import showing_labels

    found = _labelling(corpus).mine(to, since=since, replace=replace)
    _print_json(asdict(found)) if as_json else showing_labels.mined(found, to)


@main.group(
    epilog=examples(
        'feedback give notes "Who sees it?" --helpful --passage acl.md#2',
        "feedback list notes",
    )
)
def feedback() -> None:
    """What people say of answers, and of passages."""


@feedback.command(
    name="give",
    epilog=examples(
        'feedback give notes "Who sees it?" --helpful --passage acl.md#2',
        'feedback give notes "Who sees it?" --unhelpful --as sales',
    ),
)
@required_corpus
@click.argument("question", type=TEXT)
@click.option("--helpful/--unhelpful", required=True, help="Whether it helped.")
@click.option(
    "--passage",
    type=TEXT,
    metavar="CHUNK",
    help="Which passage, as `search` shows it: DOC_ID#NUMBER. [default: the answer as a whole]",
)
@generation_option
@as_option
def give_feedback(
    *,
    corpus: str,
    question: str,
    helpful: bool,
    passage: str | None,
    generation: int | None,
    principals: tuple[str, ...],
) -> None:
    """Say whether a passage helped with QUESTION.

    Its words are kept with the question, for `golden mine`. Nobody can speak of a passage that they
    may not see.
    """
    from rag_assets.answering.asking import asked

    settings, publisher = Settings.from_environment(), _publisher(corpus)
    stores = publisher.stores
    number = stores.generations.published(corpus).generation if generation is None else generation
    given = stores.feedback.give(
        publisher.living_one(number),
        asked(question),
        helpful=helpful,
        passage=_chunk(passage, "--passage") if passage else None,
        principals=tuple(principals or settings.principals),
    )
    about = (
        f"{given.doc_id}, characters {given.start} to {given.end}" if given.doc_id else "an answer"
    )
    click.echo(f"Kept: {'helpful' if helpful else 'unhelpful'}, of {about}.")


@feedback.command(name="list", epilog=examples("feedback list", "feedback list handbook --json"))
@optional_corpus
@since_option
@json_option
def list_feedback(*, corpus: str | None, since: datetime | None, as_json: bool) -> None:
    """Show what people have said, with the words of passages.

    It needs the writer's rights, and asks for no permission to see the documents.
    """
    from rag_assets import showing_labels

    stores, name = _stored(corpus)
    found = stores.feedback.given(name, since=since)
    _print_json([asdict(each) for each in found]) if as_json else showing_labels.feedback(
        found, name
    )


# --- the database ------------------------------------------------------------------------------


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version.

    `up` does it too.
    """
    from rag_assets import wiring
    from rag_assets.adapters.postgres import migrations

    applied = migrations.migrate(wiring.database_urls(Settings.from_environment()))
    for migration in applied:
        click.echo(f"Applied migration {migration.version} ({migration.name}).")
    if not applied:
        click.echo("The schema is current; there was nothing to apply.")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(*, file: Path) -> None:
    """Write everything in the database to FILE."""
    from rag_assets import installation

    size = installation.back_up(Settings.from_environment(), file.resolve())
    click.echo(f"Wrote {file} ({size / 1e6:.1f} MB).")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the corpora that the database holds.")
def restore(*, file: Path, replace: bool) -> None:
    """Bring the database back to what FILE holds.

    All of it, or nothing: if it fails, the database is as it was.
    """
    from rag_assets import installation

    installation.restore(Settings.from_environment(), file.resolve(), replace=replace)
    click.echo(f"Restored {file}.")


# --- what commands share -----------------------------------------------------------------------


def _publisher(corpus: str | None) -> "Publisher":
    from rag_assets import installation, wiring
    from rag_assets.publishing import Publisher

    settings = Settings.from_environment()
    urls = wiring.database_urls(settings)
    return Publisher(installation.corpus_named(settings, corpus), urls, settings.home)


def _labelling(corpus: str | None) -> "Labelling":
    from rag_assets.labelling import Labelling

    return Labelling(_publisher(corpus))


def _forecaster(corpus: str | None) -> tuple["Corpus", "Forecaster"]:
    from rag_assets import installation, wiring
    from rag_assets.adapters.prices import Prices
    from rag_assets.forecasting import Forecaster

    settings = Settings.from_environment()
    installation.require_database(settings)
    chosen = installation.corpus_named(settings, corpus)
    urls = wiring.database_urls(settings)
    return chosen, Forecaster(chosen, urls, Prices.read(settings.prices))


def _source(corpus: "Corpus") -> "Source":
    """A bucket is read with the client of Dagster's own S3 resource, which is slow to load."""
    from rag_assets import wiring
    from rag_assets.model import S3Settings

    if isinstance(corpus.source, S3Settings):
        from rag_assets.resources import Platform

        return Platform().source(corpus)
    return wiring.source_of(corpus)


def _planned(found: "Forecast") -> dict[str, Any]:
    """A plan for scripts: with its totals, and those of each index."""
    totals = ("to_embed", "tokens", "tokens_at_most", "usd", "usd_at_most", "seconds", "nothing")
    indexes = [
        asdict(each) | {"usd": each.usd, "usd_at_most": each.usd_at_most} for each in found.indexes
    ]
    return asdict(found) | {"indexes": indexes} | {each: getattr(found, each) for each in totals}


def _stores() -> "Stores":
    from rag_assets import installation, wiring

    settings = Settings.from_environment()
    installation.require_database(settings)
    return wiring.stores(wiring.database_urls(settings))


def _chunk(text: str, option: str) -> tuple[str, int]:
    """Document and number of a chunk, as `search` shows it."""
    doc_id, _, number = text.rpartition("#")
    if not doc_id or not (number.isascii() and number.isdecimal()):
        raise click.BadParameter(
            f"{text!r}: write it as `search` shows it, as in how-to/roll-back.md#2.",
            param_hint=option,
        )
    return doc_id, int(number)


def _stored(corpus: str | None) -> tuple["Stores", str]:
    """The stores, and a corpus that the database holds: without a name, the only one."""
    from rag_assets import installation

    stores = _stores()
    return stores, installation.stored_corpus(stores, corpus)


def _chosen(doc_ids: tuple[str, ...], *, every: bool) -> tuple[str, ...] | None:
    """None for all of them: saying neither is as likely a slip as saying both."""
    if every == bool(doc_ids):
        raise click.UsageError("Name documents, or choose all of them with --all.")
    return None if every else doc_ids


def _refuse_missing(corpus: str, doc_ids: Sequence[str], found: Sequence[str]) -> None:
    missing = [doc_id for doc_id in doc_ids if doc_id not in found]
    if missing:
        raise UnknownDocumentError(
            f"{corpus} has no dead letter of {', '.join(missing)}. `rag-assets dead-letters list"
            f" {corpus}` shows those it has."
        )


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _reading(
    corpus: str | None, principals: tuple[str, ...], generation: int | None
) -> dict[str, Any]:
    """What searching and answering need: the reader's index, and who asks."""
    from rag_assets import wiring

    settings = Settings.from_environment()
    urls = wiring.database_urls(settings)
    index = wiring.search_index(urls)
    pinned = None
    if generation is not None:
        publisher = _publisher(corpus or index.published(None).corpus)
        pinned = publisher.pinned(publisher.living_one(generation), index)
    return {
        "index": pinned or index,
        "embedder_for": wiring.embedder_for,
        "corpus": corpus,
        "principals": principals or settings.principals,
    }


def _command_run(command: str) -> "RunIdentity":
    from rag_assets.model import RunIdentity

    return RunIdentity(f"{command}-{uuid.uuid4().hex[:12]}", __version__)


def _buckets(text: str | None, corpus: "Corpus") -> list[int]:
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


def _print_json(value: Any) -> None:
    """In ASCII where the output has nothing more, so that no letter is lost."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    click.echo(
        json.dumps(value, indent=2, ensure_ascii=not encoding.startswith("utf"), default=_as_text)
    )


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _fail(ctx: click.Context, message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    ctx.exit(FAILED)


if __name__ == "__main__":
    main(prog_name="rag-assets")

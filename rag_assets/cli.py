"""The commands of `rag-assets`. What a command does not need, it does not import."""

import json
import os
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets import __version__
from rag_assets.errors import NotReadyError, RagAssetsError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.model import Corpus, RunIdentity
    from rag_assets.publishing import Publisher

FAILED, REFUSED = 1, 3

json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON, for scripts.")
corpus_option = click.option(
    "--corpus", help="Which corpus; not needed where only one is published."
)
as_option = click.option(
    "--as",
    "principals",
    multiple=True,
    metavar="PRINCIPAL",
    help="Ask as this user or group (several times for several). [default: RAG_ASSETS_PRINCIPALS]",
)
generation_option = click.option(
    "--generation", type=int, help="Another generation than the published one."
)


class Commands(click.Group):
    """Prints an error that a person can mend as one message."""

    def invoke(self, ctx: click.Context) -> None:
        try:
            super().invoke(ctx)
        except RagAssetsError as error:
            _fail(ctx, str(error))
        except BrokenPipeError:  # whoever read our output has gone; there is nothing to say
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(FAILED)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(ctx, f"{where}{error.strerror or error}. Mend this, and run it again.")

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rag-assets")
def main() -> None:
    """Keeps retrieval indexes right: equal to their sources, evaluated, published, cited.

    Exit codes: 0 done, 1 a problem was found, 2 wrong usage, 3 the question was refused.
    """


# --- services ----------------------------------------------------------------------------------


@main.command()
@click.option("--database-only", is_flag=True, help="Leave the Dagster UI and daemon out.")
def up(*, database_only: bool) -> None:
    """Start the database, the Dagster UI and its daemon; they go on in the background."""
    from rag_assets import installation
    from rag_assets.adapters.postgres.connections import where

    settings = Settings.from_environment()
    urls = installation.start_database(settings, _tell)
    click.echo(f"The database is up: {where(urls.reader)}")
    if not database_only:
        dagster = installation.dagster_of(settings)
        _tell("starting the Dagster UI and daemon")
        dagster.start()
        click.echo(f"The Dagster UI is up: {dagster.status().url}")
        click.echo("`rag-assets down` (or `make down`) stops all of it.")


@main.command()
def down() -> None:
    """Stop what `up` started, and nothing else."""
    from rag_assets import installation

    stopped = installation.stop_everything(Settings.from_environment())
    click.echo(f"Stopped {' and '.join(stopped)}." if stopped else "Nothing was running.")


@main.command()
@json_option
def status(*, as_json: bool) -> None:
    """Say what runs and what each corpus holds. Exit code 1 if the database does not answer."""
    from rag_assets import installation, printing

    found = installation.standing(Settings.from_environment())
    _print_json(asdict(found)) if as_json else printing.standing(found)
    if not found.database_running:
        raise SystemExit(FAILED)


@main.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Examine the installation and say how to mend what is wrong. Exit code 1 if anything is."""
    from rag_assets import installation, printing

    findings = installation.examined(Settings.from_environment())
    _print_json([asdict(each) for each in findings]) if as_json else printing.findings(findings)
    if not all(each.ok for each in findings):
        raise SystemExit(FAILED)


# --- corpora -----------------------------------------------------------------------------------


@main.command()
@json_option
def check(*, as_json: bool) -> None:
    """Validate every defs.yaml without starting anything. Exit code 1 if one is wrong."""
    from rag_assets.corpus_file import check_defs, read_corpora

    defs = Settings.from_environment().defs
    problems = check_defs(defs)
    if as_json:
        _print_json([asdict(problem) for problem in problems])
    elif problems:
        for problem in problems:
            click.echo(str(problem))
    else:
        for corpus in read_corpora(defs):
            click.echo(f"{corpus.name}: fine ({corpus.buckets} buckets, {corpus.embedder})")
    if problems:
        raise SystemExit(FAILED)


@main.command()
@click.argument("corpus", required=False)
@click.option("--buckets", metavar="FIRST-LAST", help="Only these buckets, as in 03 or 00-07.")
@json_option
def materialize(*, corpus: str | None, buckets: str | None, as_json: bool) -> None:
    """Bring CORPUS up to date through Dagster, from its source to its readers."""
    from rag_assets import installation, wiring

    settings = Settings.from_environment()
    wiring.database_urls(settings)
    chosen = installation.corpus_named(settings, corpus)
    wanted = _buckets(buckets, chosen)
    _tell(f"materializing {chosen.name}, buckets {wanted[0]} to {wanted[-1]}")
    from rag_assets import materializing, printing

    with materializing.instance_of(installation.dagster_of(settings).prepared_home()) as instance:
        report = materializing.materialize(
            chosen,
            instance=instance,
            buckets=wanted,
            on_asset=(lambda _: None) if as_json else printing.asset_done,
        )
    _print_json(asdict(report)) if as_json else printing.run_report(report, chosen.name)
    if report.failure is not None:
        raise RagAssetsError(f"The run {report.run_id} failed. {report.failure}")


@main.command()
@click.argument("corpus")
@click.option("--generation", type=int, help="Which one. [default: the newest candidate]")
@click.option("--force", metavar="REASON", help="Publish it though the gate refuses; recorded.")
def publish(*, corpus: str, generation: int | None, force: str | None) -> None:
    """Let readers see a generation, if the gate accepts it."""
    from rag_assets import printing

    publisher, run = _publisher(corpus), _command_run("publish")
    chosen = publisher.chosen(generation)
    verdict = publisher.verdict(chosen, publisher.golden_set(), run)
    printing.verdict(verdict)
    if not verdict.accepted and not force:
        raise NotReadyError(
            f"Generation {chosen.number} is not published; what is published stays."
            " `--force REASON` overrules the gate."
        )
    reason = f"forced: {force}" if force else " ".join(verdict.reasons)
    publisher.publish(chosen, run=run, reason=reason)
    click.echo(f"Generation {chosen.number} of {corpus} is published.")


@main.command()
@click.argument("corpus")
def rollback(*, corpus: str) -> None:
    """Publish the generation again that was published before this one."""
    target = _publisher(corpus).roll_back(run=_command_run("rollback"))
    click.echo(f"Generation {target.number} of {corpus} is published again.")


@main.command()
@click.argument("corpus")
def rebucket(*, corpus: str) -> None:
    """Move a corpus to the number of buckets in its defs.yaml; embeds nothing."""
    publisher = _publisher(corpus)
    buckets = publisher.corpus.buckets
    moved = publisher.stores.corpora.rebucket(
        corpus, buckets, run_id=_command_run("rebucket").run_id
    )
    click.echo(f"{moved} documents of {corpus} are now in {buckets} buckets.")


@main.command()
@click.argument("corpus")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(*, corpus: str, yes: bool) -> None:
    """Take a corpus out of the database, with all that only it used. Its source is not touched."""
    from rag_assets import wiring

    stores = wiring.stores(wiring.database_urls(Settings.from_environment()))
    if not yes:
        click.confirm(f"Remove corpus {corpus} and its index from the database?", abort=True)
    gone = stores.corpora.remove(corpus)
    click.echo(
        f"Removed {corpus}: {gone.documents} documents, {gone.generations} generations,"
        f" {gone.texts} texts and {gone.embeddings} embeddings that nothing else used."
    )


# --- questions ---------------------------------------------------------------------------------


@main.command()
@click.argument("question")
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
    """Answer QUESTION in the words of the corpus, with citations. Exit code 3 if it is refused."""
    from rag_assets import printing
    from rag_assets.answering import pipeline

    found = pipeline.answer(question, **_reading(corpus, principals, generation))
    _print_json(_plain(found) | {"refused": found.refused, "text": found.text}) if (
        as_json
    ) else printing.answer(found)
    if found.refused:
        raise SystemExit(REFUSED)


@main.command()
@click.argument("query")
@corpus_option
@as_option
@generation_option
@click.option("--limit", type=click.IntRange(1, 100), default=10, show_default=True)
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
    _print_json(_plain(found)) if as_json else printing.search_result(found)


@main.command(name="eval")
@click.argument("corpus", required=False)
@generation_option
@click.option("--compare", type=int, metavar="N", help="Hold it against generation N.")
@json_option
def evaluate(
    *, corpus: str | None, generation: int | None, compare: int | None, as_json: bool
) -> None:
    """Score a generation on the golden set. Exit code 1 if the gate would refuse it."""
    from rag_assets import printing
    from rag_assets.evaluation.comparing import judged

    publisher, run = _publisher(corpus), _command_run("eval")
    golden_set = publisher.golden_set()
    after = publisher.scores(publisher.standing_one(generation), golden_set, run)
    before = publisher.scores(publisher.standing_one(compare), golden_set, run) if compare else None
    verdict = judged(after, before=before, settings=publisher.corpus.evaluation)
    if as_json:
        _print_json({"scores": asdict(after), "means": after.means, "verdict": asdict(verdict)})
    else:
        printing.scores(after, publisher.corpus.name)
        printing.comparison(verdict.differences)
        printing.verdict(verdict)
    if not verdict.accepted:
        raise SystemExit(FAILED)


# --- the database ------------------------------------------------------------------------------


@main.command()
def migrate() -> None:
    """Bring the database to the schema of this version. `up` does it too."""
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

    size = installation.back_up(Settings.from_environment(), file.absolute())
    click.echo(f"Wrote {file} ({size / 1e6:.1f} MB).")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace the corpora that the database holds.")
def restore(*, file: Path, replace: bool) -> None:
    """Bring the database back to what FILE holds: all of it, or nothing."""
    from rag_assets import installation

    installation.restore(Settings.from_environment(), file.absolute(), replace=replace)
    click.echo(f"Restored {file}.")


# --- what commands share -----------------------------------------------------------------------


def _publisher(corpus: str | None) -> "Publisher":
    from rag_assets import installation, wiring
    from rag_assets.publishing import Publisher

    settings = Settings.from_environment()
    urls = wiring.database_urls(settings)
    return Publisher(installation.corpus_named(settings, corpus), urls)


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
    first, _, last = text.partition("-")
    last = last or first
    if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < corpus.buckets):
        raise click.BadParameter(
            f"{text!r}: write one bucket or a range, from 0 to {corpus.buckets - 1}, as in 00-07.",
            param_hint="--buckets",
        )
    return list(range(int(first), int(last) + 1))


def _plain(found: Any) -> dict[str, Any]:
    return asdict(found)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_as_text))


def _as_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _tell(what: str) -> None:
    """Progress goes to standard error, so that it never mixes with a result."""
    click.echo(f"… {what}", err=True)


def _fail(ctx: click.Context, message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    ctx.exit(FAILED)


if __name__ == "__main__":
    main(prog_name="rag-assets")

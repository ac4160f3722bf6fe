"""The commands of `rag-assets`. What a command does not need, it does not import."""

import io
import json
import logging
import os
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rag_assets import __version__
from rag_assets.errors import NotReadyError, RagAssetsError
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.model import Corpus, RunIdentity
    from rag_assets.publishing import Publisher

FAILED, REFUSED, INTERRUPTED = 1, 3, 130


class Text(click.types.StringParamType):
    """Words of a person; bytes that the locale could not make sense of are read as UTF-8."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(value).encode("utf-8", "surrogateescape").decode("utf-8")
        except UnicodeError:
            self.fail("this is not UTF-8. Set your terminal to UTF-8, and try again.", param, ctx)


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
    """Start the database and Dagster; they go on in the background.

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
    """Examine the installation; say how to mend what is wrong.

    Exit code 1 if anything is.
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
    """Bring CORPUS up to date, from its source to its readers.

    One run of Dagster, which its UI shows like any other. It costs what has changed: nothing is
    read, cut or embedded twice. CORPUS need not be named where there is only one.
    """
    from rag_assets import installation, printing

    settings = Settings.from_environment()
    installation.require_database(settings)
    chosen = installation.corpus_named(settings, corpus)
    wanted = _buckets(buckets, chosen)
    home = installation.dagster_of(settings).prepared_home()
    with printing.Doing(f"materializing {chosen.name}") as doing:
        from rag_assets import materializing  # loads Dagster, which takes a while

        with materializing.instance_of(home) as instance:
            report = materializing.materialize(
                chosen,
                instance=instance,
                buckets=wanted,
                on_start=lambda asset: doing.now(f"materializing {chosen.name}: {asset}"),
                on_asset=doing.aside(printing.asset_done) if not as_json else lambda _: None,
            )
    _print_json(asdict(report)) if as_json else printing.run_report(report, chosen.name)
    if report.interrupted:
        raise KeyboardInterrupt
    if report.failure is not None:
        raise RagAssetsError(f"{report.failure}\n(This was Dagster run {report.run_id}.)")


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
    from rag_assets import printing
    from rag_assets.model import GenerationState

    publisher, run = _publisher(corpus), _command_run("publish")
    chosen = publisher.chosen(generation)
    if chosen.state is GenerationState.PUBLISHED:
        click.echo(f"Generation {chosen.number} of {corpus} is published already.")
        return
    with printing.Doing(f"scoring generation {chosen.number} of {corpus}"):
        verdict = publisher.verdict(chosen, publisher.golden_set(), run)
    printing.verdict(verdict)
    if not verdict.accepted and not force:
        raise NotReadyError(
            f"Generation {chosen.number} of {corpus} is not published; what is published stays."
            " `--force REASON` overrules the gate."
        )
    reason = f"forced: {force}" if force else " ".join(verdict.reasons)
    publisher.publish(chosen, run=run, reason=reason)
    click.echo(f"Generation {chosen.number} of {corpus} is published.")


@main.command()
@required_corpus
def rollback(*, corpus: str) -> None:
    """Publish the generation again that was published before."""
    target = _publisher(corpus).roll_back(run=_command_run("rollback"))
    click.echo(f"Generation {target.number} of {corpus} is published again.")


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
    """Take CORPUS out of the database; its source is not touched.

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
    """Answer QUESTION in the words of the corpus, with citations.

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
    one that --compare names. Exit code 1 if the gate would refuse it.
    """
    from rag_assets import printing
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
    if as_json:
        found = {"scores": asdict(after), "means": after.means, "verdict": asdict(verdict)}
        _print_json(found | {"stale_labels": stale})
    else:
        printing.scores(after, publisher.corpus.name)
        printing.stale_labels(stale)
        printing.comparison(verdict.differences)
        printing.verdict(verdict)
    if not verdict.accepted:
        raise SystemExit(FAILED)


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

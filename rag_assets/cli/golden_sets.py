"""Labelled questions, and what people said of answers."""

from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import click

from rag_assets.cli.finding import chunk_of, command_run, labelling_of, publisher_of, stored_corpus
from rag_assets.cli.shape import (
    FAILED,
    TEXT,
    as_option,
    counted,
    dollars,
    examples,
    generation_option,
    json_option,
    main,
    optional_corpus,
    print_json,
    replace_option,
    required_corpus,
    since_option,
    to_file,
)
from rag_assets.settings import Settings


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
    questions can show. The name of a corpus goes before a path: write ./NAME for a folder that is
    called like one. Exit code 1 if a label or a question is to be mended.
    """
    from rag_assets import printing
    from rag_assets.evaluation.golden_set import read_golden_set
    from rag_assets.printing import labels

    path = Path(which) if which and (corpus is not None or _is_path(which)) else None
    labelling = labelling_of(corpus if path else which)
    golden_set = read_golden_set(path) if path else labelling.publisher.golden_set()
    with printing.Doing(f"checking {golden_set.name}"):
        found = labelling.check(golden_set)
    print_json(asdict(found)) if as_json else labels.checked(found)
    if not found.sound:
        raise SystemExit(FAILED)


def _is_path(which: str) -> bool:
    """A corpus is meant where there is one of that name, whatever else is called so."""
    from rag_assets import installation

    if installation.declares(Settings.from_environment(), which):
        return False
    return Path(which).exists() or Path(which).suffix != "" or "/" in which


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
    done = labelling_of(corpus).export(to, beir=beir, documents=documents, replace=replace)
    click.echo(f"Wrote {counted(len(done.questions), 'question')} of {done.name} to {to}.")


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
    done = labelling_of(corpus).import_(path, to, replace=replace)
    click.echo(f"Wrote {counted(len(done.questions), 'question')} to {to}.")


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
@click.option("--max-cost", callback=dollars, metavar="USD", help="Stop before more is spent.")
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
    cost is kept in the table `costs`. Where it is interrupted, what was written stays in FILE.part.
    """
    from rag_assets import printing
    from rag_assets.labelling import ChatModel, part_of
    from rag_assets.printing import labels

    labelling, run = labelling_of(corpus), command_run("golden")
    if model is None:
        if base_url or api_key_env or max_cost is not None:
            raise click.UsageError("--base-url, --api-key-env and --max-cost go with --model.")
        made = labelling.generate_offline(to, questions, replace=replace)
        click.echo(f"Wrote {counted(len(made.questions), 'question')} to {to}.")
        return
    prices = Settings.from_environment().prices
    how = ChatModel(model, base_url, api_key_env, prices, max_cost)
    try:
        with printing.Doing(f"{model} writes questions") as doing:
            found = labelling.generate(
                to,
                questions,
                how,
                run,
                replace=replace,
                told=lambda done: doing.now(f"{model} writes questions: {done} of {questions}"),
            )
    finally:
        if part_of(to).exists():
            click.echo(f"What was written is kept in {part_of(to)}.", err=True)
    labels.generated(found, to, questions)
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
    corpus has an answer is for a person to say. Exit code 1 if there is no labelled question, for
    then nothing is written.
    """
    from rag_assets.printing import labels

    found = labelling_of(corpus).mine(to, since=since, replace=replace)
    print_json(asdict(found)) if as_json else labels.mined(found, to)
    if not found.questions:
        raise SystemExit(FAILED)


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

    settings, publisher = Settings.from_environment(), publisher_of(corpus)
    stores = publisher.stores
    number = stores.generations.published(corpus).generation if generation is None else generation
    given = stores.feedback.give(
        publisher.living_one(number),
        asked(question),
        helpful=helpful,
        passage=chunk_of(passage, "--passage") if passage else None,
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
    from rag_assets.printing import labels

    stores, name = stored_corpus(corpus)
    found = stores.feedback.given(name, since=since)
    print_json([asdict(each) for each in found]) if as_json else labels.feedback(found, name)

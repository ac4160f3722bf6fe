"""Questions to the published index."""

from dataclasses import asdict

import click

from rag_assets.cli.finding import reading
from rag_assets.cli.shape import (
    REFUSED,
    TEXT,
    as_option,
    corpus_option,
    examples,
    generation_option,
    json_option,
    main,
    print_json,
)


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

    found = pipeline.answer(question, **reading(corpus, principals, generation))
    print_json(asdict(found) | {"refused": found.refused, "text": found.text}) if (
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

    found = pipeline.search(query, limit=limit, **reading(corpus, principals, generation))
    print_json(asdict(found)) if as_json else printing.search_result(found)

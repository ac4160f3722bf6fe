"""Publishing, going back, and comparing one index with another."""

from dataclasses import asdict

import click

from rag_assets.cli.finding import command_run, publisher_of, stored_corpus
from rag_assets.cli.shape import (
    FAILED,
    TEXT,
    examples,
    generation_option,
    json_option,
    main,
    optional_corpus,
    print_json,
    required_corpus,
)
from rag_assets.errors import NotReadyError


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
    from rag_assets.printing import comparisons

    publisher, run = publisher_of(corpus), command_run("publish")
    chosen = publisher.chosen(generation, forced=bool(force))
    if chosen.state is GenerationState.PUBLISHED:
        click.echo(f"Generation {chosen.number} of {corpus} is published already.")
        return
    if force:
        publisher.publish(chosen, run=run, reason=f"forced: {force}", forced=True)
    else:
        with printing.Doing(f"scoring generation {chosen.number} of {corpus}"):
            verdict = publisher.verdict(chosen, publisher.golden_set(), run, anew=True)
        comparisons.verdict(verdict)
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
    target = publisher_of(corpus).roll_back(run=command_run("rollback"))
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
    generations = publisher_of(corpus).stores.generations
    ended = generations.cancel(corpus, generation, reason="cancelled by hand")
    click.echo(f"Generation {ended.number} of {corpus} is cancelled; what is published stays.")


@main.command()
@required_corpus
def rebuild(*, corpus: str) -> None:
    """Build the index of CORPUS again with the same settings.

    Beside the published one, which stays until the new one is accepted. Nothing is embedded that
    was embedded before. The daemon builds it, or `rag-assets materialize` does at once.
    """
    from rag_assets import wiring

    publisher = publisher_of(corpus)
    recipe = wiring.recipe_of(publisher.corpus)
    begun = publisher.stores.generations.rebuild(corpus, recipe)
    click.echo(
        f"Generation {begun.number} of {corpus} is to be built: by the daemon, or at once by"
        f" `rag-assets materialize {corpus}`."
    )


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
    from rag_assets import printing
    from rag_assets.evaluation.comparing import judged
    from rag_assets.printing import comparisons

    publisher, run = publisher_of(corpus), command_run("eval")
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
        print_json(
            found | {"compared_with": compared, "questions": questions, "stale_labels": stale}
        )
    else:
        printing.scores(after, publisher.corpus.name)
        printing.stale_labels(stale)
        if other:
            comparisons.comparison(
                verdict.differences, gate=gate, before=other.number, after=chosen.number
            )
            asked = {each.question_id: each.question for each in changes[: comparisons.SHOWN]}
            first = publisher.found_first(other, chosen, asked)
            comparisons.questions(changes, gate=gate, first=first)
        comparisons.verdict(verdict)
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
    from rag_assets.printing import comparisons

    stores, name = stored_corpus(corpus)
    publications = stores.generations.publications(name)
    generations = stores.generations.history(name)
    decisions = stores.evaluations.decisions(name)
    if as_json:
        print_json(
            {
                "publications": [asdict(each) for each in publications],
                "generations": [asdict(each) for each in generations],
                "gate_verdicts": [asdict(each) for each in decisions],
            }
        )
    else:
        comparisons.history(name, publications, generations, decisions)


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
    from rag_assets import printing
    from rag_assets.printing import comparisons

    publisher = publisher_of(corpus)
    with printing.Doing(f"comparing generations {before} and {after} of {corpus}"):
        found = publisher.diff(before, after)
    if as_json:
        print_json(asdict(found))
    else:
        comparisons.diff(found.served, before=before, after=after, recipe=found.recipe)
        gate = publisher.corpus.evaluation.gate
        comparisons.comparison(found.differences, gate=gate, before=before, after=after)
        comparisons.questions(found.questions, gate=gate, first={})
        if not found.differences:
            command = f"rag-assets eval {corpus} --generation {after} --compare {before}"
            click.echo(f"scores     `{command}` measures them.")

"""What needs a person: failures, quarantine, deletions, damage, erasure, alerts."""

from dataclasses import asdict

import click

from rag_assets.cli.finding import (
    chosen_documents,
    command_run,
    open_stores,
    publisher_of,
    refuse_missing,
    stored_corpus,
)
from rag_assets.cli.shape import (
    FAILED,
    TEXT,
    counted,
    every_option,
    examples,
    json_option,
    main,
    optional_corpus,
    print_json,
    required_corpus,
    several_documents,
)
from rag_assets.errors import UnknownDocumentError
from rag_assets.settings import Settings


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

    stores, name = stored_corpus(corpus)
    letters = stores.documents.dead_letters(name)
    print_json([asdict(each) for each in letters]) if as_json else printing.dead_letters(
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

    stores, name = stored_corpus(corpus)
    letters = stores.documents.dead_letters(name, doc_id=doc_id)
    refuse_missing(name, [doc_id], [letter.doc_id for letter in letters])
    print_json([asdict(each) for each in letters]) if as_json else printing.dead_letter(letters)


@dead_letters.command(name="retry", epilog=examples("dead-letters retry handbook a.md b.md"))
@required_corpus
@several_documents
@every_option
def retry_dead_letters(*, corpus: str, doc_ids: tuple[str, ...], every: bool) -> None:
    """Try documents again in the next run, whatever failed before.

    By itself, a document is tried again when it changes at its source, when the code that failed
    has another version, and, where it could not be read, after a growing while.
    """
    chosen = chosen_documents(doc_ids, every=every)
    stores, name = stored_corpus(corpus)
    tried = stores.documents.retry_dead_letters(name, chosen, command_run("dead-letters-retry"))
    click.echo(
        f"{counted(len(tried), 'document')} of {name} will be tried again by the next run:"
        f" `rag-assets materialize {name}`."
    )
    refuse_missing(name, doc_ids, tried)


@dead_letters.command(name="drop", epilog=examples("dead-letters drop handbook a.md"))
@required_corpus
@several_documents
@every_option
def drop_dead_letters(*, corpus: str, doc_ids: tuple[str, ...], every: bool) -> None:
    """Show dead letters no more.

    Their documents stay out of the index until they change at their source, or until
    `dead-letters retry` names them.
    """
    chosen = chosen_documents(doc_ids, every=every)
    stores, name = stored_corpus(corpus)
    dropped = stores.documents.drop_dead_letters(name, chosen, command_run("dead-letters-drop"))
    click.echo(f"Dropped the dead letters of {counted(len(dropped), 'document')} of {name}.")
    refuse_missing(name, doc_ids, dropped)


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

    stores, name = stored_corpus(corpus)
    found = stores.quality.verdicts(name, quarantined=True)
    print_json([asdict(each) for each in found]) if as_json else printing.quarantine(found, name)


@quarantine.command(name="release", epilog=examples("quarantine release handbook minutes/2019.md"))
@required_corpus
@click.argument("doc_id", type=TEXT)
def release_from_quarantine(*, corpus: str, doc_id: str) -> None:
    """Let the present content of a document through, whatever rule it breaks.

    The next run serves it. When its content changes, it is judged like any other. Exit code 1 if
    the document is not in quarantine.
    """
    stores, name = stored_corpus(corpus)
    rules = stores.quality.release(name, doc_id, command_run("quarantine-release"))
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

    stores, name = stored_corpus(corpus)
    printing.withheld(stores.documents.withheld(name), name)
    stores.documents.approve_deletions(name, up_to=up_to)
    if up_to:
        click.echo(
            f"The next run of {name} may delete up to {counted(up_to, 'document')}. Run"
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

    stores = open_stores()
    names = installation.stored_corpora(stores)
    if corpus:
        names = [installation.stored_corpus(stores, corpus)]
    found = []
    for name in names:
        with printing.Doing(f"verifying {name}"):
            verified = installation.verified(stores, name, command_run("verify"), repair=repair)
        found.append(verified)
        if not as_json:
            printing.verified(verified, repaired=repair)
    if as_json:
        print_json([asdict(each) for each in found])
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

    publisher = publisher_of(corpus)
    chosen = publisher.newest() if generation is None else publisher.living_one(generation)
    with printing.Doing(f"judging {publisher.corpus.name}"):
        found = publisher.expected(chosen, command_run("expect"))
    if as_json:
        print_json([asdict(each) for each in found])
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

    stores = open_stores()
    done = []
    for each in installation.corpora_to_keep(Settings.from_environment(), stores, corpus):
        with printing.Doing(f"looking after {each.name}"):
            done.append(installation.upkept(stores, each, rehearsal=dry_run))
        if not as_json:
            printing.upkeep(done[-1], dry_run=dry_run)
    tables = [] if dry_run else stores.collecting.vacuum()
    if as_json:
        print_json({"corpora": [asdict(each) for each in done], "vacuumed": tables})
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

    stores = open_stores()
    if unblock:
        name = installation.stored_corpus(stores, corpus)
        if not stores.erasing.unblock(name, doc_id):
            raise UnknownDocumentError(f"{doc_id} is not blocked in {name}; nothing was changed.")
        click.echo(f"{doc_id} may come back to {name}: the next run takes it if the source has it.")
        return
    name = installation.corpus_with(stores, doc_id, corpus)
    if not yes:
        click.confirm(f"Erase {doc_id} from corpus {name}? It cannot be undone.", abort=True)
    receipt = stores.erasing.erase(name, doc_id, command_run("erase"))
    print_json(asdict(receipt)) if as_json else printing.receipt(receipt)
    if receipt.remaining:
        raise SystemExit(FAILED)


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
    print_json([asdict(each) for each in tried]) if as_json else printing.alerts_tried(tried)
    if not all(each.taken for each in tried):
        raise SystemExit(FAILED)

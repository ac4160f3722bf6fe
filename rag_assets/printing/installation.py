"""What there is, how it stands, and what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path

from rag_assets.corpus_file import Problem
from rag_assets.installation import AlertTried, CorpusStanding, Standing
from rag_assets.model import (
    LIVING,
    MOVING,
    Corpus,
    GenerationState,
    Wait,
    WhyWithheld,
    WithheldDeletion,
)
from rag_assets.operations.doctor import Finding
from rag_assets.operations.freshness import lasting
from rag_assets.printing.shape import NAMED, odd, published, say, table, time_of


def checked(defs: Path, corpora: Sequence[Corpus], problems: Sequence[Problem]) -> None:
    for problem in problems:
        say(str(problem))
    if not problems:
        for corpus in corpora:
            say(f"{corpus.name}: fine ({corpus.buckets} buckets, {corpus.embedder})")
        say((f"read from {defs}", "dim"))


def standing(found: Standing) -> None:
    say(f"home       {found.home}")
    say(f"database   {found.database}")
    say(f"Dagster    {found.dagster_url if found.dagster_running else 'not up'}")
    for corpus in found.corpora:
        _corpus(corpus)


def _corpus(found: CorpusStanding) -> None:
    held = f"{found.documents} documents, {len(found.dead_letters)} dead letters"
    say("\n", (found.corpus, "bold"), f": {held}, {published(found.published_generation)}")
    for letter in found.dead_letters[:NAMED]:
        odd(letter.reason)
    if more := len(found.dead_letters[NAMED:]):
        odd(f"and {more} more: `rag-assets dead-letters list {found.corpus}`")
    if found.quarantined:
        odd(f"in quarantine: {found.quarantined}; see `rag-assets quarantine list {found.corpus}`")
    if waiting := found.documents_waiting:
        odd(f"documents that wait to be served: {waiting}; run `rag-assets materialize`")
    if found.longest_wait is not None and found.longest_wait.cause in MOVING:
        odd(_waits(found.longest_wait, found.waiting))
    if found.source and found.source.error:
        odd(
            f"the source cannot be listed since {time_of(found.source.failing_since)} UTC:"
            f" {found.source.error}"
        )
    if withheld_now := found.withheld_deletions:
        odd(f"deletions that are withheld: {len(withheld_now)}; {_way_out(withheld_now, found)}")
    _builds(found)
    table(
        ("generation", "state", "documents", "chunks", "embedder", "chunker", "index"),
        (
            (
                str(each.generation),
                each.state,
                str(each.documents),
                str(each.chunks),
                each.embedder,
                each.chunker,
                each.index_kind,
            )
            for each in found.generations
        ),
    )


def _builds(found: CorpusStanding) -> None:
    """What is built beside what is read, and what is not built any more."""
    for each in found.generations:
        if each.state == GenerationState.BUILDING and found.published_generation is not None:
            loaded = f"{each.documents} of {found.documents} documents are in it"
            odd(f"generation {each.generation} is being built: {loaded}")
        if each.held and not _has_index(each.fingerprint, found):
            again = f"`rag-assets materialize {found.corpus}` begins it again"
            how = "failed" if each.state == GenerationState.FAILED else "was cancelled"
            odd(f"generation {each.generation} {how}: {each.ended_reason}; {again}")


def _has_index(fingerprint: str, found: CorpusStanding) -> bool:
    """Whether another generation of the same settings lives."""
    return any(
        each.fingerprint == fingerprint and each.state in LIVING for each in found.generations
    )


def _waits(longest: Wait, waiting: int) -> str:
    who = longest.doc_id or ("the corpus" if longest.bucket is None else f"bucket {longest.bucket}")
    others = f"; changes that wait for work: {waiting}" if waiting > 1 else ""
    return f"longest wait: {who}, {lasting(longest.age_s)} ({longest.cause}){others}"


def _way_out(withheld_now: Sequence[WithheldDeletion], found: CorpusStanding) -> str:
    if any(each.reason is WhyWithheld.EMPTY for each in withheld_now):
        return "the source lists nothing; put it back"
    return f"put them back, or see `rag-assets approve-deletions {found.corpus} --help`"


def alerts_tried(tried: Sequence[AlertTried]) -> None:
    for each in tried:
        say(("✓", "good") if each.taken else ("✗", "bad"), f" {each.channel:<12} {each.said}")


def findings(found: Sequence[Finding]) -> None:
    for each in found:
        say(("✓", "good") if each.ok else ("✗", "bad"), f" {each.name:<12} {each.detail}")
        if each.remedy:
            say(f"  {'':<12} {each.remedy}")

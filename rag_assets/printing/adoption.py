"""What commands show of an adoption."""

from collections.abc import Iterator, Mapping

from rag_assets.model import Adopted, AdoptionWish, Corpus
from rag_assets.printing.shape import counted, say


def adopted(found: Adopted, corpus: Corpus, wish: AdoptionWish) -> None:
    """What was taken over and what was not, then what to write into the settings."""
    did = "would be adopted" if wish.rehearsal else "adopted"
    say((found.source, "bold"), f": {counted(found.rows, 'row')} read")
    say(
        "  ",
        ("✓", "good") if found.contents else ("!", "odd"),
        f" {did} for {found.corpus} as {found.name!r}: {counted(found.passages, 'passage')} of"
        f" {counted(found.contents, 'document')}, {counted(found.vectors, 'new vector')}",
    )
    if found.own_passages:
        own = counted(found.own_passages, "passage")
        say(f"    {own} of them that no row has are cut by {found.corpus} itself")
    if found.known:
        say(f"    {counted(found.known, 'row')} that were adopted before")
    for why, number in found.left_out.items():
        say("  ", ("!", "odd"), f" left out: {counted(number, 'row')} {why}")
    for row_id, why in found.examples:
        say(f"      {row_id}: {why}")
    _verified(found, wish)
    if found.contents or found.known:
        _next(found, corpus, wish)


def _verified(found: Adopted, wish: AdoptionWish) -> None:
    if found.worst_cosine is not None:
        texts = counted(found.sampled, "text")
        told = f" {texts} embedded again by {found.declared}: cosine {found.worst_cosine:.4f} at"
        say("  ", ("✓", "good"), told + " worst")
    elif found.contents and not wish.rehearsal:
        say("  ", ("!", "odd"), f" taken on trust: nobody verified that {found.declared} made them")


def _next(found: Adopted, corpus: Corpus, wish: AdoptionWish) -> None:
    if wish.rehearsal or not found.settings:
        return
    say(f"Write into the attributes of {corpus.name} within a day, in place of those there:")
    for name, value in found.settings.items():
        say(f"  {name}: {_flow(value)}")
    for line in _conflicts(found, corpus):
        say("  ", ("!", "odd"), f" {line}")
    say(f"`rag-assets plan {corpus.name}` then says what is left to embed.")


def _flow(value: object) -> str:
    import yaml

    if isinstance(value, str):
        return value
    written = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000)
    return str(written).strip()


def _conflicts(found: Adopted, corpus: Corpus) -> Iterator[str]:
    """What of the corpus's own settings would lead to other vectors than the adopted."""
    theirs = found.settings.get("embedding")
    if not isinstance(theirs, Mapping):
        return
    ours = corpus.embedding
    if ours.base_url and "base_url" not in theirs:
        yield (
            f"base_url must go: {ours.base_url} is another server than that of {found.declared}."
            " If it has made these vectors, write it and the embedder down first, and adopt again."
        )
    if ours.dimensions not in (None, theirs.get("dimensions")):
        width = theirs.get("dimensions")
        now = f"must be {width}" if width else "must go"
        yield f"dimensions {now}: {corpus.name} asks for {ours.dimensions}, the table has others"

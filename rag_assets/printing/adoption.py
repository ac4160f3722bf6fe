"""What commands show of an adoption."""

from rag_assets.model import Adopted, AdoptionWish, Corpus
from rag_assets.printing.shape import say


def adopted(found: Adopted, corpus: Corpus, wish: AdoptionWish) -> None:
    """What was taken over and what was not, then what to write into the settings."""
    did = "would be adopted" if wish.rehearsal else "adopted"
    say((found.source, "bold"), f": {_counted(found.rows, 'row')} read")
    say(
        "  ",
        ("✓", "good") if found.contents else ("!", "odd"),
        f" {did} for {found.corpus} as {found.name!r}: {_counted(found.passages, 'passage')} of"
        f" {_counted(found.contents, 'document')}, {_counted(found.vectors, 'new vector')}",
    )
    if found.own_passages:
        own = _counted(found.own_passages, "passage")
        say(f"    {own} of them that no row has are cut by {found.corpus} itself")
    if found.known:
        say(f"    {_counted(found.known, 'row')} of documents that were adopted or cut before")
    for why, number in found.left_out.items():
        say("  ", ("!", "odd"), f" left out: {_counted(number, 'row')} {why}")
    for row_id, why in found.examples:
        say(f"      {row_id}: {why}")
    _verified(found, wish)
    if found.contents:
        _next(found, corpus, wish)


def _verified(found: Adopted, wish: AdoptionWish) -> None:
    if found.worst_cosine is not None:
        texts = _counted(found.sampled, "text")
        told = f" {texts} embedded again by {found.declared}: cosine {found.worst_cosine:.4f} at"
        say("  ", ("✓", "good"), told + " worst")
    elif found.contents and not wish.rehearsal:
        say("  ", ("!", "odd"), f" taken on trust: nobody verified that {found.declared} made them")


def _next(found: Adopted, corpus: Corpus, wish: AdoptionWish) -> None:
    settings = []
    if corpus.embedder != found.declared:
        settings.append(f"  embedder: {found.declared}")
    if corpus.chunking.adopted != found.name:
        settings.append(f"  chunking: {{adopted: {found.name}}}")
    if wish.rehearsal or not settings:
        return
    say(f"Write into the attributes of {corpus.name} within a day:")
    for line in settings:
        say(line)
    say(f"`rag-assets plan {corpus.name}` then says what is left to embed.")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"

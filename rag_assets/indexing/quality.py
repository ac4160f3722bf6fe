"""The rules of quality: what is judged after each stage, by which limits, and what has changed."""

from collections.abc import Iterable, Mapping, Sequence

from rag_assets.errors import ConfigurationError
from rag_assets.indexing.chunking import MarkdownChunker, is_adopted
from rag_assets.indexing.planning import FEW
from rag_assets.model import (
    RULES,
    ChunkingSettings,
    EmbedderIdentity,
    Finding,
    GenerationSize,
    Judging,
    KnownVerdict,
    QualitySettings,
    QualityStage,
    Recipe,
    VerdictChanges,
)

VERSION = 1
"""Raise it when a rule judges otherwise: everything is judged again then."""
SEVERAL_CHUNKS = 4
"""From so many chunks on, most of them being short or repeated says something."""
FEW_CHARS_SHARE = 0.1
"""A chunk is short with less than this share of the characters that chunks are to have."""
UNIT_NORM = (0.99, 1.01)
ANY_NORM = (1e-6, 1e6)
UNIT_PROVIDERS = {"openai", "wordllama"}
"""Their vectors have the length 1; of others, and of other servers, that is not known."""

ALL_STAGES = tuple(QualityStage)


def judgings_of_parsers(parsers: Iterable[str], settings: QualitySettings) -> list[Judging]:
    """What is judged when documents have been read, by each of these parsers."""
    return [_of_documents(parser, settings) for parser in parsers]


def judgings(
    recipe: Recipe, settings: QualitySettings, stages: Sequence[QualityStage] = ALL_STAGES
) -> list[Judging]:
    """What is judged of the work that goes into one index.

    >>> recipe = Recipe("auto@2", "markdown@1:400-1200", "wordllama:x/document@1", 256, None)
    >>> [each.subject for each in judgings(recipe, QualitySettings())][:2]
    ['auto@2', 'auto@2 markdown@1:400-1200']
    """
    makes = {
        QualityStage.DOCUMENTS: lambda: _of_documents(recipe.parser, settings),
        QualityStage.CHUNKS: lambda: _of_chunks(recipe, settings),
        QualityStage.EMBEDDINGS: lambda: _of_embeddings(recipe, settings),
    }
    return [makes[stage]() for stage in stages]


def _of_documents(parser: str, settings: QualitySettings) -> Judging:
    limits = {
        "min_chars": settings.min_chars,
        "max_garbled": settings.max_garbled,
        "max_copies": settings.max_copies,
    }
    return _judging(QualityStage.DOCUMENTS, [parser], {"parser": parser}, limits, settings)


def _of_chunks(recipe: Recipe, settings: QualitySettings) -> Judging:
    sizes = _sizes(recipe.chunker)
    limits = {
        "max_chars": sizes.max_chars if sizes else None,
        "few_chars": round(sizes.min_chars * FEW_CHARS_SHARE) if sizes else None,
        "several": SEVERAL_CHUNKS,
    }
    made_by = {"parser": recipe.parser, "chunker": recipe.chunker}
    if is_adopted(recipe.chunker):
        limits["overlapping"] = 1  # told only here, so that no other chunks are judged again
    return _judging(QualityStage.CHUNKS, list(made_by.values()), made_by, limits, settings)


def _of_embeddings(recipe: Recipe, settings: QualitySettings) -> Judging:
    least, greatest = _norms(recipe.embedder)
    limits = {
        "dimensions": recipe.dimensions,
        "least_norm": least,
        "greatest_norm": greatest,
    }
    made_by = {"parser": recipe.parser, "chunker": recipe.chunker, "embedder": recipe.embedder}
    return _judging(QualityStage.EMBEDDINGS, list(made_by.values()), made_by, limits, settings)


def _judging(
    stage: QualityStage,
    makers: Sequence[str],
    made_by: dict[str, str],
    limits: Mapping[str, float | int | None],
    settings: QualitySettings,
) -> Judging:
    quarantine = tuple(rule for rule in RULES[stage] if rule in settings.quarantine)
    said = " ".join(f"{name}={limit}" for name, limit in limits.items())
    return Judging(
        stage=stage,
        subject=" ".join(makers),
        rules=f"{stage}@{VERSION} {said} quarantine={','.join(quarantine)}",
        quarantine=quarantine,
        limits={**made_by, **limits},
    )


def _sizes(chunker: str) -> ChunkingSettings | None:
    """What the chunks of a chunker should measure; None of one that is not known any more."""
    try:
        return MarkdownChunker.from_identity(chunker).settings
    except ConfigurationError:
        return None


def _norms(embedder: str) -> tuple[float, float]:
    """How long its vectors may be.

    >>> _norms("wordllama:l2_supercat_256/document@1")
    (0.99, 1.01)
    """
    identity = EmbedderIdentity.read(embedder)
    if identity is not None and identity.base_url:
        return ANY_NORM
    return UNIT_NORM if embedder.partition(":")[0] in UNIT_PROVIDERS else ANY_NORM


def fallen(sizes: Iterable[GenerationSize], settings: QualitySettings) -> list[GenerationSize]:
    """Those that have lost too much at once; a few are no drop, whatever share of all they are.

    >>> small = GenerationSize(1, documents=1, chunks=1, most_documents=5, most_chunks=5)
    >>> large = GenerationSize(2, documents=50, chunks=90, most_documents=90, most_chunks=99)
    >>> [each.generation for each in fallen([small, large], QualitySettings(max_drop=0.3))]
    [2]
    """
    return [each for each in sizes if each.drop > settings.max_drop and each.lost > FEW]


def verdict_changes(
    found: Sequence[Finding], known: Sequence[KnownVerdict], *, quarantine: Sequence[str]
) -> VerdictChanges:
    """What makes what is known equal to what was found; nothing, where they are equal.

    >>> empty = Finding("a.md", b"1", "empty_text", "{}")
    >>> verdict_changes([empty], [], quarantine=["empty_text"]).touched
    ('a.md',)
    """
    before = {(each.doc_id, each.rule): each for each in known}
    now = {(each.doc_id, each.rule): each for each in found}
    put = [
        each
        for key, each in now.items()
        if not _is_known(each, before.get(key), quarantine=quarantine)
    ]
    void = [each for key, each in before.items() if key not in now]
    touched = {
        *(each.doc_id for each in put if _was_kept_out(before.get((each.doc_id, each.rule)))),
        *(each.doc_id for each in put if each.rule in quarantine),
        *(each.doc_id for each in void if _was_kept_out(each)),
    }
    return VerdictChanges(tuple(put), tuple(void), tuple(sorted(touched)))


def _is_known(found: Finding, before: KnownVerdict | None, *, quarantine: Sequence[str]) -> bool:
    return (
        before is not None
        and before.content_hash == found.content_hash
        and before.quarantined == (found.rule in quarantine)
    )


def _was_kept_out(before: KnownVerdict | None) -> bool:
    return before is not None and before.current and before.quarantined and not before.released

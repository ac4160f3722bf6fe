"""Is in the index what its manifest says, and is it found?"""

from collections.abc import Sequence

import dagster as dg

from rag_assets.checks.shape import NAMED, corpus_check, corpus_inquiry, corpus_inspection
from rag_assets.indexing.quality import fallen
from rag_assets.indexing.rebuilding import to_be_complete
from rag_assets.installation import Verified, verified
from rag_assets.model import Corpus, Damage, GenerationState, RunIdentity, Written
from rag_assets.publishing import lacking
from rag_assets.resources import Platform


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="vector_index",
        name="matches_manifest",
        description="Every living generation has in each bucket the rows its manifest counts,"
        " and no document waits.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        wrong, waiting = [], {}
        living = stores.generations.living(corpus.name)
        due = to_be_complete(living)
        for generation in living:
            wrong += [
                {"generation": generation.number, **each}
                for each in stores.index.mismatches(generation)
            ]
            if generation in due:
                unfinished = stores.generations.unfinished(generation)
                waiting[str(generation.number)] = unfinished.documents_waiting
        return dg.AssetCheckResult(
            passed=not wrong and not any(waiting.values()),
            metadata={"wrong_buckets": wrong, "documents_waiting": waiting},
            description=f"{len(wrong)} buckets differ from their manifest,"
            f" {sum(waiting.values())} documents wait",
        )

    return judge


def build_rows(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inspection(
        corpus,
        asset="vector_index",
        name="no_lost_rows",
        description="Of the documents in the index that are new, or no longer at the source, those"
        " that are served have their rows, and the others have none; `stored_soundly` and"
        " `rag-assets verify` look at all of them.",
    )
    def judge(platform: Platform, new: Written) -> dg.AssetCheckResult:
        stores = platform.stores()
        every = [
            each
            for generation in stores.generations.living(corpus.name)
            for each in stores.measuring.lost_rows(generation, new, limit=NAMED)
        ]
        orphans = sorted({each.doc_id for each in every if each.orphan})
        missing = sorted({each.doc_id for each in every if not each.orphan})
        return dg.AssetCheckResult(
            passed=not every,
            metadata={"orphans": orphans[:NAMED], "documents": missing[:NAMED]},
            description=f"Documents without the rows they are to have: {len(missing)}; documents"
            f" that have rows though they are not served: {len(orphans)}",
        )

    return judge


def build_drop(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="vector_index",
        name="no_sudden_drop",
        description="No generation has lost more of its documents or chunks within a day than"
        " `quality.max_drop`, but for deletions that somebody has approved.",
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        sizes = platform.stores().measuring.sizes(corpus.name)
        lost = fallen(sizes, corpus.quality)
        told = "; ".join(
            f"generation {each.generation} fell to {each.documents} documents and {each.chunks}"
            f" chunks, from {each.most_documents} and {each.most_chunks}"
            for each in lost
        )
        return dg.AssetCheckResult(
            passed=not lost,
            metadata={
                "drop": {str(each.generation): round(each.drop, 4) for each in sizes},
                "chunks": {str(each.generation): each.chunks for each in sizes},
            },
            description=f"Within a day, {told}" if told else "No generation has lost much",
        )

    return judge


def build_soundness(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inquiry(
        corpus,
        asset="vector_index",
        name="stored_soundly",
        description="All that is stored is as it was written: texts, chunks, vectors, rows and"
        " words are recomputed, and what is damaged is mended from what is sound.",
        nightly=True,
    )
    def judge(platform: Platform, run: RunIdentity) -> dg.AssetCheckResult:
        found = verified(platform.stores(), corpus.name, run, repair=True)
        severity = dg.AssetCheckSeverity.ERROR if found.left else dg.AssetCheckSeverity.WARN
        return dg.AssetCheckResult(
            passed=not found.damages,
            severity=severity,
            metadata={
                "damaged": _counted(found.damages),
                "left": _counted(found.left),
                "subjects": [each for damage in found.damages for each in damage.subjects][:NAMED],
            },
            description=_mended(corpus, found),
        )

    return judge


def build_recall(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="vector_index",
        name="recall",
        description="The index of every generation finds, of the ten nearest rows, at least"
        " `quality.min_recall` of what an exact search finds, with the settings of `retrieval`. A"
        " hundred rows are looked for. A candidate is also judged before it is published.",
        nightly=True,
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        publisher = platform.publisher(corpus)
        found = [
            publisher.recall(generation)
            for generation in publisher.stores.generations.living(corpus.name)
            if generation.state is not GenerationState.BUILDING
        ]
        wanted = corpus.quality.min_recall
        poor = [each for each in found if each.recall < wanted]
        return dg.AssetCheckResult(
            passed=not poor,
            metadata={
                "recall@10": {str(each.generation): round(each.recall, 4) for each in found},
                "questions": {str(each.generation): each.questions for each in found},
            },
            description=" ".join(lacking(each, wanted) for each in poor)
            or "Every index finds what an exact search finds",
        )

    return judge


def _counted(damages: Sequence[Damage]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for damage in damages:
        counts[damage.kind] = counts.get(damage.kind, 0) + len(damage.subjects)
    return counts


def _mended(corpus: Corpus, found: Verified) -> str:
    if not found.damages:
        return "Nothing is damaged"
    kinds = ", ".join(f"{kind}: {number}" for kind, number in _counted(found.damages).items())
    if not found.left:
        return f"Damaged, and mended: {kinds}"
    left = ", ".join(f"{kind}: {number}" for kind, number in _counted(found.left).items())
    return (
        f"Damaged: {kinds}. Left to the next run, which makes again what was lost: {left}."
        f" Run `rag-assets materialize {corpus.name}`."
    )

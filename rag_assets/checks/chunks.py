"""Does every chunk stand where it says?"""

from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg

from rag_assets.checks.shape import corpus_check, corpus_inspection
from rag_assets.checks.verdicts import quality_check
from rag_assets.model import ChunkLengths, Corpus, Generation, QualityStage, Written
from rag_assets.resources import Platform

FEW_CHARS_SHARE = 0.25
"""A chunk of several is short with less than this share of the characters it is to have."""
SHORT_SHARE = 0.5
"""More short ones than this, and texts are cut to shreds."""


def build(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_inspection(
        corpus,
        asset="chunks",
        name="characters_match",
        description="Each new chunk is word for word the characters of its document that it names;"
        " `stored_soundly` and `rag-assets verify` look at all of them.",
    )
    def judge(platform: Platform, new: Written) -> dg.AssetCheckResult:
        stores = platform.stores()
        misplaced = {
            place
            for generation in stores.generations.living(corpus.name)
            for place in stores.chunks.misplaced(generation, new)
        }
        return dg.AssetCheckResult(
            passed=not misplaced,
            metadata={"chunks": [f"{doc_id}#{number}" for doc_id, number in sorted(misplaced)]},
            description=f"Chunks that do not stand where they say: {len(misplaced)}",
        )

    return judge


def build_quality(corpus: Corpus) -> dg.AssetChecksDefinition:
    return quality_check(
        corpus,
        asset="chunks",
        stage=QualityStage.CHUNKS,
        description="The chunks of each document cover it, word for word and once; none is too"
        " long, and most are neither very short nor repeated.",
    )


def build_lengths(corpus: Corpus) -> dg.AssetChecksDefinition:
    @corpus_check(
        corpus,
        asset="chunks",
        name="length_distribution",
        description="In the generations that are read, texts are not cut to shreds.",
        nightly=True,
    )
    def judge(platform: Platform) -> dg.AssetCheckResult:
        stores = platform.stores()
        few_chars = round(corpus.chunking.min_chars * FEW_CHARS_SHARE)
        found = {
            generation: stores.measuring.lengths(generation, few_chars=few_chars)
            for generation in stores.generations.living(corpus.name)
        }
        shredded = [each for each, lengths in found.items() if _is_shredded(lengths)]
        return dg.AssetCheckResult(
            passed=not shredded,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"lengths": _table(found)},
            description=f"Generations with mostly short chunks: {len(shredded)} (shorter than"
            f" {few_chars} characters, in documents that have several)",
        )

    return judge


def _is_shredded(lengths: ChunkLengths) -> bool:
    return lengths.short > SHORT_SHARE * lengths.of_several


def _table(found: Mapping[Generation, ChunkLengths]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"generation": generation.number, **asdict(lengths)})
            for generation, lengths in found.items()
        ]
    )

"""What all checks of a corpus have in common."""

from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus, Generation
from rag_assets.resources import Platform, key_of

Verdict = Callable[[Platform], dg.AssetCheckResult]


def corpus_check(
    corpus: Corpus, *, asset: str, name: str, description: str, blocking: bool = False
) -> Callable[[Verdict], dg.AssetChecksDefinition]:
    """Makes a check of an asset from the function that judges it."""

    def made(judge: Verdict) -> dg.AssetChecksDefinition:
        @dg.asset_check(
            asset=key_of(corpus, asset), name=name, description=description, blocking=blocking
        )
        def check(platform: Platform) -> dg.AssetCheckResult:
            try:
                return judge(platform)
            except RagAssetsError as error:
                raise dg.Failure(description=str(error)) from error

        return check

    return made


def newest(corpus: Corpus, platform: Platform) -> Generation | None:
    """The generation of today's settings, or the one before where none has been opened yet."""
    living = platform.stores().generations.living(corpus.name)
    return living[-1] if living else None


def none_of(found: Sequence[Any], *, what: str) -> dg.AssetCheckResult:
    """Passes where nothing was found; names the first of what was, by ids, never by text."""
    return dg.AssetCheckResult(
        passed=not found,
        metadata={"found": len(found), "first": [str(each) for each in found[:20]]},
        description=f"{len(found)} {what}" if found else f"No {what}",
    )

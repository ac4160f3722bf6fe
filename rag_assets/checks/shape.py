"""What all checks of a corpus have in common."""

from collections.abc import Callable

import dagster as dg

from rag_assets.errors import RagAssetsError
from rag_assets.model import Corpus
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

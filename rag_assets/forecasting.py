"""What a run of a corpus would do and cost, and why: for commands. Nothing is written or asked."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from rag_assets import __version__, wiring
from rag_assets.adapters.prices import Prices
from rag_assets.errors import ConfigurationError
from rag_assets.indexing.forecasting import MEANING, Foresight, Index, changes_of, parts_of
from rag_assets.indexing.observing import observe
from rag_assets.indexing.rebuilding import is_built_beside, is_to_be_built
from rag_assets.indexing.requesting import BYTES_A_TOKEN
from rag_assets.model import (
    BuildForecast,
    Corpus,
    EmbedderIdentity,
    Experience,
    Explanation,
    Forecast,
    Generation,
    GenerationState,
    IndexForecast,
    Need,
    Recipe,
    RunIdentity,
    UnitPrice,
    has_readers,
    own,
    superseded,
)
from rag_assets.ports import Source
from rag_assets.settings import DatabaseUrls

A_MINUTE = 60
FREE = "It runs in this process."


@dataclass(frozen=True)
class Forecaster:
    """One corpus with its database, which is read in sessions that can write nothing."""

    corpus: Corpus
    urls: DatabaseUrls
    prices: Prices

    @cached_property
    def stores(self) -> wiring.Stores:
        return wiring.stores(wiring.read_only(self.urls))

    @property
    def recipe(self) -> Recipe:
        return wiring.recipe_of(self.corpus)

    def forecast(self, source: Source) -> Forecast:
        """What is new is read, parsed and cut here, a few documents at a time, and forgotten."""
        living = self.stores.generations.living(self.corpus.name)
        indexes = [self._index(each) for each in self._to_be_served(living)]
        planning = self.stores.planning
        foresight = Foresight(indexes, scope=self.corpus.scope, store=planning)
        with wiring.parsing() as parsing:
            observed = observe(
                self.corpus,
                range(self.corpus.buckets),
                source=source,
                parsers=wiring.parsers_of(self.corpus, living),
                parsing=parsing,
                store=planning.rehearsal(foresight.tell),
                run=RunIdentity("plan", __version__),
            )
        needs = zip(indexes, foresight.needs(), strict=True)
        return Forecast(
            corpus=self.corpus.name,
            documents=foresight.documents(observed),
            indexes=tuple(self._of_index(index, need, living) for index, need in needs),
            build=self._build(living),
            superseded=tuple(each.number for each in self._to_be_cancelled(living)),
        )

    def explanation(self) -> Explanation:
        """Why an index would be built, or why not; the source is not looked at."""
        living = self.stores.generations.living(self.corpus.name)
        mine, published = own(self.recipe, living), _published(living)
        changes = changes_of(published.recipe, self.recipe) if published else ()
        return Explanation(
            corpus=self.corpus.name,
            published=published.number if published else None,
            building=mine.number if mine and mine != published else None,
            state=str(mine.state) if mine else "missing",
            recipe=parts_of(self.recipe),
            changes=changes,
            meaning=tuple(MEANING[each.part] for each in changes),
            held=self._held(),
            waits=tuple(self._waits(living)),
        )

    def require_prices(self, planned: Forecast) -> None:
        """A limit can be kept only where it is known what is spent."""
        if unknown := planned.unpriced:
            stated = "\n".join(f"  {_as_stated(each)}: 0.02" for each in unknown)
            raise ConfigurationError(
                "A limit can only be kept where prices are known, and nobody has told what this"
                f" model costs. Nothing was spent. State it in US dollars a million tokens in a"
                f" file, and name the file with RAG_ASSETS_PRICES:\n{stated}"
            )

    # --- indexes ---------------------------------------------------------------------------------

    def _to_be_served(self, living: Sequence[Generation]) -> list[Generation]:
        """In the order of a run: what readers have first, and what is built beside it last."""
        cancelled = self._to_be_cancelled(living)
        kept = [each for each in living if each not in cancelled]
        if own(self.recipe, kept) is None:
            new = Generation(0, self.corpus.name, GenerationState.BUILDING, self.recipe)
            kept.append(new)
        kept.sort(key=lambda each: is_built_beside(each, living))
        return [each for each in kept if wiring.can_still_make(each, self.corpus)]

    def _to_be_cancelled(self, living: Sequence[Generation]) -> list[Generation]:
        """Builds of earlier settings; one that was published once goes back to where it was."""
        others = superseded(self.recipe, living)
        history = self.stores.generations.history(self.corpus.name) if others else []
        once = {each.generation for each in history if each.published_at is not None}
        return [each for each in others if each.number not in once]

    def _index(self, generation: Generation) -> Index:
        embedder = generation.recipe.embedder
        return Index(
            generation,
            wiring.chunker_of(generation, self.corpus),
            wiring.token_counter(embedder),
            metered=wiring.provider_of(embedder).metered,
        )

    def _of_index(self, index: Index, need: Need, living: Sequence[Generation]) -> IndexForecast:
        generation, embedder = index.generation, index.generation.recipe.embedder
        known = Experience()
        if index.metered and need.to_embed:
            known = self.stores.planning.experience(self.corpus.scope, embedder)
        tokens = _estimated(need, known) if need.tokens is None else need.tokens
        requests = self._requests(embedder, need)
        return IndexForecast(
            generation=generation.number or None,
            state=str(generation.state) if generation.number else "new",
            embedder=embedder,
            need=need,
            tokens=tokens,
            exact=need.tokens is not None,
            price=self._price(index),
            requests=requests,
            seconds=self._seconds(embedder, tokens, requests, known) if index.metered else None,
            note=self._note(generation, living),
        )

    def _price(self, index: Index) -> UnitPrice:
        if not index.metered:
            return UnitPrice(Decimal(), FREE)
        return self.prices.of(index.generation.recipe.embedder)

    def _requests(self, embedder: str, need: Need) -> int:
        limits = wiring.provider_of(embedder).limits
        by_size = -(-(need.size + 8 * need.to_embed) // limits.tokens)
        return max(-(-need.to_embed // limits.texts), by_size)

    def _seconds(
        self, embedder: str, tokens: int, requests: int, known: Experience
    ) -> float | None:
        """By the limits that the corpus names, and by how fast earlier runs were."""
        how = wiring.how_to_reach(embedder, self.corpus)
        asked = [
            requests * A_MINUTE / how.requests_per_minute if how.requests_per_minute else None,
            tokens * A_MINUTE / how.tokens_per_minute if how.tokens_per_minute else None,
            tokens / known.tokens_a_second if known.tokens_a_second else None,
        ]
        return max((each for each in asked if each is not None), default=None)

    def _note(self, generation: Generation, living: Sequence[Generation]) -> str:
        if not generation.number:
            return "would be built beside" if has_readers(living) else "would be built"
        match generation.state:
            case GenerationState.RETIRED:
                return "kept for a rollback"
            case GenerationState.CANDIDATE:
                return "waits to be published"
            case GenerationState.BUILDING:
                return "is being built"
            case _:
                return "what readers have"

    # --- the build -------------------------------------------------------------------------------

    def _build(self, living: Sequence[Generation]) -> BuildForecast | None:
        mine, published = own(self.recipe, living), _published(living)
        first = published is None and (mine is None or mine.state is GenerationState.BUILDING)
        if not first and not is_to_be_built(self.recipe, living, held=False):
            return None
        return BuildForecast(
            generation=mine.number if mine else None,
            fingerprint=self.recipe.fingerprint,
            against=published.number if published else None,
            changes=changes_of(published.recipe, self.recipe) if published else (),
            state=str(mine.state) if mine else "new",
            held=self._held(),
        )

    def _held(self) -> str | None:
        held = self.stores.generations.held(self.corpus.name, self.recipe)
        return None if held is None else str(held)

    def _waits(self, living: Sequence[Generation]) -> Iterator[str]:
        name, documents = self.corpus.name, self.stores.documents
        for each in living:
            left = self.stores.generations.unfinished(each)
            if left.documents_waiting:
                yield (
                    f"{_counted(left.documents_waiting)} that generation {each.number}"
                    f" ({each.state}) does not serve as they are; `rag-assets materialize {name}`."
                )
        if letters := {each.doc_id for each in documents.dead_letters(name)}:
            yield (
                f"{_counted(len(letters))} that could not be processed;"
                f" `rag-assets dead-letters list {name}`."
            )
        if withheld := documents.withheld_deletions(name):
            yield (
                f"{_counted(len(withheld))} whose deletion is withheld;"
                f" `rag-assets approve-deletions {name}`."
            )


def _as_stated(identity: str) -> str:
    """How a file of prices names a model."""
    asked = EmbedderIdentity.read(identity)
    if asked is None:
        return identity
    server = f" at {asked.base_url}" if asked.base_url else ""
    return f"{asked.provider}:{asked.model}{server}"


def _published(living: Sequence[Generation]) -> Generation | None:
    return next((each for each in living if each.state is GenerationState.PUBLISHED), None)


def _estimated(need: Need, known: Experience) -> int:
    """By what the model has billed for other texts, or else by what is usual; never over the most.

    >>> _estimated(Need(to_embed=1, size=400, tokens_at_most=408), Experience(tokens_a_byte=0.3))
    120
    """
    a_byte = known.tokens_a_byte or 1 / BYTES_A_TOKEN
    return min(round(need.size * a_byte), need.tokens_at_most)


def _counted(documents: int) -> str:
    return f"{documents:,} document{'' if documents == 1 else 's'}"

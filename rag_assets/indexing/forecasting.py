"""What a run would do, found out by doing it without writing and without asking a model."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from rag_assets.indexing.chunking import Uncut, cut_one
from rag_assets.indexing.observing import BucketObserved
from rag_assets.indexing.requesting import most_tokens
from rag_assets.model import (
    ChunkSet,
    DocumentForecast,
    DocumentState,
    Generation,
    Need,
    Part,
    PartChange,
    Recipe,
    Rehearsed,
    StoredText,
)
from rag_assets.ports import Chunker, PlanningStore

NAMED = 50
"""How many documents of a kind are named."""
TEXTS_AT_ONCE = 1000
"""For so many texts it is asked together whether they have vectors."""

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Index:
    """An index that a run keeps current or makes; one that is not there yet has the number 0."""

    generation: Generation
    chunker: Chunker
    count: Count | None = None
    """The tokens of a text, as its model bills them."""
    metered: bool = True


class Foresight:
    """Listens to a rehearsal, and adds up what the indexes would need.

    Texts are cut as they come, so that only their hashes are kept.
    """

    def __init__(self, indexes: Sequence[Index], *, scope: str, store: PlanningStore) -> None:
        asked: dict[str, set[bytes]] = {}
        self._needs = [
            _Needs(each, scope, store, asked.setdefault(each.generation.recipe.embedder, set()))
            for each in indexes
        ]
        self._cutters: dict[tuple[str, str], list[_Needs]] = {}
        for each in self._needs:
            recipe = each.index.generation.recipe
            self._cutters.setdefault((recipe.parser, recipe.chunker), []).append(each)
        self._documents = _Documents()

    def tell(self, recorded: Rehearsed) -> None:
        """What would have been recorded: its texts are cut, its documents remembered by id."""
        self._documents.add(recorded)
        for text in recorded.texts:
            self._cut(text)

    def needs(self) -> list[Need]:
        """Of each index, when everything has been told: then what is stored already is looked at.

        A text that several indexes need of one model counts for the first of them.
        """
        without, contents = self._documents.recorded, self._documents.contents
        return [each.completed(without, contents) for each in self._needs]

    def documents(self, observed: Mapping[int, BucketObserved]) -> DocumentForecast:
        return self._documents.forecast(observed)

    def _cut(self, text: StoredText) -> None:
        for (parser, _), needs in self._cutters.items():
            if parser == text.parser:
                outcome = cut_one(text, needs[0].index.chunker)
                for each in needs:
                    each.add(outcome)


# --- texts and vectors ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Needs:
    """What one index needs, added up."""

    index: Index
    scope: str
    store: PlanningStore
    asked: set[bytes]
    """Texts that its model would be asked for, also by other indexes."""
    cut: set[bytes] = field(default_factory=set)
    """Texts that were cut for this, so that each counts once."""
    waiting: list[tuple[bytes, str]] = field(default_factory=list)
    texts: int = 0
    embedded: int = 0
    to_embed: int = 0
    size: int = 0
    tokens: int = 0
    tokens_at_most: int = 0
    uncut: int = 0

    def add(self, made: ChunkSet | Uncut) -> None:
        if isinstance(made, Uncut):
            self.uncut += 1
            return
        for chunk in made.chunks:
            text_hash = chunk.text_hash
            if text_hash not in self.cut:
                self.cut.add(text_hash)
                self.waiting.append((text_hash, chunk.embedded_text))
        if len(self.waiting) >= TEXTS_AT_ONCE:
            self._count_waiting()

    def completed(self, without: Sequence[str], contents: Sequence[bytes]) -> Need:
        generation = self.index.generation
        for text in self.store.uncut(generation, self.scope, without=without, contents=contents):
            self.add(cut_one(text, self.index.chunker))
        self._count_waiting()
        stored = self.store.due(generation, self.scope, without=without, contents=contents)
        for text_hash, words in stored:
            if text_hash not in self.cut:
                self._count(text_hash, words)
        return Need(
            texts=self.texts,
            embedded=self.embedded,
            to_embed=self.to_embed,
            size=self.size,
            tokens=self.tokens if self.index.count or not self.index.metered else None,
            tokens_at_most=self.tokens_at_most,
            uncut=self.uncut,
        )

    def _count_waiting(self) -> None:
        hashes = [text_hash for text_hash, _ in self.waiting]
        embedder = self.index.generation.recipe.embedder
        found = self.store.embedded(self.scope, embedder, hashes) if hashes else set()
        for text_hash, text in self.waiting:
            self._count(text_hash, None if text_hash in found else text)
        self.waiting.clear()

    def _count(self, text_hash: bytes, text: str | None) -> None:
        """Without its words it has a vector already."""
        self.texts += 1
        if text is None or text_hash in self.asked:
            self.embedded += 1
            return
        self.asked.add(text_hash)
        self.to_embed += 1
        self.size += len(text.encode())
        if self.index.metered:
            tokens = self.index.count(text) if self.index.count else 0
            self.tokens += tokens
            self.tokens_at_most += tokens if self.index.count else most_tokens(text)


# --- documents -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Documents:
    """What would have been recorded, by id."""

    kinds: dict[str, list[str]] = field(default_factory=dict)
    live: dict[str, bytes] = field(default_factory=dict)
    """Id to content, of documents that would be new or other than they are."""
    gone: dict[str, bytes] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    withheld: dict[int, list[str]] = field(default_factory=dict)

    @property
    def recorded(self) -> list[str]:
        return [*self.live, *self.gone, *self.failing]

    @property
    def contents(self) -> list[bytes]:
        return list(dict.fromkeys(self.live.values()))

    def add(self, recorded: Rehearsed) -> None:
        for now, before in recorded.documents:
            kind = _kind(now.state, before.state if before else None)
            self.kinds.setdefault(kind, []).append(now.doc_id)
            if now.state is DocumentState.LIVE:
                self.live[now.doc_id] = now.content_hash
            elif now.state is DocumentState.DELETED:
                self.gone[now.doc_id] = now.content_hash
            else:
                self.failing.add(now.doc_id)
        self.kinds.setdefault("described", []).extend(each.doc_id for each in recorded.described)
        self.kinds.setdefault("failing", []).extend(
            letter.doc_id for letter in recorded.dead_letters
        )
        if recorded.withheld is not None:
            self.withheld[recorded.bucket] = list(recorded.withheld)

    def forecast(self, observed: Mapping[int, BucketObserved]) -> DocumentForecast:
        renamed = self._renamed()
        totals = Counter[str]()
        for each in observed.values():
            totals.update({name: getattr(each, name) for name in _COUNTED})
        named = {
            "added": [name for name in self.kinds.get("added", ()) if name not in renamed],
            "changed": self.kinds.get("changed", ()),
            "described": self.kinds.get("described", ()),
            "renamed": [f"{before} → {after}" for after, before in renamed.items()],
            "deleted": self.gone.keys() - set(renamed.values()),
            "withheld": [name for some in self.withheld.values() for name in some],
            "failing": self.kinds.get("failing", ()),
        }
        return DocumentForecast(
            listed=totals["listed"],
            added=totals["added"] - len(renamed),
            changed=totals["changed"],
            described=totals["described"],
            renamed=len(renamed),
            deleted=totals["deleted"] - len(renamed),
            withheld=totals["withheld"],
            failing=totals["dead"],
            retried=totals["retried"],
            blocked=totals["blocked"],
            unchanged=totals["unchanged"],
            named={kind: tuple(sorted(set(some))[:NAMED]) for kind, some in named.items() if some},
        )

    def _renamed(self) -> dict[str, str]:
        """New id to the old one whose content it has: each once."""
        left: dict[bytes, list[str]] = {}
        for doc_id, content in sorted(self.gone.items(), reverse=True):
            left.setdefault(content, []).append(doc_id)
        found = {}
        for doc_id in sorted(self.kinds.get("added", ())):
            if same := left.get(self.live[doc_id]):
                found[doc_id] = same.pop()
        return found


_COUNTED = tuple(each.name for each in fields(BucketObserved))


def _kind(now: DocumentState, before: DocumentState | None) -> str:
    if now is DocumentState.DEAD:
        return "failing"
    if now is DocumentState.DELETED:
        return "deleted"
    return "changed" if before is DocumentState.LIVE else "added"


# --- recipes -------------------------------------------------------------------------------------


def changes_of(before: Recipe, after: Recipe) -> tuple[PartChange, ...]:
    """Which parts of a fingerprint differ.

    >>> from rag_assets.model import IndexSettings
    >>> one = Recipe("auto@2", "markdown@1:400-1200", "wordllama:x/document@1", 64, IndexSettings())
    >>> two = Recipe("auto@2", "markdown@1:200-800", "wordllama:x/document@1", 64, IndexSettings())
    >>> [(each.part, each.before, each.after) for each in changes_of(one, two)]
    [('chunker', 'markdown@1:400-1200', 'markdown@1:200-800')]
    """
    pairs = zip(parts_of(before).items(), parts_of(after).values(), strict=True)
    return tuple(PartChange(part, old, new) for (part, old), new in pairs if old != new)


def parts_of(recipe: Recipe) -> dict[Part, str]:
    """The parts of a fingerprint, as people read them."""
    return {
        "parser": recipe.parser,
        "chunker": recipe.chunker,
        "embedder": recipe.embedder,
        "index": _HNSW.sub(r"hnsw m=\1 ef_construction=\2", recipe.index.identity),
    }


_HNSW = re.compile(r"IndexSettings\(m=(\d+), ef_construction=(\d+)\)")


MEANING: Mapping[Part, str] = {
    "parser": "The documents are read from the source again. Texts that come out as they were are"
    " neither cut nor embedded again.",
    "chunker": "Stored texts are cut anew; passages that the model has never seen are embedded."
    " The source is not read.",
    "embedder": "Every text is embedded by the other model, but for those it has seen before. The"
    " source is not read.",
    "index": "The rows are copied and the index over them is built. Nothing is embedded.",
}
"""What it means that a part has changed."""

"""Takes over a table of embeddings that others have made, for commands; nothing is paid twice."""

import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace

from rag_assets import wiring
from rag_assets.adapters.postgres.adopting import (
    Finding,
    ForeignRow,
    ForeignTables,
    FoundPassage,
    OpenedTable,
    PostgresAdopting,
    StoredContent,
)
from rag_assets.errors import AdoptionError, ConfigurationError, EmbeddingError
from rag_assets.indexing.adopting import (
    WELL_COVERED,
    DocumentNames,
    Prints,
    Span,
    adopted_chunk,
    completed,
    cosine,
    coverage,
    places,
)
from rag_assets.indexing.chunking import ADOPTED_NAME, MarkdownChunker
from rag_assets.indexing.observing import observe
from rag_assets.model import (
    Adopted,
    AdoptionWish,
    ChunkingSettings,
    ChunkSet,
    Corpus,
    EmbeddingSettings,
    ForeignColumn,
    Generation,
    GenerationState,
    LeftOut,
    RunIdentity,
    Spent,
    StoredText,
)
from rag_assets.ports import Source, Vectors
from rag_assets.settings import DatabaseUrls, Secret

MOST_EXAMPLES = 10
TEXTS_AT_ONCE = 100
CHARS_KEPT = 20_000_000
"""Of texts that were looked into last: rows of one document mostly stand together."""
NEARLY_ONE = 0.001
"""Vectors of this length are left as they are; others are brought to the length 1."""


@dataclass(frozen=True, slots=True)
class _Usable:
    """A row with a text and a vector."""

    id: str
    text: str
    vector: Vectors
    document: str | None


@dataclass(frozen=True)
class Adopter:
    """One corpus with its database, and the database of the table."""

    corpus: Corpus
    urls: DatabaseUrls
    foreign_url: str
    run: RunIdentity
    source: Callable[[], Source]
    """Asked for where nobody has read the documents yet."""
    spending: wiring.Spending = field(default_factory=wiring.Spending)
    tell: Callable[[str], None] = lambda _: None

    def adopt(self, wish: AdoptionWish) -> Adopted:
        """Reads the table, verifies what is said of it, then writes document by document.

        What was written before it was killed stays, and is left alone when it is called again.
        """
        store, tables = PostgresAdopting(self.urls.writer), ForeignTables(self.foreign_url)
        with tables.opened(wish.table) as table:
            generation, declared = self._declared(wish, table)
            contents = store.contents(generation)
            if not contents and not wish.rehearsal:
                self._observe()
                contents = store.contents(generation)
            if not contents:
                raise AdoptionError(
                    f"The database holds no text of {self.corpus.name}, in which a passage could be"
                    " found. Without --dry-run, its documents are read first."
                )
            locating = _Locating(generation, store, contents, by_name=bool(wish.table.document))
            reading = _Reading(locating, width=generation.recipe.dimensions, sample=wish.sample)
            with store.finding() as finding:
                self.tell(f"reading {wish.table}")
                for rows in table.rows():
                    finding.add(reading.read(rows))
                found = Adopted(
                    corpus=self.corpus.name,
                    name=wish.name,
                    source=tables.place(wish.table),
                    declared=wish.model,
                    model=generation.recipe.embedder,
                    chunker=generation.recipe.chunker,
                    rows=reading.rows,
                    known=reading.known,
                    left_out=dict(reading.left_out),
                    examples=tuple(reading.examples),
                    settings=_changed(self.corpus, declared),
                    run_id=self.run.run_id,
                )
                _require_some(found, reading.located)
                if not reading.located:
                    return found
                if not wish.rehearsal:
                    found = self._verified(found, wish, generation, declared, reading.sampled)
                writing = _Writing(
                    self, store, generation, found, rehearsal=wish.rehearsal, cut=locating.cut
                )
                found = writing.write(finding)
                _require_some(found, found.contents)
                return found

    def _declared(self, wish: AdoptionWish, table: OpenedTable) -> tuple[Generation, Corpus]:
        """The index that would be made of what is adopted, and a corpus with its settings."""
        width = table.width()
        if width is None:
            raise AdoptionError(f"{wish.table} has no row with a vector.")
        declared = self._with_settings(wish, width)
        recipe = wiring.recipe_of(declared)
        if recipe.dimensions != width:
            raise AdoptionError(
                f"{wish.model} makes vectors of {recipe.dimensions} dimensions, those of"
                f" {wish.table} have {width}. Name the model that has made them; if it was asked"
                f" for {width}, write 'embedding: {{dimensions: {width}}}' into the defs.yaml."
            )
        return Generation(0, self.corpus.name, GenerationState.BUILDING, recipe), declared

    def _with_settings(self, wish: AdoptionWish, width: int) -> Corpus:
        """Another model than the corpus's is asked at its provider's own server."""
        chunking = replace(self.corpus.chunking, adopted=wish.name)
        declared = replace(self.corpus, chunking=chunking)
        if wish.model == self.corpus.embedder:
            return declared
        hosted = not wish.model.startswith("wordllama:")
        plain = EmbeddingSettings(dimensions=width if hosted else None)
        declared = replace(declared, embedder=wish.model, embedding=plain)
        how = wiring.how_to_reach(wiring.recipe_of(declared).embedder, self.corpus)
        return replace(declared, embedding=replace(how, dimensions=plain.dimensions))

    def _observe(self) -> None:
        """Reads the documents, as the first run would."""
        self.tell(f"reading the documents of {self.corpus.name}")
        with wiring.parsing() as parsing:
            observe(
                self.corpus,
                range(self.corpus.buckets),
                source=self.source(),
                parsers=wiring.parsers_of(self.corpus, []),
                parsing=parsing,
                store=wiring.stores(self.urls).documents,
                run=self.run,
            )

    # --- whether the vectors are what somebody says ----------------------------------------------

    def _verified(
        self,
        found: Adopted,
        wish: AdoptionWish,
        generation: Generation,
        declared: Corpus,
        sampled: Sequence[_Usable],
    ) -> Adopted:
        """Embeds some texts again; refused where an answer is another vector."""
        if not wish.verify:
            return found
        self.tell(f"verifying {len(sampled)} vectors with {wish.model}")
        try:
            alike = self._alike(generation, declared, sampled)
        except (EmbeddingError, ConfigurationError) as error:
            raise AdoptionError(
                f"Whether these vectors were made by {wish.model} cannot be verified: {error}"
                " Nothing was adopted. Set its key and try again, or add --unverified to take it"
                " on trust, which is recorded."
            ) from error
        worst = min(alike, default=0.0)
        if worst < wish.min_cosine:
            others = sum(each < wish.min_cosine for each in alike)
            raise AdoptionError(
                f"These vectors were not made by {found.model} of these texts: of {len(alike)}"
                f" texts that it embedded again, {others} got another vector (cosine"
                f" {worst:.3f} at worst, {wish.min_cosine:g} is asked for). Nothing was adopted."
                " Name the model that made them; where it was given more than the text, as"
                " LlamaIndex gives it metadata, embed again."
            )
        return replace(found, sampled=len(alike), worst_cosine=worst)

    def _alike(
        self, generation: Generation, declared: Corpus, sampled: Sequence[_Usable]
    ) -> list[float]:
        """The cosine of each sampled vector to the model's own; what was paid is on record."""
        store, spent, alike = PostgresAdopting(self.urls.writer), Spent(), list[float]()
        texts = [(number, each.text) for number, each in enumerate(sampled)]
        how = (generation, declared, self.urls, self.spending)
        with wiring.document_embedder(*how) as embedder:
            try:
                with closing(embedder.answers([texts])) as answers:
                    for answer in answers:
                        spent += answer.spent
                        pairs = zip(answer.keys, answer.vectors, strict=True)
                        alike += [cosine(sampled[key].vector, vector) for key, vector in pairs]
                        alike += [0.0 for _ in answer.rejected]
            finally:
                if embedder.metered and spent.requests:
                    store.add_cost(generation, self.run, spent, embedder.price)
        return alike


def _require_some(found: Adopted, located: int) -> None:
    if located or found.known:
        return
    why = "; ".join(f"{number:,} {reason}" for reason, number in found.left_out.items())
    raise AdoptionError(
        f"Nothing of {found.source} can be adopted. It has {found.rows:,} rows: {why or 'none'}."
    )


def _changed(corpus: Corpus, declared: Corpus) -> dict[str, object]:
    """The attributes of a corpus in which the declared one differs, as a defs.yaml has them."""
    ours, theirs = _attributes(corpus), _attributes(declared)
    return {name: theirs[name] for name in theirs if theirs[name] != ours[name]}


def _attributes(corpus: Corpus) -> dict[str, object]:
    return {
        "embedder": corpus.embedder,
        "embedding": _but_for_defaults(asdict(corpus.embedding), asdict(EmbeddingSettings())),
        "chunking": _but_for_defaults(asdict(corpus.chunking), asdict(ChunkingSettings())),
    }


def _but_for_defaults(
    settings: Mapping[str, object], defaults: Mapping[str, object]
) -> dict[str, object]:
    return {name: each for name, each in settings.items() if each != defaults[name]}


# --- reading -------------------------------------------------------------------------------------


class _Locating:
    """Finds the documents that rows are of, and where their texts stand in them."""

    def __init__(
        self,
        generation: Generation,
        store: PostgresAdopting,
        contents: Sequence[StoredContent],
        *,
        by_name: bool,
    ) -> None:
        self._generation, self._store = generation, store
        self._hash_of = {each.doc_id: each.content_hash for each in contents}
        self.cut = {each.content_hash for each in contents if each.cut}
        self._adopted: dict[bytes, Mapping[Span, bool]] = {}
        self._kept: OrderedDict[bytes, StoredText] = OrderedDict()
        self._chars = 0
        self._hashes = list(dict.fromkeys(each.content_hash for each in contents))
        self._names = DocumentNames((each.doc_id, each.uri) for each in contents)
        self._prints = None if by_name else self._printed()

    def _printed(self) -> Prints:
        prints = Prints()
        for first in range(0, len(self._hashes), TEXTS_AT_ONCE):
            some = self._hashes[first : first + TEXTS_AT_ONCE]
            texts = self._store.texts(self._generation, some)
            for number, content_hash in enumerate(some, start=first):
                if content_hash in texts:
                    prints.add(number, texts[content_hash].parsed.text)
        return prints

    def contents(self, row: "_Usable") -> "list[bytes] | LeftOut":
        """The contents that a row's text may stand in."""
        if self._prints is None:
            doc_id = self._names.doc_id(row.document) if row.document else None
            return LeftOut.NO_DOCUMENT if doc_id is None else [self._hash_of[doc_id]]
        numbers = self._prints.candidates(row.text)
        return LeftOut.TOO_SHORT if numbers is None else [self._hashes[each] for each in numbers]

    def fetch(self, content_hashes: set[bytes]) -> None:
        """Has these at hand, and lets go of what was not needed for long."""
        for each in content_hashes & set(self._kept):
            self._kept.move_to_end(each)
        missing = content_hashes - set(self._kept)
        for content_hash, text in self._store.texts(self._generation, missing).items():
            self._kept[content_hash] = text
            self._chars += len(text.parsed.text)
        self._adopted |= self._store.adopted(self._generation, missing & self.cut)
        while self._chars > CHARS_KEPT and len(self._kept) > len(content_hashes):
            content_hash, gone = self._kept.popitem(last=False)
            self._adopted.pop(content_hash, None)
            self._chars -= len(gone.parsed.text)

    def text(self, content_hash: bytes) -> str:
        stored = self._kept.get(content_hash)
        return "" if stored is None else stored.parsed.text

    def embedded(self, content_hash: bytes, span: Span) -> bool | None:
        """Whether a passage has its vector; None where its text is cut, and not so."""
        return self._adopted[content_hash].get(span) if content_hash in self.cut else False


class _Reading:
    """Counts what rows are, and gives those that stand somewhere with their place."""

    def __init__(self, locating: _Locating, *, width: int, sample: int) -> None:
        self._locating, self._width, self._sample = locating, width, sample
        self._chance = random.Random(0)  # noqa: S311 - it chooses a sample
        self.rows = self.known = self.located = 0
        self.left_out: Counter[str] = Counter()
        self.examples: list[tuple[str, str]] = []
        self.sampled: list[_Usable] = []

    def read(self, rows: Sequence[ForeignRow]) -> Iterator[FoundPassage]:
        self.rows += len(rows)
        may: list[tuple[_Usable, list[bytes]]] = []
        for row in rows:
            usable = self._usable(row)
            if isinstance(usable, LeftOut):
                self._leave_out(row.id, usable)
                continue
            contents = self._locating.contents(usable)
            if isinstance(contents, LeftOut):
                self._leave_out(row.id, contents)
                continue
            may.append((usable, contents))
        self._locating.fetch({each for _, contents in may for each in contents})
        for usable, contents in may:
            yield from self._found(usable, contents)

    def _found(self, row: _Usable, contents: Sequence[bytes]) -> Iterator[FoundPassage]:
        standing = {each: places(self._locating.text(each), row.text) for each in contents}
        embedded = {
            (each, span): self._locating.embedded(each, span)
            for each, spans in standing.items()
            for span in spans or ()
        }
        if False in embedded.values():
            self.located += 1
            self._take_a_sample(row)
            vector = _of_length_one(row.vector)
            for (content_hash, (start, end)), there in embedded.items():
                if there is False:
                    yield FoundPassage(self.located, content_hash, start, end, vector)
        elif True in embedded.values():
            self.known += 1
        elif embedded:
            self._leave_out(row.id, LeftOut.CUT_OTHERWISE)
        else:
            often = None in standing.values()
            self._leave_out(row.id, LeftOut.NO_PASSAGE if often else LeftOut.NOWHERE)

    def _usable(self, row: ForeignRow) -> _Usable | LeftOut:
        import numpy as np

        if row.text is None or not row.text.strip():
            return LeftOut.NO_TEXT
        if row.vector is None:
            return LeftOut.NO_VECTOR
        if len(row.vector) != self._width:
            return LeftOut.OTHER_WIDTH
        norm = float(np.linalg.norm(row.vector.astype(np.float64)))
        if not np.isfinite(norm) or norm == 0:
            return LeftOut.NO_DIRECTION
        return _Usable(row.id, row.text, row.vector, row.document)

    def _leave_out(self, row_id: str, why: LeftOut) -> None:
        self.left_out[str(why)] += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append((row_id, str(why)))

    def _take_a_sample(self, row: _Usable) -> None:
        """Each row is as likely to be among them as any other."""
        if len(self.sampled) < self._sample:
            self.sampled.append(row)
        elif (at := self._chance.randrange(self.located)) < self._sample:
            self.sampled[at] = row


def _of_length_one(vector: Vectors) -> Vectors:
    """What models give, to the last bit, where it is so already."""
    import numpy as np

    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if abs(norm - 1) <= NEARLY_ONE:
        return vector
    return (vector.astype(np.float64) / norm).astype(np.float32)


# --- writing -------------------------------------------------------------------------------------


class _Writing:
    """Document by document: all of it, or nothing of it."""

    def __init__(
        self,
        adopter: Adopter,
        store: PostgresAdopting,
        generation: Generation,
        found: Adopted,
        *,
        rehearsal: bool,
        cut: Collection[bytes],
    ) -> None:
        self._adopter, self._store, self._generation = adopter, store, generation
        self._found, self._rehearsal, self._cut = found, rehearsal, cut
        self._own = MarkdownChunker(adopter.corpus.chunking)
        self._sparse: list[bytes] = []
        self._begun = False

    def write(self, finding: Finding) -> Adopted:
        self._adopter.tell(f"adopting for {self._found.corpus}")
        for content_hash, passages in finding.by_content():
            texts = self._store.texts(self._generation, [content_hash])
            if content_hash not in texts:  # erased in this moment
                continue
            if content_hash in self._cut:
                self._vectors(texts[content_hash], passages)
            else:
                self._content(texts[content_hash], passages)
        left_out = dict(self._found.left_out)
        if sparse := finding.rows_only_in(self._sparse):
            left_out[str(LeftOut.SPARSE)] = sparse
        if self._begun:
            self._store.finish(self._generation, self._adopter.run, left_out)
        return replace(self._found, left_out=left_out)

    def _begin(self) -> None:
        """With the first document: of an adoption of nothing there is no record."""
        if self._begun:
            return
        found, self._begun = self._found, True
        self._store.begin(
            self._generation,
            self._adopter.run,
            name=found.name,
            source=found.source,
            rows=found.rows,
            left_out=found.left_out,
            sampled=found.sampled,
            worst_cosine=found.worst_cosine,
        )

    def _content(self, text: StoredText, passages: Sequence[FoundPassage]) -> None:
        spans = {(each.start, each.end): each.vector for each in passages}
        if coverage(text.parsed, spans) < WELL_COVERED:
            self._sparse.append(text.content_hash)
            return
        chunks = completed(text.parsed, spans, self._own.split(text.parsed))
        vectors = {
            chunk.text_hash: spans[chunk.start, chunk.end]
            for chunk in chunks
            if (chunk.start, chunk.end) in spans
        }
        made = ChunkSet(text.content_hash, text.parser, self._found.chunker, chunks)
        self._keep(made, vectors, len(passages), own=len(chunks) - len(spans))

    def _vectors(self, text: StoredText, passages: Sequence[FoundPassage]) -> None:
        """Of passages that are there, cut from a table with another model's vectors."""
        vectors = {
            adopted_chunk(text.parsed, (each.start, each.end)).text_hash: each.vector
            for each in passages
        }
        self._keep(None, vectors, len(passages))

    def _keep(
        self, made: ChunkSet | None, vectors: Mapping[bytes, Vectors], passages: int, own: int = 0
    ) -> None:
        new: int | None = len(vectors)
        if not self._rehearsal:
            self._begin()
            new = self._store.adopt(self._generation, made, vectors, passages, self._adopter.run)
        if new is not None:
            self._found = replace(
                self._found,
                contents=self._found.contents + 1,
                passages=self._found.passages + passages,
                own_passages=self._found.own_passages + own,
                vectors=self._found.vectors + new,
            )


def default_name(table: str) -> str:
    """A name for what is adopted from a table.

    >>> default_name("langchain_pg_embedding"), default_name("1 Data-Notes")
    ('langchain_pg_embedding', 'data_notes')
    """
    letters = "".join(each if each.isascii() and each.isalnum() else "_" for each in table.lower())
    return letters.strip("_0123456789")[:41] or "adopted"


def checked_name(name: str) -> str:
    if not ADOPTED_NAME.fullmatch(name):
        raise ConfigurationError(
            f"--name {name!r}: small letters, digits and _, at most 41, beginning with a letter."
        )
    return name


def column_of(text: str) -> ForeignColumn:
    """A column, or after a dot what is in its JSON.

    >>> column_of("cmetadata.source")
    ForeignColumn(name='cmetadata', path=('source',))
    """
    name, *path = text.split(".")
    return ForeignColumn(name, tuple(path))


def condition_of(text: str) -> tuple[ForeignColumn, str]:
    """A column and what it must be.

    >>> condition_of("cmetadata.lang=en")
    (ForeignColumn(name='cmetadata', path=('lang',)), 'en')
    """
    column, equals, value = text.partition("=")
    if not (column and equals):
        raise ConfigurationError(f"--only {text!r}: write it as COLUMN=VALUE.")
    return column_of(column), value


def url_in(variable: str, environ: Mapping[str, str]) -> str:
    """The URL of another database, which is never shown."""
    secret = Secret.from_environment(variable, environ)
    if secret is None:
        raise ConfigurationError(
            f"{variable} is not set. --from-url-env names the variable that holds the URL of the"
            " table's database, postgresql://USER:PASSWORD@HOST/NAME."
        )
    return secret.reveal()

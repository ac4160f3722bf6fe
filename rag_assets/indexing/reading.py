"""From what was seen to what can be recorded: contents, their texts, letters about failures."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rag_assets.errors import SourceDownError, SourceError, UnreadableDocumentError
from rag_assets.indexing.parsing import content_hash
from rag_assets.model import (
    Corpus,
    DeadLetter,
    DocumentState,
    ObservedDocument,
    ParsedDocument,
    ParseJob,
    RunIdentity,
    SourceObject,
    Stage,
    StoredText,
)
from rag_assets.ports import Parsing, Source


@dataclass(frozen=True, slots=True)
class Content:
    """What reading a document gave: its bytes, None when it has left, or why it cannot be read."""

    of: SourceObject
    bytes: bytes | SourceError | None

    @property
    def size(self) -> int:
        return len(self.bytes) if isinstance(self.bytes, bytes) else 0


@dataclass(slots=True)
class Batch:
    """What is about to be recorded, in one transaction."""

    documents: list[ObservedDocument] = field(default_factory=list)
    texts: list[StoredText] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    """Documents that cannot be read, or that the corpus's own parser has no text of."""


Titles = Mapping[tuple[bytes, str], str]
"""Content and parser to title, of texts that are stored already."""


def contents(source: Source, objects: Iterable[SourceObject]) -> Iterator[Content]:
    """One after the other, so that only those of one batch are held at a time."""
    for each in objects:
        try:
            yield Content(each, source.read(each.doc_id))
        except SourceDownError:
            raise  # the run ends; else each document would wait for it, and be reported dead
        except SourceError as error:
            yield Content(each, error)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a corpus's documents are read with; the first parser is its own."""

    corpus: Corpus
    parsers: Sequence[str]
    parsing: Parsing
    run: RunIdentity

    def batch(
        self,
        contents: Sequence[Content],
        known: Mapping[str, ObservedDocument],
        titles_of: Callable[[Collection[bytes], Collection[str]], Titles],
    ) -> Batch:
        """Parses what is not stored yet under its content, as a rename, a copy or a touch is."""
        batch = Batch()
        readable = [
            (each.of, content_hash(each.bytes, doc_id=each.of.doc_id), each.bytes)
            for each in contents
            if isinstance(each.bytes, bytes)
        ]
        unread = [
            (each.of, known.get(each.of.doc_id), each.bytes)
            for each in contents
            if isinstance(each.bytes, SourceError)
        ]
        keys = {key for _, key, _ in readable}
        keys |= {before.content_hash for _, before, _ in unread if before is not None}
        titles = titles_of(keys, self.parsers) if keys else {}
        for of, before, error in unread:
            self._unread(of, before, error, titles, batch)
        for of, key, parsed in self._parsed(readable, titles):
            self._assemble(of, key, parsed, titles, batch)
        return batch

    def _parsed(
        self,
        readable: Sequence[tuple[SourceObject, bytes, bytes]],
        titles: Titles,
    ) -> Iterator[tuple[SourceObject, bytes, dict[str, ParsedDocument | UnreadableDocumentError]]]:
        """Each document with what its parsers gave; what is stored already is not parsed again."""
        wanted = [
            [parser for parser in self.parsers if (key, parser) not in titles]
            for _, key, _ in readable
        ]
        outcomes = self.parsing.parsed(
            ParseJob(of.doc_id, content, parser)
            for (of, _, content), parsers in zip(readable, wanted, strict=True)
            for parser in parsers
        )
        for (of, key, _), parsers in zip(readable, wanted, strict=True):
            yield of, key, {parser: next(outcomes) for parser in parsers}

    def _assemble(
        self,
        of: SourceObject,
        key: bytes,
        parsed: Mapping[str, ParsedDocument | UnreadableDocumentError],
        titles: Titles,
        batch: Batch,
    ) -> None:
        """The document is dead when no parser has a text of it.

        One parser's failure is a letter, which keeps it out of that parser's generations: a new
        parser never takes it from those that another has read it for.
        """
        found = {parser: titles[key, parser] for parser in self.parsers if (key, parser) in titles}
        for parser, outcome in parsed.items():
            if isinstance(outcome, ParsedDocument):
                batch.texts.append(StoredText(key, parser, outcome))
                found[parser] = outcome.title
            else:
                self._unparsed(of, key, parser, outcome, batch)
        best = next((found[parser] for parser in self.parsers if parser in found), "")
        document = replace(self._document(of, key), title=best or of.doc_id)
        if not found:
            document = replace(document, state=DocumentState.DEAD)
        batch.documents.append(document)

    def _unparsed(
        self, of: SourceObject, key: bytes, parser: str, error: Exception, batch: Batch
    ) -> None:
        letter = self._letter(of, Stage.PARSE, error)
        batch.dead_letters.append(replace(letter, subject=parser, content_hash=key))
        if parser == self.parsers[0]:
            batch.dead.add(of.doc_id)

    def _unread(
        self,
        of: SourceObject,
        before: ObservedDocument | None,
        error: SourceError,
        titles: Titles,
        batch: Batch,
    ) -> None:
        """What was read before stays, and no hash vouches for it until it can be read again.

        A parser that has no text of it yet cannot make one, and need not be waited for.
        """
        if before is not None and before.state is DocumentState.LIVE:
            now = replace(before, source_hash=b"", uri=of.uri, rev=of.rev, acl=self.corpus.acl)
            now = replace(now, parser=self.parsers[0])
            for parser in self.parsers:
                if (key := before.content_hash, parser) not in titles:
                    self._unparsed(of, key, parser, error, batch)
        else:
            now = replace(self._document(of, b""), source_hash=b"", state=DocumentState.DEAD)
        if now != before:
            batch.documents.append(now)
        batch.dead_letters.append(self._letter(of, Stage.READ, error))
        batch.dead.add(of.doc_id)

    def _document(self, of: SourceObject, key: bytes) -> ObservedDocument:
        return ObservedDocument(
            doc_id=of.doc_id,
            uri=of.uri,
            source_hash=of.source_hash,
            content_hash=key,
            parser=self.parsers[0],
            title=of.doc_id,
            acl=self.corpus.acl,
            state=DocumentState.LIVE,
            rev=of.rev,
        )

    def _letter(self, of: SourceObject, stage: Stage, error: Exception) -> DeadLetter:
        return DeadLetter(
            doc_id=of.doc_id,
            stage=stage,
            error=type(error).__name__,
            reason=str(error),
            code_version=self.run.code_version,
            source_hash=of.source_hash,
        )

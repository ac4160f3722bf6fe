"""Whether so many documents are really gone: the guard before deletions."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from rag_assets.indexing.looking import Seen
from rag_assets.indexing.parsing import content_hash
from rag_assets.indexing.planning import believed
from rag_assets.indexing.reading import contents
from rag_assets.model import Corpus, DocumentState, ObservedDocument, SourceObject, WhyWithheld
from rag_assets.ports import HeldBuckets, Source


@dataclass(frozen=True, slots=True)
class Judged:
    """Of the gone documents, which are not believed to be, and which are on somebody's word."""

    withheld: Mapping[str, WhyWithheld] = field(default_factory=dict)
    approved: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges by the whole source and the whole corpus, though a run holds only some buckets."""

    corpus: Corpus
    source: Source
    held: HeldBuckets

    def judged(self, documents: Mapping[str, ObservedDocument], seen: Seen) -> Judged:
        """Few are believed at once; of many, only as far as they do not live on elsewhere.

        A document that nobody reads, for it is dead, may go with any number of others.
        """
        if seen.lists_nothing and documents and self.held.live_before():
            return Judged(dict.fromkeys(documents, WhyWithheld.EMPTY))
        mine = {name: each.content_hash for name, each in documents.items() if self._served(each)}
        return self._of_served(mine, seen) if mine else Judged()

    def _of_served(self, mine: Mapping[str, bytes], seen: Seen) -> Judged:
        gone = {**mine, **self._gone_elsewhere(seen)}
        lately = self.held.gone_lately(gone=gone)
        if believed(gone=len(gone), lately=lately, live=0):
            return Judged()  # so few that nothing has to be counted
        live = self.held.live_before()
        if not believed(gone=len(gone), lately=lately, live=live):
            kept = self._content_that_lives(gone, seen)
            gone = {doc_id: content for doc_id, content in gone.items() if content not in kept}
        if believed(gone=len(gone), lately=lately, live=live):
            return Judged()
        if len(gone) <= self.held.approved():
            return Judged(approved=gone.keys() & mine.keys())
        return Judged(dict.fromkeys(gone.keys() & mine.keys(), WhyWithheld.TOO_MANY))

    def _served(self, document: ObservedDocument) -> bool:
        return document.state is DocumentState.LIVE or self.corpus.on_poison == "keep_last_good"

    def _gone_elsewhere(self, seen: Seen) -> dict[str, bytes]:
        """In buckets that this run does not hold: what they will lose is judged together."""
        if seen.asked is not None or len(self.held.buckets) == self.corpus.buckets:
            return {}
        return {
            doc_id: content
            for doc_id, _, content in self.held.live_elsewhere()
            if doc_id not in seen.elsewhere
        }

    def _content_that_lives(self, gone: Mapping[str, bytes], seen: Seen) -> set[bytes]:
        """Contents of the gone documents that are still there under other names."""
        wanted = set(gone.values())
        lives = set(self.held.content_that_lives(wanted, gone=gone))
        recorded = (
            {doc_id: mark for doc_id, mark, _ in self.held.live_elsewhere()}
            if (seen.elsewhere and lives != wanted)
            else {}
        )
        unread = (
            SourceObject(doc_id, "", mark)
            for doc_id, mark in seen.elsewhere.items()
            if recorded.get(doc_id) != mark
        )
        for each in contents(self.source, unread):
            if lives == wanted:
                break
            if isinstance(each.bytes, bytes):
                lives |= {content_hash(each.bytes, doc_id=each.of.doc_id)} & wanted
        return lives

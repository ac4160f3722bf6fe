"""One corpus that lives through faults, watched by a reader and judged by the oracle."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from threading import Event
from typing import Self

from rag_assets import wiring
from rag_assets.errors import RagAssetsError
from rag_assets.indexing.requesting import PROBE
from rag_assets.model import (
    ChunkingSettings,
    Corpus,
    Generation,
    LocalFilesSettings,
    RetrievalSettings,
    RunIdentity,
)
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault.attempt import Attempt
from rag_assets_tests.fault.faults import Fault
from rag_assets_tests.fault.oracle import Broken, Oracle, equal, sane
from rag_assets_tests.fault.proxy import Gate, Side
from rag_assets_tests.fault.reader import CATCH_UP_S, Opens, Reader, look
from rag_assets_tests.fault.source import UNREADABLE, History, Listing, Writer, is_poison
from rag_assets_tests.fault.worker import (
    IN_FLIGHT,
    WHOLE_RUN,
    Job,
    Step,
    chain_of,
)
from rag_assets_tests.fault.world import World
from rag_assets_tests.integration.flow import Chain, rows
from rag_assets_tests.services.faults import Fault as ServiceFault
from rag_assets_tests.services.faults import Faults as ServiceFaults
from rag_assets_tests.services.vectors import text_hash

BUCKETS = 2
NEAR_IS_KNOWN = (Side.AFTER, "search.nearest_of_all")
"""What there is to be read is chosen, and not yet read."""
FEWEST = 4
"""With fewer documents than these, every change adds one."""
ROUNDS_TO_REST = 4
"""Runs without faults after which all must be in order; the first ones may find a lock that the
server has not taken from the dead yet."""


@dataclass(slots=True)
class Findings:
    """What one trial saw."""

    seed: int
    broken: list[Broken] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    paid: int = 0
    owed: int = 0
    """Distinct texts and what was in flight when a worker ended: more must not be paid."""

    @property
    def clean(self) -> bool:
        return not self.broken

    def note(self, broken: Iterator[Broken]) -> None:
        self.broken += broken


class Trial:
    """A corpus of its own in the common database."""

    def __init__(
        self,
        world: World,
        seed: int,
        *,
        mutant: str = "",
        revs: bool = False,
        opens: Opens = wiring.search_index,
        slowly: bool = False,
    ) -> None:
        self.world = world
        self.random = Random(seed)
        self.findings = Findings(seed)
        self.name = f"trial_{seed}_{world.trials}"
        self._writer = Writer(self.random, f"{seed}.{world.trials}")
        world.trials += 1
        self.corpus = Corpus(
            self.name,
            source=LocalFilesSettings("nowhere"),
            buckets=BUCKETS,
            chunking=ChunkingSettings(max_chars=140, min_chars=20),
            retrieval=RetrievalSettings(candidates=2000, ef_search=200),
        )
        self.history = History(world.folder / f"{self.name}.json", revs=revs)
        self.oracle = Oracle(self.corpus, self.history)
        self._mutant = mutant
        self._attempts: list[Attempt] = []
        self._watching = ExitStack()
        self._opens = opens
        self._held, self._lingers = Event(), Event()
        self._held.set()
        self._reader = Reader(self._way_to_read(slowly=slowly), self.name, opens)

    def _way_to_read(self, *, slowly: bool) -> DatabaseUrls:
        """A slow reader's requests can be held, after it was told what is near the question."""
        if not slowly:
            return self.world.urls
        gate = Gate(
            self.world.folder / f"{self.name}_reader",
            self.world.urls.reader,
            statements=self.world.ground.statements,
            awaited=lambda moment: (moment.side, moment.statement) == NEAR_IS_KNOWN,
            meets=lambda *_: self._linger(),
        )
        self._watching.callback(gate.close)
        return replace(self.world.urls, reader=gate.url(self.world.urls.reader))

    # --- the source ------------------------------------------------------------------------------

    def fill_source(self, documents: int) -> None:
        for number in range(documents):
            text = self._writer.document()
            self.history.put(f"doc_{number:02}.md", text)
        self.history.save()

    def edit(self, changes: int) -> None:
        """So many changes of so many kinds, all visible at once."""
        for _ in range(changes):
            self._change(self.random.choice(_CHANGES), None)
        self.history.save()

    def edit_all_ways(self) -> None:
        for kind in _CHANGES[:4]:
            self._change(kind, None)
        self.history.save()

    def lengthen_all(self) -> None:
        for doc_id in sorted(self.history.live):
            self.history.put(doc_id, self._writer.longer(self.history.live[doc_id]))
        self.history.save()

    def change(self, kind: str, doc_id: str | None = None) -> str:
        """Says which document it changed."""
        changed = self._change(kind, doc_id)
        self.history.save()
        return changed

    def _change(self, kind: str, named: str | None) -> str:
        live = sorted(self.history.live)
        doc_id = named or (self.random.choice(live) if len(live) >= FEWEST else self._new_id())
        content = self.history.now(doc_id)
        match kind:
            case "edit" if content:
                good = self._writer.passage() if is_poison(content) else content
                self.history.put(doc_id, self._writer.edited(good))
            case "delete" if content:
                self.history.put(doc_id, None)
            case "rename" if content:
                self.history.rename(doc_id, self._new_id())
            case "copy" if content:
                self.history.put(self._new_id(), content)
            case "revert" if len(self.history.documents.get(doc_id, ())) > 1:
                self.history.put(doc_id, self.history.documents[doc_id][-2].content)
            case "spoil" if content:
                self.history.put(doc_id, UNREADABLE)
            case _:
                text = self._writer.document()
                self.history.put(self._new_id(), text)
        return doc_id

    def _new_id(self) -> str:
        """Sometimes that of a document that has left."""
        left = sorted(
            self.history.documents.keys() - self.history.live.keys() - self.history.erased.keys()
        )
        if left and self.random.random() < 0.4:
            return self.random.choice(left)
        return f"doc_{len(self.history.documents):02}.md"

    # --- runs ------------------------------------------------------------------------------------

    def begin(
        self,
        faults: Sequence[Fault] = (),
        *,
        service: ServiceFaults | None = None,
        listed: Sequence[ServiceFault | None] = (),
        steps: tuple[Step, ...] = WHOLE_RUN,
        waits: bool = True,
        hinted: bool = False,
    ) -> Attempt:
        service = service or ServiceFaults()
        service.add(listed)
        name = f"{self.name}_{len(self._attempts)}"
        attempt = self.world.ground.begin(
            name,
            lambda gate, answering: Job(
                urls=replace(self.world.urls, writer=gate.url(self.world.urls.writer)),
                corpus=self.corpus,
                source=self.history.file,
                service=answering.openai_url,
                run_id=name,
                mutant=self._mutant,
                steps=steps,
                waits=waits,
                hinted=hinted,
            ),
            faults=faults,
            service=service,
        )
        self._attempts.append(attempt)
        return attempt

    def end(self, *attempts: Attempt) -> None:
        """Waits for workers and notes what struck them, and whether they ended as they may."""
        for attempt in attempts:
            attempt.join()
            struck = attempt.faults.struck
            self.findings.faults.update(str(fault.action) for fault in struck)
            self.findings.faults.update(
                f"service: {name}" for name in attempt.service.account.faults.elements()
            )
            if attempt.hung:
                self.broke("I12", f"a worker hung after {_told(struck)}")
            elif attempt.ended and not attempt.ended.expected:
                self.broke("I12", f"{attempt.ended.error} after {_told(struck)}")

    def run(
        self,
        *faults: Fault,
        steps: tuple[Step, ...] = WHOLE_RUN,
        service: ServiceFaults | None = None,
        listed: Sequence[ServiceFault | None] = (),
    ) -> Attempt:
        """One worker, from its beginning to its end."""
        attempt = self.begin(faults, steps=steps, service=service, listed=listed)
        self.end(attempt)
        return attempt

    def start(self, documents: int) -> None:
        """From nothing to a published index with a reader before it."""
        self.fill_source(documents)
        self.run(steps=(*WHOLE_RUN, Step.PUBLISH))
        self.watch()

    def watch(self) -> None:
        self._watching.enter_context(self._reader)

    def let_read(self) -> None:
        """Whatever a fault has left behind, a reader sees it."""
        self._reader.catch_up()

    @contextmanager
    def reader_held(self) -> Iterator[None]:
        """One request of a slow reader begins before this, and ends after it."""
        self._held.clear()
        self._lingers.clear()
        try:
            assert self._lingers.wait(CATCH_UP_S), "the reader does not come"
            yield
        finally:
            self._held.set()
        self.let_read()

    def _linger(self) -> None:
        if not self._held.is_set():
            self._lingers.set()
            self._held.wait()

    @property
    def watched(self) -> Counter[str]:
        """The statements of the latest run."""
        return self._attempts[-1].gate.seen

    def rest(self, *, steps: tuple[Step, ...] = WHOLE_RUN) -> None:
        """Runs without a fault until one has nothing to complain of."""
        self.history.list_as(Listing.WHOLE)
        for _ in range(ROUNDS_TO_REST):
            self._approve()
            attempt = self.run(steps=steps)
            withheld = self._chain().stores.documents.withheld_deletions(self.name)
            if attempt.clean and not attempt.paid and not withheld:
                return
        if not attempt.clean:
            error = attempt.ended.error if attempt.ended else "no end"
            self.broke("I1", f"a run without faults fails: {error}")

    def _approve(self) -> None:
        """Somebody has looked at the source, which is whole again, and believes it."""
        documents = self._chain().stores.documents
        if withheld := documents.withheld_deletions(self.name):
            documents.approve_deletions(self.name, up_to=len(withheld))

    # --- what people do --------------------------------------------------------------------------

    def hint(self, doc_id: str) -> None:
        self._chain().stores.documents.add_hints(self.name, [doc_id])

    def erase(self, doc_id: str | None = None) -> str:
        """The source goes on listing it."""
        doc_id = doc_id or self.random.choice(sorted(self.history.live))
        self.history.erase(doc_id)
        self._chain().stores.erasing.erase(self.name, doc_id, RunIdentity("eraser", "code-1"))
        return doc_id

    def lose_rows(self) -> None:
        chain = self._chain()
        doc_id = self.random.choice(sorted(self.history.live))
        query = f"DELETE FROM index_{chain.newest.number} WHERE doc_id = %(doc_id)s RETURNING ord"
        assert rows(self.world.urls.writer, query, doc_id=doc_id)
        self.findings.faults["rows lost"] += 1

    def cut_otherwise(self) -> None:
        """The next run opens a new generation."""
        self.corpus = replace(self.corpus, chunking=ChunkingSettings(max_chars=70, min_chars=20))

    def publish_the_other(self) -> None:
        """Of two living generations that have caught up."""
        chain = self._chain()
        published = chain.published().generation
        [other] = [each for each in chain.living if each.number != published]
        chain.publish(other)

    # --- judging ---------------------------------------------------------------------------------

    def judge(self) -> None:
        """At rest: what readers find, without a look at the tables."""
        try:
            with self._opens(self.world.urls) as index:
                last = look(index, self.name)
        except RagAssetsError as error:
            self.broke("I12", f"nothing can be read: {error}")
            return
        self._reader.see(last)
        self._learn_recipes()
        self.findings.note(self.oracle.served(last))

    def judge_all(self) -> Findings:
        """At the end: everything that was promised."""
        chain = self._chain()
        if not chain.living:
            self.broke("I1", "no generation was ever built")
            return self.findings
        before, requests = self.world.written(), self.run()
        if self.world.written() != before or requests.paid:
            self.broke("I5", f"a run without a change writes, or pays {requests.paid} texts")
        self.judge()
        self._watching.close()
        self.judge_reads()
        self._judge_cost(chain)
        self.findings.note(equal(chain.holds(), self._fresh().holds()))
        self.findings.note(
            self.oracle.poison(row["doc_id"] for row in chain.holds()["dead letters"])
        )
        self.findings.note(sane(self._vectors(chain)))
        return self.findings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._watching.close()

    def judge_hidden(self, *, left: int, wanted: int) -> None:
        """I9: with an index scan, and all but a few documents hidden, the few are found."""
        chain = self._chain()
        table, visible = f"index_{chain.newest.number}", sorted(self.history.live)[-left:]
        query = (
            f"UPDATE {table} SET acl = '{{nobody}}' WHERE NOT doc_id = ANY (%(visible)s)"
            " RETURNING ord"
        )
        assert rows(self.world.urls.writer, query, visible=visible)
        reader = f"{self.world.urls.reader}&options=-c%20enable_seqscan%3Doff"
        with self._opens(replace(self.world.urls, reader=reader)) as index:
            published = index.published(self.name)
            few = replace(published.retrieval, candidates=wanted, ef_search=wanted)
            found = look(index, self.name, replace(published, retrieval=few))
        if (hits := sum(map(len, found.documents.values()))) < wanted:
            self.broke("I9", f"{hits} passages are found where {wanted} may be seen")

    def judge_reads(self) -> None:
        """What readers saw until now."""
        seen, living = self._reader.snapshots, self._learn_recipes()
        self.findings.reads = self._reader.reads
        self.findings.note(self.oracle.half_reads(seen))
        self.findings.note(self.oracle.backwards(seen))
        embedders = {each.number: each.recipe.embedder for each in living}
        self.findings.note(self.oracle.models(seen, embedders))
        for error in self._reader.broken:
            self.broke("I12", f"a reader met {error}")

    def _learn_recipes(self) -> list[Generation]:
        living = self._chain().living
        self.oracle.chunkers = {each.number: each.recipe.chunker for each in living}
        return living

    def _judge_cost(self, chain: Chain) -> None:
        """I6: the useful part of what was paid, against what had to be paid."""
        for attempt in self._attempts:
            useful = attempt.service.paid - attempt.service.spoiled
            del useful[text_hash(PROBE)]
            self.findings.paid += useful.total()
            if not attempt.clean:
                self.findings.owed += min(useful.total(), IN_FLIGHT)
        self.findings.owed += len(self.oracle.texts)
        if self.findings.paid > self.findings.owed:
            self.broke("I6", f"{self.findings.paid} texts were paid, {self.findings.owed} owed")

    def _fresh(self) -> Chain:
        """The same source in a database that never saw another state of it, nor any fault."""
        file, service = self.history.file.with_suffix(".fresh"), self.world.service.openai_url
        self.history.save_as_it_should_be(file)
        job = Job(self.world.fresh, self.corpus, file, service, "fresh")
        job.run()
        return chain_of(job)

    def _chain(self) -> Chain:
        return chain_of(Job(self.world.urls, self.corpus, self.history.file, "", "judge"))

    def _vectors(self, chain: Chain) -> list[dict[str, str]]:
        recipe = chain.newest.recipe
        query = (
            "SELECT d.doc_id, c.ord, e.embedding::text AS vector, array_to_string("
            " array_remove(ARRAY[nullif(array_to_string(c.heading_path, ' > '), ''), c.text], NULL),"
            " chr(10)) AS text FROM documents d JOIN corpora k USING (corpus)"
            " JOIN chunks c USING (content_hash)"
            " JOIN embeddings e ON e.scope = k.scope AND e.text_hash = c.text_hash"
            " WHERE d.corpus = %(corpus)s AND d.state = 'live' AND e.model = %(model)s"
            " AND c.chunker = %(chunker)s AND c.parser = %(parser)s"
        )
        which = {"corpus": self.name, "model": recipe.embedder}
        which |= {"chunker": recipe.chunker, "parser": recipe.parser}
        return rows(self.world.urls.writer, query, **which)

    def broke(self, promise: str, what: str) -> None:
        self.findings.broken.append(Broken(promise, what))


_CHANGES = ("edit", "delete", "rename", "add", "edit", "copy", "revert", "spoil", "refuse")


def _told(faults: Sequence[Fault]) -> str:
    return ", ".join(map(str, faults)) or "no fault"

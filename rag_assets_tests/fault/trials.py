"""One corpus that lives through faults, watched by a reader and judged by the oracle."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from random import Random
from typing import Self

import numpy as np

from rag_assets import wiring
from rag_assets.model import ChunkingSettings, Corpus, LocalFilesSettings, RetrievalSettings
from rag_assets.ports import Vectors
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.fault import source
from rag_assets_tests.fault.attempt import Attempt
from rag_assets_tests.fault.faults import Fault
from rag_assets_tests.fault.oracle import Broken, Oracle, equal, is_poison, sane
from rag_assets_tests.fault.reader import Reader, look
from rag_assets_tests.fault.source import History, Listing
from rag_assets_tests.fault.worker import TEXTS_A_CALL, Job, ServedEmbedder, chain_of
from rag_assets_tests.fault.world import World
from rag_assets_tests.integration.flow import Chain, rows
from rag_assets_tests.services.faults import Faults as ServiceFaults

BUCKETS = 2
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

    def __init__(self, world: World, seed: int, *, mutant: str = "", revs: bool = False) -> None:
        self.world = world
        self.random = Random(seed)
        self.findings = Findings(seed)
        self.name = f"trial_{seed}_{world.trials}"
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
        self._reader = Reader(world.urls, self.name)

    # --- the source ------------------------------------------------------------------------------

    def fill_source(self, documents: int) -> None:
        for number in range(documents):
            text = source.document(self.random, passages=self.random.randint(1, 3))
            self.history.put(f"doc_{number:02}.md", text)
        self.history.save()

    def edit(self, changes: int) -> None:
        """So many changes of so many kinds, all visible at once."""
        for _ in range(changes):
            self._change(self.random.choice(_CHANGES))
        self.history.save()

    def edit_all_ways(self) -> None:
        for kind in _CHANGES[:4]:
            self._change(kind)
        self.history.save()

    def _change(self, kind: str) -> None:
        live = sorted(self.history.live)
        if len(live) < 4:
            kind = "add"
        doc_id = self.random.choice(live) if live else ""
        match kind:
            case "edit":
                before = self.history.live[doc_id]
                text = "" if is_poison(before) else before
                self.history.put(
                    doc_id, source.edited(self.random, text or source.passage(self.random))
                )
            case "delete":
                self.history.put(doc_id, None)
            case "rename":
                self.history.rename(doc_id, self._new_id())
            case "copy":
                self.history.put(self._new_id(), self.history.now(doc_id))
            case "revert" if len(self.history.documents[doc_id]) > 1:
                self.history.put(doc_id, self.history.documents[doc_id][-2].content)
            case "spoil":
                self.history.put(doc_id, source.UNREADABLE)
            case _:
                text = source.document(self.random, passages=self.random.randint(1, 3))
                self.history.put(self._new_id(), text)

    def _new_id(self) -> str:
        """Sometimes that of a document that has left."""
        left = sorted(self.history.documents.keys() - self.history.live.keys())
        if left and self.random.random() < 0.4:
            return self.random.choice(left)
        return f"doc_{len(self.history.documents):02}.md"

    # --- runs ------------------------------------------------------------------------------------

    def begin(
        self,
        faults: Sequence[Fault] = (),
        *,
        service: ServiceFaults | None = None,
        buckets: tuple[int, ...] | None = None,
        publishes: bool = False,
    ) -> Attempt:
        name = f"{self.name}_{len(self._attempts)}"
        attempt = self.world.ground.begin(
            name,
            lambda gate, answering: Job(
                urls=replace(self.world.urls, writer=gate.url(self.world.urls.writer)),
                corpus=self.corpus,
                source=self.history.file,
                service=answering.openai_url,
                run_id=name,
                buckets=buckets,
                mutant=self._mutant,
                publishes=publishes,
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
                self._broke("I12", f"a worker hung after {_told(struck)}")
            elif attempt.ended and not attempt.ended.expected:
                self._broke("I12", f"{attempt.ended.error} after {_told(struck)}")

    def run(
        self, *faults: Fault, publishes: bool = False, service: ServiceFaults | None = None
    ) -> Attempt:
        attempt = self.begin(faults, publishes=publishes, service=service)
        self.end(attempt)
        return attempt

    def start(self, documents: int) -> None:
        """From nothing to a published index with a reader before it."""
        self.fill_source(documents)
        self.run(publishes=True)
        self.watch()

    def watch(self) -> None:
        self._watching.enter_context(self._reader)

    @property
    def watched(self) -> Counter[str]:
        """The statements of the latest run."""
        return self._attempts[-1].gate.seen

    def rest(self, *, publishes: bool = False) -> None:
        """Runs without a fault until one has nothing to complain of."""
        self.history.list_as(Listing.WHOLE)
        for _ in range(ROUNDS_TO_REST):
            attempt = self.run(publishes=publishes)
            if attempt.clean and not attempt.paid:
                return
        if not attempt.clean:
            error = attempt.ended.error if attempt.ended else "no end"
            self._broke("I1", f"a run without faults fails: {error}")

    # --- judging ---------------------------------------------------------------------------------

    def judge(self) -> None:
        """At rest: what readers find, without a look at the tables."""
        with wiring.search_index(self.world.urls) as index:
            last = look(index, self.name)
        self._reader.see(last)
        self.findings.note(self.oracle.served(last))

    def judge_all(self) -> Findings:
        """At the end: everything that was promised."""
        chain = self._chain()
        before, requests = self.world.written(), self.run()
        if self.world.written() != before or requests.paid:
            self._broke("I5", f"a run without a change writes, or pays {requests.paid} texts")
        self.judge()
        self._watching.close()
        self._judge_reads(chain)
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

    def _judge_reads(self, chain: Chain) -> None:
        seen = self._reader.snapshots
        self.findings.reads += self._reader.reads
        self.findings.note(self.oracle.half_reads(seen))
        self.findings.note(self.oracle.backwards(seen))
        recipes = {each.number: each.recipe.embedder for each in chain.living}
        self.findings.note(self.oracle.one_generation(seen, recipes))
        for error in self._reader.broken:
            self._broke("I12", f"a reader met {error}")

    def _judge_cost(self, chain: Chain) -> None:
        """I6: the useful part of what was paid, against what had to be paid."""
        for attempt in self._attempts:
            spoiled = attempt.service.spoiled.total()
            self.findings.paid += attempt.paid - spoiled
            if not attempt.clean:
                self.findings.owed += min(attempt.paid - spoiled, TEXTS_A_CALL)
        self.findings.owed += len(self.oracle.texts)
        if self.findings.paid > self.findings.owed:
            self._broke("I6", f"{self.findings.paid} texts were paid, {self.findings.owed} owed")

    def _fresh(self) -> Chain:
        """The same source in a database that never saw another state of it."""
        chain = replace(self._chain(self.world.fresh), embedder=_Directly())
        chain.run()
        return chain

    def _chain(self, urls: DatabaseUrls | None = None) -> Chain:
        job = Job(urls or self.world.urls, self.corpus, self.history.file, "", "judge")
        return chain_of(job)

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

    def _broke(self, promise: str, what: str) -> None:
        self.findings.broken.append(Broken(promise, what))


_CHANGES = ("edit", "delete", "rename", "add", "edit", "copy", "revert", "spoil")


class _Directly(ServedEmbedder):
    """The same model without the service."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        return np.array([self.embed_question(text) for text in texts]).reshape(-1, self.dimensions)


def _told(faults: Sequence[Fault]) -> str:
    return ", ".join(map(str, faults)) or "no fault"

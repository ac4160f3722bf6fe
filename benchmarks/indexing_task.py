"""One measured piece of work in a process of its own, so that its memory can be told.

    python -m benchmarks.indexing_task '{"work": "runs", …}'

Prints what it cost as JSON. What only the start of a process costs is not counted: imports, and
loading the model.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.bare_stages import BareStages
from benchmarks.measuring import Cost, Meter, peak_mb
from rag_assets import wiring
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.indexing.chunking import cut
from rag_assets.indexing.embedding import embed
from rag_assets.indexing.observing import observe
from rag_assets.indexing.quality import judgings, judgings_of_parsers
from rag_assets.model import (
    Corpus,
    Generation,
    LocalFilesSettings,
    QualityStage,
    RunIdentity,
    bucket_of,
)
from rag_assets.settings import DatabaseUrls

CORPUS = "measured"
TEXT_FILES = ("**/*.md", "**/*.markdown", "**/*.txt")
EDIT = "\n\nThis paragraph was added while the index was measured, for the {}th time.\n"


@dataclass(frozen=True, slots=True)
class Task:
    """What to do to a database and a folder."""

    work: str
    """`bare`, or `runs`: as many runs of the product as there are edits."""
    admin_url: str
    urls: tuple[str, str, str]
    folder: str
    edits: Sequence["Edit"] = ()
    hinted: bool = False
    """Whether the runs are told what changed, and look at nothing else."""

    @property
    def corpus(self) -> Corpus:
        return Corpus(CORPUS, source=LocalFilesSettings(self.folder, include=TEXT_FILES))


@dataclass(frozen=True, slots=True)
class Edit:
    """What happens to the folder before a run."""

    number: int
    changed: Sequence[str] = ()
    deleted: Sequence[str] = ()

    def make(self, folder: Path) -> None:
        for doc_id in self.changed:
            with (folder / doc_id).open("a", encoding="utf-8") as file:
                file.write(EDIT.format(self.number))
        for doc_id in self.deleted:
            (folder / doc_id).unlink()


@dataclass(frozen=True, slots=True)
class Report:
    cost: Cost
    runs: int
    documents: int
    texts_embedded: int
    peak_mb: float
    stages: dict[str, Cost] = field(default_factory=dict)


def do(task: Task) -> Report:
    work = {"bare": _bare, "runs": _runs}[task.work]
    with closing(Meter(task.admin_url)) as meter:
        return work(task, meter)


def _bare(task: Task, meter: Meter) -> Report:
    model = _loaded_model()
    doc_ids = [found.doc_id for found in wiring.source_of(task.corpus).objects()]
    bare = BareStages(task.urls[0], task.corpus, model, meter)
    with meter.measures() as cost:
        chunks = bare.run(doc_ids)
    return Report(cost, 1, len(doc_ids), chunks, peak_mb(), bare.costs)


def _runs(task: Task, meter: Meter) -> Report:
    _loaded_model()
    runs = _Runs(task, meter)
    with meter.measures() as cost:
        for edit in task.edits:
            edit.make(Path(task.folder))
            runs.run(edit)
    counts = runs.stores.documents.counts(task.corpus.name)
    documents = sum(count["live"] for count in counts.values())
    return Report(cost, len(task.edits), documents, runs.texts, peak_mb(), runs.stages)


def _loaded_model() -> WordLlamaEmbedder:
    """Ready before anything is measured."""
    model = WordLlamaEmbedder()
    model.embed_documents(["One sentence."])
    return model


@dataclass(slots=True)
class _Runs:
    """What the assets of a run do, without Dagster."""

    task: Task
    meter: Meter
    texts: int = 0
    stages: dict[str, Cost] = field(default_factory=dict)

    @property
    def stores(self) -> wiring.Stores:
        return wiring.stores(DatabaseUrls(*self.task.urls))

    def run(self, edit: Edit) -> None:
        """One that knows what changed is over the buckets of those documents alone."""
        corpus, stores = self.task.corpus, self.stores
        buckets: Sequence[int] = range(corpus.buckets)
        if self.task.hinted:
            changed = [*edit.changed, *edit.deleted]
            stores.documents.add_hints(corpus.name, changed)
            buckets = sorted({bucket_of(doc_id, corpus.buckets) for doc_id in changed})
        run = RunIdentity(f"run-{edit.number}", "benchmark")
        with self._stage("raw_documents"):
            self._observe(stores, corpus, buckets, run)
        with self._stage("chunks"):
            stores.generations.open(corpus.name, wiring.recipe_of(corpus))
            living = stores.generations.living(corpus.name)
            for generation in living:
                chunker = wiring.chunker_of(generation, corpus)
                cut(
                    generation,
                    buckets,
                    chunker=chunker,
                    store=stores.chunks,
                    letters=stores.documents,
                    run=run,
                )
                rules = judgings(generation.recipe, corpus.quality, [QualityStage.CHUNKS])
                stores.quality.judge(corpus.name, rules, buckets, run)
        with self._stage("embeddings"):
            for generation in living:
                self._embed(stores, corpus, generation, buckets, run)
                rules = judgings(generation.recipe, corpus.quality, [QualityStage.EMBEDDINGS])
                stores.quality.judge(corpus.name, rules, buckets, run)
        with self._stage("vector_index"):
            for generation in living:
                rules = judgings(generation.recipe, corpus.quality)
                stores.quality.judge(corpus.name, rules, buckets, run)
                stores.index.merge(generation, buckets, run)
                stores.generations.finish(generation)
                stores.measuring.measure(generation)

    def _observe(
        self, stores: wiring.Stores, corpus: Corpus, buckets: Sequence[int], run: RunIdentity
    ) -> None:
        parsers = wiring.parsers_of(corpus, stores.generations.living(corpus.name))
        with wiring.parsing() as parsing:
            observe(
                corpus,
                buckets,
                source=wiring.source_of(corpus),
                parsers=parsers,
                parsing=parsing,
                store=stores.documents,
                run=run,
                hinted=self.task.hinted,
            )
        rules = judgings_of_parsers(parsers, corpus.quality)
        stores.quality.judge(corpus.name, rules, buckets, run)

    def _embed(
        self,
        stores: wiring.Stores,
        corpus: Corpus,
        generation: Generation,
        buckets: Sequence[int],
        run: RunIdentity,
    ) -> None:
        urls = DatabaseUrls(*self.task.urls)
        with wiring.document_embedder(generation, corpus, urls) as embedder:
            self.texts += embed(
                generation,
                buckets,
                embedder=embedder,
                store=stores.embeddings,
                letters=stores.documents,
                run=run,
            ).texts

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        """Looking at the clock of the server's processes costs as much as a small run."""
        if len(self.task.edits) > 1:
            yield
            return
        before = self.meter.clock()
        yield
        self.stages.setdefault(name, Cost()).add(before, self.meter.clock())


def main() -> int:
    given = json.loads(sys.argv[1])
    edits = [Edit(**each) for each in given.pop("edits")]
    print(json.dumps(asdict(do(Task(**given, edits=edits)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

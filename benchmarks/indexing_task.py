"""One measured piece of work in a process of its own, so that its memory can be told.

    python -m benchmarks.indexing_task '{"work": "runs", …}'

Prints what it cost as JSON. What only the start of a process costs is not counted: imports, and
loading the model.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.bare_stages import BareStages
from benchmarks.measuring import Cost, Meter, peak_mb
from rag_assets import wiring
from rag_assets.adapters.wordllama import WordLlamaEmbedder
from rag_assets.model import Corpus, LocalFilesSettings, bucket_of
from rag_assets.ports import Vectors
from rag_assets.settings import DatabaseUrls
from rag_assets_tests.integration.flow import Chain, CountingEmbedder

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
        return Corpus("measured", source=LocalFilesSettings(self.folder, include=TEXT_FILES))


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


@dataclass(slots=True)
class Counted(CountingEmbedder):
    """The model of the corpus, counting what it is given and keeping none of it."""

    model: WordLlamaEmbedder = field(default_factory=WordLlamaEmbedder)
    texts: int = 0

    @property
    def identity(self) -> str:
        return self.model.identity

    @property
    def dimensions(self) -> int:
        return self.model.dimensions

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        self.texts += len(texts)
        return self.model.embed_documents(texts)


def do(task: Task) -> Report:
    meter = Meter(task.admin_url)
    model = WordLlamaEmbedder()
    model.embed_documents(["The model is loaded before anything is measured."])
    work: dict[str, Callable[[Task, Meter, WordLlamaEmbedder], Report]] = {
        "bare": _bare,
        "runs": _runs,
    }
    return work[task.work](task, meter, model)


def _bare(task: Task, meter: Meter, model: WordLlamaEmbedder) -> Report:
    doc_ids = [found.doc_id for found in wiring.source_of(task.corpus).objects()]
    bare = BareStages(task.urls[0], task.corpus, model, meter)
    with meter.measures() as cost:
        chunks = bare.run(doc_ids)
    return Report(cost, 1, len(doc_ids), chunks, peak_mb(), bare.costs)


def _runs(task: Task, meter: Meter, model: WordLlamaEmbedder) -> Report:
    counted = Counted(model=model)
    chain = Chain(DatabaseUrls(*task.urls), task.corpus, embedder=counted)
    stages: dict[str, Cost] = {}
    with meter.measures() as cost:
        for edit in task.edits:
            edit.make(Path(task.folder))
            _run(chain, edit, stages, meter, hinted=task.hinted)
    counts = chain.stores.documents.counts(task.corpus.name)
    documents = sum(count["live"] for count in counts.values())
    return Report(cost, len(task.edits), documents, counted.texts, peak_mb(), stages)


def _run(chain: Chain, edit: Edit, stages: dict[str, Cost], meter: Meter, *, hinted: bool) -> None:
    """What the assets of one run do. A run that knows what changed is of those buckets alone."""
    buckets: Sequence[int] = range(chain.corpus.buckets)
    if hinted:
        changed = [*edit.changed, *edit.deleted]
        chain.stores.documents.add_hints(chain.corpus.name, changed)
        buckets = sorted({bucket_of(each, chain.corpus.buckets) for each in changed})
    steps: dict[str, Callable[[], object]] = {
        "raw_documents": lambda: chain.observe(buckets, hinted=hinted),
        "chunks": lambda: (chain.open(), chain.cut(buckets)),
        "embeddings": lambda: chain.embed(buckets),
        "vector_index": lambda: chain.merge(buckets),
    }
    for name, step in steps.items():
        before = meter.clock()
        step()
        stages.setdefault(name, Cost()).add(before, meter.clock())


def main() -> int:
    given = json.loads(sys.argv[1])
    edits = [Edit(**each) for each in given.pop("edits")]
    print(json.dumps(asdict(do(Task(**given, edits=edits)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

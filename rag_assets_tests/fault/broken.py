"""Which scene shows which broken protocol, and the promise that it breaks."""

from dataclasses import dataclass

from rag_assets_tests.fault import scenes
from rag_assets_tests.fault.faults import Action
from rag_assets_tests.fault.mutants import MUTANTS, READERS
from rag_assets_tests.fault.scenes import Answered, Killed, Listed, Overtaken, Scene, after, before
from rag_assets_tests.fault.source import Listing
from rag_assets_tests.services.faults import Fault as ServiceFault


@dataclass(frozen=True, slots=True)
class BrokenProtocol:
    mutant: str
    promise: str
    scene: Scene


BROKEN_PROTOCOLS = (
    BrokenProtocol(
        "chunks are marked as cut before they are written",
        "I1",
        Killed(after("chunks.add_chunk_sets")),
    ),
    BrokenProtocol(
        "what is observed is recorded piece by piece",
        "I1",
        Killed(after("documents.put_documents")),
    ),
    BrokenProtocol("a bucket counts as merged while documents wait", "I1", scenes.one_by_one),
    BrokenProtocol(
        "a run that leaves a bucket to another forgets it", "I1", scenes.left_to_the_holder
    ),
    BrokenProtocol("a hint is forgotten that came after the look", "I1", scenes.hinted_twice),
    BrokenProtocol("lost rows are not missed", "I1", scenes.damaged),
    BrokenProtocol("old rows go before new ones come", "I2", Killed(after("index.insert_rows"))),
    BrokenProtocol("no lock and no fence", "I3", Overtaken(before("documents.next_epoch"))),
    BrokenProtocol("an older revision overwrites a newer one", "I3", Listed(Listing.STALE)),
    BrokenProtocol("an older revision revives a deleted document", "I3", scenes.risen),
    BrokenProtocol("no fence against an erasure", "I4", scenes.erased_in_flight),
    BrokenProtocol("an erased document is listed again", "I4", scenes.erased),
    BrokenProtocol(
        "rows of what has left stay", "I4", Killed(after("index.write_manifest"), Action.DELAY)
    ),
    BrokenProtocol("every run writes that it was there", "I5", scenes.unpaid),
    BrokenProtocol("vectors are kept until the last has come", "I6", scenes.killed_while_paying),
    BrokenProtocol("a dead letter outlives its cause", "I7", scenes.poisoned),
    BrokenProtocol(
        "a vector is stored under another text", "I8", Answered((ServiceFault.SHUFFLED,))
    ),
    BrokenProtocol("any vector will do", "I8", Answered((ServiceFault.ZERO,))),
    BrokenProtocol("all deletions are believed", "I11", Listed(Listing.PARTIAL)),
    BrokenProtocol(
        "a failure is told in nobody's words",
        "I12",
        Killed(before("index.insert_rows"), Action.TERMINATE),
    ),
    BrokenProtocol("a reader without a snapshot", "I2", scenes.read_slowly),
    BrokenProtocol("a reader that takes the generation twice", "I10", scenes.recut),
    BrokenProtocol("a reader that does not walk on", "I9", scenes.seen_by_few),
)
assert {each.mutant for each in BROKEN_PROTOCOLS} <= MUTANTS.keys() | READERS.keys()

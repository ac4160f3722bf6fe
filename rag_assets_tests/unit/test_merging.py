"""What a merge decides, over thousands of histories: no I/O, and an index of plain dictionaries."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.indexing.merging import merge_plan
from rag_assets.model import Comparison, Description, DocumentState, MergePlan

LIVE, DEAD, DELETED = DocumentState.LIVE, DocumentState.DEAD, DocumentState.DELETED

OLD = Description(b"1", uri="file:a.md", title="A", acl=("everyone",))
NEW = replace(OLD, content_hash=b"2", title="B")


def compared(**changes: object) -> Comparison:
    """Live, served as it was observed."""
    same = Comparison("a.md", LIVE, version=5, observed=OLD, served=OLD, ready=True)
    return replace(same, **changes)  # type: ignore[arg-type] # names and types are the test's


def plan_of(each: Comparison, *, keep_last_good: bool = False, merged: int = 4) -> MergePlan:
    return merge_plan([each], keep_last_good=keep_last_good, merged=merged)


def done(plan: MergePlan) -> set[str]:
    names = ("add", "replace", "remove", "describe", "restore", "waiting", "kept")
    return {name for name in names if getattr(plan, name)}


@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (compared(), set()),
        (compared(served=None), {"add"}),
        (compared(served=None, intact=False), {"replace"}),
        (compared(observed=NEW), {"replace"}),
        (compared(intact=False), {"replace"}),
        (compared(observed=replace(OLD, uri="file:b.md")), {"describe"}),
        (compared(observed=replace(OLD, acl=("staff",))), {"describe"}),
        (compared(state=DELETED), {"remove"}),
        (compared(state=None, observed=None), {"remove"}),
        (compared(state=None, observed=None, served=None, intact=False), {"remove"}),
        (compared(state=DELETED, served=None), set()),
        (compared(observed=NEW, ready=False), {"waiting"}),
        (compared(served=None, ready=False), {"waiting"}),
        (compared(served=None, ready=False, intact=False), {"waiting", "remove"}),
        (compared(ready=False), {"waiting"}),
        (compared(ready=False, intact=False), {"waiting"}),
        (compared(observed=NEW, ready=False, restorable=True), {"waiting"}),
        (
            compared(observed=NEW, ready=False, restorable=True, intact=False),
            {"waiting", "restore"},
        ),
    ],
)
def test_each_difference_has_its_remedy(each: Comparison, expected: set[str]) -> None:
    assert done(plan_of(each)) == expected


@pytest.mark.parametrize("state", [LIVE, DEAD])
def test_poison_leaves_the_index_unless_its_last_good_content_is_kept(
    state: DocumentState,
) -> None:
    bad = compared(state=state, observed=NEW, ready=False, poison=True, restorable=True)
    assert done(plan_of(bad)) == {"remove"}
    assert done(plan_of(bad, keep_last_good=True)) == {"kept"}
    assert done(plan_of(replace(bad, intact=False), keep_last_good=True)) == {"kept", "restore"}
    never_served = replace(bad, served=None)
    assert done(plan_of(never_served)) == done(plan_of(never_served, keep_last_good=True)) == set()


def test_what_has_all_its_vectors_is_no_poison_whatever_was_once_said() -> None:
    assert done(plan_of(compared(observed=NEW, poison=True))) == {"replace"}


@pytest.mark.parametrize("keep_last_good", [False, True])
def test_permissions_never_wait(keep_last_good: bool) -> None:
    secret = replace(NEW, acl=("staff",))
    waiting = compared(observed=secret, ready=False)
    assert done(plan_of(waiting, keep_last_good=keep_last_good)) == {"waiting", "describe"}
    kept = compared(observed=secret, ready=False, poison=True)
    assert done(plan_of(kept, keep_last_good=True)) == {"kept", "describe"}


def test_the_lowest_version_that_waits_is_told() -> None:
    versions = [9, 7, 8]
    waiting = [compared(doc_id=f"{n}.md", version=n, observed=NEW, ready=n == 8) for n in versions]
    assert merge_plan(waiting).waiting_since == 7
    assert merge_plan(waiting[2:]).waiting_since is None


def test_only_what_was_damaged_counts_as_healed() -> None:
    assert plan_of(compared(intact=False), merged=5).healed == 1
    assert plan_of(compared(observed=NEW), merged=4).healed == 0
    assert plan_of(compared(served=None), merged=5).healed == 1
    assert plan_of(compared(state=DEAD, ready=False), merged=5).healed == 0


# --- histories ----------------------------------------------------------------------------------

DOC_IDS = ("a.md", "b.md", "c.md")
CONTENTS = (b"1", b"2", b"3")


@dataclass(slots=True)
class World:
    """A bucket as the stores hold it: what was observed, what is cut and embedded, what is served."""

    version: int = 0
    observed: dict[str, tuple[DocumentState, int, Description]] = field(default_factory=dict)
    stored: set[bytes] = field(default_factory=set)
    refused: set[bytes] = field(default_factory=set)
    served: dict[str, Description] = field(default_factory=dict)
    rows: dict[str, bytes] = field(default_factory=dict)
    """Which content the rows of a document are of."""
    merged: int = 0

    def observe(self, doc_id: str, state: DocumentState, content: bytes, acl: str) -> None:
        self.version += 1
        said = Description(content, uri=doc_id, title=f"{content!r}", acl=(acl,))
        self.observed[doc_id] = (state, self.version, said)

    def compare(self, doc_id: str) -> Comparison:
        state, version, observed = self.observed.get(doc_id, (None, 0, None))
        served = self.served.get(doc_id)
        content = observed.content_hash if observed else None
        return Comparison(
            doc_id=doc_id,
            state=state,
            version=version,
            observed=observed,
            served=served,
            ready=state is LIVE and content in self.stored,
            restorable=bool(served and served.content_hash in self.stored),
            intact=self.rows.get(doc_id) == (served.content_hash if served else None),
            poison=content in self.refused,
        )

    def merge(self, *, keep_last_good: bool, everything: bool = False) -> MergePlan:
        changed = {
            doc_id
            for doc_id, (_, version, _) in self.observed.items()
            if everything or version > self.merged
        }
        looked_at = changed | ({*self.served, *self.rows} if everything else set())
        plan = merge_plan(
            map(self.compare, sorted(looked_at)), keep_last_good=keep_last_good, merged=self.merged
        )
        for doc_id in (*plan.replace, *plan.remove):
            self.served.pop(doc_id, None)
            self.rows.pop(doc_id, None)
        for doc_id in (*plan.add, *plan.replace):
            self.served[doc_id] = self.observed[doc_id][2]
            self.rows[doc_id] = self.served[doc_id].content_hash
        for doc_id in plan.restore:
            self.rows[doc_id] = self.served[doc_id].content_hash
        for doc_id in plan.describe:
            said, now = self.served[doc_id], self.observed[doc_id][2]
            same = now.content_hash == said.content_hash
            self.served[doc_id] = now if same else replace(said, acl=now.acl)
        self.merged = min(self.version, (plan.waiting_since or self.version + 1) - 1)
        return plan

    def expected(self) -> dict[str, Description]:
        """What a fresh build of the same state serves; what is kept cannot be known afresh."""
        return {
            doc_id: said
            for doc_id, (state, _, said) in self.observed.items()
            if state is LIVE and said.content_hash in self.stored
        }


Step = tuple[str, str, bytes, str]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["edit", "delete", "dead", "store", "refuse", "merge", "lose rows", "orphan", "heal"]
        ),
        st.sampled_from(DOC_IDS),
        st.sampled_from(CONTENTS),
        st.sampled_from(["everyone", "staff"]),
    ),
    max_size=40,
)


def take(world: World, step: Step, *, keep_last_good: bool) -> None:  # noqa: C901 -- a case a step
    what, doc_id, content, acl = step
    match what:
        case "edit":
            world.observe(doc_id, LIVE, content, acl)
        case "delete" if doc_id in world.observed:
            world.observe(doc_id, DELETED, content, acl)
        case "dead":
            world.observe(doc_id, DEAD, content, acl)
        case "store" if content not in world.refused:
            world.stored.add(content)
        case "refuse" if content not in world.stored:
            world.refused.add(content)
            for each, (state, _, said) in list(world.observed.items()):
                if state is LIVE and said.content_hash == content:
                    world.observe(each, LIVE, content, said.acl[0])
        case "lose rows":
            world.rows.pop(doc_id, None)
        case "orphan" if doc_id not in world.served:
            world.rows[doc_id] = content
        case "merge":
            world.merge(keep_last_good=keep_last_good)
        case "heal":
            world.merge(keep_last_good=keep_last_good, everything=True)
        case _:
            pass


@given(steps=STEPS, keep_last_good=st.booleans())
def test_whatever_happened_all_that_can_be_served_is_served_in_the_end(
    steps: list[Step], keep_last_good: bool
) -> None:
    world = World()
    for step in steps:
        take(world, step, keep_last_good=keep_last_good)
    world.stored |= set(CONTENTS) - world.refused
    world.merge(keep_last_good=keep_last_good, everything=True)
    expected = world.expected()
    for doc_id, said in expected.items():
        assert world.served[doc_id] == said
    for doc_id in world.served.keys() - expected.keys():
        state, _, said = world.observed[doc_id]
        assert keep_last_good
        assert state is DEAD or said.content_hash in world.refused
        assert world.served[doc_id].acl == said.acl
    assert world.rows == {doc_id: said.content_hash for doc_id, said in world.served.items()}


@given(steps=STEPS, keep_last_good=st.booleans())
def test_what_changed_since_the_last_merge_is_enough_to_look_at(
    steps: list[Step], keep_last_good: bool
) -> None:
    """Where nothing is damaged, a merge of everything finds nothing more to do."""
    world = World()
    for step in steps:
        if step[0] not in {"lose rows", "orphan", "heal"}:
            take(world, step, keep_last_good=keep_last_good)
    world.merge(keep_last_good=keep_last_good)
    assert not world.merge(keep_last_good=keep_last_good, everything=True)


@given(steps=STEPS, keep_last_good=st.booleans())
def test_merging_again_finds_nothing_to_do(steps: list[Step], keep_last_good: bool) -> None:
    world = World()
    for step in steps:
        take(world, step, keep_last_good=keep_last_good)
    world.merge(keep_last_good=keep_last_good, everything=True)
    merged = world.merged
    assert not world.merge(keep_last_good=keep_last_good, everything=True)
    assert not world.merge(keep_last_good=keep_last_good)
    assert world.merged == merged


@given(steps=STEPS, keep_last_good=st.booleans())
def test_nobody_sees_a_document_that_is_kept_from_them(
    steps: list[Step], keep_last_good: bool
) -> None:
    """After any merge, whatever waits or is kept has the permissions that were observed."""
    world = World()
    for step in steps:
        take(world, step, keep_last_good=keep_last_good)
        if step[0] in {"merge", "heal"}:
            for doc_id, said in world.served.items():
                assert world.observed[doc_id][2].acl == said.acl
                assert world.observed[doc_id][0] is not DELETED

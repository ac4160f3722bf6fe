"""The life of a documentation site, commit by commit: edits, moves of whole folders, deletions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

WORDS = [
    "anchor",
    "basin",
    "candle",
    "dock",
    "ember",
    "ferry",
    "gravel",
    "harbour",
    "island",
    "jetty",
    "kettle",
    "lantern",
    "mast",
    "north",
    "orchard",
    "pier",
    "quarry",
    "rope",
    "sail",
    "tide",
    "upland",
    "vessel",
    "wharf",
    "yard",
]
FOLDERS = ("concepts", "how-to", "install", "reference", "tutorial")

Site = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Commit:
    """What the site holds after it, and what it did: kind of change to number."""

    site: dict[str, bytes]
    did: dict[str, int]


@dataclass(slots=True)
class _Author:
    """Writes pages of paragraphs, and keeps them in mind as lists."""

    random: Random
    pages: dict[str, list[str]] = field(default_factory=dict)
    drafts: int = 0

    def paragraph(self) -> str:
        """Never the same twice."""
        self.drafts += 1
        words = " ".join(self.random.choices(WORDS, k=self.random.randint(25, 60)))
        return f"Note {self.drafts}. The {words}."

    def new_page(self) -> None:
        name = f"{self.random.choice(FOLDERS)}/page-{self.drafts}.md"
        sections = self.random.randint(2, 6)
        self.pages[name] = [f"# Page {self.drafts}"]
        for number in range(sections):
            self.pages[name] += [f"## Part {number}", self.paragraph()]

    def edit(self, name: str) -> None:
        page = self.pages[name]
        places = [place for place, text in enumerate(page) if not text.startswith("#")]
        match self.random.choice(["replace", "replace", "word", "insert", "swap"]):
            case "replace":
                page[self.random.choice(places)] = self.paragraph()
            case "word":
                place = self.random.choice(places)
                page[place] = page[place].replace(". The", f". {self.drafts} The", 1)
                self.drafts += 1
            case "insert":
                page.insert(self.random.choice(places) + 1, self.paragraph())
            case "swap":
                one, other = self.random.choice(places), self.random.choice(places)
                page[one], page[other] = page[other], page[one]
                page.append(self.paragraph())

    def move(self, name: str) -> None:
        """To another folder, as when a site is put into a new order."""
        self.drafts += 1
        folder = self.random.choice(["guide", "manual", *FOLDERS])
        self.pages[f"{folder}/moved-{self.drafts}.md"] = self.pages.pop(name)

    def site(self) -> dict[str, bytes]:
        return {name: "\n\n".join(page).encode() + b"\n" for name, page in self.pages.items()}


def history(
    seed: int,
    *,
    pages: int = 200,
    edits: int = 400,
    renames: int = 230,
    deletes: int = 18,
    moved_at_once: int = 160,
    commits: int = 48,
) -> Iterator[Commit]:
    """From the first commit to the last; most renames are one big move in the middle.

    No commit edits what it moves, as version control shows renames; a few take an edit back.
    """
    author = _Author(Random(seed))
    for _ in range(pages):
        author.new_page()
    yield Commit(author.site(), {"add": pages})
    plan = _plan(author.random, commits, edits, renames - moved_at_once, deletes)
    middle = plan[commits // 2]
    middle["rename"] = middle.get("rename", 0) + moved_at_once
    for changes in plan:
        names = sorted(author.pages)
        author.random.shuffle(names)
        for name in [names.pop() for _ in range(changes.get("rename", 0))]:
            author.move(name)
        for name in [names.pop() for _ in range(changes.get("delete", 0))]:
            del author.pages[name]
        for number in range(changes.get("edit", 0)):
            author.edit(names[number % len(names)])
        yield Commit(author.site(), changes)


def _plan(
    random: Random, commits: int, edits: int, renames: int, deletes: int
) -> list[dict[str, int]]:
    plan: list[dict[str, int]] = [{} for _ in range(commits)]
    for kind, number in (("edit", edits), ("rename", renames), ("delete", deletes)):
        for _ in range(number):
            changes = random.choice(plan)
            changes[kind] = changes.get(kind, 0) + 1
    return plan

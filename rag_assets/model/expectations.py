"""What was expected of the rows of a stage, and what was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rag_assets.model.corpus import Expectation


@dataclass(frozen=True, slots=True)
class ExpectationResult:
    """How the rows of a stage stand to one expectation."""

    expectation: Expectation
    met: bool
    rows: int | None = None
    """How many were looked at, where it looks at rows."""
    unexpected: int | None = None
    """How many of them are not as expected."""
    observed: str | None = None
    """What was found instead, where it looks at a whole column."""
    failing: tuple[tuple[str, int | None], ...] = ()
    """Document and chunk of the first of them."""
    contents: Mapping[str, bytes] = field(default_factory=dict)
    """What the failing documents were, where they are to be quarantined."""
    broken: str | None = None
    """Why it could not be judged: it is the expectation that is to be mended."""

    @property
    def named(self) -> tuple[str, ...]:
        """The failing rows as people name them: a document, or `DOCUMENT#CHUNK`."""
        return tuple(
            doc_id if number is None else f"{doc_id}#{number}" for doc_id, number in self.failing
        )

    @property
    def sentence(self) -> str:
        """What is not as expected, for people; ids and figures, never text."""
        if self.broken:
            return f"{self.expectation} cannot be judged: {self.broken}."
        if self.unexpected is None:
            return f"{self.expectation} does not hold; found is {self.observed}."
        of_rows = "" if self.rows is None else f" of {self.rows}"
        such = f", such as {self.named[0]}" if self.failing else ""
        return f"{self.expectation} does not hold for {self.unexpected}{of_rows} rows{such}."

    @property
    def warns_only(self) -> bool:
        return not self.broken and self.expectation.arguments.get("severity") in ("warning", "info")


@dataclass(frozen=True, slots=True)
class StageResult:
    """What was expected of one stage, what was found, and the page that shows it."""

    stage: str
    rows: int
    results: tuple[ExpectationResult, ...]
    page: str | None = None
    """The file, where one was written."""

    @property
    def page_url(self) -> str | None:
        return None if self.page is None else Path(self.page).as_uri()

    @property
    def unmet(self) -> tuple[ExpectationResult, ...]:
        return tuple(each for each in self.results if not each.met)

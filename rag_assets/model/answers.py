"""What is found for a question, and what is answered."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found, with all that a citation needs and why it was found."""

    generation: int
    doc_id: str
    ord: int
    title: str
    uri: str
    heading_path: tuple[str, ...]
    text: str
    start: int
    end: int
    content_hash: bytes
    run_id: str
    score: float
    dense: float | None
    lexical: float | None


@dataclass(frozen=True, slots=True)
class QuestionTerm:
    """A word of the question, its stem, and in how many chunks that stem stands."""

    word: str
    stem: str
    chunks: int
    visible: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What one read of one generation gave: candidates of both legs, unordered, and the words."""

    hits: tuple[Hit, ...]
    terms: tuple[QuestionTerm, ...]
    chunks: int
    """How many chunks the generation has: what the terms' counts are to be held against."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best chunks for a question, best first, and what the index knows of its words."""

    question: str
    corpus: str
    generation: int
    hits: tuple[Hit, ...]
    terms: tuple[QuestionTerm, ...]


@dataclass(frozen=True, slots=True)
class Citation:
    """Where a sentence stands: `document.text[start:end] == quote`."""

    number: int
    generation: int
    doc_id: str
    ord: int
    title: str
    uri: str
    heading_path: tuple[str, ...]
    start: int
    end: int
    quote: str
    content_hash: bytes
    run_id: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An extractive answer: sentences of the corpus, word for word; none where it is refused."""

    question: str
    corpus: str
    generation: int
    citations: tuple[Citation, ...]
    hits: tuple[Hit, ...]
    lexical_support: float
    never_mentioned: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        return not self.citations

    @property
    def text(self) -> str:
        """The quotes with their numbers; after a block of code the number has its own line."""
        return "\n".join(
            f"{citation.quote}{chr(10) if citation.quote.endswith(('```', '~~~')) else ' '}"
            f"[{citation.number}]"
            for citation in self.citations
        )

"""Test questions that a chat model writes of passages, each looked at before it is believed."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from threading import Event

from rag_assets.errors import EmbeddingError, ProviderBusyError, RejectedInputError
from rag_assets.evaluation.golden_set.labels import (
    Label,
    LabelledQuestion,
    one_line,
    same_question,
)
from rag_assets.evaluation.golden_set.resolving import places_of
from rag_assets.model import GENERATED, ChatPrice, Draft, ModelUse, ParsedDocument
from rag_assets.ports import Clock, QuestionWriter

WRITTEN = "written by a model"
"""A tag of such questions."""
FEWEST_CHARS, MOST_CHARS = 200, 1500
"""Of a passage: shorter ones say too little to be asked about."""
LONGEST_QUESTION, SHORTEST_QUOTE, LONGEST_QUOTE = 300, 15, 500
TRIES = 2
"""How often a model is asked about a passage."""
PASSAGES_A_QUESTION = 2
"""At most so many passages are tried for each question that is wanted."""
BUSY_TRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 6, 1.0, 60.0
BLANK_LINES = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True)
class Passage:
    """Some paragraphs of a document: whatever the chunker, the same ones."""

    doc_id: str
    title: str
    text: str
    start: int

    @property
    def id(self) -> str:
        return hashlib.sha256(f"{self.doc_id}@{self.start}".encode()).hexdigest()


@dataclass(slots=True)
class Generated:
    """What a model wrote that can be used, and what became of the rest."""

    questions: list[LabelledQuestion] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Why, to how many passages."""
    requests: int = 0
    used: ModelUse = field(default_factory=ModelUse)
    usd: Decimal | None = None
    """None: the price is not known."""
    limit_reached: bool = False
    failure: EmbeddingError | None = None
    """What ended it before its time; what was written until then is kept."""


def chosen_passages(documents: Mapping[str, ParsedDocument]) -> Iterator[Passage]:
    """All of them, one of each document and then the next: the same for the same documents."""
    in_order = sorted(documents, key=lambda doc_id: hashlib.sha256(doc_id.encode()).digest())
    each = [sorted(_passages(name, documents[name]), key=lambda one: one.id) for name in in_order]
    for turn in zip_longest(*each):
        yield from (passage for passage in turn if passage is not None)


def _passages(doc_id: str, document: ParsedDocument) -> Iterator[Passage]:
    """Paragraph after paragraph, until there is enough of them."""
    text, start = document.text, 0
    ends = [match.start() for match in BLANK_LINES.finditer(text)] + [len(text)]
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        if following is None or following - start > MOST_CHARS:
            passage = text[start:end]
            if FEWEST_CHARS <= len(passage.strip()) <= 2 * MOST_CHARS:
                yield Passage(doc_id, document.title, passage.strip(), start)
            start = end


def written(
    documents: Mapping[str, ParsedDocument],
    wanted: int,
    *,
    writer: QuestionWriter,
    clock: Clock,
    price: ChatPrice | None,
    max_usd: Decimal | None,
    paid: Callable[[Draft], None],
    kept: Callable[[LabelledQuestion], None] = lambda _: None,
    told: Callable[[int], None] = lambda _: None,
) -> Generated:
    """So many questions, or fewer; `paid` is told of each answer before it is looked at.

    `kept` is given each question at once: whoever interrupts this gets nothing back.
    """
    work = _Writing(writer, clock, price, max_usd, paid, kept)
    for tried, passage in enumerate(chosen_passages(documents)):
        if len(work.found.questions) == wanted or tried == PASSAGES_A_QUESTION * wanted:
            break
        try:
            work.ask(passage, documents[passage.doc_id].text)
        except EmbeddingError as error:
            work.found.failure = error
        if work.found.failure or work.found.limit_reached:
            break
        told(len(work.found.questions))
    return work.found


@dataclass(slots=True)
class _Writing:
    writer: QuestionWriter
    clock: Clock
    price: ChatPrice | None
    max_usd: Decimal | None
    paid: Callable[[Draft], None]
    kept: Callable[[LabelledQuestion], None]
    found: Generated = field(default_factory=Generated)
    _asked: set[str] = field(default_factory=set)
    _lost_usd: Decimal = Decimal(0)
    """What answers may have cost that never came."""
    _chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - it spreads retries

    def ask(self, passage: Passage, text: str) -> None:
        """Once more if what comes back cannot be used, and then no more."""
        complaint = ""
        for _ in range(TRIES):
            if not self._affordable(passage, complaint):
                self.found.limit_reached = True
                return
            try:
                draft = self._draft(passage, complaint)
            except RejectedInputError:
                complaint = "The model would not read it."
                break
            complaint = problem_with(draft, passage, text, self._asked)
            if not complaint:
                self._keep(draft, passage, text)
                return
        self.found.left_out[complaint] += 1

    def _affordable(self, passage: Passage, complaint: str) -> bool:
        if self.max_usd is None or self.price is None:
            return True
        most = self.writer.most(passage.text, title=passage.title, complaint=complaint)
        return (self.found.usd or 0) + self._lost_usd + self.price.of(most) <= self.max_usd

    def _draft(self, passage: Passage, complaint: str) -> Draft:
        draft = self._patiently(passage, complaint)
        self.found.requests += 1
        self.found.used += draft.used
        self.found.usd = self.price.of(self.found.used) if self.price else None
        self.paid(draft)
        return draft

    def _patiently(self, passage: Passage, complaint: str) -> Draft:
        """A busy server is asked again, a little later each time."""
        for attempt in range(BUSY_TRIES):
            try:
                return self.writer.write(passage.text, title=passage.title, complaint=complaint)
            except ProviderBusyError as error:
                if error.unanswered and self.price:
                    most = self.writer.most(passage.text, title=passage.title, complaint=complaint)
                    self._lost_usd += self.price.of(most)
                if attempt == BUSY_TRIES - 1 or not self._affordable(passage, complaint):
                    raise
                self.clock.pause(self._wait_s(error, attempt), unless=Event())
        raise AssertionError  # the last attempt returns or raises

    def _wait_s(self, error: ProviderBusyError, attempt: int) -> float:
        own = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) * self._chance.uniform(0.5, 1)
        asked = error.headers.get("retry-after", "")
        return min(LONGEST_WAIT_S, float(asked)) + own if asked.isdecimal() else own

    def _keep(self, draft: Draft, passage: Passage, text: str) -> None:
        self._asked.add(same_question(draft.question))
        [(start, end)] = places_of(draft.quote, text)
        label = Label(passage.doc_id, one_line(text[start:end]))
        name = f"{GENERATED}-{passage.id[:10]}"
        question = LabelledQuestion(name, draft.question, (label,), (GENERATED, WRITTEN))
        self.found.questions.append(question)
        self.kept(question)


def problem_with(draft: Draft, passage: Passage, text: str, asked: Collection[str] = ()) -> str:
    """Why a draft cannot be used, for the model and for people; empty where it can."""
    question, quote = same_question(draft.question), one_line(draft.quote)
    sentence = same_question(quote)
    problems = (
        (not question or not sentence, "It was no JSON with a question and a quote."),
        (
            not SHORTEST_QUOTE <= len(quote) <= LONGEST_QUOTE,
            f"The quote must have {SHORTEST_QUOTE} to {LONGEST_QUOTE} characters.",
        ),
        (
            not places_of(quote, passage.text),
            "The quote does not stand in the passage word for word.",
        ),
        (
            len(places_of(quote, text)) > 1,
            "The quote stands several times in the document; quote more, or another sentence.",
        ),
        (len(draft.question) > LONGEST_QUESTION, "The question is too long."),
        (question in sentence or sentence in question, "The question only repeats the quote."),
        (question in asked, "The same question was asked of another passage."),
    )
    return next((problem for wrong, problem in problems if wrong), "")

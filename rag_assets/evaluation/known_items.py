"""Questions for a corpus that has no golden set, made from what its documents say of themselves.

A heading asks for what stands under it, and the rarest words of a sentence ask for that sentence.
They are easier than what people ask: good for seeing that a change broke something, no more.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from math import fsum

from rag_assets.evaluation.golden_set import GoldenSet, Label, LabelledQuestion
from rag_assets.model import GENERATED, ParsedDocument

NOTE = "made from the documents themselves: they show what breaks, not what people ask"
"""What is told of such questions wherever a score on them is shown."""
LABEL_CHARS = 300
QUESTION_WORDS = 6
HASH_CHARS = 12
"""Of a document's id, in the ids of its questions; an erasure finds them by it."""
SENTENCE = re.compile(r"(?<=[.!?\n] )[A-Z][^.!?|`#]{50,300}[.!?]|(?m:^)[A-Z][^.!?|`#]{50,300}[.!?]")
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"[^\W\d_]{3,}")


def known_items(documents: Mapping[str, ParsedDocument], *, limit: int = 100) -> GoldenSet:
    """At most `limit` questions, the same for the same documents, evenly drawn by their hash."""
    found = [*_of_headings(documents), *_of_sentences(documents)]
    drawn = sorted(found, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:limit]
    return GoldenSet(GENERATED, tuple(sorted(drawn, key=lambda item: item.id)))


def _of_headings(documents: Mapping[str, ParsedDocument]) -> Iterator[LabelledQuestion]:
    """Only headings that stand once in the corpus: "Examples" asks for nothing."""
    titles = Counter(
        heading.title.lower() for document in documents.values() for heading in document.headings
    )
    for doc_id, document in documents.items():
        for number, heading in enumerate(document.headings):
            following = document.headings[number + 1 :]
            end = following[0].start if following else len(document.text)
            label = _beginning(doc_id, document.text, heading.start, end)
            if label and titles[heading.title.lower()] == 1 and len(heading.title.split()) > 1:
                yield _question(doc_id, f"heading-{number}", heading.title, label)


def _beginning(doc_id: str, text: str, start: int, end: int) -> Label | None:
    """The first paragraph of a section, or as much of it as a label should have."""
    line_end = text.find("\n", start, end)
    body = text[line_end:end] if line_end >= 0 else ""
    paragraph = body.strip().split("\n\n")[0][:LABEL_CHARS].rstrip()
    if len(paragraph) < LABEL_CHARS // 10:
        return None
    begin = line_end + body.index(paragraph)
    return Label(doc_id, None, begin, begin + len(paragraph))


def _of_sentences(documents: Mapping[str, ParsedDocument]) -> Iterator[LabelledQuestion]:
    """Of each document the sentence with the rarest words."""
    words = {doc_id: _words(document.text) for doc_id, document in documents.items()}
    held = Counter(word for found in words.values() for word in set(found))
    for doc_id, document in documents.items():
        prose = FENCED.sub(lambda code: " " * len(code.group()), document.text)
        sentences = [match.span() for match in SENTENCE.finditer(prose)]
        rarest = max(sentences, key=lambda span: _rarity(prose[slice(*span)], held), default=None)
        if rarest:
            question = _rare_words(prose[slice(*rarest)], held)
            label = Label(doc_id, None, *rarest)
            yield _question(doc_id, f"sentence-{rarest[0]}", question, label)


def _question(doc_id: str, place: str, question: str, label: Label) -> LabelledQuestion:
    """Named by a hash: ids get into files and records that an erasure of the document leaves."""
    document = hashlib.sha256(doc_id.encode()).hexdigest()[:HASH_CHARS]
    name = f"{GENERATED}-{document}-{place}"
    return LabelledQuestion(name, question, (label,), (GENERATED,))


def _rarity(sentence: str, held: Counter[str]) -> float:
    """The same in every process, though a set of words has another order in each."""
    return fsum(1 / held[word] for word in set(_words(sentence)))


def _rare_words(sentence: str, held: Counter[str]) -> str:
    words = list(dict.fromkeys(_words(sentence)))
    rare = set(sorted(words, key=lambda word: (held[word], -len(word), word))[:QUESTION_WORDS])
    return " ".join(word for word in words if word in rare)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())

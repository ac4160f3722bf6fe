"""The question as it is asked: cleaned, and refused where no search could make sense of it."""

import re

from rag_assets.errors import QuestionError

MAX_CHARS = 2000


def asked(question: str) -> str:
    r"""One line of printable text.

    >>> asked("  How do I\n roll back?\x00 ")
    'How do I roll back?'
    """
    cleaned = re.sub(r"[\s\x00-\x1f\x7f\ud800-\udfff]+", " ", question).strip()
    if not re.search(r"\w", cleaned):
        raise QuestionError("The question holds no word. Ask in words, such as: What is a chunk?")
    if len(cleaned) > MAX_CHARS:
        raise QuestionError(
            f"The question has {len(cleaned)} characters; at most {MAX_CHARS} are searched for."
            " Ask a shorter one."
        )
    return cleaned

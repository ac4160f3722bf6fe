"""From bytes to characters: which encoding it is, and what had to be mended."""

import codecs
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from rag_assets.errors import UnreadableDocumentError

Guess: TypeAlias = Callable[[bytes], str | None]
"""The encoding of bytes that are no UTF-8, or None if nothing fits."""

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = (("utf-32-le", 4, 0), ("utf-32-be", 4, 3), ("utf-16-le", 2, 0), ("utf-16-be", 2, 1))
"""Name, bytes a character, and which of these bytes is not zero where the letter is a Latin one."""
_WESTERN = "cp1252"
_WESTERN_SIGNS = "\xa0«»§°·¡¿€£©®±½–—‘’“”„…•™†‰"  # noqa: RUF001
_LIKELY = (
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp1251", "koi8_r", "cp1250", "cp1252"),
    *("cp1253", "cp1254", "cp1255", "cp1256", "cp874"),
)
"""What people still write; the others look alike on short texts, and are rare."""
_NAMES = {_WESTERN: "Windows-1252"}
_AS_BROWSERS_DO = {
    "ascii": _WESTERN,
    "iso8859-1": _WESTERN,
    "iso8859-9": "cp1254",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "tis-620": "cp874",
}
"""What pages mean by the encodings that they name."""
_MOST_DAMAGE = 0.1
_SAMPLE = 65_536


def western(content: bytes) -> str | None:
    """Version 1 knew no other encoding than Windows' western one."""
    return _WESTERN if _fits(content, _WESTERN) else None


def guessed(content: bytes) -> str | None:
    r"""The western one where its words have a foreign letter here and there, else the likeliest.

    >>> guessed("Grüße aus Köln".encode("cp1252")), guessed("名前,年齢,住所\n".encode("cp932"))
    ('cp1252', 'cp932')
    """
    from charset_normalizer import from_bytes

    sample = content[:_SAMPLE].rpartition(b"\n")[0] if len(content) > _SAMPLE else content
    as_western = sample.decode(_WESTERN, errors="replace")
    if _looks_western(as_western) and _fits(content, _WESTERN):
        return _WESTERN
    match = from_bytes(sample or content, cp_isolation=[*_LIKELY]).best()
    if match is None or not _fits(content, match.encoding):
        return western(content)
    return match.encoding


def _looks_western(text: str) -> bool:
    foreign = [letter for letter in text if letter > "\x7f"]
    letters = sum(letter.isalpha() for letter in text)
    odd = sum(not letter.isalpha() and letter not in _WESTERN_SIGNS for letter in foreign)
    return odd * 10 <= len(foreign) and len(foreign) <= 0.6 * max(letters, 1)


def decode(
    content: bytes, *, doc_id: str, declared: str | None = None, guess: Guess = guessed
) -> tuple[str, tuple[str, ...]]:
    r"""Text with plain line ends and no NUL, and what had to be mended on the way.

    >>> decode("Grüße\r\n".encode("cp1252"), doc_id="a.txt")
    ('Grüße\n', ('not UTF-8: read as Windows-1252',))
    """
    text, warnings = _decoded(content, declared, guess)
    damage = len(_CONTROL.findall(text))
    if damage > _MOST_DAMAGE * len(text):
        raise UnreadableDocumentError(
            f"{doc_id} is no text: {damage} of {len(text)} characters are control codes or cannot"
            " be decoded. Exclude it in the corpus's `source`, or save it as UTF-8."
        )
    if "\0" in text:
        warnings = (*warnings, "NUL characters were taken out")
    text = text.replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return text, warnings


def storable(text: str) -> str:
    r"""What a database takes: no NUL and no half characters, as broken files hold them.

    >>> storable("a\0b\ud800")
    'ab\ufffd'
    """
    return _SURROGATE.sub("\ufffd", text.replace("\0", ""))


def _decoded(content: bytes, declared: str | None, guess: Guess) -> tuple[str, tuple[str, ...]]:
    if marked := _marked(content) or (guess is not western and _unmarked_wide(content)):
        return _replacing(content, marked)
    try:
        return content.decode("utf-8"), ()  # whatever it says it is: others rarely look like it
    except UnicodeDecodeError:
        mended, warnings = _replacing(content, "utf-8")
    if declared and (known := _known(declared)) and _fits(content, known):
        return content.decode(known), ()
    is_mostly_right = mended.count("\ufffd") * 2 < sum(letter > "\x7f" for letter in mended)
    if is_mostly_right or (encoding := guess(content)) is None:
        return mended, warnings
    return content.decode(encoding), (f"not UTF-8: read as {_NAMES.get(encoding, encoding)}",)


def _marked(content: bytes) -> str | None:
    fitting = (encoding for mark, encoding in _BYTE_ORDER_MARKS if content.startswith(mark))
    return next(fitting, None)


def _replacing(content: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    text = content.decode(encoding, errors="replace")
    if count := text.count("\ufffd"):
        return text, (f"{count} characters could not be decoded",)
    return text, ()


def _unmarked_wide(content: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark, told by where the zeros stand."""
    sample = content[:_SAMPLE]
    for encoding, width, letter in _WIDE:
        lanes = [sample[lane::width] for lane in range(width)]
        zeros = [lane.count(0) / len(lane) if lane else 0.0 for lane in lanes]
        if len(content) % width == 0 and zeros[letter] < 0.1 and _most(zeros, letter) > 0.6:
            return encoding if _fits(content, encoding) else None
    return None


def _most(zeros: Sequence[float], letter: int) -> float:
    return min((share for lane, share in enumerate(zeros) if lane != letter), default=0.0)


def _known(declared: str) -> str | None:
    try:
        name = codecs.lookup(declared).name
    except (LookupError, ValueError):
        return None
    return _AS_BROWSERS_DO.get(name, name)


def _fits(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except (LookupError, ValueError):
        return False
    return True

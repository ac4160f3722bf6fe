"""Which names in a source are documents, and under which ids: for folders and buckets alike."""

import hashlib
import re
from collections.abc import Callable
from functools import cache

from rag_assets.model import S3Settings

LARGEST_BYTES = 64 * 2**20
"""No text for people is larger, and what is read is held in memory."""
LONGEST_ID = 1500
"""Bytes: what the database's indexes hold beside a word."""
_SHORTENED = re.compile(r".{100}…[0-9a-f]{16}\Z", re.DOTALL)
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_WILD = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def taken_by(include: tuple[str, ...], exclude: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a corpus takes a name for a document."""
    included, excluded = _compiled(include), _compiled(exclude)
    return lambda name: bool(included.fullmatch(name)) and not excluded.fullmatch(name)


def documents_among_keys(settings: S3Settings) -> Callable[[str], str | None]:
    """From a key of the bucket to the id of its document; None where the corpus does not take it.

    >>> doc_id = documents_among_keys(S3Settings("b", prefix="wiki/", exclude=("old/**",)))
    >>> doc_id("wiki/a/b.md"), doc_id("wiki/old/b.md"), doc_id("other/b.md"), doc_id("wiki/")
    ('a/b.md', None, None, None)
    """
    prefix, takes = settings.prefix, taken_by(settings.include, settings.exclude)

    def doc_id(key: str) -> str | None:
        name = key[len(prefix) :]
        taken = name and key.startswith(prefix) and takes(name)
        return doc_id_of(name.encode()) if taken else None

    return doc_id


def doc_id_of(raw: bytes) -> str:
    r"""The name in slashes; bytes that no database holds as text are escaped.

    >>> doc_id_of(b"caf\xe9.md"), doc_id_of(rb"caf\xe9.md"), doc_id_of(b"a\0.md")
    ('caf\\xe9.md', 'caf\\x5cxe9.md', 'a\\x00.md')
    """
    escaped = raw.replace(b"\\x", b"\\x5cx").replace(b"\0", b"\\x00")
    if len(escaped) > LONGEST_ID:
        digest = hashlib.blake2b(escaped, digest_size=8).hexdigest()
        return f"{_text(escaped[: LONGEST_ID // 2])}…{digest}"
    return _text(escaped)


def name_of(doc_id: str) -> bytes:
    r"""The bytes of the name that has this id, unless the id is a shortened one.

    >>> name_of(doc_id_of(b"caf\xe9.md")), name_of(doc_id_of(rb"caf\xe9.md"))
    (b'caf\xe9.md', b'caf\\xe9.md')
    """
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), doc_id.encode())


def may_be_shortened(doc_id: str) -> bool:
    """Whether no name can be told from it; a name may also look so by chance."""
    return _SHORTENED.search(doc_id) is not None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="backslashreplace")


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Any of them: `**/` stands for any folders, none included; `*` stays within one name.

    >>> any_md = _compiled(("a/**/*.md",))
    >>> [bool(any_md.fullmatch(name)) for name in ("a/b.md", "a/b/c.md", "x/a/b.md")]
    [True, True, False]
    """
    alternatives = [
        "".join(_WILD.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", each))
        for each in patterns
    ]
    return re.compile("|".join(alternatives) or r"(?!)", re.DOTALL)

"""What the adapters of model servers have in common: their keys, and what is said of errors."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rag_assets.errors import ConfigurationError, ProviderRefusalError
from rag_assets.settings import Secret

LONGEST_SAYING = 300
REPEATED = 16
"""So many characters of a text in a server's message, and the message is not passed on."""
NO_KEY = Secret("none")
"""What a server that takes no key is sent, since the clients insist on one."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """The variable that holds a key; the key itself is read when it is used, and kept nowhere."""

    variable: str | None
    """None: the server takes no key."""
    wanted_by: str
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def read(self) -> Secret:
        if self.variable is None:
            return NO_KEY
        key = Secret.from_environment(self.variable, self.environ)
        if key is None:
            raise ConfigurationError(
                f"{self.variable} is not set, and {self.wanted_by} needs the key in it. Set it in"
                " the environment of every process that embeds or searches."
            )
        if not (key.reveal().isascii() and key.reveal().isprintable()):
            raise ConfigurationError(
                f"{self.variable} holds characters that no key for {self.wanted_by} can have."
                " Set it again, without spaces, quotes or line ends."
            )
        return key

    @property
    def name(self) -> str:
        return f"the key in {self.variable}" if self.variable else "a request without a key"


def refusal(told: str, key: ApiKey) -> ProviderRefusalError:
    """A server that will answer nothing more, until somebody acts."""
    return ProviderRefusalError(
        f"{told} It was {key.name}. Nothing more is asked of it; what was paid for is kept. See to"
        " the key, the account and the name of the model, then run again."
    )


def guessed_tokens(texts: Sequence[str]) -> int:
    """For a server that does not count what it bills."""
    return sum(len(text.encode()) // 4 for text in texts)


def saying(message: object, *, key: Secret, texts: Sequence[str]) -> str:
    """A server's own words for a person: short, without the key, and without words of a text.

    >>> key = Secret("abcd")
    >>> saying("Wrong key: abcd.", key=key, texts=[])
    ' It says: "Wrong key: ***."'
    >>> saying("Too long: 'The roof was new in 1999'", key=key, texts=["The roof was new in 19"])
    ''
    """
    if not isinstance(message, str):
        return ""
    words = message if key == NO_KEY else message.replace(key.reveal(), "***")
    words = " ".join(words.split())[:LONGEST_SAYING].rstrip(".")
    pieces = {words[at : at + REPEATED] for at in range(max(1, len(words) - REPEATED + 1))}
    if not words or any(_repeats(text, pieces) for text in texts):
        return ""
    return f' It says: "{words}."'


def _repeats(text: str, pieces: set[str]) -> bool:
    """Whether a piece of a message stands in a text, or the message is all of a short one."""
    line = " ".join(text.split())
    return any(piece in line if len(line) >= REPEATED else line == piece for piece in pieces)

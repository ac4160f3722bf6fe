"""Gives what goes over the wire the name of the query that it is."""

import re

from rag_assets.adapters.postgres import queries

_PARAMETER = re.compile(r"%\(\w+\)[sbt]|\$\d+")
_IDENTIFIER = re.compile(r'"[^"]*"|\{\w+\}')
_CURSOR = re.compile(r'\ADECLARE "\w+" .*?CURSOR .*?FOR\s+', re.DOTALL)
_COMMENT = re.compile(r"\A(?:--[^\n]*\n)+")
_CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "FETCH", "CLOSE", "MOVE", "COPY")


class Statements:
    """The named queries by their text, whatever their parameters and tables are called."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        for file in sorted((queries.sql_folder() / "queries").glob("*.sql")):
            for name, text in queries.load(file.stem).items():
                for key in (_comment(text), _normal(text)):
                    self._names[key] = f"{file.stem}.{name}"

    def name(self, text: str) -> str:
        """Also of a broken variant, as long as it keeps its comment."""
        text = _CURSOR.sub("", text.strip())
        for key in (_normal(text), _comment(text)):
            if key in self._names:
                return self._names[key]
        words = text.split(None, 1)
        word = words[0].upper().rstrip(";") if words else ""
        return word if word in _CONTROL else "other"


def _normal(text: str) -> str:
    return _IDENTIFIER.sub("#", _PARAMETER.sub("$", text.replace("%%", "%"))).strip()


def _comment(text: str) -> str:
    found = _COMMENT.match(text.strip() + "\n")
    return found[0].strip() if found else ""

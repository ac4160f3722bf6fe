"""YAML with places: the values of a file, and where each of its keys and list items stands.

Built from the parser's events: no nesting is too deep to be refused, and a key that comes twice is
seen twice. Anchors and tags are not taken: settings do not need them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import yaml
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

from rag_assets.corpus_file.problems import Place, Problem, Steps, dotted

MAX_DEPTH = 20
LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Value = str | int | float | bool | list["Value"] | dict[str, "Value"] | None


@dataclass(slots=True)
class YamlFile:
    """What a file says: as much of its value as could be read, and what is wrong with it."""

    file: Path
    value: Value = None
    places: dict[Steps, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def has_problem(self, steps: Steps) -> bool:
        """Whether it is reported already, where it stands first."""
        line = self.place_of(steps).line
        return any((each.path, each.line) == (dotted(steps), line) for each in self.problems)

    def value_at(self, steps: Steps) -> Value:
        value = self.value
        for step in steps:
            value = value.get(str(step)) if isinstance(value, dict) else None
        return value

    def place_of(self, steps: Steps) -> Place:
        """Where it stands, or else the nearest thing around it that is in the file."""
        while steps and steps not in self.places:
            steps = steps[:-1]
        return self.places.get(steps, Place(1, 1))

    def report(self, steps: Steps, message: str, suggestion: str | None = None) -> None:
        self.report_at(self.place_of(steps), steps, message, suggestion)

    def report_at(
        self, place: Place, steps: Steps, message: str, suggestion: str | None = None
    ) -> None:
        self.problems.append(Problem.at(place, self.file, steps, message, suggestion))


def read_yaml(file: Path, text: str, *, loader: type[yaml.SafeLoader] = LOADER) -> YamlFile:
    """The one document of a file, or the place where it stops being YAML."""
    found = YamlFile(file)
    try:
        _Reading(found, yaml.parse(text, loader)).document()
    except _NotTakenError as error:
        found.report_at(error.place, error.steps, error.message, error.suggestion)
    except yaml.MarkedYAMLError as error:
        place, message, suggestion = _explained(error, text)
        found.report_at(place, (), message, suggestion)
    except ReaderError as error:
        place = _place_in(text, text.find(chr(error.character)))
        found.report_at(place, (), "a control character, which YAML does not allow", "remove it")
    return found


class _NotTakenError(Exception):
    """YAML that settings do not need, and that cannot be read past."""

    def __init__(self, event: yaml.Event, steps: Steps, message: str, suggestion: str) -> None:
        super().__init__(message)
        self.place = _place(event.start_mark)
        self.steps = steps
        self.message = message
        self.suggestion = suggestion


class _Reading:
    """One pass over the events of a file."""

    def __init__(self, found: YamlFile, events: Iterator[yaml.Event]) -> None:
        self._found = found
        self._events = events

    def document(self) -> None:
        next(self._events)  # the stream begins
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return
        self._found.value = self._value(next(self._events), ())
        next(self._events)  # the document ends
        if isinstance(event := next(self._events), yaml.DocumentStartEvent):
            raise _NotTakenError(event, (), "a second document", "give each corpus its own folder")

    def _value(self, event: yaml.Event, steps: Steps) -> Value:
        self._found.places.setdefault(steps, _place(event.start_mark))
        if len(steps) > MAX_DEPTH:
            raise _NotTakenError(event, (), "nested too deeply", "no setting is as deep as this")
        match event:
            case yaml.SequenceStartEvent():
                return self._list(steps)
            case yaml.MappingStartEvent():
                return self._mapping(steps)
            case yaml.ScalarEvent():
                return self._scalar(event, steps)
            case _:
                raise _NotTakenError(event, steps, *_ADVICE["scanning an alias"])

    def _list(self, steps: Steps) -> list[Value]:
        items: list[Value] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*steps, len(items))))
        return items

    def _mapping(self, steps: Steps) -> dict[str, Value]:
        settings: dict[str, Value] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise _NotTakenError(event, steps, "not the name of a setting", "write name: value")
            inner = (*steps, event.value)
            if event.value in settings:
                self._report_second(event, inner)
            self._found.places.setdefault(inner, _place(event.start_mark))
            settings.setdefault(event.value, self._value(next(self._events), inner))
        return settings

    def _report_second(self, key: yaml.ScalarEvent, steps: Steps) -> None:
        message = f"stands here again; it is on line {self._found.places[steps].line} already"
        self._found.report_at(_place(key.start_mark), steps, message, "keep one of them")

    def _scalar(self, event: yaml.ScalarEvent, steps: Steps) -> Value:
        tag = event.tag or _tag(event)
        try:
            return _plain_value(event.value, tag)
        except (ValueError, KeyError):
            self._found.report(steps, f"'{_short(event.value)}' cannot be read as a value")
            return None


_RESOLVER = yaml.resolver.Resolver()
_CONSTRUCTOR = SafeConstructor()


def _tag(event: yaml.ScalarEvent) -> str:
    """Whether it is written like a number, a truth value, nothing, or text."""
    return str(_RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit))  # type: ignore[no-untyped-call]  # the stubs leave its types out


def _plain_value(text: str, tag: str) -> Value:
    """Numbers, truth values and nothing; whatever else YAML knows (dates, tags) is its text."""
    node = yaml.ScalarNode(tag, text)
    match tag.removeprefix("tag:yaml.org,2002:"):
        case "null":
            return None
        case "bool":
            return SafeConstructor.bool_values[text.lower()]
        case "int":
            return int(_CONSTRUCTOR.construct_yaml_int(node))
        case "float":
            return float(_CONSTRUCTOR.construct_yaml_float(node))
        case _:
            return text


# --- what the parser says, in words that help ----------------------------------------------------

_ADVICE = {
    "scanning an alias": ("'*' begins an alias", "put patterns in quotes: '**/*.md'"),
    "scanning an anchor": ("'&' begins an anchor", "put the value in quotes"),
    "mapping values are not allowed": (
        "a ':' where no name of a setting can stand",
        "indent settings of one group alike, and put a value that contains ': ' in quotes",
    ),
    "cannot start any token": (
        "a value cannot begin with this character",
        "put the value in quotes",
    ),
    "found unexpected end of stream": (
        "a quotation mark that is never closed",
        "close it on the same line",
    ),
    "escape": (
        "a '\\' in double quotes that says nothing",
        "put the value in single quotes",
    ),
    "flow node": ("a value is missing after '[', '{' or ','", "write [one, two]"),
    "flow sequence": ("a '[' that is not closed, or a missing ','", "write [one, two]"),
    "flow mapping": ("a '{' that is not closed, or a missing ','", "write {name: value}"),
    "block collection": ("a list and settings are mixed", "use '- ' for every item, or for none"),
    "block mapping": ("not indented like the lines above", "indent settings of one group alike"),
    "could not find expected ':'": ("a ':' is missing", "write 'name: value'"),
}
_OPENED = ("unexpected end of stream", "flow sequence", "flow mapping", "flow node")


def _explained(error: yaml.MarkedYAMLError, text: str) -> tuple[Place, str, str | None]:
    said = f"{error.context or ''}: {error.problem or ''}"
    opened = any(words in said for words in _OPENED)
    mark = (error.context_mark if opened else None) or error.problem_mark or error.context_mark
    lines = text.splitlines() or [""]
    place = min(_place(mark), Place(len(lines), len(lines[-1]) + 1))  # one parser looks past it
    if "\t" in _indentation(lines[place.line - 1]):
        return place, "a tab in the indentation, which YAML does not allow", "indent with spaces"
    for words, (message, suggestion) in _ADVICE.items():
        if words in said:
            return place, message, suggestion
    return place, f"not YAML: {said.strip(': ')}", None


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


class _Mark(Protocol):
    line: int
    column: int


def _place(mark: _Mark | None) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _place_in(text: str, offset: int) -> Place:
    before = text[: max(0, offset)]
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}…"

"""What pydantic found, in words for the writer of the file, with what was probably meant."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rag_assets.corpus_file.problems import Steps, dotted
from rag_assets.corpus_file.schema import COMPONENT_TYPE, PATTERN_WORDS, CorpusFile


class Explanation(NamedTuple):
    steps: Steps
    message: str
    suggestion: str | None = None


def explanations(error: ValidationError) -> Iterator[Explanation]:
    """One for each thing to mend: a misspelled name is not also a missing one."""
    errors = error.errors(include_url=False)
    meant = {_meant(_steps(each)) for each in errors if each["type"] == "extra_forbidden"}
    for each in errors:
        if each["type"] != "missing" or _steps(each) not in meant:
            wording = _WORDINGS.get(each["type"], _in_pydantics_words)
            yield wording(_steps(each), each)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelled one stands for.

    >>> nearest("chunkng", ["source", "chunking"])
    'chunking'
    """
    by_small_letters = {each.lower(): each for each in known}
    found = get_close_matches(name.lower(), by_small_letters, n=1, cutoff=0.6)
    return by_small_letters[found[0]] if found else None


def shown(value: object) -> str:
    """A value of the file, as it is named in a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{_shortened(value)}'"
        case int() | float():
            return _shortened(_number(value))
        case list():
            return "a list"
        case _:
            return "a group of settings"


def _number(value: float) -> str:
    try:
        return repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        return "a number of thousands of digits"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"


def _steps(error: ErrorDetails) -> Steps:
    return tuple(step for step in error["loc"] if step != "[key]")


# --- names ---------------------------------------------------------------------------------------


def _inner(group: type[BaseModel], name: str | int) -> type[BaseModel] | None:
    """The group of settings under a name, if that is what stands there."""
    field = group.model_fields.get(str(name))
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _known_at(steps: Steps) -> list[str]:
    """The names of a group of settings."""
    group: type[BaseModel] | None = CorpusFile
    for step in steps:
        group = _inner(group, step) if group else None
    return list(group.model_fields) if group else []


def _homes(group: type[BaseModel] = CorpusFile, at: Steps = ()) -> Iterator[Steps]:
    """The way to every setting there is."""
    for name in group.model_fields:
        yield (*at, name)
        if inner := _inner(group, name):
            yield from _homes(inner, (*at, name))


def _meant(steps: Steps) -> Steps | None:
    """The setting that an unknown one stands for: one of another group, or a misspelled one."""
    *above, name = steps
    for home in _homes():
        if home[-1] == name:
            return home
    found = nearest(str(name), _known_at(tuple(above)))
    return (*above, found) if found else None


def _did_you_mean(given: object, known: Sequence[str]) -> str:
    found = nearest(given, known) if isinstance(given, str) else None
    if found:
        return f"did you mean '{found}'?"
    return f"write '{known[0]}'" if len(known) == 1 else f"known are {', '.join(known)}"


# --- one wording for each kind of error ----------------------------------------------------------


def _unknown_setting(steps: Steps, _: ErrorDetails) -> Explanation:
    meant = _meant(steps)
    if meant and meant[-1] == steps[-1]:
        return Explanation(steps, "not a setting of this group", f"it belongs at {dotted(meant)}")
    return Explanation(
        steps, "unknown setting", _did_you_mean(str(steps[-1]), _known_at(steps[:-1]))
    )


_EXAMPLES = {
    "type": f"begin the file with 'type: {COMPONENT_TYPE}'",
    "attributes": "put the settings under 'attributes:'",
    "source": "add 'source: {local_files: {path: FOLDER}}'",
    "local_files": "write 'local_files: {path: FOLDER}'",
    "path": "name the folder of the documents",
    "expect": "begin each with 'expect: NAME', such as expect_column_values_to_not_be_null",
}


def _missing(steps: Steps, _: ErrorDetails) -> Explanation:
    return Explanation(steps, "missing", _EXAMPLES.get(str(steps[-1])))


def _wrong_name(steps: Steps, error: ErrorDetails) -> Explanation:
    known = re.findall(r"'([^']+)'", error["ctx"]["expected"])
    message = f"unknown name {shown(error['input'])}"
    return Explanation(steps, message, _did_you_mean(error["input"], known))


def _wrong_part_of_a_name(steps: Steps, error: ErrorDetails) -> Explanation:
    known = error["ctx"]["known"]
    return Explanation(steps, error["msg"], _did_you_mean(error["ctx"]["given"], known))


def _wrong_text(steps: Steps, error: ErrorDetails) -> Explanation:
    words = PATTERN_WORDS[error["ctx"]["pattern"]]
    return Explanation(steps, f"{words}, not {shown(error['input'])}")


def _not_a_number(steps: Steps, error: ErrorDetails) -> Explanation:
    kind, given = ("whole number" if error["type"] == "int_type" else "number"), error["input"]
    return Explanation(steps, f"must be a {kind}, not {shown(given)}", _as_a_number(given))


def _as_a_number(given: object) -> str | None:
    """What to write instead of a number in quotes, or one that YAML takes for text, like 1e3."""
    try:
        return f"write {float(given):g}, without quotes" if isinstance(given, str) else None
    except ValueError:
        return None


def _not_text(steps: Steps, error: ErrorDetails) -> Explanation:
    given = error["input"]
    quoted = f"write '{shown(given)}' in quotes" if isinstance(given, int | float) else None
    return Explanation(steps, f"must be text, not {shown(given)}", quoted)


def _not_a_list(steps: Steps, error: ErrorDetails) -> Explanation:
    given = error["input"]
    listed = f"write [{shown(given)}]" if isinstance(given, str | int | float) else None
    return Explanation(steps, f"must be a list, not {shown(given)}", listed)


def _not_a_group(steps: Steps, error: ErrorDetails) -> Explanation:
    known = _known_at(steps)
    suggestion = f"settings here are {', '.join(known)}" if known else "write 'name: value' lines"
    return Explanation(
        steps, f"must be a group of settings, not {shown(error['input'])}", suggestion
    )


def _out_of_bounds(steps: Steps, error: ErrorDetails) -> Explanation:
    bounds = {"ge": "at least", "le": "at most"}
    wanted = [f"{bounds[name]} {bound:g}" for name, bound in error["ctx"].items()]
    return Explanation(steps, f"must be {wanted[0]}, not {shown(error['input'])}")


def _not_finite(steps: Steps, _: ErrorDetails) -> Explanation:
    return Explanation(steps, "must be a finite number")


def _empty_list(steps: Steps, _: ErrorDetails) -> Explanation:
    return Explanation(steps, "must not be empty", "name at least one, or remove the line")


def _refused(steps: Steps, error: ErrorDetails) -> Explanation:
    return Explanation(steps, str(error["ctx"]["error"]))


def _in_pydantics_words(steps: Steps, error: ErrorDetails) -> Explanation:
    return Explanation(steps, error["msg"])


_WORDINGS: Mapping[str, Callable[[Steps, ErrorDetails], Explanation]] = {
    "extra_forbidden": _unknown_setting,
    "missing": _missing,
    "literal_error": _wrong_name,
    "unknown_name": _wrong_part_of_a_name,
    "string_pattern_mismatch": _wrong_text,
    "string_type": _not_text,
    "int_type": _not_a_number,
    "float_type": _not_a_number,
    "finite_number": _not_finite,
    "list_type": _not_a_list,
    "dict_type": _not_a_group,
    "model_type": _not_a_group,
    "greater_than_equal": _out_of_bounds,
    "less_than_equal": _out_of_bounds,
    "too_short": _empty_list,
    "value_error": _refused,
}

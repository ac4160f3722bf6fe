"""The schema for editors and the page for readers, both written from the models.

`python -m rag_assets.corpus_file.reference docs/reference` writes them anew.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rag_assets.corpus_file.problems import dotted
from rag_assets.corpus_file.schema import CorpusFile

SCHEMA_FILE = "defs-yaml.schema.json"
PAGE_FILE = "corpus-settings.md"

Schema = Mapping[str, Any]

_KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list of ",
    "object": "name: ",
}

PREFACE = """\
# Settings of a corpus

A corpus is declared in a file `defs.yaml`. The corpus has the name of the folder that the file is \
in. Only `type` and the path of the source are required; this is a whole file:

```yaml
type: rag_assets.components.Corpus
attributes:
  source:
    local_files:
      path: ../../documents
```

All settings stand under `attributes`. An unknown name, a value of another type (`"16"` for 16) or \
a value out of bounds is an error, which `rag-assets check` reports with its line.
"""


def write_reference(folder: Path) -> None:
    (folder / SCHEMA_FILE).write_text(json_schema(), "utf-8")
    (folder / PAGE_FILE).write_text(settings_page(), "utf-8")


def json_schema() -> str:
    """What an editor checks a `defs.yaml` against while it is written."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(dialect | CorpusFile.model_json_schema(), indent=2) + "\n"


def settings_page() -> str:
    """Every setting with its type, default and meaning, one table a group."""
    whole = CorpusFile.model_json_schema()
    attributes = _resolved(whole["properties"]["attributes"], whole)
    return "\n".join([PREFACE, *_group(attributes, ("attributes",), whole)])


def _group(group: Schema, steps: tuple[str, ...], whole: Schema) -> Iterator[str]:
    """A heading and a table; then the groups within, each with its own."""
    settings = {name: _resolved(each, whole) for name, each in group["properties"].items()}
    plain = {name: each for name, each in settings.items() if not _is_group(each)}
    if plain:
        yield f"## Settings under `{dotted(steps)}`\n\n{group['description']}\n"
        yield "| setting | type | default | meaning |\n| --- | --- | --- | --- |"
        yield from (_row(name, each, group) for name, each in plain.items())
        yield from _names(plain)
        yield ""
    for name, each in settings.items():
        if _is_group(each):
            yield from _group(each, (*steps, name), whole)


def _row(name: str, setting: Schema, group: Schema) -> str:
    required = name in group.get("required", [])
    default = "required" if required else _shown(setting["default"])
    return f"| `{name}` | {_type(setting)} | {default} | {setting['description']} |"


def _names(settings: Mapping[str, Schema]) -> Iterator[str]:
    """The names that the keys of a mapping can have: too many for a cell of the table."""
    for name, setting in settings.items():
        if "propertyNames" in setting:
            names = ", ".join(f"`{each}`" for each in setting["propertyNames"]["enum"])
            yield f"\nNames in `{name}` are {names}."


def _type(setting: Schema) -> str:
    if "anyOf" in setting:  # the value itself, or nothing
        return _type(setting["anyOf"][0])
    if "enum" in setting:
        return " or ".join(f"`{each}`" for each in setting["enum"])
    if "$ref" in setting:  # something with a name of its own, such as an expectation
        return str(setting["$ref"]).rpartition("/")[2].removesuffix("Attributes").lower()
    kind, bounds = _KINDS[setting["type"]], _bounds(setting)
    inner = setting.get("items") or setting.get("additionalProperties")
    return f"{kind}{_type(inner) if inner else ''}{bounds}"


def _bounds(setting: Schema) -> str:
    return f", {setting['minimum']:,} to {setting['maximum']:,}" if "minimum" in setting else ""


def _shown(default: object) -> str:
    if default is None or default in ("", [], {}):
        return "none"
    return f"`{json.dumps(default)}`"


def _is_group(setting: Schema) -> bool:
    return "properties" in setting


def _resolved(setting: Schema, whole: Schema) -> Schema:
    """What a reference stands for, also where there may be nothing instead."""
    first = setting.get("anyOf", [setting])[0]
    reference = first.get("$ref")
    return setting if reference is None else whole["$defs"][reference.rpartition("/")[2]]


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))

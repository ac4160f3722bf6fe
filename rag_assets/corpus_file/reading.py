"""From a folder of corpora to `model.Corpus`: every problem of every file, or all corpora."""

import keyword
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from rag_assets import model
from rag_assets.corpus_file.problems import Problem, Steps
from rag_assets.corpus_file.schema import (
    COMPONENT_TYPE,
    CorpusAttributes,
    CorpusFile,
    ExpectationAttributes,
    ExpectationsAttributes,
    S3Attributes,
    SourceAttributes,
)
from rag_assets.corpus_file.wording import explanations
from rag_assets.corpus_file.yaml_file import YamlFile, read_yaml
from rag_assets.errors import ConfigurationError

FILE_NAME = "defs.yaml"
CORPUS_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")

RESERVED_NAMES = frozenset(
    {"any", "arg_dict", "bool", "conf", "config", "context", "dict", "float", "input"}
    | {"input_arg_dict", "int", "list", "meta", "output", "output_arg_dict", "str", "tuple", "type"}
    | set(keyword.kwlist)
)
"""Names that Dagster gives to no job, so that no corpus can have one."""

OWN_NAMES = frozenset(
    {"alerts", "bulk", "candidate", "candidates", "collect", "quality", "reconciliation"}
    | {"repair", "source", "upkeep", "vacuum", "watch"}
)
"""What follows the name of a corpus in the names of its jobs, sensors and schedules."""

SOURCE: Steps = ("attributes", "source", "local_files", "path")
GOLDEN_SET: Steps = ("attributes", "evaluation", "golden_set")


def read_corpora(defs: Path) -> list[model.Corpus]:
    """Every corpus of a folder, by name; refused with all problems if there is one."""
    corpora, problems = _read_all(defs)
    if problems:
        raise _refusal(defs, problems)
    return corpora


def read_corpus(folder: Path) -> model.Corpus:
    """The corpus of one folder; refused with all problems if there is one."""
    corpus, problems = _read_one(folder)
    if problems or corpus is None:
        raise _refusal(folder, problems)
    return corpus


def check_defs(defs: Path) -> list[Problem]:
    """What is wrong with a folder of corpora; nothing is started or connected to."""
    return _read_all(defs)[1]


def _refusal(folder: Path, problems: list[Problem]) -> ConfigurationError:
    number = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = [f"{folder} has {number}:", *(str(problem) for problem in problems)]
    return ConfigurationError("\n".join(lines))


def corpus_of(attributes: CorpusAttributes, folder: Path) -> model.Corpus:
    """The corpus in the words of the house, with the places it names made absolute."""
    evaluation = attributes.evaluation
    golden_set = evaluation.golden_set
    return model.Corpus(
        name=folder.name,
        source=_source_of(attributes.source, folder),
        buckets=attributes.buckets,
        parser=attributes.parser,
        chunking=model.ChunkingSettings(**attributes.chunking.model_dump()),
        embedder=attributes.embedder,
        embedding=model.EmbeddingSettings(**attributes.embedding.model_dump()),
        index=model.IndexSettings(**attributes.index.model_dump()),
        retrieval=model.RetrievalSettings(**attributes.retrieval.model_dump()),
        evaluation=model.EvaluationSettings(
            **evaluation.model_dump(exclude={"golden_set", "gate", "floors"}),
            golden_set=None if golden_set is None else str(_resolved(folder, golden_set)),
            gate=tuple(map(str, evaluation.gate)),
            floors={str(metric): floor for metric, floor in evaluation.floors.items()},
        ),
        generations=model.GenerationSettings(**attributes.generations.model_dump()),
        freshness=model.FreshnessSettings(**attributes.freshness.model_dump()),
        watch=model.WatchSettings(**attributes.watch.model_dump()),
        automation=model.AutomationSettings(**attributes.automation.model_dump()),
        schedules=model.ScheduleSettings(**attributes.schedules.model_dump()),
        upkeep=model.UpkeepSettings(**attributes.upkeep.model_dump()),
        quality=model.QualitySettings(
            **attributes.quality.model_dump(exclude={"quarantine"}),
            quarantine=tuple(attributes.quality.quarantine),
        ),
        expectations=_expectations_of(attributes.expectations),
        alerts=model.AlertSettings(**attributes.alerts.model_dump()),
        acl=tuple(attributes.acl),
        on_poison=attributes.on_poison,
        scope=attributes.scope,
        description=attributes.description,
        owners=tuple(attributes.owners),
    )


def _source_of(source: SourceAttributes, folder: Path) -> model.SourceSettings:
    named = source.named
    include, exclude = tuple(named.include), tuple(named.exclude)
    if isinstance(named, S3Attributes):
        others = named.model_dump(exclude={"include", "exclude"})
        return model.S3Settings(include=include, exclude=exclude, **others)
    path = str(_resolved(folder, named.path))
    return model.LocalFilesSettings(path, include=include, exclude=exclude)


def _expectations_of(attributes: ExpectationsAttributes) -> model.ExpectationSettings:
    stages = {
        stage: tuple(map(_expectation_of, getattr(attributes, stage)))
        for stage in model.ExpectationSettings().stages
    }
    required = attributes.required
    named = tuple(stages) if required is True else tuple(required or ())
    return model.ExpectationSettings(required=named, **stages)


def _expectation_of(attributes: ExpectationAttributes) -> model.Expectation:
    return model.Expectation(
        attributes.expect, attributes.arguments, quarantine=attributes.quarantine
    )


def _resolved(folder: Path, path: str) -> Path:
    return (folder / path).resolve()


def _read_all(defs: Path) -> tuple[list[model.Corpus], list[Problem]]:
    folders, problems = _corpus_folders(defs)
    corpora = []
    for folder in folders:
        corpus, found = _read_one(folder)
        problems += found
        corpora += [corpus] if corpus else []
    return corpora, [*problems, *_clashes(folders)]


def _clashes(folders: list[Path]) -> Iterator[Problem]:
    """A corpus has jobs, sensors and schedules beside the job that is named like itself."""
    names = {folder.name for folder in folders}
    for folder in folders:
        owner, _, suffix = folder.name.rpartition("_")
        if suffix in OWN_NAMES and owner in names:
            message = f"the corpus '{owner}' has something of its own with the name '{folder.name}'"
            yield Problem(folder, message, "rename the folder")


# --- which folders are corpora -------------------------------------------------------------------


def _corpus_folders(defs: Path) -> tuple[list[Path], list[Problem]]:
    if _kind(defs) != "folder":
        return [], [
            Problem(
                defs,
                "there is no such folder",
                f"make it, with one folder a corpus and a {FILE_NAME} in each, or name another one"
                " in RAG_ASSETS_DEFS",
            )
        ]
    try:
        folders = sorted(folder for folder in defs.iterdir() if folder.is_dir())
        found = [folder for folder in folders if _has(folder, FILE_NAME)]
        problems = [problem for folder in folders for problem in _misnamed(folder)]
    except OSError as error:
        return [], [Problem(Path(error.filename), f"cannot be read: {error.strerror}")]
    if not found and not problems:
        problems.append(_no_corpus(defs))
    return found, problems


def _has(folder: Path, name: str) -> bool:
    """Also where it is a link that leads nowhere: the corpus would vanish without a word."""
    return (folder / name).is_symlink() or (folder / name).exists()


def _misnamed(folder: Path) -> Iterator[Problem]:
    """A file that was meant to be a `defs.yaml`."""
    if not _has(folder, FILE_NAME):
        for name in ("defs.yml", "def.yaml", "def.yml"):
            if _has(folder, name):
                yield Problem(folder / name, "not read by this name", f"call it {FILE_NAME}")


def _no_corpus(defs: Path) -> Problem:
    if (defs / FILE_NAME).exists():
        advice = f"{defs.name} is a corpus itself: name the folder that it is in"
        return Problem(defs, "no folder in it has a " + FILE_NAME, advice)
    advice = f"add one as {Path(defs.name) / 'NAME_OF_THE_CORPUS' / FILE_NAME}"
    return Problem(defs, "there is no corpus in this folder", advice)


# --- one corpus ----------------------------------------------------------------------------------


def _read_one(folder: Path) -> tuple[model.Corpus | None, list[Problem]]:
    found = _read_file(folder / FILE_NAME)
    attributes = _attributes(found) if found.value is not None else None
    corpus = corpus_of(attributes, folder) if attributes else None
    _check_places(found, folder)
    return corpus, [*_name_problems(folder), *sorted(found.problems, key=_line)]


def _read_file(file: Path) -> YamlFile:
    try:
        content = file.read_bytes()
        found = read_yaml(file, content.decode("utf-8-sig"))
    except OSError as error:
        return YamlFile(file, problems=[Problem(file, f"cannot be read: {error.strerror}")])
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problem = Problem(file, "not UTF-8", "save it with that encoding", line=line)
        return YamlFile(file, problems=[problem])
    if found.value is None and not found.problems:
        found.report((), "the file is empty", f"begin it with 'type: {COMPONENT_TYPE}'")
    return found


def _attributes(found: YamlFile) -> CorpusAttributes | None:
    try:
        return CorpusFile.model_validate(found.value).attributes
    except ValidationError as error:
        for steps, message, suggestion in explanations(error):
            if not found.has_problem(steps):
                found.report(steps, message, suggestion)
        return None


def _line(problem: Problem) -> int:
    return problem.line or 0


def _name_problems(folder: Path) -> Iterator[Problem]:
    """The folder's name is the corpus's: part of asset keys, jobs and tables."""
    name = folder.name
    if name in RESERVED_NAMES:
        yield Problem(folder, f"Dagster keeps the name '{name}' for itself", "rename the folder")
    elif not CORPUS_NAME.fullmatch(name):
        message = "a corpus has the name of its folder: small letters, digits and _, at most 41"
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:41]
        yield Problem(folder, message, f"rename it to '{better or 'documents'}'")


# --- what the settings name ----------------------------------------------------------------------


def _check_places(found: YamlFile, folder: Path) -> None:
    """Looks on the disk even where other settings are wrong, so that all is said at once."""
    if source := _named(found, folder, SOURCE):
        _check_source(found, source)
    if golden_set := _named(found, folder, GOLDEN_SET):
        _check_golden_set(found, golden_set)


def _named(found: YamlFile, folder: Path, steps: Steps) -> Path | None:
    named = found.value_at(steps)
    return (
        None if not isinstance(named, str) or found.has_problem(steps) else _resolved(folder, named)
    )


def _check_source(found: YamlFile, path: Path) -> None:
    kind = _kind(path)
    if kind == "file":
        found.report(SOURCE, f"{path} is a file", "name its folder, and the file under 'include'")
    elif kind is None:
        found.report(SOURCE, f"there is no folder {path}", f"make it, or {_correction(path)}")


def _check_golden_set(found: YamlFile, path: Path) -> None:
    kind = _kind(path)
    if kind == "folder":
        found.report(GOLDEN_SET, f"{path} is a folder", "name the file of questions in it")
    elif kind is None:
        advice = f"write it, remove this line, or {_correction(path)}"
        found.report(GOLDEN_SET, f"there is no file {path}", advice)


def _correction(path: Path) -> str:
    if "{{" in str(path):
        return "write the path itself, for templates are not filled in here"
    return f"correct the path, which counts from the folder of this {FILE_NAME}"


def _kind(path: Path) -> Literal["folder", "file"] | None:
    try:
        return "folder" if path.is_dir() else "file" if path.exists() else None
    except OSError:  # a name too long for the file system, or a folder on the way that is closed
        return None

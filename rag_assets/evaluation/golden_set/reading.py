"""Reads a golden set, whichever layout it has."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.beir import read_folder
from rag_assets.evaluation.golden_set.labels import LabelledQuestion
from rag_assets.evaluation.golden_set.sets import GoldenSet
from rag_assets.evaluation.golden_set.tables import can_read, read_table
from rag_assets.evaluation.golden_set.yaml_file import read_yaml
from rag_assets.model import GENERATED


def read_golden_set(path: Path) -> GoldenSet:
    """From a YAML file, a table, or a folder in the layout of the BEIR benchmark."""
    try:
        questions = _read(path)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"There is no golden set at {path}. Write one, or correct its path."
        ) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigurationError(
            f"The golden set {path} cannot be read: line {line}: {error.problem}."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"The golden set {path} cannot be read: {error}") from error
    _refuse_incomplete(path, questions)
    name = f"{path.name}/" if path.name == GENERATED else path.name  # nobody has written that one
    return GoldenSet(name, questions)


def _refuse_incomplete(path: Path, questions: Sequence[LabelledQuestion]) -> None:
    """Of no question nothing can be measured, and of two with one id only one would be kept."""
    times = Counter(each.id for each in questions)
    if twice := sorted(each for each, number in times.items() if number > 1):
        raise ConfigurationError(
            f"The golden set {path} is not valid: these ids stand twice: {', '.join(twice)}."
        )
    if not questions:
        raise ConfigurationError(f"The golden set {path} is not valid: there is no question in it.")


def _read(path: Path) -> tuple[LabelledQuestion, ...]:
    if path.is_dir():
        return read_folder(path)
    return read_table(path) if can_read(path) else read_yaml(path)

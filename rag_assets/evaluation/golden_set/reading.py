"""Reads a golden set, whichever layout it has."""

from pathlib import Path

import yaml

from rag_assets.errors import ConfigurationError
from rag_assets.evaluation.golden_set.beir import read_folder
from rag_assets.evaluation.golden_set.labels import LabelledQuestion
from rag_assets.evaluation.golden_set.sets import GoldenSet
from rag_assets.evaluation.golden_set.tables import can_read, read_table
from rag_assets.evaluation.golden_set.yaml_file import read_yaml


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
    return GoldenSet(path.name, questions)


def _read(path: Path) -> tuple[LabelledQuestion, ...]:
    if path.is_dir():
        return tuple(read_folder(path))
    return read_table(path) if can_read(path) else read_yaml(path)

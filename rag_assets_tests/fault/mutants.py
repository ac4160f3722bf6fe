"""Deliberately broken protocols, one and more a promise: the tester must catch each."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change that is made in a worker's process before it begins."""

    name: str
    promise: str
    breaks: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}

"""Takes a stream in pieces, so that memory does not grow with the corpus."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of at most `size` items.

    >>> list(batches("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def bounded(
    items: Iterable[Item], size: int, *, weight: Callable[[Item], int], most: int
) -> Iterator[list[Item]]:
    """Lists of at most `size` items that weigh at most `most`, but for the last of each.

    >>> list(bounded(["a", "bbb", "cc", "d", "e"], 2, weight=len, most=3))
    [['a', 'bbb'], ['cc', 'd'], ['e']]
    >>> list(bounded(["aaaa", "b", "c"], 2, weight=len, most=3))
    [['aaaa'], ['b', 'c']]
    """
    batch: list[Item] = []
    weighs = 0
    for item in items:
        batch.append(item)
        weighs += weight(item)
        if len(batch) == size or weighs >= most:
            yield batch
            batch, weighs = [], 0
    if batch:
        yield batch

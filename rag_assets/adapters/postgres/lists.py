"""What pgvector asks for when it sorts vectors into lists."""

SAMPLES_A_LIST = 50
FEWEST_SAMPLES = 10_000
SPARE_KB = 1024


def memory_for_lists(lists: int, dimensions: int) -> int:
    """Kilobytes without which the centres of so many lists are refused, not made more slowly.

    It keeps a sample of the vectors, and a bound for the distance of each to every centre.

    >>> memory_for_lists(1000, 256) // 1024
    223
    """
    samples = max(SAMPLES_A_LIST * lists, FEWEST_SAMPLES)
    vector = 2 * dimensions + 16
    sampled = samples * (vector + 8 + 4 * lists)
    centres = lists * (2 * vector + 4 * dimensions + 12 + 4 * lists)
    return (sampled + centres) // 1024 + SPARE_KB

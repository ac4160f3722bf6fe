"""What is always expected of the rows of each stage, and what a corpus adds to it."""

from rag_assets.model import Corpus, Expectation, ExpectationResult

LONGEST_VECTOR = 100.0
SHORTEST_VECTOR = 0.01
FEW_DOCUMENTS = 10
FEW_OF_ALL = 0.2
"""More than these at once are not quarantined: the expectation is wrong rather than they."""


def suites(
    corpus: Corpus,
    *,
    dimensions: int | None = None,
    max_chars: int | None = None,
    overlapping: bool = False,
) -> dict[str, tuple[Expectation, ...]]:
    """Stage to all that is expected of it; `max_chars` is None where another chunker was at work.

    >>> from rag_assets.model import LocalFilesSettings
    >>> corpus = Corpus("notes", source=LocalFilesSettings("documents"))
    >>> print(suites(corpus, dimensions=256)["embeddings"][1])
    expect_column_values_to_be_in_set(column='dimensions', value_set=[256])
    """
    always = {
        "documents": _documents(corpus),
        "chunks": _chunks(corpus, max_chars, overlapping=overlapping),
        "embeddings": _embeddings(dimensions),
        "index": _index(corpus, dimensions),
    }
    added = corpus.expectations.stages
    return {stage: (*expected, *added[stage]) for stage, expected in always.items()}


def believed(result: ExpectationResult, *, documents: int) -> bool:
    """Whether those that fail are wrong, and not what is expected of them; and all are known.

    >>> some = {f"{number}.md": b"" for number in range(11)}
    >>> failing = tuple((doc_id, None) for doc_id in some)
    >>> rare = ExpectationResult(
    ...     Expectation(""), met=False, unexpected=11, failing=failing, contents=some
    ... )
    >>> believed(rare, documents=100), believed(rare, documents=50)
    (True, False)
    """
    known = result.unexpected == len(result.failing) > 0
    failing = len(result.contents)
    return known and (failing <= FEW_DOCUMENTS or failing <= documents * FEW_OF_ALL)


def _documents(corpus: Corpus) -> tuple[Expectation, ...]:
    return (
        _rows("values_to_not_be_null", column="doc_id"),
        _rows("values_to_be_unique", column="doc_id"),
        _in_buckets(corpus),
        _rows("values_to_not_be_null", column="characters"),
        _rows("values_to_be_between", column="characters", min_value=1),
        _rows("values_to_be_between", column="readers", min_value=1),
        _few_copies(corpus),
    )


def _few_copies(corpus: Corpus) -> Expectation:
    most = corpus.quality.max_copies
    return _rows("values_to_be_between", column="copies", max_value=most, severity="warning")


def _chunks(corpus: Corpus, max_chars: int | None, *, overlapping: bool) -> tuple[Expectation, ...]:
    apart = _rows("values_to_be_between", column="gap", min_value=0)
    longest = {} if max_chars is None else {"max_value": max_chars}
    return (
        _one_row_a_chunk(),
        _in_buckets(corpus),
        _rows("values_to_be_between", column="characters", min_value=1, **longest),
        _rows("pair_values_to_be_equal", column_A="characters", column_B="span"),
        *(() if overlapping else (apart,)),
        _rows("values_to_be_between", column="tokens", min_value=0),
    )


def _embeddings(dimensions: int | None) -> tuple[Expectation, ...]:
    return (
        _rows("values_to_not_be_null", column="dimensions"),
        *_of_one_length(dimensions),
        _with_a_direction(),
    )


def _index(corpus: Corpus, dimensions: int | None) -> tuple[Expectation, ...]:
    return (
        _one_row_a_chunk(),
        _in_buckets(corpus),
        *(
            _rows("values_to_be_in_set", column=column, value_set=[True])
            for column in ("has_row", "has_chunk", "same_text")
        ),
        *_of_one_length(dimensions),
        _with_a_direction(),
        _rows("values_to_be_between", column="words", min_value=0),
        _rows("values_to_be_between", column="readers", min_value=1),
    )


def _rows(claim: str, **arguments: object) -> Expectation:
    return Expectation(f"expect_column_{claim}", arguments)


def _one_row_a_chunk() -> Expectation:
    return Expectation("expect_compound_columns_to_be_unique", {"column_list": ["doc_id", "ord"]})


def _in_buckets(corpus: Corpus) -> Expectation:
    last = corpus.buckets - 1
    return _rows("values_to_be_between", column="bucket", min_value=0, max_value=last)


def _of_one_length(dimensions: int | None) -> tuple[Expectation, ...]:
    if dimensions is None:
        return ()
    return (_rows("values_to_be_in_set", column="dimensions", value_set=[dimensions]),)


def _with_a_direction() -> Expectation:
    """Models give vectors of length one, or near it; the search takes any, but for zero."""
    return _rows(
        "values_to_be_between",
        column="norm",
        min_value=SHORTEST_VECTOR,
        max_value=LONGEST_VECTOR,
    )

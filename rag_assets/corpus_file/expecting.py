"""What can be expected: the names, arguments and columns that a `defs.yaml` may use.

Great Expectations takes seconds to load, so that a file is checked against this list instead; a
test holds the list against the installed version.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "documents": (
        *(
            "doc_id",
            "content",
            "bucket",
            "parser",
            "characters",
            "headings",
            "pages",
            "warnings",
            "readers",
        ),
        *("copies", "age_days"),
    ),
    "chunks": (
        *(
            "doc_id",
            "ord",
            "content",
            "bucket",
            "characters",
            "tokens",
            "start_char",
            "end_char",
            "span",
        ),
        *("gap", "headings", "page", "copies"),
    ),
    "embeddings": ("doc_id", "ord", "content", "bucket", "dimensions", "norm", "age_days"),
    "index": (
        *("doc_id", "ord", "bucket", "has_row", "has_chunk", "same_text", "words", "readers"),
        *("dimensions", "norm"),
    ),
}
"""Stage to the columns of its rows, as the queries of `expectations.sql` give them."""

QUERY = "unexpected_rows_expectation"
"""The expectation that is a query of the user's: it gives the rows that are not as expected."""

_BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")
_EVERYWHERE = ("description", "severity")
_SEVERITIES = ("critical", "warning", "info")
_NAMING_COLUMNS = ("column", "column_A", "column_B", "column_list")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What an expectation must be given, and what it may be given."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    by_row: bool = False
    """Whether it says of each row if it is as expected."""
    one_of: tuple[str, ...] = ()
    """At least one of these."""

    @property
    def known(self) -> list[str]:
        mostly = ("mostly",) if self.by_row and self.required != ("unexpected_rows_query",) else ()
        return [*self.required, *self.optional, *mostly, *_EVERYWHERE]


def _between() -> Arguments:
    return Arguments(("column",), _BOUNDS, one_of=("min_value", "max_value"))


def _rows(*required: str, optional: tuple[str, ...] = ()) -> Arguments:
    return Arguments(("column", *required), optional, by_row=True)


def _pairs(*required: str, optional: tuple[str, ...] = ()) -> Arguments:
    either = ("ignore_row_if",)
    return Arguments(("column_A", "column_B", *required), (*optional, *either), by_row=True)


def _several(*required: str) -> Arguments:
    return Arguments(("column_list", *required), ("ignore_row_if",), by_row=True)


EXPECTATIONS: Mapping[str, Arguments] = {
    "expect_column_distinct_values_to_be_in_set": Arguments(("column", "value_set")),
    "expect_column_distinct_values_to_contain_set": Arguments(("column", "value_set")),
    "expect_column_distinct_values_to_equal_set": Arguments(("column", "value_set")),
    "expect_column_max_to_be_between": _between(),
    "expect_column_mean_to_be_between": _between(),
    "expect_column_median_to_be_between": _between(),
    "expect_column_min_to_be_between": _between(),
    "expect_column_most_common_value_to_be_in_set": Arguments(
        ("column", "value_set"), ("ties_okay",)
    ),
    "expect_column_pair_values_a_to_be_greater_than_b": _pairs(optional=("or_equal",)),
    "expect_column_pair_values_to_be_equal": _pairs(),
    "expect_column_pair_values_to_be_in_set": _pairs("value_pairs_set"),
    "expect_column_proportion_of_non_null_values_to_be_between": _between(),
    "expect_column_proportion_of_unique_values_to_be_between": _between(),
    "expect_column_quantile_values_to_be_between": Arguments(
        ("column", "quantile_ranges"), ("allow_relative_error",)
    ),
    "expect_column_stdev_to_be_between": _between(),
    "expect_column_sum_to_be_between": _between(),
    "expect_column_unique_value_count_to_be_between": _between(),
    "expect_column_value_lengths_to_be_between": Arguments(
        ("column",), _BOUNDS, by_row=True, one_of=("min_value", "max_value")
    ),
    "expect_column_value_lengths_to_equal": _rows("value"),
    "expect_column_value_z_scores_to_be_less_than": _rows("threshold", "double_sided"),
    "expect_column_values_to_be_between": Arguments(
        ("column",), _BOUNDS, by_row=True, one_of=("min_value", "max_value")
    ),
    "expect_column_values_to_be_in_set": _rows("value_set"),
    "expect_column_values_to_be_null": _rows(),
    "expect_column_values_to_be_unique": _rows(),
    "expect_column_values_to_match_like_pattern": _rows("like_pattern"),
    "expect_column_values_to_match_like_pattern_list": _rows(
        "like_pattern_list", optional=("match_on",)
    ),
    "expect_column_values_to_match_regex": _rows("regex"),
    "expect_column_values_to_match_regex_list": _rows("regex_list", optional=("match_on",)),
    "expect_column_values_to_not_be_in_set": _rows("value_set"),
    "expect_column_values_to_not_be_null": _rows(),
    "expect_column_values_to_not_match_like_pattern": _rows("like_pattern"),
    "expect_column_values_to_not_match_like_pattern_list": _rows("like_pattern_list"),
    "expect_column_values_to_not_match_regex": _rows("regex"),
    "expect_column_values_to_not_match_regex_list": _rows("regex_list"),
    "expect_compound_columns_to_be_unique": _several(),
    "expect_multicolumn_sum_to_equal": _several("sum_total"),
    "expect_multicolumn_values_to_be_equal": _several(),
    "expect_select_column_values_to_be_unique_within_record": _several(),
    "expect_table_row_count_to_be_between": Arguments(
        (), _BOUNDS, one_of=("min_value", "max_value")
    ),
    "expect_table_row_count_to_equal": Arguments(("value",)),
    QUERY: Arguments(("unexpected_rows_query",), by_row=True),
}
"""Those that can be judged in the database."""


def checked_name(name: str) -> str:
    if name not in EXPECTATIONS:
        raise unknown(f"there is no expectation '{name}'", given=name, known=list(EXPECTATIONS))
    return name


def check_arguments(name: str, given: Mapping[str, object], *, quarantine: bool) -> None:
    """Raises for the first thing that Great Expectations would refuse, or that we do."""
    takes = EXPECTATIONS[name]
    for each in given:
        if each not in takes.known:
            raise unknown(f"{name} takes no '{each}'", given=each, known=takes.known)
    for each in takes.required:
        if each not in given:
            raise ValueError(f"{name} needs '{each}'")
    if takes.one_of and not set(takes.one_of) & set(given):
        raise ValueError(f"{name} needs {' or '.join(map(repr, takes.one_of))}")
    if quarantine and not takes.by_row:
        raise ValueError(f"{name} looks at all rows together, so it cannot quarantine any of them")
    _check_values(given)


def _check_values(given: Mapping[str, object]) -> None:
    mostly, severity = given.get("mostly", 1), given.get("severity", "critical")
    if not isinstance(mostly, int | float) or not 0 <= mostly <= 1:
        raise ValueError("'mostly' is the share of the rows, from 0 to 1")
    if severity not in _SEVERITIES:
        known = list(_SEVERITIES)
        raise unknown(f"unknown severity '{severity}'", given=str(severity), known=known)
    query = given.get("unexpected_rows_query", "{batch}")
    if not isinstance(query, str) or "{batch}" not in query:
        raise ValueError(
            "'unexpected_rows_query' must read FROM {batch}, which stands for the rows of the stage"
        )
    try:
        query.format(batch="")
    except (KeyError, IndexError, ValueError):
        raise ValueError(
            "'unexpected_rows_query' has a brace that is not that of {batch}; write {{ and }}"
        ) from None


def check_columns(stage: str, given: Mapping[str, object]) -> None:
    """Raises for the first column that the rows of the stage have not."""
    for column in _columns_in(given):
        if column not in COLUMNS[stage]:
            words = f"the rows of '{stage}' have no column '{column}'"
            raise unknown(words, given=str(column), known=list(COLUMNS[stage]))


def _columns_in(given: Mapping[str, object]) -> Iterator[object]:
    for name in _NAMING_COLUMNS:
        value = given.get(name)
        if isinstance(value, list):
            yield from value
        elif name in given:
            yield value


def unknown(words: str, *, given: str, known: list[str]) -> PydanticCustomError:
    """An error that carries the names it would have taken, so that one can be suggested."""
    context = {"words": words, "given": given, "known": known}
    return PydanticCustomError("unknown_name", "{words}", context)

"""One validation a stage, over rows that the database keeps: only figures come here."""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rag_assets.adapters.expectations.data_docs import DataDocs
from rag_assets.adapters.expectations.pages import page_of
from rag_assets.model import Expectation, ExpectationResult, Generation, RunIdentity, StageResult
from rag_assets.ports import ExpectedRows, TakenRows

if TYPE_CHECKING:
    from great_expectations.core import (
        ExpectationSuiteValidationResult,
        ExpectationValidationResult,
    )
    from great_expectations.datasource.fluent.interfaces import Batch
    from great_expectations.datasource.fluent.sql_datasource import SQLDatasource
    from great_expectations.expectations.expectation import Expectation as Built

FAILING = 1000
"""How many failing rows are named to whoever quarantines them."""
_QUERY = "unexpected_rows_query"
_NUMBER = "number"
"""In the notes of an expectation: its place in the suite, for results come in another order."""


@dataclass(frozen=True, slots=True)
class GreatExpectations:
    """Judges in the database, with the rights to read there, and writes the pages."""

    rows: ExpectedRows
    docs: DataDocs | None = None

    def judge(
        self,
        corpus: str,
        generation: Generation | None,
        suites: Mapping[str, Sequence[Expectation]],
        run: RunIdentity,
    ) -> list[StageResult]:
        """What each suite finds of the rows of its stage, all of them taken at one moment."""
        _load()
        judged: dict[str, tuple[ExpectationResult, ...]] = {}
        pages: dict[str, str] = {}
        with self.rows.taken(corpus, generation, list(suites)) as taken:
            source = _source(taken)
            for stage, suite in suites.items():
                found, judged[stage] = _judged(stage, suite, source, taken)
                pages[stage] = page_of(corpus, stage, found, judged[stage])
            taken.require()
        counts = {
            stage: (sum(each.met for each in some), len(some)) for stage, some in judged.items()
        }
        files = self.docs.write(corpus, generation, run, pages, counts) if self.docs else {}
        return [
            StageResult(stage, taken.rows[stage], results, files.get(stage))
            for stage, results in judged.items()
        ]


def _load() -> None:
    """Before any row is taken, for it takes seconds. What it says of its own imports is for it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations  # noqa: F401


def _source(taken: TakenRows) -> "SQLDatasource":
    """The taken rows, shown by a connection and no address.

    So no password can stand in anything that Great Expectations keeps, logs or renders.
    """
    import great_expectations
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.datasource.fluent.interfaces import GxDatasourceWarning
    from sqlalchemy.pool import StaticPool

    context = great_expectations.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        ),
    )
    with warnings.catch_warnings():  # its class for PostgreSQL wants an address
        warnings.simplefilter("ignore", GxDatasourceWarning)
        return context.data_sources.add_sql(  # type: ignore[call-arg]  # a stub without `kwargs`
            "rag_assets",
            connection_string="postgresql+psycopg://",
            create_temp_table=False,
            kwargs={"creator": lambda: taken.connection, "poolclass": StaticPool},
        )


def _judged(
    stage: str, expectations: Sequence[Expectation], source: "SQLDatasource", taken: TakenRows
) -> tuple["ExpectationSuiteValidationResult", tuple[ExpectationResult, ...]]:
    from great_expectations import ExpectationSuite

    built, refused = _built(expectations)
    suite = ExpectationSuite(name=stage, expectations=built)
    found = _batch(stage, source, taken).validate(suite, result_format=_format(stage))
    for each in found.results:
        _tidy(each)
    by_number = {_number(each): each for each in found.results}
    return found, tuple(
        ExpectationResult(expectation, met=False, broken=refused[number])
        if number in refused
        else _with_contents(stage, _result(stage, expectation, by_number[number], taken), taken)
        for number, expectation in enumerate(expectations)
    )


def _built(expectations: Sequence[Expectation]) -> tuple[list["Built"], dict[int, str]]:
    """Those that Great Expectations takes; and by their place, why it refuses the others."""
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from great_expectations.expectations.registry import get_expectation_impl

    built: list[Built] = []
    refused: dict[int, str] = {}
    for number, each in enumerate(expectations):
        try:
            make: Callable[..., Built] = get_expectation_impl(each.name)
            built.append(make(**dict(each.arguments), meta={_NUMBER: number}))
        except (GreatExpectationsError, ValueError, TypeError) as error:
            refused[number] = _in_one_line(str(error))
    return built, refused


def _batch(stage: str, source: "SQLDatasource", taken: TakenRows) -> "Batch":
    asset = source.add_table_asset(stage, table_name=taken.batch(stage))
    return asset.add_batch_definition_whole_table(stage).get_batch()


def _format(stage: str) -> dict[str, Any]:
    return {
        "result_format": "SUMMARY",
        "partial_unexpected_count": FAILING,
        "unexpected_index_column_names": ["doc_id"] if stage == "documents" else ["doc_id", "ord"],
        "return_unexpected_index_query": False,
    }


def _number(found: "ExpectationValidationResult") -> int:
    configuration = found.expectation_config
    return int(configuration.meta[_NUMBER]) if configuration and configuration.meta else -1


def _result(
    stage: str, expectation: Expectation, found: "ExpectationValidationResult", taken: TakenRows
) -> ExpectationResult:
    values: Mapping[str, Any] = found.result
    if found.exception_info["raised_exception"]:
        why = str(found.exception_info["exception_message"])
        return ExpectationResult(expectation, met=False, broken=why)
    if _QUERY in expectation.arguments:
        return _result_of_query(stage, expectation, int(values["observed_value"]), taken)
    observed = values.get("observed_value")
    return ExpectationResult(
        expectation,
        met=bool(found.success),
        rows=values.get("element_count"),
        unexpected=values.get("unexpected_count"),
        observed=None if observed is None else _in_one_line(str(observed)),
        failing=tuple(_ids(values)),
    )


def _result_of_query(
    stage: str, expectation: Expectation, unexpected: int, taken: TakenRows
) -> ExpectationResult:
    """The rows that a query gives are only counted; which they are is asked for their ids alone."""
    query = str(expectation.arguments[_QUERY]).rstrip("; \t\r\n")
    return ExpectationResult(
        expectation,
        met=not unexpected,
        rows=taken.rows[stage],
        unexpected=unexpected,
        failing=tuple(taken.offenders(stage, query, most=FAILING)) if unexpected else (),
    )


def _with_contents(stage: str, result: ExpectationResult, taken: TakenRows) -> ExpectationResult:
    """Only what is to be quarantined must be known so exactly."""
    if result.met or not result.expectation.quarantine:
        return result
    return replace(result, contents=taken.contents(stage, [doc_id for doc_id, _ in result.failing]))


def _ids(values: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Of some expectations the rows themselves are the values."""
    listed = values.get("partial_unexpected_index_list") or values.get("partial_unexpected_list")
    for row in listed or ():
        if isinstance(row, Mapping) and row.get("doc_id") is not None:
            number = row.get("ord")
            yield str(row["doc_id"]), None if number is None else int(number)


# --- what must not leave -------------------------------------------------------------------------

_TOLD = re.compile(
    r"\(psycopg\.errors\.(?:Syntax|Undefined|Ambiguous|Grouping|Datatype|CannotCoerce|Duplicate"
    r"|Windowing|InvalidColumn|InsufficientPrivilege|ReadOnly|FeatureNotSupported|QueryCanceled)"
    r"\w*\) (?P<said>[^\n]*)"
)
"""Errors of the database that speak of the query; others may quote a value, and so a document."""
_NAMED = re.compile(r"\(psycopg\.errors\.(?P<name>\w+)\)")


def _tidy(found: "ExpectationValidationResult") -> None:
    """One plain sentence instead of stack traces, which may quote a document."""
    info: Mapping[str, Any] = found.exception_info or {}
    by_metric = (info[name] for name in sorted(info))  # they come in no order
    raised = [
        each
        for each in (info, *by_metric)
        if isinstance(each, Mapping) and each.get("raised_exception")
    ]
    said = str(raised[0].get("exception_message") or "") if raised else ""
    found.exception_info = {
        "raised_exception": bool(raised),
        "exception_message": _plainly(said) if raised else "",
        "exception_traceback": "",
    }


def _plainly(said: str) -> str:
    if told := _TOLD.search(said):
        return _in_one_line(told["said"])
    if named := _NAMED.search(said):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", named["name"]).lower()
        return f"the database refused a value of a row ({words})"
    return _in_one_line(said) or "Great Expectations gives no reason"


def _in_one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 300 else f"{line[:300]}…"

"""What a person reads of a plan: what, why, how much, and what is not known."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from rag_assets.model import (
    BuildForecast,
    CostLine,
    DocumentForecast,
    Explanation,
    Forecast,
    IndexForecast,
    Need,
    PartChange,
    UnitPrice,
)
from rag_assets.printing import plans

SMALL = "openai:text-embedding-3-small/1536/plain@1"
CHUNKER = PartChange("chunker", "markdown@1:400-1200", "markdown@1:200-800")
READ = IndexForecast(
    generation=3,
    state="published",
    embedder=SMALL,
    need=Need(texts=31, embedded=18, to_embed=13, size=11_000, tokens=2816, tokens_at_most=2816),
    tokens=2816,
    exact=True,
    price=UnitPrice(Decimal("0.02"), "genai-prices 0.2.3"),
    requests=1,
    seconds=9.0,
    note="what readers have",
)
PLAN = Forecast(
    corpus="handbook",
    documents=DocumentForecast(
        listed=42, added=1, changed=2, unchanged=39, named={"added": ("new.md",)}
    ),
    indexes=(READ,),
    build=BuildForecast(None, "f00d", 3, (CHUNKER,)),
)


def shown(plan: Forecast, capsys: pytest.CaptureFixture[str]) -> str:
    plans.plan(plan)
    return capsys.readouterr().out


def test_a_plan_says_what_why_and_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(PLAN, capsys)
    assert "handbook: 42 documents in the source, 39 as they were" in out
    assert "1 new   new.md" in out
    assert "Another index is built beside generation 3, for settings differ:" in out
    assert "chunker   markdown@1:400-1200 → markdown@1:200-800" in out
    assert "generation 3 (what readers have): 31 texts, 18 with a vector" in out
    assert "2,816 tokens: $0.000057 at $0.02 a million (genai-prices 0.2.3)" in out
    assert "It costs $0.000057. The model takes about 9 seconds." in out


def test_an_estimate_is_told_with_its_bound(capsys: pytest.CaptureFixture[str]) -> None:
    need = replace(READ.need, tokens=None, tokens_at_most=11_104)
    guessed = replace(READ, need=need, exact=False, seconds=None)
    out = shown(replace(PLAN, indexes=(guessed,)), capsys)
    assert "about 2,816 tokens, at most 11,104: about $0.000057, at most $0.000223" in out
    assert "How long the model takes is not known" in out


def test_an_unknown_price_is_no_sum(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = replace(READ, price=UnitPrice(None, "unknown; state it in the file"))
    plan = replace(PLAN, indexes=(READ, unknown))
    assert plan.usd is None
    assert plan.unpriced == (SMALL,)
    assert "What it costs is not known: a price is missing." in shown(plan, capsys)


def test_a_model_in_this_process_is_free(capsys: pytest.CaptureFixture[str]) -> None:
    need = replace(READ.need, tokens=0, tokens_at_most=0)
    free = replace(READ, need=need, tokens=0, price=UnitPrice(Decimal(), "It runs here."))
    out = shown(replace(PLAN, indexes=(free,)), capsys)
    assert "no tokens are billed: free" in out
    assert "It costs $0.00." in out


def test_a_build_that_was_ended_goes_on_or_comes_back_is_told_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert PLAN.build is not None
    held = replace(PLAN.build, held="cancelled: too dear")
    assert "It was cancelled: too dear." in shown(replace(PLAN, build=held), capsys)
    on = replace(PLAN.build, generation=4, state="building")
    assert "Generation 4 is built beside generation 3" in shown(replace(PLAN, build=on), capsys)
    back = replace(PLAN.build, generation=2, state="retired")
    assert "Generation 2 comes back" in shown(replace(PLAN, build=back), capsys)
    again = replace(on, changes=())
    assert "with the same settings once more" in shown(replace(PLAN, build=again), capsys)


def test_a_plan_above_the_limit_is_told_before_it_is_begun(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plans.above_the_limit(PLAN, Decimal("0.00001"))
    assert "it will stop on its way" in capsys.readouterr().out
    plans.above_the_limit(PLAN, Decimal(1))
    assert capsys.readouterr().out == ""


def test_an_explanation_names_the_part_and_what_it_means(
    capsys: pytest.CaptureFixture[str],
) -> None:
    why = Explanation(
        corpus="handbook",
        published=3,
        building=None,
        state="missing",
        recipe={"chunker": "markdown@1:200-800"},
        changes=(CHUNKER,),
        meaning=("Stored texts are cut anew.",),
        held="failed: no quota",
        waits=("2 documents that could not be processed",),
    )
    plans.explanation(why)
    out = capsys.readouterr().out
    assert "generation 3, which is read, is of other settings than today's." in out
    assert "Stored texts are cut anew." in out
    assert "Such an index was failed: no quota." in out
    assert "2 documents that could not be processed" in out


def test_costs_are_added_up_and_what_had_no_price_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    day = datetime(2026, 5, 1, tzinfo=UTC)
    line = CostLine(
        "handbook", "run-1", 3, 40, 5000, Decimal("0.0001"), 0, (Decimal("0.02"),), day, day
    )
    unpriced = replace(line, of="run-2", usd=None, tokens_unpriced=5000, unit_prices=())
    plans.costs([line, unpriced], "run")
    out = capsys.readouterr().out
    assert "In all 10,000 tokens, $0.0001." in out
    assert "Of 5,000 tokens the price was not known" in out
    plans.spent(PLAN, [line])
    out = capsys.readouterr().out
    assert [each.split() for each in out.splitlines()[1:]] == [
        ["planned", "13", "2,816", "$0.000057"],
        ["spent", "40", "5,000", "$0.0001"],
    ]


def test_what_counts_against_a_limit_and_is_in_no_ledger_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plans.kept_to(Decimal(5), 2.5, 0.0)
    plans.kept_to(Decimal(5), 4.5, 2.0)
    [whole, in_part] = capsys.readouterr().out.splitlines()
    assert whole == "$2.50 counts against the limit of $5.00."
    assert in_part.endswith("of $5.00, of which $2.00 for requests that were never answered.")


@pytest.mark.parametrize(
    ("by", "of", "told"),
    [
        ("generation", "0", "none"),
        ("generation", "3", "3"),
        ("bucket", "-1", "none"),
        ("bucket", "0", "0"),
    ],
)
def test_costs_of_no_generation_or_bucket_are_told_as_of_none(
    capsys: pytest.CaptureFixture[str], by: str, of: str, told: str
) -> None:
    day = datetime(2026, 5, 1, tzinfo=UTC)
    plans.costs([CostLine("handbook", of, 1, 1, 50, None, 50, (), day, day)], by)
    assert capsys.readouterr().out.splitlines()[1].split()[0] == told

"""The picture of scores over time."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.evaluation.plotting import HEIGHT, MOST_POINTS, WIDTH, as_markdown, plot
from rag_assets.model import ScoredPoint

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
GATE = ("ndcg@10", "answer_span_hit@5")
SVG = "{http://www.w3.org/2000/svg}"


def point(day: int, *, generation: int = 1, golden_set: str = "g", **metrics: float) -> ScoredPoint:
    named = {name.replace("_at_", "@"): value for name, value in metrics.items()}
    return ScoredPoint(generation, golden_set, "c", BEGIN + timedelta(days=day), named)


def drawn(*points: ScoredPoint, **how: object) -> ElementTree.Element:
    return ElementTree.fromstring(plot(points, GATE, **how))  # type: ignore[arg-type] # by name


def texts(picture: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in picture.iter(f"{SVG}text")]


def test_each_metric_has_a_line_with_a_dot_for_each_point() -> None:
    points = [point(day, ndcg_at_10=0.8, answer_span_hit_at_5=0.9) for day in range(3)]
    picture = drawn(*points)
    assert len(list(picture.iter(f"{SVG}circle"))) == 6
    assert set(GATE) <= set(texts(picture))


def test_a_change_of_generation_is_marked_and_the_dates_stand_below() -> None:
    picture = drawn(
        point(0, ndcg_at_10=0.8), point(5, ndcg_at_10=0.7, generation=2), point(9, ndcg_at_10=0.7)
    )
    assert {"generation 1", "generation 2", "2026-03-01", "2026-03-10"} <= set(texts(picture))


def test_a_line_is_broken_where_the_questions_changed() -> None:
    same = [point(day, ndcg_at_10=0.8) for day in range(3)]
    other = [*same, point(4, ndcg_at_10=0.5, golden_set="h")]
    moves = [each.get("d", "").count("M") for each in drawn(*other).iter(f"{SVG}path")]
    assert max(moves) == 2


def test_the_band_within_which_a_score_may_fall_is_drawn() -> None:
    picture = drawn(point(0, ndcg_at_10=0.8), tolerated={"ndcg@10": (0.7, 0.8), "other": (0, 1)})
    bands = [each for each in picture.iter(f"{SVG}rect") if each.get("opacity")]
    assert len(bands) == 1


def test_without_points_or_without_their_metrics_there_is_no_picture() -> None:
    assert plot([], GATE) == ""
    assert plot([point(0, other=1.0)], GATE) == ""


def test_a_title_is_no_markup() -> None:
    picture = drawn(point(0, ndcg_at_10=0.8), title="<script>alert(1)</script>")
    assert "<script>alert(1)</script>" in texts(picture)
    assert not list(picture.iter(f"{SVG}script"))


def test_a_long_past_stays_a_small_picture() -> None:
    points = [point(day, ndcg_at_10=0.8, answer_span_hit_at_5=0.9) for day in range(1000)]
    text = as_markdown(plot(points, GATE), "Scores")
    assert len(text) < 60_000
    picture = ElementTree.fromstring(b64decode(text.partition("base64,")[2].rstrip(")")))
    assert len(list(picture.iter(f"{SVG}circle"))) == 2 * MOST_POINTS


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 1)), min_size=1, max_size=30))
def test_every_dot_lies_within_the_picture(scored: list[tuple[int, float]]) -> None:
    picture = drawn(*(point(day, ndcg_at_10=value) for day, value in scored))
    for dot in picture.iter(f"{SVG}circle"):
        assert 0 <= float(dot.get("cx", "-1")) <= WIDTH
        assert 0 <= float(dot.get("cy", "-1")) <= HEIGHT

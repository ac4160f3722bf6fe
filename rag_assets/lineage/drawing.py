"""Draws the graph of a corpus, from left to right, as SVG that can be clicked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rag_assets.lineage.graph import AssetNode, CorpusLineage
from rag_assets.lineage.markup import Markup, tag

WIDTH, END_WIDTH, HEIGHT = 168, 122, 92
GAP, ROW_GAP = 34, 26
LANE = 24
MARGIN = 12
SOURCE, READERS = "source", "search, ask"


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node stands: its column and row, and its place in pixels."""

    x: float
    y: float
    width: float = WIDTH

    @property
    def middle(self) -> float:
        return self.y + HEIGHT / 2


def anchor(corpus: str, asset: str = "") -> str:
    """The id of a part of the page."""
    return f"{corpus}--{asset}" if asset else f"corpus--{corpus}"


def graph(corpus: CorpusLineage) -> Markup:
    """Source, assets and readers; an arrow for each dependency."""
    edges = _edges(corpus)
    ranks = _ranks(corpus.assets)
    lanes = _lanes(edges, ranks)
    top = MARGIN + LANE * len(lanes)
    boxes = _placed(ranks, top)
    right = max(box.x + box.width for box in boxes.values()) + MARGIN
    bottom = max(box.y for box in boxes.values()) + HEIGHT + MARGIN
    head = f"head--{corpus.name}"
    drawn = [_arrow(boxes[a], boxes[b], lanes.get((a, b)), head) for a, b in edges]
    nodes = [_node(corpus.name, asset, boxes[asset.name]) for asset in corpus.assets]
    ends = [
        _end(SOURCE, corpus.source_kind, boxes[SOURCE]),
        _end(READERS, "the online half", boxes[READERS]),
    ]
    return tag(
        "svg",
        tag("title", f"Lineage of {corpus.name}, from its source to its readers"),
        tag("defs", _marker(head)),
        drawn,
        ends,
        nodes,
        viewBox=f"0 0 {right:g} {bottom:g}",
        width=f"{right:g}",
        height=f"{bottom:g}",
        role="group",
        class_="graph",
        aria_label=f"Lineage of {corpus.name}",
    )


Edge = tuple[str, str]


def _edges(corpus: CorpusLineage) -> list[Edge]:
    edges = [(above, asset.name) for asset in corpus.assets for above in asset.upstream]
    edges += [(SOURCE, asset.name) for asset in corpus.assets if not asset.upstream]
    return [*edges, (_last(corpus.assets), READERS)]


def _last(assets: Sequence[AssetNode]) -> str:
    """What readers read."""
    names = [asset.name for asset in assets]
    return "published_index" if "published_index" in names else names[-1]


def _ranks(assets: Sequence[AssetNode]) -> dict[str, int]:
    """Every asset stands right of all it is made from."""
    ranks = {SOURCE: 0}
    for asset in assets:  # in the order in which data flows
        ranks[asset.name] = 1 + max((ranks.get(name, 0) for name in asset.upstream), default=0)
    ranks[READERS] = 1 + ranks[_last(assets)]
    return ranks


def _lanes(edges: Sequence[Edge], ranks: Mapping[str, int]) -> dict[Edge, int]:
    """Arrows that pass others by run above them, the shorter the lower."""
    far = [edge for edge in edges if ranks[edge[1]] - ranks[edge[0]] > 1]
    far.sort(key=lambda edge: (ranks[edge[1]] - ranks[edge[0]], edge))
    return {edge: number for number, edge in enumerate(far)}


def _placed(ranks: Mapping[str, int], top: float) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    filled: dict[int, int] = {}
    for name, rank in sorted(ranks.items(), key=lambda each: each[0] != READERS):
        row = filled.get(rank, 0)
        filled[rank] = row + 1
        x = MARGIN if not rank else MARGIN + END_WIDTH + GAP + (rank - 1) * (WIDTH + GAP)
        width = END_WIDTH if name in {SOURCE, READERS} else WIDTH
        boxes[name] = Box(x, top + row * (HEIGHT + ROW_GAP), width)
    return boxes


def _arrow(above: Box, below: Box, lane: int | None, head: str) -> Markup:
    if lane is None:
        x1, y1, x2, y2 = above.x + above.width, above.middle, below.x - 7, below.middle
        bend = (x2 - x1) / 2
        path = f"M{x1:g} {y1:g} C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"
    else:
        height = MARGIN + LANE * lane
        x1, x2 = above.x + above.width * 0.72, below.x + below.width * 0.28
        corner = min(10.0, above.y - height)
        path = (
            f"M{x1:g} {above.y:g} V{height + corner:g} q0 {-corner:g} {corner:g} {-corner:g}"
            f" H{x2 - corner:g} q{corner:g} 0 {corner:g} {corner:g} V{below.y - 7:g}"
        )
    return tag("path", d=path, class_="arrow", marker_end=f"url(#{head})")


def _marker(name: str) -> Markup:
    head = tag("path", d="M0 0 L8 4 L0 8 z", class_="head")
    return tag(
        "marker", head, id=name, viewBox="0 0 8 8", refX="2", refY="4", markerWidth="7",
        markerHeight="7", orient="auto-start-reverse",
    )  # fmt: skip


def _node(corpus: str, asset: AssetNode, box: Box) -> Markup:
    lines = [
        tag("rect", x=f"{box.x:g}", y=f"{box.y:g}", width=WIDTH, height=HEIGHT, rx=7, class_="box"),
        tag("rect", x=f"{box.x:g}", y=f"{box.y + 12:g}", width=4, height=HEIGHT - 24, rx=2,
            class_="state"),
        _text(box, 24, asset.name, "name"),
        _text(box, 44, _rows(asset)),
        _text(box, 62, _buckets(asset)),
        _text(box, 80, _standing(asset), "standing"),
    ]  # fmt: skip
    return tag(
        "a",
        lines,
        href=f"#{anchor(corpus, asset.name)}",
        class_=f"node {asset.health}",
        aria_label=f"{asset.name}: {_rows(asset)}, {_buckets(asset)}, {_standing(asset)}",
    )


def _end(name: str, kind: str, box: Box) -> Markup:
    return tag(
        "g",
        tag("rect", x=f"{box.x:g}", y=f"{box.y:g}", width=f"{box.width:g}", height=HEIGHT, rx=7,
            class_="box"),
        _text(box, 42, name, "name"),
        _text(box, 62, kind),
        class_="node end",
    )  # fmt: skip


def _text(box: Box, down: int, text: str, style: str | None = None) -> Markup:
    return tag("text", text, x=f"{box.x + 14:g}", y=f"{box.y + down:g}", class_=style)


def _rows(asset: AssetNode) -> str:
    return "one table" if asset.rows is None else f"{asset.rows:,} rows"


def _buckets(asset: AssetNode) -> str:
    if asset.buckets is None:
        return "no buckets"
    return f"{asset.buckets.count('materialized')} of {len(asset.buckets.states)} buckets"


def _standing(asset: AssetNode) -> str:
    """What is to be looked at first."""
    if asset.buckets and (failed := asset.buckets.count("failed")):
        return f"{failed} buckets failed"
    if asset.last_run is None:
        return "never materialized"
    wrong = sum(check.health in {"failed", "warning"} for check in asset.checks)
    if wrong:
        return f"{wrong} of {len(asset.checks)} checks failed"
    if asset.outdated:
        return "made by other code"
    if asset.freshness.health != "good":
        return asset.freshness.said.partition(";")[0]
    passed = sum(check.health == "good" for check in asset.checks)
    return f"{passed} {'check' if passed == 1 else 'checks'} passed" if passed else "fresh"

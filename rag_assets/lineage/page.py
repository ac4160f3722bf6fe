"""One HTML page of the lineage that needs nothing else: no server, no script, no network."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.resources import files

from rag_assets.evaluation.scoring import METRICS
from rag_assets.lineage.drawing import anchor, graph
from rag_assets.lineage.graph import (
    AssetNode,
    Changes,
    CheckNode,
    ColumnNode,
    CorpusLineage,
    GenerationNode,
    Health,
    Lineage,
    RunNode,
)
from rag_assets.lineage.markup import Content, Markup, joined, tag

NOTHING_ELSE = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
WORDS = {
    Health.GOOD: "as it should be",
    Health.WARNING: "to be looked at",
    Health.FAILED: "wrong",
    Health.UNKNOWN: "not known",
}
MARKS = {Health.GOOD: "✓", Health.WARNING: "!", Health.FAILED: "✗", Health.UNKNOWN: "·"}


def page(lineage: Lineage) -> str:
    """The whole page. Whatever a description says is shown, and never run."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=NOTHING_ELSE),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"Lineage of {', '.join(each.name for each in lineage.corpora)}"),
        tag("style", Markup(_style())),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", href="#content", class_="skip"),
        _top(lineage),
        tag("div", _contents(lineage), _main(lineage), class_="columns"),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _style() -> str:
    return (files("rag_assets.lineage") / "page.css").read_text(encoding="utf-8")


def _top(lineage: Lineage) -> Markup:
    made = [
        "made ",
        _time(lineage.made_at),
        f" by rag_assets {lineage.version}",
    ]
    return tag(
        "header",
        tag("p", tag("strong", "rag_assets"), " lineage", class_="brand"),
        tag("p", made, class_="made"),
        class_="top",
    )


def _contents(lineage: Lineage) -> Markup:
    return tag(
        "nav",
        [
            [
                tag("p", tag("a", corpus.name, href=f"#{anchor(corpus.name)}")),
                tag(
                    "ul",
                    [
                        tag(
                            "li",
                            tag(
                                "a",
                                _dot(asset.health),
                                asset.name,
                                href=f"#{anchor(corpus.name, asset.name)}",
                            ),
                        )
                        for asset in corpus.assets
                    ],
                ),
            ]
            for corpus in lineage.corpora
        ],
        aria_label="Contents",
    )


def _main(lineage: Lineage) -> Markup:
    notes = [tag("p", note, class_="note", role="note") for note in lineage.notes]
    return tag("main", notes, map(_corpus, lineage.corpora), id="content")


# --- a corpus ------------------------------------------------------------------------------------


def _corpus(corpus: CorpusLineage) -> Markup:
    return tag(
        "section",
        tag("h1", corpus.name),
        _prose(corpus.description),
        _facts(_about(corpus)),
        _tiles(corpus),
        tag("h2", "Graph"),
        tag("div", graph(corpus), class_="scroll", tabindex="0", role="region",
            aria_label=f"Graph of {corpus.name}"),
        _legend(),
        _generations(corpus),
        _automation(corpus),
        tag("h2", "Assets"),
        [_asset(corpus, asset) for asset in corpus.assets],
        id=anchor(corpus.name),
        class_="corpus",
    )  # fmt: skip


def _about(corpus: CorpusLineage) -> list[tuple[str, Content]]:
    return [
        ("Source", tag("code", corpus.source)),
        ("Owners", _owners(corpus.owners)),
    ]


def _tiles(corpus: CorpusLineage) -> Markup:
    checks = corpus.checks
    looked_at = [check for check in checks if check.health is not Health.UNKNOWN]
    wrong = [check for check in checks if check.health in {Health.FAILED, Health.WARNING}]
    worst = min((asset.health for asset in corpus.assets), key=list(Health).index)
    tiles = [
        _tile("Assets", _standing(corpus), worst),
        _tile(
            "Checks",
            f"{len(looked_at) - len(wrong)} of {len(looked_at)} passed",
            _worst(checks),
        ),
    ]
    if ledger := corpus.ledger:
        published = "none" if ledger.published is None else f"generation {ledger.published}"
        letters = Health.WARNING if ledger.dead_letters else Health.GOOD
        withheld = Health.WARNING if ledger.withheld else Health.GOOD
        tiles += [
            _tile("Documents", f"{ledger.documents:,}", Health.GOOD),
            _tile(
                "Published",
                published,
                Health.GOOD if ledger.published is not None else Health.UNKNOWN,
            ),
            _tile("Dead letters", f"{ledger.dead_letters:,}", letters),
            _tile("Withheld deletions", f"{ledger.withheld:,}", withheld),
        ]
    return tag("ul", tiles, class_="tiles")


def _standing(corpus: CorpusLineage) -> str:
    good = sum(asset.health is Health.GOOD for asset in corpus.assets)
    return f"{good} of {len(corpus.assets)} fine"


def _worst(checks: Sequence[CheckNode]) -> Health:
    known = [check.health for check in checks if check.health is not Health.UNKNOWN]
    return min(known, key=list(Health).index) if known else Health.UNKNOWN


def _tile(name: str, value: str, health: Health) -> Markup:
    return tag(
        "li",
        tag("span", name, class_="what"),
        tag("strong", value),
        tag("span", WORDS[health], class_="hidden"),
        class_=f"tile {health}",
    )


def _legend() -> Markup:
    items = [tag("li", _dot(health), WORDS[health]) for health in reversed(Health)]
    return tag("ul", items, class_="legend", aria_label="Colours")


def _generations(corpus: CorpusLineage) -> Content:
    if corpus.ledger is None or not corpus.ledger.generations:
        return None
    header = ["Generation", "State", "Documents", "Chunks", "Made with", "Scores"]
    return [
        tag("h2", "Generations"),
        _table(header, map(_generation, reversed(corpus.ledger.generations))),
    ]


def _generation(each: GenerationNode) -> list[Content]:
    made_with = (each.parser, each.chunker, each.embedder, each.index_kind)
    recipe = [tag("code", name) for name in made_with]
    health = {"published": Health.GOOD, "candidate": Health.WARNING, "building": Health.WARNING}
    metrics = [name for name in METRICS if name in each.scores]
    scores = [
        tag("li", tag("span", name, class_="type"), f" {each.scores[name]:.3f}") for name in metrics
    ]
    return [
        tag("strong", f"{each.number}"),
        [
            _badge(each.state, health.get(each.state, Health.UNKNOWN)),
            tag("p", "made ", _time(each.created_at)),
            tag("p", "published ", _time(each.published_at)) if each.published_at else None,
        ],
        f"{each.documents:,}",
        f"{each.chunks:,}",
        tag("span", recipe, class_="recipe"),
        [
            tag("ul", scores, class_="scores")
            if scores
            else tag("span", "not scored", class_="none"),
            tag("p", "on generated questions") if each.generated_questions else None,
        ],
    ]


def _automation(corpus: CorpusLineage) -> Content:
    if not corpus.automation:
        return None
    return [
        tag("h2", "What runs by itself"),
        _table(
            ["Name", "Kind", "When", "State", "What it does"],
            [
                [
                    tag("code", each.name),
                    each.kind,
                    tag("span", each.when, class_="one-line"),
                    _badge("running", Health.GOOD)
                    if each.running
                    else _badge("stopped", Health.UNKNOWN),
                    _words(each.description),
                ]
                for each in corpus.automation
            ],
        ),
    ]


# --- an asset ------------------------------------------------------------------------------------


def _asset(corpus: CorpusLineage, asset: AssetNode) -> Markup:
    return tag(
        "article",
        tag(
            "h3",
            asset.name,
            _badge(WORDS[asset.health], asset.health),
            [tag("span", kind, class_="kind") for kind in asset.kinds],
        ),
        _prose(asset.description),
        _facts(_definition(corpus, asset)),
        _buckets(asset),
        _columns(corpus, asset.columns),
        _checks(asset.checks),
        _runs(asset.runs),
        id=anchor(corpus.name, asset.name),
        class_=f"asset {asset.health}",
    )


def _definition(corpus: CorpusLineage, asset: AssetNode) -> list[tuple[str, Content]]:
    return [
        ("Made from", _links(corpus, asset.upstream) or corpus.source_kind),
        ("Used by", _links(corpus, corpus.below(asset.name)) or "readers"),
        ("Table", tag("code", asset.table) if asset.table else None),
        ("Rows", None if asset.rows is None else f"{asset.rows:,}"),
        ("Code version", _code_version(asset)),
        ("Code", tag("code", asset.code) if asset.code else None),
        ("Owners", _owners(asset.owners)),
        ("Freshness", [_dot(asset.freshness.health), asset.freshness.said]),
    ]


def _code_version(asset: AssetNode) -> Content:
    if not asset.code_version:
        return None
    before = asset.last_run.code_version if asset.last_run and asset.outdated else None
    return [
        tag("code", asset.code_version),
        [" ", _badge("last run:", Health.WARNING), " ", tag("code", before)] if before else None,
    ]


def _links(corpus: CorpusLineage, names: Iterable[str]) -> Content:
    known = {asset.name for asset in corpus.assets}
    links = [
        tag("a", name, href=f"#{anchor(corpus.name, name)}") if name in known else name
        for name in names
    ]
    return [[", " if number else None, link] for number, link in enumerate(links)]


def _buckets(asset: AssetNode) -> Content:
    if asset.buckets is None:
        return None
    counted = {
        state: asset.buckets.count(state)
        for state in ("materialized", "in progress", "failed", "missing")
    }
    said = ", ".join(f"{number} {state}" for state, number in counted.items() if number)
    cells = [
        tag("li", key, title=f"bucket {key}: {state}", class_=state.replace(" ", "-"))
        for key, state in asset.buckets.states.items()
    ]
    return [tag("h4", "Buckets: ", said), tag("ul", cells, class_="buckets")]


def _columns(corpus: CorpusLineage, columns: Sequence[ColumnNode]) -> Content:
    if not columns:
        return None
    header = ["Column", "Type", "What it is", "Made from"]
    derived = any(each.made_from for each in columns)
    rows = [_column(corpus, each) for each in columns]
    width = len(header) if derived else len(header) - 1
    return [tag("h4", "Columns"), _table(header[:width], [row[:width] for row in rows])]


def _column(corpus: CorpusLineage, column: ColumnNode) -> list[Content]:
    made_from = [
        tag("a", tag("code", f"{asset}.{name}"), href=f"#{anchor(corpus.name, asset)}")
        for asset, name in column.made_from
    ]
    return [
        tag("code", column.name),
        tag("span", column.type, class_="type"),
        _words(column.description),
        made_from,
    ]


def _checks(checks: Sequence[CheckNode]) -> Content:
    if not checks:
        return None
    return [
        tag("h4", "Checks"),
        _table(
            ["Check", "Last result", "When", "What it asks"],
            [
                [
                    [tag("code", each.name), _how(each)],
                    [
                        _badge(_result(each), each.health),
                        tag("p", _words(each.said))
                        if each.said and each.health != Health.GOOD
                        else None,
                    ],
                    _time(each.at),
                    _words(each.description),
                ]
                for each in checks
            ],
        ),
    ]


def _how(check: CheckNode) -> Content:
    said = [
        word for word, holds in (("blocking", check.blocking), ("nightly", check.nightly)) if holds
    ]
    return [tag("span", word, class_="kind") for word in said]


def _result(check: CheckNode) -> str:
    return {
        Health.GOOD: "passed",
        Health.WARNING: "warning",
        Health.FAILED: "failed",
        Health.UNKNOWN: "not run yet",
    }[check.health]


def _runs(runs: Sequence[RunNode]) -> Content:
    if not runs:
        return [tag("h4", "Last runs"), tag("p", "Never materialized.", class_="none")]
    return [
        tag("h4", "Last runs"),
        _table(
            ["When", "Run", "Started by", "Buckets", "What it did"],
            [
                [
                    _time(each.at),
                    tag("code", each.run_id[:8], title=each.run_id, class_="one-line"),
                    tag("span", each.started_by, class_="one-line"),
                    "" if each.buckets is None else f"{each.buckets}",
                    [_did(each), _diff(each.diff)],
                ]
                for each in runs
            ],
        ),
        _last_figures(runs[0]),
    ]


def _did(run: RunNode) -> Content:
    if not run.did_something:
        return tag("span", "nothing had changed", class_="none")
    named = {each.change for each in run.diff}
    done = ((name, number) for name, number in run.did.items() if number and name not in named)
    return ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in done)


def _diff(diff: Sequence[Changes]) -> Content:
    if not diff:
        return None
    return tag(
        "ul",
        [
            tag(
                "li",
                tag("strong", f"{each.change} {each.documents:,}"),
                f" in generation {each.generation}" if each.generation else None,
                ": ",
                tag("span", each.which, class_="which"),
            )
            for each in diff
        ],
        class_="diff",
    )


def _last_figures(run: RunNode) -> Content:
    if not run.figures:
        return None
    return tag(
        "details",
        tag("summary", "Figures of the last materialization"),
        _facts(list(run.figures.items())),
    )


# --- pieces --------------------------------------------------------------------------------------


def _prose(text: str) -> Content:
    return [tag("p", _words(" ".join(part.split()))) for part in text.split("\n\n") if part.strip()]


def _words(text: str) -> Content:
    """What stands between backticks is code."""
    pieces = text.split("`")
    return [tag("code", piece) if number % 2 else piece for number, piece in enumerate(pieces)]


def _facts(facts: Sequence[tuple[str, Content]]) -> Markup:
    shown = [(name, joined(content)) for name, content in facts]
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", content)) for name, content in shown if content],
        class_="facts",
    )


def _owners(owners: Sequence[str]) -> str:
    return ", ".join(owners)


def _table(header: Sequence[str], rows: Iterable[Sequence[Content]]) -> Markup:
    return tag(
        "div",
        tag(
            "table",
            tag("thead", tag("tr", [tag("th", name, scope="col") for name in header])),
            tag("tbody", [tag("tr", [tag("td", cell) for cell in row]) for row in rows]),
        ),
        class_="scroll",
        tabindex="0",
    )


def _badge(text: str, health: Health) -> Markup:
    return tag("span", f"{MARKS[health]} {text}", class_=f"badge {health}")


def _dot(health: Health) -> Markup:
    return tag(
        "span", tag("span", MARKS[health], class_="hidden"), class_=f"dot {health}",
        title=WORDS[health],
    )  # fmt: skip


def _time(moment: datetime | None) -> Content:
    if moment is None:
        return None
    utc = moment.astimezone(UTC)
    return tag("time", f"{utc:%Y-%m-%d %H:%M} UTC", datetime=utc.isoformat(timespec="seconds"))

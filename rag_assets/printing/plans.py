"""What commands show of plans: what would be done and why, what it may cost, and what it has."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from rag_assets.indexing.spending import in_usd, in_vain
from rag_assets.model import (
    BuildForecast,
    CostLine,
    DocumentForecast,
    Explanation,
    Forecast,
    GenerationState,
    IndexForecast,
    PartChange,
)
from rag_assets.printing.shape import Piece, say

NAMED = 3
"""How many documents of a kind are shown; `--json` has more."""

_KINDS = (
    ("added", "new"),
    ("changed", "changed"),
    ("renamed", "renamed"),
    ("described", "the same text, otherwise described"),
    ("deleted", "deleted"),
    ("withheld", "listed no longer, but not deleted: too many at once"),
    ("failing", "failing"),
    ("retried", "that failed before, tried again"),
    ("blocked", "erased before, and kept out"),
)


def plan(found: Forecast) -> None:
    say((found.corpus, "bold"), f": {_documents(found.documents)}")
    _kinds(found.documents)
    if found.build is not None:
        _build(found.build)
    for number in found.superseded:
        say(f"  generation {number}, a build of earlier settings, is cancelled")
    for index in found.indexes:
        if index.need.texts or index.need.uncut:
            _index(index)
    _total(found)


def _documents(found: DocumentForecast) -> str:
    listed = f"{found.listed:,} documents in the source"
    return (
        f"{listed}, nothing new" if found.nothing else f"{listed}, {found.unchanged:,} as they were"
    )


def _kinds(found: DocumentForecast) -> None:
    for kind, words in _KINDS:
        if number := getattr(found, kind):
            names = found.named.get(kind, ())
            more = f", and {number - NAMED} more" if number > NAMED and names else ""
            named = ", ".join(names[:NAMED]) + more
            say(f"  {number:>6,} {words}", (f"   {named}" if names else "", "dim"))


def _build(build: BuildForecast) -> None:
    if build.against is None:
        say("  The first index of this corpus is built; it is published if the gate accepts it.")
    else:
        why = ", for settings differ:" if build.changes else ", with the same settings once more"
        say(f"  {_which_build(build)} generation {build.against}{why}")
    _changes(build.changes)
    if build.held:
        say("  ", ("!", "odd"), f" It was {build.held}. It is begun again by hand: by this.")


def _which_build(build: BuildForecast) -> str:
    if build.generation is None:
        return "Another index is built beside"
    if build.state == GenerationState.RETIRED:
        return f"Generation {build.generation} comes back, as a candidate beside"
    return f"Generation {build.generation} is built beside"


def _changes(changes: Iterable[PartChange]) -> None:
    for each in changes:
        say(f"    {each.part:<9} {each.before} → {each.after}")


def _index(index: IndexForecast) -> None:
    need = index.need
    which = "the new index" if index.generation is None else f"generation {index.generation}"
    say(f"  {which} ({index.note}): {_texts(need.texts)}, {need.embedded:,} with a vector")
    if need.uncut:
        say("    ", ("!", "odd"), f" {_texts(need.uncut)} that cannot be cut: its documents fail")
    if not need.to_embed:
        say("    nothing to embed")
        return
    say(f"    {_texts(need.to_embed)} to embed with {index.embedder}")
    say(f"    {_tokens(index)}: {_price(index)}")


def _texts(number: int) -> str:
    return f"{number:,} text{'' if number == 1 else 's'}"


def _tokens(index: IndexForecast) -> str:
    if not index.tokens:
        return "no tokens are billed"
    if index.exact:
        return f"{index.tokens:,} tokens"
    return f"about {index.tokens:,} tokens, at most {index.need.tokens_at_most:,}"


def _price(index: IndexForecast) -> str:
    if index.price.usd is None:
        return f"the price is {index.price.source}"
    if not index.tokens:
        return "free"
    a_million = f"at {in_usd(index.price.usd)} a million ({index.price.source})"
    return f"{_amount(index.usd, index.usd_at_most)} {a_million}"


def _total(found: Forecast) -> None:
    if not found.to_embed:
        say(("Nothing is to be embedded, so nothing is paid.", "good"))
        return
    if found.usd is None:
        say(("!", "odd"), " What it costs is not known: a price is missing.")
    else:
        say("It costs ", (_amount(found.usd, found.usd_at_most), "bold"), f".{_time(found)}")


def _time(found: Forecast) -> str:
    if found.usd == 0:
        return ""
    if found.seconds is None:
        return " How long the model takes is not known: it has not been asked before."
    minutes = found.seconds / 60
    return " The model takes about " + (
        f"{found.seconds:.0f} seconds." if minutes < 2 else f"{minutes:,.0f} minutes."
    )


def _amount(usd: Decimal | None, most: Decimal | None) -> str:
    if usd is None or most is None:
        return "an unknown amount"
    return in_usd(usd) if usd == most else f"about {in_usd(usd)}, at most {in_usd(most)}"


def above_the_limit(found: Forecast, limit: Decimal) -> None:
    """Before it is begun: it would not come to its end."""
    if found.usd is not None and found.usd > limit:
        say(
            ("!", "odd"),
            f" That is more than the {in_usd(limit)} that it may spend: it will stop on its way."
            " What is paid for by then is kept.",
        )


def spent(planned: Forecast, lines: Sequence[CostLine]) -> None:
    """What it was to cost beside what it has cost."""
    tokens, texts = sum(each.tokens for each in lines), sum(each.texts for each in lines)
    usd = sum((each.usd for each in lines if each.usd is not None), Decimal())
    unpriced = any(each.tokens_unpriced for each in lines)
    _table(
        ("", "texts", "tokens", "US dollars"),
        [
            ("planned", _metered(planned), f"{planned.tokens:,}", _or_unknown(planned.usd)),
            ("spent", f"{texts:,}", f"{tokens:,}", "unknown" if unpriced else in_usd(usd)),
        ],
    )


def kept_to(limit: Decimal, spent_usd: float, unanswered_usd: float) -> None:
    """What counts against the limit; the costs on record lack what was never answered."""
    spent, unanswered = Decimal(str(spent_usd)), Decimal(str(unanswered_usd))
    say(f"{in_usd(spent)} counts against the limit of {in_usd(limit)}{in_vain(unanswered)}.")


def _metered(planned: Forecast) -> str:
    return f"{sum(each.need.to_embed for each in planned.indexes if each.tokens):,}"


def _or_unknown(usd: Decimal | None) -> str:
    return "unknown" if usd is None else in_usd(usd)


# --- why -----------------------------------------------------------------------------------------


def explanation(found: Explanation) -> None:
    say((found.corpus, "bold"), f": {_standing(found)}")
    if not found.changes:
        for part, value in found.recipe.items():
            say((f"    {part:<9} {value}", "dim"))
    _changes(found.changes)
    for sentence in found.meaning:
        say(f"  {sentence}")
    if found.held:
        again = f"`rag-assets apply {found.corpus}` begins it again."
        say("  ", ("!", "odd"), f" Such an index was {found.held}. {again}")
    for each in found.waits:
        say("  ", ("!", "odd"), f" {each}")


def _standing(found: Explanation) -> str:
    if found.published is None:
        return "nothing is published yet; the first index is made of today's settings."
    read = f"generation {found.published}, which is read, "
    if not found.changes:
        return f"{read}is of today's settings. Nothing would be rebuilt."
    differs = f"{read}is of other settings than today's."
    match found.state:
        case "missing":
            return f"{differs} Another index would be built:"
        case "building":
            return f"{differs} Generation {found.building} is being built:"
        case "candidate":
            return f"{differs} Generation {found.building} is built, and waits to be published:"
        case _:
            return f"{differs} Generation {found.building} is of today's, and {found.state}:"


# --- what was spent ------------------------------------------------------------------------------


OF_NONE = {"bucket": "-1", "generation": "0"}
"""How costs are kept that are of none, as those of questions of a golden set."""


def costs(lines: Sequence[CostLine], by: str) -> None:
    if not lines:
        say("Nothing was spent on models.")
        return
    several = len({each.corpus for each in lines}) > 1
    header = ("corpus", by) if several else (by,)
    _table(
        (*header, "requests", "texts", "tokens", "US dollars", "a million"),
        [
            (
                *((each.corpus,) if several else ()),
                "none" if each.of == OF_NONE.get(by) else each.of,
                f"{each.requests:,}",
                f"{each.texts:,}",
                f"{each.tokens:,}",
                _of_line(each),
                ", ".join(map(in_usd, each.unit_prices)) or "-",
            )
            for each in lines
        ],
    )
    usd = [each.usd for each in lines if each.usd is not None]
    total = in_usd(sum(usd, Decimal())) if usd else "an unknown amount"
    say(f"In all {sum(each.tokens for each in lines):,} tokens, {total}.")
    if unpriced := sum(each.tokens_unpriced for each in lines):
        say(("!", "odd"), f" Of {unpriced:,} tokens the price was not known: RAG_ASSETS_PRICES.")


def _of_line(line: CostLine) -> str:
    if line.usd is None:
        return "unknown"
    return in_usd(line.usd) + (" and more" if line.tokens_unpriced else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first columns are words, the others numbers."""
    words = sum(name in {"", "corpus", "run", "day", "model", "provider"} for name in header)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if place < words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ).rstrip()

    dim: Piece = (line(header), "dim")
    say(dim)
    for row in rows:
        say(line(row))

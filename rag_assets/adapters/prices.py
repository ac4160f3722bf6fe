"""What models cost: from a table that comes with its package, so that nothing is asked for."""

from decimal import Decimal

A_MILLION = 1_000_000


def usd_a_million_tokens(provider: str, model: str) -> Decimal | None:
    """The price of embedding, or None for a model that the table does not know."""
    from genai_prices import Usage, calc_price

    try:
        calculated = calc_price(Usage(input_tokens=A_MILLION), model, provider_id=provider)
    except LookupError:
        return None
    return calculated.total_price

"""What commands tell of models that are asked as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cascade.cli.shell import TOP_LEVEL, number, usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.predict.forecast import Forecast
    from cascade.prompt.pricing import QuestionPrice


def forecast_table(found: Forecast) -> RenderableType:
    """What each group takes, all of them together, and one flat question beside them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("group", overflow="fold")
    table.add_column("answer")
    for name in ("questions", "tokens in", "shared", "out", "cost"):
        table.add_column(name, justify="right")
    for one in found.all:
        questions = f"{'' if one.is_counted else 'about '}{number(round(one.share * found.rows))}"
        cost = None if one.price.usd is None else one.price.usd * one.share * found.rows
        table.add_row(one.group or TOP_LEVEL, one.price.answer, questions, *_tokens(one.price), usd(cost))
    n_in, n_out = found.tokens
    questions = f"about {number(round(found.questions * found.rows))}"
    table.add_row("a text", "", questions, f"{n_in:.0f}", "", f"{n_out:.1f}", usd(found.usd), style="bold")
    if found.flat is not None:
        price = found.flat
        cost = None if price.usd is None else price.usd * found.rows
        rows = number(price.questions * found.rows)
        table.add_row("all labels at once", price.answer, rows, *_tokens(price), usd(cost))
    return table


def _tokens(price: QuestionPrice) -> tuple[str, str, str]:
    return f"{price.tokens_in:.0f}", f"{price.tokens_shared:.0f}", f"{price.tokens_out:.1f}"


def forecast_lines(found: Forecast) -> Iterator[str]:
    """The same in words, with what it leans on."""
    n_in, _ = found.tokens
    each = f"about {found.questions:.1f} questions and {number(round(n_in))} tokens a text"
    line = f"{number(found.rows)} texts, {each}"
    if found.flat is not None:
        line += f"; all labels at once: 1 question and {number(round(found.flat.tokens_in))} tokens"
    yield line
    if any(not one.is_counted for one in found.all):
        yield (
            "about: which groups a text is asked about is told by the rows of the fit, or where there were "
            "none reckoned with one and a half children at each"
        )
    flat = None if found.flat is None or found.flat.usd_cached is None else found.flat.usd_cached * found.rows
    if found.usd_cached != found.usd or (found.flat and found.flat.usd_cached != found.flat.usd):
        yield (
            f"with all that texts share at hand at the service: {usd(found.usd_cached)}, all labels at once "
            f"{usd(flat)}"
        )

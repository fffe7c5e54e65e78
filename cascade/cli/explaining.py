"""``cascade explain``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.hosted import keep_answers
from cascade.cli.inputs import chosen_model
from cascade.cli.shell import (
    DONE,
    TOP_LEVEL,
    cascade,
    debug_option,
    json_option,
    model_option,
    note,
    print_json,
    show,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from cascade.show.explain import Explanation, Step

_MOST_CHARACTERS = 1_000_000
_MARKS = {"chosen": "[x]", "backed off": "[x]", "entered": "[>]"}
_STYLES = {"chosen": "bold green", "backed off": "bold green", "entered": "bold"}


@cascade.command(short_help="Tell why a text gets its labels.")
@click.argument("text")
@model_option
@click.option(
    "--words",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    metavar="N",
    help="Words told for a node, and as many against it.",
)
@click.option("--all", "everything", is_flag=True, help="Show all that was looked at, not the best few.")
@json_option
@debug_option
def explain(text: str, model: Path | None, words: int, *, everything: bool, as_json: bool) -> int:
    """Tell why a text gets its labels: the walk with scores, thresholds and decisions, and what words did.

    TEXT is the text itself, or - to read it from standard input.
    """
    from cascade.fitted import Cascade
    from cascade.show.explain import explain as explained

    loaded = Cascade.load(chosen_model(model))
    if loaded.is_hosted:
        keep_answers(loaded.folder, is_awaited=True)
    found = explained(loaded, _standard_input() if text == "-" else text, words)
    if as_json:
        print_json(found.to_json())
        return DONE
    show(_drawing(found, most_others=None if everything else _most_others()))
    for group, why in found.silent.items():
        note(f"{group or TOP_LEVEL}: {why}")
    return DONE


def _standard_input() -> str:
    text = sys.stdin.read(_MOST_CHARACTERS + 1)
    if len(text) > _MOST_CHARACTERS:
        raise DataError(f"<stdin>: more than {_MOST_CHARACTERS:,} characters; expected one text")
    return text


def _most_others() -> int:
    from cascade.show.explain import MOST_OTHERS

    return MOST_OTHERS


def _drawing(found: Explanation, most_others: int | None) -> RenderableType:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(found.summary, style="bold"), guide_style="dim")
    _draw(tree, found.steps, most_others)
    return tree


def _draw(tree: Tree, steps: Sequence[Step], most_others: int | None) -> None:
    from cascade.show.explain import worth_showing

    kept = worth_showing(steps, most_others)
    for step in kept:
        branch = tree.add(_line(step))
        _draw(branch, step.steps, most_others)
    if len(kept) < len(steps):
        from rich.text import Text

        tree.add(Text(f"{len(steps) - len(kept)} more without an answer", style="dim"))


def _line(step: Step) -> Text:
    from rich.text import Text

    line = Text(f"{_MARKS.get(step.verdict, '[ ]')} ")
    line.append(step.node, style=_STYLES.get(step.verdict, ""))
    line.append(f"  {step.probability:.3f}").append(f"  {step.why}", style="dim")
    if not step.counts:
        line.append("; another parent gives more", style="dim")
    if step.pushes:
        line.append("\n      ").append_text(_words(step))
    return line


def _words(step: Step) -> Text:
    from rich.text import Text

    parts = [f"{one.word} {one.push:+.2f}" for one in step.pushes]
    return Text("  ".join(parts), style="italic")

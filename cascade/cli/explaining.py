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
from cascade.errors import DataError, ModelError, suggestion

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from rich.tree import Tree

    from cascade.fitted import Cascade
    from cascade.show.explain import Explanation, Step

_MOST_CHARACTERS = 1_000_000
_TOP = "."
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
@click.option(
    "--prompt",
    is_flag=False,
    flag_value=_TOP,
    metavar="[GROUP]",
    help="Show what a model is asked about TEXT at a group (if not said, the top level); ask nothing.",
)
@click.option("--all", "everything", is_flag=True, help="Show all that was looked at, not the best few.")
@json_option
@debug_option
def explain(
    text: str, model: Path | None, words: int, prompt: str | None, *, everything: bool, as_json: bool
) -> int:
    """Tell why a text gets its labels: the walk with scores, thresholds and decisions, and what words did.

    TEXT is the text itself, or - to read it from standard input.
    """
    from cascade.fitted import Cascade
    from cascade.show.explain import explain as explained

    loaded = Cascade.load(chosen_model(model))
    given = _standard_input() if text == "-" else text
    if prompt is not None:
        return _show_question(loaded, given, "" if prompt == _TOP else prompt, as_json=as_json)
    if loaded.is_hosted:
        keep_answers(loaded.folder, is_awaited=True)
    found = explained(loaded, given, words)
    if as_json:
        print_json(found.to_json())
        return DONE
    show(_drawing(found, most_others=None if everything else _most_others()))
    for group, why in found.silent.items():
        note(f"{group or TOP_LEVEL}: {why}")
    for group, tier in found.tiers.items():
        note(f"{group or TOP_LEVEL}: answered by its tier {tier!r}")
    return DONE


def _show_question(model: Cascade, text: str, group: str, *, as_json: bool) -> int:
    """The very messages that a text is asked about with at a group, or the whole request."""
    from cascade.predict.tiers import last_of
    from cascade.prompt.model import Asked, PromptModel
    from cascade.text.texts import Texts

    if group and group not in model.taxonomy.groups:
        hint = suggestion(group, model.taxonomy.groups)
        raise ModelError(f"{model.folder}: no group {group!r}.{hint}")
    node = last_of(model.node(group)) if group in model.manifest.groups else None
    if not isinstance(node, PromptModel):
        asked = [
            name or TOP_LEVEL
            for name, one in model.manifest.groups.items()
            if one.backend["kind"] == "prompt"
        ]
        told = ", ".join(asked) or "none: no group has the backend 'prompt'"
        raise ModelError(
            f"{model.folder}: {group or TOP_LEVEL} is not asked in words; those that are: {told}"
        )
    for question in node.questions(Texts([text])):
        if as_json:
            print_json({"model": question.model, **question.codec.request(question.text)})
        elif isinstance(question.codec, Asked):
            for message in question.codec.messages(question.text):
                click.echo(f"[{message['role']}]\n{message['content']}\n")
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

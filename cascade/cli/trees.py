"""``cascade inspect-tree``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.inputs import chosen_model, load_taxonomy
from cascade.cli.shell import (
    DONE,
    TOP_LEVEL,
    cascade,
    debug_option,
    model_option,
    print_json,
    print_lines,
    show,
)

if TYPE_CHECKING:
    from cascade.difference import Change, Difference, Side
    from cascade.tree import Order, TreeNode

_KINDS = {
    "added": "added",
    "removed": "removed",
    "renamed": "renamed",
    "merged": "merged",
    "moved": "moved",
    "settings": "settings",
    "f1": "F1, out of fold, the greatest loss first",
}


@cascade.command("inspect-tree", short_help="Show a taxonomy or a model as a tree.")
@click.argument("what", required=False)
@model_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "mermaid", "dot", "html"]),
    default="text",
    show_default=True,
    help="Of the tree.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels to show.")
@click.option("--group", metavar="NAME", help="Show this group only.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["name", "rows", "f1"]),
    help="Children by name, by rows (most first) or by F1 (worst first) [default: as in the taxonomy].",
)
@click.option("--diff", "other", metavar="OTHER", help="What OTHER, a taxonomy or a model, has otherwise.")
@debug_option
def inspect_tree(
    what: str | None,
    model: Path | None,
    form: str,
    depth: int | None,
    group: str | None,
    order: Order | None,
    other: str | None,
) -> int:
    """Show the groups and labels of a taxonomy file, or of a model folder with rows and quality.

    WHAT is the file or the folder; without it, the model as for predict.
    """
    if what is not None and model is not None:
        raise click.UsageError("expected WHAT or --model, found both.")
    here = _side(what, model)
    if other is not None:
        _show_difference(here, _side(other, None), form)
        return DONE
    _show_tree(_tree(here, group, order, depth), form)
    return DONE


def _side(what: str | None, model: Path | None) -> Side:
    from cascade.difference import Side

    if what is not None and not Path(what).is_dir():
        return Side(load_taxonomy(what))
    from cascade.model import Cascade

    loaded = Cascade.load(Path(what) if what is not None else chosen_model(model))
    return Side(loaded.taxonomy, loaded.manifest)


def _tree(side: Side, group: str | None, order: Order | None, depth: int | None) -> TreeNode:
    from cascade.tree import of_model, of_taxonomy, ordered, pruned, subtree

    tree = of_taxonomy(side.taxonomy) if side.manifest is None else of_model(side.taxonomy, side.manifest)
    if group is not None:
        tree = subtree(tree, group)
    if order is not None:
        tree = ordered(tree, order)
    return tree if depth is None else pruned(tree, depth)


def _show_tree(tree: TreeNode, form: str) -> None:
    if form == "json":
        print_json(tree.to_json())
    elif form == "text":
        from cascade.drawing import render

        show(render(tree))
    else:
        from cascade import diagrams

        draw = {"mermaid": diagrams.mermaid, "dot": diagrams.dot, "html": diagrams.page}[form]
        click.echo(draw(tree).encode(errors="backslashreplace"), nl=False)


def _show_difference(before: Side, after: Side, form: str) -> None:
    from cascade.difference import difference

    if form not in ("text", "json"):
        raise click.UsageError(f"--diff comes as text or json, not as {form}.")
    found = difference(before, after)
    if form == "json":
        print_json(found.to_json())
    else:
        print_lines(_difference_lines(found))


def _difference_lines(found: Difference) -> Iterator[str]:
    for kind, title in _KINDS.items():
        changes = found.of(kind)
        if changes:
            yield f"{title}: {len(changes)}"
            yield from (f"  {_change_line(change)}" for change in changes)
    yield f"`fit` trains anew: {len(found.retrained) or 'nothing'}"
    yield from (f"  {group or TOP_LEVEL}: {why}" for group, why in found.retrained)


def _change_line(change: Change) -> str:
    name = f"{change.name or TOP_LEVEL}{' (group)' if change.is_group and change.name else ''}"
    if change.kind == "added":
        return f"{name}, in {change.after}"
    if change.kind == "removed":
        return f"{name}, was in {change.before}"
    if change.kind in ("merged", "renamed"):
        return f"{name} -> {change.after}"
    return f"{name}: {change.before} -> {change.after}"

"""``cascade inspect-tree``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.inputs import chosen_model, load_taxonomy
from cascade.cli.shell import DONE, cascade, debug_option, model_option, print_json, show

if TYPE_CHECKING:
    from cascade.tree import TreeNode


@cascade.command("inspect-tree", short_help="Show a taxonomy or a model as a tree.")
@click.argument("what", required=False)
@model_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the tree.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels to show.")
@click.option("--group", metavar="NAME", help="Show this group only.")
@debug_option
def inspect_tree(
    what: str | None, model: Path | None, form: str, depth: int | None, group: str | None
) -> int:
    """Show the groups and labels of a taxonomy file, or of a model folder with rows and quality.

    WHAT is the file or the folder; without it, the model as for predict.
    """
    from cascade.tree import pruned, render, subtree

    if what is not None and model is not None:
        raise click.UsageError("expected WHAT or --model, found both.")
    tree = _tree(what, model)
    if group is not None:
        tree = subtree(tree, group)
    if form == "json":
        print_json((tree if depth is None else pruned(tree, depth)).to_json())
    else:
        show(render(tree, depth))
    return DONE


def _tree(what: str | None, model: Path | None) -> TreeNode:
    from cascade.tree import of_model, of_taxonomy

    if what is not None and not Path(what).is_dir():
        return of_taxonomy(load_taxonomy(what))
    from cascade.model import Cascade

    loaded = Cascade.load(Path(what) if what is not None else chosen_model(model))
    return of_model(loaded.taxonomy, loaded.manifest)

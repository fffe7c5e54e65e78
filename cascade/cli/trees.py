"""``cascade inspect-tree``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.completion import files, groups
from cascade.cli.inputs import chosen_model, described_model, load_taxonomy
from cascade.cli.shell import (
    DONE,
    cascade,
    counted,
    debug_option,
    model_option,
    note,
    print_json,
    show,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.changes.retraining import Version
    from cascade.show.tree import SortKey, TreeNode

_MOST_LINES = 1000
"""Of a tree in a terminal: what is above these is hardly ever scrolled back to."""

FORMATS = ("text", "mermaid", "dot", "json", "html")


@cascade.command("inspect-tree", short_help="Show a taxonomy or a model as a tree, or what differs in two.")
@click.argument("what", required=False, shell_complete=files)
@model_option
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Of the tree; with --diff text or json.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels to show.")
@click.option("--group", metavar="NAME", help="Show this group only.", shell_complete=groups)
@click.option(
    "--sort",
    type=click.Choice(["f1", "rows", "name"]),
    help="Children by F1 (lowest first), rows (most first) or name [default: as in the taxonomy].",
)
@click.option(
    "--diff",
    metavar="OTHER",
    help="Show what changes from WHAT to this taxonomy file or model folder.",
    shell_complete=files,
)
@debug_option
def inspect_tree(
    what: str | None,
    model: Path | None,
    form: str,
    depth: int | None,
    group: str | None,
    sort: SortKey | None,
    diff: str | None,
) -> int:
    """Show the groups and labels of a taxonomy file, or of a model folder with rows and quality.

    WHAT is the file or the folder; without it, the model as for predict.
    """
    if what is not None and model is not None:
        raise click.UsageError("expected WHAT or --model, found both.")
    if diff is not None:
        _refuse_with_diff(form, depth, group, sort)
        _show_difference(_load_version(what, model), _load_version(diff, None), form)
    else:
        version = _load_version(what, model)
        wanted = None if group is None else _group_named(version, group)
        _show_tree(_part(_tree(version), wanted, sort), form, depth)
    return DONE


def _refuse_with_diff(form: str, *others: object) -> None:
    if form not in {"text", "json"}:
        raise click.UsageError(f"--diff has the formats text and json; found {form}.")
    if any(other is not None for other in others):
        raise click.UsageError("--diff compares the whole: expected no --depth, --group or --sort.")


def _load_version(what: str | None, model: Path | None) -> Version:
    """A taxonomy file or a model folder, with the name it was given by."""
    from cascade.changes.retraining import Version

    if what is not None and not Path(what).is_dir():
        return Version(what, load_taxonomy(what))
    folder = Path(what) if what is not None else chosen_model(model)
    return Version(str(folder), *described_model(folder))


def _tree(side: Version) -> TreeNode:
    from cascade.show.tree import tree_of_model, tree_of_taxonomy

    return tree_of_model(side.taxonomy, side.manifest) if side.manifest else tree_of_taxonomy(side.taxonomy)


def _group_named(version: Version, group: str) -> str:
    """The group that is meant, also by the end of its path; an unknown name as it is."""
    taxonomy = version.taxonomy
    meant = taxonomy.resolve(group)
    if meant is None and taxonomy.names == "path":
        raise DataError(f"{taxonomy.name!r} has no group {group!r}.{taxonomy.suggest(group)}")
    return group if meant is None or meant in taxonomy.labels else meant


def _part(tree: TreeNode, group: str | None, sort: SortKey | None) -> TreeNode:
    from cascade.show.tree import ordered, subtree

    tree = tree if group is None else subtree(tree, group)
    return tree if sort is None else ordered(tree, sort)


def _show_tree(tree: TreeNode, form: str, depth: int | None) -> None:
    from cascade.show.terminal import render_tree
    from cascade.show.tree import pruned

    if form == "text":
        show(render_tree(tree, _depth_for_terminal(tree) if depth is None else depth))
        return
    tree = tree if depth is None else pruned(tree, depth)
    if form == "json":
        print_json(tree.to_json())
    else:
        # A file in UTF-8, whatever the terminal's encoding.
        click.echo(_writer(form)(tree).encode(errors="backslashreplace"), nl=False)


def _depth_for_terminal(tree: TreeNode) -> int | None:
    """How many levels to show: all of them into a file or a pipe, and to people what they can read."""
    from cascade.show.tree import fitting_depth, walk

    depth = fitting_depth(tree, _MOST_LINES) if sys.stdout.isatty() else None
    levels = max(level for level, _ in walk(tree))
    if depth is None or depth == levels:
        return None
    lines = counted(sum(1 for _ in walk(tree)), "line")
    note(
        f"{lines}: shown down to level {depth} of {levels}. All of them: "
        f"--depth {levels}; one group: --group NAME; a page with a search: --format html"
    )
    return depth


def _writer(form: str) -> Callable[[TreeNode], str]:
    from cascade.show.tree_html import render_html

    return {"dot": _dot, "html": render_html}.get(form, _mermaid)


def _mermaid(tree: TreeNode) -> str:
    from cascade.show.diagrams import MERMAID_EDGES, exceeds_mermaid, mermaid

    text = mermaid(tree)
    if exceeds_mermaid(text):
        note(
            f"Mermaid draws at most {MERMAID_EDGES} edges unless its page allows more (maxEdges, "
            f"maxTextSize): show less with {_less(tree, MERMAID_EDGES)}--group."
        )
    return text


def _dot(tree: TreeNode) -> str:
    from cascade.show.diagrams import DOT_NODES, dot, exceeds_bitmap

    text = dot(tree)
    if exceeds_bitmap(text):
        note(
            f"More than {DOT_NODES} nodes are too small to read in a bitmap: have Graphviz draw SVG (dot "
            f"-Tsvg), or show less with {_less(tree, DOT_NODES)}--group."
        )
    return text


def _less(tree: TreeNode, most: int) -> str:
    """The option that leaves so many nodes, where there is one, in words."""
    from cascade.show.tree import fitting_depth, walk

    depth = fitting_depth(tree, most)
    count = sum(level <= (depth or 0) for level, _ in walk(tree))
    return f"--depth {depth} ({counted(count, 'node')}) or " if depth and count <= most else "--depth or "


def _show_difference(before: Version, after: Version, form: str) -> None:
    from cascade.changes.difference import difference
    from cascade.changes.terminal import render_difference

    found = difference(before, after)
    if form == "json":
        print_json(found.to_json())
    else:
        show(render_difference(found))

"""What differs in two taxonomies or models, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cascade.changes.difference import SettingChange, TaxonomyDifference
from cascade.show.terminal import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

_F1_MOST = 20


def render_difference(found: TaxonomyDifference) -> RenderableType:
    """A difference for `rich`, a section for each kind of change; lines that are too long are folded."""
    from rich.text import Text  # `--help` does without

    text = Text(f"{found.before} -> {found.after}", style="bold", no_wrap=False, overflow="fold")
    sections = [section for section in _sections(found) if section[2]]
    for heading, style, lines in sections or [("nothing changed", "", [])]:
        text.append(f"\n{heading}", style="not bold underline")
        text.append("".join(f"\n  {line}" for line in lines), style=f"not bold {style}")
    for line in _ending(found):
        text.append(f"\n{line}", style="not bold dim")
    return text


def _sections(found: TaxonomyDifference) -> Iterator[tuple[str, str, list[str]]]:
    """Headings, styles and lines; a mark at the start of a line says what its colour does."""
    yield "added", "blue", [f"+ {one.kind} {one.name}  in {_all(one.parents)}" for one in found.added]
    yield "removed", "yellow", [f"- {one.kind} {one.name}  from {_all(one.parents)}" for one in found.removed]
    yield "renamed", "", [f"~ {one.kind} {one.name} -> {one.into}" for one in found.renamed]
    yield "written otherwise", "", list(_paths(found))
    yield "merged", "", [f"> {one.kind} {one.name} into {one.into}" for one in found.merged]
    yield "split", "", [f"< {one.kind} {one.name} out of {one.into}" for one in found.split]
    moves = [f"~ {one.kind} {one.name}  from {_all(one.before)} to {_all(one.after)}" for one in found.moved]
    yield "moved", "", moves
    yield "settings", "", [_setting(one) for one in found.settings]
    yield _f1_heading(found), "", _f1_lines(found)
    total = found.kept + len(found.retrained)
    for sure, verb in ((True, "trains"), (False, "may train")):
        groups: dict[str, list[str]] = {}
        for one in found.retrained:
            if one.sure is sure:
                groups.setdefault("; ".join(one.reasons), []).append(one.group)
        heading = f"fit {verb} {sum(map(len, groups.values()))} of {counted(total, 'group')}"
        yield heading, "", [f"* {_all(names)}: {reasons}" for reasons, names in groups.items()]


def _paths(found: TaxonomyDifference) -> Iterator[str]:
    """One line for all names, as it is one change."""
    if found.paths:
        first = found.paths[0]
        yield f"~ {counted(len(found.paths), 'name')}, such as {first.kind} {first.name} -> {first.into}"


def _ending(found: TaxonomyDifference) -> Iterator[str]:
    if not found.retrained:
        yield "fit trains no group anew"
    if not found.rows_known:
        yield "Rows were not compared: a group whose rows or texts changed is trained anew too."


def _all(names: Sequence[str]) -> str:
    return ", ".join(names)


def _setting(one: SettingChange) -> str:
    return f"~ {one.kind} {one.name}: {one.setting} {_value(one.before)} -> {_value(one.after)}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return (_all(value) if isinstance(value, list) else str(value)) or "(none)"


def _f1_heading(found: TaxonomyDifference) -> str:
    overall = (
        f"{name.replace('_f1', '')} {old:.3f} -> {new:.3f}" for name, (old, new) in found.overall.items()
    )
    worse = sum(one.after < one.before for one in found.f1)
    counts = f"{counted(len(found.f1) - worse, 'label')} better, {worse} worse" if found.f1 else ""
    return f"F1 out of fold: {', '.join(filter(None, [*overall, counts]))}"


def _f1_lines(found: TaxonomyDifference) -> list[str]:
    shown = found.f1[:_F1_MOST]
    lines = [
        f"{one.before:.2f} -> {one.after:.2f}  {one.after - one.before:+.2f}  {one.label}" for one in shown
    ]
    left = len(found.f1) - len(shown)
    return [*lines, *([f"... and {left:,} that differ less; --format json has all"] if left else [])]

"""What differs between two taxonomies or models, and what a fit of the second would train anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from cascade.graph import ROOT
from cascade.taxonomy import Group, Label, Taxonomy

if TYPE_CHECKING:
    from cascade.store import Manifest

_LEAST_F1_CHANGE = 0.005
_SETTINGS = ("choose", "route", "threshold", "negatives", "back_off", "backend")


@dataclass(frozen=True)
class Side:
    """A taxonomy, and the manifest of the model that was fitted with it; None without a model."""

    taxonomy: Taxonomy
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs.

    Attributes
    ----------
    kind
        ``added``, ``removed``, ``moved``, ``merged`` (into one that has its name as an alias), ``renamed``
        (the same, but that one is new), ``settings`` or ``f1``.
    name, is_group
        Of the label or group; the root is an empty name.
    before, after
        What stood there and stands there now, in words.
    """

    kind: str
    name: str
    is_group: bool
    before: str = ""
    after: str = ""


@dataclass(frozen=True)
class Difference:
    """All changes, and the groups whose models would be trained anew, each with the reason."""

    changes: tuple[Change, ...]
    retrained: tuple[tuple[str, str], ...]

    def of(self, kind: str) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        retrained = [{"group": group, "why": why} for group, why in self.retrained]
        return {"changes": [asdict(change) for change in self.changes], "retrained": retrained}


def difference(before: Side, after: Side) -> Difference:
    """What became of `before` in `after`."""
    old, new = before.taxonomy, after.taxonomy
    changes = [*_names(old, new), *_settings(old, new), *_figures(before.manifest, after.manifest)]
    return Difference(tuple(changes), tuple(_retrained(before, after)))


# Names


def _names(old: Taxonomy, new: Taxonomy) -> Iterator[Change]:
    gone = [name for name in old.graph.nodes if name not in new.graph.column]
    heirs = {name: heir for name in gone if (heir := new.resolve(name)) is not None}
    renamed = {heir for heir in heirs.values() if heir not in old.graph.column}
    for name in gone:
        yield _gone(old, name, heirs.get(name), is_new=heirs.get(name) in renamed)
    for name in new.graph.nodes:
        if name not in old.graph.column and name not in renamed:
            yield Change("added", name, name in new.groups, "", _places(new, name))
    for name in old.graph.nodes:
        if name in new.graph.column and _parents(old, name) != _parents(new, name):
            yield Change("moved", name, name in new.groups, _places(old, name), _places(new, name))


def _gone(old: Taxonomy, name: str, heir: str | None, *, is_new: bool) -> Change:
    if heir is None:
        return Change("removed", name, name in old.groups, _places(old, name))
    return Change("renamed" if is_new else "merged", name, name in old.groups, _places(old, name), heir)


def _parents(taxonomy: Taxonomy, name: str) -> frozenset[str]:
    return frozenset(taxonomy.graph.parents[name])


def _places(taxonomy: Taxonomy, name: str) -> str:
    return ", ".join(parent or "top level" for parent in taxonomy.graph.parents[name])


# Settings


def _settings(old: Taxonomy, new: Taxonomy) -> Iterator[Change]:
    if old.combine != new.combine:
        yield Change("settings", ROOT, True, f"combine {old.combine}", f"combine {new.combine}")
    for name, group in new.groups.items():
        if name in old.groups:
            yield from _changed(name, old.groups[name], group, _SETTINGS)
    for name, label in new.labels.items():
        if name in old.labels:
            yield from _changed(name, old.labels[name], label, ("threshold",))


def _changed(
    name: str, before: Group | Label, after: Group | Label, settings: Sequence[str]
) -> Iterator[Change]:
    for setting in settings:
        was, now = (_written(getattr(one, setting)) for one in (before, after))
        if was != now:
            yield Change("settings", name, isinstance(after, Group), f"{setting} {was}", f"{setting} {now}")


def _written(value: Any) -> str:
    """A setting in words: of its parts those that say something."""
    if hasattr(value, "options"):
        return " ".join([value.kind, *(f"{name}={one}" for name, one in sorted(value.options.items()))])
    if hasattr(value, "kind"):
        return value.kind if value.value is None else f"{value.kind} {value.value:g}"
    return {None: "inherited", True: "yes", False: "no"}.get(value, str(value))


# Figures


def _figures(old: Manifest | None, new: Manifest | None) -> Iterator[Change]:
    """Out-of-fold F1s that moved, the greatest loss first."""
    if old is None or new is None:
        return
    before, after = old.metrics.get("f1", {}), new.metrics.get("f1", {})
    moved = [
        (after[name] - before[name], name)
        for name in after
        if name in before and abs(after[name] - before[name]) >= _LEAST_F1_CHANGE
    ]
    for _, name in sorted(moved):
        yield Change("f1", name, False, f"{before[name]:.3f}", f"{after[name]:.3f}")


# What would be trained


def _retrained(before: Side, after: Side) -> Iterator[tuple[str, str]]:
    """Groups with another model; of two models those whose nodes differ, else those that must differ."""
    from cascade.walk import modelled

    for group in after.taxonomy.graph.groups:
        if modelled(after.taxonomy, group):
            why = _why(before, after, group)
            if why:
                yield group, why


def _why(before: Side, after: Side, group: str) -> str:
    structural = _structural(before.taxonomy, after.taxonomy, group)
    if before.manifest is None or after.manifest is None:
        return structural
    records = [side.manifest.groups.get(group) for side in (before, after) if side.manifest]
    nodes = [record.node if record else None for record in records]
    if nodes[0] == nodes[1]:
        return ""
    return structural or "other rows, seed or version"


def _structural(old: Taxonomy, new: Taxonomy, group: str) -> str:
    """Why a group's model has to be another one, whatever the rows are; an empty string if it need not."""
    from cascade.walk import modelled

    if group not in old.groups or not modelled(old, group):
        return "new"
    was, now = old.groups[group], new.groups[group]
    below = [[_below(tree, child) for child in modelled(tree, group)] for tree in (old, new)]
    reasons = {
        "other children": modelled(old, group) != modelled(new, group),
        "other labels below its children": below[0] != below[1],
        f"negatives {now.negatives}": was.negatives != now.negatives,
        f"backend {_written(now.backend)}": _written(was.backend) != _written(now.backend),
        # Only a model that reads what it is asked for knows about it.
        f"choose {now.choose}": was.choose != now.choose and now.backend.kind != "linear",
    }
    return next((why for why, holds in reasons.items() if holds), "")


def _below(taxonomy: Taxonomy, name: str) -> frozenset[str]:
    return frozenset(taxonomy.graph.descendant_labels(name)) if name in taxonomy.groups else frozenset([name])

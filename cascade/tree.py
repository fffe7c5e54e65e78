"""A taxonomy, or a fitted model, as a tree to look at: what stands where, on how many rows, and how good.

A taxonomy is a graph and a tree is not, so a name with several parents stands under each of them. What is
below such a group is told once, where the group comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import inf
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import DataError, suggestion
from cascade.graph import ROOT
from cascade.taxonomy import Taxonomy, Threshold

if TYPE_CHECKING:
    from cascade.store import GroupRecord, Manifest

TOP_LEVEL = "top level"
"""What the root is called where it is the parent of something."""

_FEW_ROWS = 10
"""As in `check`: with fewer rows a label has about three in each of three folds."""


@dataclass(frozen=True)
class TreeNode:
    """A group or a label at one place of the tree.

    Attributes
    ----------
    rows : training rows that carry the name or something below it; None for a taxonomy that is not fitted
    backend, negatives, choose, route : of a group, None for a label; once fitted, what was used
    model : of a fitted group, the name of its model at a service; None where it is embedded
    threshold : least path probability at which a label is chosen, or a group is entered; as the taxonomy has
        it (``auto``, ``precision 0.9``) where nothing is fitted, None where no number applies
    f1 : out-of-fold F1 of a label, of a group the mean of the labels below; None where there is none
    also_in : the other parents, the root as `TOP_LEVEL`
    repeated : whether this group was told before, so that its children are left out here
    labels_below : how many labels stand below a group, at any depth and whether they are told here or not
    """

    name: str
    kind: Literal["group", "label"]
    description: str = ""
    rows: int | None = None
    backend: str | None = None
    model: str | None = None
    negatives: str | None = None
    choose: str | None = None
    route: str | None = None
    threshold: float | str | None = None
    f1: float | None = None
    also_in: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    repeated: bool = False
    labels_below: int = 0
    children: tuple[TreeNode, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The tree as a JSON object; a label has fewer keys than a group."""
        keys = _GROUP_KEYS if self.kind == "group" else _LABEL_KEYS
        plain = {key: _plain(getattr(self, key)) for key in keys}
        if self.kind == "group":
            plain["children"] = [child.to_json() for child in self.children]
        return plain


_COMMON_KEYS = ("name", "kind", "description", "rows", "threshold", "also_in", "warnings", "f1")
_LABEL_KEYS = _COMMON_KEYS
_GROUP_KEYS = (*_COMMON_KEYS, "backend", "model", "negatives", "choose", "route", "labels_below", "repeated")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def walk(tree: TreeNode, depth: int = 0) -> Iterator[tuple[int, TreeNode]]:
    """Each node with its depth, from the top down, children in their order."""
    yield depth, tree
    for child in tree.children:
        yield from walk(child, depth + 1)


# Making one


def of_taxonomy(taxonomy: Taxonomy) -> TreeNode:
    """The tree of a taxonomy that nothing was fitted to; its root has the taxonomy's name."""
    return _Maker(taxonomy, None).group(ROOT, ROOT)


def of_model(taxonomy: Taxonomy, manifest: Manifest) -> TreeNode:
    """The tree of a fitted model, with rows, thresholds and out-of-fold figures."""
    return _Maker(taxonomy, manifest).group(ROOT, ROOT)


@dataclass
class _Maker:
    """Makes nodes from the top down and remembers which groups it has told."""

    taxonomy: Taxonomy
    manifest: Manifest | None
    told: set[str] = field(default_factory=set)

    def group(self, name: str, parent: str) -> TreeNode:
        group = self.taxonomy.groups[name]
        repeated = name in self.told
        self.told.add(name)
        record = self.manifest.groups.get(name) if self.manifest else None
        node = TreeNode(
            name=name or self.taxonomy.name,
            kind="group",
            description=group.description if name else self.taxonomy.description,
            rows=record.rows if record else None,
            backend=str(record.backend["kind"]) if record else group.backend.kind,
            model=str(record.notes["model"]) if record and "model" in record.notes else None,
            negatives=record.negatives if record else group.negatives,
            choose=group.choose,
            route=group.route if name else None,
            threshold=self.route_threshold(name, record),
            also_in=self.others(name, parent),
            f1=self.mean_f1(name),
            warnings=_group_warnings(record),
            labels_below=len(self.taxonomy.graph.descendant_labels(name)),
            repeated=repeated,
        )
        return (
            node
            if repeated
            else replace(node, children=tuple(self.child(child, name) for child in group.children))
        )

    def child(self, name: str, parent: str) -> TreeNode:
        return self.group(name, parent) if name in self.taxonomy.groups else self.label(name, parent)

    def label(self, name: str, parent: str) -> TreeNode:
        rows = self.positives[parent, name] if self.manifest else None
        return TreeNode(
            name=name,
            kind="label",
            description=self.taxonomy.labels[name].description,
            rows=rows,
            threshold=self.label_threshold(name),
            f1=self.f1(name),
            also_in=self.others(name, parent),
            warnings=(*_label_warnings(rows), *self.suspicious(name)),
        )

    def others(self, name: str, parent: str) -> tuple[str, ...]:
        parents = self.taxonomy.graph.parents[name]
        return tuple(other or TOP_LEVEL for other in parents if other != parent)

    def route_threshold(self, name: str, record: GroupRecord | None) -> float | None:
        routed = bool(name) and self.taxonomy.groups[name].route == "model"
        return record.route_threshold if record and routed else None

    def label_threshold(self, name: str) -> float | str | None:
        if self.manifest:
            return self.manifest.thresholds.get(name)
        return _written(self.taxonomy.threshold_of(name))

    def f1(self, name: str) -> float | None:
        figures: Mapping[str, float] = self.manifest.metrics.get("f1", {}) if self.manifest else {}
        return figures.get(name)

    def mean_f1(self, group: str) -> float | None:
        figures = [self.f1(label) for label in self.taxonomy.graph.descendant_labels(group)]
        known = [figure for figure in figures if figure is not None]
        return fmean(known) if known else None

    def suspicious(self, name: str) -> tuple[str, ...]:
        found = self.doubted[name]
        return (f"{found} suspicious {'row' if found == 1 else 'rows'}",) if found else ()

    @cached_property
    def positives(self) -> Mapping[tuple[str, str], int]:
        """Training rows of each child that the model of a group scores."""
        from cascade.walk import modelled  # NumPy comes with it

        records = self.manifest.groups if self.manifest else {}
        return {
            (name, child): rows
            for name, record in records.items()
            for child, rows in zip(modelled(self.taxonomy, name), record.positives, strict=True)
        }

    @cached_property
    def doubted(self) -> Counter[str]:
        return Counter(str(one["label"]) for one in (self.manifest.suspicious if self.manifest else ()))


def _written(threshold: Threshold) -> float | str:
    if threshold.kind == "auto" or threshold.value is None:
        return "auto"
    return threshold.value if threshold.kind == "value" else f"{threshold.kind} {threshold.value:g}"


def _label_warnings(rows: int | None) -> tuple[str, ...]:
    if rows is None or rows >= _FEW_ROWS:
        return ()
    return ("no rows",) if rows == 0 else ("few rows",)


def _group_warnings(record: GroupRecord | None) -> tuple[str, ...]:
    if record is None or record.backend["kind"] != "constant":
        return ()
    return ("answers the same for every text",)


# Looking at part of one


def subtree(tree: TreeNode, group: str) -> TreeNode:
    """The part of the tree at the first place of `group`.

    Raises
    ------
    DataError
        When the tree has no such group; it names the nearest one.
    """
    groups = {node.name: node for depth, node in reversed(list(walk(tree))) if node.kind == "group" and depth}
    if group not in groups:
        hint = suggestion(group, groups) or f" It has: {_listed(sorted(groups)) or 'no groups'}."
        raise DataError(f"{tree.name!r} has no group {group!r}.{hint}")
    return groups[group]


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def pruned(tree: TreeNode, depth: int) -> TreeNode:
    """The tree down to `depth` levels below its root."""
    if depth <= 0:
        return replace(tree, children=())
    return replace(tree, children=tuple(pruned(child, depth - 1) for child in tree.children))


Order = Literal["name", "rows", "f1"]


def ordered(tree: TreeNode, by: Order) -> TreeNode:
    """The tree with children by name, by rows (most first) or by F1 (worst first, what has none last).

    Equal ones keep their order.
    """
    children = sorted((ordered(child, by) for child in tree.children), key=_ORDERS[by])
    return replace(tree, children=tuple(children))


_ORDERS: Mapping[Order, Callable[[TreeNode], Any]] = {
    "name": lambda node: node.name.casefold(),
    "rows": lambda node: -(node.rows or 0),
    "f1": lambda node: inf if node.f1 is None else node.f1,
}

"""A taxonomy, or a fitted model, as a tree to look at: what stands where, on how many rows, and how good.

A taxonomy is a graph and a tree is not, so a name with several parents stands under each of them. What is
below such a group is told once, where the group comes first: so every edge of the graph stands in the tree
once, and every name as often as it has parents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from cascade.errors import DataError, suggestion
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.settings import TIERS_OPTION, BackendSpec, Threshold

if TYPE_CHECKING:
    from cascade.model.folder import GroupRecord, Manifest

SortKey = Literal["f1", "rows", "name"]

TOP_LEVEL = "top level"
"""What the root is called where it is the parent of something."""

_FEW_ROWS = 10
"""As in `check`: with fewer rows a label has about three in each of three folds."""


@dataclass(frozen=True)
class TreeNode:
    """A group or a label at one place of the tree.

    Attributes
    ----------
    last_name : what it is called in its parent; empty at the top of a tree
    rows : training rows that carry the name or something below it; None for a taxonomy that is not fitted
    positives : those among the rows of the parent, which are what its model learnt the name from; None where
        none did, as for the root and for a group that is always visited
    backend, negatives, choose, route : of a group, None for a label; once fitted, what was used
    model : of a group: the name of the hosted model, else the kind of the backend
    tiers : of a group with several what they are called, the cheapest first, and once fitted the share of the
        held-out rows that each answered; None of one with its backend alone
    threshold : least path probability at which a label is chosen, or a group is entered; as the taxonomy has
        it (``auto``, ``precision 0.9``) where nothing is fitted, None where no number applies
    back_off : likewise at which a group is the answer itself; None where it never is
    f1 : out-of-fold F1 of a label, of a group the mean of those below it; None where there is none
    also_in : the other parents, the root as `TOP_LEVEL`
    repeated : whether this group was told before, so that its children are left out here
    labels_below : how many labels stand below a group, at any depth and whether they are told here or not
    """

    name: str
    kind: Literal["group", "label"]
    last_name: str = ""
    description: str = ""
    rows: int | None = None
    positives: int | None = None
    backend: str | None = None
    model: str | None = None
    negatives: str | None = None
    choose: str | None = None
    route: str | None = None
    tiers: Mapping[str, float | None] | None = None
    threshold: float | str | None = None
    back_off: float | str | None = None
    f1: float | None = None
    also_in: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    repeated: bool = False
    labels_below: int = 0
    children: tuple[TreeNode, ...] = ()

    @property
    def shown(self) -> str:
        """What it is called where its parent stands above it; at the top the whole name."""
        return self.last_name or self.name

    def to_json(self) -> dict[str, Any]:
        """The tree as a JSON object; a label has fewer keys than a group."""
        keys = _GROUP_KEYS if self.kind == "group" else _LABEL_KEYS
        plain = {key: _plain(getattr(self, key)) for key in keys} | {"last_name": self.shown}
        if self.kind == "group":
            plain["children"] = [child.to_json() for child in self.children]
        return plain


_LABEL_KEYS = (
    "name",
    "last_name",
    "kind",
    "description",
    "rows",
    "positives",
    "threshold",
    "f1",
    "also_in",
    "warnings",
)
_SETTINGS = ("backend", "model", "tiers", "negatives", "choose", "route", "back_off")
_GROUP_KEYS = (*_LABEL_KEYS, *_SETTINGS, "labels_below", "repeated")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def walk(tree: TreeNode, depth: int = 0) -> Iterator[tuple[int, TreeNode]]:
    """Each node with its depth, from the top down, children in their order."""
    yield depth, tree
    for child in tree.children:
        yield from walk(child, depth + 1)


# Making one


def tree_of_taxonomy(taxonomy: Taxonomy) -> TreeNode:
    """The tree of a taxonomy that nothing was fitted to; its root has the taxonomy's name."""
    return _TreeBuilder(taxonomy, None).group(ROOT, ROOT)


def tree_of_model(taxonomy: Taxonomy, manifest: Manifest) -> TreeNode:
    """The tree of a fitted model, with rows, thresholds and out-of-fold figures."""
    return _TreeBuilder(taxonomy, manifest).group(ROOT, ROOT)


@dataclass
class _TreeBuilder:
    """Makes nodes from the top down and remembers which groups it has told."""

    taxonomy: Taxonomy
    manifest: Manifest | None
    told: set[str] = field(default_factory=set)

    def group(self, name: str, parent: str) -> TreeNode:
        repeated = name in self.told
        self.told.add(name)
        node = replace(self.without_children(name, parent), repeated=repeated)
        children = () if repeated else self.taxonomy.groups[name].children
        return replace(node, children=tuple(self.child(child, name) for child in children))

    def without_children(self, name: str, parent: str) -> TreeNode:
        """A group without its children."""
        group = self.taxonomy.groups[name]
        record = self.manifest.groups.get(name) if self.manifest else None
        return TreeNode(
            name=name or self.taxonomy.name,
            kind="group",
            last_name=group.last_name,
            description=group.description if name else self.taxonomy.description,
            rows=record.rows if record else None,
            positives=self.positives.get((parent, name)),
            backend=str(record.backend["kind"]) if record else group.backend.kind,
            model=_model_name(group.backend, record),
            negatives=record.negatives if record else group.negatives,
            choose=group.choose,
            route=group.route if name else None,
            tiers=_tiers(self.taxonomy, name, record),
            threshold=self.route_threshold(name, record),
            back_off=self.back_off(name),
            f1=self.mean_f1(name),
            also_in=self.others(name, parent),
            warnings=_group_warnings(record),
            labels_below=len(self.taxonomy.graph.descendant_labels(name)),
        )

    def child(self, name: str, parent: str) -> TreeNode:
        return self.group(name, parent) if name in self.taxonomy.groups else self.label(name, parent)

    def label(self, name: str, parent: str) -> TreeNode:
        rows = self.positives[parent, name] if self.manifest else None
        return TreeNode(
            name=name,
            kind="label",
            last_name=self.taxonomy.last_name(name),
            description=self.taxonomy.labels[name].description,
            rows=rows,
            positives=rows,
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

    def mean_f1(self, name: str) -> float | None:
        found = [
            f1 for label in self.taxonomy.graph.descendant_labels(name) if (f1 := self.f1(label)) is not None
        ]
        return fmean(found) if found else None

    def back_off(self, name: str) -> float | str | None:
        group = self.taxonomy.groups[name]
        if not (name and group.back_off):
            return None
        return self.manifest.thresholds.get(name) if self.manifest else _written(group.threshold)

    def suspicious(self, name: str) -> tuple[str, ...]:
        found = self.doubted[name]
        return (f"{found} suspicious {'row' if found == 1 else 'rows'}",) if found else ()

    @cached_property
    def positives(self) -> Mapping[tuple[str, str], int]:
        from cascade.model.walk import training_rows  # NumPy comes with it

        return training_rows(self.taxonomy, self.manifest) if self.manifest else {}

    @cached_property
    def doubted(self) -> Counter[str]:
        return Counter(str(one["label"]) for one in (self.manifest.suspicious if self.manifest else ()))


def _written(threshold: Threshold) -> float | str:
    if threshold.kind == "auto" or threshold.value is None:
        return "auto"
    return threshold.value if threshold.kind == "value" else f"{threshold.kind} {threshold.value:g}"


def _model_name(spec: BackendSpec, record: GroupRecord | None) -> str:
    options = record.backend if record else spec.options
    named = (record.notes.get("model") if record else None, options.get("model"), options.get("base_model"))
    kind = record.backend["kind"] if record else spec.kind
    return str(next(filter(None, named), kind))


def _tiers(taxonomy: Taxonomy, name: str, record: GroupRecord | None) -> Mapping[str, float | None] | None:
    if record is not None:
        return record.notes.get("tiers")
    told = taxonomy.backend_of(name).options.get(TIERS_OPTION)
    return None if told is None else dict.fromkeys(told["tiers"])


def _label_warnings(rows: int | None) -> tuple[str, ...]:
    if rows is None or rows >= _FEW_ROWS:
        return ()
    return ("no rows",) if rows == 0 else ("few rows",)


def _group_warnings(record: GroupRecord | None) -> tuple[str, ...]:
    if record is None or record.backend["kind"] != "constant":
        return ()
    return ("answers the same for every text",)


# Looking at part of one, or in another order


def subtree(tree: TreeNode, group: str) -> TreeNode:
    """The part of the tree at the first place of `group`; whatever is below it is told in it.

    Raises
    ------
    DataError
        When the tree has no such group; it names the nearest one.
    """
    groups = {node.name: node for depth, node in reversed(list(walk(tree))) if node.kind == "group" and depth}
    if group not in groups:
        hint = suggestion(group, groups) or f" It has: {_listed(sorted(groups)) or 'no groups'}."
        raise DataError(f"{tree.name!r} has no group {group!r}.{hint}")
    return _rearrange(replace(groups[group], last_name="", repeated=False), _children(tree))


def _listed(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def pruned(tree: TreeNode, depth: int) -> TreeNode:
    """The tree down to `depth` levels below its root."""
    return _rearrange(tree, _children(tree), depth)


def fitting_depth(tree: TreeNode, most: int) -> int | None:
    """The most levels below the root that have no more than `most` nodes; None where all have, 1 at least."""
    counts = Counter(depth for depth, _ in walk(tree))
    sizes = list(accumulate(counts[depth] for depth in sorted(counts)))
    if sizes[-1] <= most:
        return None
    return max(1, sum(size <= most for size in sizes) - 1)


def ordered(tree: TreeNode, by: SortKey) -> TreeNode:
    """The same tree with the children of each group in order: what is weakest, most or first comes first.

    Parameters
    ----------
    by : ``f1`` from the lowest, ``rows`` from the most, both with unknown ones last; ``name`` as in a
        dictionary
    """
    keys: dict[SortKey, Callable[[TreeNode], Any]] = {
        "f1": lambda node: (node.f1 is None, node.f1 or 0.0),
        "rows": lambda node: -1 if node.rows is None else -node.rows - 2,
        "name": lambda node: (node.shown.casefold(), node.shown),
    }
    in_order = {name: tuple(sorted(below, key=keys[by])) for name, below in _children(tree).items()}
    top = replace(tree, children=tuple(sorted(tree.children, key=keys[by])))
    return _rearrange(top, in_order)


def _children(tree: TreeNode) -> dict[str, tuple[TreeNode, ...]]:
    """Of each group below the top, which may have the name of one of them."""
    groups = [node for depth, node in walk(tree) if depth and node.kind == "group"]
    return {node.name: node.children for node in groups if not node.repeated}


def _rearrange(
    top: TreeNode, children: Mapping[str, tuple[TreeNode, ...]], depth: int | None = None
) -> TreeNode:
    """The tree with the children of each group where it comes first now, down to a depth."""
    told: set[str] = set()

    def tell(node: TreeNode, left: int | None) -> TreeNode:
        if node.kind == "label":
            return node
        if node.name in told or left == 0:
            return replace(node, children=(), repeated=node.name in told)
        told.add(node.name)
        return with_children(replace(node, repeated=False), children.get(node.name, ()), left)

    def with_children(node: TreeNode, below: Sequence[TreeNode], left: int | None) -> TreeNode:
        less = None if left is None else left - 1
        return replace(node, children=tuple(tell(child, less) for child in below))

    return replace(top, children=()) if depth == 0 else with_children(top, top.children, depth)

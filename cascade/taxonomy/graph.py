"""The graph of a taxonomy: names and edges, checked and indexed once, then only asked questions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

ROOT = ""
"""Name of the unnamed top group."""


@dataclass(frozen=True)
class Graph:
    """Groups and labels of a directed acyclic graph with one root.

    Attributes
    ----------
    groups : all groups, the root first, each after all of its parents and else in the order given
    labels : the leaves, in the order given
    nodes : groups without the root, then labels: the column order of every score array
    column : node name -> its index in `nodes`
    children : group -> its children in the order given
    parents : node -> its parents in the order given; ``()`` for the root
    """

    groups: tuple[str, ...]
    labels: tuple[str, ...]
    nodes: tuple[str, ...]
    column: Mapping[str, int] = field(repr=False)
    children: Mapping[str, tuple[str, ...]] = field(repr=False)
    parents: Mapping[str, tuple[str, ...]] = field(repr=False)
    _ancestors: Mapping[str, frozenset[str]] = field(repr=False, compare=False)
    _descendant_labels: Mapping[str, tuple[str, ...]] = field(repr=False, compare=False)
    _depths: Mapping[str, int] = field(repr=False, compare=False)

    @classmethod
    def build(cls, groups: Mapping[str, Sequence[str]], labels: Iterable[str] | None = None) -> Graph:
        """Graph of ``group name -> children``; a child that is no key of `groups` is a label.

        Parameters
        ----------
        groups : the root `ROOT` among them; their order is kept wherever the edges leave a choice
        labels : the order of the labels; without it, that of their first appearance in `groups`

        Raises
        ------
        ValueError
            When the root is missing, a group names a child twice, a group cannot be reached, there is a
            cycle, or `labels` are not exactly the leaves.
        """
        children = {name: tuple(members) for name, members in groups.items()}
        _check_edges(children)
        order = _topological_order(children)
        leaves = _leaves(children) if labels is None else tuple(labels)
        _check_labels(leaves, children)
        nodes = order[1:] + leaves
        parents = _parents(children, nodes)
        ancestors = _ancestors(parents, nodes)
        return cls(
            groups=order,
            labels=leaves,
            nodes=nodes,
            column={name: index for index, name in enumerate(nodes)},
            children={name: children[name] for name in order},
            parents=parents,
            _ancestors=ancestors,
            _descendant_labels=_descendant_labels(order, leaves, ancestors),
            _depths=_depths(parents, nodes),
        )

    def ancestors(self, name: str) -> frozenset[str]:
        """All groups above `name`, without the root and without itself; KeyError for an unknown name."""
        return self._ancestors[name]

    def descendant_labels(self, group: str) -> tuple[str, ...]:
        """All labels below `group` at any depth, in the order of `labels`; KeyError if it is no group."""
        return self._descendant_labels[group]

    def depth(self, name: str) -> int:
        """Number of edges of the longest path from the root to `name`; KeyError for an unknown name."""
        return self._depths[name]

    def closure(self, names: Iterable[str]) -> frozenset[str]:
        """`names` with all of their ancestors; KeyError for an unknown name."""
        names = frozenset(names)
        return names.union(*(self._ancestors[name] for name in names))


def find_cycles(groups: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """One shortest cycle for each knot of groups that reach each other, as a path ``[a, b, a]``.

    Each path begins with the group of its knot that comes first in `groups`, and so do the paths.
    """
    if len(_topological_order(groups)) == len(groups):
        return []
    import networkx as nx  # slow to import, and a sound taxonomy does without

    edges = [(parent, child) for parent, members in groups.items() for child in members]
    place = {name: index for index, name in enumerate(groups)}
    knots = [
        set(knot) for knot in nx.strongly_connected_components(nx.DiGraph(edges)) if knot <= place.keys()
    ]
    # Almost all are single groups, and only one that leads to itself is a cycle.
    knots = [knot for knot in knots if len(knot) > 1 or any(one in groups[one] for one in knot)]
    cycles = []
    for knot in sorted(knots, key=lambda names: min(place[name] for name in names)):
        # A graph of its own: views of a subgraph iterate over a set, in another order in every process.
        inside = nx.DiGraph([edge for edge in edges if knot.issuperset(edge)])
        if inside:
            cycles.append(_shortest_cycle(inside, min(knot, key=place.__getitem__)))
    return cycles


def _shortest_cycle(graph: Any, start: str) -> list[str]:
    import networkx as nx  # slow to import, and a sound taxonomy does without

    ways_back = (nx.shortest_path(graph, after, start) for after in graph.successors(start))
    return [start, *min(ways_back, key=len)]


def _check_edges(children: Mapping[str, tuple[str, ...]]) -> None:
    if ROOT not in children:
        raise ValueError("the root group is missing: expected a key ''")
    for group, members in children.items():
        if ROOT in members:
            raise ValueError(f"group {group!r} has the root as its child")
    for group, members in children.items():
        if len(set(members)) < len(members):
            twice = next(name for name in members if members.count(name) > 1)
            raise ValueError(f"group {group!r} names its child {twice!r} twice")
    for cycle in find_cycles(children):
        raise ValueError(f"groups form a cycle: {' -> '.join(cycle)}")
    reached = {name for members in children.values() for name in members} | {ROOT}
    for group in children:
        if group not in reached:
            raise ValueError(f"group {group!r} is no child of any group")


def _check_labels(labels: tuple[str, ...], children: Mapping[str, tuple[str, ...]]) -> None:
    leaves = _leaves(children)
    if len(labels) != len(leaves) or set(labels) != set(leaves):
        odd = sorted(set(labels) ^ set(leaves))
        raise ValueError(f"labels are not the leaves of the groups; they differ in {odd}")


def _topological_order(children: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Each group after all of its parents, the earliest first; without those on or below a cycle."""
    names = list(children)
    place = {name: index for index, name in enumerate(names)}
    awaited = Counter(member for members in children.values() for member in members)
    ready = [index for index, name in enumerate(names) if not awaited[name]]  # sorted, so it is a heap
    order = []
    while ready:
        name = names[heappop(ready)]
        order.append(name)
        for member in children[name]:
            awaited[member] -= 1
            if not awaited[member] and member in place:
                heappush(ready, place[member])
    return tuple(order)


def _leaves(children: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(name for members in children.values() for name in members if name not in children)
    )


def _parents(children: Mapping[str, tuple[str, ...]], nodes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {name: [] for name in (ROOT, *nodes)}
    for group, members in children.items():
        for name in members:
            found[name].append(group)
    return {name: tuple(above) for name, above in found.items()}


def _ancestors(parents: Mapping[str, tuple[str, ...]], nodes: Sequence[str]) -> dict[str, frozenset[str]]:
    """Ancestors of each node; `nodes` come after their parents."""
    found: dict[str, frozenset[str]] = {ROOT: frozenset()}
    for name in nodes:
        direct = parents[name]
        found[name] = frozenset(direct).union(*(found[parent] for parent in direct)) - {ROOT}
    return found


def _descendant_labels(
    groups: Sequence[str], labels: Sequence[str], ancestors: Mapping[str, frozenset[str]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {name: [] for name in groups}
    for label in labels:
        for group in (ROOT, *ancestors[label]):
            found[group].append(label)
    return {name: tuple(below) for name, below in found.items()}


def _depths(parents: Mapping[str, tuple[str, ...]], nodes: Sequence[str]) -> dict[str, int]:
    """Longest way from the root to each node; `nodes` come after their parents."""
    found = {ROOT: 0}
    for name in nodes:
        found[name] = 1 + max(found[parent] for parent in parents[name])
    return found

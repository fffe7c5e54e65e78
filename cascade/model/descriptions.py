"""What groups and labels are about in words, for models that read them."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.model.verification import DoubtfulLabels
from cascade.nodes.contract import Doubted, GroupDescription
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT


def description_of(taxonomy: Taxonomy, group: str) -> GroupDescription:
    """What a group and its children are about, each by its last name.

    Within a group that tells children apart, an answer in words is as short as can be, and a model is the
    same whether names are paths or not.
    """
    settings = taxonomy.groups[group]
    children = [taxonomy.node(name) for name in taxonomy.scored_children(group)]
    about = settings.description or taxonomy.description if group == ROOT else settings.description
    return GroupDescription(
        choose=settings.choose,
        task=": ".join(part for part in (settings.last_name, about) if part),
        path=" > ".join(map(taxonomy.last_name, _way_to(taxonomy, group))),
        about=about or "",
        descriptions={one.last_name: one.description for one in children if one.description},
        aliases={one.last_name: one.aliases for one in children if one.aliases},
        includes={
            taxonomy.last_name(name): tuple(map(taxonomy.last_name, _labels_below(taxonomy, name)))
            for name in taxonomy.scored_children(group)
            if name in taxonomy.groups
        },
    )


def _labels_below(taxonomy: Taxonomy, group: str) -> list[str]:
    """The labels of a group and of all groups below it, those nearest to it first."""
    level, found = [group], dict[str, None]()
    while level:
        below = [child for one in level for child in taxonomy.graph.children[one]]
        found |= dict.fromkeys(child for child in below if child not in taxonomy.groups)
        level = [child for child in below if child in taxonomy.groups]
    return list(found)


def _way_to(taxonomy: Taxonomy, group: str) -> list[str]:
    """The groups from the top down to a group, by the first parent of each; none at the top."""
    way: list[str] = []
    while group != ROOT:
        way.insert(0, group)
        group = taxonomy.graph.parents[group][0]
    return way


class Doubting:
    """Makes questions of doubtful labels; the groups of a taxonomy are described once.

    Parameters
    ----------
    taxonomy
        Tells what labels are called, and what they are about.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self._taxonomy = taxonomy
        self._described: dict[str, GroupDescription] = {}

    def of(self, asked: DoubtfulLabels, texts: Sequence[str]) -> list[Doubted]:
        """Each label with its text, what it may be taken for, and what is told of both."""
        cells = zip(asked.rows.tolist(), asked.labels.tolist(), asked.rivals.tolist(), strict=True)
        return [self._of(texts[row], label, rival) for row, label, rival in cells]

    def _of(self, text: str, label: int, rival: int) -> Doubted:
        taxonomy, graph = self._taxonomy, self._taxonomy.graph
        name, other = graph.labels[label], "" if rival < 0 else graph.labels[rival]
        parents = graph.parents[name]
        shared = [group for group in parents if other in graph.children[group]]
        group = (shared or parents)[0]
        # A label of another group is known there by another name, of which nothing is told here.
        beside = taxonomy.last_name(other) if shared else ""
        if group not in self._described:
            self._described[group] = description_of(taxonomy, group)
        return Doubted(text, taxonomy.last_name(name), beside, self._described[group])

"""Doubtful labels as questions to a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cascade.hosted.asker import Asker
from cascade.learn.datasets import description_of
from cascade.model.verification import DoubtfulLabels
from cascade.nodes.contract import GroupDescription
from cascade.prompt.settings import PromptSettings
from cascade.prompt.verdicts import Doubted, VerdictModel
from cascade.taxonomy.definition import Taxonomy


def verdict_model(backend: Mapping[str, Any], asker: Asker | None = None) -> VerdictModel:
    """What is asked, by ``{"kind": "prompt", ...}``."""
    options = {name: value for name, value in backend.items() if name != "kind"}
    return VerdictModel(PromptSettings.of(options), asker)


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

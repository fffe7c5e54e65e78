"""A look at texts: one whole model of the walk. Where there are several, the next is for texts in doubt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cascade.backends import KINDS, asks_service, encodes
from cascade.encoders.contract import counts
from cascade.model.combine import Combiner
from cascade.model.decide import decide
from cascade.model.evidence import Silence, entry_groups, nothing_known
from cascade.model.folder import Manifest
from cascade.model.looks import doubts_of, joined
from cascade.model.soundness import calibration_of, combination_of
from cascade.model.walk import Walked, walk
from cascade.nodes.contract import NodeModel
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph
from cascade.text.texts import Texts
from cascade.validation.calibration import Calibration, conditional

if TYPE_CHECKING:
    from cascade.predict.verifying import Verifier


class Look:
    """A model of the walk.

    Attributes
    ----------
    taxonomy, manifest
        What was fitted and settled.
    combination
        How scores of a label become its probability.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        manifest: Manifest,
        nodes: Mapping[str, NodeModel],
        seconds: Mapping[str, tuple[NodeModel, Calibration]],
    ) -> None:
        self.taxonomy, self.manifest = taxonomy, manifest
        self._nodes, self._seconds = nodes, seconds
        self._calibrations = {group: calibration_of(record) for group, record in manifest.groups.items()}
        self.combination = combination_of(manifest)
        self._combiner = Combiner(taxonomy, self.combination)
        self._is_hosted = any(KINDS[one.backend["kind"]].hosted for one in manifest.groups.values())

    @property
    def graph(self) -> Graph:
        """The graph of the taxonomy."""
        return self.taxonomy.graph

    def node(self, group: str) -> NodeModel:
        """The model of a group; KeyError where it has none."""
        return self._nodes[group]

    def with_nodes(self, nodes: Mapping[str, NodeModel]) -> Look:
        """The same with other models at some groups."""
        return Look(self.taxonomy, self.manifest, {**self._nodes, **nodes}, self._seconds)

    def second(self, group: str) -> tuple[NodeModel, Calibration] | None:
        """The second model of a group and its calibration; None where it has none."""
        return self._seconds.get(group)

    def calibration(self, group: str) -> Calibration:
        """That of the model of a group."""
        return self._calibrations[group]

    @property
    def encodes(self) -> bool:
        """Whether some group's model reads vectors of texts."""
        return any(encodes(record.backend) for record in self.manifest.groups.values())

    @property
    def asks_encoder_service(self) -> bool:
        """Whether some of these vectors come from a service, which costs money."""
        return any(asks_service(record.backend) for record in self.manifest.groups.values())

    @property
    def asks_services(self) -> bool:
        """Whether new texts cost money, at some group or for their vectors."""
        return self._is_hosted or self.asks_encoder_service

    def walk(self, batch: Texts) -> Walked:
        """Probabilities of all nodes and conditional scores of all edges that were visited.

        `Walked.before` has the path probabilities that they were combined from.
        """
        paths: dict[str, FloatArray] = {}
        failed: dict[int, str] = {}
        marginal: dict[str, FloatArray] = {}

        def enter(group: str, _: IntArray, path: FloatArray) -> BoolArray:
            inside = path >= self._route(group)
            paths[group] = path[inside]
            return inside

        def score(asked: Mapping[str, IntArray]) -> dict[str, FloatArray]:
            return self._scores(batch, asked, paths, failed, marginal)

        walked = walk(self.taxonomy, len(batch), score, enter, is_marginal=self._learned_from_all)
        return self._combined(replace(walked, failed=failed), batch, marginal)

    def oracle(self, batch: Texts, truth: Callable[[str], BoolArray]) -> Walked:
        """The same walk with every group entered just where `truth` says, each with path probability 1.

        Parameters
        ----------
        truth
            Tells of a group which texts truly belong to it, bool, shape (n_texts,). Groups that are always
            visited are entered wherever a parent is.
        """
        failed: dict[int, str] = {}
        marginal: dict[str, FloatArray] = {}

        def score(asked: Mapping[str, IntArray]) -> dict[str, FloatArray]:
            answers = self._scores(batch, asked, {}, failed, marginal)
            for group, rows in asked.items():
                for column, child in enumerate(self.taxonomy.scored_children(group)):
                    if child in self.taxonomy.groups:
                        answers[group][:, column] = truth(child)[rows]
            return answers

        walked = walk(
            self.taxonomy,
            len(batch),
            score,
            lambda _group, _rows, path: path > 0,
            is_marginal=self._learned_from_all,
        )
        return self._combined(replace(walked, failed=failed), batch, marginal)

    def decide(self, walked: Walked) -> BoolArray:
        """What is answered, bool, shape (n_texts, n_nodes): labels, and groups where one backs off."""
        return decide(self.taxonomy, self.manifest.thresholds, walked.paths, self.manifest.exclusive)

    def _but_nothing_known(self, walked: Walked, batch: Texts) -> Walked:
        """The walk, without what was said of texts of which nothing is known."""
        least = self.manifest.least_known
        if least is None:
            return walked
        entries = (self._nodes[group] for group in entry_groups(self.taxonomy) if group in self._nodes)
        nothing = nothing_known(entries, batch, least)
        return walked if nothing is None else self._silence.of(walked, nothing)

    @cached_property
    def _silence(self) -> Silence:
        kinds = {group: record.backend["kind"] for group, record in self.manifest.groups.items()}
        return Silence(self.taxonomy, [group for group, kind in kinds.items() if KINDS[kind].hosted])

    def _learned_from_all(self, group: str) -> bool:
        return group in self.manifest.groups and self.manifest.groups[group].negatives == "all"

    def _route(self, group: str) -> np.float32:
        record = self.manifest.groups.get(group)
        return np.float32(record.route_threshold if record else 0.0)

    def _scores(
        self,
        batch: Texts,
        asked: Mapping[str, IntArray],
        paths: Mapping[str, FloatArray],
        failed: dict[int, str],
        marginal: dict[str, FloatArray],
    ) -> dict[str, FloatArray]:
        """Conditional scores of each asked group; a group without `paths` is taken as certain.

        `failed` gets the reasons of texts that could not be scored; their scores are NaN. `marginal` gets the
        scores of groups whose only model learned from every row.
        """
        answers = {}
        for group, (scores, reasons) in self._answered(batch, asked).items():
            rows = asked[group]
            failed.update((int(rows[place]), why) for place, why in reasons.items())
            calibrated = self._calibrations[group].apply(scores)
            path = paths[group] if group in paths else np.ones(len(rows), dtype=np.float32)
            answers[group] = conditional(calibrated, self.manifest.groups[group].negatives, path)
            if self._learned_from_all(group):
                marginal[group] = calibrated
        return answers

    def _combined(self, walked: Walked, batch: Texts, marginal: Mapping[str, FloatArray]) -> Walked:
        """The walk with probabilities by all that speaks for a label; `marginal` was scored on the way."""
        walked = self._but_nothing_known(self._combiner.with_seconds(walked, marginal), batch)
        found = {}
        for group, (node, calibration) in self._seconds.items():
            if group in walked.blocks:
                scores = node.scores(batch.take(walked.blocks[group].rows))
                found[group] = calibration.apply(scores)
        return self._combiner.combined(self._combiner.with_seconds(walked, found))

    def _answered(
        self, batch: Texts, asked: Mapping[str, IntArray]
    ) -> dict[str, tuple[FloatArray, Mapping[int, str]]]:
        """Scores and failures of each group, the questions to all hosted ones in flight together."""
        views = {group: (self._nodes[group], batch.take(rows)) for group, rows in asked.items()}
        if not self._is_hosted:
            return {group: (node.scores(texts), {}) for group, (node, texts) in views.items()}
        from cascade.hosted.backend import scores_together  # who has embedded groups alone needs none of it

        return scores_together(views)


LOOKS = ("first", "second", "third")
"""What looks are called, the cheapest first."""


class Part(NamedTuple):
    """Texts of a walk that one look answered.

    Attributes
    ----------
    rows
        int64, shape (n_rows,), ascending: their positions.
    look
        The look.
    walked
        Their walk.
    name
        Which look that is, of `LOOKS`; None where there is only one.
    """

    rows: IntArray
    look: Look
    walked: Walked
    name: str | None = None


class Looks:
    """One look, or several, the cheapest first: each answers the texts that it does not doubt too much.

    Parameters
    ----------
    looks
        The looks; the last one answers what is left.
    doubts
        For each but the last the greatest doubt, see `doubts_of`, at which its answer stands.
    verifier
        What asks about doubtful labels again; None for nothing.
    """

    def __init__(
        self, looks: Sequence[Look], doubts: Sequence[float] = (), verifier: Verifier | None = None
    ) -> None:
        self.looks, self.doubts, self.verifier = tuple(looks), tuple(doubts), verifier
        if len(self.doubts) != len(self.looks) - 1:
            raise ValueError(
                f"{len(self.looks)} looks and {len(self.doubts)} doubts: expected one less of these"
            )

    @property
    def last(self) -> Look:
        """The look that answers what is left."""
        return self.looks[-1]

    def walk(self, batch: Texts) -> Walked:
        """The walk of each text by the look that answers it; `Walked.answered_by` tells which.

        Then labels that are in doubt are asked about again; `Walked.checked` tells which.
        """
        walked = self._looked(batch)
        return walked if self.verifier is None else self.verifier.verified(walked, self.decide, batch)

    def _looked(self, batch: Texts) -> Walked:
        if len(self.looks) == 1:
            return self.last.walk(batch)
        answered_by = np.full(len(batch), len(self.looks) - 1, dtype=np.int8)
        left, walks = np.arange(len(batch)), []
        for place, (look, most_doubt) in enumerate(zip(self.looks, self.doubts, strict=False)):
            part = batch if place == 0 else batch.apart(left)
            walked = look.walk(part)
            sure = doubts_of(walked, look.decide) <= most_doubt
            answered_by[left[sure]] = place
            walks.append(walked.of(np.flatnonzero(sure)))
            counts.spared += int(sure.sum()) if place == 0 else 0
            left = left[~sure]
        last = self.last.walk(batch.apart(left)) if len(left) else Walked(self.last.graph, 0, {})
        return joined(answered_by, [*walks, last])

    def oracle(
        self,
        batch: Texts,
        truth: Callable[[str], BoolArray],
        answered_by: NDArray[np.int8] | None = None,
    ) -> Walked:
        """As `Look.oracle`; `answered_by` tells which look answers each text, by default the last."""
        if len(self.looks) == 1 or answered_by is None:
            return self.last.oracle(batch, truth)
        walks = []
        for place, look in enumerate(self.looks):
            rows = np.flatnonzero(answered_by == place)
            walks.append(look.oracle(batch.apart(rows), _at(truth, rows)))
        return joined(answered_by, walks)

    def parts(self, walked: Walked) -> list[Part]:
        """What each look answered of a walk, of which some parts may be empty; of one look it is all."""
        if walked.answered_by is None or len(self.looks) == 1:
            return [Part(np.arange(len(walked)), self.last, walked)]
        found = []
        for place, look in enumerate(self.looks):
            rows = np.flatnonzero(walked.answered_by == place)
            found.append(Part(rows, look, walked.of(rows), LOOKS[place]))
        return found

    def decide(self, walked: Walked) -> BoolArray:
        """What is answered, bool, shape (n_texts, n_nodes), each text by the thresholds of its look."""
        found = np.empty((len(walked), len(walked.graph.nodes)), dtype=np.bool_)
        for rows, look, part, _ in self.parts(walked):
            found[rows] = look.decide(part)
        return found


def _at(truth: Callable[[str], BoolArray], rows: IntArray) -> Callable[[str], BoolArray]:
    return lambda group: truth(group)[rows]

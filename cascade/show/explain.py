"""Why a text got its labels: the walk with every score, threshold and decision, and what words did."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from cascade.model.decide import contenders
from cascade.model.evidence import NOTHING_KNOWN
from cascade.model.walk import Walked, edges
from cascade.nodes.contract import Contributions, Escalating, Explainable
from cascade.predict.answers import Model
from cascade.predict.evidence import LabelEvidence, contributions_of, evidence_of
from cascade.predict.look import Look
from cascade.predict.tiers import tiers_of
from cascade.rows.row import quoted
from cascade.system.array_types import BoolArray
from cascade.taxonomy.graph import ROOT
from cascade.text.normal import normal
from cascade.text.texts import Texts

MOST_WORDS = 3
MOST_OTHERS = 3
# A probability that is so far from that of the path is told of.
MUCH = 0.1

Decision = Literal["chosen", "below", "lost", "entered", "not entered", "backed off"]

_LOOKS = {"first": "first look, by words alone", "second": "second look"}


@dataclass(frozen=True, slots=True)
class Word:
    """What a word, however it was typed, pushed a decision value by.

    Attributes
    ----------
    word
        In the normal form.
    push
        In units of the decision value before calibration; above 0 for the node, below against it.
    spans
        Where it begins and ends in the text, each time; empty for what the text as a whole did.
    """

    word: str
    push: float
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A node that was looked at below one of its parents.

    Attributes
    ----------
    node, is_group
        Its name, and whether it is a group.
    conditional
        P(node | the text belongs to the parent), in [0, 1]; 1 where the group is always visited.
    path
        What the way through this parent gives: its path probability times `conditional`.
    second
        Of a label what the second model of its group gives it; None where there is none.
    probability
        Of a label what all of this comes to, in [0, 1]; of a group `path`.
    before, yes
        Of a label that was asked about again its probability before, and that of the answer yes, None where
        that could not be read; both None of all others.
    threshold
        What the probability is compared with; None for a group that is always visited.
    verdict
        ``chosen`` or not: ``below`` its threshold, ``lost`` to a sibling where one is chosen at most; of a
        group ``entered`` or ``not entered``, or ``backed off`` to: answered itself.
    why
        The same in words.
    counts
        Whether this is the way by which the node's path probability came, of several parents.
    pushes
        The words that spoke most for it and against it, the greatest first; empty where the parent's model
        cannot tell.
    steps
        What lies below a group that was entered, in the order of the taxonomy.
    """

    node: str
    is_group: bool
    conditional: float
    path: float
    second: float | None
    probability: float
    threshold: float | None
    verdict: Decision
    why: str
    counts: bool
    pushes: tuple[Word, ...]
    steps: tuple[Step, ...] = ()
    before: float | None = None
    yes: float | None = None

    @property
    def leads(self) -> bool:
        """Whether this was chosen, or something below it."""
        return self.verdict in ("chosen", "backed off") or any(step.leads for step in self.steps)


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """The answer for one text, and how it came about.

    Attributes
    ----------
    text
        As it was given.
    labels
        The chosen names with their path probabilities, the most probable first.
    steps
        What was looked at at the top level, each with what lies below.
    silent
        Groups whose model cannot tell what words did, and why.
    nothing_known
        Whether the embedded models know too little of the text to say anything.
    look
        Which look answered, ``first`` (words alone) or ``second``; None where the model has only one.
    evidence
        What in the text carries each of the labels, in their order.
    tiers
        By group, the root under the empty name, which of its tiers answered, where it has several.
    """

    text: str
    labels: tuple[tuple[str, float], ...]
    steps: tuple[Step, ...]
    silent: Mapping[str, str]
    nothing_known: bool = False
    look: str | None = None
    evidence: tuple[LabelEvidence, ...] = ()
    tiers: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object; ``look`` and ``tiers`` only where there are several."""
        found = asdict(self) | {"evidence": [one.to_json() for one in self.evidence]}
        left_out = {"look": self.look is None, "tiers": not self.tiers}
        return {key: found[key] for key in found if not left_out.get(key, False)}

    def __repr__(self) -> str:
        return f"Explanation of {quoted(self.text)}: {self.summary}"

    @property
    def summary(self) -> str:
        """The labels in a line, why there is none where nothing is known of the text, and who answered."""
        labels = ", ".join(f"{name} {path:.2f}" for name, path in self.labels) or "no label"
        told = f"{labels}: {NOTHING_KNOWN}" if self.nothing_known else labels
        return f"{told} ({_LOOKS[self.look]})" if self.look is not None else told

    def _repr_html_(self) -> str:
        from cascade.show.notebook import explanation_html

        return explanation_html(self)

    def walk(self) -> Iterator[tuple[int, Step]]:
        """Each step with its depth from 0, from the top down."""
        yield from _below(self.steps, 0)


def _below(steps: Sequence[Step], depth: int) -> Iterator[tuple[int, Step]]:
    for step in steps:
        yield depth, step
        yield from _below(step.steps, depth + 1)


def explain(model: Model, text: str, most_words: int = MOST_WORDS) -> Explanation:
    """Why `model` answers as it does for a text.

    Parameters
    ----------
    most_words
        Words told for a node, and as many against it.

    Raises
    ------
    RowsError
        A service did not answer.
    """
    [part] = [one for one in model.parts(model.walk([text]).whole()) if len(one.rows)]
    walked = part.walked
    explainer = _Explainer(part.look, text, walked, part.look.decide(walked)[0], most_words)
    nothing = walked.nothing_known is not None and bool(walked.nothing_known[0])
    steps, labels = tuple(explainer.steps(ROOT)), explainer.labels
    [evidence] = evidence_of(part.look, explainer.texts, walked, [[name for name, _ in labels]])
    tiers = {group: own[0] for group, own in tiers_of(part.look, explainer.texts, walked).items() if 0 in own}
    return Explanation(text, labels, steps, explainer.silent, nothing, part.name, evidence, tiers)


class _Explainer:
    """Tells the steps of one walk."""

    def __init__(self, model: Look, text: str, walked: Walked, chosen: BoolArray, most_words: int) -> None:
        self.model, self.taxonomy, self.text, self.most_words = model, model.taxonomy, text, most_words
        self.texts = Texts([text])
        self.paths, self.chosen = (walked.before or walked).paths[0], chosen
        self.probabilities = walked.paths[0]
        self.left = contenders(model.taxonomy, walked.paths, model.manifest.exclusive)[0]
        self.second = dict(zip(edges(model.graph), walked.seconds[0].tolist(), strict=True))
        self.conditional = dict(zip(edges(model.graph), walked.conditionals[0].tolist(), strict=True))
        self.asked_again = {} if walked.checked is None else walked.checked.by_cell()
        self.silent: dict[str, str] = {}

    @property
    def labels(self) -> tuple[tuple[str, float], ...]:
        names = [self.model.graph.nodes[column] for column in np.flatnonzero(self.chosen)]
        return tuple(sorted(((name, self.probability(name)) for name in names), key=lambda one: -one[1]))

    def probability(self, name: str) -> float:
        """What all that speaks for a node comes to, NaN where it was not visited."""
        return float(self.probabilities[self.model.graph.column[name]])

    def path(self, name: str) -> float:
        """Path probability of a node, NaN where it was not visited; 1 at the root."""
        return 1.0 if name == ROOT else float(self.paths[self.model.graph.column[name]])

    def steps(self, group: str) -> Iterator[Step]:
        """The children of a group that was entered."""
        pushes = self.pushes(group)
        for child in self.model.graph.children[group]:
            if not np.isnan(self.conditional[group, child]):
                yield self.step(group, child, pushes.get(child, ()))

    def step(self, group: str, child: str, pushes: tuple[Word, ...]) -> Step:
        conditional = self.conditional[group, child]
        arrived = self.path(group) * conditional
        second = self.second[group, child]
        is_group, threshold = child in self.taxonomy.groups, self.threshold(child)
        verdict = self.group_verdict(child) if is_group else self.label_verdict(child)
        _, before, yes = self.again(child)
        return Step(
            node=child,
            is_group=is_group,
            conditional=conditional,
            path=arrived,
            second=None if np.isnan(second) else second,
            probability=arrived if is_group else self.probability(child),
            threshold=threshold,
            verdict=verdict,
            why=self.why(group, child, verdict, threshold),
            counts=self.counts(group, child),
            pushes=pushes,
            steps=tuple(self.steps(child)) if verdict in ("entered", "backed off") else (),
            before=before,
            yes=yes,
        )

    def again(self, name: str) -> tuple[str, float | None, float | None]:
        """What a label was held against when asked about again, its probability before, and that of yes."""
        rival, before, yes = self.asked_again.get((0, self.model.graph.column[name]), (-1, None, None))
        beside = self.model.graph.nodes[rival] if rival >= 0 else ""
        return beside, before, None if yes is None or math.isnan(yes) else yes

    def counts(self, group: str, child: str) -> bool:
        """Whether no other parent gives the child more; all do together under ``noisy_or``."""
        if self.taxonomy.combine == "noisy_or":
            return True
        ways = {
            parent: self.path(parent) * self.conditional[parent, child]
            for parent in self.model.graph.parents[child]
        }
        known = {parent: way for parent, way in ways.items() if not np.isnan(way)}
        return max(known, key=lambda parent: known[parent]) == group

    def threshold(self, name: str) -> float | None:
        if self.taxonomy.is_always_visited(name):
            return None
        if name in self.taxonomy.labels:
            return self.model.manifest.thresholds[name]
        record = self.model.manifest.groups.get(name)
        return record.route_threshold if record else 0.0

    def label_verdict(self, label: str) -> Decision:
        column = self.model.graph.column[label]
        if self.chosen[column]:
            return "chosen"
        return "lost" if np.isnan(self.left[column]) else "below"

    def group_verdict(self, group: str) -> Decision:
        if np.isnan(self.path(group)):
            return "not entered"
        return "backed off" if self.chosen[self.model.graph.column[group]] else "entered"

    def why(self, group: str, child: str, verdict: Decision, threshold: float | None) -> str:
        if verdict == "lost":
            return f"only one of {self.contest(group)} is chosen, and another is more probable"
        if verdict == "not entered":
            return f"below its route threshold {threshold:.2g}: nothing in it was looked at"
        if verdict == "backed off":
            return "answered itself, as nothing in it was chosen"
        if verdict in ("below", "chosen"):
            reaches = "is below" if verdict == "below" else "reaches"
            whence = self.whence(group, child)
            return f"{self.probability(child):.3g} {reaches} its threshold {threshold:.2g}{whence}"
        return "always visited" if threshold is None else f"reaches its route threshold {threshold:.2g}"

    def contest(self, group: str) -> str:
        """Of what only one is chosen, where a label below `group` lost."""
        chooses = self.taxonomy.groups[group].choose == "one"
        return _quoted(group) if chooses or not self.model.manifest.exclusive else "all labels"

    def whence(self, group: str, label: str) -> str:
        """What moved the probability of a label away from that of its path, if anything did by much."""
        path, probability = self.path(label), self.probability(label)
        second = self.second[group, label]
        rival, before, yes = self.again(label)
        if before is not None:
            said = "no answer" if yes is None else f"yes {yes:.2f}"
            beside = f" beside {rival!r}" if rival else ""
            return f": in doubt ({before:.2f}), so it was asked about again{beside} ({said})"
        if probability > path + MUCH:
            speaks = (
                f"a second look at its words gives {second:.2f}"
                if second > path
                else "no other label is near"
            )
            return f": the walk doubted ({path:.2f}), but {speaks}"
        if probability < path - MUCH:
            doubts = (
                f"a second look at its words gives {second:.2f}"
                if second < path
                else "another label is nearer"
            )
            return f": the walk gives {path:.2f}, but {doubts}"
        return ""

    # Words

    def pushes(self, group: str) -> Mapping[str, tuple[Word, ...]]:
        """The words for and against each child of a group, by the group's model."""
        children = self.taxonomy.scored_children(group)
        if not children:
            return {}
        node = self.model.node(group)
        found = None
        if isinstance(node, Explainable | Escalating):
            [found] = contributions_of(self.model, node, self.texts)
        if found is None:
            kind = self.model.manifest.groups[group].backend["kind"]
            self.silent[group] = _SILENT.get(kind, f"a model of kind {kind} does not tell")
            return {}
        return {child: self.words(found, column) for column, child in enumerate(children)}

    def words(self, found: Contributions, column: int) -> tuple[Word, ...]:
        """The words that push most, those for the child first, and what the text does as a whole."""
        values = found.values[:, column]
        sums: dict[str, float] = defaultdict(float)
        for name, value in zip(self.names(found), values.tolist(), strict=True):
            sums[name] += value
        ranked = sorted(sums, key=lambda name: -sums[name])
        best = [name for name in ranked[: self.most_words] if sums[name] > 0]
        worst = [name for name in ranked[::-1][: self.most_words] if sums[name] < 0]
        pushes = [[Word(name, sums[name], self.places[name]) for name in names] for names in (best, worst)]
        beside = [Word(name, float(values[column]), ()) for name, values in found.beside.items()]
        return (
            *(one for one in beside if one.push >= 0),
            *pushes[0],
            *(one for one in beside if one.push < 0),
            *pushes[1],
        )

    def names(self, found: Contributions) -> list[str]:
        self._spans = found.spans
        return [self.name(start, end) for start, end in found.spans.tolist()]

    def name(self, start: int, end: int) -> str:
        """What a word is called, however it was typed."""
        word = self.text[start:end]
        return normal(word) or word

    @cached_property
    def places(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        found: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for start, end in self._spans.tolist():
            found[self.name(start, end)].append((start, end))
        # Several words may come of one stretch, such as "1" and "2" of a half.
        return {name: tuple(dict.fromkeys(spans)) for name, spans in found.items()}


_SILENT = {
    "openai": "a model at a service does not tell what words did",
    "constant": "all training rows here had the same labels, so that words do nothing",
}


def _quoted(group: str) -> str:
    return repr(group) if group else "the top level"


def worth_showing(steps: Sequence[Step], most_others: int | None = MOST_OTHERS) -> list[Step]:
    """What is worth a look, the most probable first: what leads to an answer, and the best few others.

    Nothing below the others is kept. None keeps all there is.
    """
    ordered = sorted(steps, key=lambda step: -step.probability)
    if most_others is None:
        return ordered
    others = [step.node for step in ordered if not step.leads][:most_others]
    kept = [step for step in ordered if step.leads or step.node in others]
    return [step if step.leads else replace(step, steps=()) for step in kept]

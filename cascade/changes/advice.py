"""What to change in a taxonomy: advice from a model's own out-of-fold scores, each change tried before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from cascade.changes.advice_evidence import Candidate, candidates
from cascade.changes.advice_trials import LEAST_GAIN, Figures, Fitted, Measured, Trials
from cascade.changes.near_texts import MOST_TEXTS, contradicted, near_texts
from cascade.errors import DataError, TaxonomyError
from cascade.learn.plan import check_lengths
from cascade.measure.sparse import Flags, flags_at, rows_in
from cascade.system.array_types import IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edit_text import edited_text
from cascade.taxonomy.edits import Edit, MergeLabels, MoveLabel, SplitGroup, edited
from cascade.text.clusters import clusters_of

if TYPE_CHECKING:
    from cascade.model.folder import Manifest

Kind = Literal["merge", "move", "split", "rare", "contradicting"]

MOST_TRIALS = 12
EXAMPLES = 3
FEW_ROWS = 10
"""Labels with fewer rows are hardly learnt: those of a fold are three."""
CONTRADICTED = 3
CONTRADICTED_SHARE = 0.05
"""A label is told where so many of its rows, and this share of them, are contradicted."""


class Model(Protocol):
    """What advice needs of a `Cascade`."""

    @property
    def folder(self) -> Path: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def taxonomy(self) -> Taxonomy: ...


@dataclass(frozen=True)
class Advice:
    """One thing to change, or to look at.

    Attributes
    ----------
    kind
        ``merge``, ``move`` and ``split`` change the taxonomy; of ``rare`` and ``contradicting`` labels it is
        the rows that want a look.
    labels
        The labels that it is about; of a split those that leave.
    reason
        What speaks for it, in words.
    rows
        Positions, from 0, of some rows that show it, the plainest first.
    edit
        The change; None where rows are to be changed.
    measured
        What the change does to the out-of-fold F1; None where there is none.
    f1
        The out-of-fold F1 of the label now, for ``rare`` and ``contradicting``.
    """

    kind: Kind
    labels: tuple[str, ...]
    reason: str
    rows: tuple[int, ...]
    edit: Edit | None = None
    measured: Measured | None = None
    f1: float | None = None

    @property
    def title(self) -> str:
        """The advice in a few words, such as ``merge 'delayed' into 'late'``."""
        edit = self.edit
        if isinstance(edit, MergeLabels):
            return f"merge {edit.label!r} into {edit.into!r}"
        if isinstance(edit, MoveLabel):
            return f"move {edit.label!r} from {edit.source or 'the top level'!r} to {edit.target!r}"
        if isinstance(edit, SplitGroup):
            return f"split {edit.group!r}: {', '.join(edit.labels)} into a new group {edit.new!r}"
        return f"{self.labels[0]!r} has {'few' if self.kind == 'rare' else 'contradicting'} rows"

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object; rows are positions from 0."""
        return asdict(self) | {"title": self.title}


@dataclass(frozen=True)
class Study:
    """All that was looked at.

    Attributes
    ----------
    figures
        The out-of-fold F1 of the taxonomy as it is.
    advice
        Changes that win, those that win most first, then labels whose rows want a look. The changes can be
        made together.
    tried
        Changes that were tried and do not win enough, or not beside a better one.
    together
        What the changes win together, where they are several.
    left
        How many more changes might be tried.
    hosted
        Groups with models at a service, about which nothing is advised; embedded ones stood in for them.
    refitted
        Groups that had to be trained anew before anything was tried, as rows or versions are others than the
        model's.
    """

    figures: Figures
    advice: tuple[Advice, ...]
    tried: tuple[Advice, ...]
    together: Measured | None
    left: int
    hosted: tuple[str, ...]
    refitted: tuple[str, ...]

    @property
    def changes(self) -> tuple[Advice, ...]:
        """The advice that changes the taxonomy."""
        return tuple(one for one in self.advice if one.edit is not None)


Report = Callable[[str, int, int], None]
"""Told what is tried, how many steps are done, and of how many."""


def _silent(_: str, __: int, ___: int) -> None:
    """Report nothing."""


def advise(
    model: Model,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    *,
    most: int = MOST_TRIALS,
    jobs: int = 1,
    report: Report = _silent,
) -> list[Advice]:
    """What to change in the taxonomy of a model, given the rows that it learnt: `Study.advice` of `study`."""
    return list(study(model, texts, labels, most=most, jobs=jobs, report=report).advice)


def study(
    model: Model,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    *,
    most: int = MOST_TRIALS,
    jobs: int = 1,
    report: Report = _silent,
) -> Study:
    """Try what the out-of-fold scores of a model speak for, and tell what wins.

    A change is tried by a fit of the groups that it touches; the others are taken from the model. What wins
    by more than `LEAST_GAIN` is judged again by folds that had no part in the choice. A merge needs less:
    labels that scores cannot tell apart, and that are in the same company, are one where that costs nothing.
    The same model, rows and `most` give the same advice.

    Parameters
    ----------
    model
        A `Cascade`; its folder is only read.
    texts, labels
        The rows that it learnt, and the names that each carries, as its taxonomy calls them. With others its
        groups are trained anew first.
    most
        How many changes are tried.
    jobs
        How many threads; the advice is the same with any number.
    report
        Told of every step.

    Raises
    ------
    DataError
        Texts and labels are not of one length, or there are none.
    """
    check_lengths(texts, labels)
    if not any(labels):
        raise DataError(f"{len(texts)} rows, none with a label: nothing to learn from.")
    with Trials(model.taxonomy, texts, labels, model.manifest.seed, jobs) as trials:
        report("the model as it is", 0, most + 1)
        first = trials.start(model.folder, model.manifest.groups)
        found = candidates(first, trials.dear)
        tried = list(_tried(trials, found[:most], report))
        chosen, together = _beside_each_other(trials, tried)
        others = [one for one in tried if one not in chosen]
        return Study(
            figures=first.figures,
            advice=(*chosen, *_rare(first), *_contradicting(first)),
            tried=tuple(others),
            together=together if len(chosen) > 1 else None,
            left=len(found[most:]),
            hosted=tuple(sorted(trials.dear)),
            refitted=first.refitted,
        )


def _tried(trials: Trials, found: Sequence[Candidate], report: Report) -> Iterator[Advice]:
    for number, candidate in enumerate(found, 1):
        advice = _advice_of(candidate)
        report(advice.title, number, len(found) + 1)
        try:
            measured = trials.measured([candidate.edit])
        except TaxonomyError:  # a name is taken, which only the whole taxonomy can tell
            continue
        if measured.gain > 0 if advice.kind != "merge" else not measured.loses:
            measured = trials.confirmed([candidate.edit], measured)
        yield replace(advice, measured=measured)


def _advice_of(candidate: Candidate) -> Advice:
    edit = candidate.edit
    kind: Kind
    labels: tuple[str, ...]
    if isinstance(edit, MergeLabels):
        kind, labels = "merge", (edit.label, edit.into)
    elif isinstance(edit, MoveLabel):
        kind, labels = "move", (edit.label,)
    else:
        kind, labels = "split", edit.labels
    rows = tuple(candidate.rows[:EXAMPLES].tolist())
    return Advice(kind, labels, candidate.reason, rows, edit)


def _beside_each_other(trials: Trials, tried: Sequence[Advice]) -> tuple[list[Advice], Measured | None]:
    """The advice that wins, by its gain, as far as each wins beside those before it; and all together.

    Where labels are in each other's places, to move a third one may win as well, until those are moved.
    """
    chosen: list[Advice] = []
    together: Measured | None = None
    concerned: set[str] = set()
    for one in sorted(filter(_is_worth_it, tried), key=_gain, reverse=True):
        own = {*one.labels, *([one.edit.group] if isinstance(one.edit, SplitGroup) else [])}
        if own & concerned:
            continue
        found = _together(trials, [*chosen, one])
        if found is None or (together is not None and _spoils(one, found, together)):
            continue
        chosen.append(one)
        together, concerned = found, concerned | own
    return chosen, together


def _gain(advice: Advice) -> float:
    return advice.measured.gain if advice.measured is not None else 0.0


def _together(trials: Trials, chosen: Sequence[Advice]) -> Measured | None:
    """What some advice wins together; None where it makes no taxonomy, such as one with an empty group."""
    if len(chosen) == 1:
        return chosen[0].measured
    try:
        return trials.measured([one.edit for one in chosen if one.edit is not None])
    except TaxonomyError:
        return None


def _spoils(advice: Advice, found: Measured, before: Measured) -> bool:
    """Whether advice that is followed beside other wins nothing; a merge may cost nothing."""
    least = -LEAST_GAIN if advice.kind == "merge" else 0.0
    return found.after.mean - found.before.mean <= before.after.mean - before.before.mean + least


def _is_worth_it(advice: Advice) -> bool:
    measured = advice.measured
    if measured is None or not measured.foldings:
        return False
    return measured.wins or (advice.kind == "merge" and not measured.loses)


def _rare(fitted: Fitted) -> Iterator[Advice]:
    """Labels with few rows, those with fewest first."""
    metrics, truth = fitted.out_of_fold.manifest.metrics, fitted.cells[0].tocsc()
    columns = {label: place for place, label in enumerate(fitted.taxonomy.graph.labels)}
    for label in sorted(columns, key=lambda label: metrics["positives"][label]):
        count = metrics["positives"][label]
        if count < FEW_ROWS:
            rows = fitted.out_of_fold.rows[rows_in(truth, columns[label])[:EXAMPLES]]
            reason = f"{count} row{'' if count == 1 else 's'}; with {FEW_ROWS} or more it could be learnt"
            yield Advice("rare", (label,), reason, tuple(rows.tolist()), f1=metrics["f1"][label])


def _contradicting(fitted: Fitted) -> Iterator[Advice]:
    """Labels that many of their rows are contradicted in, those with the greatest share first."""
    labels, truth = fitted.taxonomy.graph.labels, fitted.cells[0].tocsc()
    clusters = _Clusters(clusters_of(fitted.dataset.texts)[fitted.out_of_fold.rows])
    by_meaning = _contradicted_by_meaning(fitted)
    doubted: dict[str, list[int]] = {label: [] for label in labels}
    for one in fitted.out_of_fold.manifest.suspicious:
        doubted[one["label"]].append(int(np.searchsorted(fitted.out_of_fold.rows, one["row"] - 1)))
    found = []
    for column, label in enumerate(labels):
        own = rows_in(truth, column)
        torn, against = clusters.torn(own), rows_in(by_meaning, column).tolist()
        places = list(dict.fromkeys([*torn, *against, *doubted[label]]))
        share = len(places) / max(len(own), 1)
        if len(places) >= CONTRADICTED and share >= CONTRADICTED_SHARE:
            told = (
                (len(torn), "with it and without it though their texts are nearly equal"),
                (len(against), "other than half or more of the texts that mean nearly the same"),
                (len(doubted[label]), "given or not against all that the model sees"),
            )
            reason = "; ".join(
                f"{count:,} row{'' if count == 1 else 's'} {why}" for count, why in told if count
            )
            rows = tuple(fitted.out_of_fold.rows[places[:EXAMPLES]].tolist())
            f1 = fitted.out_of_fold.manifest.metrics["f1"][label]
            found.append((share, Advice("contradicting", (label,), reason, rows, f1=f1)))
    return (advice for _, advice in sorted(found, key=lambda one: -one[0]))


def _contradicted_by_meaning(fitted: Fitted) -> Flags:
    """Rows that texts of nearly the same meaning contradict, by columns; none where words are all."""
    rows, truth = fitted.out_of_fold.rows, fitted.cells[0]
    if fitted.encode is None or len(rows) > MOST_TEXTS:
        nowhere = np.empty(0, dtype=np.int64)
        return flags_at(nowhere, nowhere, truth.shape).tocsc()
    texts = [fitted.dataset.texts[row] for row in rows.tolist()]
    return contradicted(near_texts(fitted.encode(texts)), truth).tocsc()


class _Clusters:
    """Rows by the cluster of nearly equal texts that each is in."""

    def __init__(self, numbers: IntArray) -> None:
        _, self._of = np.unique(numbers, return_inverse=True)
        self._rows = np.argsort(self._of, kind="stable")
        self._sizes = np.bincount(self._of)
        self._starts = np.append(0, np.cumsum(self._sizes))

    def torn(self, own: IntArray) -> list[int]:
        """The rows in clusters of which some, but not all, are among the `own`, cluster by cluster."""
        clusters, having = np.unique(self._of[own], return_counts=True)
        torn = clusters[having < self._sizes[clusters]].tolist()
        return [row for one in torn for row in self._rows[self._starts[one] : self._starts[one + 1]].tolist()]


def advised_text(text: str, source: str, taxonomy: Taxonomy, chosen: Sequence[Advice]) -> str:
    """The text of a taxonomy file after some advice was followed; what is not concerned stays as it was.

    Parameters
    ----------
    text, source
        The file's text, and its name for complaints.
    taxonomy
        What the advice is about: that of the model.

    Raises
    ------
    TaxonomyError
        The text is not a taxonomy, or the result is none.
    DataError
        The text is another taxonomy, or is written so that it has to be changed by hand.
    """
    if Taxonomy.of_text(text, source) != taxonomy:
        raise DataError(
            f"{source}: not the taxonomy that the model was fitted with, so that the advice is not about it. "
            f"Run `cascade fit {source}` first"
        )
    edits = [one.edit for one in chosen if one.edit is not None]
    by_hand = f"{source}: cannot be changed here, as where anchors (&name) are used. Change it by hand: "
    try:
        changed = edited_text(text, edits, taxonomy.names)
        if Taxonomy.of_text(changed, source) == edited(taxonomy, edits):
            return changed
    except (KeyError, TaxonomyError) as error:
        raise DataError(by_hand + "; ".join(one.title for one in chosen)) from error
    raise DataError(by_hand + "; ".join(one.title for one in chosen))

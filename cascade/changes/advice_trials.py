"""What a change of the taxonomy would win: what it touches is refitted, and the out-of-fold F1 compared."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack

from cascade.backends import KINDS
from cascade.changes.near_texts import encode_of
from cascade.grouping.meaning import Encode
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import labels_out_of_fold
from cascade.learn.events import Event
from cascade.learn.fit import OutOfFold, fit_out_of_fold
from cascade.learn.truth import true_cells, unknown_cells
from cascade.measure.metrics import F1Counts, Interval, macro_f1, micro_f1
from cascade.measure.sparse import Flags, flags_at, flags_of, joined
from cascade.model.folder import NODES, GroupRecord
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edits import Edit, edited
from cascade.taxonomy.settings import BackendSpec
from cascade.text.texts import Texts

LEAST_GAIN = 0.001
"""The mean of micro and macro F1 that a change has to win: less is not worth a change of names."""
RESAMPLES = 500
FOLDINGS = 3
"""Other ways to deal rows to folds, by which a change that won with the model's own is judged."""
PERCENT = (1.0, 99.0)
"""Many changes are tried, so that one in twenty would seem to win by chance: 99 of 100 resamples have to."""


@dataclass(frozen=True)
class Figures:
    """Out-of-fold F1 in [0, 1], as in the manifest of a model."""

    micro_f1: float
    macro_f1: float

    @property
    def mean(self) -> float:
        return (self.micro_f1 + self.macro_f1) / 2


@dataclass(frozen=True)
class Measured:
    """What a change did to the out-of-fold F1.

    Attributes
    ----------
    before
        The figures without the change. Labels that it merges count as one: whoever cannot tell them apart
        would else seem to win by not being asked.
    after
        Those of a fit after the change, with the folds of the model.
    gain
        What the mean of micro and macro F1 wins, which is what thresholds are tuned for.
    interval
        98 % of the gain, over rows drawn anew for both alike (paired bootstrap).
    foldings
        0 where gain and interval come from the same fits as `before` and `after`. Otherwise from so many
        others, with the rows dealt to folds in other ways: a change that was picked because it won is
        judged by what it wins elsewhere.
    refitted
        The groups that were trained for it, the root as the empty name.
    """

    before: Figures
    after: Figures
    gain: float
    interval: Interval
    foldings: int
    refitted: tuple[str, ...]

    @property
    def wins(self) -> bool:
        """Whether the gain is worth it, and hardly chance."""
        return self.gain >= LEAST_GAIN and self.interval[0] > 0

    @property
    def loses(self) -> bool:
        """Whether it costs something."""
        return self.gain <= -LEAST_GAIN or self.interval[1] < 0


@dataclass(frozen=True)
class Fitted:
    """A fit of one version of the taxonomy: what it was made of, and what came of it."""

    dataset: Dataset
    out_of_fold: OutOfFold
    refitted: tuple[str, ...]

    @property
    def taxonomy(self) -> Taxonomy:
        return self.dataset.taxonomy

    @cached_property
    def cells(self) -> tuple[Flags, Flags]:
        """True and chosen labels, each flags of shape (n_rows, n_labels)."""
        found = self.out_of_fold
        cells = labels_out_of_fold(
            self.dataset,
            found.rows,
            found.walked,
            found.manifest.thresholds,
            found.manifest.exclusive,
        )
        return flags_of(cells[0]), flags_of(cells[1])

    @cached_property
    def encode(self) -> Encode | None:
        """Gives texts the vectors that its models know; None where these know words alone."""
        return encode_of(self.taxonomy)

    @property
    def figures(self) -> Figures:
        metrics = self.out_of_fold.manifest.metrics
        return Figures(metrics["micro_f1"], metrics["macro_f1"])


class Trials:
    """Fits versions of a taxonomy on the same rows, each of which takes from the first what it can.

    Groups whose models are dear, at a service or with a trunk, have embedded ones in their place: a trial
    pays for nothing.
    """

    def __init__(
        self, taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]], seed: int, jobs: int
    ) -> None:
        self.taxonomy, self.labels, self.seed, self.jobs = taxonomy, labels, seed, jobs
        self.texts = Texts(texts)
        self.dear = frozenset(
            name for name, group in taxonomy.groups.items() if KINDS[group.backend.kind].is_dear
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="cascade-advice-")
        self._home = Path(self._scratch.name)
        self._first: dict[int, Fitted] = {}

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._scratch.cleanup()

    def start(self, folder: Path, groups: Mapping[str, GroupRecord]) -> Fitted:
        """The taxonomy as it is; models of `folder` are taken where they are of these rows."""
        nodes = [node for name, record in groups.items() if name not in self.dear for node in record.nodes]
        with self._folder("0", folder, nodes, keep=True) as out:
            self._first[0] = self._fitted(self.taxonomy, out, 0)
        return self._first[0]

    def measured(self, edits: Sequence[Edit]) -> Measured:
        """What some changes together would win; TaxonomyError where they make no taxonomy."""
        before, after, samples = self._trial(edits, 0)
        own = Figures(micro_f1(*before), macro_f1(*before))
        gain = after.figures.mean - own.mean
        return Measured(own, after.figures, gain, _interval(samples), 0, after.refitted)

    def confirmed(self, edits: Sequence[Edit], measured: Measured) -> Measured:
        """The same changes, judged by other foldings of the rows."""
        gains, all_samples = [], []
        for folding in range(1, FOLDINGS + 1):
            before, after, samples = self._trial(edits, folding)
            gains.append(after.figures.mean - (micro_f1(*before) + macro_f1(*before)) / 2)
            all_samples.append(samples)
            if np.mean(gains) <= -LEAST_GAIN:
                break  # the others would hardly make up for it
        interval = _interval(np.mean(all_samples, axis=0))
        return replace(measured, gain=float(np.mean(gains)), interval=interval, foldings=len(gains))

    def _trial(
        self, edits: Sequence[Edit], folding: int
    ) -> tuple[tuple[Flags, Flags], Fitted, NDArray[np.float64]]:
        """True and chosen labels before, the fit after, and the gain in each resample of the rows."""
        first = self._before(folding)
        changed = edited(self.taxonomy, edits)
        records = first.out_of_fold.manifest.groups.values()
        nodes = [node for record in records for node in record.nodes]
        with self._folder("trial", self._home / str(folding), nodes) as out:
            after = self._fitted(changed, out, folding)
        before = _joined(first, changed)
        return before, after, _resampled_gain(before, after.cells, self.seed)

    def _before(self, folding: int) -> Fitted:
        if folding not in self._first:
            with self._folder(str(folding), self._home, [], keep=True) as out:
                self._first[folding] = self._fitted(self.taxonomy, out, folding)
        return self._first[folding]

    def _fitted(self, taxonomy: Taxonomy, out: Path, folding: int) -> Fitted:
        named = {name: taxonomy.resolve(name) or name for names in self.labels for name in names}
        labels = [[named[name] for name in names] for names in self.labels]
        own = _embedded(taxonomy)
        truth = true_cells(own.graph, labels)
        dataset = Dataset(own, self.texts, truth, unknown_cells(own, truth, labels))
        trained: list[str] = []

        def note(event: Event) -> None:
            if event.kind == "fitted":
                trained.append(event.group)

        found = fit_out_of_fold(dataset, out, seed=self.seed + folding, jobs=self.jobs, report=note)
        order = {name: place for place, name in enumerate(own.graph.groups)}
        return Fitted(dataset, found, tuple(sorted(trained, key=order.__getitem__)))

    @contextmanager
    def _folder(self, name: str, models: Path, nodes: Sequence[str], *, keep: bool = False) -> Iterator[Path]:
        """A folder for a fit that holds nodes of another model."""
        out = self._home / name
        for node in dict.fromkeys(nodes):
            if (models / NODES / node).is_dir():
                shutil.copytree(models / NODES / node, out / NODES / node, copy_function=_linked)
        out.mkdir(exist_ok=True)
        try:
            yield out
        finally:
            if not keep:
                shutil.rmtree(out, ignore_errors=True)


def _linked(source: str, target: str) -> None:
    """The same file under another name where the disk can do that: node folders are never changed."""
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)


def _embedded(taxonomy: Taxonomy) -> Taxonomy:
    """The taxonomy with embedded models alone."""
    groups = {
        name: replace(group, backend=BackendSpec("linear"), escalate=())
        if KINDS[group.backend.kind].is_dear
        else group
        for name, group in taxonomy.groups.items()
    }
    return replace(taxonomy, groups=groups)


def _joined(first: Fitted, changed: Taxonomy) -> tuple[Flags, Flags]:
    """True and chosen labels before, in the columns of the taxonomy after: what it merges is one."""
    column = {label: place for place, label in enumerate(changed.graph.labels)}
    at = np.array([column[str(changed.resolve(label))] for label in first.taxonomy.graph.labels])
    becomes = flags_at(np.arange(len(at)), at, (len(at), len(column)))
    truth, chosen = (joined(flags, becomes) for flags in first.cells)
    return truth, chosen


def _interval(gains: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(gains, PERCENT)
    return float(low), float(high)


def _resampled_gain(
    before: tuple[Flags, Flags], after: tuple[Flags, Flags], seed: int
) -> NDArray[np.float64]:
    """The gain of the mean of micro and macro F1 in each resample of the rows, float64 (`RESAMPLES`,)."""
    truth, sides = after[0], [F1Counts.of(*before), F1Counts.of(*after)]
    sides += [side.total() for side in sides] + [F1Counts.of(truth, truth)]
    # All side by side, so that rows are drawn but once.
    hits, sizes = ([one.hits for one in sides], [one.sizes for one in sides])
    together = F1Counts(hstack(hits, format="csr"), hstack(sizes, format="csr"))
    samples = np.nan_to_num(together.resampled_f1(seed, RESAMPLES))
    n_labels = truth.shape[1]
    ends = np.cumsum([n_labels, n_labels, 1, 1])
    macro_before, macro_after, micro_before, micro_after, occurs = np.split(samples, ends, axis=1)
    counts = np.maximum((occurs > 0).sum(axis=1), 1)
    macro = np.where(occurs > 0, macro_after - macro_before, 0).sum(axis=1) / counts
    found: NDArray[np.float64] = (macro + (micro_after - micro_before)[:, 0]) / 2
    return found

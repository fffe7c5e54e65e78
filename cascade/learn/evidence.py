"""How much of a text has to be known for an answer, settled on rows that no model knew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cascade.backends import make_backend
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import Decisions, labels_out_of_fold
from cascade.model.evidence import Silence, entry_groups
from cascade.model.walk import Walked
from cascade.nodes.contract import KnowingBackend
from cascade.system.array_types import BoolArray, FloatArray, IntArray

# Of a text's weight. Of texts in another language .0 to .3 is known, of most of one's own rows .4 to 1.
SHARES = tuple(step / 20 for step in range(7))
# What of micro F1 may be lost where rows without labels get none that had some: there are more such texts to
# come than among the rows, which people chose.
MOST_LOST = 0.0003
# And how many of the rows with labels may fall silent, however little was right among them.
MOST_SILENT = 0.01
# So many rows tell that hardly any text of their kind is known less than the least known of them: with none
# among n it happens to less than 3 of n, with 95 % confidence.
MANY_ROWS = 1000


def least_known(
    dataset: Dataset,
    rows: IntArray,
    walked: Walked,
    found: Decisions,
    exclusive: Sequence[str],
    hosted: Iterable[str],
) -> float | None:
    """The share of a text that has to be exceeded for anything to be known of it; None where none can tell.

    Parameters
    ----------
    rows, walked
        int64, shape (n_rows,), and their combined walk, with scores that no model gave its own training rows.
    found, exclusive
        What was decided by them.
    hosted
        Groups whose models live at a service, which are not silenced.
    """
    taxonomy = dataset.taxonomy
    silence = Silence(taxonomy, hosted)
    shares = _known_shares(dataset, hosted)
    if shares is None:
        return None
    few = np.flatnonzero(shares[rows] <= SHARES[-1])
    cells = labels_out_of_fold(dataset, rows[few], walked.of(few), found.thresholds, exclusive)
    truth, chosen = (one.dense() for one in cells)
    silenced = silence.nodes[len(taxonomy.graph.nodes) - len(taxonomy.graph.labels) :]
    labels = [taxonomy.graph.column[label] for label in taxonomy.graph.labels]
    return greatest_share(
        shares[rows[few]],
        truth[:, silenced],
        chosen[:, silenced],
        micro_f1=found.metrics["micro_f1"],
        positives=sum(found.metrics["positives"].values()),
        labelled=len(np.unique(dataset.truth.take(rows).only(labels).rows)),
    )


def _known_shares(dataset: Dataset, hosted: Iterable[str]) -> FloatArray | None:
    """The share of each row that a model of the others knows, of those which learn from every row."""
    taxonomy, services = dataset.taxonomy, frozenset(hosted)
    for group in entry_groups(taxonomy):
        spec = taxonomy.groups[group].backend
        backend = make_backend(spec.kind, dict(spec.options))
        if group not in services and taxonomy.scored_children(group) and isinstance(backend, KnowingBackend):
            return backend.known_without_itself(dataset.texts)
    return None


def greatest_share(
    shares: FloatArray, truth: BoolArray, chosen: BoolArray, *, micro_f1: float, positives: int, labelled: int
) -> float:
    """The greatest of `SHARES` up to which it is best to say nothing.

    Best is what wins most micro F1. Where rows without labels get none that had some, `MOST_LOST` may be lost
    against it. At most `MOST_SILENT` of the rows that have labels fall silent. With few rows it is the least
    of those that silence the same ones.

    Parameters
    ----------
    shares
        float32, shape (n_rows,): the known share of rows; those with more than the last of `SHARES` may be
        left out.
    truth, chosen
        bool, shape (n_rows, n_labels): what they have and what they get, of labels that would be silenced.
    micro_f1, positives, labelled
        The figure, the number of labels, and the number of rows with any, of all rows.
    """
    hits, picked = (truth & chosen).sum(axis=1), chosen.sum(axis=1)
    has_labels: BoolArray = np.asarray(truth.any(axis=1))
    losses: dict[float, float] = {}
    silent = {share: np.flatnonzero(shares <= np.float32(share)) for share in SHARES}
    for share, rows in silent.items():
        if has_labels[rows].sum() <= MOST_SILENT * labelled:
            # Micro F1 is 2 hits / (chosen + given): its differential, with as many chosen as given.
            lost = 2 * hits[rows].sum() - micro_f1 * picked[rows].sum()
            losses[share] = float(lost) / (2 * max(positives, 1))
    least = min(losses.values(), default=0.0)
    spared = {share: bool((picked[rows][~has_labels[rows]] > 0).any()) for share, rows in silent.items()}
    good = [share for share, loss in losses.items() if loss <= least + (MOST_LOST if spared[share] else 0)]
    greatest = max(good, default=0.0)
    if labelled >= MANY_ROWS:
        return greatest
    return next(share for share in SHARES if len(silent[share]) == len(silent[greatest]))

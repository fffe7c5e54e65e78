"""What a model knows, taught to an embedded one: by its probabilities of texts, beside labelled rows.

A text with probabilities becomes a few rows, the copies of it, which have more labels the lower they cut: of
eight copies, a label of probability 3/8 stands in three. Each counts for an eighth. So whatever learns from
rows learns from probabilities, the router and all groups alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cascade.backends import complaints
from cascade.errors import BackendError, DataError
from cascade.learn.datasets import Dataset
from cascade.learn.events import Report, silent
from cascade.learn.fit import OutOfFold, fit_out_of_fold
from cascade.learn.truth import true_cells, unknown_cells
from cascade.model.folder import write_manifest
from cascade.rows.readings import Reading
from cascade.system.array_types import IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.settings import BackendSpec
from cascade.text.clusters import near_duplicates
from cascade.text.texts import Texts

# On CLINC150 (1,500 rows, 13,500 texts, its valid rows) and our feedback data (two fifths of its training
# rows each, the last fifth to judge by; means of three draws) micro F1 is .878 and .537. One row a text, with
# the labels that were chosen, reaches .877 and .531; 4 copies .873 and .530.
COPIES = 8
LEAST = 1 / (2 * COPIES)
"""Less probable nodes stand in no copy."""
WORDS = "words"
"""The student that needs no encoder."""

Known = Literal["rows", "teacher"]


@dataclass(frozen=True)
class TaughtText:
    """A text with what a teacher says of it.

    Attributes
    ----------
    text
        The text.
    chosen
        The names that the teacher answers with.
    probabilities
        The path probability of each node, groups as well, that is at least `LEAST`.
    """

    text: str
    chosen: tuple[str, ...]
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class Lessons:
    """What a student learns from.

    Attributes
    ----------
    taxonomy
        Its own, see `student_taxonomy`.
    texts, labels
        Labelled rows: n_rows strings, and the names that each carries.
    taught
        What a teacher said of other texts.
    """

    taxonomy: Taxonomy
    texts: Sequence[str]
    labels: Sequence[Sequence[str]]
    taught: Sequence[TaughtText]

    @property
    def settled_by(self) -> Known:
        """What settles probabilities and thresholds: labelled rows, or where there are none the teacher."""
        return "rows" if any(self.labels) else "teacher"

    def dataset(self) -> Dataset:
        """The rows, and the copies of the texts behind them.

        Without labelled rows each text is a row with the labels that the teacher chose: thresholds are
        settled on them, and copies of what a model is judged by would tell it the answer.
        """
        taught = self._unlike_rows()
        if self.settled_by == "teacher":
            texts = [*self.texts, *(one.text for one in taught)]
            return Dataset.make(self.taxonomy, texts, [*self.labels, *(one.chosen for one in taught)])
        made = [(one.text, names, weight) for one in taught for names, weight in copies(one.probabilities)]
        n_rows, graph = len(self.texts), self.taxonomy.graph
        truth = true_cells(graph, [*self.labels, *(names for _, names, _ in made)])
        # A copy that names a group and none of its children has none of them: that is known.
        told = [*self.labels, *(() for _ in made)]
        return Dataset(
            self.taxonomy,
            Texts([*self.texts, *(text for text, _, _ in made)]),
            truth,
            unknown_cells(self.taxonomy, truth, told),
            extra=np.arange(n_rows + len(made)) >= n_rows,
            weights=np.array([1.0] * n_rows + [weight for _, _, weight in made], dtype=np.float32),
        )

    def _unlike_rows(self) -> list[TaughtText]:
        """The texts that do not nearly equal a labelled row, which would be told what it is asked about."""
        places = new_texts(self.texts, [one.text for one in self.taught])
        return [self.taught[place] for place in places.tolist()]


def new_texts(known: Sequence[str], texts: Sequence[str]) -> IntArray:
    """Positions of the texts that nearly equal none of the known ones, nor one before them; ascending."""
    clusters = near_duplicates([*known, *texts])
    _, first = np.unique(clusters, return_index=True)
    return np.sort(first[first >= len(known)]) - len(known)


def copies(probabilities: Mapping[str, float], n_copies: int = COPIES) -> Iterator[tuple[list[str], float]]:
    """The names that copies of a text carry, and for how much of a row those that carry them count.

    A name stands in as many of `n_copies` as its probability says, rounded. Weights sum up to 1.
    """
    cuts = (np.arange(n_copies) + 0.5) / n_copies
    counts = {name: int((cuts < value).sum()) for name, value in probabilities.items()}
    ends = sorted({0, n_copies, *counts.values()})
    for start, end in pairwise(ends):
        yield [name for name, count in counts.items() if count >= end], (end - start) / n_copies


def student_taxonomy(taxonomy: Taxonomy, student: str) -> Taxonomy:
    """The taxonomy of a student: all groups embedded, by words alone or beside an encoder of that name.

    BackendError where that is no name of an encoder.
    """
    options = {} if student == WORDS else {"encoder": student}
    for fault in complaints("linear", options):
        raise BackendError(f"--student {student}: {fault}")
    spec = BackendSpec("linear", options)
    groups = {name: replace(group, backend=spec, escalate=()) for name, group in taxonomy.groups.items()}
    return replace(taxonomy, groups=groups, escalate=(), first_look=None, verify=None)


def distil(
    lessons: Lessons,
    out: Path,
    *,
    teacher: Mapping[str, Any],
    is_calibrated: bool = True,
    seed: int = 0,
    jobs: int = 1,
    report: Report = silent,
    readings: Sequence[Reading] = (),
) -> OutOfFold:
    """Write the model folder of a student, and what its labelled rows say of it out of fold.

    Parameters
    ----------
    teacher
        What the manifest tells of the teacher, JSON-able; with `Lessons.settled_by` and counts it stands
        there under ``distilled`` of the metrics.
    is_calibrated
        Whether the teacher is; of a student that labelled rows settle nobody asks.

    Raises
    ------
    DataError
        There is neither a label in the rows nor one that the teacher chose.
    ModelError
        A fit is writing to `out`.
    """
    dataset = lessons.dataset()
    if not len(dataset.truth.rows):
        raise DataError(
            f"{len(lessons.texts)} labelled rows and {len(lessons.taught)} texts, none with a label: nothing "
            "to learn. Give texts of the kind that the taxonomy is about"
        )
    found = fit_out_of_fold(dataset, out, seed=seed, jobs=jobs, report=report)
    settled_by = lessons.settled_by
    told = {**teacher, "rows": len(lessons.texts), "texts": len(lessons.taught), "settled_by": settled_by}
    manifest = replace(
        found.manifest,
        metrics={**found.manifest.metrics, "distilled": told},
        readings=tuple(one.to_dict() for one in readings),
        is_calibrated=settled_by == "rows" or is_calibrated,
    )
    write_manifest(out, manifest)
    return replace(found, manifest=manifest)

"""What is asked of a run over a file, and what it comes to."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cascade.predict.extras import Style
from cascade.predict.form import Form
from cascade.rows.readings import Columns, Reading

SLICE_ROWS = 4000
"""Rows that are lost at most when a worker or a run is stopped."""
STDIN = "-"


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be answered, where the answers go, and what they show.

    Attributes
    ----------
    source
        The input, see `cascade.rows.reading.read_rows`; ``-`` is standard input.
    out
        A file that ends in .jsonl, .ndjson, .csv, .tsv, .xlsx or .parquet; or a folder, as text that ends in
        a slash or as the path of one that exists, for one part of JSON lines a slice; None is standard
        output, as JSON lines.
    columns
        What is told of the input; labels are not read.
    known
        How the training rows were read, which is tried first.
    top
        So many of the most probable labels, whatever their thresholds.
    scores
        Probabilities of the labels in the answer, or of all visited labels.
    trace
        Whether every visited node is told with its scores and threshold.
    keep
        Columns of the input that come with the answers; `extras.ALL` are all of them.
    wide
        A column for each label: 0 and 1, or the path probability.
    paths
        A column for each level of the taxonomy.
    evidence
        Whether it is told what in the text carries each label, see `cascade.predict.evidence`.
    jobs
        Worker processes, None for one a core; with any number of them the same bytes are written.
    engine
        Where workers are, see `engine.connected`.
    slice_rows
        Rows of a slice, see `cascade.rows.slices.SlicedFile`.
    errors
        Where refused rows go: by default ``OUT.errors.jsonl`` beside `out`, without `out` to the caller.
    in_batches
        Whether a service is asked in batches, which take hours however small they are: then slices are as
        large as a walk can hold.
    uncalibrated
        Whether rows say that nothing has settled their scores; `predict_file` says it of its model.
    """

    source: str
    out: Path | str | None = None
    columns: Columns = field(default_factory=Columns)
    known: tuple[Reading, ...] = ()
    top: int | None = None
    scores: Literal["chosen", "all"] = "chosen"
    trace: bool = False
    keep: tuple[str, ...] = ()
    wide: Literal["flags", "scores"] | None = None
    paths: bool = False
    evidence: bool = False
    jobs: int | None = 1
    engine: str | None = None
    slice_rows: int = SLICE_ROWS
    errors: Path | None = None
    in_batches: bool = False
    uncalibrated: bool = False

    @property
    def is_to_folder(self) -> bool:
        """Whether parts are not joined."""
        ends = tuple(mark for mark in (os.sep, os.altsep) if mark)
        return self.out is not None and (str(self.out).endswith(ends) or Path(self.out).is_dir())

    @property
    def style(self) -> Style:
        """What a row shows."""
        shown = (self.top, self.scores, self.trace, self.keep, self.wide, self.paths)
        return Style(*shown, evidence=self.evidence, uncalibrated=self.uncalibrated)

    @property
    def form(self) -> Form:
        """What the rows of the output look like."""
        out = None if self.out is None or self.is_to_folder else Path(self.out)
        return Form.of(out, self.style)

    @property
    def suffix(self) -> str:
        """How the names of parts end."""
        are_lines = self.out is None or self.is_to_folder or self.form.is_made
        return ".jsonl" if are_lines else Path(str(self.out)).suffix

    def __post_init__(self) -> None:
        for name in ("top", "jobs", "slice_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes
    ----------
    rows
        Rows answered, those of stopped runs before this one included.
    refused
        Rows refused, likewise; with `rows` they are all rows of the input.
    resumed_from
        How many of both were taken over from a stopped run.
    errors
        The file of refused rows; None where there are none, or where the caller got them.
    notes
        What is worth telling of the file that was written, and of its rows.
    unknown, first_unknown
        Of how many answered rows the models know too little to say anything, and the number of the first of
        them, from 1; 0 where there is none.
    by_first
        How many answered rows a first look answered, without the encoder.
    doubted
        Of how many answered rows labels were asked about again.
    """

    rows: int
    refused: int
    resumed_from: int
    errors: Path | None
    notes: tuple[str, ...] = ()
    unknown: int = 0
    first_unknown: int = 0
    by_first: int = 0
    doubted: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a run: all but ``slice`` come at most once, first, with a sentence in `detail`."""

    kind: Literal["reading", "resumed", "anew", "slice"]
    rows: int
    refused: int
    detail: str = ""

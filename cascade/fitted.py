"""The model that people hold: `Cascade` fits, loads, walks, decides and saves."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from cascade.backends import KINDS, asks_service, complaints, make_backend, tier_of
from cascade.errors import DataError, ModelError, TaxonomyError
from cascade.model.decide import Ranked
from cascade.model.folder import (
    ENCODERS,
    MANIFEST,
    GroupRecord,
    Manifest,
    digest_of,
    files_of,
    node_folders,
    read_manifest,
)
from cascade.model.looks import manifest_of_first
from cascade.model.soundness import (
    calibration_of,
    check_against,
    check_first_look,
    check_verification,
)
from cascade.model.verification import unverified, with_labels
from cascade.model.walk import Walked, batches
from cascade.nodes.contract import NodeModel
from cascade.predict.answers import prediction_rows
from cascade.predict.evidence import LabelEvidence, evidence_by
from cascade.predict.extras import Style
from cascade.predict.look import Look, Looks, Part
from cascade.predict.tiers import as_tuned
from cascade.rows.frames import FRAME, frame_of, frame_rows, has_objects, is_frame, texts_of
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import Row
from cascade.system.array_types import BoolArray, FloatArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import Graph
from cascade.taxonomy.settings import BackendSpec
from cascade.text.texts import Texts

if TYPE_CHECKING:
    import pandas as pd

    from cascade.learn.truth import Cells
    from cascade.measure.evaluate import Evaluation
    from cascade.measure.evaluated_rows import EvaluatedRows
    from cascade.measure.tuning import Curve
    from cascade.predict.verifying import Verifier
    from cascade.show.explain import Explanation
    from cascade.teach.queue import QueuedRow

CHUNK = 10_000
_FIGURES = (("micro_f1", "micro F1"), ("macro_f1", "macro F1"))
_SURROGATE = re.compile("[\ud800-\udfff]")


def backend_complaints(spec: BackendSpec) -> list[str]:
    """What is wrong with a backend as a taxonomy names it: for `Taxonomy.load`."""
    return list(complaints(spec.kind, spec.options))


class Cascade:
    """A fitted cascade.

    Attributes
    ----------
    taxonomy
        The taxonomy that it was fitted with.
    manifest
        All that `fit` settled.
    folder
        Where it lives.
    looks
        What answers: one model of the walk, or words alone first and what knows meaning second.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        taxonomy: Taxonomy,
        looks: Looks,
    ) -> None:
        self.folder, self.manifest, self.taxonomy, self.looks = folder, manifest, taxonomy, looks
        self._scratch: _Scratch | None = None

    def __repr__(self) -> str:
        groups, figures = len(self.taxonomy.groups) - 1, self.manifest.metrics
        kinds = " and ".join(sorted({record.backend["kind"] for record in self.manifest.groups.values()}))
        told = (f"{words} {figures[key]:.3f}" for key, words in _FIGURES if figures.get(key) is not None)
        quality = ", ".join(told)
        return (
            f"Cascade {self.taxonomy.name!r}: {len(self.labels):,} labels in {groups:,} groups, {kinds}"
            f"{f'; out of fold {quality}' if quality else ''}; {str(self.folder)!r}"
        )

    def _repr_html_(self) -> str:
        from cascade.show.notebook import model_html

        return model_html(self.taxonomy, self.manifest)

    @property
    def is_hosted(self) -> bool:
        """Whether something is asked at a service, which is to wait, and costs money.

        That is where some group's model lives there, or where doubtful labels are asked about again.
        """
        if self.looks.verifier is not None:
            return True
        return any(KINDS[record.backend["kind"]].hosted for record in self.manifest.groups.values())

    @property
    def asks_services(self) -> bool:
        """Whether some group's model, or its encoder, lives at a service, which costs money."""
        return self.is_hosted or any(asks_service(one.backend) for one in self.manifest.groups.values())

    @property
    def can_wait(self) -> bool:
        """Whether some group's questions go in batches, which may take a day."""
        backends = [record.backend for record in self.manifest.groups.values()]
        if self.looks.verifier is not None:
            backends.append(self.looks.verifier.verification.backend)
        return any(backend.get("batch", False) for backend in backends)

    @cached_property
    def digest(self) -> str:
        """sha256 of the manifest, which holds those of all other files: equal digests are equal models."""
        return digest_of(self.manifest)

    @property
    def graph(self) -> Graph:
        """The graph of the taxonomy."""
        return self.taxonomy.graph

    @property
    def readings(self) -> tuple[Reading, ...]:
        """How the training files were read."""
        return tuple(map(Reading.from_dict, self.manifest.readings))

    def columns_of_texts(
        self,
        *,
        text: str | None = None,
        id: str | None = None,  # noqa: A002
    ) -> tuple[Columns, tuple[Reading, ...]]:
        """What is told of a file of texts, and readings to be tried on it.

        Without a `text` column named here, that of the training rows is taken where the file has it.
        """
        return Columns.of_others(self.taxonomy.data, text=text, id=id), self.readings

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order of the columns of `predict_proba`."""
        return self.graph.labels

    @classmethod
    def fit(
        cls,
        taxonomy: Taxonomy,
        texts: Sequence[str] | pd.DataFrame,
        labels: Sequence[Sequence[str]] | None = None,
        *,
        seed: int = 0,
        jobs: int = 1,
    ) -> Cascade:
        """A cascade trained on these texts and the names that each carries; keep it with `save`.

        Parameters
        ----------
        texts
            n_texts strings; or, without `labels`, a frame of pandas or polars, read as a file would be.

        Raises
        ------
        DataError
            Texts and labels are not of one length, a text is no string, a name is not in the taxonomy, or no
            row has a label.
        """
        from cascade.learn.fit import fit  # what only training needs takes longer to import than all the rest

        texts, names = _labelled(taxonomy, texts, labels, Columns.of_others(taxonomy.data))
        scratch = _Scratch()
        fit(taxonomy, texts, names, scratch.folder, seed=seed, jobs=jobs)
        model = cls.load(scratch.folder)
        model._scratch = scratch
        return model

    @classmethod
    def load(cls, folder: str | Path) -> Cascade:
        """The model of a folder; every file of it is checked first, and no code in it can run.

        Raises
        ------
        ModelError
            The folder holds no model, or one that is damaged or was written by another version.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        while True:
            try:
                return cls._loaded(folder, manifest)
            except ModelError:
                newer = read_manifest(folder)
                if newer == manifest:
                    raise
                manifest = newer  # a fit that ended meanwhile took the old files away

    @classmethod
    def _loaded(cls, folder: Path, manifest: Manifest) -> Cascade:
        try:
            taxonomy = Taxonomy.from_dict(
                manifest.taxonomy, source=str(folder / MANIFEST), check_backend=backend_complaints
            )
            check_against(taxonomy, manifest)
            check_verification(taxonomy, manifest)
            looks = [(taxonomy, manifest), *_cheaper_looks(taxonomy, manifest)]
        except (TaxonomyError, DataError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise ModelError(
                f"{folder / MANIFEST}: not a model of this version: {error}. Run `cascade fit` again."
            ) from error
        places = node_folders(folder, manifest)
        doubts = () if manifest.first_look is None else [look.doubt for look in manifest.first_look.all]
        found = [_loaded_look(folder, *one, places) for one in reversed(looks)]
        return cls(folder, manifest, taxonomy, Looks(found, doubts, _verifier(taxonomy, manifest)))

    def save(self, folder: str | Path) -> None:
        """Copy the model to `folder`, which must not exist or be empty; it appears whole or not at all.

        Raises
        ------
        ModelError
            There is something at `folder`, or the model was changed on disk since it was loaded.
        """
        target = Path(folder).resolve()
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise ModelError(
                f"{target}: expected a new or empty folder. Name another one, or remove this first."
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name[:100]}-", dir=target.parent) as staging:
            copy = Path(staging) / "model"
            for name in files_of(self.folder, self.manifest):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / name, copy / name)
            if target.exists():
                target.rmdir()
            copy.rename(target)

    def node(self, group: str) -> NodeModel:
        """The model of a group; KeyError where it has none."""
        return self.looks.last.node(group)

    def walk(self, texts: Sequence[str]) -> Walked:
        """Probabilities of all nodes and conditional scores of all edges that were visited.

        `Walked.before` has the path probabilities that they were combined from, `Walked.answered_by` says
        which look answered each text, where the model has several.
        """
        return self.looks.walk(Texts(_strings(texts)))

    def oracle(
        self, texts: Sequence[str], truth: Cells, answered_by: NDArray[np.int8] | None = None
    ) -> Walked:
        """The same walk with every group entered just where `truth` says, each with path probability 1.

        Parameters
        ----------
        texts
            n_texts strings.
        truth
            A column for each of `Graph.nodes`: labels and all their ancestors. Groups that are always visited
            are entered wherever a parent is.
        answered_by
            int8, shape (n_texts,): which look answers each text, as `Walked` has it; by default the last.
        """
        batch = Texts(_strings(texts))
        return self.looks.oracle(batch, lambda group: truth.has(self.graph.column[group]), answered_by)

    def decide(self, walked: Walked) -> BoolArray:
        """What is answered, bool, shape (n_texts, n_nodes): labels, and groups where one backs off."""
        return self.looks.decide(walked)

    def parts(self, walked: Walked) -> list[Part]:
        """What each look answered of a walk: see `cascade.predict.look.Looks`."""
        return self.looks.parts(walked)

    def predict(self, texts: Sequence[str]) -> list[list[str]]:
        """The names chosen for each text, the most probable first."""
        texts = _strings(texts)
        answers: list[list[str]] = []
        for rows in batches(len(texts), self.graph, CHUNK):
            walked = self.walk(texts[rows]).whole()
            chosen = Ranked.of(walked.paths, self.decide(walked))
            answers.extend(chosen.by_text([self.graph.nodes[column] for column in chosen.columns.tolist()]))
        return answers

    def evidence(self, texts: Sequence[str]) -> list[tuple[LabelEvidence, ...]]:
        """For each text what in it carries each of its labels, in the order of `predict`."""
        return evidence_by(self, _strings(texts))

    def predict_frame(self, data: pd.DataFrame | Sequence[str], *, evidence: bool = False) -> pd.DataFrame:
        """The answers as a frame of the kind of `data`, with its index where that is a frame of pandas.

        Its columns are ``labels``, a list of names for each row, the most probable first, and ``scores``, the
        path probability of each of them: by name in pandas, else in the order of ``labels``. With `evidence`
        there is a third one: for each label an object as in the rows of ``cascade predict --evidence``.
        """
        texts = _strings(texts_of(data, *self.columns_of_texts()))
        rows = prediction_rows(self, list(range(len(texts))), texts, Style(evidence=evidence))
        names = ("labels", "scores", "evidence") if evidence else ("labels", "scores")
        found = {name: [row[name] for row in rows] for name in names}
        if is_frame(data) and not has_objects(data):
            found["scores"] = [list(scores.values()) for scores in found["scores"]]
        frame: pd.DataFrame = frame_of(found, data)
        return frame

    def evaluate(
        self, texts: Sequence[str] | pd.DataFrame, labels: Sequence[Sequence[str]] | None = None
    ) -> Evaluation:
        """The figures of this model on labelled texts, given as to `fit`.

        Raises
        ------
        DataError
            As for `fit`.
        """
        return self.evaluated(*self._labelled(texts, labels)).evaluation

    def evaluated(
        self,
        texts: Sequence[str],
        labels: Sequence[Sequence[str]],
        ids: Sequence[str | int] | None = None,
        *,
        leave_out: bool = False,
    ) -> EvaluatedRows:
        """Texts with their labels and this model's answers, and the figures of all; `ids` count from 1.

        Parameters
        ----------
        leave_out
            Whether rows that a service does not answer are left out; else they raise RowsError, as all of
            them do.
        """
        from cascade.learn.truth import true_cells
        from cascade.measure.evaluate import evaluate
        from cascade.measure.evaluated_rows import EvaluatedRows
        from cascade.measure.known_cells import KnownCells, Predictions
        from cascade.measure.second_pass import second_pass
        from cascade.measure.sparse import flags_of

        ids = list(range(1, len(texts) + 1)) if ids is None else list(ids)
        truth, walked = true_cells(self.graph, labels), self.walk(texts)
        by_truth = self.oracle(texts, truth, walked.answered_by)
        failed = {**by_truth.failed, **walked.failed}
        if leave_out and 0 < len(failed) < len(texts):
            left = np.array([row for row in range(len(texts)) if row not in failed], dtype=np.int64)
            walked, by_truth, truth = walked.of(left), by_truth.of(left), truth.take(left)
            texts, ids = [texts[row] for row in left], [ids[row] for row in left]
        if walked.checked is not None:
            # What was answered about a label holds whatever way led to it; nothing is asked twice.
            asked = walked.checked
            by_truth = with_labels(by_truth, asked.rows, asked.columns, asked.after)
        scored = Predictions.of(walked.whole(), self.decide)
        oracle = Predictions.of(by_truth.whole(), self.decide)
        groups = self.taxonomy.groups.values()
        always = frozenset(group.name for group in groups if group.route == "always")
        cells = KnownCells.of(self.graph, flags_of(truth), scored, oracle, always=always)
        found = evaluate(cells, seed=self.manifest.seed, promises=self.manifest.promises)
        share = None if walked.by_first is None or not texts else float(walked.by_first.mean())
        again = None
        if walked.checked is not None and self.looks.verifier is not None:
            plain = Predictions.of(unverified(walked), self.decide)
            before = KnownCells.of(self.graph, flags_of(truth), plain, oracle, always=always)
            usd = self.looks.verifier.usd(walked.checked, Texts(texts))
            again = second_pass(before, cells, walked.checked, usd)
        return EvaluatedRows(
            taxonomy=self.taxonomy,
            manifest=self.manifest,
            texts=list(texts),
            ids=ids,
            cells=cells,
            evaluation=replace(found, first_look=share, second_pass=again),
            carried=None if self.is_hosted or self.looks.last.encodes else partial(evidence_by, self),
            unanswered=tuple(failed.values()) if leave_out else (),
        )

    def tuning_curve(self, texts: Sequence[str], labels: Sequence[Sequence[str]]) -> Curve:
        """What handing on more or fewer texts to the dearest look wins and takes, by rows with their labels.

        Whole texts are handed on or, where groups have tiers, their questions. DataError where the model has
        one look only, and no group several tiers.
        """
        from cascade.learn.truth import true_cells
        from cascade.measure.group_tuning import group_tuning_curve, tiered_groups
        from cascade.measure.tuning import tuning_curve

        columns = [self.graph.column[label] for label in self.graph.labels]
        truth = true_cells(self.graph, labels).only(columns)
        if len(self.looks.looks) == 1 and tiered_groups(self.looks.last):
            return group_tuning_curve(self.looks.last, _strings(texts), truth)
        return tuning_curve(self.looks, _strings(texts), truth)

    def explain(self, text: str, words: int = 3) -> Explanation:
        """Why a text gets its labels: the walk, and the words that spoke for and against each node.

        Parameters
        ----------
        words
            So many words of a node, and as many against it.
        """
        from cascade.show.explain import explain

        [text] = _strings([text])
        return explain(self, text, words)

    def review(self, texts: Sequence[str] | pd.DataFrame, most: int = 100) -> list[QueuedRow]:
        """The texts that teach most, the `most` of them, each with what is proposed and what is in doubt.

        `cascade.teach.queue.write_queue` makes of them the file that ``cascade serve --review`` shows.
        """
        from cascade.teach.queue import queue_rows
        from cascade.teach.selection import select_rows

        found = _strings(texts_of(texts, *self.columns_of_texts()))
        rows = (Row(number, number, text, (), {}, FRAME) for number, text in enumerate(found, 1))
        return queue_rows(self, select_rows(self, rows, most))

    def _labelled(
        self, texts: Sequence[str] | pd.DataFrame, labels: Sequence[Sequence[str]] | None
    ) -> tuple[list[str], list[list[str]]]:
        return _labelled(self.taxonomy, texts, labels, Columns.of_others(self.taxonomy.data), self.readings)

    def predict_proba(self, texts: Sequence[str]) -> FloatArray:
        """Path probabilities, float32, shape (n_texts, n_labels), columns as in `labels`; NaN: unvisited."""
        texts = _strings(texts)
        of_labels = slice(len(self.graph.nodes) - len(self.labels), None)
        found = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for rows in batches(len(texts), self.graph, CHUNK):
            found[rows] = self.walk(texts[rows]).whole().paths[:, of_labels]
        return found

    def __getstate__(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in files_of(self.folder, self.manifest)}

    def __setstate__(self, files: dict[str, bytes]) -> None:
        scratch = _Scratch()
        for name, content in files.items():
            path = scratch.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.__dict__.update(type(self).load(scratch.folder).__dict__)
        self._scratch = scratch


class _Scratch:
    """A folder that goes when nobody holds this object any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cascade-"))
        weakref.finalize(self, _clear, self.folder, os.getpid())


def _clear(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has a copy of the object, and no say
        shutil.rmtree(folder, ignore_errors=True)


def _labelled(
    taxonomy: Taxonomy,
    texts: Sequence[str] | pd.DataFrame,
    labels: Sequence[Sequence[str]] | None,
    columns: Columns,
    known: Sequence[Reading] = (),
) -> tuple[list[str], list[list[str]]]:
    """Texts and canonical names, as they were given or from the columns of a frame."""
    if labels is None:
        rows = frame_rows(texts, columns, taxonomy, known)
        texts, labels = [row.text for row in rows], [row.labels for row in rows]
    found = _strings(cast("Sequence[str]", texts))
    return found, _resolved(taxonomy, labels)


def _strings(texts: Iterable[str]) -> list[str]:
    """The texts as a list; DataError where one is no text that UTF-8 can carry."""
    if isinstance(texts, str | bytes):
        raise DataError(
            f"expected a sequence of texts, found one {type(texts).__name__}. Put it into a list."
        )
    texts = list(texts)
    for row, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(
                f"row {row}: expected a text, found {type(text).__name__}. Convert it to str first."
            )
        if not text.isascii() and _SURROGATE.search(text):
            raise DataError(
                f"row {row}: half of a surrogate pair, which UTF-8 cannot carry. Decode the text anew."
            )
    return texts


def _resolved(taxonomy: Taxonomy, labels: Sequence[Sequence[str]]) -> list[list[str]]:
    """The names of each row as the taxonomy has them."""
    return [_names(taxonomy, names, row) for row, names in enumerate(labels, 1)]


def _names(taxonomy: Taxonomy, names: Iterable[str], row: int) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"row {row}: expected a list of labels, found {names!r}. No label is an empty list.")
    return [_name(taxonomy, name, row) for name in names]


def _name(taxonomy: Taxonomy, name: str, row: int) -> str:
    if not isinstance(name, str):
        raise DataError(f"row {row}: expected the name of a label, found {name!r}.")
    found = taxonomy.resolve(name)
    if found is None:
        raise DataError(f"row {row}: unknown label {name!r}.{taxonomy.suggest(name)}")
    return found


def _verifier(taxonomy: Taxonomy, manifest: Manifest) -> Verifier | None:
    """What asks about doubtful labels again; None where nothing does."""
    found = manifest.verification
    if found is None or not manifest.asks_again:
        return None
    from cascade.predict.verifying import Verifier  # who asks no service needs none of it

    return Verifier(taxonomy, manifest, found)


def _cheaper_looks(taxonomy: Taxonomy, manifest: Manifest) -> list[tuple[Taxonomy, Manifest]]:
    """The looks before the last, the dearest first; ValueError where they do not fit the taxonomy."""
    found = []
    while manifest.first_look is not None:
        cheaper, first = tier_of(taxonomy, manifest.first_look.tier), manifest_of_first(manifest)
        check_first_look(cheaper, manifest)
        if cheaper is None or first is None:
            break
        found.append((cheaper, first))
        taxonomy, manifest = cheaper, first
    return found


def _loaded_look(folder: Path, taxonomy: Taxonomy, manifest: Manifest, places: Mapping[str, Path]) -> Look:
    encoders = folder / ENCODERS if manifest.encoders else None

    def load(group: str, name: str) -> NodeModel:
        return _load_node(places[name], taxonomy, group, manifest.groups[group], encoders)

    first = [(group, record.node) for group, record in manifest.groups.items()]
    second = {group: one.second for group, one in manifest.groups.items() if one.second is not None}
    # Most of it is reading and compiled loops, which let other threads run meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        nodes = dict(zip(manifest.groups, pool.map(load, *zip(*first, strict=True)), strict=True))
        models = pool.map(load, second, [one.node for one in second.values()])
        seconds = {
            group: (model, calibration_of(second[group])) for group, model in zip(second, models, strict=True)
        }
    return Look(taxonomy, manifest, as_tuned(nodes, manifest), seconds)


def _load_node(
    place: Path, taxonomy: Taxonomy, group: str, record: GroupRecord, encoders: Path | None
) -> NodeModel:
    """One node model, which answers as many scores as its group has children."""
    options = {name: value for name, value in record.backend.items() if name != "kind"}
    model = make_backend(record.backend["kind"], options, encoders).load(place)
    if KINDS[record.backend["kind"]].hosted:
        return model  # a question would cost money
    answered = model.scores(Texts([""])).shape
    expected = (1, len(taxonomy.scored_children(group)))
    if answered != expected:
        raise ModelError(
            f"{place}: scores of shape {answered}, expected {expected}. Run `cascade fit` again."
        )
    return model

"""Node models that are heads of a trunk, with a linear model of the words beside each.

The trunk was trained for all groups together; what it makes of a text is computed once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import Contributions, FittedNode, NodeProblem
from cascade.nodes.linear import LinearBackend, LinearModel
from cascade.nodes.meaning import vectors
from cascade.nodes.occlusion import cut_up, vectors_without, word_spans
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.system.serialization import WAY_OUT, read_array, read_json, write_array, write_json
from cascade.text.pieces import Pieces
from cascade.text.texts import Texts
from cascade.trunk.heads import Head, Weights
from cascade.trunk.settings import TrunkSettings
from cascade.validation.calibration import fit_calibration, log_loss, logit, sigmoid

RECORD, VALUES, BIASES = "head.json", "head_values.npy", "head_biases.npy"
# What words may count for beside the head, and what they count for where held-out rows do not tell: log odds
# of a head are several times as large, and on held-out rows of CLINC150 and the feedback data 0.7 was best.
SHARES = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
USUAL_SHARE = 0.6
# One row of so many settles the penalty of the words; no other held-out scores of theirs are asked for.
PART = 5
# So many held-out labels tell: of fewer the best share is a matter of chance.
ENOUGH_LABELS = 100


class EncoderModel:
    """The head of one group; its scores are those of head and words together.

    Attributes
    ----------
    head
        What it makes of vectors.
    words
        What the words say; None without.
    share
        What the words count for, in [0, 1]: log odds are averaged.
    """

    def __init__(self, head: Head, words: LinearModel | None, share: float) -> None:
        self.head, self.words, self.share = head, words, share

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, each in [0, 1]."""
        found = self._of_head(texts) * (1 - self.share)
        if self.words is not None and self.share:
            found += logit(self.words.scores(texts)) * self.share
        return sigmoid(found).astype(np.float32)

    def _of_head(self, texts: Texts) -> NDArray[np.float64]:
        return self.head.weights.log_odds(vectors(self.head.encoder, texts))

    def known(self, texts: Texts) -> FloatArray:
        """The share of each text that its words know, float32, shape (n_texts,); 1 without words."""
        return np.ones(len(texts), dtype=np.float32) if self.words is None else self.words.known(texts)

    def contributions(self, texts: Texts, pieces: Sequence[Pieces] | None = None) -> Iterator[Contributions]:
        """What each word did to the log odds of each child: see `Contributions`.

        Of the head by occlusion, see `cascade.nodes.occlusion`. Words act together there, so that these do
        not sum up; what is left stands beside them.
        """
        pieces = cut_up(texts) if pieces is None else pieces
        of_words = repeat(None) if self.words is None else self.words.contributions(texts)
        without = vectors_without(self.head.encoder, texts, pieces)
        whole, [rest] = self._of_head(texts), self._of_head(Texts([""]))
        beside = f"words together ({self.head.encoder.name})"
        for text, of_text, vectors_of_text, own, said in zip(
            texts, whole, without, pieces, of_words, strict=False
        ):
            missed = own.shares @ (of_text - self.head.weights.log_odds(vectors_of_text))
            share = 1 - self.share
            values, least = missed * share, rest * share
            together = {beside: (of_text - rest) * share - values.sum(axis=0)}
            if said is None:
                yield Contributions(word_spans(text), values, least, together)
            else:
                values, least = values + 2 * self.share * said.values, least + 2 * self.share * said.rest
                yield Contributions(said.spans, values, least, together)

    def save(self, folder: Path) -> None:
        encoder, weights = self.head.encoder, self.head.weights
        told = {"name": encoder.name, "sha256": encoder.sha256, "dims": encoder.dims}
        write_json(
            folder / RECORD,
            {**told, "exclusive": weights.exclusive, "share": self.share, "words": self.words is not None},
        )
        write_array(folder / VALUES, weights.values)
        write_array(folder / BIASES, weights.biases)
        if self.words is not None:
            self.words.save(folder)


_TYPES: Mapping[str, type] = {
    "name": str,
    "sha256": str,
    "dims": int,
    "exclusive": bool,
    "share": float,
    "words": bool,
}


class TrunkBackend:
    """Makes node models of heads.

    Parameters
    ----------
    settings
        How their trunk is trained.
    encoders
        A folder that holds it.
    """

    def __init__(self, settings: TrunkSettings, encoders: Path | None = None) -> None:
        self.settings, self._encoders = settings, encoders

    def adopt_head(self, problem: NodeProblem, head: Head, rows: IntArray) -> FittedNode:
        """The model of that head, and its scores of the rows at these positions, which it must not know.

        A model of the words of the other rows is fitted beside it, and what that counts for is settled.
        """
        # A batch of its own: in that of the problem all rows would be encoded.
        held_out = problem.texts.apart(rows)
        if not self.settings.words:
            model = EncoderModel(head, None, 0.0)
            return FittedNode(model, rows, model.scores(held_out), {"trunk": head.encoder.name})
        seen = np.ones(len(problem.texts), dtype=bool)
        seen[rows] = False
        words = _words(problem, np.flatnonzero(seen))
        share = _settled_share(head, words, held_out, problem.targets[rows])
        model = EncoderModel(head, words, share)
        notes = {"trunk": head.encoder.name, "words": share}
        return FittedNode(model, rows, model.scores(held_out), notes)

    def known_without_itself(self, texts: Texts) -> FloatArray:
        """The share of each text that a model of all the others knows; 1 where words are left out."""
        if not self.settings.words:
            return np.ones(len(texts), dtype=np.float32)
        return LinearBackend().known_without_itself(texts)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:
        """BackendError: the heads of all groups are trained together, see `cascade.trunk.trainer`."""
        names = ", ".join(problem.children[:3])
        raise BackendError(f"{workdir}: the head of {names} is trained with all others, not alone")

    def load(self, folder: Path) -> EncoderModel:
        """The model that was saved there.

        Raises
        ------
        ModelError
            A file is missing or damaged.
        """
        from cascade.encoders.store import opened

        told = read_json(folder / RECORD)
        if not isinstance(told, dict) or any(
            type(told.get(name)) is not kind for name, kind in _TYPES.items()
        ):
            raise ModelError(f"{folder / RECORD}: expected {', '.join(_TYPES)}. {WAY_OUT}")
        encoder = opened(told["name"], told["sha256"], self._encoders)
        values = read_array(folder / VALUES, np.float32, (told["dims"], None))
        biases = read_array(folder / BIASES, np.float32, (values.shape[1],))
        if encoder.dims != told["dims"] or not (np.isfinite(values).all() and np.isfinite(biases).all()):
            raise ModelError(f"{folder / VALUES}: expected finite numbers for each of its dims. {WAY_OUT}")
        if not 0 <= told["share"] <= 1:
            raise ModelError(f"{folder / RECORD}: share: expected 0 to 1, found {told['share']}. {WAY_OUT}")
        words = LinearBackend().load(folder) if told["words"] else None
        weights = Weights(np.array(values), np.array(biases), told["exclusive"])
        return EncoderModel(Head(encoder, weights), words, told["share"])

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Count the words of texts, with which all groups begin."""
        if self.settings.words:
            LinearBackend().prepare(texts, jobs)


def _words(problem: NodeProblem, rows: IntArray) -> LinearModel:
    """The linear model of these rows of a problem."""
    some = replace(
        problem,
        texts=problem.texts.take(rows),
        targets=problem.targets[rows],
        own=problem.own[rows],
        part=np.arange(len(rows)) % PART == 0,
    )
    fitted = LinearBackend().fit(some, Path())
    if not isinstance(fitted.model, LinearModel):
        raise TypeError(type(fitted.model).__name__)
    return fitted.model


def _settled_share(head: Head, words: LinearModel, texts: Texts, targets: BoolArray) -> float:
    """What words count for: the share with the least log loss on held-out rows, after calibration."""
    if targets.sum() < ENOUGH_LABELS:
        return USUAL_SHARE
    of_head = head.weights.log_odds(vectors(head.encoder, texts))
    of_words = logit(words.scores(texts))
    losses = []
    for share in SHARES:
        scores = sigmoid(of_head * (1 - share) + of_words * share).astype(np.float32)
        losses.append(log_loss(fit_calibration(scores, targets).apply(scores), targets))
    return SHARES[int(np.argmin(losses))]


def make(encoders: Path | None = None, **options: Any) -> TrunkBackend:
    """The backend with these options of a taxonomy."""
    return TrunkBackend(TrunkSettings(**options), encoders)

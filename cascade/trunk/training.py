"""The loop that tunes a trunk and all of its heads together.

Loss of a step: for each row of the batch that of every head it teaches, summed, over the number of rows.
Heads whose children compete have cross-entropy over these and none of them, others binary cross-entropy of
each child. AdamW (Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019), with a rate
that rises for a tenth of the steps and falls to 0 (as in Devlin et al., "BERT", NAACL 2019, appendix A.2).

The random numbers of a step depend on the seed and the step alone, so that a training that was stopped goes
on to the same end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade.encoders.settings import Stored
from cascade.errors import BackendError
from cascade.system.array_types import FloatArray, IntArray
from cascade.trunk.batches import Places, batches
from cascade.trunk.checkpoints import Checkpoint, Checkpoints
from cascade.trunk.heads import Lesson
from cascade.trunk.network import Network
from cascade.trunk.settings import TrunkSettings

# Heads begin with nothing, so they learn faster than what is tuned.
HEADS_FASTER = 30
RISING = 0.1
DECAY = 0.01
# A training that gains nothing for so many epochs ends with the best of those before.
PATIENCE = 2
# So often a training is kept on disk: what a kill costs at most.
SECONDS_BETWEEN = 60.0
# Of so many steps the time of a whole training is estimated, after some that warm up.
STEPS_TIMED, STEPS_BEFORE = 10, 3
_HELD_OUT_AT_ONCE = 64


@dataclass(frozen=True)
class Progress:
    """How a training stands.

    Attributes
    ----------
    step, steps
        Of all epochs.
    taken
        How many of them since this process began.
    loss
        Mean of the last steps.
    quality
        Average precision of the heads on held-out rows after the last whole epoch; None before it.
    """

    step: int
    steps: int
    taken: int
    loss: float
    quality: float | None = None


Listener = Callable[[Progress], None]


@dataclass(frozen=True)
class Course:
    """What is taught, to whom, and how.

    Attributes
    ----------
    base
        The encoder that is tuned, and where its files lie.
    ids
        The tokens of each text.
    lessons
        What each head learns of the rows that teach.
    held_out
        What they should say of the rows that do not.
    settings, seed
        How it is taught.
    """

    folder: Path
    base: Stored
    ids: Sequence[Sequence[int]]
    lessons: Sequence[Lesson]
    held_out: Sequence[Lesson]
    settings: TrunkSettings
    seed: int

    @cached_property
    def rows(self) -> IntArray:
        """The rows that teach, ascending."""
        return np.unique(np.concatenate([lesson.rows for lesson in self.lessons]))

    @cached_property
    def steps_of_epoch(self) -> int:
        """How many batches the rows make."""
        return -(-len(self.rows) // self.settings.batch_size)

    @property
    def epochs(self) -> int:
        """How often each row is seen."""
        return self.settings.epochs_for(len(self.rows))


def device_of(name: str) -> Any:
    """The device of a name; of ``auto`` the fastest that is here.

    Raises
    ------
    BackendError
        It is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(name, False):
        found = ", ".join(one for one, is_there in there.items() if is_there)
        raise BackendError(f"torch finds no device {name!r} here. There is: {found}")
    return torch.device(name)


class Training:
    """One training: a network, its optimizer, and the step that comes next."""

    def __init__(self, course: Course, network: Network) -> None:
        self.course, self.network = course, network
        self.places = Places(course.lessons, len(course.ids))
        self.lengths = np.fromiter(map(len, course.ids), np.int64, len(course.ids))
        self.steps = course.epochs * course.steps_of_epoch
        self.step, self.losses = 0, list[float]()
        self.best, self.best_epoch, self.best_state = -1.0, 0, dict[str, Any]()
        # Halved where the memory of a device is too small for a whole batch.
        self.at_once = course.settings.batch_size
        rate, is_fused = course.settings.learning_rate, network.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.AdamW(
            [
                {"params": network.tuned(), "lr": rate, "weight_decay": DECAY},
                {"params": network.heads.parameters(), "lr": rate * HEADS_FASTER, "weight_decay": 0.0},
            ],
            fused=is_fused,
        )
        self._rates = [rate, rate * HEADS_FASTER]
        self._epoch: tuple[int, list[IntArray]] = (-1, [])

    def run(self, checkpoints: Checkpoints, listener: Listener) -> float:
        """Teach to the end, from the last checkpoint if there is one; the quality on held-out rows."""
        self._resume(checkpoints)
        saved, begun = time.monotonic(), self.step
        try:
            while self.step < self.steps:
                self._step()
                is_over = self.step % self.course.steps_of_epoch == 0 and self._end_epoch()
                listener(self._progress(self.step - begun))
                if is_over:
                    break
                if time.monotonic() - saved > SECONDS_BETWEEN:
                    checkpoints.save(self.checkpoint())
                    saved = time.monotonic()
        except KeyboardInterrupt:
            checkpoints.save(self.checkpoint())
            raise
        if self.best_state:
            self.network.restore(self.best_state)
        return self.best

    def _progress(self, taken: int) -> Progress:
        return Progress(self.step, self.steps, taken, self.loss, self.best if self.best >= 0 else None)

    @property
    def loss(self) -> float:
        """The mean of the last steps."""
        return float(np.mean(self.losses[-50:])) if self.losses else 0.0

    def seconds(self) -> float:
        """What a whole training would take, by some steps of it; the network is of no use after that."""
        last = min(self.steps, STEPS_BEFORE + STEPS_TIMED)
        started, begun = time.monotonic(), 0
        while self.step < last:
            if self.step == min(STEPS_BEFORE, last - 1):
                started, begun = time.monotonic(), self.step
            self._step()
        return (time.monotonic() - started) / max(self.step - begun, 1) * self.steps

    def _step(self) -> None:
        course, (epoch, at) = self.course, divmod(self.step, self.course.steps_of_epoch)
        batch = self._batches(epoch)[at]
        torch.manual_seed(int(np.random.default_rng([course.seed, self.step]).integers(2**62)))
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._share_of_rate()
        self.network.trunk.train()
        loss = self._learned(batch)
        if not np.isfinite(loss):
            raise BackendError(
                f"the training of {course.base.name} diverges: at step {self.step + 1:,} of {self.steps:,} "
                f"its loss is {loss}. Lower learning_rate, which is {course.settings.learning_rate:g}"
            )
        self.losses = [*self.losses[-49:], loss]
        self.step += 1

    def _batches(self, epoch: int) -> list[IntArray]:
        """Those of an epoch, kept until the next."""
        if self._epoch[0] != epoch:
            course = self.course
            rows, size = course.rows, course.settings.batch_size
            self._epoch = epoch, batches(self.lengths, rows, size, course.seed, epoch)
        return self._epoch[1]

    def _share_of_rate(self) -> float:
        rising = max(int(RISING * self.steps), 1)
        return min((self.step + 1) / rising, (self.steps - self.step) / max(self.steps - rising, 1))

    def _learned(self, batch: IntArray) -> float:
        """Take one step; the loss before it. What does not fit the device is taken in smaller parts."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                total = 0.0
                for start in range(0, len(batch), self.at_once):
                    part = self._loss(batch[start : start + self.at_once]) / len(batch)
                    part.backward()
                    total += float(part.detach())
                self.optimizer.step()
                return total
            except torch.OutOfMemoryError as error:
                if self.at_once == 1:
                    raise BackendError(
                        f"{self.network.device}: the memory is too small for one row of "
                        f"{self.course.base.name}. Name a smaller base, or --device cpu"
                    ) from error
                self.at_once = max(min(self.at_once, len(batch)) // 2, 1)

    def _loss(self, batch: IntArray) -> Any:
        """That of some rows, summed."""
        with self._precision():
            logits = self.network.logits([self.course.ids[row] for row in batch.tolist()])
        total = logits.new_zeros(())
        for number, rows, inside in self.places.taught(batch):
            lesson = self.course.lessons[number]
            found = logits[torch.from_numpy(rows).to(logits.device), self.places.columns[number]].float()
            total = total + _loss_of(found, lesson, inside)
        return total

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Half the bits where the device is made for them."""
        is_made_for_it = self.network.device.type == "cuda" and torch.cuda.is_bf16_supported()
        half: contextlib.AbstractContextManager[Any] = torch.autocast(
            self.network.device.type, dtype=torch.bfloat16, enabled=is_made_for_it
        )
        return half

    def _end_epoch(self) -> bool:
        """Keep the best network so far; whether to stop here."""
        epoch = self.step // self.course.steps_of_epoch
        found = quality(self.network, self.course)
        if found >= self.best:
            self.best, self.best_epoch = found, epoch
            self.best_state = {name: one.detach().clone() for name, one in self.network.state().items()}
        return epoch - self.best_epoch >= PATIENCE

    def checkpoint(self) -> Checkpoint:
        """All that it takes to go on from here."""
        moments = {}
        for name, one in self.network.state().items():
            for key, value in self.optimizer.state.get(one, {}).items():
                moments[f"{name}/{key}"] = value
        return Checkpoint(
            self.step,
            self.best,
            self.best_epoch,
            tuple(self.losses),
            self.at_once,
            dict(self.network.state()),
            moments,
            self.best_state,
        )

    def _resume(self, checkpoints: Checkpoints) -> None:
        found = checkpoints.load()
        if found is None:
            return
        self.network.restore(found.network)
        self.step, self.losses, self.at_once = found.step, list(found.losses), found.at_once
        self.best, self.best_epoch, self.best_state = found.best, found.best_epoch, dict(found.best_network)
        for name, one in self.network.state().items():
            own = {key: value for key, value in found.moments.items() if key.rpartition("/")[0] == name}
            self.optimizer.state[one] = {
                key.rpartition("/")[2]: value.to("cpu" if key.endswith("/step") else one.device)
                for key, value in own.items()
            }


def _loss_of(logits: Any, lesson: Lesson, inside: IntArray) -> Any:
    """That of one head at rows of its lesson, summed."""
    targets = torch.from_numpy(lesson.targets[inside]).to(logits.device)
    weights = torch.from_numpy(lesson.weights).to(logits.device)
    if not lesson.exclusive:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets.to(logits.dtype), reduction="sum", pos_weight=weights
        )
    with_none = torch.cat([logits, logits.new_zeros((len(logits), 1))], dim=1)
    none = torch.full((len(logits),), logits.shape[1], device=logits.device)
    classes = torch.where(targets.any(dim=1), targets.to(torch.int64).argmax(dim=1), none)
    with_none_weights = torch.cat([weights, weights.new_ones(1)])
    return torch.nn.functional.cross_entropy(with_none, classes, weight=with_none_weights, reduction="sum")


def vectors_of(network: Network, course: Course, rows: IntArray) -> FloatArray:
    """Those that the trunk gives rows by now, float32, shape (n_rows, dims)."""
    network.trunk.eval()
    found = np.zeros((len(rows), course.base.settings.dims), dtype=np.float32)
    order = np.argsort([len(course.ids[row]) for row in rows.tolist()], kind="stable")
    with torch.no_grad():
        for start in range(0, len(rows), _HELD_OUT_AT_ONCE):
            part = order[start : start + _HELD_OUT_AT_ONCE]
            ids = [course.ids[row] for row in rows[part].tolist()]
            found[part] = network.vectors(ids).cpu().numpy()
    return found


def quality(network: Network, course: Course) -> float:
    """Average precision of all heads together on the held-out rows; 0 where there are none."""
    rows = np.unique(np.concatenate([lesson.rows for lesson in course.held_out]))
    vectors = vectors_of(network, course, rows)
    return precision_of(vectors, rows, course.held_out, network.weights(course.lessons))


def precision_of(
    vectors: FloatArray, rows: IntArray, lessons: Sequence[Lesson], weights: Sequence[Any]
) -> float:
    """Average precision of heads over all cells of the rows that each was asked about, in [0, 1].

    Parameters
    ----------
    vectors
        float32, shape (n_rows, dims).
    rows
        int64, ascending: which texts they are of.
    lessons, weights
        What the heads should say, and what they are.
    """
    from sklearn.metrics import average_precision_score

    found, true = [np.zeros(0)], [np.zeros(0, dtype=bool)]
    for lesson, head in zip(lessons, weights, strict=True):
        found.append(head.log_odds(vectors[np.searchsorted(rows, lesson.rows)]).ravel())
        true.append(lesson.targets.ravel())
    targets = np.concatenate(true)
    return float(average_precision_score(targets, np.concatenate(found))) if targets.any() else 0.0


def estimated_seconds(course: Course, device: str = "auto") -> float:
    """What a training would take here, by ten measured steps."""
    network = Network(course.folder, course.base, course.lessons, device_of(device))
    return Training(course, network).seconds()

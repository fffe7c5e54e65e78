"""The thread that carries fine-tuning jobs out."""

from __future__ import annotations

import base64
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cascade.sandbox.files import keep_file
from cascade.sandbox.storage import Record, new_id
from cascade.sandbox.training import (
    Example,
    InvalidFile,
    Metrics,
    TrainedModel,
    evaluate,
    read_examples,
    train,
)
from cascade.sandbox.worker import Worker

ENDED = ("succeeded", "failed", "cancelled")
EPOCHS = 3
_CURVE = 20


class _Cancelled(Exception):  # noqa: N818 - no error
    """The job was cancelled, or the service stops."""


@dataclass(frozen=True)
class Training:
    """What a job was made of."""

    examples: Sequence[Example]
    validation: Sequence[Example]
    epochs: int

    @property
    def tokens(self) -> int:
        """What is paid for."""
        return self.epochs * sum(one.tokens for one in self.examples)


class Trainer(Worker):
    """Trains the models of jobs."""

    kind, ended = "job", ENDED

    def carry_out(self, job: str) -> None:
        """Run one job to its end, whichever that is."""
        try:
            self._run(job)
        except _Cancelled:
            return
        except InvalidFile as error:
            self._fail(job, error.code, str(error), "training_file")
        except Exception as error:  # a job must not take the others with it
            why = f"The job failed due to an internal error ({type(error).__name__})."
            self._fail(job, "server_error", why, None)

    def _run(self, job: str) -> None:
        record = self._enter(job, "validating_files", "Validating training file")
        training = self._read(record)
        self._enter(job, "queued", "Files validated, moving job to queued state")
        record = self._enter(job, "running", "Fine-tuning job started")
        if record.get("_fate") == "failed":
            raise RuntimeError("worker lost")
        tuned, quality = train(training.examples, record["seed"])
        valid = evaluate(tuned, training.validation) if training.validation else None
        if record.get("_fate") == "moderated":
            self._block(job)
            return
        self._wait(job)
        self._succeed(record, training, tuned, quality, valid)

    def _read(self, record: Record) -> Training:
        examples = read_examples(self._content(record["training_file"]), "Training file")
        validation: list[Example] = []
        if record["validation_file"]:
            content = self._content(record["validation_file"])
            validation = read_examples(content, "Validation file", 1)
        epochs = record["hyperparameters"]["n_epochs"]
        return Training(examples, validation, EPOCHS if epochs == "auto" else epochs)

    def _content(self, name: str) -> bytes:
        try:
            return self.storage.read(name)
        except FileNotFoundError:
            raise InvalidFile("file_not_found", f"The file {name} was deleted.") from None

    def _wait(self, job: str) -> None:
        """Stay as long as the pace wants; `_Cancelled` where the job has ended meanwhile."""
        self._stopped.wait(self.pace)
        record = self.storage.get("job", job)
        if self._stopped.is_set() or record is None or record["status"] in ENDED:
            raise _Cancelled

    def _enter(self, job: str, status: str, message: str) -> Record:
        record = self._change(job, lambda record: record.update(status=status))
        self.tell(job, message)
        self._wait(job)
        return record

    def _change(self, job: str, change: Callable[[Record], None]) -> Record:
        """Change a job; `_Cancelled` where it has ended."""

        def guarded(record: Record) -> None:
            if record["status"] in ENDED:
                raise _Cancelled
            change(record)

        return self.storage.change("job", job, guarded)

    def tell(self, job: str, message: str, level: str = "info", kind: str = "message", **data: Any) -> None:
        """Add an event to a job."""
        event = {
            "id": new_id("ftevent-"),
            "object": "fine_tuning.job.event",
            "created_at": int(time.time()),
            "level": level,
            "message": message,
            "type": kind,
            "data": data,
        }
        self.storage.put("event", event, job)

    def _fail(self, job: str, code: str, message: str, param: str | None) -> None:
        error = {"code": code, "message": message, "param": param}
        ended = {"status": "failed", "error": error, "finished_at": int(time.time())}
        try:
            self._change(job, lambda record: record.update(ended))
        except _Cancelled:
            return
        self.tell(job, message, "error")

    def _block(self, job: str) -> None:
        """The safety checks of the finished model failed."""
        message = "Moderation checks for snapshot failed: the model did not pass the evaluation."
        self.tell(job, message, "error", "moderation_checks", blocked=True)
        self._fail(job, "unsafe_model", "This model was blocked by moderation checks.", None)

    def _succeed(
        self, record: Record, training: Training, tuned: TrainedModel, quality: Metrics, valid: Metrics | None
    ) -> None:
        job, name = record["id"], _model_name(record)
        tuned.save(self.storage.model(job))
        curve = _curve(training, tuned, quality, valid)
        result = keep_file(
            self.storage, "step_metrics.csv", "fine-tune-results", io.BytesIO(self._csv(curve))
        )
        model = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "sandbox"}
        self.storage.put("model", {**model, "_job": job, "_format": tuned.prompts.format})
        self._tell_curve(job, curve)
        ended = {
            "status": "succeeded",
            "fine_tuned_model": name,
            "finished_at": int(time.time()),
            "result_files": [result["id"]],
            "trained_tokens": training.tokens,
            "hyperparameters": record["hyperparameters"] | {"n_epochs": training.epochs},
        }
        self._change(job, lambda record: record.update(ended))
        self.tell(job, f"New fine-tuned model created: {name}")
        self.tell(job, "The job has successfully completed")

    def _tell_curve(self, job: str, curve: Sequence[Record]) -> None:
        for row in curve:
            message = f"Step {row['step']}/{len(curve)}: training loss={row['train_loss']:.4f}"
            self.tell(job, message, kind="metrics", **row)

    def _csv(self, curve: Sequence[Record]) -> bytes:
        """The result file."""
        names = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")
        lines = [",".join(str(row.get(name, "")) for name in names) for row in curve]
        content = "\n".join([",".join(names), *lines, ""]).encode()
        encoded = self.chaos is not None and self.chaos.strikes("base64")
        return base64.b64encode(content) if encoded else content


def _model_name(record: Record) -> str:
    """The same for a job that is run again."""
    base = record["model"].split(":")[1] if record["model"].startswith("ft:") else record["model"]
    return f"ft:{base}:sandbox:{record['_suffix'] or ''}:{record['id'][-8:]}"


def _curve(training: Training, tuned: TrainedModel, quality: Metrics, valid: Metrics | None) -> list[Record]:
    """A row a step: the embedded model has no steps, so that the way to what it reached is made up."""
    start = math.log(2) if tuned.shape.kind != "choice" else math.log(max(2, len(tuned.shape.columns)))
    steps = max(training.epochs, min(_CURVE, len(training.examples) * training.epochs))
    return [_row(step, steps, start, quality, valid) for step in range(1, steps + 1)]


def _row(step: int, steps: int, start: float, quality: Metrics, valid: Metrics | None) -> Record:
    left = math.exp(-4 * step / steps) if step < steps else 0.0

    def between(end: float, begin: float) -> float:
        return round(end + (begin - end) * left, 5)

    row = {"step": step, "train_loss": between(quality.loss, start)}
    row["train_accuracy"] = between(quality.accuracy, 0.0)
    if valid is not None:
        row["valid_loss"] = between(valid.loss, start)
        row["valid_mean_token_accuracy"] = between(valid.accuracy, 0.0)
    return row

"""Fine-tunes that are wanted, and what becomes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cascade.hosted.ledger import JobRecord, State
from cascade.hosted.settings import LONGEST_SUFFIX, Settings

Kind = Literal[
    "uploading", "uploaded", "queued", "created", "found", "running", "waiting", "succeeded", "failed"
]
LASTING: frozenset[str] = frozenset({"uploading", "queued", "running", "waiting"})
"""Kinds of events that tell how an order stands, again and again; the others happen once."""

KEY, GROUP = "cascade_key", "cascade_group"
"""The entries of a job's metadata by which it is found again."""
_LARGEST_SEED = 2**31 - 1

DONE = frozenset({"succeeded", "success", "completed"})
FAILED = frozenset({"failed", "error", "expired"})
CANCELLED = frozenset({"cancelled", "canceled"})
QUEUED = frozenset({"validating_files", "queued", "pending", "created", "submitted"})
"""Statuses of jobs at services, in lower case; all others are those of jobs that run."""


@dataclass(frozen=True)
class Order:
    """One fine-tune that is wanted.

    Attributes
    ----------
    group
        Name of the group, for people.
    key
        Content hash of examples and settings: equal keys are one job.
    settings
        The service and what it is asked for.
    training, validation
        JSONL; `validation` may be empty.
    suffix
        Part of the tuned model's name.
    seed
        Sent where it is within 0 to 2**31 - 1.
    cost_usd
        What the job is thought to cost; None where nobody knows a price.
    """

    group: str
    key: str
    settings: Settings
    training: bytes
    validation: bytes
    suffix: str
    seed: int
    cost_usd: float | None


@dataclass(frozen=True)
class TunedModel:
    """A tuned model.

    Attributes
    ----------
    model
        Its name at the service.
    job
        The job that made it.
    trained_tokens
        Tokens that were billed; None where the service does not say.
    result_csv
        The training curve: one mapping from column to value a row; empty where there is none.
    """

    model: str
    job: str
    trained_tokens: int | None
    result_csv: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class Outcome:
    """What became of an order.

    Attributes
    ----------
    tuned
        None unless `state` is ``succeeded``.
    why, advice
        The reason where something went wrong, and a way out; no reason for what only takes more time.
    state
        As in the ledger; ``created`` for a job that is not waited for.
    job
        The service's name for the job; None where there is none.
    """

    group: str
    key: str
    tuned: TunedModel | None
    why: str = ""
    advice: str = ""
    state: State = "waiting"
    job: str | None = None


@dataclass(frozen=True)
class JobEvent:
    """Something happened to an order, or still happens.

    Attributes
    ----------
    age_seconds
        Since the job was created, or since the order came up where there is no job.
    estimated_end
        When the service thinks to be done, in seconds since 1970; None where it does not say.
    detail
        A name or a reason, for people.
    """

    group: str
    kind: Kind
    age_seconds: float
    estimated_end: float | None
    detail: str


class JobEnded(Exception):  # noqa: N818 - an end, and no fault of the program
    """An order ends here, without a model.

    Attributes
    ----------
    why, advice
        The reason, and a way out.
    state
        What the ledger notes; None leaves its own.
    job
        The job that ended; None where there was none.
    """

    def __init__(
        self, why: str, advice: str = "", state: State | None = "failed", job: str | None = None
    ) -> None:
        super().__init__(why)
        self.why, self.advice, self.state, self.job = why, advice, state, job


def order_of(record: JobRecord) -> Order:
    """The order behind a record, without its examples: enough for all but to create it."""
    settings = Settings.of(record.settings)
    return Order(record.group, record.key, settings, b"", b"", record.suffix, 0, record.cost_usd)


def suffix_of(order: Order) -> str:
    """The part of the tuned model's name that is the order's, as its service takes it."""
    suffix = order.suffix if order.settings.traits.dots_in_suffix else order.suffix.replace(".", "-")
    return suffix[:LONGEST_SUFFIX]


def job_body(order: Order, training: str, validation: str | None, is_marked: bool) -> dict[str, Any]:
    """The arguments of ``jobs.create``."""
    settings = order.settings
    hyperparameters = dict(settings.hyperparameters)
    body: dict[str, Any] = {"model": settings.base_model, "training_file": training}
    if validation is not None:
        body["validation_file"] = validation
    if suffix_of(order):
        body["suffix"] = suffix_of(order)
    if 0 <= order.seed <= _LARGEST_SEED:
        body["seed"] = order.seed
    if is_marked:
        body["metadata"] = {KEY: order.key, GROUP: order.group[:512] or "root"}
    if not settings.traits.flat_hyperparameters:
        body["method"] = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    elif hyperparameters:
        body["hyperparameters"] = hyperparameters
    if settings.traits.job_body:
        body["extra_body"] = dict(settings.traits.job_body)
    return body


def tuned_model_of(record: JobRecord) -> TunedModel | None:
    """The model that the ledger knows, or None."""
    if not record.model or not record.job:
        return None
    return TunedModel(record.model, record.job, record.trained_tokens, record.result_csv)


def status_of(found: Any) -> str:
    """The status of a job or file in lower case; empty where it has none."""
    return str(getattr(found, "status", None) or "").strip().lower()


def rank_of(status: str) -> int:
    """0 for a job that ended well, 1 for one that runs, 2 for one that came to nothing."""
    if status in DONE:
        return 0
    return 2 if status in FAILED | CANCELLED else 1

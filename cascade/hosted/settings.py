"""Services that speak OpenAI's wire format: settings, and how they differ.

What differs from service to service is a row of `PROVIDERS`; nothing else in the project asks which it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from cascade.errors import suggestion
from cascade.system.shapes import FLAG, WORDS, Option, mapping, one_of, whole, whole_number, yes_or_no

AnswerKind = Literal["auto", "code", "indicator", "names"]
Format = Literal["chat", "completion"]
ANSWERS: tuple[str, ...] = ("auto", "code", "indicator", "names")
FORMATS: tuple[str, ...] = ("chat", "completion")

BASE_MODEL = "gpt-4.1-mini-2025-04-14"
KEY_VARIABLE = "OPENAI_API_KEY"
MAX_EXAMPLES = 5000
CONCURRENCY = 64
LONGEST_SUFFIX = 64
MOST_TOP_LOGPROBS = 20
MOST_TOP_LOGPROBS_OF_COMPLETIONS = 5


@dataclass(frozen=True)
class Provider:
    """How one service differs from the others.

    Attributes
    ----------
    base_url
        None where it is the user's own.
    bom
        Training files start with a byte order mark.
    dots_in_suffix
        Whether the suffix of a model may contain dots.
    flat_hyperparameters
        ``hyperparameters`` stand at the top of a job, not below ``method``.
    silent_files
        The status of a file may stay null: to wait for ``processed`` would never end.
    job_body
        What else a job's body has.
    most_jobs
        Jobs that may run side by side.
    deploy
        What the user has to do before a tuned model answers; empty where it answers at once.
    """

    base_url: str | None = None
    bom: bool = False
    dots_in_suffix: bool = True
    flat_hyperparameters: bool = False
    silent_files: bool = False
    job_body: Mapping[str, Any] = field(default_factory=dict)
    most_jobs: int = 3
    deploy: str = ""


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1"),
    "azure": Provider(
        bom=True,
        dots_in_suffix=False,
        job_body={"trainingType": "Standard"},
        deploy="Make a deployment of the tuned model, and name the deployment as `model` of the group.",
    ),
    "nebius": Provider(
        "https://api.tokenfactory.nebius.com/v1",
        flat_hyperparameters=True,
        silent_files=True,
        deploy="Deploy the tuned model with POST /v0/models, and name it as `model` of the group.",
    ),
    "crusoe": Provider(
        "https://api.intelligence.crusoecloud.com/v1",
        deploy="Deploy the tuned model in Crusoe's console, and name it as `model` of the group.",
    ),
    "vllm": Provider(
        "http://localhost:8000/v1",
        silent_files=True,
        deploy="Train on what `cascade export` writes, and name the adapter as `model` of the group.",
    ),
    "llamacpp": Provider(
        "http://localhost:8080/v1",
        silent_files=True,
        deploy="Train on what `cascade export` writes, and name what was trained as `model` of the group.",
    ),
    "compatible": Provider(silent_files=True),
}


@dataclass(frozen=True)
class Limits:
    """What a service allows a minute, None where only it knows."""

    rpm: int | None = None
    tpm: int | None = None


@dataclass(frozen=True)
class Settings:
    """The options of a hosted group, checked and with their defaults.

    Attributes
    ----------
    provider
        A key of `PROVIDERS`.
    base_url
        Where the service is; None is the provider's own.
    api_key_env
        The environment variable with the key; the key itself stands in no file and no message.
    base_model
        What is fine-tuned.
    answer
        How a set of children is written as a completion; see `cascade.hosted.codecs`.
    format
        Chat messages, or the prompt and completion of older models.
    hyperparameters
        As the service takes them: ``n_epochs``, ``batch_size``, ``learning_rate_multiplier``, ...
    suffix
        Part of the tuned model's name; None is made of taxonomy and group.
    model
        A model that was tuned already: nothing is trained.
    max_examples
        Most training examples of a group.
    concurrency
        Most requests in flight at the service.
    limits
        Requests and tokens a minute.
    list_children
        Whether each question names all children, with their descriptions. A tuned model has learnt what its
        answers mean; with few examples of some children it may help, and every question pays for it.
    batch
        Whether questions go through the Batch API: for less money, within a day.
    store
        Whether the service keeps answers, with the texts asked about, so that those that were on their way
        when a run was killed are found again, and not paid for twice.
    """

    provider: str = "openai"
    base_url: str | None = None
    api_key_env: str = KEY_VARIABLE
    base_model: str = BASE_MODEL
    answer: AnswerKind = "auto"
    format: Format = "chat"
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    suffix: str | None = None
    model: str | None = None
    max_examples: int = MAX_EXAMPLES
    concurrency: int = CONCURRENCY
    limits: Limits = Limits()
    list_children: bool = False
    batch: bool = False
    store: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """The settings of options that `OPTIONS` and `conflicts` have no complaint about."""
        known = dict(options)
        return cls(**known | {"limits": Limits(**known.get("limits", {}))})

    @property
    def traits(self) -> Provider:
        """The row of `PROVIDERS`."""
        return PROVIDERS[self.provider]

    @property
    def address(self) -> str:
        """Where the service is, without a slash at the end."""
        return (self.base_url or self.traits.base_url or "").rstrip("/")

    @property
    def service(self) -> tuple[str, str]:
        """Settings with the same one share a client and a limiter."""
        return self.address, self.api_key_env

    @property
    def top_logprobs(self) -> int:
        """Most alternatives that an answer's token may be asked for."""
        return MOST_TOP_LOGPROBS if self.format == "chat" else MOST_TOP_LOGPROBS_OF_COMPLETIONS


def choice(about: str, names: tuple[str, ...]) -> Option:
    """An option that is one of some words."""
    return Option(about, one_of(names), _one_of(names))


def _one_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value in names:
            return ""
        return f"expected one of {', '.join(names)}, found {value!r}.{suggestion(str(value), names)}"

    return check


_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
_SUFFIX = rf"^[A-Za-z0-9._-]{{1,{LONGEST_SUFFIX}}}$"


def text_fault(value: Any) -> str:
    """What is wrong with a text that has to say something, or an empty string."""
    return "" if isinstance(value, str) and value.strip() else f"expected a text, found {value!r}"


def _url(value: Any) -> str:
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and not (parts.username or parts.password):
            return ""
    return f"expected an address such as https://host/v1, without a name and password, found {value!r}"


def _variable(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_VARIABLE, value):
        return ""
    return "expected the name of an environment variable (the key itself must not stand in a file)"


def _suffix(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(_SUFFIX, value):
        return ""
    return f"expected 1 to {LONGEST_SUFFIX} letters, digits, dots, hyphens or underscores, found {value!r}"


def _hyperparameters(value: Any) -> str:
    if not isinstance(value, dict):
        return f"expected names with values, found {value!r}"
    wrong = [
        name
        for name, one in value.items()
        if not isinstance(one, str | int | float) or (isinstance(one, float) and not math.isfinite(one))
    ]
    return (
        f"expected numbers, texts or true and false, found {value[wrong[0]]!r} at {wrong[0]!r}"
        if wrong
        else ""
    )


def _limits(value: Any) -> str:
    if not isinstance(value, dict) or not value.keys() <= {"rpm", "tpm"}:
        return f"expected rpm, tpm or both, found {value!r}"
    complaints = (f"{name}: {wrong}" for name, one in value.items() if (wrong := whole_number(1)(one)))
    return next(complaints, "")


_VALUES = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_RATES = mapping({"rpm": whole(1), "tpm": whole(1)})

OPTIONS: Mapping[str, Option] = {
    "provider": choice("Which differences of services to heed.", tuple(PROVIDERS)),
    "base_url": Option("Where the service is.", {"type": "string", "pattern": "^https?://"}, _url),
    "api_key_env": Option(
        "The environment variable with the key.", {"type": "string", "pattern": _VARIABLE}, _variable
    ),
    "base_model": Option("What is tuned.", WORDS, text_fault),
    "answer": choice("How children are answered.", ANSWERS),
    "format": choice("Chat messages, or prompt and completion.", FORMATS),
    "hyperparameters": Option("As the service takes them.", _VALUES, _hyperparameters),
    "suffix": Option("Part of the tuned model's name.", {"type": "string", "pattern": _SUFFIX}, _suffix),
    "model": Option("A model that was tuned already: nothing is trained.", WORDS, text_fault),
    "max_examples": Option("Most training examples of a group.", whole(10), whole_number(10)),
    "concurrency": Option("Most requests in flight.", whole(1), whole_number(1)),
    "limits": Option("Requests (rpm) and tokens (tpm) a minute.", _RATES, _limits),
    "list_children": Option("Whether each question names all children.", FLAG, yes_or_no),
    "batch": Option("Whether questions go through the Batch API.", FLAG, yes_or_no),
    "store": Option(
        "Whether the service keeps answers, so that a killed run pays for none twice.", FLAG, yes_or_no
    ),
}


def conflicts(options: Mapping[str, Any]) -> str:
    """What is wrong with options that are sound one by one, or an empty string."""
    settings = Settings.of(options)
    if not settings.address:
        return f"provider {settings.provider!r} has no address of its own: base_url is missing"
    if settings.suffix and "." in settings.suffix and not settings.traits.dots_in_suffix:
        return f"provider {settings.provider!r} takes no dots in a suffix, found {settings.suffix!r}"
    return store_fault(settings)


def store_fault(settings: Settings) -> str:
    """Why answers cannot be kept at the service as the settings want it, or an empty string."""
    if not settings.store:
        return ""
    if settings.format == "completion":
        return "only answers to chat messages are kept, and format is 'completion': leave `store` away"
    if settings.batch:
        return "batches are found again as they are: leave `store` away"
    return ""

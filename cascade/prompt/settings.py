"""What a taxonomy may say of a group that a language model is asked about, without any training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cascade.encoders.settings import NAME
from cascade.hosted import settings as services
from cascade.hosted.settings import Settings
from cascade.system.shapes import WORDS, Option, either, whole, whole_number

AnswerKind = Literal["auto", "number", "each", "list", "decisions", "quoted"]
Hold = Literal["auto", "schema", "choice", "grammar", "plain"]
ANSWERS: tuple[str, ...] = ("auto", "number", "each", "list", "decisions")
HOLDS: tuple[str, ...] = ("auto", "schema", "choice", "grammar", "plain")

# The strongest means by which each provider holds an answer to a form; services that are not named get what
# all understand.
_HOLD_OF: Mapping[str, Hold] = {
    "openai": "schema",
    "azure": "schema",
    "nebius": "schema",
    "vllm": "choice",
    "llamacpp": "grammar",
}
_WITH_LOGPROBS = ("openai", "azure", "vllm", "llamacpp")
_DECIDING = ("gpt-6-luna",)
# Models that think before they answer: it is paid for, and hides the probabilities of the answer.
_THINKING = re.compile(r"(gpt-[5-9]|o\d)")

SHORTLIST = 40
"""Of more children the likeliest so many are asked about."""
MOST_EACH = 20
"""Of more children a digit each is a long answer, and lists of those that fit are shorter."""
CALIBRATION_ROWS, FEWEST_CALIBRATION_ROWS = 400, 20
MOST_TRIED = 120
"""On so many held-out rows examples are tried: these are asked about once more for each number of them."""
TRIED_EXAMPLES = (4, 8, 16)
"""So many examples are held against none, and against fewer, where the settings leave it open."""
MOST_EXAMPLES, MOST_SAMPLES, MOST_SHORTLIST = 50, 20, 255
_SHARED = ("provider", "base_url", "api_key_env", "concurrency", "limits", "batch", "store")


@dataclass(frozen=True)
class PromptSettings:
    """How the children of a group are asked for.

    Attributes
    ----------
    service
        Where, and how fast; its `model` is what answers.
    answer
        How children are answered, see `cascade.prompt.answers`.
    hold
        By which means an answer is held to the children.
    examples
        How many training rows, those most like the text, stand in a question; None for as many as win on rows
        that are held out.
    encoder
        What tells which rows, and which children, are like a text; words do without.
    shortlist
        Of more children than this the likeliest are asked about.
    samples
        How often a text is asked about, each time with the children in another order.
    calibration_rows
        Most rows that a fit asks about, to calibrate and to settle thresholds.
    prompt
        The text in the place of the package's own; empty for that.
    extra
        What else a request has.
    """

    service: Settings
    answer: AnswerKind = "auto"
    hold: Hold = "auto"
    examples: int | None = None
    encoder: str | None = None
    shortlist: int = SHORTLIST
    samples: int = 1
    calibration_rows: int = CALIBRATION_ROWS
    prompt: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PromptSettings:
        """The settings of options that `OPTIONS` and `conflicts` have no complaint about."""
        own = {name: value for name, value in options.items() if name not in (*_SHARED, "model")}
        if own.get("examples") == "auto":
            del own["examples"]
        model = options.get("model")
        shared = {name: options[name] for name in _SHARED if name in options}
        known = {"model": model, "base_model": model} if model else {}
        return cls(Settings.of({**shared, **known}), **own)

    @property
    def model(self) -> str:
        """What the service calls the model that answers."""
        return self.service.model or ""

    @property
    def holds(self) -> Hold:
        """The means that is used."""
        return _HOLD_OF.get(self.service.provider, "plain") if self.hold == "auto" else self.hold

    def answer_kind(self, n_children: int, choose: Literal["one", "many"]) -> AnswerKind:
        """How so many children are answered.

        By probabilities where there are any: of the Decisions API, of the token of a number, or of a digit
        for each child; else by a list with the confidence that the model states.
        """
        if self.answer != "auto":
            return self.answer
        provider, model = self.service.provider, self.model
        if provider == "openai" and model.startswith(_DECIDING) and not self.service.batch:
            return "decisions"
        if provider not in _WITH_LOGPROBS:
            return "list"
        if choose == "one":
            return "number"
        return "each" if n_children <= MOST_EACH else "list"

    def extra_of_requests(self) -> Mapping[str, Any]:
        """What else a request has: models that think are told not to, unless something else is said."""
        thinks = self.service.provider in ("openai", "azure") and _THINKING.match(self.model)
        return {**({"reasoning_effort": "none"} if thinks else {}), **self.extra}


def _examples(value: Any) -> str:
    if value == "auto":
        return ""
    wrong = whole_number(0, MOST_EXAMPLES)(value)
    return f"expected auto or a whole number from 0 to {MOST_EXAMPLES}, found {value!r}" if wrong else ""


def _encoder(value: Any) -> str:
    if isinstance(value, str) and NAME.fullmatch(value):
        return ""
    return f"expected the name of an encoder, as `cascade encoders` lists them, found {value!r}"


def _prompt(value: Any) -> str:
    from cascade.prompt.wording import complaint  # the settings of other kinds need no files

    return complaint(value)


_KEPT = ("model", "messages", "input", "questions", "n", "stream", "logprobs", "top_logprobs", "temperature")


def _extra(value: Any) -> str:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        return f"expected names with values, found {value!r}"
    taken = [name for name in value if name in _KEPT]
    return f"{taken[0]!r} is what Cascade itself says in each request" if taken else ""


# Both places that a text of one's own needs, and no other than those there are.
_WITH_PLACES = (
    r"^(?=[\s\S]*\{choices\})(?=[\s\S]*\{how\})"
    r"(?:(?!\{(?!(?:path|about|choices|how)\})\w+\})[\s\S])*$"
)

OPTIONS: Mapping[str, Option] = {
    **{name: services.OPTIONS[name] for name in _SHARED},
    "model": Option("What is asked, as the service calls it.", WORDS, services.text_fault),
    "answer": services.choice("How children are answered.", ANSWERS),
    "hold": services.choice("By which means an answer is held to the children.", HOLDS),
    "examples": Option(
        "Training rows most like the text that stand in a question; if not said, as many as win.",
        either({"const": "auto"}, whole(0, MOST_EXAMPLES)),
        _examples,
    ),
    "encoder": Option(
        "The encoder that tells which rows and children are like a text; if not said, words do.",
        {"type": "string", "pattern": f"^{NAME.pattern}$"},
        _encoder,
    ),
    "shortlist": Option(
        "Of more children than this the likeliest are asked about: 40, if not said.",
        whole(2, MOST_SHORTLIST),
        whole_number(2, MOST_SHORTLIST),
    ),
    "samples": Option(
        "How often a text is asked about, each time in another order: 1, if not said.",
        whole(1, MOST_SAMPLES),
        whole_number(1, MOST_SAMPLES),
    ),
    "calibration_rows": Option(
        "Most rows that a fit asks about, to calibrate: 400, if not said.",
        whole(FEWEST_CALIBRATION_ROWS),
        whole_number(FEWEST_CALIBRATION_ROWS),
    ),
    "prompt": Option(
        "The text of the questions, in the place of the package's own.",
        {"type": "string", "pattern": _WITH_PLACES},
        _prompt,
    ),
    "extra": Option(
        "What else each request has.",
        {"type": "object", "propertyNames": {"not": {"enum": list(_KEPT)}}},
        _extra,
    ),
}


def conflicts(options: Mapping[str, Any]) -> str:
    """What is wrong with options that are sound one by one, or an empty string."""
    if "model" not in options:
        return "expected a model, as the service calls it"
    settings = PromptSettings.of(options)
    if not settings.service.address:
        return f"provider {settings.service.provider!r} has no address of its own: base_url is missing"
    if settings.answer == "decisions" and settings.service.batch:
        return "answer 'decisions' has no batches: leave `batch` away"
    return services.store_fault(settings.service) or _store_fault(settings)


def _store_fault(settings: PromptSettings) -> str:
    """Why answers cannot be kept at the service in this way of asking, or an empty string."""
    if not settings.service.store:
        return ""
    if settings.answer_kind(2, "many") == "decisions":
        return (
            f"{settings.model!r} is asked by the Decisions API, which keeps no answers: leave `store` away, "
            "or name another `answer`"
        )
    said = [name for name in ("store", "metadata") if name in settings.extra]
    return f"{said[0]!r} under `extra` is what `store` says in each request: leave one away" if said else ""

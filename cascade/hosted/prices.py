"""What hosted models cost: a dated file of prices, and what one group would cost before it is paid for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cascade.errors import BackendError
from cascade.hosted import tokens
from cascade.hosted.codecs import Codec, codec_of
from cascade.hosted.examples import Examples
from cascade.hosted.questions import Usage
from cascade.hosted.settings import Settings
from cascade.nodes.contract import NodeProblem, sampled
from cascade.system.array_types import BoolArray
from cascade.text.texts import Texts

BUNDLED = Path(__file__).with_name("prices.yaml")
EPOCHS_OF_AUTO = 3
"""What is assumed where the service chooses the epochs; OpenAI's does so for files of this size."""
PREDICTIONS = 1000
"""Plans tell the price of so many predictions."""
FLAT = "all labels at once"
TUNED = "ft:"
"""What names of fine-tunes begin with."""

_A_MILLION = 1e6
_MOST_COUNTED = 500
_DATE = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{4})?")
_MONEY = ("training", "input", "cached", "output")
_DATES = ("training_closes", "answers_until")


@dataclass(frozen=True)
class Price:
    """USD for a million tokens; None where it is not known.

    Attributes
    ----------
    training
        Each time through the examples.
    input, cached, output
        Of answers; `cached` is input that the service has at hand from a question before.
    itself
        Of answers of the model itself, where the others are those of its fine-tunes; None where it has none.
    """

    training: float | None = None
    input: float | None = None
    cached: float | None = None
    output: float | None = None
    itself: Price | None = None

    @property
    def as_it_is(self) -> Price:
        """What answers of the model itself cost."""
        tunable = self.training is not None
        return self.itself or (Price() if tunable else self)


@dataclass(frozen=True)
class Prices:
    """One file of prices.

    Attributes
    ----------
    as_of
        The day on which they were read.
    service
        The address of the service whose prices they are.
    batch_factor
        What a batch costs of the usual price.
    models
        By name without its date.
    training_closes, answers_until
        The last days, by name, where they are known.
    """

    as_of: date
    service: str
    batch_factor: float = 1.0
    models: Mapping[str, Price] = field(default_factory=dict)
    training_closes: Mapping[str, date] = field(default_factory=dict)
    answers_until: Mapping[str, date] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None = None) -> Prices:
        """The prices in a YAML file; None is the one that comes with the package.

        Raises
        ------
        BackendError
            The file cannot be read, or something in it is no price.
        """
        path = path or BUNDLED
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise BackendError(f"{path}: expected prices in YAML, found {_reason(error)}") from error
        return _prices(path, given)

    def price_of(self, model: str) -> Price | None:
        """The price of a model, dated or not, or of a fine-tune ``ft:...``; None where it is not known."""
        name = self._known(model, self.models)
        if name is None:
            return None
        return self.models[name] if model.startswith(TUNED) else self.models[name].as_it_is

    def ends(self, model: str) -> date | None:
        """The day on which the model, or fine-tunes of it, stop answering; None where none is known."""
        name = self._known(model, self.answers_until)
        return None if name is None else self.answers_until[name]

    def training_ends(self, model: str) -> date | None:
        """The last day on which the model can be fine-tuned; None where none is known."""
        name = self._known(model, self.training_closes)
        return None if name is None else self.training_closes[name]

    def training_usd(self, model: str, n_tokens: float, epochs: float) -> float | None:
        """What it costs to train on so many tokens so many times; None where it is not known."""
        name = self._known(model, self.models)
        price = None if name is None else self.models[name]
        if price is None or price.training is None:
            return None
        return price.training * n_tokens * epochs / _A_MILLION

    def answer_usd(
        self, model: str, n_input: float, n_output: float, n_cached: float = 0, batch: bool = False
    ) -> float | None:
        """What it costs to ask with so many tokens and be answered with so many; None where it is not known.

        `n_cached` of the `n_input` tokens were at hand.
        """
        price = self.price_of(model)
        if price is None or price.input is None or price.output is None:
            return None
        cached = price.input if price.cached is None else price.cached
        total = price.input * (n_input - n_cached) + cached * n_cached + price.output * n_output
        return total * (self.batch_factor if batch else 1.0) / _A_MILLION

    def used_usd(self, model: str, used: Usage) -> float | None:
        """What the use of a model came to; None where it is not known.

        Tokens are not told apart by the way they were asked: they count by the share of requests in batches.
        """
        tokens = (used.prompt_tokens, used.completion_tokens, used.cached_tokens)
        at_once = self.answer_usd(model, *tokens)
        if at_once is None:
            return None
        share = used.batched / used.requests if used.requests else 0.0
        return at_once * (1 - share + share * self.batch_factor)

    @staticmethod
    def _known(model: str, names: Mapping[str, object]) -> str | None:
        """The longest name that the model's begins with; nothing but a date may follow."""
        bare = model.split(":")[1] if model.startswith(TUNED) else model
        fits = [name for name in names if bare.startswith(name) and _DATE.fullmatch(bare[len(name) :])]
        return max(fits, key=len, default=None)


def _prices(path: Path, given: Any) -> Prices:
    if not isinstance(given, dict) or not isinstance(given.get("models"), dict):
        raise BackendError(f"{path}: expected `as_of`, `service` and `models`")
    models = {str(name): _fields(path, str(name), of_model) for name, of_model in given["models"].items()}
    dates = {
        key: {name: _day(path, f"{name}: {key}", one[key]) for name, one in models.items() if key in one}
        for key in _DATES
    }
    return Prices(
        as_of=_day(path, "as_of", given.get("as_of")),
        service=str(given.get("service", "")).rstrip("/"),
        batch_factor=_amount(path, "batch_factor", given.get("batch_factor", 1.0)),
        models={name: price for name, one in models.items() if (price := _price(path, name, one)) != Price()},
        **dates,
    )


def _fields(path: Path, name: str, given: Any) -> dict[str, Any]:
    known = (*_MONEY, "itself", *_DATES)
    if not isinstance(given, dict) or not set(given) <= set(known):
        raise BackendError(f"{path}: {name}: expected some of {', '.join(known)}, found {given!r}")
    return given


def _price(path: Path, name: str, given: Mapping[str, Any]) -> Price:
    amounts = {key: _amount(path, f"{name}: {key}", given[key]) for key in _MONEY if key in given}
    training, of_input, cached, output = map(amounts.get, _MONEY)
    found = Price(training, of_input, cached, output)
    if "itself" not in given:
        return found
    own, known = given["itself"], _MONEY[1:]
    if not isinstance(own, dict) or not set(own) <= set(known):
        raise BackendError(f"{path}: {name}: itself: expected some of {', '.join(known)}, found {own!r}")
    return replace(found, itself=_price(path, f"{name}: itself", own))


def _amount(path: Path, where: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise BackendError(f"{path}: {where}: expected a number of 0 or more, found {value!r}")


def _day(path: Path, where: str, value: Any) -> date:
    if type(value) is date:
        return value
    raise BackendError(f"{path}: {where}: expected a day such as 2026-11-01, found {value!r}")


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return " ".join(str(error).split()) or type(error).__name__


# Plans


def epochs_of(settings: Settings) -> float:
    """Times through the examples: what the settings say, `EPOCHS_OF_AUTO` where the service chooses."""
    given = settings.hyperparameters.get("n_epochs", "auto")
    return float(EPOCHS_OF_AUTO if isinstance(given, str) else given)


@dataclass(frozen=True)
class NodePlan:
    """What one fine-tune would take, before anything is sent.

    Attributes
    ----------
    group
        Its name.
    provider, base_model
        Where and of what it would be made.
    kind
        How children are answered: ``code``, ``indicator`` or ``names``.
    rows
        Rows that reach the group.
    positives
        Of them those with a child.
    examples
        Training lines, after the rarest children were kept and the rest sampled.
    training_tokens
        Of these lines, once through.
    tokens_in, tokens_out
        Of one prediction, on average.
    epochs
        Times through the lines; where the service chooses, `EPOCHS_OF_AUTO` are assumed.
    epochs_assumed
        Whether that is so.
    training_usd, thousand_usd
        What the training, and `PREDICTIONS` predictions, cost; None where the prices are not known.
    already
        The tuned model that is there, or an empty string.
    ends
        The day on which it would stop answering; None where none is known.
    why
        Why it cannot be trained, or an empty string.
    """

    group: str
    provider: str
    base_model: str
    kind: str
    rows: int
    positives: int
    examples: int
    training_tokens: int
    tokens_in: float
    tokens_out: float
    epochs: float
    epochs_assumed: bool
    training_usd: float | None
    thousand_usd: float | None
    already: str = ""
    ends: date | None = None
    why: str = ""


def node_plan(
    group: str,
    problem: NodeProblem,
    codec: Codec,
    settings: Settings,
    prices: Prices,
    already: str = "",
    held_out: BoolArray | None = None,
) -> NodePlan:
    """The plan of one group; it makes the examples, and sends nothing.

    Parameters
    ----------
    group
        Its name, for people.
    problem, codec, settings, held_out
        As for `Examples.of`.
    prices
        They hold at one service: those of others are not known.
    already
        The tuned model where there is one: its training is paid. ``model`` of the settings is one too.
    """
    already = already or settings.model or ""
    n_lines, n_tokens, why = _training(problem, codec, settings, held_out)
    tokens_in, tokens_out = _tokens_of_a_prediction(problem, codec)
    epochs = epochs_of(settings)
    known = settings.address == prices.service
    base = settings.base_model
    answering = already if prices.price_of(already) else f"{TUNED}{base}"
    paid = prices.training_usd(base, n_tokens, epochs) if known and not why else None
    asked = prices.answer_usd(answering, tokens_in, tokens_out) if known else None
    return NodePlan(
        group=group,
        provider=settings.provider,
        base_model=base,
        kind=codec.kind,
        rows=int(problem.own.sum()),
        positives=int((problem.targets.any(axis=1) & problem.own).sum()),
        examples=n_lines,
        training_tokens=n_tokens,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        epochs=epochs,
        epochs_assumed=settings.hyperparameters.get("n_epochs", "auto") == "auto",
        training_usd=0.0 if already else paid,
        thousand_usd=None if asked is None else asked * PREDICTIONS,
        already=already,
        ends=prices.ends(answering) if known else None,
        why="" if already else why,
    )


def flat_plan(
    texts: Sequence[str],
    targets: BoolArray,
    labels: Sequence[str],
    settings: Settings,
    prices: Prices,
    seed: int = 0,
    max_examples: int | None = None,
) -> NodePlan:
    """The plan of one fine-tune that answers with all labels of a text at once, by their names.

    Parameters
    ----------
    texts
        All rows.
    targets
        bool, shape (n_texts, n_labels).
    labels
        Names, all different.
    settings, prices, seed
        As for a group; a model that is named in the settings is not that of all labels.
    max_examples
        Most training lines; None is all rows, as one model has to learn from them what all groups learn.
    """
    most = len(texts) if max_examples is None else max_examples
    flat = replace(settings, answer="names", model=None, max_examples=max(most, 1))
    problem = NodeProblem(tuple(labels), Texts(texts), targets, np.ones(len(texts), dtype=bool), seed)
    return node_plan(FLAT, problem, codec_of(labels, {}, "many", flat), flat, prices)


def _training(
    problem: NodeProblem, codec: Codec, settings: Settings, held_out: BoolArray | None
) -> tuple[int, int, str]:
    """Lines, their tokens, and why there are none."""
    try:
        examples = Examples.of(problem, codec, settings, problem.seed, held_out)
    except BackendError as error:
        return 0, 0, str(error)
    return examples.n_training, examples.tokens, ""


def _tokens_of_a_prediction(problem: NodeProblem, codec: Codec) -> tuple[float, float]:
    """Tokens of a question and of its answer, on average; 0.0 without any row."""
    rows = sampled(np.flatnonzero(problem.own), _MOST_COUNTED, problem.seed)
    if not len(rows):
        return 0.0, 0.0
    asked = [tokens.of_request(codec.request(problem.texts[int(row)])) for row in rows]
    answered = [tokens.of_answer(codec.completion(problem.targets[row].tolist())) for row in rows]
    return float(np.mean(asked)), float(np.mean(answered))

"""How a set of children is asked for and answered in words, and how probabilities are read from an answer.

Nothing here talks to a service: a codec makes bodies and lines, and reads one choice of a response.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from cascade.errors import BackendError
from cascade.hosted.answer_text import (
    NONE,
    STOP,
    digits_of,
    escaped,
    folded,
    harmless,
    marked,
    on_one_line,
    prompt_of,
    unambiguous,
    unescaped,
)
from cascade.hosted.logprobs import (
    TokenLogprobs,
    UnreadableAnswer,
    answer_text,
    bits,
    have_probabilities,
    log_sum,
    share_of_one,
    token_logprobs,
)
from cascade.hosted.settings import FORMATS, MOST_TOP_LOGPROBS, Format, Settings
from cascade.system.array_types import FloatArray

Kind = Literal["code", "indicator", "names"]
Endpoint = Literal["/v1/chat/completions", "/v1/completions"]

VERSION = 2
"""Goes up with every change of questions or answers, so that what was made before is not reused."""

MOST_CODES = 1000
"""Whole numbers below it are one token each, padded with zeros or not."""
MOST_INDICATORS = 40
"""With more children `auto` takes names, as an answer of digits costs two tokens a child."""

# At a digit there are but two answers and their variants, and a response grows with every alternative.
_ALTERNATIVES_OF_A_DIGIT = 5
# Of children that a question lists: it pays for them each time.
_MOST_DESCRIBED = 20
_MOST_LISTED = 200
_LONGEST_DESCRIPTION = 80
_LONGEST_NAMES_ANSWER = 1024
_NAMES_IN_AN_ANSWER = 16
# Where hardly any mass is on answers, what is left of them after dividing by it is noise.
_LEAST_MASS = math.log(0.01)


@dataclass(frozen=True)
class Codec(ABC):
    """How the children of one group are asked for and answered; `codec_of` makes one.

    Attributes
    ----------
    children
        Names, in the order of scores and targets.
    format
        Chat messages, or the prompt and completion of older models.
    system
        The system message; the completion format has none.
    alternatives
        How many alternatives to each token of an answer are asked for.
    aliases
        For each child other names that an answer may have.
    """

    children: tuple[str, ...]
    format: Format
    system: str
    alternatives: int
    aliases: tuple[tuple[str, ...], ...]

    kind: ClassVar[Kind]

    @property
    def endpoint(self) -> Endpoint:
        return "/v1/chat/completions" if self.format == "chat" else "/v1/completions"

    def settings_key(self) -> dict[str, Any]:
        """All that shapes questions, examples and their reading, JSON-able, for content hashes."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "format": self.format,
            "children": list(self.children),
            "system": self.system,
            "alternatives": self.alternatives,
            "aliases": [list(names) for names in self.aliases],
        }

    @staticmethod
    def of(key: Mapping[str, Any]) -> Codec:
        """The codec with this `settings_key`; ValueError where it is none, or one of another version."""
        if key.get("version") != VERSION or not isinstance(key.get("kind"), str):
            raise ValueError(f"expected a codec of version {VERSION}, found {key.get('version')!r}")
        children: Any = key.get("children")
        aliases: Any = key.get("aliases")
        if not _are_names(children) or not children or len(set(children)) < len(children):
            raise ValueError("expected a codec with children, all different")
        lists = isinstance(aliases, list) and all(map(_are_names, aliases))
        if not lists or len(aliases) != len(children):
            raise ValueError("expected a codec with a list of aliases for each child")
        rest: list[Any] = [key.get(name) for name in ("format", "system", "alternatives")]
        format_, system, alternatives = rest
        sound = (
            format_ in FORMATS and isinstance(system, str) and alternatives in range(MOST_TOP_LOGPROBS + 1)
        )
        if key["kind"] not in _KINDS or not sound:
            raise ValueError("expected a codec of a known kind and format")
        known = tuple(tuple(names) for names in aliases)
        return _KINDS[key["kind"]](tuple(children), format_, system, alternatives, known)

    def request(self, text: str) -> dict[str, Any]:
        """The body of a question about one text, without its ``model``."""
        if self.format == "chat":
            body = {"messages": self._messages(text), "max_completion_tokens": self._most_tokens()}
            logprobs: dict[str, Any] = {"logprobs": True, "top_logprobs": self.alternatives}
        else:
            body = {"prompt": prompt_of(text), "max_tokens": self._most_tokens(), "stop": [STOP]}
            logprobs = {"logprobs": self.alternatives}
        return body | {"temperature": 0} | (logprobs if self.alternatives else {})

    def example(self, text: str, target: Sequence[bool]) -> dict[str, Any]:
        """One training line: what is asked, with the answer for the children that `target` marks."""
        answer = self.completion(target)
        if self.format == "chat":
            return {"messages": [*self._messages(text), {"role": "assistant", "content": answer}]}
        return {"prompt": prompt_of(text), "completion": self._blank() + answer + STOP}

    def read(self, choice: Mapping[str, Any]) -> FloatArray:
        """One score for each child, read from ``choices[0]`` of a response.

        Returns
        -------
        float32, shape (n_children,), each in [0, 1]; all 0.0 or 1.0 where `has_probabilities` is not.

        Raises
        ------
        UnreadableAnswer
            The answer is empty, refused, cut short, or no answer of this kind.
        """
        scores = self._scores(answer_text(choice), choice)
        return np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0).astype(np.float32)

    def has_probabilities(self, choice: Mapping[str, Any]) -> bool:
        """Whether the scores of this choice are probabilities; else thresholds mean nothing for them."""
        return bool(self.alternatives) and have_probabilities(token_logprobs(choice, None))

    @abstractmethod
    def completion(self, target: Sequence[bool]) -> str:
        """What the model should answer where the text has these children, bool, shape (n_children,)."""

    @abstractmethod
    def instruction(self, choose: str) -> str:
        """What is asked for, for people and models that have not learnt it."""

    @abstractmethod
    def reminder(self) -> str:
        """The same for a model that has learnt it, in a few tokens."""

    @abstractmethod
    def listed(self) -> list[str]:
        """A line for each child: how it is answered, and its name."""

    @abstractmethod
    def _most_tokens(self) -> int: ...

    @abstractmethod
    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]: ...

    def _blank(self) -> str:
        # " 15" would be two tokens, "15" is one: no blank before numbers.
        return ""

    def _messages(self, text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.system}, {"role": "user", "content": harmless(text)}]


# The kinds


@dataclass(frozen=True)
class Code(Codec):
    """One number for the one child, and one more for none; they have the same number of digits.

    So a number is one token where the service has tokens for numbers, and where it has them for digits only,
    no number is the beginning of another.
    """

    kind: ClassVar[Kind] = "code"

    @cached_property
    def written(self) -> tuple[str, ...]:
        """The number of each child, then that of none."""
        width = len(str(len(self.children)))
        return tuple(f"{number:0{width}}" for number in range(len(self.children) + 1))

    @cached_property
    def _numbers(self) -> Mapping[str, int]:
        return {written: number for number, written in enumerate(self.written)}

    def completion(self, target: Sequence[bool]) -> str:
        """The number of the first child that `target` marks, or that of none."""
        return self.written[next(marked(target), len(self.children))]

    def instruction(self, choose: str) -> str:  # noqa: ARG002
        return f"Which one fits the text? Answer with its number alone, or {self.written[-1]} for none."

    def reminder(self) -> str:
        return f"One number, {self.written[0]} to {self.written[-1]}"

    def listed(self) -> list[str]:
        pairs = zip(self.written[:-1], self.children, strict=True)
        return [f"{number} {on_one_line(name)}" for number, name in pairs]

    def _most_tokens(self) -> int:
        return len(self.written[0])

    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]:
        steps = token_logprobs(choice, text)
        if not have_probabilities(steps):
            return self._without_probabilities(text)
        logs = self._logs(steps)
        total = log_sum(logs)
        return [math.exp(value - total) for value in logs[:-1]]

    def _without_probabilities(self, text: str) -> Sequence[float]:
        number = self._heard(text)
        if number not in self._numbers:
            raise UnreadableAnswer(self._expected())
        return [float(number == one) for one in self.written[:-1]]

    def _logs(self, steps: Sequence[TokenLogprobs]) -> list[float]:
        """The log mass of each number, digit after digit where the service has tokens for digits only."""
        heard = digits_of if self._is_split(steps) else self._heard
        found: list[list[float]] = [[] for _ in self.written]
        begun, before = "", 0.0
        for step in steps:
            masses = {
                part: mass for part, mass in step.masses(heard).items() if self._beginning_with(begun + part)
            }
            if log_sum(list(masses.values())) < _LEAST_MASS:
                raise UnreadableAnswer(self._expected())
            said = heard(step.token) or ""
            ends = said not in masses or begun + said in self._numbers or step is steps[-1]
            self._share(found, step, begun, before, masses, None if ends else said)
            if ends:
                break
            begun, before = begun + said, before + masses[said]
        return [log_sum(values) for values in found]

    def _share(
        self,
        found: list[list[float]],
        step: TokenLogprobs,
        begun: str,
        before: float,
        masses: Mapping[str, float],
        later: str | None,
    ) -> None:
        """Add to `found` what one step tells of the numbers that begin with `begun`.

        The mass of a beginning is shared evenly by its numbers, unless it is `later`, of which the next step
        tells more.
        """
        unseen = self._beginning_with(begun)
        for part, mass in masses.items():
            numbers = self._beginning_with(begun + part)
            unseen = unseen - numbers
            if part != later:
                for number in numbers:
                    found[number].append(before + mass - math.log(len(numbers)))
        if unseen:
            bound = before + step.bound(len(unseen))
            for number in unseen:
                found[number].append(bound)

    def _beginning_with(self, beginning: str) -> frozenset[int]:
        if beginning in self._numbers:
            return frozenset((self._numbers[beginning],))
        return frozenset(
            number for number, written in enumerate(self.written) if written.startswith(beginning)
        )

    def _is_split(self, steps: Sequence[TokenLogprobs]) -> bool:
        first = digits_of(steps[0].token) if steps else None
        if first is None or len(first) >= len(self.written[0]) or len(steps) < 2:
            return False
        return digits_of(steps[1].token) is not None

    def _heard(self, token: str) -> str | None:
        """The number as it is written here: with its zeros, without white space and a full stop."""
        digits = digits_of(token)
        if digits is None:
            return self.written[-1] if folded(token) == NONE else None
        return f"{int(digits):0{len(self.written[0])}}" if len(digits) <= 9 else None

    def _expected(self) -> str:
        return f"expected a number from {self.written[0]} to {self.written[-1]}, found something else"


@dataclass(frozen=True)
class Indicator(Codec):
    """One digit for each child, in their order: ``1,0,1``; the commas make each digit a token of its own."""

    kind: ClassVar[Kind] = "indicator"

    def completion(self, target: Sequence[bool]) -> str:
        return ",".join("1" if mark else "0" for mark in target)

    def instruction(self, choose: str) -> str:  # noqa: ARG002
        digits = "Answer with one digit for each, in this order: 1 if it fits, 0 if not, parted by commas."
        return f"Which of these fit the text? {digits}"

    def reminder(self) -> str:
        return f"{len(self.children)} digits, 0 or 1"

    def listed(self) -> list[str]:
        return [f"{place}. {on_one_line(name)}" for place, name in enumerate(self.children, start=1)]

    def _most_tokens(self) -> int:
        # Two more than needed: some services begin with a blank, or count the mark of the end.
        return 2 * len(self.children) + 1

    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]:
        digits = self._checked(text)
        steps = token_logprobs(choice, text)
        if not have_probabilities(steps):
            return [float(digit == "1") for digit in digits]
        if "".join(bits(step.token) for step in steps) != digits:
            raise UnreadableAnswer("its tokens are not its text")
        return [share_of_one(step, place) for step in steps for place in range(len(bits(step.token)))]

    def _checked(self, text: str) -> str:
        digits = re.sub(r"[\s,;.\[\]]", "", text)
        if not re.fullmatch("[01]*", digits):
            raise UnreadableAnswer("expected the digits 0 and 1 with commas, found something else")
        if len(digits) != len(self.children):
            raise UnreadableAnswer(f"expected {len(self.children)} digits, found {len(digits)}")
        return digits


@dataclass(frozen=True)
class Names(Codec):
    """The names of the children, parted by semicolons, or ``none``.

    Scores are 0.0 or 1.0: in a list one name takes probability from the others, so that what is listed for
    its tokens ranks badly.
    """

    kind: ClassVar[Kind] = "names"

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Each child as it stands in an answer: on one line, without a bare semicolon, and never ``none``."""
        return tuple(escaped(name) for name in self.children)

    @cached_property
    def _exact(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.written)}

    @cached_property
    def _tolerant(self) -> Mapping[str, int]:
        """What may be meant by a name that is none exactly, where it can mean one child only."""
        names = unambiguous((folded(name), number) for number, name in enumerate(self.children))
        aliases = unambiguous(
            (folded(alias), number) for number, known in enumerate(self.aliases) for alias in known
        )
        taken = {folded(name) for name in self.children}
        return {name: number for name, number in aliases.items() if name not in taken} | names

    def completion(self, target: Sequence[bool]) -> str:
        return "; ".join(self.written[number] for number in marked(target)) or NONE

    def instruction(self, choose: str) -> str:
        which = "Which one of these fits" if choose == "one" else "Which of these fit"
        return f"{which} the text? Answer with names alone, parted by '; ', or with '{NONE}'."

    def reminder(self) -> str:
        return f"Names, or {NONE}"

    def listed(self) -> list[str]:
        return [f"- {name}" for name in self.written]

    def _most_tokens(self) -> int:
        # A service counts what may be answered against its limits, so that this is no more than is likely.
        sizes = sorted((len(name.encode()) // 2 + 3 for name in self.written), reverse=True)
        return min(8 + sum(sizes[:_NAMES_IN_AN_ANSWER]), _LONGEST_NAMES_ANSWER)

    def _blank(self) -> str:
        return " "

    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]:
        if choice.get("finish_reason") == "length":
            raise UnreadableAnswer(f"cut short after {self._most_tokens()} tokens")
        parts = [part.strip() for part in re.findall(r"(?:\\.|[^;\n\\])+", text)]
        parts = [part for part in parts if part]
        if len(parts) == 1 and parts[0] not in self._exact and folded(parts[0]) == NONE:
            return [0.0] * len(self.children)
        found = {self._number_of(part) for part in parts}
        if not found:
            raise UnreadableAnswer("expected names, found nothing")
        return [float(number in found) for number in range(len(self.children))]

    def _number_of(self, part: str) -> int:
        number = self._exact.get(part)
        if number is None:
            number = self._tolerant.get(folded(unescaped(part)))
        if number is None:
            raise UnreadableAnswer(f"expected some of {len(self.children)} names, found another one")
        return number


# Making one

_KINDS: Mapping[str, type[Codec]] = {"code": Code, "indicator": Indicator, "names": Names}


def _are_names(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def codec_of(
    children: Sequence[str],
    descriptions: Mapping[str, str],
    choose: Literal["one", "many"],
    settings: Settings,
    aliases: Mapping[str, Sequence[str]] | None = None,
    task: str = "",
) -> Codec:
    """The codec that a group's settings ask for.

    Parameters
    ----------
    children
        Names, all different.
    descriptions, aliases
        What is known of children, by name.
    choose
        Whether a text has at most one of the children.
    settings
        ``answer``, ``format``, ``list_children`` and how many alternatives the service lists are read.
    task
        What the group is about, in a few words.

    Raises
    ------
    BackendError
        ``answer: code`` where a text may have several children, or for too many of them.
    """
    kind = _settled(settings.answer, len(children), choose)
    make = _KINDS[kind]
    alternatives = {"code": settings.top_logprobs, "indicator": _ALTERNATIVES_OF_A_DIGIT, "names": 0}[kind]
    known = tuple(tuple((aliases or {}).get(name, ())) for name in children)
    bare = make(tuple(children), settings.format, "", min(alternatives, settings.top_logprobs), known)
    if settings.format == "completion":
        return bare
    told = _listing(bare, descriptions, choose) if settings.list_children else [bare.reminder()]
    system = harmless("\n".join([*filter(None, [on_one_line(task)]), *told]))
    return make(bare.children, bare.format, system, bare.alternatives, known)


def _settled(answer: str, n_children: int, choose: str) -> str:
    if answer == "auto":
        if choose == "one":
            return "code" if n_children < MOST_CODES else "names"
        return "indicator" if n_children <= MOST_INDICATORS else "names"
    if answer == "code" and choose != "one":
        raise BackendError(
            "answer 'code' names one child, and this group has `choose: many`. Use 'indicator' or 'names'"
        )
    if answer == "code" and n_children >= MOST_CODES:
        raise BackendError(
            f"answer 'code' has numbers for {MOST_CODES - 1} children, found {n_children}. Use 'names'"
        )
    return answer


def _listing(codec: Codec, descriptions: Mapping[str, str], choose: str) -> list[str]:
    """The instruction and the children, as far as there is room."""
    few = len(codec.children) <= _MOST_DESCRIBED
    lines = [
        line + (_description(descriptions.get(child, "")) if few else "")
        for line, child in zip(codec.listed(), codec.children, strict=True)
    ]
    return [codec.instruction(choose), *(lines if len(lines) <= _MOST_LISTED else ())]


def _description(text: str) -> str:
    line = on_one_line(text)
    if not line:
        return ""
    return ": " + (line if len(line) <= _LONGEST_DESCRIPTION else line[: _LONGEST_DESCRIPTION - 3] + "...")

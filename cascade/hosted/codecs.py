"""How a set of children is asked for and answered in words, and how probabilities are read from an answer.

Nothing here talks to a service: a codec makes bodies and lines, and reads one choice of a response.
"""

from __future__ import annotations

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile
from typing import Any, ClassVar, Literal

import numpy as np

from cascade.errors import BackendError
from cascade.hosted.settings import FORMATS, MOST_TOP_LOGPROBS, Format, Settings
from cascade.system.array_types import FloatArray

Kind = Literal["code", "indicator", "names"]
Endpoint = Literal["/v1/chat/completions", "/v1/completions"]

VERSION = 2
"""Goes up with every change of questions or answers, so that what was made before is not reused."""

NONE = "none"
SEPARATOR = "\n\n###\n\n"
"""Ends the prompt of a completion; it stands nowhere else in it."""
STOP = "\n"
"""Ends a completion; no answer has one inside."""
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
# Services write -9999.0 for "very unlikely", which is no probability.
_VERY_UNLIKELY = -9000.0
# The rest of the mass is known no better than the rounding of what is listed.
_LEAST_REST = 1e-9
# Where hardly any mass is on answers, what is left of them after dividing by it is noise.
_LEAST_MASS = math.log(0.01)


class Unreadable(ValueError):  # noqa: N818 - it says of an answer what it is
    """An answer that cannot be read; the message has no part of it, as it may quote the text."""


@dataclass(frozen=True)
class _Step:
    """One token of an answer, with what could have stood there.

    Attributes
    ----------
    token
        What the model wrote.
    listed
        Natural logarithms of probabilities, by token; the written one is among them where it has one.
    """

    token: str
    listed: Mapping[str, float]

    def masses(self, heard: Callable[[str], str | None]) -> dict[str, float]:
        """The log masses of the answers that `heard` makes of the listed tokens; None is no answer."""
        found: dict[str, list[float]] = {}
        for token, value in self.listed.items():
            answer = heard(token)
            if answer is not None:
                found.setdefault(answer, []).append(value)
        return {answer: _log_sum(values) for answer, values in found.items()}

    def bound(self, missing: int) -> float:
        """The log mass of each of so many answers that are not listed: an even share of the rest of the mass.

        No more than the least of those listed, which are the likeliest.
        """
        rest = 1.0 - math.fsum(map(math.exp, self.listed.values()))
        return min(*self.listed.values(), math.log(max(rest, _LEAST_REST)) - math.log(max(missing, 1)))


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
            body = {"prompt": _prompt(text), "max_tokens": self._most_tokens(), "stop": [STOP]}
            logprobs = {"logprobs": self.alternatives}
        return body | {"temperature": 0} | (logprobs if self.alternatives else {})

    def example(self, text: str, target: Sequence[bool]) -> dict[str, Any]:
        """One training line: what is asked, with the answer for the children that `target` marks."""
        answer = self.completion(target)
        if self.format == "chat":
            return {"messages": [*self._messages(text), {"role": "assistant", "content": answer}]}
        return {"prompt": _prompt(text), "completion": self._blank() + answer + STOP}

    def read(self, choice: Mapping[str, Any]) -> FloatArray:
        """One score for each child, read from ``choices[0]`` of a response.

        Returns
        -------
        float32, shape (n_children,), each in [0, 1]; all 0.0 or 1.0 where `has_probabilities` is not.

        Raises
        ------
        Unreadable
            The answer is empty, refused, cut short, or no answer of this kind.
        """
        scores = self._scores(_text_of(choice), choice)
        return np.clip(np.asarray(scores, dtype=np.float64), 0.0, 1.0).astype(np.float32)

    def has_probabilities(self, choice: Mapping[str, Any]) -> bool:
        """Whether the scores of this choice are probabilities; else thresholds mean nothing for them."""
        return bool(self.alternatives) and _have_probabilities(_steps(choice, None))

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
        return [{"role": "system", "content": self.system}, {"role": "user", "content": _harmless(text)}]


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
        return self.written[next(_marked(target), len(self.children))]

    def instruction(self, choose: str) -> str:  # noqa: ARG002
        return f"Which one fits the text? Answer with its number alone, or {self.written[-1]} for none."

    def reminder(self) -> str:
        return f"One number, {self.written[0]} to {self.written[-1]}"

    def listed(self) -> list[str]:
        pairs = zip(self.written[:-1], self.children, strict=True)
        return [f"{number} {_on_one_line(name)}" for number, name in pairs]

    def _most_tokens(self) -> int:
        return len(self.written[0])

    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]:
        steps = _steps(choice, text)
        if not _have_probabilities(steps):
            return self._without_probabilities(text)
        logs = self._logs(steps)
        total = _log_sum(logs)
        return [math.exp(value - total) for value in logs[:-1]]

    def _without_probabilities(self, text: str) -> Sequence[float]:
        number = self._heard(text)
        if number not in self._numbers:
            raise Unreadable(self._expected())
        return [float(number == one) for one in self.written[:-1]]

    def _logs(self, steps: Sequence[_Step]) -> list[float]:
        """The log mass of each number, digit after digit where the service has tokens for digits only."""
        heard = _digits if self._is_split(steps) else self._heard
        found: list[list[float]] = [[] for _ in self.written]
        begun, before = "", 0.0
        for step in steps:
            masses = {
                part: mass for part, mass in step.masses(heard).items() if self._beginning_with(begun + part)
            }
            if _log_sum(list(masses.values())) < _LEAST_MASS:
                raise Unreadable(self._expected())
            said = heard(step.token) or ""
            ends = said not in masses or begun + said in self._numbers or step is steps[-1]
            self._share(found, step, begun, before, masses, None if ends else said)
            if ends:
                break
            begun, before = begun + said, before + masses[said]
        return [_log_sum(values) for values in found]

    def _share(
        self,
        found: list[list[float]],
        step: _Step,
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

    def _is_split(self, steps: Sequence[_Step]) -> bool:
        first = _digits(steps[0].token) if steps else None
        if first is None or len(first) >= len(self.written[0]) or len(steps) < 2:
            return False
        return _digits(steps[1].token) is not None

    def _heard(self, token: str) -> str | None:
        """The number as it is written here: with its zeros, without white space and a full stop."""
        digits = _digits(token)
        if digits is None:
            return self.written[-1] if _folded(token) == NONE else None
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
        return [f"{place}. {_on_one_line(name)}" for place, name in enumerate(self.children, start=1)]

    def _most_tokens(self) -> int:
        # Two more than needed: some services begin with a blank, or count the mark of the end.
        return 2 * len(self.children) + 1

    def _scores(self, text: str, choice: Mapping[str, Any]) -> Sequence[float]:
        digits = self._checked(text)
        steps = _steps(choice, text)
        if not _have_probabilities(steps):
            return [float(digit == "1") for digit in digits]
        if "".join(_bits(step.token) for step in steps) != digits:
            raise Unreadable("its tokens are not its text")
        return [_share_of_one(step, place) for step in steps for place in range(len(_bits(step.token)))]

    def _checked(self, text: str) -> str:
        digits = re.sub(r"[\s,;.\[\]]", "", text)
        if not re.fullmatch("[01]*", digits):
            raise Unreadable("expected the digits 0 and 1 with commas, found something else")
        if len(digits) != len(self.children):
            raise Unreadable(f"expected {len(self.children)} digits, found {len(digits)}")
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
        return tuple(_escaped(name) for name in self.children)

    @cached_property
    def _exact(self) -> Mapping[str, int]:
        return {name: number for number, name in enumerate(self.written)}

    @cached_property
    def _tolerant(self) -> Mapping[str, int]:
        """What may be meant by a name that is none exactly, where it can mean one child only."""
        names = _unambiguous((_folded(name), number) for number, name in enumerate(self.children))
        aliases = _unambiguous(
            (_folded(alias), number) for number, known in enumerate(self.aliases) for alias in known
        )
        taken = {_folded(name) for name in self.children}
        return {name: number for name, number in aliases.items() if name not in taken} | names

    def completion(self, target: Sequence[bool]) -> str:
        return "; ".join(self.written[number] for number in _marked(target)) or NONE

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
            raise Unreadable(f"cut short after {self._most_tokens()} tokens")
        parts = [part.strip() for part in re.findall(r"(?:\\.|[^;\n\\])+", text)]
        parts = [part for part in parts if part]
        if len(parts) == 1 and parts[0] not in self._exact and _folded(parts[0]) == NONE:
            return [0.0] * len(self.children)
        found = {self._number_of(part) for part in parts}
        if not found:
            raise Unreadable("expected names, found nothing")
        return [float(number in found) for number in range(len(self.children))]

    def _number_of(self, part: str) -> int:
        number = self._exact.get(part)
        if number is None:
            number = self._tolerant.get(_folded(_unescaped(part)))
        if number is None:
            raise Unreadable(f"expected some of {len(self.children)} names, found another one")
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
    system = _harmless("\n".join([*filter(None, [_on_one_line(task)]), *told]))
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
    line = _on_one_line(text)
    if not line:
        return ""
    return ": " + (line if len(line) <= _LONGEST_DESCRIPTION else line[: _LONGEST_DESCRIPTION - 3] + "...")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


# Texts


def _harmless(text: str) -> str:
    """The text without what fails a whole job or request: ``<|``, nothing at all, half a character."""
    if not text.strip():
        return "(empty)"
    return text.encode("utf-8", "replace").decode("utf-8").replace("<|", "< |")


def _prompt(text: str) -> str:
    return _harmless(text).replace("\n###", "\n ###") + SEPARATOR


def _escaped(name: str) -> str:
    """The name as a part of an answer; `_unescaped` gives it back."""
    if _folded(name) == NONE:
        return _hidden(name[0]) + _escaped(name[1:])
    marked = re.sub(r"[\\;]|(?<=<)\|", r"\\\g<0>", name)
    return re.sub(r"^ | $|(?<= ) ", lambda found: _hidden(found[0]), _visible(marked))


def _visible(name: str) -> str:
    return "".join(letter if letter.isprintable() else _hidden(letter) for letter in name)


def _hidden(letter: str) -> str:
    return f"\\u{ord(letter):06x}"


def _unescaped(part: str) -> str:
    def letter(found: re.Match[str]) -> str:
        return chr(int(found[1], 16)) if found[1] and int(found[1], 16) <= 0x10FFFF else found[0][-1]

    return re.sub(r"\\u([0-9a-f]{6})|\\.", letter, part)


def _folded(name: str) -> str:
    """The name without case, quotes, a full stop, and differences of white space."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(plain.strip("\"'`. \t\n").split())


def _unambiguous(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    twice: set[str] = set()
    for name, number in pairs:
        if found.setdefault(name, number) != number:
            twice.add(name)
    return {name: number for name, number in found.items() if name not in twice and name not in ("", NONE)}


def _marked(target: Sequence[bool]) -> Iterator[int]:
    return (number for number, mark in enumerate(target) if mark)


def _digits(token: str) -> str | None:
    found = re.fullmatch(r"\s*([0-9]+)[\s.,;]*", token)
    return found[1] if found else None


# Choices


def _text_of(choice: Mapping[str, Any]) -> str:
    message = choice.get("message")
    if isinstance(message, Mapping):
        if message.get("refusal"):
            raise Unreadable("refused")
        text = message.get("content")
    else:
        text = choice.get("text")
    if choice.get("finish_reason") == "content_filter":
        raise Unreadable("stopped by the service's filter")
    if not isinstance(text, str) or not text.strip():
        raise Unreadable("empty")
    return text


def _steps(choice: Mapping[str, Any], text: str | None) -> list[_Step]:
    """The tokens of the answer from its first letter on; those that follow its text are left out.

    Such are the marks of an end that some services list.
    """
    given = choice.get("logprobs")
    if not isinstance(given, Mapping):
        return []
    content = given.get("content")
    steps = list(map(_chat_step, content)) if isinstance(content, list) else _old_steps(given)
    begun = dropwhile(lambda step: not step.token.strip(), steps)
    return list(begun if text is None else _within(begun, len(text.strip())))


def _within(steps: Iterable[_Step], length: int) -> Iterator[_Step]:
    """The steps that make so many letters, without those before the first that is no white space."""
    letters = ""
    for step in steps:
        if len(letters) >= length:
            return
        letters = (letters + step.token).lstrip()
        yield step


def _chat_step(given: Any) -> _Step:
    if not isinstance(given, Mapping):
        return _Step("", {})
    top = given.get("top_logprobs")
    listed = top if isinstance(top, list) else []
    pairs = [(one.get("token"), one.get("logprob")) for one in listed if isinstance(one, Mapping)]
    return _step(given.get("token"), given.get("logprob"), pairs)


def _old_steps(given: Mapping[str, Any]) -> list[_Step]:
    """The steps of the old completions, where tokens, their values and alternatives are three lists."""
    tokens = given.get("tokens")
    if not isinstance(tokens, list):
        return []
    values, tops = (_as_long(given.get(name), len(tokens)) for name in ("token_logprobs", "top_logprobs"))
    return [
        _step(token, value, list(top.items()) if isinstance(top, Mapping) else [])
        for token, value, top in zip(tokens, values, tops, strict=True)
    ]


def _as_long(values: Any, length: int) -> list[Any]:
    return values if isinstance(values, list) and len(values) == length else [None] * length


def _step(token: Any, value: Any, pairs: Iterable[tuple[Any, Any]]) -> _Step:
    token = token if isinstance(token, str) else ""
    listed = {
        one: float(min(logprob, 0.0))
        for one, logprob in ((token, value), *pairs)
        if isinstance(one, str) and isinstance(logprob, int | float) and _VERY_UNLIKELY < logprob < math.inf
    }
    return _Step(token, listed)


def _have_probabilities(steps: Sequence[_Step]) -> bool:
    """Whether the tokens that matter have any: those with digits, if there are some."""
    matter = [step for step in steps if re.search("[0-9]", step.token)] or steps
    return bool(matter) and all(step.listed for step in matter)


def _share_of_one(step: _Step, place: int) -> float:
    """P("1") at one digit of a token, given the digits before it in the same token; in [0, 1]."""
    begun = _bits(step.token)[:place]

    def heard(token: str) -> str | None:
        bits = _bits(token)
        return bits[place] if len(bits) > place and bits.startswith(begun) else None

    masses = step.masses(heard)
    zero, one = (masses.get(digit, -math.inf) for digit in "01")
    least = step.bound(1)
    zero, one = (least if math.isinf(value) else value for value in (zero, one))
    return 1.0 / (1.0 + math.exp(min(zero - one, 700.0)))


def _bits(token: str) -> str:
    return "".join(letter for letter in token if letter in "01")


def _log_sum(values: Sequence[float]) -> float:
    """The logarithm of a sum of exponentials; -inf of nothing."""
    most = max(values, default=-math.inf)
    if len(values) == 1 or math.isinf(most):
        return most
    return most + math.log(math.fsum(math.exp(value - most) for value in values))

"""Shapes of values in YAML files, as JSON Schema: what an editor can hold a file against as it is typed.

An editor reads YAML 1.2, where ``1e3`` is a number and ``yes`` is text; what is read as a name or a text here
may be any scalar there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Shape = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """What stands under a key: in a few words, and as a shape."""

    about: str
    shape: Shape

    def described(self) -> Shape:
        """The shape with the words, for editors to show."""
        return {"description": self.about, **self.shape}


@dataclass(frozen=True)
class Option(Key):
    """An option of a backend; called with a value it answers what is wrong with it, or an empty string."""

    check: Callable[[Any], str]

    def __call__(self, value: Any) -> str:
        return self.check(value)


_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_SCALARS = ["string", "number", "boolean", "null"]
TEXT: Shape = {"type": _SCALARS}
FILLED: Shape = {"type": _SCALARS, "minLength": 1}
NAME: Shape = {"type": _SCALARS, "pattern": rf"^[^\s{_CONTROL}]([^{_CONTROL}]*[^\s{_CONTROL}])?$(?!\n)"}
"""One line without blanks around it."""
NAMES: Shape = {"anyOf": [NAME, {"type": "array", "items": NAME}]}
_WORDS = [
    form for word in ("yes", "no", "on", "off") for form in (word, word.capitalize(), word.upper())
]  # fmt: skip
FLAG: Shape = {"anyOf": [{"type": "boolean"}, {"enum": [*_WORDS, "True", "False", "TRUE", "FALSE"]}]}
"""True or false as YAML 1.1 has them."""

OFF_WORDS = ("off", "Off", "OFF", "no", "No", "NO", "false", "False", "FALSE")
OFF: Shape = {"enum": [False, *OFF_WORDS]}
"""Only false."""

WORDS: Shape = {"type": "string", "pattern": r"\S"}
"""Text that is more than blanks, and that YAML takes for nothing else."""


def one_of(values: Sequence[str]) -> Shape:
    """One of these words."""
    return {"enum": list(values)}


def whole(least: int, most: int | None = None) -> Shape:
    """A whole number from `least` on, up to `most` if there is one."""
    return {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})


def either(*shapes: Shape) -> Shape:
    """Any of these shapes."""
    return {"anyOf": list(shapes)}


def listed(shape: Shape) -> Shape:
    """A list of these, with one at least."""
    return {"type": "array", "items": shape, "minItems": 1}


def mapping(properties: dict[str, Shape], **rules: Any) -> Shape:
    """A mapping with these keys and no others."""
    return {"type": "object", "properties": properties, "additionalProperties": False, **rules}


def yes_or_no(value: Any) -> str:
    """What is wrong with a value that has to be true or false, or an empty string."""
    return "" if isinstance(value, bool) else f"expected true or false, found {value!r}"


def whole_number(least: int, most: int | None = None) -> Callable[[Any], str]:
    """What tells what is wrong with a whole number: as `whole` has it."""
    wanted = f"of {least} or more" if most is None else f"from {least} to {most}"

    def check(value: Any) -> str:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole and value >= least and (most is None or value <= most):
            return ""
        return f"expected a whole number {wanted}, found {value!r}"

    return check

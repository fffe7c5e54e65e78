"""The labels that a cell holds, however it writes them."""

from __future__ import annotations

import ast
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from cascade.rows.names import KnownNames, folded
from cascade.rows.row import RefusedError, kind_of, quoted

_REMEMBERED_CELLS = 50_000
_MOST_REMEMBERED_CHARACTERS = 1000
_QUOTED = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_NUMPY_LIST = re.compile(rf"\[\s*{_QUOTED}(?:\s+{_QUOTED})*\s*\]")
_NUMPY_TEXT = re.compile(rf"np\.str_\(({_QUOTED})\)")
_CALL = re.compile(r"(?:array|list|tuple|set|frozenset)\((.*?)(?:,\s*dtype=[^)]*)?\)", re.DOTALL)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
# Keys under which exports of annotation tools and answers of language models hold labels.
_HOLDERS = ("labels", "label", "choices", "taxonomy", "categories", "topics", "tags", "value", "name")
_NO = ("", "0", "0.0", "false", "no", "n", "-", "f", "none", "null", "nan", "off", "✗", "✘", "nein", "non")
_YES = ("1", "1.0", "true", "yes", "y", "x", "+", "t", "on", "✓", "✔", "ja", "oui", "si", "sí")
_FLAGS = dict.fromkeys(_NO, False) | dict.fromkeys(_YES, True)


def is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def flag_of(value: Any) -> bool | None:
    """Whether a cell of a 0/1 column says yes; None where it says neither."""
    if is_missing(value):
        return False
    return _FLAGS.get(str(value).strip().casefold()) if isinstance(value, str | int | float) else None


class LabelParser:
    """Cells to canonical names.

    Parameters
    ----------
    delimiter
        Stands between names; where there are brackets, a comma does as well.
    path_separator
        Stands between a name and the group it is in; None where cells hold names alone.
    """

    def __init__(self, names: KnownNames, delimiter: str, path_separator: str | None) -> None:
        self._names = names
        self._exact = names.exact
        self._delimiter = delimiter
        self._path_separator = path_separator
        self._remembered: dict[str, tuple[str, ...]] = {}

    def labels(self, value: Any, column: str) -> tuple[str, ...]:
        """The labels of a cell, each once, in its order.

        Raises
        ------
        RefusedError
            It names a label that there is not, or is of a type that holds none.
        """
        if not isinstance(value, str):
            return tuple(dict.fromkeys(self._of_list(value) or self._of_value(value, column)))
        found = self._remembered.get(value)
        if found is None:
            found = tuple(dict.fromkeys(self._of_text(value, column)))
            if len(self._remembered) < _REMEMBERED_CELLS and len(value) <= _MOST_REMEMBERED_CHARACTERS:
                self._remembered[value] = found
        return found

    def _of_list(self, value: Any) -> Sequence[str]:
        """The labels of a list of names as the taxonomy writes them, which most are; else nothing."""
        if type(value) is list:
            with suppress(KeyError, TypeError):
                return [self._exact[name] for name in value]
        return ()

    def _of_text(self, cell: str, column: str) -> Sequence[str]:
        cell = cell.strip()
        if self._names.is_none(cell):
            return ()
        if self._names.is_exact(cell):
            return (self._names.resolve(cell) or cell,)
        if cell[:1] in _BRACKETS or cell.endswith(")"):
            value = listed(cell, self._delimiter)
            if value is not None:
                return self._of_value(value, column)
        return [label for part in cell.split(self._delimiter) for label in self._named(part.strip())]

    def _of_value(self, value: Any, column: str) -> Sequence[str]:
        if is_missing(value):
            return ()
        if isinstance(value, list | tuple | set | frozenset):
            return [label for element in value for label in self._of_element(element)]
        if isinstance(value, Mapping):
            return self._of_object(value, column)
        if (name := _number_name(value)) is not None and self._names.resolve(name) is not None:
            return self._named(name)
        raise RefusedError(
            f"column {quoted(column)} holds {kind_of(value)}; expected a list of labels, "
            f"or text with {self._delimiter!r} between them"
        )

    def _of_element(self, element: Any) -> Sequence[str]:
        if isinstance(element, str):
            return self._named(element)
        if (name := _number_name(element)) is not None:
            return self._named(name)
        if isinstance(element, list | tuple) and element and all(isinstance(one, str) for one in element):
            return (self._names.find(element),)
        if isinstance(element, Mapping) and (held := _held(element)) is not None:
            return self._of_element(held) if isinstance(held, str) else self._of_value(held, "")
        raise RefusedError(f"a label is {kind_of(element)}; expected a name")

    def _of_object(self, value: Mapping[Any, Any], column: str) -> Sequence[str]:
        """Labels with whether each holds, or an object that holds the labels under a usual key."""
        if not any(self._names.resolve(str(key)) for key in value) and (held := _held(value)) is not None:
            return self._of_text(held, column) if isinstance(held, str) else self._of_value(held, column)
        found: list[str] = []
        for key, told in value.items():
            flag = flag_of(told)
            if flag is None:
                raise RefusedError(f"label {quoted(str(key))} has {kind_of(told)}; expected 0 or 1")
            name = self._named(str(key))
            found.extend(name if flag else ())
        return found

    def _named(self, name: str) -> Sequence[str]:
        """The canonical name, nothing for a word for none."""
        label = self._names.resolve(name)
        if label is not None:
            return (label,)
        if self._names.is_none(name):
            return ()
        if self._path_separator is not None and self._path_separator in name:
            return (self._names.find(name.split(self._path_separator)),)
        raise RefusedError(self._names.unknown(name))


def _number_name(value: Any) -> str | None:
    """A whole number as a name, None for all else."""
    if isinstance(value, bool):
        return None
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return str(int(value)) if is_whole else None


def _held(value: Mapping[Any, Any]) -> Any:
    """What an object holds under the one usual key for labels, None if it is no such object."""
    usual = [key for key in value if folded(str(key)) in _HOLDERS]
    found = value[usual[0]] if len(usual) == 1 else None
    return found if isinstance(found, str | list | tuple) else None


def listed(cell: str, delimiter: str) -> Any:
    """What a cell prints as JSON, Python or NumPy do, or in bare brackets; None where there is no list."""
    call = _CALL.fullmatch(cell)
    inside = _NUMPY_TEXT.sub(r"\1", call.group(1).strip() if call else cell)
    if _BRACKETS.get(inside[:1]) != inside[-1:] or len(inside) < 2:
        return None
    for parse in (json.loads, _numpy_list, _literal):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = parse(inside)
            if isinstance(value, list | tuple | set | dict):
                return value
    between = delimiter if delimiter in inside else ","
    names = (name.strip().strip("'\"") for name in inside[1:-1].split(between))
    return [name for name in names if name]


def _numpy_list(cell: str) -> list[Any] | None:
    """Names in quotes with blanks between them, which Python would join to one."""
    return [_literal(name) for name in re.findall(_QUOTED, cell)] if _NUMPY_LIST.fullmatch(cell) else None


def _literal(code: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes that begin no escape
        return ast.literal_eval(code)

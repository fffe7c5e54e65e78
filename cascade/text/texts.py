"""Texts that remember what was computed from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from cascade.system.array_types import IntArray


class Texts(Sequence[str]):
    """A sequence of texts that remembers what backends computed from it.

    `take` gives a view of some rows that shares the memory of the whole, so that features which
    several nodes need are computed once for each batch, not once for each node.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._whole: Sequence[str] = texts
        self._rows: IntArray | None = None
        self._cache: dict[Any, Any] = {}

    def take(self, rows: IntArray) -> Texts:
        """A view of the rows at these positions, sharing the cache."""
        view = Texts(self._whole)
        view._rows = rows if self._rows is None else self._rows[rows]
        view._cache = self._cache
        return view

    def apart(self, rows: IntArray) -> Texts:
        """The rows at these positions by themselves: they have what was computed, and share nothing new."""
        view = self.take(rows)
        alone = Texts(list(view))
        alone._cache = {key: whole[view._rows] for key, whole in self._cache.items()}
        return alone

    def features(self, key: Any, compute: Callable[[Sequence[str]], Any]) -> Any:
        """What `compute` makes of all texts, one row a text, computed once per `key`; the rows of this view.

        `compute` gets the whole sequence and answers something that NumPy row indices can select from.
        """
        if key not in self._cache:
            self._cache[key] = compute(self._whole)
        whole = self._cache[key]
        return whole if self._rows is None else whole[self._rows]

    def lengths(self) -> IntArray:
        """How many characters each has, int64, shape (n_texts,)."""
        counted: IntArray = self.features(
            "lengths", lambda whole: np.fromiter(map(len, whole), np.int64, len(whole))
        )
        return counted

    def __getstate__(self) -> dict[str, Any]:
        """Of a view only its own rows travel to another process, with what was computed from them."""
        if self._rows is None:
            return self.__dict__
        cache = {key: whole[self._rows] for key, whole in self._cache.items()}
        return {"_whole": list(self), "_rows": None, "_cache": cache}

    def __len__(self) -> int:
        return len(self._whole) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if self._rows is None:
            return self._whole[index]
        if isinstance(index, slice):
            return [self._whole[row] for row in self._rows[index]]
        return str(self._whole[self._rows[index]])

    def __iter__(self) -> Iterator[str]:
        if self._rows is None:
            return iter(self._whole)
        return (self._whole[row] for row in self._rows)

"""What each feature says of each child of a node: few features say much of many children."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.compiled import kernel
from cascade.system.serialization import WAY_OUT, read_array, write_array
from cascade.system.vectors import VECTOR, empty_table

# Weights nearer to 0 are dropped (Babbar and Schoelkopf, "DiSMEC: Distributed Sparse Machines for Extreme
# Multi-label Classification", WSDM 2017, section 3.2, has the first). It moves held-out margins by less than
# 0.01 (root mean square, on five sets); the second, of small models, by up to 0.06, and costs CLINC150 .001
# of micro F1 on valid, so that it is for models whose size matters more.
BOUND, BOUND_OF_SMALL = np.float32(0.01), np.float32(0.04)
# Whole vectors are multiplied two to five times as fast as single numbers, on three sets where .07 to .8 of
# the weights are not 0. With fewer a table takes more memory than it is worth, and with fewer cells to be
# multiplied than a part of the weights more time to make.
LEAST_DENSE = 0.1
CELLS_FOR_A_WEIGHT = 0.25
# Numbers of children take no more room than they need.
_TYPES = ((1 << 8, np.uint8), (1 << 16, np.uint16), (1 << 32, np.uint32))

Cells = tuple[IntArray, NDArray[np.uint8], NDArray[np.float16]]
"""How many weights each feature has, and, feature after feature, children of a block and their weights."""


def cells_of(block: FloatArray, bound: np.float32 = BOUND) -> Cells:
    """What is left of weights, float32, shape (n_features, n_children), without those near 0.

    A block has at most 256 children.
    """
    lengths = np.zeros(len(block), dtype=np.int64)
    _count_cells(block, bound, lengths)
    children, weights = np.empty(lengths.sum(), dtype=np.uint8), np.empty(lengths.sum(), dtype=np.float32)
    _take_cells(block, bound, children, weights)
    return lengths, children, weights.astype(np.float16)


class Weights:
    """The weights of some features and children, most of which may be 0.

    Attributes
    ----------
    starts
        int64, shape (n_features + 1,): feature i has the weights starts[i] to starts[i + 1].
    children
        uint8, or longer where there are more children: which child each is for, ascending within a feature.
    values
        float16, or float32 of a model of release 0.4; shape (n_weights,).
    n_children
        How many children there are.
    """

    def __init__(
        self, starts: IntArray, children: NDArray[Any], values: NDArray[np.floating], n_children: int
    ) -> None:
        self.starts, self.children, self.values, self.n_children = starts, children, values, n_children
        self._multiplied = 0

    @classmethod
    def of_blocks(cls, blocks: Sequence[Cells], widths: Sequence[int], n_features: int) -> Weights:
        """The weights of blocks of so many children each, side by side."""
        firsts, n_children = np.cumsum([0, *widths])[:-1], sum(widths)
        lengths = np.array([own for own, _, _ in blocks])
        kind = _type_of(n_children)
        children = np.concatenate(
            [own.astype(kind) + kind(first) for (_, own, _), first in zip(blocks, firsts, strict=True)]
        )
        values = np.concatenate([own for _, _, own in blocks])
        if len(blocks) > 1:
            features = np.concatenate([np.repeat(np.arange(n_features), own) for own in lengths])
            order = np.argsort(features, kind="stable")
            children, values = children[order], values[order]
        return cls(np.concatenate([[0], np.cumsum(lengths.sum(axis=0))]), children, values, n_children)

    @cached_property
    def dense(self) -> NDArray[np.int16]:
        """All of them, float16 seen as int16, shape (n_features, n_children rounded up to whole vectors)."""
        wide = empty_table(len(self.starts) - 1, self.width, np.int16)
        _spread(self.starts, self.children, self.values.view(np.int16), wide)
        wide.flags.writeable = False
        return wide

    @property
    def width(self) -> int:
        """The number of children, rounded up to whole vectors."""
        return -(-self.n_children // VECTOR) * VECTOR

    @cached_property
    def single(self) -> FloatArray:
        """`values` as float32."""
        return self.values.astype(np.float32)

    @cached_property
    def columns(self) -> NDArray[np.uint32]:
        """`children` as uint32."""
        return self.children.astype(np.uint32)

    def table(self, n_cells: int) -> NDArray[np.int16] | None:
        """`dense`, if that pays by now for so many more cells of rows; None if not. Sums are the same."""
        if self.values.dtype != np.float16 or not self.n_children:
            return None
        if len(self.values) < LEAST_DENSE * (len(self.starts) - 1) * self.n_children:
            return None
        self._multiplied += n_cells
        if self._multiplied < CELLS_FOR_A_WEIGHT * len(self.values):
            return None
        for copied in ("columns", "single"):  # which were for single texts, and take as much room again
            self.__dict__.pop(copied, None)
        return self.dense

    def save(self, folder: Path) -> None:
        lengths = np.diff(self.starts).astype(_type_of(self.n_children + 1))
        write_array(folder / "lengths.npy", lengths)
        write_array(folder / "children.npy", self.children)
        write_array(folder / "weights.npy", self.values)

    @classmethod
    def load(cls, folder: Path, n_features: int, n_children: int) -> Weights:
        """What `save` wrote, or release 0.4, which kept all of them in one array.

        Raises
        ------
        ModelError
            A file is missing, is not of the right type or size, or holds impossible values.
        """
        if not (folder / "lengths.npy").exists() and not (folder / "children.npy").exists():
            return _of_release_0_4(folder, n_features, n_children)
        lengths = read_array(folder / "lengths.npy", _type_of(n_children + 1), (n_features,))
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        children = read_array(folder / "children.npy", _type_of(n_children), (int(starts[-1]),))
        values = read_array(folder / "weights.npy", np.float16, children.shape)
        if len(children) and children.max() >= n_children:
            raise ModelError(
                f"{folder / 'children.npy'}: expected numbers below {n_children}, found {children.max()}. "
                f"{WAY_OUT}"
            )
        _check_finite(folder, values)
        return cls(starts, children, values, n_children)


def _check_finite(folder: Path, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise ModelError(f"{folder / 'weights.npy'}: expected finite numbers. {WAY_OUT}")


def _of_release_0_4(folder: Path, n_features: int, n_children: int) -> Weights:
    width = -(-n_children // VECTOR) * VECTOR
    dense = read_array(folder / "weights.npy", np.float32, (n_features, width))
    _check_finite(folder, dense)
    if dense[:, n_children:].any():
        raise ModelError(
            f"{folder / 'weights.npy'}: expected zeros beyond its {n_children} children. {WAY_OUT}"
        )
    features, children = np.nonzero(dense)
    starts = np.concatenate([[0], np.cumsum(np.bincount(features, minlength=n_features))])
    return Weights(starts, children.astype(_type_of(n_children)), dense[features, children], n_children)


def _type_of(n_numbers: int) -> Any:
    """The shortest type for so many numbers from 0 on."""
    return next(kind for most, kind in _TYPES if n_numbers <= most)


@kernel
def _count_cells(block: FloatArray, bound: np.float32, lengths: IntArray) -> None:
    for feature in range(len(block)):
        for child in range(block.shape[1]):
            lengths[feature] += abs(block[feature, child]) >= bound


@kernel
def _take_cells(
    block: FloatArray, bound: np.float32, children: NDArray[np.uint8], weights: FloatArray
) -> None:
    end = 0
    for feature in range(len(block)):
        for child in range(block.shape[1]):
            if abs(block[feature, child]) >= bound:
                children[end], weights[end] = child, block[feature, child]
                end += 1


@kernel
def _spread(
    starts: IntArray, children: NDArray[Any], values: NDArray[np.int16], table: NDArray[np.int16]
) -> None:
    """Write the weights of each feature into its row of a table."""
    for feature in range(len(table)):
        for at in range(starts[feature], starts[feature + 1]):
            table[feature, children[at]] = values[at]


@kernel
def add_cells(
    values: FloatArray,
    features: NDArray[np.int32],
    found: int,
    starts: IntArray,
    children: NDArray[Any],
    weights: FloatArray,
    margins: FloatArray,
) -> None:
    """Add the product of a row's first cells with the weights to `margins`."""
    for at in range(found):
        value, feature = values[at], features[at]
        for weight in range(starts[feature], starts[feature + 1]):
            margins[children[weight]] += value * weights[weight]

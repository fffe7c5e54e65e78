"""Sparse rows times a dense table, in whole vectors of the processor.

numba makes vectors of a loop over columns only in steps of 32 of them; what is left is done one by one, and
most tables here have 8, 16 or 24. So these loops are written for the compiler beneath numba: a vector of
eight columns is one value, and up to four of them stay in registers for the whole row. Floats are added
in the order that is said below, whatever the processor: no two of these operations are fused into one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from platform import machine
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

from cascade.system.array_types import FloatArray
from cascade.system.compiled import kernel

# The columns of a table are a multiple of this.
VECTOR = 8
# So many cells of a row are multiplied at once, which keeps as many loads in flight.
UNROLLED = 4
# So many vectors of a row stay in registers.
AT_ONCE = 4
# Memory hands out so many bytes at once. What a cell needs of a table is asked for so many cells before.
CACHE_LINE = 64
AHEAD = 16

_LANES = ir.VectorType(ir.FloatType(), VECTOR)
_WORDS = ir.VectorType(ir.IntType(32), VECTOR)
_HALVES = ir.VectorType(ir.HalfType(), VECTOR)
_SHORTS = ir.VectorType(ir.IntType(16), VECTOR)
_INDEX = ir.IntType(64)
# No element of an array is promised to lie on more than its own size.
_ALIGNED, _HALF_ALIGNED = 4, 2


def _check(*arrays: Any) -> None:
    if any(array.layout != "C" for array in arrays):
        raise TypingError("expected contiguous arrays")


def _array(context: Any, builder: Any, signature: Any, arguments: Sequence[Any], place: int) -> Any:
    return context.make_array(signature.args[place])(context, builder, arguments[place])


def _vector_at(builder: Any, data: Any, index: Any) -> Any:
    """Where the vector begins that has this element first."""
    return builder.bitcast(builder.gep(data, [index]), _LANES.as_pointer())


def _loaded(builder: Any, data: Any, index: Any) -> Any:
    return builder.load(_vector_at(builder, data, index), align=_ALIGNED)


def _loaded_halves(builder: Any, data: Any, index: Any) -> Any:
    """Eight numbers of half precision, which stand in an array as int16, as float32."""
    where = builder.gep(data, [index])
    if _knows_halves():
        halves = builder.load(builder.bitcast(where, _HALVES.as_pointer()), align=_HALF_ALIGNED)
        return builder.fpext(halves, _LANES)
    # Sign, exponent and fraction go where float32 has them, and what exponents count from is made up for.
    wide = builder.zext(
        builder.load(builder.bitcast(where, _SHORTS.as_pointer()), align=_HALF_ALIGNED), _WORDS
    )
    fraction = builder.shl(builder.and_(wide, _all_of(_WORDS, 0x7FFF)), _all_of(_WORDS, 13))
    size = builder.fmul(builder.bitcast(fraction, _LANES), _all_of(_LANES, 2.0**112))
    sign = builder.shl(builder.and_(wide, _all_of(_WORDS, 0x8000)), _all_of(_WORDS, 16))
    return builder.bitcast(builder.or_(builder.bitcast(size, _WORDS), sign), _LANES)


def _all_of(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * VECTOR)


@cache
def _knows_halves() -> bool:
    """Whether the processor that is compiled for has an instruction for them; no library stands in for it."""
    if config.CPU_FEATURES is not None or config.CPU_NAME is not None:  # type: ignore[attr-defined]
        return False
    return bool(get_host_cpu_features().get("f16c", False)) or machine().lower() in ("aarch64", "arm64")


def _everywhere(builder: Any, data: Any, index: Any) -> Any:
    """A vector of one element in all places."""
    nothing = ir.Constant(_LANES, ir.Undefined)
    first = builder.insert_element(nothing, builder.load(builder.gep(data, [index])), ir.IntType(32)(0))
    places = ir.Constant(ir.VectorType(ir.IntType(32), VECTOR), [0] * VECTOR)
    return builder.shuffle_vector(first, nothing, places)


def _variable(builder: Any, value: Any) -> Any:
    return cgutils.alloca_once_value(builder, value)  # type: ignore[no-untyped-call]


def _columns(builder: Any, table: Any) -> Any:
    return cgutils.unpack_tuple(builder, table.shape, 2)[1]  # type: ignore[no-untyped-call]


def _row_begins(builder: Any, features: Any, at: Any, n_columns: Any) -> Any:
    """The place of the first element of the row of a table that belongs to a cell."""
    feature = builder.load(builder.gep(features.data, [at]))
    return builder.mul(builder.zext(feature, _INDEX), n_columns)


def _ask_for(builder: Any, at: Any, end: Any, features: Any, table: Any, columns: Sequence[Any]) -> None:
    """Have these columns of a cell brought near to the processor, or of the last cell of the row."""
    last = builder.sub(end, _INDEX(1))
    at = builder.select(builder.icmp_signed("<", at, last), at, last)
    begin = _row_begins(builder, features, at, _columns(builder, table))
    byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    fetch = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
    for column in columns:
        where = builder.bitcast(builder.gep(table.data, [builder.add(begin, column)]), byte)
        builder.call(fetch, [where, *_TO_READ_AND_KEEP])


_TO_READ_AND_KEEP = tuple(ir.IntType(32)(flag) for flag in (0, 3, 1))  # 1: of data, not of code
_SINGLES_AT_ONCE, _HALVES_AT_ONCE = CACHE_LINE // (4 * VECTOR), CACHE_LINE // (2 * VECTOR)  # vectors


def _products(n_vectors: int) -> Any:
    """The loop of `add_products` for so many vectors from a column on."""
    return _summed(n_vectors, UNROLLED, _loaded, _SINGLES_AT_ONCE)


def _half_products(n_vectors: int) -> Any:
    """The loop of `add_half_products` for so many vectors from a column on."""
    return _summed(n_vectors, 1, _loaded_halves, _HALVES_AT_ONCE)


def _summed(n_vectors: int, n_cells: int, loaded: Callable[[Any, Any, Any], Any], at_once: int) -> Any:
    """A loop over cells, so many at a time, whose rows of the table are `loaded` a vector at a time.

    Memory hands out so many vectors `at_once`.
    """

    @intrinsic
    def add(
        _: Any, values: Any, features: Any, _start: Any, _end: Any, weights: Any, _first: Any, margins: Any
    ) -> tuple[Any, Callable[..., Any]]:
        _check(values, features, weights, margins)
        place = types.intp
        signature = types.void(values, features, place, place, weights, place, margins)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            of_row, of_features, table, sums = (
                _array(context, builder, signature, arguments, place) for place in (0, 1, 4, 6)
            )
            n_columns = _columns(builder, table)
            columns = [builder.add(arguments[5], _INDEX(VECTOR * number)) for number in range(n_vectors)]
            so_far = [_variable(builder, _loaded(builder, sums.data, column)) for column in columns]
            cells = cgutils.for_range_slice(builder, arguments[2], arguments[3], _INDEX(n_cells), _INDEX)
            with cells as (first_cell, _):
                for number in range(AHEAD, AHEAD + n_cells):
                    at = builder.add(first_cell, _INDEX(number))
                    _ask_for(builder, at, arguments[3], of_features, table, columns[::at_once])
                places = [builder.add(first_cell, _INDEX(number)) for number in range(n_cells)]
                factors = [_everywhere(builder, of_row.data, at) for at in places]
                begins = [_row_begins(builder, of_features, at, n_columns) for at in places]
                for column, total in zip(columns, so_far, strict=True):
                    found = [
                        builder.fmul(factor, loaded(builder, table.data, builder.add(begin, column)))
                        for factor, begin in zip(factors, begins, strict=True)
                    ]
                    while len(found) > 1:  # (a + b) + (c + d)
                        found = [builder.fadd(*pair) for pair in zip(found[::2], found[1::2], strict=True)]
                    builder.store(builder.fadd(builder.load(total), found[0]), total)
            for column, total in zip(columns, so_far, strict=True):
                builder.store(builder.load(total), _vector_at(builder, sums.data, column), align=_ALIGNED)
            return context.get_dummy_value()

        return signature, code

    return add


def _multiples(n_vectors: int) -> Any:
    """The loop of `add_multiples` for so many vectors from a column on."""

    @intrinsic
    def add(
        _: Any, values: Any, features: Any, _start: Any, _end: Any, steps: Any, weights: Any, _first: Any
    ) -> tuple[Any, Callable[..., Any]]:
        _check(values, features, weights, steps)
        place = types.intp
        signature = types.void(values, features, place, place, steps, weights, place)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            of_row, of_features, by, table = (
                _array(context, builder, signature, arguments, place) for place in (0, 1, 4, 5)
            )
            n_columns = _columns(builder, table)
            columns = [builder.add(arguments[6], _INDEX(VECTOR * number)) for number in range(n_vectors)]
            step = [_loaded(builder, by.data, column) for column in columns]
            cells = cgutils.for_range_slice(builder, arguments[2], arguments[3], _INDEX(1), _INDEX)
            with cells as (at, _):
                ahead, first_of_each = builder.add(at, _INDEX(AHEAD)), columns[::_SINGLES_AT_ONCE]
                _ask_for(builder, ahead, arguments[3], of_features, table, first_of_each)
                factor = _everywhere(builder, of_row.data, at)
                begin = _row_begins(builder, of_features, at, n_columns)
                for column, own in zip(columns, step, strict=True):
                    where = _vector_at(builder, table.data, builder.add(begin, column))
                    moved = builder.fadd(builder.load(where, align=_ALIGNED), builder.fmul(factor, own))
                    builder.store(moved, where, align=_ALIGNED)
            return context.get_dummy_value()

        return signature, code

    return add


def _plainly(loop: Callable[..., Any], n_vectors: int) -> Callable[..., None]:
    """One of the loops above for who has numba run everything as Python."""
    columns = VECTOR * n_vectors

    def products(
        values: FloatArray,
        features: NDArray[np.int32],
        start: int,
        end: int,
        weights: FloatArray,
        first: int,
        margins: FloatArray,
    ) -> None:
        for at in range(start, end, UNROLLED):
            four = slice(at, at + UNROLLED)
            a, b, c, d = values[four, None] * weights[features[four], first : first + columns]
            margins[first : first + columns] += (a + b) + (c + d)

    def half_products(
        values: FloatArray,
        features: NDArray[np.int32],
        start: int,
        end: int,
        weights: NDArray[np.int16],
        first: int,
        margins: FloatArray,
    ) -> None:
        own = slice(first, first + columns)
        for at in range(start, end):
            margins[own] += values[at] * weights[features[at], own].view(np.float16).astype(np.float32)

    def multiples(
        values: FloatArray,
        features: NDArray[np.int32],
        start: int,
        end: int,
        steps: FloatArray,
        weights: FloatArray,
        first: int,
    ) -> None:
        own = slice(first, first + columns)
        for at in range(start, end):
            weights[features[at], own] += values[at] * steps[own]

    plain: dict[Callable[..., Any], Callable[..., None]] = {
        _products: products,
        _half_products: half_products,
        _multiples: multiples,
    }
    return plain[loop]


def _loops(loop: Callable[[int], Any]) -> list[Any]:
    """A loop for each number of vectors."""
    in_python = config.DISABLE_JIT  # type: ignore[attr-defined]
    return [_plainly(loop, number) if in_python else loop(number) for number in range(1, AT_ONCE + 1)]


_products_1, _products_2, _products_3, _products_4 = _loops(_products)
_half_products_1, _half_products_2, _half_products_3, _half_products_4 = _loops(_half_products)
_multiples_1, _multiples_2, _multiples_3, _multiples_4 = _loops(_multiples)


def empty_table(n_rows: int, n_columns: int, dtype: Any = np.float32) -> NDArray[Any]:
    """A table of zeros, contiguous, that begins where the memory's lines do.

    Elsewhere many a vector lies on two lines, and the loops here take up to half as long again.
    """
    n_bytes = n_rows * n_columns * np.dtype(dtype).itemsize
    room = np.zeros(n_bytes + CACHE_LINE, dtype=np.uint8)
    begin = -room.ctypes.data % CACHE_LINE
    table: NDArray[Any] = room[begin : begin + n_bytes].view(dtype).reshape(n_rows, n_columns)
    return table


@kernel
def add_products(
    values: FloatArray,
    features: NDArray[np.int32],
    start: int,
    end: int,
    weights: FloatArray,
    margins: FloatArray,
) -> None:
    """Add the product of a row's cells with a table to `margins`, four cells at a time.

    Each margin grows by (a + b) + (c + d), the products of four cells, then by those of the next four.

    Parameters
    ----------
    values, features
        float32 and int32: what each cell counts for, and which row of the table it belongs to.
    start, end
        The row has the cells from `start` up to `end`, a multiple of `UNROLLED` in number.
    weights
        The table, float32, shape (n_features, n_columns), contiguous, n_columns a multiple of `VECTOR`.
    margins
        float32, shape (n_columns,), contiguous.
    """
    for first in range(0, weights.shape[1], AT_ONCE * VECTOR):
        left = weights.shape[1] - first
        if left >= AT_ONCE * VECTOR:
            _products_4(values, features, start, end, weights, first, margins)
        elif left == 3 * VECTOR:
            _products_3(values, features, start, end, weights, first, margins)
        elif left == 2 * VECTOR:
            _products_2(values, features, start, end, weights, first, margins)
        else:
            _products_1(values, features, start, end, weights, first, margins)


@kernel
def add_multiples(
    values: FloatArray,
    features: NDArray[np.int32],
    start: int,
    end: int,
    steps: FloatArray,
    weights: FloatArray,
    which: int,
) -> None:
    """Add to the table's row of each cell from `start` up to `end` the cell's value times `steps`.

    Parameters
    ----------
    steps
        float32, shape (n_columns,), contiguous.
    which
        The vectors of columns to add to: the lowest bit stands for the first; -1 for all.
    values, features, start, end, weights
        As in `add_products`.
    """
    end_of_table = weights.shape[1]
    first = 0
    while first < end_of_table:
        if not (which >> (first // VECTOR)) & 1:
            first += VECTOR
            continue
        beyond = first + VECTOR
        while beyond < min(end_of_table, first + AT_ONCE * VECTOR) and (which >> (beyond // VECTOR)) & 1:
            beyond += VECTOR
        if beyond - first == AT_ONCE * VECTOR:
            _multiples_4(values, features, start, end, steps, weights, first)
        elif beyond - first == 3 * VECTOR:
            _multiples_3(values, features, start, end, steps, weights, first)
        elif beyond - first == 2 * VECTOR:
            _multiples_2(values, features, start, end, steps, weights, first)
        else:
            _multiples_1(values, features, start, end, steps, weights, first)
        first = beyond


@kernel
def add_half_products(
    values: FloatArray,
    features: NDArray[np.int32],
    start: int,
    end: int,
    weights: NDArray[np.int16],
    margins: FloatArray,
) -> None:
    """Add the product of a row's cells with a table of half precision to `margins`, one cell after another.

    Parameters
    ----------
    weights
        int16, shape (n_features, n_columns): float16 seen as int16, which numba has no loops for.
    values, features, start, end, margins
        As in `add_products`; there may be any number of cells.
    """
    for first in range(0, weights.shape[1], AT_ONCE * VECTOR):
        left = weights.shape[1] - first
        if left >= AT_ONCE * VECTOR:
            _half_products_4(values, features, start, end, weights, first, margins)
        elif left == 3 * VECTOR:
            _half_products_3(values, features, start, end, weights, first, margins)
        elif left == 2 * VECTOR:
            _half_products_2(values, features, start, end, weights, first, margins)
        else:
            _half_products_1(values, features, start, end, weights, first, margins)

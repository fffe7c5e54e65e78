"""The scikit-learn face of `Cascade`: raw texts in, a multilabel indicator out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import accuracy_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from cascade.errors import DataError
from cascade.fitted import CHUNK, Cascade, backend_complaints
from cascade.model.walk import batches
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy

NUMBERS = "biuf"
"""Kinds of arrays that may hold 0 and 1: bool, int, unsigned and float."""

MISSING = ("None", "nan", "<NA>", "NaT")
"""How the missing values of Python, NumPy and pandas print."""

TaxonomyLike: TypeAlias = Taxonomy | Mapping[str, Any] | str | os.PathLike[str] | None


class InputError(DataError, ValueError):
    """Texts or labels that cannot be used; a `ValueError` too, as callers of scikit-learn expect."""


class CascadeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A cascade as a scikit-learn classifier of raw texts with several labels each.

    Parameters
    ----------
    taxonomy : Taxonomy, path, mapping in the format of the taxonomy file, or None
        With None all labels of `y` stand directly under the root: one flat group.
    random_state : int, RandomState instance or None, default=0
        Equal integers give equal models.
    jobs : int, default=1
        Groups that are fitted at once; -1 for as many as there are processors.

    Attributes
    ----------
    classes_ : object array of str, shape (n_labels,)
        The labels: the columns of `predict` and `predict_proba`.
    n_classes_ : int
        n_labels.
    taxonomy_ : Taxonomy
        The taxonomy that was fitted.
    model_ : Cascade
        The fitted cascade; `model_.save` writes a model folder for ``cascade predict``.

    Notes
    -----
    `fit` and `score` take labels as names or as an indicator. What splits or scores by itself, such as
    `cross_val_score`, knows indicators only, and compares their columns by position: give those in the order
    of `classes_`, which is that of the taxonomy. `MultiLabelBinarizer(classes=taxonomy.graph.labels)` makes
    such an indicator from names.

    Examples
    --------
    >>> from cascade import CascadeClassifier
    >>> texts = ["my parcel is late", "two days late again", "refund me", "a refund, please"] * 5
    >>> labels = [["late"], ["late"], ["refund"], ["refund"]] * 5
    >>> classifier = CascadeClassifier().fit(texts, labels)
    >>> list(classifier.classes_)
    ['late', 'refund']
    >>> classifier.predict(["it is late"])
    array([[1, 0]])
    """

    def __init__(
        self,
        taxonomy: TaxonomyLike = None,
        *,
        random_state: int | np.random.RandomState | None = 0,
        jobs: int = 1,
    ) -> None:
        self.taxonomy = taxonomy
        self.random_state = random_state
        self.jobs = jobs

    def fit(self, X: Any, y: Any) -> CascadeClassifier:
        """The classifier itself, fitted.

        Parameters
        ----------
        X : array-like of str, shape (n_texts,) or (n_texts, 1)
            A list, an array, a Series, or a frame with one column.
        y : indicator of shape (n_texts, n_labels), or n_texts sequences of names
            An indicator is an array, a sparse matrix or a frame of 0 and 1. Columns without names are the
            labels of the taxonomy in their order; without a taxonomy they are named "0", "1" and so on.
            A frame with names has one column for each label of the taxonomy. Where `y` holds names, those
            may be aliases, or groups, which teach the router and nothing below.

        Raises
        ------
        InputError
            A `ValueError`: what `X` or `y` holds cannot be used, or does not fit the taxonomy.
        TaxonomyError
            The taxonomy has faults.
        TypeError
            `taxonomy` is none of the kinds above.
        """
        texts, target = _texts(X), _target(y)
        taxonomy = _taxonomy(self.taxonomy, target)
        names = target.names(taxonomy)
        try:
            model = Cascade.fit(taxonomy, texts, names, seed=_seed(self.random_state), jobs=self.jobs)
        except DataError as error:
            raise InputError(str(error)) from error
        self.model_, self.taxonomy_ = model, taxonomy
        self.classes_ = np.array(model.labels, dtype=object)
        self.n_classes_ = len(model.labels)
        return self

    def predict(self, X: Any) -> IntArray:
        """The chosen labels as an indicator, int64, shape (n_texts, n_labels), columns as in `classes_`.

        Groups that back off are no labels and have no column; `model_.predict` names them.
        """
        check_is_fitted(self)
        texts, model = _texts(X), self.model_
        columns = [model.graph.column[label] for label in model.labels]
        chosen = np.zeros((len(texts), len(columns)), dtype=np.int64)
        for chunk in batches(len(texts), model.graph, CHUNK):
            chosen[chunk] = model.decide(model.walk(texts[chunk]))[:, columns]
        return chosen

    def predict_proba(self, X: Any) -> FloatArray:
        """Path probabilities, float32, shape (n_texts, n_labels), columns as in `classes_`.

        A label that was not visited has 0: its group was too improbable to look at. Labels are chosen at
        thresholds of their own rather than at 0.5.
        """
        check_is_fitted(self)
        proba: FloatArray = np.nan_to_num(self.model_.predict_proba(_texts(X)), nan=0.0)
        return proba

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Subset accuracy: the share of texts all of whose labels, and no others, were chosen.

        Parameters
        ----------
        X, y
            As for `fit`, though names must be those of labels.
        sample_weight : array-like of shape (n_texts,), optional
            How much each text counts.
        """
        check_is_fitted(self)
        truth, predicted = _target(y).indicator(self.taxonomy_), self.predict(X)
        return float(accuracy_score(truth, predicted, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _taxonomy(given: TaxonomyLike, target: _Names | _Indicator) -> Taxonomy:
    if given is None:
        return Taxonomy.from_dict({"name": "labels", "labels": target.labels()}, source="y")
    if isinstance(given, Taxonomy):
        return given
    if isinstance(given, Mapping):
        return Taxonomy.from_dict(given, check_backend=backend_complaints)
    if isinstance(given, str | os.PathLike):
        return Taxonomy.load(given, check_backend=backend_complaints)
    raise TypeError(
        f"taxonomy: expected a Taxonomy, a path, a mapping or None, found {type(given).__name__}."
    )


# X


def _texts(X: Any) -> list[str]:
    texts = _text_column(X)
    for row, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise InputError(
                f"X, row {row}: expected a text, found {_found(text)}. "
                "Fill in missing texts with '' and convert all others to str first."
            )
        if not text.isascii() and not _is_whole(text):
            raise InputError(
                f"X, row {row}: half of a surrogate pair, which UTF-8 cannot carry. Decode the text anew."
            )
    return texts


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_column(X: Any) -> list[Any]:
    if issparse(X):
        raise InputError("X: expected texts, found a sparse matrix. Pass the texts as they are.")
    if hasattr(X, "__array__"):
        array = np.asarray(X)
        if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
            raise InputError(
                f"X: expected one column of texts, found an array of shape {array.shape}. "
                "Select it first, for instance X['text']."
            )
        return list(array.ravel().tolist())
    if _is_one_thing(X) or isinstance(X, Set) or not isinstance(X, Iterable):
        raise InputError(f"X: expected a list or an array of texts, found {_found(X)}. Wrap one text in [ ].")
    return list(X)


def _is_one_thing(value: Any) -> bool:
    """Whether `value` can be iterated over, but not into texts or rows."""
    return isinstance(value, str | bytes | Mapping)


def _found(value: Any) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    shown = repr(value)
    if shown in MISSING:
        return "a missing value (NaN)" if shown == "nan" else f"a missing value ({shown})"
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"


# y


@dataclass(frozen=True)
class _Names:
    """The names of each text."""

    rows: list[list[str]]

    def labels(self) -> list[str]:
        """All names, sorted."""
        found = {name for names in self.rows for name in names}
        if not found:
            raise InputError(f"y: {len(self.rows)} rows, none with a label: nothing to learn.")
        return sorted(found)

    def names(self, taxonomy: Taxonomy) -> list[list[str]]:  # noqa: ARG002 - as `_Indicator.names`
        """The names as they are."""
        return self.rows

    def indicator(self, taxonomy: Taxonomy) -> BoolArray:
        """Which labels each text has, bool, shape (n_texts, n_labels), columns as in the taxonomy."""
        column = {label: index for index, label in enumerate(taxonomy.graph.labels)}
        flags = np.zeros((len(self.rows), len(column)), dtype=bool)
        for row, names in enumerate(self.rows):
            for name in names:
                flags[row, column[_label(taxonomy, name, f"y, row {row + 1}")]] = True
        return flags


@dataclass(frozen=True)
class _Indicator:
    """`flags`: bool, shape (n_texts, n_columns); `columns` has their names, or is None."""

    flags: BoolArray
    columns: tuple[str, ...] | None

    def labels(self) -> list[str]:
        """The names of the columns, or their numbers from 0."""
        if not self.flags.shape[1]:
            raise InputError("y: no columns, so no labels: nothing to learn.")
        return list(self.columns or map(str, range(self.flags.shape[1])))

    def names(self, taxonomy: Taxonomy) -> list[list[str]]:
        """The labels of each text; warns where the columns do not stand as the labels of the taxonomy do."""
        order = self._order(taxonomy)
        if order != sorted(order):
            warnings.warn(
                "The columns of y are not in the order of the taxonomy; those of predictions will be. "
                "scikit-learn's metrics compare by position: pass them y[classifier.classes_].",
                DataConversionWarning,
                stacklevel=3,
            )
        labels = taxonomy.graph.labels
        return [[labels[column] for column in np.flatnonzero(row)] for row in self.flags[:, order]]

    def indicator(self, taxonomy: Taxonomy) -> BoolArray:
        """`flags` with the columns as in the taxonomy."""
        return self.flags[:, self._order(taxonomy)]

    def _order(self, taxonomy: Taxonomy) -> list[int]:
        """Where the column of each label of the taxonomy is."""
        labels, width = taxonomy.graph.labels, self.flags.shape[1]
        if self.columns is not None:
            place = _places(self.columns, taxonomy)
            return [place[label] for label in labels]
        if width != len(labels):
            raise InputError(f"y: {width} columns, expected {len(labels)}: one for each label, in order.")
        return list(range(width))


def _places(columns: Sequence[str], taxonomy: Taxonomy) -> dict[str, int]:
    """Label -> its one column, for all labels."""
    place: dict[str, int] = {}
    for column, name in enumerate(columns):
        label = _label(taxonomy, name, f"y, column {column + 1}")
        first = place.setdefault(label, column)
        if first != column:
            raise InputError(f"y: columns {first + 1} and {column + 1} both mean {label!r}; keep one.")
    if missing := [label for label in taxonomy.graph.labels if label not in place]:
        raise InputError(
            f"y: no column for {_several(missing)}. Add one, of zeros where no text has the label."
        )
    return place


def _label(taxonomy: Taxonomy, name: str, where: str) -> str:
    """The label that `name` means."""
    meant = taxonomy.resolve(name)
    if meant is None:
        raise InputError(f"{where}: unknown label {name!r}.{taxonomy.suggest(name)}")
    if meant not in taxonomy.labels:
        raise InputError(f"{where}: {name!r} is a group; expected a label.")
    return meant


def _several(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more labels"


def _target(y: Any) -> _Names | _Indicator:
    if y is None:
        raise InputError(
            "This CascadeClassifier estimator requires y to be passed, but the target y is None."
        )
    if issparse(y):
        return _Indicator(_sparse_flags(y), None)
    if not hasattr(y, "__array__"):
        return _target_of_rows(_rows(y))
    array = np.asarray(y)
    if hasattr(y, "columns"):
        return _Indicator(_flags(array), _column_names(list(y.columns)))
    if array.dtype.kind in NUMBERS:
        return _Indicator(_flags(array), None)
    return _target_of_rows(_rows(array.tolist()))


def _target_of_rows(rows: list[list[Any]]) -> _Names | _Indicator:
    first = next((one for row in rows for one in row), "")
    if isinstance(first, str):
        return _Names([_row_of_names(row, number) for number, row in enumerate(rows, 1)])
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise InputError(
            f"y: rows of {min(widths)} to {max(widths)} flags; expected one flag for each label, or names."
        )
    return _Indicator(_flags(np.array(rows, dtype=object)), None)


def _column_names(columns: list[Any]) -> tuple[str, ...] | None:
    """None for the numbers that a frame gives to columns without names."""
    if columns == list(range(len(columns))):
        return None
    if strange := [name for name in columns if not isinstance(name, str)]:
        raise InputError(f"y: expected names of labels as columns, found {_found(strange[0])}.")
    return tuple(columns)


def _rows(y: Any) -> list[list[Any]]:
    if _is_one_thing(y) or isinstance(y, Set) or not isinstance(y, Iterable):
        raise InputError(f"y: expected a list of names for each text or an indicator, found {_found(y)}.")
    return [_row(row, number) for number, row in enumerate(y, 1)]


def _row(row: Any, number: int) -> list[Any]:
    if isinstance(row, str):
        raise InputError(
            f"y, row {number}: expected a list of names, found the string {row!r}. "
            "Where each text has one label, pass [[name] for name in y]."
        )
    if _is_one_thing(row) or not isinstance(row, Iterable):
        raise InputError(
            f"y, row {number}: expected a list of names or the flags of all labels, found {_found(row)}. "
            "A text without labels has []."
        )
    return list(row)


def _row_of_names(row: list[Any], number: int) -> list[str]:
    for name in row:
        if not isinstance(name, str):
            raise InputError(f"y, row {number}: expected the name of a label, found {_found(name)}.")
    return [str(name) for name in row]


def _sparse_flags(y: Any) -> BoolArray:
    flags = np.zeros(_shape_of_indicator(y), dtype=bool)
    cells = y.tocsr().tocoo()
    flags[cells.row, cells.col] = _checked(cells.data, lambda cell: (cells.row[cell], cells.col[cell]))
    return flags


def _flags(values: NDArray[Any]) -> BoolArray:
    """The same as bool, if every value is 0 or 1."""
    shape = _shape_of_indicator(values)
    return _checked(values.ravel(), lambda cell: divmod(cell, shape[1])).reshape(shape)


def _shape_of_indicator(values: Any) -> tuple[int, int]:
    if values.ndim != 2:
        one_each = f" ({_kind_of_values(values)}, one value for each text)" if values.ndim == 1 else ""
        raise InputError(
            f"y: expected an indicator of shape (n_texts, n_labels) or a list of names for each text, "
            f"found an array of shape {values.shape}{one_each}."
        )
    return values.shape[0], values.shape[1]


def _kind_of_values(values: Any) -> str:
    """What scikit-learn would call a target of one value for each text."""
    fractions = values.dtype.kind == "f" and (values != np.round(values)).any()
    return "continuous" if fractions else "binary or multiclass"


def _checked(cells: NDArray[Any], place: Callable[[int], tuple[int, int]]) -> BoolArray:
    """These cells as bool, if every one is 0 or 1; `place` tells the row and column of one."""
    numbers = _numbers(cells)
    wrong = np.flatnonzero((numbers != 0) & (numbers != 1))
    if len(wrong):
        row, column = place(int(wrong[0]))
        found = cells[wrong[0]]
        raise InputError(
            f"y, row {row + 1}, column {column + 1}: expected 0 or 1 in an indicator, found {found}."
        )
    return numbers.astype(bool)


def _numbers(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind in NUMBERS:
        return values
    try:
        return np.asarray(values.astype(object), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"y: expected 0 or 1 in every cell of an indicator: {error}. "
            "Pass lists of names as one column, for instance y['labels']."
        ) from error

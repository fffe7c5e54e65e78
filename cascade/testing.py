"""For your own tests: a backend that scores by keyword, at once, the same each time, without training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import FittedNode, NodeProblem
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.serialization import read_json, write_json
from cascade.text.texts import Texts

FILE = "keywords.json"
# Words, and marks such as "?" or an emoji one by one.
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")


class KeywordModel:
    """Scores a child `found` where one of its keywords stands in the text, `missing` elsewhere.

    A keyword is a word or some words in a row; it is found whole (``late`` not in ``chocolate``), whatever
    the case and the white space, and ``_`` reads as a blank.
    """

    def __init__(self, keywords: Sequence[Sequence[str]], found: float, missing: float) -> None:
        self.keywords = tuple(tuple(of_child) for of_child in keywords)
        self.found, self.missing = found, missing
        self._sought = [[_tokens(keyword) for keyword in of_child] for of_child in self.keywords]

    def scores(self, texts: Texts) -> FloatArray:
        """One score per text and child, shape (n_texts, n_children), float32, `found` or `missing`."""
        stands = np.zeros((len(texts), len(self._sought)), dtype=bool)
        for row, text in enumerate(texts):
            tokens = _tokens(text)
            stands[row] = [any(keyword in tokens for keyword in of_child) for of_child in self._sought]
        return np.where(stands, np.float32(self.found), np.float32(self.missing))

    def save(self, folder: Path) -> None:
        content = {"keywords": self.keywords, "found": self.found, "missing": self.missing}
        write_json(folder / FILE, content)


class KeywordBackend:
    """Makes `KeywordModel`; it learns nothing, so every score is a held-out one.

    Parameters
    ----------
    keywords
        The keywords of children by name. A child that is not named there has one, its own name.
    found, missing
        The two scores, each in [0, 1].

    Raises
    ------
    BackendError
        A keyword has neither word nor mark, or a score is outside [0, 1].
    """

    def __init__(
        self, keywords: Mapping[str, Sequence[str]] | None = None, *, found: float = 0.9, missing: float = 0.1
    ) -> None:
        self.keywords = dict(keywords or {})
        self.found, self.missing = found, missing
        _check(list(self.keywords.values()), found, missing)

    def fit(self, problem: NodeProblem, workdir: Path) -> FittedNode:  # noqa: ARG002 - the contract's signature
        """The model of the problem's children, with its scores of every row."""
        model = self._model(problem.children)
        rows = np.arange(len(problem.texts), dtype=np.int64)
        return FittedNode(model, rows, model.scores(problem.texts))

    def fit_and_score(self, problem: NodeProblem, train: IntArray, test: IntArray) -> FloatArray:  # noqa: ARG002
        """Scores of the `test` rows; those to train with change nothing."""
        return self._model(problem.children).scores(problem.texts.take(test))

    def prepare(self, texts: Texts, jobs: int) -> None:
        """Nothing is shared."""

    def load(self, folder: Path) -> KeywordModel:
        """The model that was saved there; ModelError where the file does not hold one."""
        content = read_json(folder / FILE)
        known: dict[str, Any] = dict.fromkeys(("keywords", "found", "missing"))
        known |= content if isinstance(content, dict) else {}
        keywords, found, missing = known["keywords"], known["found"], known["missing"]
        if fault := _fault(keywords, found, missing):
            raise ModelError(f"{folder / FILE}: {fault} Fit the model again.")
        return KeywordModel(keywords, found, missing)

    def _model(self, children: Sequence[str]) -> KeywordModel:
        keywords = [self.keywords.get(child, [child]) for child in children]
        _check(keywords, self.found, self.missing)
        return KeywordModel(keywords, self.found, self.missing)


def _tokens(text: str) -> str:
    """The text's words and marks between single blanks, so that whole words can be found as they are."""
    return f" {' '.join(_TOKEN.findall(text.casefold()))} "


def _check(keywords: Sequence[Sequence[str]], found: float, missing: float) -> None:
    if fault := _fault(keywords, found, missing):
        raise BackendError(f"keyword backend: {fault}")


def _fault(keywords: Any, found: Any, missing: Any) -> str:
    """What makes these unusable, or an empty string."""
    for name, score in (("found", found), ("missing", missing)):
        if isinstance(score, bool) or not isinstance(score, int | float) or not 0 <= score <= 1:
            return f"expected {name!r} in [0, 1], found {score!r}."
    if not isinstance(keywords, list):
        return f"expected a list of keywords for each child, found {keywords!r}."
    for of_child in keywords:
        if isinstance(of_child, str) or not isinstance(of_child, Sequence):
            return f"expected a list of keywords, found {of_child!r}."
        for keyword in of_child:
            if not isinstance(keyword, str) or not _TOKEN.search(keyword):
                return f"expected a keyword with a word or a mark in it, found {keyword!r}."
    return ""

"""What a hosted model learns from: the training and validation files of one group, and the rows held out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.errors import BackendError
from cascade.hosted import tokens
from cascade.hosted.codecs import Codec
from cascade.hosted.settings import Settings
from cascade.nodes.contract import NodeProblem, sampled
from cascade.system.array_types import BoolArray, IntArray

FEWEST = 10
"""Services refuse a file with fewer examples."""
LONGEST = 65_536
"""Most tokens of an example; services cut longer ones, and with them their answers."""
FOLDS = 10
"""One fold of so many is held out."""
# Rows of other groups are there to be answered with none, and not what a group is paid for.
_OTHERS = 10

_BOM = b"\xef\xbb\xbf"
# Some readers of lines take these for ends of lines; JSON allows them bare.
_LINE_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"}
# Counting tokens twice may differ a little at the seam of a cut text.
_SPARE = 16
# A character is four bytes at most, and a token at least one; the rest is for the prompt.
_SURELY_FITTING = LONGEST // 8


@dataclass(frozen=True)
class Examples:
    """The files of one fine-tune.

    Attributes
    ----------
    training, validation
        JSONL, one example a line; `validation` may be empty.
    rows
        int64, shape (n_training,): positions in the problem of the training lines, in their order.
    held_out
        int64: positions in the problem, ascending, of all rows that the model must not see.
    n_positives
        For each child how many training lines have it.
    n_validation
        Lines of `validation`.
    n_others
        Training lines of rows that do not reach the group.
    n_cut
        Lines, of both files, whose text was too long and is cut.
    tokens
        Of all training lines, once through.
    """

    training: bytes
    validation: bytes
    rows: IntArray
    held_out: IntArray
    n_positives: tuple[int, ...]
    n_validation: int
    n_others: int
    n_cut: int
    tokens: int

    @classmethod
    def of(
        cls,
        problem: NodeProblem,
        codec: Codec,
        settings: Settings,
        seed: int,
        held_out: BoolArray | None = None,
    ) -> Examples:
        """The examples of a problem; the same arguments give the same bytes.

        Parameters
        ----------
        problem
            Rows that are not its `own` are answered with none; of them a few are taken.
        codec
            Writes the lines.
        settings
            ``max_examples``, and whether files begin with a byte order mark.
        seed
            Fixes every random choice.
        held_out
            bool, shape (n_texts,): rows to hold out. None holds out a tenth of the own rows: every child
            spread evenly, and whatever is nearly equal to a row held out is not trained on.

        Raises
        ------
        BackendError
            Fewer than `FEWEST` training lines.
        """
        unseen, usable = _parted(problem, seed) if held_out is None else (held_out, ~held_out)
        rows = _chosen(problem, usable, settings.max_examples, seed)
        if len(rows) < FEWEST:
            raise BackendError(_too_few(problem, len(rows)))
        checked = _capped(problem, np.flatnonzero(unseen & problem.own), settings.max_examples // FOLDS, seed)
        training, validation = (_lines(problem, codec, some) for some in (rows, checked))
        mark = _BOM if settings.traits.bom else b""
        return cls(
            training=_file(training, mark),
            validation=_file(validation, mark),
            rows=rows,
            held_out=np.flatnonzero(unseen),
            n_positives=tuple(map(int, _kept(problem)[rows].sum(axis=0))),
            n_validation=len(validation),
            n_others=int((~problem.own[rows]).sum()),
            n_cut=sum(line.is_cut for line in (*training, *validation)),
            tokens=sum(line.tokens for line in training),
        )

    @property
    def n_training(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> dict[str, int]:
        """The figures, for notes; JSON-able."""
        return {
            "training": self.n_training,
            "validation": self.n_validation,
            "held_out": len(self.held_out),
            "others": self.n_others,
            "cut": self.n_cut,
            "tokens": self.tokens,
        }


# Which rows


def _parted(problem: NodeProblem, seed: int) -> tuple[BoolArray, BoolArray]:
    """Rows held out, and rows that may be trained on, each bool, shape (n_texts,)."""
    from cascade.text.clusters import clusters_of  # numba, which prices and checks do without
    from cascade.validation.folds import stratified_folds

    own = np.flatnonzero(problem.own)
    clusters = clusters_of(problem.texts)
    fold_of = stratified_folds(problem.targets[own], clusters[own], FOLDS, seed)
    unseen = np.zeros(len(problem.texts), dtype=bool)
    unseen[own[fold_of == 0]] = True
    return unseen, ~np.isin(clusters, clusters[unseen])


def _chosen(problem: NodeProblem, usable: BoolArray, most: int, seed: int) -> IntArray:
    """The rows to train on, int64, shuffled: files sorted by label teach the last ones best."""
    others = np.flatnonzero(usable & ~problem.own)
    room = min(len(others), most // _OTHERS)
    own = _capped(problem, np.flatnonzero(usable & problem.own), most - room, seed)
    some = sampled(others, min(room, len(own) // (_OTHERS - 1)), seed)
    return np.random.default_rng(seed).permutation(np.concatenate([own, some]))


def _capped(problem: NodeProblem, rows: IntArray, most: int, seed: int) -> IntArray:
    """At most `most` of the rows, ascending.

    Each child, and the lack of any, keeps a fair share, or all that it has.
    """
    if len(rows) <= most:
        return rows
    order = np.random.default_rng(seed).permutation(rows)
    targets = problem.targets[order]
    classes = np.column_stack([targets, ~targets.any(axis=1)])
    kept = _fair(classes, most // classes.shape[1] or 1, most)
    rest = np.flatnonzero(~kept)[: most - int(kept.sum())]
    kept[rest] = True
    return np.sort(order[kept])


def _fair(classes: BoolArray, share: int, most: int) -> BoolArray:
    """The first rows of each class up to its share, the rarest class first; bool, shape (n_rows,)."""
    kept = np.zeros(len(classes), dtype=bool)
    for column in np.argsort(classes.sum(axis=0), kind="stable"):
        lacking = share - int((classes[:, column] & kept).sum())
        room = most - int(kept.sum())
        more = np.flatnonzero(classes[:, column] & ~kept)[: max(min(lacking, room), 0)]
        kept[more] = True
    return kept


def _kept(problem: NodeProblem) -> BoolArray:
    """What is to be answered: nothing for rows of other groups."""
    answers: BoolArray = problem.targets & problem.own[:, None]
    return answers


def _too_few(problem: NodeProblem, n_found: int) -> str:
    others = f" and {len(problem.children) - 1} more" if len(problem.children) > 1 else ""
    return (
        f"the group of {problem.children[0]!r}{others}: expected {FEWEST} training examples or more, found "
        f"{n_found} beside the rows held out. Label more rows, or take `backend: linear` for this group"
    )


# Lines


@dataclass(frozen=True)
class _Line:
    content: str
    tokens: int
    is_cut: bool


def _lines(problem: NodeProblem, codec: Codec, rows: IntArray) -> list[_Line]:
    answers = _kept(problem)
    return [_line(codec, problem.texts[int(row)], answers[row]) for row in rows]


def _line(codec: Codec, text: str, target: Sequence[bool] | BoolArray) -> _Line:
    marks = [bool(mark) for mark in target]
    line = codec.example(text, marks)
    size = tokens.of_example(line)
    is_cut = size > LONGEST
    if is_cut:
        line = codec.example(fitting(codec, text), marks)
        size = tokens.of_example(line)
    return _Line(_json(line), size, is_cut)


def fitting(codec: Codec, text: str) -> str:
    """The text, or so much of it as an example or a question of `LONGEST` tokens has room for."""
    if len(text) <= _SURELY_FITTING:
        return text
    longest_answer = [codec.kind != "code"] * len(codec.children)
    room = LONGEST - _SPARE - tokens.of_example(codec.example("", longest_answer))
    return tokens.cut(text, max(room, 0))


def _json(line: Mapping[str, Any]) -> str:
    return json.dumps(line, ensure_ascii=False).translate(_LINE_ENDS)


def _file(lines: Iterable[_Line], mark: bytes) -> bytes:
    content = "".join(line.content + "\n" for line in lines).encode("utf-8")
    return mark + content if content else b""

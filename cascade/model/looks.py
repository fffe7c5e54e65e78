"""Several looks at a text: what makes one doubt, and one walk of what each answered.

A look is a whole model of the walk, with thresholds of its own. Rows that a cheap one doubts get the next
one, which knows more and is dearer: words first, then what they mean, then what a language model says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cascade.model.folder import Manifest
from cascade.model.walk import Block, Walked, levels
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.graph import Graph
from cascade.validation.doubts import expected_errors

NO_DOUBT = -1.0
"""The greatest doubt of a look that answers nothing, as doubts are 0 or more."""
# So many texts are decided at once, which takes one array of them and all nodes.
_AT_ONCE = 2000


def manifest_of_first(manifest: Manifest) -> Manifest | None:
    """What a manifest tells of the first look, as one of its own; None where there is one look only."""
    look = manifest.first_look
    if look is None:
        return None
    return replace(
        manifest,
        groups=look.groups,
        thresholds=look.thresholds,
        combination=look.combination,
        exclusive=look.exclusive,
        least_known=look.least_known,
        promises={},
        encoders={},
        first_look=look.first_look,
    )


def doubts_of(walked: Walked, decide: Callable[[Walked], BoolArray]) -> NDArray[np.float64]:
    """How many labels of each text are expected to be wrong, float64, shape (n_texts,); 0 is no doubt.

    A chosen label is wrong with 1 less its probability, any other that was visited with its probability.
    Where nothing was chosen, or nothing is known of a text, the doubt is infinite: what words do not find the
    meaning may tell, and which label comes first, though below its threshold, they know worst.

    Parameters
    ----------
    walked
        Combined.
    decide
        What is answered for some texts, bool, shape (n_texts, n_nodes), columns as in `Graph.nodes`.
    """
    found = np.empty(len(walked), dtype=np.float64)
    first = len(walked.graph.nodes) - len(walked.graph.labels)
    for texts, part in walked.slices(_AT_ONCE):
        expected_errors(part.paths, decide(part), first, False, found[texts])
    if walked.nothing_known is not None:
        found[walked.nothing_known] = np.inf
    return found


def joined(answered_by: NDArray[np.int8], walks: Sequence[Walked]) -> Walked:
    """The walk of texts of which each look answered some.

    Parameters
    ----------
    answered_by
        int8, shape (n_texts,): the look of each.
    walks
        For each look the walk of its texts.
    """
    rows = [np.flatnonzero(answered_by == look) for look in range(len(walks))]
    found = _joined(len(answered_by), rows, walks)
    if any(one.before is not None for one in walks):
        before = _joined(len(answered_by), rows, [one.before or one for one in walks])
        found = replace(found, before=before)
    return replace(found, answered_by=answered_by)


def _joined(n_texts: int, rows: Sequence[IntArray], walks: Sequence[Walked]) -> Walked:
    graph = walks[0].graph
    failed = {
        int(own[place]): why
        for own, walked in zip(rows, walks, strict=True)
        for place, why in walked.failed.items()
    }
    return Walked(graph, n_texts, _blocks(graph, rows, walks), failed, None, _unknown(n_texts, rows, walks))


def _blocks(graph: Graph, rows: Sequence[IntArray], walks: Sequence[Walked]) -> dict[str, Block]:
    """Parents first, as in any walk."""
    found = {}
    for group in (group for level in levels(graph) for group in level):
        parts = [
            replace(walked.blocks[group], rows=own[walked.blocks[group].rows])
            for own, walked in zip(rows, walks, strict=True)
            if group in walked.blocks
        ]
        if parts:
            found[group] = parts[0] if len(parts) == 1 else _block(parts)
    return found


def _block(parts: Sequence[Block]) -> Block:
    rows = np.concatenate([one.rows for one in parts])
    order = np.argsort(rows)
    seconds = None
    if any(one.seconds is not None for one in parts):
        seconds = np.concatenate([_seconds(one) for one in parts])[order]
    return Block(
        rows[order],
        np.concatenate([one.above for one in parts])[order],
        np.concatenate([one.conditionals for one in parts])[order],
        np.concatenate([one.paths for one in parts])[order],
        seconds,
    )


def _seconds(block: Block) -> FloatArray:
    return np.full(block.paths.shape, np.nan, np.float32) if block.seconds is None else block.seconds


def _unknown(n_texts: int, rows: Sequence[IntArray], walks: Sequence[Walked]) -> BoolArray | None:
    if all(walked.nothing_known is None for walked in walks):
        return None
    found = np.zeros(n_texts, dtype=np.bool_)
    for own, walked in zip(rows, walks, strict=True):
        if walked.nothing_known is not None:
            found[own] = walked.nothing_known
    return found

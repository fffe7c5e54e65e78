"""Path probabilities and whatever else speaks for a label, to one probability of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import numpy as np

from cascade.model.contests import Contests, LabelCells
from cascade.model.walk import Walked
from cascade.system.array_types import BoolArray, FloatArray, IntArray
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.validation.calibration import NEAR, logit
from cascade.validation.combination import Combination

# So many texts are combined at once, and by one thread.
SLICE = 4096
_LEAST = float(logit(np.array([NEAR]))[0])


def features_of(walked: Walked, cells: LabelCells) -> FloatArray:
    """What speaks for each cell, float32, shape (n_cells, n_features): see `combination.FEATURES`.

    Where a group has no second model, the path probability stands in for its score.
    """
    blocks = walked.blocks
    paths = {group: block.paths for group, block in blocks.items()}
    seconds = {group: block.seconds for group, block in blocks.items() if block.seconds is not None}
    path = logit(cells.of(paths))
    own = logit(cells.of({group: block.conditionals for group, block in blocks.items()}))
    second = logit(cells.of(paths | seconds)) if seconds else path
    behind = cells.behind(path, _LEAST)
    behind_second = cells.behind(second, _LEAST) if seconds else behind
    return np.column_stack([path, own, second, behind, behind_second]).astype(np.float32)


class Combiner:
    """A combination, for walks of one taxonomy."""

    def __init__(self, taxonomy: Taxonomy, combination: Combination) -> None:
        self.taxonomy, self.combination = taxonomy, combination
        self.contests = Contests(taxonomy)
        graph = taxonomy.graph
        self.places = {
            (group, child): at for group in graph.groups for at, child in enumerate(graph.children[group])
        }
        self.joined = [label for label in graph.labels if len(graph.parents[label]) > 1]

    def combined(self, walked: Walked, threads: int = 1) -> Walked:
        """The walk, with probabilities in the place of path probabilities.

        A group is raised to the most probable of what stands below it. `Walked.before` has the walk before.
        """
        if self.combination == Combination.product():
            return walked
        if walked.n_texts <= SLICE:
            return walked.with_paths(self._paths(walked), before=walked)
        ends = [*range(0, walked.n_texts, SLICE), walked.n_texts]
        slices = (walked.of(np.arange(start, end)) for start, end in pairwise(ends))
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(self._paths, slices))
        paths = {
            group: np.concatenate([part[group] for part in parts if group in part])
            for group, block in walked.blocks.items()
            if len(block.rows)
        }
        return walked.with_paths(paths, before=walked)

    def _paths(self, walked: Walked) -> dict[str, FloatArray]:
        """The probabilities of each block of a walk, shaped like its path probabilities."""
        cells = self.contests.cells(walked)
        paths = {group: block.paths.copy() for group, block in walked.blocks.items()}
        cells.put(self.combination.apply(features_of(walked, cells)), paths)
        self._join_parents(walked, paths)
        self._raise_groups(walked, paths)
        return paths

    def with_seconds(self, walked: Walked, scores: Mapping[str, FloatArray]) -> Walked:
        """The walk with calibrated scores of second models, each of a block's rows and scored children."""
        blocks = dict(walked.blocks)
        for group, own in scores.items():
            wide = np.full(blocks[group].paths.shape, np.nan, dtype=np.float32)
            wide[:, [self.places[group, child] for child in self.taxonomy.scored_children(group)]] = own
            blocks[group] = replace(blocks[group], seconds=wide)
        return replace(walked, blocks=blocks)

    def _join_parents(self, walked: Walked, paths: dict[str, FloatArray]) -> None:
        """Have a label of several parents be as probable as by the best of them, in the blocks of all."""
        changed = walked.with_paths(paths)
        for label in self.joined:
            rows, values = changed.node(label)
            for column, at, found in self._places(walked, paths, label, rows):
                column[found] = values[at]

    def _raise_groups(self, walked: Walked, paths: dict[str, FloatArray]) -> None:
        for group in reversed(self.taxonomy.graph.groups):
            if group != ROOT and group in walked.blocks and paths[group].shape[1]:
                below = np.fmax.reduce(paths[group], axis=1)
                for column, at, found in self._places(walked, paths, group, walked.blocks[group].rows):
                    column[found] = np.fmax(column[found], below[at])

    def _places(
        self, walked: Walked, paths: Mapping[str, FloatArray], name: str, rows: IntArray
    ) -> Iterator[tuple[FloatArray, IntArray, BoolArray]]:
        """Of each parent of a node: its column in `paths`, and which of the `rows` are where in that."""
        for parent in self.taxonomy.graph.parents[name]:
            if parent in walked.blocks:
                own = walked.blocks[parent].rows
                at = np.searchsorted(rows, own)
                found = np.append(rows, -1)[at] == own
                yield paths[parent][:, self.places[parent, name]], at[found], found

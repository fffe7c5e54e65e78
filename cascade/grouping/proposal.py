"""Flat labels with rows to named groups."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.grouping.clustering import clusters_of
from cascade.grouping.group_names import group_names
from cascade.grouping.meaning import Encode
from cascade.grouping.vectors import label_vectors


@dataclass(frozen=True)
class Proposal:
    """Labels in groups: name of a group -> its labels, and the labels that are like no others."""

    groups: Mapping[str, tuple[str, ...]]
    alone: tuple[str, ...]


def propose_groups(
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    *,
    n_groups: int | None = None,
    more_labels: Collection[str] = (),
    encode: Encode | None = None,
) -> Proposal:
    """Groups for the labels of some rows: those that are alike, and so are confused or go together, in one.

    A router then has little to tell apart, and what is hard is left to the models of groups. The same rows
    and names give the same groups. Groups, and the labels in them, come in the order of their names.

    Parameters
    ----------
    texts, labels
        The rows; a row may have any number of labels.
    n_groups
        How many groups; by default settled by `clusters_of`, which gives none for fewer than eight
        labels. A given number is kept to, as far as there are labels that are like another.
    more_labels
        Labels that no row has to carry.
    encode
        An encoder by which labels are alike in what they mean, too; by default their words are all.

    Raises
    ------
    ValueError
        `n_groups` is less than 1, or texts and labels differ in number.
    """
    if len(texts) != len(labels):
        raise ValueError(f"{len(texts)} texts and {len(labels)} lists of labels; expected one list a text")
    if n_groups is not None and n_groups < 1:
        raise ValueError(f"n_groups is {n_groups}; expected 1 or more")
    names = sorted({name for own in labels for name in own} | set(more_labels))
    if not names:
        return Proposal({}, ())
    known = label_vectors(names, texts, labels, encode)
    clusters = clusters_of(known.vectors, n_groups)
    members = [np.flatnonzero(clusters == one).tolist() for one in range(clusters.max(initial=-1) + 1)]
    if n_groups is None and len(members) < 2:
        return Proposal({}, tuple(names))
    titles = group_names(names, members, known)
    groups = {title: tuple(names[at] for at in own) for title, own in zip(titles, members, strict=True)}
    alone = tuple(names[at] for at in np.flatnonzero(clusters < 0))
    return Proposal({title: groups[title] for title in sorted(groups)}, alone)

"""Vectors to clusters of bounded size, and how many there are best."""

from __future__ import annotations

from typing import Any

import numpy as np

from cascade.grouping.vectors import Array
from cascade.system.array_types import IntArray

LARGEST = 2.0
"""No cluster has more than so many times its equal share: one that holds most labels spares nothing."""
LEAST_LABELS = 8
"""Fewer labels than these are asked at once."""
ITERATIONS = 30
COUNTS_TRIED = 12
TREE_MOST = 5000
"""So many vectors are joined pair by pair, which takes a matrix of all distances; the others follow these."""


def clusters_of(vectors: Array, n_clusters: int | None = None) -> IntArray:
    """The cluster of each vector, int64 (n_vectors,), numbered from 0; -1 for one that is like no cluster.

    Clusters are those of Ward's method (Murtagh & Legendre, Journal of Classification 2014), bettered by
    spherical k-means (Dhillon & Modha, Machine Learning 2001) with at most `LARGEST` times the mean size
    in each.

    Where `n_clusters` is None, numbers about the square root of the number of vectors are tried, at which
    router and groups have about as many children as each other. Of these the one with the best silhouette
    is taken, or the least that is within one standard error of it (the rule of Breiman et al.,
    "Classification and Regression Trees", 1984, section 3.4.3). Where it is given, there are that many,
    however small they are.
    """
    known = np.flatnonzero(np.any(vectors != 0, axis=1))
    found = np.full(len(vectors), -1, dtype=np.int64)
    if n_clusters is not None:
        found[known] = _forced(vectors[known], n_clusters)
    elif len(known) >= LEAST_LABELS:
        found[known] = _best(vectors[known])
    return found


def _forced(vectors: Array, n_clusters: int) -> IntArray:
    count = min(n_clusters, len(vectors))
    return _clustered(vectors, _tree(vectors), count) if count else np.empty(0, dtype=np.int64)


def _best(vectors: Array) -> IntArray:
    tree = _tree(vectors)
    tried = [_without_strays(vectors, _clustered(vectors, tree, count)) for count in _counts(len(vectors))]
    values = [silhouettes(vectors, clusters) for clusters in tried]
    means = [float(each.mean()) for each in values]
    top = int(np.argmax(means))
    bar = means[top] - float(values[top].std()) / np.sqrt(len(vectors))
    return next(clusters for clusters, mean in zip(tried, means, strict=True) if mean >= bar)


def _counts(n_vectors: int) -> list[int]:
    """Numbers of clusters to try, from a half to one and a half times the root of `n_vectors`."""
    root = np.sqrt(n_vectors)
    return sorted({max(round(count), 2) for count in np.linspace(0.5 * root, 1.5 * root, COUNTS_TRIED)})


def _tree(vectors: Array) -> Any:
    from scipy.cluster.hierarchy import linkage

    return linkage(vectors[:TREE_MOST], "ward") if len(vectors) > 1 else None


def _clustered(vectors: Array, tree: Any, count: int) -> IntArray:
    from scipy.cluster.hierarchy import cut_tree

    clusters = np.full(len(vectors), -1, dtype=np.int64)
    clusters[:TREE_MOST] = cut_tree(tree, count).ravel() if tree is not None else 0
    room = int(np.ceil(LARGEST * len(vectors) / count))
    for _ in range(ITERATIONS):
        better = _dealt(vectors @ _centres(vectors, clusters, count).T, room)
        if np.array_equal(better, clusters):
            break
        clusters = better
    return clusters


def _centres(vectors: Array, clusters: IntArray, count: int) -> Array:
    """The directions of the clusters' sums, float64 (count, n_dimensions)."""
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, clusters[clusters >= 0], vectors[clusters >= 0])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.asarray(sums / np.where(lengths == 0, 1, lengths))


def _dealt(likeness: Array, room: int) -> IntArray:
    """Each vector to the cluster it is most like that has room; those first that are surest.

    No cluster is left empty: the surest of each stays with it.
    """
    n_vectors, count = likeness.shape
    wishes = np.argsort(-likeness, axis=1, kind="stable")
    best = np.take_along_axis(likeness, wishes, axis=1)
    margins = best[:, 0] - best[:, 1] if count > 1 else best[:, 0]
    rooms = np.full(count, room)
    dealt = np.full(n_vectors, -1, dtype=np.int64)
    for cluster in range(count):
        free = np.where(dealt < 0, likeness[:, cluster], -np.inf)
        dealt[int(np.argmax(free))] = cluster
        rooms[cluster] -= 1
    for vector in np.argsort(-margins, kind="stable"):
        if dealt[vector] < 0:
            own = next(cluster for cluster in wishes[vector] if rooms[cluster] > 0)
            dealt[vector] = own
            rooms[own] -= 1
    return dealt


def _without_strays(vectors: Array, clusters: IntArray) -> IntArray:
    """The same clusters without those of one vector, which join the ones they are most like.

    What is like no cluster, its cosine with each being 0 or less, gets -1: it is as far from all as the
    mean is.
    """
    own, others = _likeness(vectors, clusters)
    sizes = np.bincount(clusters)
    alone = sizes[clusters] == 1
    others[:, sizes == 1] = -np.inf
    kept = np.where(alone | (own <= 0), np.argmax(others, axis=1), clusters)
    kept[np.maximum(own, others.max(axis=1)) <= 0] = -1
    kept[_lonely(kept)] = -1
    return _numbered(kept)


def _lonely(clusters: IntArray) -> Any:
    return (clusters >= 0) & (np.bincount(np.maximum(clusters, 0), weights=clusters >= 0)[clusters] == 1)


def _numbered(clusters: IntArray) -> IntArray:
    _, numbers = np.unique(clusters[clusters >= 0], return_inverse=True)
    found = np.full(len(clusters), -1, dtype=np.int64)
    found[clusters >= 0] = numbers
    return found


def _likeness(vectors: Array, clusters: IntArray) -> tuple[Array, Array]:
    """The cosine of each vector with its own cluster's centre without it, and with those of the others."""
    count = int(clusters.max(initial=-1)) + 1
    sums = np.zeros((count, vectors.shape[1]))
    np.add.at(sums, clusters[clusters >= 0], vectors[clusters >= 0])
    others = vectors @ _centres(vectors, clusters, count).T
    rest = np.where(clusters[:, None] >= 0, sums[clusters] - vectors, 0)
    lengths = np.linalg.norm(rest, axis=1)
    own = np.einsum("ij,ij->i", rest, vectors) / np.where(lengths < 1e-12, 1, lengths)
    inside = np.flatnonzero(clusters >= 0)
    others[inside, clusters[inside]] = -np.inf
    return own, others


def silhouettes(vectors: Array, clusters: IntArray) -> Array:
    """How much nearer each vector is to its own cluster than to the nearest other one, in [-1, 1].

    Rousseeuw's silhouette (1987) with cosine distances to centres in place of those to all members
    (Vendramin et al., "Relative clustering validity criteria", 2010, "simplified silhouette"), the vector
    itself left out of its own centre; 0 where it stands alone.
    """
    if clusters.max(initial=-1) < 1:
        return np.zeros(len(vectors))
    own, others = _likeness(vectors, clusters)
    inside, outside = 1 - own, 1 - others.max(axis=1)
    sizes = np.bincount(np.maximum(clusters, 0), minlength=1)[clusters]
    values = (outside - inside) / np.maximum(np.maximum(inside, outside), 1e-12)
    return np.where((clusters < 0) | (sizes == 1), 0, values)

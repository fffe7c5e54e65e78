"""One group's model: from its problem to a node folder, which is named after all that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade import __version__
from cascade.backends import KINDS, encoder_of, make_backend
from cascade.errors import ModelError
from cascade.model.folder import (
    write_node,
)
from cascade.nodes.contract import (
    FittedNode,
    NodeModel,
    NodeProblem,
    PromptedBackend,
    RowsError,
    ServiceBackend,
)
from cascade.system.array_types import FloatArray, IntArray
from cascade.system.serialization import read_array, write_array
from cascade.taxonomy.settings import TIERS_OPTION
from cascade.text.clusters import clusters_of
from cascade.text.texts import Texts
from cascade.trunk.backend import TrunkBackend
from cascade.trunk.heads import Head

HELD_OUT_ROWS = "held_out_rows.npy"
HELD_OUT_SCORES = "held_out_scores.npy"
# What a node folder holds besides its model: folders that hold it otherwise are not reused.
LAYOUT = 2
HALF = np.float32(0.5)


@dataclass(frozen=True)
class NodeTask:
    """What a worker needs to make one node folder."""

    group: str
    kind: str
    options: Mapping[str, Any]
    problem: NodeProblem
    rows: IntArray
    negatives: str
    key: str
    model: str = ""  # the tuned one, of a hosted group
    held_out: IntArray | None = None  # the rows that it did not see
    is_second: bool = False  # the model against all rows, beside the group's own
    head: Head | None = None  # of a trunk that was trained for all groups


def fit_node(out: Path, task: NodeTask) -> str:
    """Make one node folder; its key."""
    if not out.is_dir():
        raise ModelError(
            f"{out}: the worker on {gethostname()} does not see this folder. Put the model on storage that "
            "all machines share, under one path"
        )

    def write(folder: Path) -> Mapping[str, Any]:
        fitted = _fitted_node(task, folder)
        fitted.model.save(folder)
        write_array(folder / HELD_OUT_ROWS, fitted.rows)
        write_array(folder / HELD_OUT_SCORES, packed(fitted.scores))
        return fitted.notes

    write_node(out, task.key, write)
    return task.key


def _fitted_node(task: NodeTask, folder: Path) -> FittedNode:
    backend = make_backend(task.kind, task.options)
    if isinstance(backend, ServiceBackend) and task.held_out is not None:
        return backend.adopt(task.problem, task.model, task.held_out)
    if isinstance(backend, TrunkBackend) and task.head is not None and task.held_out is not None:
        return backend.adopt_head(task.problem, task.head, task.held_out)
    return backend.fit(task.problem, folder)


def packed(scores: FloatArray) -> NDArray[np.float16]:
    """Scores in [0, 1] in half the room, as exact near 1 as near 0: there they are less by 1, so negative."""
    return np.where(scores < HALF, scores, -(1 - scores)).astype(np.float16)


def unpacked(scores: NDArray[np.float16]) -> FloatArray:
    """What `packed` made small, float32; 1 is written as the 0 that has a sign."""
    return np.where(np.signbit(scores), 1 + scores.astype(np.float32), scores.astype(np.float32))


def read_held_out(folder: Path, n_children: int) -> tuple[IntArray, FloatArray]:
    """The rows of a node's problem that have held-out scores, and these, float32, (n_rows, n_children).

    Raises
    ------
    ModelError
        One of the files is missing or is none of ours.
    """
    rows = read_array(folder / HELD_OUT_ROWS, np.int64, (None,))
    return np.asarray(rows), unpacked(
        read_array(folder / HELD_OUT_SCORES, np.float16, (len(rows), n_children))
    )


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def node_key(kind: str, options: Mapping[str, Any], problem: NodeProblem, model: str) -> str:
    """The hash of all that makes a node: rows, targets, children, backend, model, parameters, versions."""
    made_of = hashlib.sha256()
    made_by = [kind, KINDS[kind].version, options, problem.seed, versions(), LAYOUT]
    settings = [made_by, list(problem.children), len(problem.texts)]
    if problem.small:
        settings += ["small"]
    if (encoder := encoder_of(options)) is not None:
        from cascade.encoders.store import digest_of  # who has words alone needs none of it

        settings += ["encoder", digest_of(encoder)]
    if TIERS_OPTION in options:
        from cascade.tiers.backend import VERSION

        settings += ["tiers", VERSION, KINDS["linear"].version, problem.description.choose]
    if model:
        settings += [model, asdict(problem.description)]
    made_of.update(canonical(settings).encode("utf-8"))
    made_of.update(digests(problem.texts).tobytes())
    made_of.update(np.unique(clusters_of(problem.texts), return_inverse=True)[1].tobytes())
    made_of.update(np.packbits(problem.targets).tobytes())
    made_of.update(np.packbits(problem.own).tobytes())
    if problem.part is not None:
        made_of.update(np.packbits(problem.part).tobytes())
    if problem.extra is not None:
        made_of.update(np.packbits(problem.extra).tobytes())
    if problem.weights is not None:
        made_of.update(problem.weights.tobytes())
    return made_of.hexdigest()


def made_by(backend: ServiceBackend | None, model: str, head: Head | None) -> str:
    """What else makes a node: a model at a service, the words it is asked with, or the head of a trunk."""
    words = f" {backend.digest}" if isinstance(backend, PromptedBackend) else ""
    return f"{model}{words}" if model else (head.digest if head is not None else "")


def scored(model: NodeModel, texts: Texts) -> FloatArray:
    """The scores of a model, NaN for texts that it failed on; RowsError where it fails on all."""
    try:
        return model.scores(texts)
    except RowsError as error:
        if len(error.reasons) == len(texts):
            raise
        return error.scores


def digests(texts: Texts) -> NDArray[np.bytes_]:
    """A hash of each text, computed once for all groups."""

    def compute(whole: Sequence[str]) -> NDArray[np.bytes_]:
        raw = (text.encode("utf-8", "surrogatepass") for text in whole)
        return np.array([hashlib.blake2b(one, digest_size=16).digest() for one in raw], dtype="V16")

    found: NDArray[np.bytes_] = texts.features("digests", compute)
    return found


def versions() -> dict[str, str]:
    return {"cascade": __version__} | {name: version(name) for name in ("numpy", "numba")}

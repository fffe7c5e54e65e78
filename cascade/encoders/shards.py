"""Weights that lie in several files: the index that names them, and the shards that it names.

``model.safetensors.index.json`` has a ``weight_map``: the file of each tensor, by the name of the tensor.
"""

from __future__ import annotations

import json
from pathlib import Path

from cascade.encoders.files import shapes_of
from cascade.encoders.settings import FILE
from cascade.errors import ModelError

INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".joblib")
_SHARD = ".safetensors"


def shards_of(index: Path, where: str) -> list[str]:
    """The files that an index names, in the order of their names.

    Parameters
    ----------
    where
        What a complaint begins with: where the index comes from.

    Raises
    ------
    ModelError
        It is no index, or names anything but files of safetensors beside it.
    """
    found = sorted(set(_files(index, where).values()))
    for name in found:
        if name.endswith(PICKLES):
            raise ModelError(
                f"{where}: {INDEX} names {name!r}: a pickle, which could run any code when it is read. Not "
                "taken: write the model as safetensors"
            )
        if not FILE.fullmatch(name) or not name.endswith(_SHARD):
            raise ModelError(
                f"{where}: {INDEX} names {name!r}: expected plain names of files of safetensors, which lie "
                "in its folder. Not taken"
            )
    return found


def shapes_in(index: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors that an index names, by name, as they lie in its shards.

    Raises
    ------
    BackendError
        The package ``safetensors`` is missing.
    ModelError
        A shard is missing, is half there, or has not what the index says.
    """
    files = _files(index, str(index.parent))
    shapes = {name: shapes_of(index.parent / name) for name in shards_of(index, str(index.parent))}
    for tensor, name in files.items():
        if tensor not in shapes[name]:
            raise ModelError(
                f"{index.parent / name}: expected the tensor {tensor!r}, as {INDEX} says; found none"
            )
    return {tensor: shapes[name][tensor] for tensor, name in files.items()}


def _files(index: Path, where: str) -> dict[str, str]:
    """The file of each tensor."""
    try:
        told = json.loads(index.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where}: {INDEX}: expected JSON, found another kind or half a file") from error
    found = told.get("weight_map") if isinstance(told, dict) else None
    if not isinstance(found, dict) or not found or not all(isinstance(one, str) for one in found.values()):
        raise ModelError(f"{where}: {INDEX}: expected a weight_map, the file of each tensor; found none")
    return found

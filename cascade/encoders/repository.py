"""A folder as sentence-transformers or Model2Vec write it, and what its own files say of its use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cascade.encoders.contract import SAME
from cascade.encoders.files import digest_of, read_tokenizer, shapes_of
from cascade.encoders.ngram_encoder import NgramEncoder, read_weights
from cascade.encoders.onnx_encoder import OnnxEncoder, checked_graph
from cascade.encoders.settings import MOST_DIMS, EncoderSettings, Stored
from cascade.encoders.shards import INDEX, PICKLES, shapes_in, shards_of
from cascade.encoders.static_encoder import StaticEncoder, Table
from cascade.errors import ModelError

# Where exports put the network; the first of these is taken. Networks in 8 bits are smaller and as good;
# but which processors run which of them well, their names do not tell.
NETWORKS = ("model.onnx", "onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_int8.onnx")
TABLE = WEIGHTS = "model.safetensors"
TOKENIZER, CONFIG = "tokenizer.json", "config.json"
_MODULES = "modules.json"
_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
CONFIGS = (CONFIG, "sentence_bert_config.json", "tokenizer_config.json", _MODULES)
# What is tried before an encoder is taken: short and long, and of other letters.
_PROBES = ("refund", "the parcel came two weeks late and nobody answers the phone, what now?", "ça va")


def wanted(
    paths: Iterable[str], where: str, read: Callable[[str], Path], *, to_train: bool = False
) -> list[str]:
    """Of the files of a repository those that an encoder needs, or one that is to be tuned.

    Parameters
    ----------
    where
        What the repository is called.
    read
        Answers where one of its files lies on this machine: what is wanted may stand in it.

    Raises
    ------
    ModelError
        They make none, or are such as are not taken.
    """
    here = set(paths)
    models = _weights_of(here, where, read) if to_train else [_model_of(here, where)]
    found = [*models, TOKENIZER, *(name for name in CONFIGS if name in here)]
    found += sorted(one for one in here if PurePosixPath(one).name == "config.json" and "Pooling" in one)
    beside = sorted(one for one in here if one.startswith((f"{models[0]}_data", f"{models[0]}.data")))
    return list(dict.fromkeys([*found, *beside]))


def _model_of(paths: set[str], where: str) -> str:
    if TOKENIZER not in paths:
        raise ModelError(f"{where}: expected {TOKENIZER}, found none.{_pickles(paths)}")
    for name in (*NETWORKS, TABLE):
        if name in paths:
            return name
    raise ModelError(
        f"{where}: expected a network such as {NETWORKS[1]}, or a table {TABLE}; found neither."
        f"{_pickles(paths)}"
    )


def _weights_of(paths: set[str], where: str, read: Callable[[str], Path]) -> list[str]:
    """The file of the weights, or where they lie in several their index and these."""
    first = INDEX if INDEX in paths and WEIGHTS not in paths else WEIGHTS
    for name in (first, TOKENIZER, CONFIG):
        if name not in paths:
            raise ModelError(f"{where}: expected {name} of weights to train, found none.{_pickles(paths)}")
    if first == WEIGHTS:
        return [WEIGHTS]
    shards = shards_of(read(INDEX), where)
    if missing := [name for name in shards if name not in paths]:
        raise ModelError(
            f"{where}: expected {missing[0]}, which {INDEX} names, found none ({len(missing)} of "
            f"{len(shards)} files are missing)"
        )
    return [INDEX, *shards]


def _pickles(paths: Iterable[str]) -> str:
    found = sorted(one for one in paths if one.endswith(PICKLES))
    if not found:
        return ""
    return (
        f" {found[0]} is a pickle, which could run any code when it is read, and is not taken: export the "
        "model to ONNX, or write it as safetensors"
    )


def files_below(folder: Path) -> list[str]:
    """All plain files of a folder, by their path in it."""
    return [one.relative_to(folder).as_posix() for one in sorted(folder.rglob("*")) if one.is_file()]


def settled(folder: Path, name: str, given: Mapping[str, Any]) -> EncoderSettings:
    """What the files of a flat folder and `given` say of an encoder, after it was tried.

    Parameters
    ----------
    given
        Settings that the files do not tell, or tell otherwise.

    Raises
    ------
    BackendError
        A package is missing.
    ModelError
        The files make no encoder, or one that cannot be run.
    """
    configs = {one.name: _json(one) for one in folder.glob("*.json") if one.name != TOKENIZER}
    model = given.get("model") or next(
        one for one in ("model.onnx", TABLE, INDEX) if (folder / one).is_file()
    )
    kind = given.get("kind") or ("onnx" if model.endswith(".onnx") else "static")
    beside = checked_graph(folder, model).beside if kind == "onnx" else set()
    told: dict[str, Any] = {
        "kind": kind,
        "dims": MOST_DIMS,
        "model": model,
        "pooling": _pooling(configs),
        "longest": _longest(configs, kind),
        "lowercase": bool(configs.get("sentence_bert_config.json", {}).get("do_lower_case", False)),
        "prefix": _prefix(configs),
    }
    if kind == "transformer":
        told |= {"dims": _dims_of_weights(folder, model), "longest": _longest(configs, kind)}
        beside = {CONFIG, *(shards_of(folder / INDEX, str(folder)) if model == INDEX else ())}
    files = {one: digest_of(folder / one) for one in sorted({model, TOKENIZER, *beside})}
    settings = EncoderSettings(files=files, **{**told, **given})
    for wrong in settings.faults():
        raise ModelError(f"{folder}: {wrong}.")
    return _tried(folder, name, settings)


def _dims_of_weights(folder: Path, model: str) -> int:
    """How long the vectors of a transformer are.

    Raises
    ------
    BackendError
        The package ``safetensors`` is missing.
    ModelError
        The files hold none, or one that would run code of its own.
    """
    config = _json(folder / CONFIG)
    dims = config.get("hidden_size")
    if "auto_map" in config:
        raise ModelError(f"{folder / CONFIG}: the model would run code of its own (auto_map). Not taken")
    if not isinstance(dims, int) or not isinstance(config.get("model_type"), str):
        raise ModelError(f"{folder / CONFIG}: expected hidden_size and model_type of a transformer")
    weights = folder / model
    if not (shapes := shapes_in(weights) if model == INDEX else shapes_of(weights)):
        raise ModelError(f"{weights}: expected the weights of a transformer, found none")
    if not any(dims in shape for shape in shapes.values()):
        raise ModelError(f"{weights}: expected weights of {dims} dims, as {CONFIG} says; found none")
    return dims


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _pooling(configs: Mapping[str, Mapping[str, Any]]) -> str:
    found = configs.get("pooling.json", {})
    if found.get("pooling_mode") in _POOLING.values():  # as newer releases write it
        return str(found["pooling_mode"])
    return next((mode for key, mode in _POOLING.items() if found.get(key)), "mean")


def _longest(configs: Mapping[str, Mapping[str, Any]], kind: str) -> int:
    """How many tokens are read: as it was trained, else what its tokenizer or network takes."""
    if kind == "static":
        return int(configs.get("config.json", {}).get("seq_length", 0) or 0)
    for file, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("config.json", "max_position_embeddings"),
    ):
        found = configs.get(file, {}).get(key)
        if isinstance(found, int | float) and 0 < found < 1 << 20:
            return int(found)
    return 512


def _prefix(configs: Mapping[str, Mapping[str, Any]]) -> str:
    """The prompt that is put before texts where nobody says which."""
    found = configs.get("config_sentence_transformers.json", {})
    prompts, default = found.get("prompts"), found.get("default_prompt_name")
    prompt = prompts.get(default) if isinstance(prompts, dict) and default is not None else None
    return prompt if isinstance(prompt, str) else ""


def _tried(folder: Path, name: str, settings: EncoderSettings) -> EncoderSettings:
    """The settings with the length of vectors, and whether texts have to be encoded one by one."""
    if settings.kind == "transformer":
        read_tokenizer(folder / settings.tokenizer)
        return settings
    if settings.kind == "ngram":
        settings = replace(settings, dims=int(read_weights(folder / settings.model)["d3"].shape[1]))
        NgramEncoder(folder, Stored(name, settings)).encode(_PROBES)
        return settings
    if settings.kind == "static":
        dims = Table.read(folder / settings.model).vectors.shape[1]
        settings = replace(settings, dims=int(dims))
        StaticEncoder(folder, Stored(name, settings)).encode(_PROBES)
        return settings
    dims = OnnxEncoder(folder, Stored(name, settings)).dims_of_output()
    settings = replace(settings, dims=dims)
    encoder = OnnxEncoder(folder, Stored(name, settings))
    together = encoder.encode(_PROBES)
    alone = np.concatenate([encoder.encode([one]) for one in _PROBES])
    if not np.isfinite(together).all():
        raise ModelError(f"{folder}: the network gives numbers that are none for {_PROBES[0]!r}.")
    return replace(settings, alone=bool(np.abs(together - alone).max() > SAME / 2))

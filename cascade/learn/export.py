"""Training files of each group, for a fine-tune anywhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.errors import DataError
from cascade.hosted.backend import OpenAIBackend
from cascade.hosted.examples import Examples
from cascade.hosted.settings import Settings
from cascade.learn.datasets import Dataset
from cascade.learn.groups import held_out_rows, trained_groups, varies
from cascade.system.serialization import write_json
from cascade.taxonomy.definition import Taxonomy

MANIFEST = "manifest.json"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


def export(
    taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]], out: Path, *, seed: int = 0
) -> dict[str, Any]:
    """Write ``training.jsonl`` and ``validation.jsonl`` of each group, and what they are in `MANIFEST`.

    The examples are those that `fit` would upload: groups with embedded models are written as chat messages.

    Returns
    -------
    What stands in the manifest: name, and for each group folder, children, how it answers, counts and hashes.

    Raises
    ------
    DataError
        `out` is there and holds other things.
    BackendError
        A group has too few rows.
    """
    _check_new(out)
    dataset = Dataset.make(taxonomy, texts, labels)
    unseen = held_out_rows(dataset, seed)
    told = []
    for number, group in enumerate(trained_groups(taxonomy)):
        rows = dataset.rows(group, "all")
        problem = dataset.problem(group, rows, seed)
        if not varies(problem.targets[problem.own]):
            continue
        backend = _backend(taxonomy, group)
        codec = backend.codec(problem)
        examples = Examples.of(problem, codec, backend.settings, seed, unseen[rows])
        folder = out / f"{number:03d}-{_PLAIN.sub('-', group) or 'router'}"
        files = {"training.jsonl": examples.training, "validation.jsonl": examples.validation}
        told.append(
            {
                "group": group,
                "folder": str(folder),
                "answer": codec.kind,
                "base_model": backend.settings.base_model,
                **examples.counts,
                "sha256": _written(folder, files),
                "codec": codec.settings_key(),
                "request": codec.request("TEXT"),
            }
        )
    manifest = {"name": taxonomy.name, "seed": seed, "groups": told}
    write_json(out / MANIFEST, manifest)
    return manifest


def _check_new(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).exists() and any(out.iterdir()):
        raise DataError(
            f"{out}: expected a new or empty folder, or an earlier export. Name another with --out"
        )


def _backend(taxonomy: Taxonomy, group: str) -> OpenAIBackend:
    spec = taxonomy.groups[group].backend
    return OpenAIBackend(Settings.of(spec.options) if spec.kind == "openai" else Settings(provider="vllm"))


def _written(folder: Path, files: dict[str, bytes]) -> dict[str, str]:
    """The sha256 of each file, after it was written."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

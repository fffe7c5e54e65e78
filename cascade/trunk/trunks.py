"""Trunks that were trained for a model folder: what is kept of each, so that the next fit can build on it.

::

    models/feedback/
      encoders/<sha256>/   the tuned encoder, which predictions need
      trunks/<key>/        trunk.json, the heads that were trained with it, and which texts it has seen

A trunk's key is the hash of all that it was trained on and how.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade.errors import ModelError
from cascade.system.array_types import BoolArray
from cascade.system.files import writing
from cascade.system.serialization import checksummed, read_array, read_checksummed, write_array
from cascade.trunk.heads import Lesson, Weights

TRUNKS = "trunks"
SCHEMA = 1
_RECORD, _VALUES, _BIASES = "trunk.json", "values.npy", "biases.npy"
_SEEN, _UNSEEN = "seen.npy", "unseen.npy"
Digests = NDArray[np.bytes_]
"""A hash of each text, 16 bytes, shape (n_texts,)."""


@dataclass(frozen=True, eq=False)
class Trunk:
    """A trained trunk of a model folder, and its heads.

    Attributes
    ----------
    key
        The name of its folder.
    origin
        What it was trained with, whatever the rows: base, settings, seed, versions.
    encoder
        The sha256 of the tuned encoder, and its name.
    heads
        The numbers of each, by the name of its lesson.
    lessons
        What each was taught, see `digest_of`.
    seen, unseen
        Hashes of the texts that taught the trunk, and of those that were held out, sorted.
    notes
        How the training went: epochs, precision.
    """

    key: str
    origin: str
    encoder: str
    name: str
    heads: Mapping[str, Weights]
    lessons: Mapping[str, str]
    seen: Digests
    unseen: Digests
    notes: Mapping[str, Any]

    def knows(self, digests: Digests) -> tuple[BoolArray, BoolArray]:
        """Which texts taught it, and which were held out."""
        return np.isin(_numbers(digests), _numbers(self.seen)), np.isin(
            _numbers(digests), _numbers(self.unseen)
        )

    @cached_property
    def names(self) -> Sequence[str]:
        """Those of its lessons, in the order of columns."""
        return tuple(self.heads)

    def save(self, root: Path) -> None:
        """Write it into a model folder, whole or not at all."""
        place = root / TRUNKS / self.key
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{self.key[:16]}-", dir=place.parent))
        try:
            heads = [self.heads[name] for name in self.names]
            write_array(staging / _VALUES, np.concatenate([one.values for one in heads], axis=1))
            write_array(staging / _BIASES, np.concatenate([one.biases for one in heads]))
            for file, hashes in ((_SEEN, self.seen), (_UNSEEN, self.unseen)):
                write_array(staging / file, _numbers(hashes))
            with writing(staging):
                (staging / _RECORD).write_bytes(checksummed(self._told()))
                staging.chmod(0o755)
                shutil.rmtree(place, ignore_errors=True)
                staging.rename(place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _told(self) -> dict[str, Any]:
        heads = [
            {
                "name": name,
                "children": len(one.biases),
                "exclusive": one.exclusive,
                "lesson": self.lessons[name],
            }
            for name, one in self.heads.items()
        ]
        return {
            "schema": SCHEMA,
            "origin": self.origin,
            "encoder": self.encoder,
            "name": self.name,
            "heads": heads,
            "notes": dict(self.notes),
        }

    @classmethod
    def load(cls, root: Path, key: str) -> Trunk | None:
        """What `save` wrote under that key; None where nothing whole is there."""
        folder = root / TRUNKS / key
        try:
            told = read_checksummed(folder / _RECORD, SCHEMA)
            values = read_array(folder / _VALUES, np.float32, (None, None))
            biases = read_array(folder / _BIASES, np.float32, (values.shape[1],))
            seen, unseen = (read_array(folder / file, np.uint64, (None,)) for file in (_SEEN, _UNSEEN))
        except ModelError:
            return None
        heads, end = {}, 0
        for one in told["heads"]:
            columns = slice(end, end := end + one["children"])
            own = np.ascontiguousarray(values[:, columns]), np.array(biases[columns])
            heads[one["name"]] = Weights(*own, one["exclusive"])
        lessons = {one["name"]: one["lesson"] for one in told["heads"]}
        return cls(
            key, told["origin"], told["encoder"], told["name"], heads, lessons, seen, unseen, told["notes"]
        )


def trunks_in(root: Path) -> list[Trunk]:
    """All that are whole, in the order of their keys."""
    keys = sorted(one.name for one in (root / TRUNKS).glob("[0-9a-f]*"))
    return [found for key in keys if (found := Trunk.load(root, key)) is not None]


def digest_of(lesson: Lesson, children: Sequence[str], digests: Digests, *, positives: bool) -> str:
    """The hash of what a head is taught: its children, and its rows by their texts, in any order.

    Parameters
    ----------
    positives
        Leave out rows with none of the children: of a head that is taught by all rows these are nearly all.
    """
    taught = lesson.targets.any(axis=1) if positives else np.ones(len(lesson.rows), dtype=bool)
    texts, targets = digests[lesson.rows[taught]], np.packbits(lesson.targets[taught], axis=1)
    rows = sorted({text.tobytes() + own.tobytes() for text, own in zip(texts, targets, strict=True)})
    made_of = hashlib.sha256(repr((list(children), lesson.exclusive)).encode())
    made_of.update(b"".join(rows))
    return made_of.hexdigest()


def _numbers(digests: NDArray[Any]) -> NDArray[np.uint64]:
    """Half of each hash, which is enough to tell texts apart, sorted and each once where it is kept."""
    if digests.dtype == np.uint64:
        return digests
    return np.ascontiguousarray(digests).view(np.uint64)[::2]

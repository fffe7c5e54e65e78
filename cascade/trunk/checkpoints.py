"""A training on disk, so that a kill costs a minute, not an hour: tensors in safetensors, the rest JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.errors import ModelError
from cascade.system.files import atomic_write, writing
from cascade.system.serialization import checksummed, read_checksummed

SCHEMA = 1
_RECORD = "checkpoint.json"
_PARTS = ("network", "moments", "best_network")


@dataclass(frozen=True)
class Checkpoint:
    """All that it takes to go on.

    Attributes
    ----------
    step
        How many were taken.
    best, best_epoch
        The best quality so far, and after which epoch that was.
    losses
        Of the last steps.
    at_once
        How many rows the device takes at once.
    network, best_network
        The tensors that learn, as they are and as they were at their best.
    moments
        Those of the optimizer.
    """

    step: int
    best: float
    best_epoch: int
    losses: tuple[float, ...]
    at_once: int
    network: dict[str, Any]
    moments: dict[str, Any]
    best_network: dict[str, Any]


class Checkpoints:
    """The checkpoint of one training, in a folder of its own.

    A new one is whole before its record is put in the place of the last one's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, one: Checkpoint) -> None:
        """Keep it instead of what was kept before."""
        from safetensors.torch import save_file

        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{part}:{name}": value.detach().cpu().contiguous().clone()
            for part in _PARTS
            for name, value in getattr(one, part).items()
        }
        path = self.folder / f"step-{one.step}.safetensors"
        with writing(path):
            save_file(tensors, path)
        told = {"best": one.best, "best_epoch": one.best_epoch, "losses": one.losses, "at_once": one.at_once}
        with atomic_write(self.folder / _RECORD) as file:
            file.write(checksummed({"schema": SCHEMA, "step": one.step, **told}))
        for other in self.folder.glob("step-*.safetensors"):
            if other != path:
                other.unlink()

    def load(self) -> Checkpoint | None:
        """What was kept; None where nothing was, or it is of no use."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            told = read_checksummed(self.folder / _RECORD, SCHEMA)
            tensors = load_file(self.folder / f"step-{told['step']}.safetensors")
        except (ModelError, OSError, SafetensorError):
            return None
        parts: dict[str, dict[str, Any]] = {part: {} for part in _PARTS}
        for key, value in tensors.items():
            part, _, name = key.partition(":")
            parts[part][name] = value
        return Checkpoint(
            told["step"], told["best"], told["best_epoch"], tuple(told["losses"]), told["at_once"], **parts
        )

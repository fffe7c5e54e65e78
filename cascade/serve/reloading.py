"""The model that answers, and the one that takes its place when `fit` has written another.

The model is in memory whole: what becomes of the files of its folder harms no answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cascade.errors import ModelError
from cascade.model.folder import MANIFEST, node_file_names
from cascade.predict.answers import Model, prediction_lines
from cascade.predict.extras import Style
from cascade.predict.form import Form

Log = Callable[[str], None]
_Stamp = tuple[int, int, int] | None


class ModelReloader:
    """Holds the model of a folder and follows the folder.

    Parameters
    ----------
    load
        Makes a model of the folder.
    log
        Gets a line about each model that came, or could not.
    seconds
        Between two looks at the folder.

    Attributes
    ----------
    model
        What answers now.
    reloads, failures
        How many models came since the first, and how many were broken.
    """

    def __init__(
        self, folder: Path, load: Callable[[Path], Model], log: Log, *, seconds: float = 1.0
    ) -> None:
        self._folder, self._load, self._log, self._seconds = folder, load, log, seconds
        self._stamp = _stamp(folder / MANIFEST)
        self._error = ""
        self.reloads = self.failures = 0
        self.model = _load_and_try(load, folder)
        self._node_stamps = _node_stamps(folder, self.model)

    async def watch(self) -> None:
        """Look at the folder again and again, until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.check()

    async def check(self) -> None:
        """Take the folder's model if it is another one; what is broken is told once, and tried again."""
        stamp = _stamp(self._folder / MANIFEST)
        node_stamps = await asyncio.to_thread(_node_stamps, self._folder, self.model)
        if (stamp, node_stamps) == (self._stamp, self._node_stamps) and not self._error:
            return
        self._node_stamps = node_stamps
        started = time.perf_counter()
        try:
            model = await asyncio.to_thread(_load_and_try, self._load, self._folder)
        except Exception as error:  # whatever it is, the old one can still answer
            self._stamp = stamp
            self._report(str(error) or type(error).__name__)
            return
        self._stamp, self._error = stamp, ""
        if model.digest != self.model.digest:
            self.model = model
            self._node_stamps = await asyncio.to_thread(_node_stamps, self._folder, model)
            self.reloads += 1
            self._log(
                f"{self._folder}: another model, {model.digest[:12]}, answers from now on; "
                f"loaded in {time.perf_counter() - started:.1f} s"
            )

    def _report(self, error: str) -> None:
        if error != self._error:
            self.failures += 1
            self._log(f"{error}\n{self._folder}: model {self.model.digest[:12]} goes on answering")
        self._error = error


def _node_stamps(folder: Path, model: Model) -> list[_Stamp]:
    """The stamps of all files of the node models."""
    return [_stamp(folder / name) for name in sorted(node_file_names(model.manifest))]


def _stamp(path: Path) -> _Stamp:
    """Changes whenever a file does, or another takes its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _load_and_try(load: Callable[[Path], Model], folder: Path) -> Model:
    """A model that has answered once, so that the first request finds all in place."""
    model = load(folder)
    if getattr(model, "can_wait", False):
        raise ModelError(
            f"{folder}: a group asks by the Batch API, which takes hours. Take `batch: true` out of its "
            "backend and fit again; a fine-tune that is there already is not ordered twice"
        )
    if not model.is_hosted:  # a question would cost money
        prediction_lines(model, [1], ["ready?"], Form(None, Style(trace=True)))
    return model

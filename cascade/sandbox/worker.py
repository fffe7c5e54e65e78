"""A thread that carries records out, one after another."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from typing import ClassVar

from cascade.sandbox.chaos import Chaos
from cascade.sandbox.storage import Storage


class Worker(ABC):
    """Carries the records of a kind out; those that an earlier process left undone first.

    Parameters
    ----------
    pace
        Seconds that a record stays in each state, at least.
    """

    kind: ClassVar[str]
    ended: ClassVar[tuple[str, ...]]
    """The statuses in which there is nothing left to do."""

    def __init__(self, storage: Storage, chaos: Chaos | None = None, pace: float = 0) -> None:
        self.storage, self.chaos, self.pace = storage, chaos, pace
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopped = threading.Event()

    def start(self) -> None:
        for record in self.storage.all(self.kind):
            if record["status"] not in self.ended:
                self._waiting.put(record["id"])
        threading.Thread(target=self._work, daemon=True, name=self.kind).start()

    def stop(self) -> None:
        """Leave what is under way to the next process."""
        self._stopped.set()

    def add(self, name: str) -> None:
        """Carry out a record that is new."""
        self._waiting.put(name)

    @abstractmethod
    def carry_out(self, name: str) -> None:
        """Bring one record to its end, whichever that is; nothing is raised."""

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                name = self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            self.carry_out(name)

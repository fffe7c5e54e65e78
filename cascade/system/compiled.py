"""Functions compiled for this machine: the one decorator, and word of the time that compiling takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.event import Listener, register
from numba.core.runtime.nrt import rtsys

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """The function as machine code, which runs without the interpreter's lock.

    It is compiled at its first call with new types of arguments, and kept on disk for later runs: beside
    its source, else in the user's cache folder (``NUMBA_CACHE_DIR`` names another). Where none of them
    can be written, each run compiles anew.

    What is on disk is dropped when the file of the kernel changes, or one of a kernel that it calls, or a
    global constant that one of them names.

    Nothing checks bounds: an index out of range reads or writes elsewhere, unless the environment has
    ``NUMBA_BOUNDSCHECK=1``. A division by zero gives inf or nan, as in NumPy. Floats are added in the
    written order: under numba's ``fastmath`` the last bits depend on how much the compiler saw at once,
    so that code just compiled and the same code from disk would fit two different models.

    A kernel that calls what NumPy has to go over an array, such as `any`, `sum` or `searchsorted`, has
    numba's code for all of these loaded with it, and the linear algebra of SciPy: where a command begins,
    that is a fifth of a second.
    """
    compiled: Any = njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    _announcer.kernels.add(function)
    with suppress(RuntimeError):  # no folder can be written
        # What `cache=True` does, with a cache of ours.
        compiled._cache = _PatientCache(function)  # type: ignore[no-untyped-call]
    return cast("Function", compiled)


def announce(say: Callable[[str], None]) -> None:
    """Have `say` called with a sentence when the next kernel is compiled in this process, before it is.

    It is called once at most, from whichever thread comes first, and not at all where every kernel
    comes from disk. A later call replaces `say`.
    """
    _announcer.say = say


class _Announcer(Listener):
    def __init__(self) -> None:
        self.kernels: set[Callable[..., Any]] = set()
        self.say: Callable[[str], None] | None = None

    def on_start(self, event: Any) -> None:
        if event.data["dispatcher"].py_func not in self.kernels:  # the caller's own use of numba
            return
        say, self.say = self.say, None  # no race: numba compiles one thing at a time
        if say:
            say("Compiling for this machine: some seconds, once.")

    def on_end(self, event: Any) -> None:
        pass


_announcer = _Announcer()
register("numba:compile", _announcer)  # type: ignore[no-untyped-call]


class _PatientCache(FunctionCache):
    """Compiled code on disk, where a full disk or a damaged file costs time and nothing else.

    numba itself drops what it keeps when the file of the function changes, and looks no further.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # numba itself first loads all that it knows how to compile, for half a second. What is compiled needs
        # the memory management of its arrays alone, and the compiler loads the rest where nothing is found.
        rtsys.initialize(target_context)
        found = None
        try:
            with self._guard_against_spurious_io_errors():
                found = self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except (OSError, EOFError, UnpicklingError):
            with suppress(OSError):
                self.flush()  # type: ignore[no-untyped-call]
            return None
        # Two processes that write at once can leave the code for other types under this name.
        return found if found is not None and found.signature.args == sig else None

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        key = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        checks = config.BOUNDSCHECK  # type: ignore[attr-defined]
        return (*key, checks, _digest_of_what_is_read(self._py_func))

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]


def _digest_of_what_is_read(function: Any) -> str:
    """sha256 of this file, those of a kernel and of the kernels it calls, and the constants they read."""
    digest = sha256(Path(__file__).read_bytes())
    reached = [function]
    for reader in reached:  # which grows on the way
        digest.update(Path(reader.__code__.co_filename).read_bytes())
        for value in map(reader.__globals__.get, reader.__code__.co_names):
            called = getattr(value, "py_func", None)
            if called and called not in reached:
                reached.append(called)
            if isinstance(value, np.ndarray):
                digest.update(value.tobytes())
            if isinstance(value, bool | int | float | str | tuple | np.generic):
                digest.update(repr(value).encode())
    return digest.hexdigest()

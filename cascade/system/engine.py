"""Where tasks run: in processes of this machine, or on a cluster that is there already.

Clusters are reached through joblib's own backends, so a `joblib.parallel_config` that the caller has set is
obeyed like an address. A task is a function of a module and its arguments; it may be started twice, when the
worker that it ran on was lost, so running it again must do no harm.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from cascade import __version__
from cascade.errors import CascadeError

if TYPE_CHECKING:
    from concurrent.futures import Future

LOCAL = "local"
"""The address of this machine."""

ADDRESSES = "local, dask://host:port (or tcp:// or tls://), ray, ray://host:port"

_CONNECT_SECONDS = 10
# A task of which so many workers die is at fault itself, most likely for want of memory; Dask's own number.
_LOSSES_ALLOWED = 3
# Tasks under way or waiting for their turn, for each process: none idles while an earlier task takes longer.
_AHEAD = 3
_PARENT_CHECK_SECONDS = 0.5
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

A = TypeVar("A")


class Workers(Protocol):
    """What runs tasks."""

    def run(self, function: Callable[..., A], tasks: Iterable[tuple[Any, ...]]) -> Iterator[A]:
        """What `function` gives for each tuple of arguments.

        Processes of this machine answer in order; Dask as tasks get done; Ray when all are done. Each asks
        for a task only when it can soon begin with it.
        """


@contextlib.contextmanager
def connected(address: str | None, jobs: int | None) -> Iterator[Workers]:
    """Workers at an address, until the end of the block.

    Parameters
    ----------
    address
        One of `ADDRESSES`; None is the joblib backend that the caller has set, else this machine.
    jobs
        So many processes at once; None is one for each core. Dask uses all its workers whatever this says.

    Raises
    ------
    CascadeError
        The address is of no known kind, nothing answers there, or a package is missing. While tasks run: a
        task was lost several times over with its worker, or the workers have another version of Cascade.
    """
    if address == LOCAL or (address is None and not has_own_backend()):
        yield _LocalProcesses(jobs or cores())
    elif address is None:
        yield _JoblibWorkers()
    else:
        with _cluster_backend(address, jobs):
            yield _JoblibWorkers()


def check_address(address: str) -> None:
    """CascadeError where an address is of no known kind."""
    if address not in (LOCAL, "ray") and not _is_url(address):
        raise CascadeError(f"{address!r}: unknown engine; expected one of {ADDRESSES}")


def _is_url(address: str) -> bool:
    with contextlib.suppress(ValueError):
        parts = urlsplit(address)
        known = parts.scheme in ("dask", "tcp", "tls", "ray")
        return known and parts.hostname is not None and parts.port is not None
    return False


def has_own_backend() -> bool:
    """Whether the caller has set a joblib backend other than joblib's usual processes."""
    if "joblib" not in sys.modules:
        return False
    from joblib.parallel import LokyBackend, get_active_backend

    return not isinstance(get_active_backend()[0], LokyBackend)


def cores() -> int:
    """Cores that this process may use, limits of containers included."""
    import joblib

    return int(joblib.cpu_count())


# Processes of this machine


class _LocalProcesses:
    def __init__(self, jobs: int) -> None:
        self._jobs = jobs

    def run(self, function: Callable[..., A], tasks: Iterable[tuple[Any, ...]]) -> Iterator[A]:
        # joblib's own generator reads on while nobody takes its results: a slow pipe would fill the memory.
        from joblib.externals.loky import ProcessPoolExecutor

        pool = ProcessPoolExecutor(
            max_workers=self._jobs, initializer=_end_with_parent, initargs=(os.getpid(),), env=_ONE_THREAD
        )
        waiting: deque[Future[A]] = deque()
        try:
            for task in tasks:
                with _interrupts_held():
                    waiting.append(pool.submit(function, *task))
                while waiting and (len(waiting) >= self._jobs * _AHEAD or waiting[0].done()):
                    yield _first(waiting)
            while waiting:
                yield _first(waiting)
        finally:
            # As loky's own `kill_workers` does, which fails over a task that it had not handed out yet.
            for process in list(pool._processes.values()):
                process.terminate()
            pool.shutdown()


def _first(waiting: deque[Future[A]]) -> A:
    from concurrent.futures.process import BrokenProcessPool

    try:
        return waiting.popleft().result()
    except BrokenProcessPool as error:
        raise CascadeError(
            "a worker process was killed, most likely for want of memory. Run the same again with fewer "
            "--jobs: what is done already is kept"
        ) from error


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back, from processes that start meanwhile for good.

    It reaches every process of a terminal. The parent ends its workers itself; they would only tell of it.
    """
    from multiprocessing import resource_tracker

    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started later, between the mask and the workers, it would take the mask away (Python 3.11 does).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(parent: int) -> None:
    """Have this worker end when its parent does."""
    import threading

    threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    # A parent that is killed closes nothing, and a worker would wait for its next task for ever.
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_SECONDS)
    os._exit(1)


# Clusters


class _JoblibWorkers:
    """The joblib backend that is set."""

    def run(self, function: Callable[..., A], tasks: Iterable[tuple[Any, ...]]) -> Iterator[A]:
        import joblib
        from joblib.parallel import get_active_backend

        # Ray's tells nothing before all is done; to give it a few tasks at a time takes a pool for each time.
        tells = get_active_backend()[0].supports_return_generator
        parallel = joblib.Parallel(return_as="generator_unordered" if tells else "list", batch_size=1)
        call = joblib.delayed(_run_checked)
        with _losses_explained():
            yield from parallel(call(__version__, function, task) for task in tasks)


def _run_checked(version: str, function: Callable[..., A], task: tuple[Any, ...]) -> A:
    if version != __version__:
        raise CascadeError(
            f"the worker on {socket.gethostname()} has Cascade {__version__}, and the run was started with "
            f"{version}. Install the same version on all machines"
        )
    return function(*task)


@contextlib.contextmanager
def _losses_explained() -> Iterator[None]:
    try:
        yield
    except _worker_loss_errors() as error:
        raise CascadeError(
            "one task lost worker after worker of the cluster, most likely for want of memory. Give "
            "workers more memory or fewer threads and run the same again: what is done already is kept"
        ) from error
    except _cluster_loss_errors() as error:
        raise CascadeError(
            "the cluster answers no more: its scheduler was stopped, or the network is down. Run the same "
            "again when it is back: what is done already is kept"
        ) from error
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"a worker of the cluster lacks a package: {error}. Install cascade-classifier {__version__} and "
            "what your own code imports on all machines"
        ) from error


def _worker_loss_errors() -> tuple[type[BaseException], ...]:
    """What the packages in use raise when a worker is gone for good."""
    losses: list[type[BaseException]] = []
    if "distributed" in sys.modules:
        from distributed.scheduler import KilledWorker

        losses.append(KilledWorker)
    if "ray" in sys.modules:
        from ray.exceptions import RayActorError, WorkerCrashedError

        losses += [RayActorError, WorkerCrashedError]
    return tuple(losses)


def _cluster_loss_errors() -> tuple[type[BaseException], ...]:
    """What the packages in use raise when the cluster itself is gone."""
    if "distributed" not in sys.modules:
        return ()
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError

    return FutureCancelledError, CommClosedError


@contextlib.contextmanager
def _cluster_backend(address: str, jobs: int | None) -> Iterator[None]:
    check_address(address)
    kind = "ray" if address.startswith("ray") else "dask"
    try:
        with _dask(address) if kind == "dask" else _ray(address, jobs):
            yield
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"{address}: the package {error.name!r} is not installed. Install it with "
            f"pip install 'cascade-classifier[{kind}]'"
        ) from error


@contextlib.contextmanager
def _dask(address: str) -> Iterator[None]:
    import joblib
    from distributed import Client
    from joblib._dask import DaskDistributedBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]  # joblib has no types
        def effective_n_jobs(self, n_jobs: int) -> int:
            # With one worker joblib would run everything in this process.
            return max(2, int(super().effective_n_jobs(n_jobs)))

    _check_reachable(address)
    try:
        where = address.replace("dask://", "tcp://", 1)
        client = Client(where, timeout=_CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, MemoryError) as error:  # the last where another program's words are sizes
        raise _unreachable(address, error) from error
    with client:
        try:
            client.wait_for_workers(1, _CONNECT_SECONDS)
        except TimeoutError as error:
            raise CascadeError(f"{address}: the scheduler has no workers; start some") from error
        with joblib.parallel_config(Backend(client=client), n_jobs=-1):
            yield


@contextlib.contextmanager
def _ray(address: str, jobs: int | None) -> Iterator[None]:
    import joblib
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    if address != "ray":
        _check_reachable(address)
    is_ours = not ray.is_initialized()
    if is_ours:
        try:
            ray.init(
                address if address != "ray" else "auto", log_to_driver=False, logging_level=logging.ERROR
            )
        except ConnectionError as error:
            raise _unreachable(address, error) from error
    # More than there are cores would wait for some to be free, for ever.
    slots = min(int(ray.cluster_resources().get("CPU", 1)), jobs or sys.maxsize)
    again = {"max_restarts": _LOSSES_ALLOWED, "max_task_retries": _LOSSES_ALLOWED}
    try:
        with joblib.parallel_config("ray", n_jobs=max(2, slots), ray_remote_args=again):
            yield
    finally:
        if is_ours:
            ray.shutdown()


def _check_reachable(address: str) -> None:
    # The packages' own attempts take up to a minute, and end in pages of text.
    parts = urlsplit(address)
    try:
        socket.create_connection((str(parts.hostname), int(parts.port or 0)), _CONNECT_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: BaseException) -> CascadeError:
    return CascadeError(
        f"{address}: no cluster answers there: {error}. Check the address, and that the scheduler is running "
        "and can be reached from here"
    )

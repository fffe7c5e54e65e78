"""Models at services: ``cascade jobs``, ``export`` and ``sandbox``, and what asking cost."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files
from cascade.cli.inputs import (
    chosen_model,
    columns_of,
    labelled_rows,
    load_taxonomy,
    stop_at_refused,
    training_files,
)
from cascade.cli.shell import (
    DONE,
    REFUSED,
    TOP_LEVEL,
    Bar,
    cascade,
    counted,
    debug_option,
    json_option,
    model_option,
    note,
    number,
    print_json,
    progress,
    show,
    usd,
)
from cascade.errors import BackendError, CascadeError, ModelError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.hosted.batches import BatchEvent
    from cascade.hosted.ledger import JobRecord, Ledger
    from cascade.hosted.orders import JobEvent
    from cascade.hosted.questions import AskingProgress, Usage
    from cascade.model.folder import Manifest

STATUS_SECONDS = 60.0
_LONGEST_STATUS = 200


class Status:
    """Tells how things stand: beside the bar on a terminal, elsewhere in a line a minute at most."""

    def __init__(
        self, every_seconds: float = STATUS_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_seconds, self._clock = every_seconds, clock
        self._told_at = -math.inf

    def __call__(self, line: str) -> None:
        if Bar.live is not None:
            Bar.live.renew(line[:_LONGEST_STATUS])
        elif self._clock() - self._told_at >= self._every_seconds:
            self._told_at = self._clock()
            note(line)

    def clear(self) -> None:
        """Nothing lasts any more."""
        if Bar.live is not None:
            Bar.live.renew("")


status = Status()


def report_seconds() -> float:
    """How often to hear of what lasts; more often than it is told, so that no minute is left out."""
    return 1.0 if sys.stderr.isatty() else STATUS_SECONDS / 12


def keep_answers(
    folder: Path, *, forget: bool = False, show: bool = False, batch: bool = False, is_awaited: bool = False
) -> None:
    """Have answers of services kept, so that a repeat costs nothing, with those that a model folder has.

    Where somebody waits for each answer, services in trouble are given up soon.
    """
    from cascade.hosted.answer_cache import AnswerCache
    from cascade.hosted.asker import Asker, shared_asker
    from cascade.hosted.batches import Batches, BatchOptions
    from cascade.hosted.cache_settings import answers_path, most_bytes
    from cascade.hosted.folder_jobs import user_ledger
    from cascade.hosted.release_0_2 import has_answers, take_over_answers
    from cascade.hosted.retry import DEFAULT, INTERACTIVE

    cache = AnswerCache(answers_path(), note, most_bytes=most_bytes())
    if has_answers(folder):
        try:
            with user_ledger() as ledger:
                take_over_answers(cache, ledger, folder)
        except BackendError as error:  # the same questions can be asked all the same
            note(str(error))
    _stop_asking_at_interrupts()
    options = BatchOptions(report=tell_batch, report_seconds=report_seconds())
    shared_asker(
        lambda: Asker(
            cache=None if forget else cache,
            batches=Batches(user_ledger, cache, options, everything=batch),
            retry_policy=INTERACTIVE if is_awaited else DEFAULT,
            report=_tell_asking,
            report_seconds=report_seconds(),
            note=note,
            log=note if show else None,
        )
    )


def require_keys(manifest: Manifest) -> None:
    """BackendError where a key is not set that a model needs to ask, before any row is read."""
    from cascade.backends import check_keys, named_backends

    asked = [(group, record.backend) for group, record in manifest.groups.items()]
    if manifest.verification is not None and manifest.verification.is_used:
        asked.append(("verify", manifest.verification.backend))
    check_keys(named_backends(asked))


def _stop_asking_at_interrupts() -> None:
    """Have Ctrl-C, and who stops the process, end what other threads ask as well.

    They would go on, and be paid for, to the last one. What is on its way is waited for, as it is paid for
    already; who does not want to wait says so once more.
    """
    from cascade.hosted.asker import close_shared

    def stopped(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        # In a thread of its own, as this one may be holding what closing needs.
        threading.Thread(target=close_shared, daemon=True).start()
        if number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        raise SystemExit(128 + number)

    # Who called it from elsewhere than a terminal has handlers of its own.
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, stopped)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stopped)


def _tell_asking(progress: AskingProgress) -> None:
    trouble = f"; waiting: {progress.trouble}" if progress.trouble else ""
    status(f"{number(progress.answered)} of {number(progress.asked)} questions answered{trouble}")


def tell_batch(event: BatchEvent) -> None:
    """Something happened to a batch."""
    if event.kind == "again":
        note(f"{number(event.requests)} questions without an answer are asked once more")
        return
    counts = f"{number(event.done)} of {number(event.requests)} answered"
    batch = f"batch {event.batch}" if event.batch else "a batch"
    line = f"{batch} {'found' if event.kind == 'found' else event.status}: {counts}"
    if event.kind == "status":
        status(line)
    else:
        note(line)


def tell_usage(manifest: Manifest) -> None:
    """What services were asked, model by model; the price where it is known."""
    from cascade.backends import asks_service
    from cascade.hosted.asker import shared_asker
    from cascade.hosted.questions import Usage

    users: dict[str, list[str]] = {}
    for group, record in manifest.groups.items():
        if "model" in record.notes:
            users.setdefault(str(record.notes["model"]), []).append(group or TOP_LEVEL)
        if asks_service(record.backend):
            users[record.backend["encoder"]["api"]] = ["encoder"]
    if manifest.verification is not None:
        from cascade.model.verification import IN_DOUBT

        users.setdefault(str(manifest.verification.backend["model"]), []).append(IN_DOUBT)
    usage = sorted(shared_asker().usage().items(), key=lambda one: users.get(one[0], []))
    costs = [_cost_of(manifest, model, used) for model, used in usage]
    for (model, used), cost in zip(usage, costs, strict=True):
        note(f"{', '.join(users.get(model, []))} ({model}): {usage_line(used, cost)}")
    if len(usage) > 1:
        known = [cost for cost in costs if cost is not None]
        total = sum((used for _, used in usage), Usage())
        note(f"all of them: {usage_line(total, sum(known) if len(known) == len(costs) else None)}")


def spent_usd(manifest: Manifest) -> float | None:
    """USD of all that services were asked by now; None where a price is not known."""
    from cascade.hosted.asker import shared_asker

    costs = [_cost_of(manifest, model, used) for model, used in shared_asker().usage().items()]
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


def _cost_of(manifest: Manifest, model: str, used: Usage) -> float | None:
    """USD of the answers of a model; None where the prices of its service are not known."""
    from cascade.backends import asks_service, service_of
    from cascade.hosted.embeddings import SHARED
    from cascade.hosted.prices import Prices
    from cascade.hosted.settings import Settings

    prices = Prices.load()
    specs = [one.backend for one in manifest.groups.values()]
    asked = [one.backend for one in manifest.groups.values() if one.notes.get("model") == model]
    if manifest.verification is not None and manifest.verification.backend["model"] == model:
        asked.append(manifest.verification.backend)
    services = [
        service_of(spec["kind"], {name: value for name, value in spec.items() if name != "kind"})
        for spec in asked
    ]
    services += [
        Settings.of({name: value for name, value in spec["encoder"].items() if name in SHARED})
        for spec in specs
        if asks_service(spec) and spec["encoder"]["api"] == model
    ]
    if not all(one is not None and one.address == prices.service for one in services):
        return None
    return prices.used_usd(model, used)


def usage_line(used: Usage, cost: float | None) -> str:
    """What was used of a model, or of all."""
    batched = f" ({number(used.batched)} in batches)" if used.batched else ""
    again = f"{counted(used.found_again, 'answer')} found again at the service, " if used.found_again else ""
    return (
        f"{number(used.requests)} requests{batched}, {number(used.from_cache)} kept answers, {again}"
        f"{number(used.prompt_tokens)} tokens in ({number(used.cached_tokens)} cached), "
        f"{number(used.completion_tokens)} out, {number(used.unreadable)} unreadable, "
        f"{'price not known' if cost is None else usd(cost)}"
    )


@cascade.command(short_help="List, follow and cancel fine-tunes.")
@model_option
@click.option("--follow", is_flag=True, help="Wait until all have ended.")
@click.option("--cancel", multiple=True, metavar="GROUP", help="Cancel the fine-tune of a group; repeatable.")
@json_option
@debug_option
def jobs(model: Path | None, follow: bool, cancel: tuple[str, ...], as_json: bool) -> int:
    """List the fine-tunes of a model folder as they stand at the service, follow or cancel them.

    Nothing is ordered here. When they have ended, `cascade fit` with the same taxonomy makes the model, and
    submits none of them again.
    """
    from cascade.hosted.fine_tuner import cancel_jobs
    from cascade.hosted.folder_jobs import ledger_for, orders_of, records_of

    folder = chosen_model(model)
    with ledger_for(folder) as ledger:
        if not orders_of(folder):
            raise ModelError(f"{folder}: no fine-tune was ever ordered for this model")
        if cancel:
            cancel_jobs(folder, ledger, cancel)
        _look_at_jobs(folder, ledger, follow=follow)
        records = records_of(folder, ledger)
        if not records:
            raise ModelError(
                f"{folder}: its fine-tunes are not in {ledger.path}: another user ordered them, or "
                "CASCADE_HOME was another folder then"
            )
    if as_json:
        print_json({"jobs": [_job_row(one) for one in records]})
    else:
        show(_jobs_table(records))
    return DONE


def _look_at_jobs(folder: Path, ledger: Ledger, *, follow: bool) -> None:
    """Bring the ledger up to date; without `follow` it will do as it is."""
    from cascade.hosted.fine_tuner import follow_jobs

    with progress("following") as bar:
        report = JobProgress(bar) if follow else _ignore
        try:
            for outcome in follow_jobs(folder, ledger, report, wait=follow, report_seconds=report_seconds()):
                if outcome.why:
                    bar.say(f"{outcome.group or TOP_LEVEL}: {outcome.why}. {outcome.advice}".rstrip())
        except CascadeError as error:
            if follow:
                raise
            bar.say(f"{error}. This is what was seen last")


class JobProgress:
    """Tells of fine-tunes: a line for what happens, and how those stand that take their time."""

    def __init__(self, bar: Bar, status: Status = status) -> None:
        self._bar, self._status = bar, status
        self._lasting: dict[str, JobEvent] = {}

    def __call__(self, event: JobEvent) -> None:
        from cascade.hosted.orders import LASTING

        if event.kind in LASTING:
            self._lasting[event.group] = event
            self._status(self._standing())
            return
        self._lasting.pop(event.group, None)
        age = f" after {event.age_seconds:.0f} s" if event.age_seconds >= 1 else ""
        detail = f" ({event.detail})" if event.detail else ""
        self._bar.say(f"{event.kind} {event.group or TOP_LEVEL}{age}{detail}")
        if not self._lasting:
            self._status.clear()

    def _standing(self) -> str:
        events = list(self._lasting.values())
        counts = Counter(event.kind for event in events)
        told = ", ".join(f"{number(count)} {kind}" for kind, count in counts.items())
        oldest = max(event.age_seconds for event in events)
        ends = [event.estimated_end for event in events if event.estimated_end is not None]
        left = f", about {max(max(ends) - time.time(), 0):.0f} s left" if ends else ""
        waiting = dict.fromkeys(event.detail for event in events if event.kind == "waiting" and event.detail)
        why = f"; waiting: {next(iter(waiting))}" if waiting else ""
        return f"fine-tunes: {told}, for {oldest:.0f} s{left}{why}"


def _ignore(event: JobEvent) -> None:
    """What a look at the ledger will tell."""


def _job_row(record: JobRecord) -> dict[str, Any]:
    told = (
        "group",
        "state",
        "job",
        "model",
        "base_model",
        "service",
        "cost_usd",
        "trained_tokens",
        "why",
        "advice",
    )
    return {name: getattr(record, name) for name in told} | {"curve": list(record.result_csv)}


def _jobs_table(records: Sequence[JobRecord]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("group", "state", "age"):
        table.add_column(name)
    for name in ("tokens", "cost", "loss"):
        table.add_column(name, justify="right")
    for name in ("job", "model", "why"):
        table.add_column(name, overflow="fold")
    for one in records:
        tokens = "" if one.trained_tokens is None else number(one.trained_tokens)
        figures = (_age(one), tokens, usd(one.cost_usd), _loss(one))
        table.add_row(one.group or TOP_LEVEL, one.state, *figures, one.job or "", one.model or "", one.why)
    return table


def _age(record: JobRecord) -> str:
    """How long a job took, or runs already, and how long it may still take."""
    if record.created_at is None:
        return ""
    age = str(timedelta(seconds=round((record.ended_at or time.time()) - record.created_at)))
    if record.ended_at is not None or record.estimated_end is None:
        return age
    left = timedelta(seconds=max(round(record.estimated_end - time.time()), 0))
    return f"{age}, {left} left"


def _loss(record: JobRecord) -> str:
    """The last loss on the validation file, or else on training examples, that the service tells."""
    for name in ("full_valid_loss", "valid_loss", "train_loss"):
        found = [row[name] for row in record.result_csv if name in row]
        if found:
            return f"{found[-1]:.3f}"
    return ""


@cascade.command(short_help="Write the training files of each group.")
@click.argument("taxonomy", shell_complete=files)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write [default: export/NAME]."
)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Rows to use instead of data.train; repeatable.",
    shell_complete=files,
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Fixes every choice.",
)
@click.option(
    "--skip-bad-rows", is_flag=True, help="Go on without the rows that cannot be used; exit code 3."
)
@json_option
@debug_option
def export(
    taxonomy: str, *, out: Path | None, data: tuple[str, ...], seed: int, skip_bad_rows: bool, as_json: bool
) -> int:
    """Write the training and validation file of each group, to fine-tune a model anywhere.

    TAXONOMY is the YAML file. The lines are chat messages (or prompts and completions, where a group's
    backend says so); manifest.json tells how each model is to be asked. Name what was trained as `model` of
    the group, and `cascade fit` takes it from there.
    """
    from cascade.learn.export import export as write

    tree = load_taxonomy(taxonomy)
    rows, refused, _ = labelled_rows(training_files(tree, data), columns_of(tree.data), tree)
    stop_at_refused(refused, skip=skip_bad_rows)
    folder = out or Path("export") / tree.name
    told = write(tree, [row.text for row in rows], [row.labels for row in rows], folder, seed=seed)
    if as_json:
        print_json(told)
    else:
        for group in told["groups"]:
            click.echo(f"{group['folder']}: {number(group['training'])} examples, {group['answer']}")
    return REFUSED if refused else DONE


@cascade.command(short_help="A service on this machine to rehearse fine-tunes with.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("sandbox"),
    show_default=True,
    metavar="DIR",
    help="Keeps files, jobs and models.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8642,
    show_default=True,
    metavar="N",
    help="Of this machine; 0 takes a free one.",
)
@click.option("--chaos", metavar="SPEC", help="Faults to inject, such as seed=1,rate=0.1.")
@click.option(
    "--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Of each answer."
)
@click.option("--rpm", type=click.IntRange(min=1), metavar="N", help="Requests allowed a minute.")
@click.option("--tpm", type=click.IntRange(min=1), metavar="N", help="Tokens allowed a minute.")
@debug_option
def sandbox(
    folder: Path, port: int, chaos: str | None, latency: float, rpm: int | None, tpm: int | None
) -> int:
    """Serve files, fine-tuning jobs, batches and completions in OpenAI's wire format on this machine.

    It really learns: a job trains an embedded model on the examples that were uploaded, and completions
    answer with its probabilities. Any key will do, and nothing leaves the machine. Ctrl-C ends it; what it
    has stays in its folder.
    """
    try:
        from cascade.sandbox.chaos import Chaos
        from cascade.sandbox.server import Options, serve
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"the package {error.name!r} is not installed. Run: pip install 'cascade-classifier[sandbox]'"
        ) from error
    try:
        faults = Chaos.parse(chaos) if chaos else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--chaos'") from error
    options = Options(chaos=faults, latency=latency, rpm=rpm, tpm=tpm)
    serve(folder, options, port=port, ready=_tell_sandbox)
    return DONE


def _tell_sandbox(address: str) -> None:
    click.echo(address)
    note(f"taxonomies reach it by backend: {{kind: openai, provider: compatible, base_url: {address}}}")
    sys.stdout.flush()

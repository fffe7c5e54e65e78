"""What all commands share: their group, errors as lines and exit codes, options, figures and output."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cascade import __version__
from cascade.cli.completion import MODEL_VARIABLE, MODELS, model_folders
from cascade.errors import CascadeError, TaxonomyError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress


DONE, PROBLEM, REFUSED, INTERRUPTED = 0, 1, 3, 130
_DEBUG = "cascade.debug"
_RESUME = {
    "fit": "What is fitted is kept: the same command goes on from there.",
    "distil": "Answers are kept: the same command goes on from there.",
    "predict": "With --out, the same command goes on from where it stopped.",
    "label": "The same command goes on from where it stopped.",
    "enrich": "What was answered is kept: the same command asks for the rest.",
}
_PIPE_WIDTH = 100
TOP_LEVEL = "top level"
_OBJECTS_BETWEEN_LOOKS = 1_000_000


def main() -> NoReturn:
    """The command ``cascade``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows its code
            stream.reconfigure(errors="backslashreplace")
    # Rows are many objects and in no cycles: to look through them for any took a tenth of a fit.
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
    status = run(sys.argv[1:])
    sys.exit(_flushed(status))


def run(arguments: Sequence[str]) -> int:
    """The exit status of a command line, after it was carried out."""
    try:
        status = cascade.main(args=list(arguments), prog_name="cascade", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return int(status or DONE)


def _flushed(status: int) -> int:
    """The status, after all output is out; a reader that went away is no fault of ours."""
    try:
        if sys.__stdout__ is not None:  # None where the caller closed it
            sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        if status != PROBLEM:
            note(f"error: standard output: {error.strerror or error}")
        return PROBLEM
    return status


def _discard_output() -> None:
    """Have the interpreter flush into nothing when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Commands(click.Group):
    """Turns whatever a command raises into a line for the user and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _discard_output()
            return DONE
        except CascadeError as error:
            return _told(ctx, _explained(error), PROBLEM)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _told(ctx, f"error: {where}{error.strerror or error}", PROBLEM)
        except (Exception, KeyboardInterrupt) as error:
            if _is_interrupt(error):
                return _told(ctx, f"interrupted. {_RESUME.get(str(ctx.invoked_subcommand), '')}", INTERRUPTED)
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return _told(ctx, f"unexpected error: {what}; run again with --debug", PROBLEM)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is Ctrl-C, or was caused by it.

    Compiled code does not look for one: each compiled function on the way makes a SystemError of it.
    """
    return error is not None and (isinstance(error, KeyboardInterrupt) or _is_interrupt(error.__cause__))


def _explained(error: CascadeError) -> str:
    if isinstance(error, TaxonomyError) and len(error.problems) > 1:
        return f"{error}\nerror: {len(error.problems)} faults in the taxonomy"
    return f"error: {error}"


def _told(ctx: click.Context, message: str, status: int) -> int:
    if ctx.meta.get(_DEBUG):
        note(traceback.format_exc().rstrip())
    note(message.rstrip())
    return status


def note(message: str) -> None:
    click.echo(message, err=True)


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True


debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write the result as one JSON object.")
OUT_HELP = "File to write (.jsonl, .csv, .tsv, .xlsx, .parquet) [default: standard output, JSON lines]."
ERRORS_HELP = "File for refused rows [default: OUT.errors.jsonl; without --out, standard error]."
model_option = click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Model folder; without it ${MODEL_VARIABLE}, else the last that fit wrote under {MODELS}/.",
    shell_complete=model_folders,
)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Cores to use; by default all."
)
engine_option = click.option(
    "--engine",
    metavar="ADDRESS",
    help="A cluster to work on: dask://host:port, ray://host:port or ray [default: this machine].",
)


def cores() -> int:
    import joblib  # knows the limits of containers

    return int(joblib.cpu_count())


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="Exit codes: 0 done, 1 a problem, 2 wrong usage, 3 done but rows were refused, 130 interrupted.",
)
@click.version_option(__version__, prog_name="cascade", message="%(prog)s %(version)s")
@debug_option
@click.pass_context
def cascade(ctx: click.Context) -> None:
    """Give each text several labels out of a taxonomy.

    A router picks the coarse groups, a model for each group picks the labels. Begin with `cascade init`
    where there is no taxonomy yet, else with `cascade check`; then `cascade fit`, then `cascade predict`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def number(count: int) -> str:
    return f"{count:,}"


def counted(count: int, what: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{number(count)} {what}{'' if count == 1 else 's'}"


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def usd(amount: float | None) -> str:
    if amount is None:
        return "not known"
    return f"${amount:,.2f}" if amount else "nothing"


class Bar:
    """A progress bar, or nothing where there is no terminal to draw it on."""

    live: Bar | None = None
    """The one that is drawn now."""

    def __init__(self, progress: Progress | None = None, what: str = "") -> None:
        self._progress, self._what = progress, what
        self._task = None if progress is None else progress.add_task(what, total=None)

    def at(self, done: int, total: int | None) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def renew(self, status: str) -> None:
        """Show how things stand beside the bar, in the place of what stood there."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, description=f"{self._what} ({status})" if status else self._what
            )

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self._progress is None:
            note(line)
        else:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


class EncodingBar:
    """Shows beside a bar how the encoding of texts goes on."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._started, self._told = bar, time.monotonic(), set[str]()

    def at(self, done: int, total: int) -> None:
        """So many texts of so many are encoded."""
        if not done:
            self._started = time.monotonic()
        each = (time.monotonic() - self._started) / max(done, 1)
        left = f", {1 / each:,.0f} rows/s, {each * (total - done):,.0f} s left" if done and each else ""
        self._bar.renew(f"encoding, {number(done)} of {number(total)} texts{left}" if done < total else "")

    def say(self, line: str) -> None:
        """Say it above the bar, once."""
        if line not in self._told:
            self._told.add(line)
            self._bar.say(line)


class TrainingBar:
    """Shows beside a bar how a training goes on."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def at(self, step: int, steps: int, loss: float, seconds_left: float) -> None:
        """So many steps of so many are taken."""
        left = f"{seconds_left / 60:,.0f} min" if seconds_left > 120 else f"{seconds_left:,.0f} s"
        self._bar.renew(
            f"training, step {number(step)} of {number(steps)}, loss {loss:.3f}, {left} left"
            if step < steps
            else ""
        )

    def say(self, line: str) -> None:
        """Say it above the bar."""
        self._bar.say(line)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Bar]:
    if not sys.stderr.isatty():
        yield Bar()
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(
        *columns, bars.TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as shown:
        Bar.live = Bar(shown, what)
        try:
            yield Bar.live
        finally:
            Bar.live = None


def show(drawing: RenderableType) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(drawing)
    click.echo(captured.get(), nl=False, color=True)


def print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def print_json(value: Any) -> None:
    """One JSON object in UTF-8, whatever the terminal's encoding."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    # A name of a file that is no UTF-8 has lone surrogates; their escapes are JSON's own.
    click.echo(f"{text}\n".encode(errors="backslashreplace"), nl=False)

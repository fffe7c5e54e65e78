"""The command line: a command parses, calls one function and prints what it gives.

Results go to standard output, everything else to standard error. Nothing heavy is imported before a command
needs it, so that help is instant.

Exit codes: 0 done, 1 a problem that the message explains, 2 wrong usage, 3 done but some rows were refused,
130 interrupted.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from cascade import __version__
from cascade.errors import CascadeError, DataError, ModelError, Place, Problem, TaxonomyError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress

    from cascade.check import Report
    from cascade.evaluate import Evaluation
    from cascade.hosted.jobs import Order
    from cascade.hosted.jobs import Step as JobStep
    from cascade.hosted.ledger import JobRecord
    from cascade.hosted.prices import NodePlan
    from cascade.model import Cascade
    from cascade.predict import Outcome, Request
    from cascade.predict import Progress as Step
    from cascade.records import BadRow, Columns, Row
    from cascade.taxonomy import BackendSpec, DataSpec, Taxonomy
    from cascade.train import Event, Plan
    from cascade.tree import TreeNode

DONE, PROBLEM, REFUSED, INTERRUPTED = 0, 1, 3, 130

MODELS = Path("models")
LAST = MODELS / ".last"
"""Names the model that `fit` wrote last, as a path below `MODELS`."""
MODEL_VARIABLE = "CASCADE_MODEL"

_DEBUG = "cascade.debug"
_RESUME = {
    "fit": "What is fitted is kept: the same command goes on from there.",
    "predict": "With --out, the same command goes on from where it stopped.",
}
_NEARBY_MOST = 1000
_PIPE_WIDTH = 100
_SUSPICIOUS_SHOWN = 3
_TOP_LEVEL = "top level"
_OBJECTS_BETWEEN_LOOKS = 1_000_000
_ANSWERS = "answers.sqlite"


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
            _note(f"error: standard output: {error.strerror or error}")
        return PROBLEM
    return status


def _discard_output() -> None:
    """Have the interpreter flush into nothing when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Commands(click.Group):
    """Turns whatever a command raises into a line for the user and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            _discard_output()
            return DONE
        except KeyboardInterrupt:
            return _interrupted(ctx)
        except CascadeError as error:
            return _told(ctx, _explained(error), PROBLEM)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _told(ctx, f"error: {where}{error.strerror or error}", PROBLEM)
        except Exception as error:
            if isinstance(error.__cause__, KeyboardInterrupt):
                return _interrupted(ctx)  # compiled code does not look for one: its caller gets a SystemError
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return _told(ctx, f"unexpected error: {what}; run again with --debug", PROBLEM)


def _interrupted(ctx: click.Context) -> int:
    return _told(ctx, f"interrupted. {_RESUME.get(str(ctx.invoked_subcommand), '')}", INTERRUPTED)


def _explained(error: CascadeError) -> str:
    if isinstance(error, TaxonomyError) and len(error.problems) > 1:
        return f"{error}\nerror: {len(error.problems)} faults in the taxonomy"
    return f"error: {error}"


def _told(ctx: click.Context, message: str, status: int) -> int:
    if ctx.meta.get(_DEBUG):
        _note(traceback.format_exc().rstrip())
    _note(message.rstrip())
    return status


def _note(message: str) -> None:
    click.echo(message, err=True)


def _remember_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.meta[_DEBUG] = True


# Options that several commands have

_debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember_debug,
    help="Show the traceback of an error.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Write the result as one JSON object.")
_OUT_HELP = "File to write (.jsonl, .csv or .tsv) [default: standard output, JSON lines]."
_ERRORS_HELP = "File for refused rows [default: OUT.errors.jsonl; without --out, standard error]."
_model = click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Model folder; without it ${MODEL_VARIABLE}, else the last that fit wrote under {MODELS}/.",
)
_jobs = click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="Cores to use; by default all.")

_engine = click.option(
    "--engine",
    metavar="ADDRESS",
    help="A cluster to work on: dask://host:port, ray://host:port or ray [default: this machine].",
)


def _cores() -> int:
    import joblib  # knows the limits of containers

    return int(joblib.cpu_count())


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    epilog="Exit codes: 0 done, 1 a problem, 2 wrong usage, 3 done but rows were refused, 130 interrupted.",
)
@click.version_option(__version__, prog_name="cascade", message="%(prog)s %(version)s")
@_debug
@click.pass_context
def cascade(ctx: click.Context) -> None:
    """Give each text several labels out of a taxonomy.

    A router picks the coarse groups, a model for each group picks the labels. Begin with `cascade check`,
    then `cascade fit`, then `cascade predict`.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


# check


@cascade.command(short_help="Report faults and advice, change nothing.")
@click.argument("taxonomy")
@click.option(
    "--data", multiple=True, metavar="FILE", help="Rows to check instead of data.train; repeatable."
)
@_json
@_debug
def check(taxonomy: str, data: tuple[str, ...], as_json: bool) -> int:
    """Report faults and advice about a taxonomy and its rows, and change nothing.

    TAXONOMY is the YAML file. The exit code is 1 when there is an error; warnings and advice do no harm.
    """
    try:
        report = _checked(_load_taxonomy(taxonomy), data)
    except TaxonomyError as error:
        if not as_json:
            raise
        report = _faults(error)
    if as_json:
        _print_json(report.to_json())
    else:
        _print_lines(_check_lines(report))
    return DONE if report.ok else PROBLEM


def _checked(taxonomy: Taxonomy, data: Sequence[str]) -> Report:
    from cascade.check import check as check_rows
    from cascade.records import read_all

    with _bar("checking"):
        columns = _columns(taxonomy.data)
        train, refused = read_all(data or taxonomy.data.files("train"), columns, taxonomy)
        test, refused_too = read_all(taxonomy.data.files("test"), columns, taxonomy)
        report = check_rows(taxonomy, train, test, refused + refused_too)
    return report if data or taxonomy.data.train else _without_rows(report)


def _without_rows(report: Report) -> Report:
    """The report on a taxonomy that names no rows yet: that is no fault of its."""
    eased = [
        replace(finding, severity="advice") if finding.rule == "no-data" else finding
        for finding in report.findings
    ]
    errors_first = sorted(eased, key=lambda finding: ("error", "warning", "advice").index(finding.severity))
    return replace(report, findings=tuple(errors_first))


def _faults(error: TaxonomyError) -> Report:
    from cascade.check import Finding, Report

    advice = "Correct the taxonomy."
    found = [Finding("taxonomy", "error", str(problem), 1, (), advice) for problem in error.problems]
    return Report(tuple(found), rows=0, labels=0, groups=0)


def _check_lines(report: Report) -> Iterator[str]:
    from cascade.check import render

    return render(report)


# fit


@cascade.command()
@click.argument("taxonomy")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder to write [default: models/NAME].",
)
@click.option(
    "--data", multiple=True, metavar="FILE", help="Rows to learn instead of data.train; repeatable."
)
@_jobs
@_engine
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Fixes every random choice.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be trained and what it would cost, and stop.")
@click.option(
    "--budget",
    type=click.FloatRange(min=0),
    metavar="USD",
    help="Start no fine-tunes that cost more than this together; less needs no question.",
)
@click.option("--yes", is_flag=True, help="Start fine-tunes without a question.")
@click.option("--detach", is_flag=True, help="Return when the fine-tunes are submitted; see cascade jobs.")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Learn without the rows that cannot be used; exit code 3."
)
@_json
@_debug
def fit(
    taxonomy: str,
    *,
    out: Path | None,
    data: tuple[str, ...],
    jobs: int | None,
    engine: str | None,
    seed: int,
    dry_run: bool,
    budget: float | None,
    yes: bool,
    detach: bool,
    skip_bad_rows: bool,
    as_json: bool,
) -> int:
    """Train the models of a taxonomy.

    TAXONOMY is the YAML file. What did not change since the last fit is reused, and a fit that was stopped
    goes on when the same command is given again.
    """
    tree = _load_taxonomy(taxonomy)
    folder = out or MODELS / tree.name
    _check_out(folder)
    rows, refused = _labelled_rows(_training_files(tree, data), _columns(tree.data), tree)
    _stop_at_refused(refused, skip=skip_bad_rows)
    if dry_run:
        _show_plan(tree, rows, seed, as_json=as_json)
        return REFUSED if refused else DONE
    consent = _Consent(budget=budget, yes=yes)
    run = {"seed": seed, "jobs": jobs or _cores(), "engine": engine}
    summary = _fitted(tree, rows, folder, consent, wait=not detach, **run)
    if summary is not None:
        _show_fit(summary | {"refused": len(refused)}, as_json=as_json)
    return REFUSED if refused else DONE


def _check_out(folder: Path) -> None:
    """ModelError where `folder` holds something that no fit wrote, and so that no fit should tidy up."""
    from cascade.hosted.shop import LEDGER
    from cascade.store import MANIFEST, NODES

    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: a file; expected a folder for the model. Name another --out.")
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    ours = (NODES, LEDGER, _ANSWERS, ".")  # and what SQLite puts beside its files
    strange = sorted(one.name for one in folder.iterdir() if not one.name.startswith(ours))
    if strange:
        raise ModelError(
            f"{folder}: not a model folder, it holds {strange[0]!r}. Name a new or empty folder with --out."
        )


def _training_files(taxonomy: Taxonomy, data: Sequence[str]) -> Sequence[str | Path]:
    if not data and not taxonomy.data.train:
        raise DataError(
            f"{taxonomy.source}: names no training rows. Add files under `data: train:`, or give --data FILE."
        )
    return data or taxonomy.data.files("train")


def _labelled_rows(
    files: Sequence[str | Path], columns: Columns, taxonomy: Taxonomy
) -> tuple[list[Row], list[BadRow]]:
    """The rows of some files, and those that were refused, which it lists."""
    from cascade.records import read_all, summarise_bad

    with _bar("reading"):
        rows, refused = read_all(files, columns, taxonomy)
    if refused:
        _note(summarise_bad(refused))
    return rows, refused


def _stop_at_refused(refused: Sequence[BadRow], *, skip: bool) -> None:
    if not refused:
        return
    count = f"{len(refused):,} bad {'row' if len(refused) == 1 else 'rows'}"
    if not skip:
        raise DataError(f"{count}. Mend what is listed above, or learn without with --skip-bad-rows.")
    _note(f"{count} left out")


def _fitted(
    taxonomy: Taxonomy, rows: Sequence[Row], folder: Path, consent: _Consent, *, wait: bool, **run: Any
) -> dict[str, Any] | None:
    """What came of a fit, JSON-able; None where fine-tunes were submitted and are not waited for."""
    from cascade.compiled import announce
    from cascade.hosted.shop import PendingError, Shop
    from cascade.train import fit as train

    started = time.perf_counter()
    log = _FitLog()
    texts, labels = [row.text for row in rows], [row.labels for row in rows]
    _keep_answers(folder)
    with _bar("fitting") as log.bar:
        announce(log.bar.say)
        consent.bar = log.bar
        shop = Shop(consent, log.step, wait)
        try:
            manifest = train(taxonomy, texts, labels, folder, report=log, shop=shop, **run)
        except PendingError as pending:
            if wait:
                raise
            log.bar.say(str(pending))
            return None
    _tell_usage(taxonomy)
    _remember_last(folder)
    _tell_suspicious(manifest.suspicious, rows)
    return {
        "model": str(folder),
        "rows": len(rows),
        "groups": len(taxonomy.groups) - 1,
        "labels": len(taxonomy.labels),
        "fitted": log.fitted,
        "reused": log.reused,
        "micro_f1": manifest.metrics.get("micro_f1"),
        "macro_f1": manifest.metrics.get("macro_f1"),
        "suspicious": len(manifest.suspicious),
        "seed": manifest.seed,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _tell_suspicious(suspicious: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> None:
    if not suspicious:
        return
    _note(f"labels of training rows that the model doubts most ({_number(len(suspicious))} in its manifest):")
    for one in suspicious[:_SUSPICIOUS_SHOWN]:
        row = rows[one["row"] - 1]
        given = "given" if one["given"] else "not given"
        _note(
            f"  {row.file} row {row.number}: {one['label']!r} is {given}, expected {one['probability']:.2f}"
        )


class _FitLog:
    """Says what a fit does, group by group, and counts."""

    def __init__(self) -> None:
        self.bar = _Bar()
        self.fitted = 0
        self.reused = 0

    def step(self, step: JobStep) -> None:
        """Something happened to a fine-tune."""
        age = f" after {step.age_seconds:.0f} s" if step.age_seconds >= 1 else ""
        left = (
            ""
            if step.estimated_end is None
            else f", about {max(step.estimated_end - time.time(), 0):.0f} s left"
        )
        detail = f" ({step.detail})" if step.detail else ""
        self.bar.say(f"{step.kind} {step.group or _TOP_LEVEL}{age}{left}{detail}")

    def __call__(self, event: Event) -> None:
        self.fitted += event.kind == "fitted"
        self.reused += event.kind == "reused"
        self.bar.at(event.done, event.total)
        if event.kind in ("fitted", "reused"):
            detail = f" ({event.detail})" if event.detail else ""
            self.bar.say(f"{event.kind} {event.group or _TOP_LEVEL}{detail}")


class _Consent:
    """Whether fine-tunes may be paid for: by a budget, by ``--yes``, or by a question at a terminal."""

    def __init__(self, *, budget: float | None, yes: bool) -> None:
        self.budget, self.yes, self.bar = budget, yes, _Bar()

    def __call__(self, orders: Sequence[Order]) -> None:
        known = [order.cost_usd for order in orders if order.cost_usd is not None]
        cost = sum(known)
        unknown = "" if len(known) == len(orders) else " and what the service asks where prices are not known"
        services = ", ".join(dict.fromkeys(order.settings.address for order in orders))
        about = f"{len(orders)} fine-tunes at {services} for about {_usd(cost)}{unknown}"
        if self.budget is not None and cost > self.budget:
            raise CascadeError(
                f"{about}: more than --budget {self.budget:g}. Nothing was sent. Lower max_examples or "
                "n_epochs, or see cascade fit --dry-run"
            )
        if self.yes or (self.budget is not None and not unknown):
            self.bar.say(about)
        elif not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise CascadeError(
                f"{about}: nothing was sent. Say --yes, or --budget USD where prices are known"
            )
        elif not click.confirm(f"{about}. Start them?", err=True):
            raise CascadeError("nothing was sent")


def _keep_answers(folder: Path, *, forget: bool = False, show: bool = False) -> None:
    """Have answers of services kept in a model folder, so that a repeat costs nothing."""
    from cascade.hosted.asking import Asker, shared_asker
    from cascade.hosted.cache import Cache

    cache = None if forget else Cache(folder / _ANSWERS, _note)
    shared_asker(lambda: Asker(cache=cache, log=_note if show else None))


def _tell_usage(taxonomy: Taxonomy) -> None:
    """What services were asked, model by model; the price where it is known."""
    from cascade.hosted.asking import shared_asker
    from cascade.hosted.prices import Prices
    from cascade.hosted.services import Settings

    prices = Prices.load()
    specs = [group.backend for group in taxonomy.groups.values() if group.backend.kind == "openai"]
    is_known = all(Settings.of(spec.options).address == prices.service for spec in specs)
    for model, used in sorted(shared_asker().usage().items()):
        tokens = (used.prompt_tokens, used.completion_tokens, used.cached_tokens)
        cost = prices.answer_usd(model, *tokens) if is_known else None
        _note(
            f"{model}: {_number(used.requests)} requests, {_number(used.from_cache)} kept answers, "
            f"{_number(used.prompt_tokens)} tokens in, {_number(used.completion_tokens)} out, "
            f"{_number(used.unreadable)} unreadable, {'price not known' if cost is None else _usd(cost)}"
        )


def _show_fit(summary: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(summary)
        return
    counts = {name: _number(summary[name]) for name in ("labels", "rows", "fitted", "reused")}
    click.echo(
        f"{summary['model']}: {counts['labels']} labels, {counts['rows']} rows, {counts['fitted']} groups "
        f"fitted, {counts['reused']} reused, {summary['seconds']} s"
    )
    click.echo(
        f"out of fold: micro F1 {_figure(summary['micro_f1'])}, macro F1 {_figure(summary['macro_f1'])}"
    )
    _note(f"next: cascade predict INPUT{_model_words(Path(summary['model']))} --out predictions.jsonl")


def _number(count: int) -> str:
    return f"{count:,}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _model_words(folder: Path) -> str:
    return "" if _is_last(folder) else f" --model {shlex.quote(str(folder))}"


def _show_plan(taxonomy: Taxonomy, rows: Sequence[Row], seed: int, *, as_json: bool) -> None:
    from cascade.train import plan

    planned = plan(taxonomy, [row.text for row in rows], [row.labels for row in rows], seed)
    if as_json:
        _print_json(
            {
                "rows": len(rows),
                "groups": [_plain(asdict(one)) for one in planned.groups],
                "cost_usd": planned.cost_usd(),
                "thousand_usd": planned.thousand_usd(),
                "flat": None if planned.flat is None else _plain(asdict(planned.flat)),
                "prices_of": planned.prices_of.isoformat(),
            }
        )
        return
    _print(_plan_table(planned))
    if planned.flat is not None:
        _print(_hosted_table(planned, planned.flat))
        for line in _about_plan(planned):
            _note(line)
    _note("dry run: nothing was trained or written")


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same, JSON-able: days are texts."""
    text: dict[str, Any] = json.loads(json.dumps(fields, default=str))
    return text


def _plan_table(planned: Plan) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_footer=True)
    table.add_column("group", f"{len(planned.groups)} in all", overflow="fold")
    table.add_column("backend")
    for name in ("rows", "children", "rarest"):
        table.add_column(name, justify="right")
    table.add_column("negatives")
    table.add_column("cost", _usd(planned.cost_usd()), justify="right")
    for one in planned.groups:
        rarest = _number(min(one.positives, default=0))
        figures = (_number(one.rows), _number(len(one.children)), rarest, one.negatives, _usd(one.cost_usd))
        table.add_row(one.group or _TOP_LEVEL, one.backend, *figures)
    return table


def _hosted_table(planned: Plan, flat: NodePlan) -> RenderableType:
    """What each fine-tune takes, all of them together, and one flat model beside them."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title="fine-tunes", title_justify="left")
    table.add_column("group", overflow="fold")
    table.add_column("answer")
    for name in ("examples", "tokens", "epochs", "in", "out", "fit", "1,000 answers"):
        table.add_column(name, justify="right")
    hosted = [one.hosted for one in planned.groups if one.hosted is not None]
    for one in hosted:
        table.add_row(*_hosted_cells(one))
    sums = (_number(sum(one.examples for one in hosted)), _number(sum(one.training_tokens for one in hosted)))
    money = (_usd(planned.cost_usd()), _usd(planned.thousand_usd()))
    table.add_row("all of them", "", *sums, "", "", "", *money, style="bold")
    table.add_row(*_hosted_cells(flat))
    return table


def _hosted_cells(one: NodePlan) -> tuple[str, ...]:
    epochs = f"{one.epochs:g}{'?' if one.epochs_assumed else ''}"
    tokens = (f"{one.tokens_in:.0f}", f"{one.tokens_out:.1f}")
    money = (_usd(one.training_usd), _usd(one.thousand_usd))
    counts = (_number(one.examples), _number(one.training_tokens))
    return (one.group or _TOP_LEVEL, one.kind, *counts, epochs, *tokens, *money)


def _about_plan(planned: Plan) -> Iterator[str]:
    hosted = [one.hosted for one in planned.groups if one.hosted is not None]
    yield (
        f"prices of {planned.prices_of}; epochs with ? are assumed, as the service chooses them; all of "
        "them: each text asked about at the groups that it truly belongs to"
    )
    for one in hosted:
        if one.why:
            yield f"{one.group or _TOP_LEVEL}: {one.why}"
    for model, day in dict.fromkeys((one.base_model, one.ends) for one in hosted if one.ends is not None):
        yield f"{model}: fine-tunes of it stop answering on {day}"


def _usd(amount: float | None) -> str:
    if amount is None:
        return "not known"
    return f"${amount:,.2f}" if amount else "nothing"


# predict


@cascade.command(short_help="Give each row of a file its labels.")
@click.argument("source", metavar="INPUT")
@_model
@click.option("--out", type=click.Path(), metavar="FILE", help=_OUT_HELP)
@click.option(
    "--top", type=click.IntRange(min=1), metavar="K", help="The K best labels, whatever their thresholds."
)
@click.option(
    "--scores",
    type=click.Choice(["chosen", "all"]),
    default="chosen",
    show_default=True,
    help="Scores of the chosen labels, or of all that were looked at.",
)
@click.option("--trace", is_flag=True, help="Tell for each row which nodes were visited, and why.")
@_jobs
@_engine
@click.option("--text-column", metavar="NAME", help="Column of the text, if not that of the taxonomy.")
@click.option("--id-column", metavar="NAME", help="Column of the id, if not that of the taxonomy.")
@click.option("--errors", type=click.Path(path_type=Path), metavar="FILE", help=_ERRORS_HELP)
@click.option("--no-cache", is_flag=True, help="Ask services anew, and keep none of their answers.")
@click.option(
    "--debug-http", is_flag=True, help="Show what is sent to services and what comes, texts included."
)
@_debug
def predict(
    source: str,
    model: Path | None,
    text_column: str | None,
    id_column: str | None,
    jobs: int | None,
    no_cache: bool,
    debug_http: bool,
    **settings: Any,
) -> int:
    """Give each row of a file its labels, one JSON object a row, in the order of the rows.

    INPUT is a file (.jsonl, .csv, .tsv, each also with .gz, or .parquet), or - for standard input as JSONL.
    With --out, a run that was stopped goes on when the same command is given again. Rows that cannot be used
    are written aside, and the exit code is then 3.
    """
    from cascade.model import Cascade
    from cascade.predict import Request

    loaded = Cascade.load(_chosen_model(model))
    if loaded.is_hosted:
        _keep_answers(loaded.folder, forget=no_cache, show=debug_http)
    columns = _columns(loaded.taxonomy.data, text=text_column, id=id_column)
    request = Request(source=source, columns=columns, jobs=jobs, **settings)
    outcome = _predicted(loaded, request)
    if loaded.is_hosted:
        _tell_usage(loaded.taxonomy)
    return _told_outcome(outcome, request)


def _predicted(model: Cascade, request: Request) -> Outcome:
    from cascade.compiled import announce
    from cascade.predict import predict_file

    with _bar("predicting") as bar:
        announce(bar.say)

        def report(step: Step) -> None:
            bar.at(step.rows + step.refused, None)
            if step.detail:
                bar.say(step.detail)

        return predict_file(model, request, sys.stdout.buffer, refuse=bar.say, report=report)


def _told_outcome(outcome: Outcome, request: Request) -> int:
    """The exit code, after a line about where the rows are."""
    if request.out is not None:
        _note(f"{request.out}: {_number(outcome.rows)} {'row' if outcome.rows == 1 else 'rows'}")
    if not outcome.refused:
        return DONE
    rows = "1 row was" if outcome.refused == 1 else f"{_number(outcome.refused)} rows were"
    _note(f"{rows} refused: see {outcome.errors or 'above'}")
    return REFUSED


# evaluate


@cascade.command(short_help="Compare a model with labelled rows.")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@_model
@_json
@_debug
def evaluate(inputs: tuple[str, ...], model: Path | None, as_json: bool) -> int:
    """Compare a model's answers with labelled rows.

    INPUT is one or several files with labels, read as the taxonomy of the model says. Rows that cannot be
    used are listed and left out, and the exit code is then 3.
    """
    from cascade.model import Cascade

    loaded = Cascade.load(_chosen_model(model))
    if loaded.is_hosted:
        _keep_answers(loaded.folder)
    rows, refused = _labelled_rows(inputs, _columns(loaded.taxonomy.data), loaded.taxonomy)
    if not rows:
        raise DataError(f"{', '.join(inputs)}: no rows to compare with.")
    evaluation = _evaluated(loaded, rows)
    if as_json:
        _print_json(evaluation.to_json())
    else:
        _show_evaluation(evaluation)
    return REFUSED if refused else DONE


def _evaluated(model: Cascade, rows: Sequence[Row]) -> Evaluation:
    from cascade.datasets import label_truth
    from cascade.evaluate import Scored
    from cascade.evaluate import evaluate as compare

    with _bar("evaluating"):
        texts = [row.text for row in rows]
        truth = label_truth(model.graph, [row.labels for row in rows])
        walked, ideal = model.walk(texts).whole(), model.oracle(texts, truth).whole()
        groups = model.taxonomy.groups.values()
        return compare(
            model.graph,
            truth,
            Scored(walked.paths, model.decide(walked)),
            Scored(ideal.paths, model.decide(ideal)),
            always=frozenset(group.name for group in groups if group.route == "always"),
            seed=model.manifest.seed,
        )


def _show_evaluation(evaluation: Evaluation) -> None:
    from cascade.evaluate import render

    _print(render(evaluation))


# inspect-tree


@cascade.command("inspect-tree", short_help="Show a taxonomy or a model as a tree.")
@click.argument("what", required=False)
@_model
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Of the tree.",
)
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Levels to show.")
@click.option("--group", metavar="NAME", help="Show this group only.")
@_debug
def inspect_tree(
    what: str | None, model: Path | None, form: str, depth: int | None, group: str | None
) -> int:
    """Show the groups and labels of a taxonomy file, or of a model folder with rows and quality.

    WHAT is the file or the folder; without it, the model as for predict.
    """
    from cascade.tree import pruned, render, subtree

    if what is not None and model is not None:
        raise click.UsageError("expected WHAT or --model, found both.")
    tree = _tree(what, model)
    if group is not None:
        tree = subtree(tree, group)
    if form == "json":
        _print_json((tree if depth is None else pruned(tree, depth)).to_json())
    else:
        _print(render(tree, depth))
    return DONE


def _tree(what: str | None, model: Path | None) -> TreeNode:
    from cascade.tree import of_model, of_taxonomy

    if what is not None and not Path(what).is_dir():
        return of_taxonomy(_load_taxonomy(what))
    from cascade.model import Cascade

    loaded = Cascade.load(Path(what) if what is not None else _chosen_model(model))
    return of_model(loaded.taxonomy, loaded.manifest)


# Taxonomies


def _load_taxonomy(path: str) -> Taxonomy:
    from cascade.taxonomy import Taxonomy

    if not Path(path).exists():
        raise TaxonomyError([Problem(Place(path), f"no such file.{_nearby(Path(path))}")])
    return Taxonomy.load(path, check_backend=_backend_faults)


def _backend_faults(spec: BackendSpec) -> Iterable[str]:
    from cascade.backends import complaints  # NumPy comes with it

    return complaints(spec.kind, spec.options)


def _nearby(path: Path) -> str:
    """What may have been meant by a path that leads to no file, as a sentence."""
    found: dict[str, Path] = {}
    for folder in dict.fromkeys((path.parent, Path(), *_folders_here())):
        for one in sorted(itertools.islice(folder.glob("*.y*ml"), _NEARBY_MOST)):
            found.setdefault(one.name, one)
    stems = {one.stem: one for one in reversed(found.values())}
    near = get_close_matches(path.name, found, n=1) or get_close_matches(path.stem, stems, n=1)
    if near:
        return f" Did you mean {str(found.get(near[0]) or stems[near[0]])!r}?"
    return f" Found nearby: {', '.join(str(one) for one in list(found.values())[:3])}." if found else ""


def _folders_here() -> list[Path]:
    here = itertools.islice(Path().iterdir(), _NEARBY_MOST)
    return sorted(one for one in here if one.is_dir() and not one.name.startswith("."))


def _columns(data: DataSpec, *, text: str | None = None, id: str | None = None) -> Columns:  # noqa: A002
    from cascade.records import Columns

    return Columns(text or data.text, data.labels, id or data.id, data.labels_delimiter)


# Models


def _chosen_model(option: Path | None) -> Path:
    """The model folder to use; says which unless it was named.

    Raises
    ------
    ModelError
        None was named, and there is no last one.
    """
    if option is not None:
        return option
    if named := os.environ.get(MODEL_VARIABLE):
        _note(f"model: {named} (from ${MODEL_VARIABLE})")
        return Path(named)
    last = _last_model()
    if last is None:
        raise ModelError(
            f"no model to use: neither --model nor ${MODEL_VARIABLE} names one, and no fit wrote one under "
            f"{MODELS}/ here. Run `cascade fit TAXONOMY`, or name a model folder with --model."
        )
    _note(f"model: {last} (the last that fit wrote)")
    return last


def _last_model() -> Path | None:
    if not LAST.is_file():
        return None
    name = LAST.read_text("utf-8", errors="replace").strip()
    return MODELS / name if name else None


def _remember_last(folder: Path) -> None:
    """Note a model under `MODELS` as the one that was written last."""
    if not folder.resolve().is_relative_to(MODELS.resolve()) or folder.resolve() == MODELS.resolve():
        return
    name = folder.resolve().relative_to(MODELS.resolve()).as_posix()
    temporary = LAST.with_name(f"{LAST.name}.{os.getpid()}")
    temporary.write_text(f"{name}\n", "utf-8")
    temporary.replace(LAST)


def _is_last(folder: Path) -> bool:
    last = _last_model()
    return last is not None and last.resolve() == folder.resolve() and not os.environ.get(MODEL_VARIABLE)


# Output


class _Bar:
    """A progress bar, or nothing where there is no terminal to draw it on."""

    def __init__(self, progress: Progress | None = None, what: str = "") -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(what, total=None)

    def at(self, done: int, total: int | None) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def say(self, line: str) -> None:
        """Write a line above the bar."""
        if self._progress is None:
            _note(line)
        else:
            self._progress.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)


@contextlib.contextmanager
def _bar(what: str) -> Iterator[_Bar]:
    if not sys.stderr.isatty():
        yield _Bar()
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(
        *columns, bars.TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as shown:
        yield _Bar(shown, what)


def _print(drawing: RenderableType) -> None:
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(drawing)
    click.echo(captured.get(), nl=False, color=True)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _print_json(value: Any) -> None:
    """One JSON object in UTF-8, whatever the terminal's encoding."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    # A name of a file that is no UTF-8 has lone surrogates; their escapes are JSON's own.
    click.echo(f"{text}\n".encode(errors="backslashreplace"), nl=False)


# Hosted models


@cascade.command(short_help="List, follow and cancel fine-tunes.")
@_model
@click.option("--cancel", multiple=True, metavar="GROUP", help="Cancel the fine-tune of a group; repeatable.")
@_json
@_debug
def jobs(model: Path | None, cancel: tuple[str, ...], as_json: bool) -> int:
    """List the fine-tunes of a model folder, and cancel some.

    What stands here is what the last run saw. `cascade fit` with the same taxonomy follows the jobs to their
    end, and submits none of them again.
    """
    from cascade.hosted.ledger import Ledger, history
    from cascade.hosted.shop import LEDGER, cancelled

    folder = _chosen_model(model)
    if not (folder / LEDGER).exists():
        raise ModelError(f"{folder}: no fine-tune was ever ordered for this model")
    with Ledger(folder / LEDGER) as ledger:
        if cancel:
            cancelled(ledger, cancel)
        records = history(ledger)
    if as_json:
        _print_json({"jobs": [_job_row(one) for one in records]})
    else:
        _print(_jobs_table(records))
    return DONE


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
    for name in ("group", "state", "job", "model", "why"):
        table.add_column(name, overflow="fold")
    for one in records:
        table.add_row(one.group or _TOP_LEVEL, one.state, one.job or "", one.model or "", one.why)
    return table


@cascade.command(short_help="Write the training files of each group.")
@click.argument("taxonomy")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder to write [default: export/NAME]."
)
@click.option("--data", multiple=True, metavar="FILE", help="Rows to use instead of data.train; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N")
@click.option(
    "--skip-bad-rows", is_flag=True, help="Go on without the rows that cannot be used; exit code 3."
)
@_json
@_debug
def export(
    taxonomy: str, *, out: Path | None, data: tuple[str, ...], seed: int, skip_bad_rows: bool, as_json: bool
) -> int:
    """Write the training and validation file of each group, to fine-tune a model anywhere.

    TAXONOMY is the YAML file. The lines are chat messages (or prompts and completions, where a group's
    backend says so); manifest.json tells how each model is to be asked. Name what was trained as `model` of
    the group, and `cascade fit` takes it from there.
    """
    from cascade.export import export as write

    tree = _load_taxonomy(taxonomy)
    rows, refused = _labelled_rows(_training_files(tree, data), _columns(tree.data), tree)
    _stop_at_refused(refused, skip=skip_bad_rows)
    folder = out or Path("export") / tree.name
    told = write(tree, [row.text for row in rows], [row.labels for row in rows], folder, seed=seed)
    if as_json:
        _print_json(told)
    else:
        for group in told["groups"]:
            click.echo(f"{group['folder']}: {_number(group['training'])} examples, {group['answer']}")
    return REFUSED if refused else DONE


@cascade.command(short_help="A service on this machine to rehearse fine-tunes with.")
@click.option(
    "--folder", type=click.Path(path_type=Path), default=Path("sandbox"), show_default=True, metavar="DIR"
)
@click.option("--port", type=click.IntRange(0, 65535), default=8642, show_default=True, metavar="N")
@click.option("--chaos", metavar="SPEC", help="Faults to inject, such as seed=1,rate=0.1.")
@click.option(
    "--latency", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Of each answer."
)
@click.option("--rpm", type=click.IntRange(min=1), metavar="N", help="Requests allowed a minute.")
@click.option("--tpm", type=click.IntRange(min=1), metavar="N", help="Tokens allowed a minute.")
@_debug
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
        from cascade.sandbox.server import serve
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"the package {error.name!r} is not installed. Run: pip install 'cascade-classifier[sandbox]'"
        ) from error
    try:
        faults = Chaos.parse(chaos) if chaos else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--chaos'") from error
    serve(folder, port=port, chaos=faults, latency=latency, rpm=rpm, tpm=tpm, ready=_tell_sandbox)
    return DONE


def _tell_sandbox(address: str) -> None:
    click.echo(address)
    _note(f"taxonomies reach it by backend: {{kind: openai, provider: compatible, base_url: {address}}}")
    sys.stdout.flush()

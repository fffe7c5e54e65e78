"""``cascade fit``."""

from __future__ import annotations

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import MODELS, files
from cascade.cli.hosted import JobProgress, keep_answers, report_seconds, tell_usage
from cascade.cli.inputs import (
    columns_of,
    labelled_rows,
    load_taxonomy,
    model_words,
    readings_in,
    remember_last,
    stop_at_refused,
    training_files,
)
from cascade.cli.shell import (
    DONE,
    REFUSED,
    TOP_LEVEL,
    Bar,
    EncodingBar,
    TrainingBar,
    cascade,
    cores,
    counted,
    debug_option,
    engine_option,
    figure,
    jobs_option,
    json_option,
    note,
    number,
    print_json,
    progress,
    show,
    usd,
)
from cascade.errors import CascadeError, DataError, ModelError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.hosted.orders import Order
    from cascade.hosted.prices import NodePlan
    from cascade.learn.events import Event
    from cascade.learn.plan import Plan, Planned
    from cascade.model.folder import Manifest
    from cascade.rows.row import Row
    from cascade.taxonomy.definition import Taxonomy
    from cascade.trunk.trainer import Trainer

_SUSPICIOUS_SHOWN = 3
_PLAN_GROUPS = 40
"""Of more groups a dry run shows those that matter most."""


@cascade.command()
@click.argument("taxonomy", shell_complete=files)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder to write [default: models/NAME].",
)
@click.option(
    "--data",
    multiple=True,
    metavar="FILE",
    help="Rows to learn instead of data.train; repeatable.",
    shell_complete=files,
)
@jobs_option
@engine_option
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
@click.option("--self-contained", is_flag=True, help="Put a copy of each encoder into the model folder.")
@click.option(
    "--retrain-trunk", is_flag=True, help="Train encoders anew that could be built on; see docs/fine-tune.md."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where encoders are trained.",
)
@json_option
@debug_option
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
    self_contained: bool,
    retrain_trunk: bool,
    device: str,
    as_json: bool,
) -> int:
    """Train the models of a taxonomy.

    TAXONOMY is the YAML file. What did not change since the last fit is reused, and a fit that was stopped
    goes on when the same command is given again.
    """
    from cascade.backends import check_keys, written_backends

    tree = load_taxonomy(taxonomy)
    folder = out or MODELS / tree.name
    check_out(folder)
    if not data and not tree.data.train and _is_asked_alone(tree):
        return _fit_untaught(tree, folder, seed, dry_run=dry_run, as_json=as_json)
    files, known = training_files(tree, data), readings_in(folder)
    if not dry_run:
        check_keys(written_backends(tree))
    rows, refused, readings = labelled_rows(files, columns_of(tree.data, is_other=bool(data)), tree, known)
    stop_at_refused(refused, skip=skip_bad_rows)
    if not rows:
        raise DataError(f"{', '.join(map(str, files))}: no rows, so there is nothing to learn.")
    if dry_run:
        _tell_absent_encoders(tree)
        _show_plan(tree, rows, seed, folder, _trainer(device, retrain_trunk, jobs), as_json=as_json)
        return REFUSED if refused else DONE
    consent = _Consent(budget=budget, yes=yes)
    kept = list(dict.fromkeys(one.reading for one in readings))
    run: dict[str, Any] = {
        "seed": seed,
        "jobs": jobs or cores(),
        "engine": engine,
        "readings": kept,
        "self_contained": self_contained,
        "trainer": _trainer(device, retrain_trunk, jobs),
    }
    summary = _fitted(tree, rows, folder, consent, wait=not detach, **run)
    if summary is not None:
        _show_fit(summary | {"refused": len(refused)}, as_json=as_json)
    return REFUSED if refused else DONE


def _is_asked_alone(taxonomy: Taxonomy) -> bool:
    from cascade.learn.asking import is_asked_alone  # NumPy comes with it

    return is_asked_alone(taxonomy)


def _fit_untaught(taxonomy: Taxonomy, folder: Path, seed: int, *, dry_run: bool, as_json: bool) -> int:
    """A model folder without any row: all its models are asked as they are."""
    from cascade.learn.asking import fit_untaught

    if dry_run:
        _show_plan(taxonomy, (), seed, folder, _trainer("auto", False, None), as_json=as_json)
        return DONE
    started = time.perf_counter()
    with progress("fitting") as bar:
        log = FitLog(bar)
        fit_untaught(taxonomy, folder, seed=seed, report=log)
    remember_last(folder)
    summary = _summary(taxonomy, folder, log, seed=seed, rows=0, seconds=time.perf_counter() - started)
    _show_fit(summary | {"refused": 0, "is_calibrated": False}, as_json=as_json)
    return DONE


def _summary(
    taxonomy: Taxonomy, folder: Path, log: FitLog, *, seed: int, rows: int, seconds: float
) -> dict[str, Any]:
    """What was fitted, JSON-able."""
    return {
        "model": str(folder),
        "rows": rows,
        "groups": len(taxonomy.groups) - 1,
        "labels": len(taxonomy.labels),
        "fitted": log.fitted,
        "reused": log.reused,
        "seed": seed,
        "seconds": round(seconds, 1),
    }


def check_out(folder: Path) -> None:
    """ModelError where `folder` holds something that no fit wrote, and so that no fit should tidy up."""
    from cascade.hosted.folder_jobs import FILE
    from cascade.hosted.release_0_2 import ANSWERS, BATCHES, JOBS
    from cascade.model.folder import ENCODERS, MANIFEST, NODES, TRUNKS

    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder}: a file; expected a folder for the model. Name another --out.")
    if not folder.exists() or (folder / MANIFEST).exists():
        return
    # And what SQLite puts beside its files.
    ours = (NODES, ENCODERS, TRUNKS, FILE, JOBS, ANSWERS, BATCHES, ".")
    others = sorted(one.name for one in folder.iterdir() if not one.name.startswith(ours))
    if others:
        raise ModelError(
            f"{folder}: not a model folder, it holds {others[0]!r}. Name a new or empty folder with --out."
        )


def _trainer(device: str, retrain: bool, jobs: int | None) -> Trainer:
    from cascade.trunk.trainer import Trainer

    return Trainer(device, retrain, jobs or cores())


def _fitted(
    taxonomy: Taxonomy,
    rows: Sequence[Row],
    folder: Path,
    consent: _Consent,
    *,
    wait: bool,
    trainer: Trainer,
    **run: Any,
) -> dict[str, Any] | None:
    """What came of a fit, JSON-able; None where fine-tunes were submitted and are not waited for."""
    from cascade.encoders.contract import listen
    from cascade.hosted.fine_tuner import FineTuner, PendingError
    from cascade.learn.fit import fit as train
    from cascade.system.compiled import announce

    started = time.perf_counter()
    texts, labels = [row.text for row in rows], [row.labels for row in rows]
    keep_answers(folder)
    with progress("fitting") as bar:
        log = FitLog(bar)
        announce(bar.say)
        listen(EncodingBar(bar))
        consent.bar = bar
        fine_tuner = FineTuner(
            consent, JobProgress(bar), wait, report_seconds=report_seconds(), budget_usd=consent.budget
        )
        run |= {"fine_tuner": fine_tuner, "trainer": replace(trainer, listener=TrainingBar(bar))}
        try:
            manifest = train(taxonomy, texts, labels, folder, report=log, **run)
        except PendingError as pending:
            if wait:
                raise
            bar.say(str(pending))
            return None
    tell_usage(manifest)
    _tell_lack_of_probabilities(manifest)
    remember_last(folder)
    _tell_suspicious(manifest.suspicious, rows)
    _tell_encoder(taxonomy, rows)
    seconds = time.perf_counter() - started
    return {
        **_summary(taxonomy, folder, log, seed=manifest.seed, rows=len(rows), seconds=seconds),
        "micro_f1": manifest.metrics.get("micro_f1"),
        "macro_f1": manifest.metrics.get("macro_f1"),
        "suspicious": len(manifest.suspicious),
        "first_look": None if manifest.first_look is None else manifest.first_look.share,
    }


def _tell_absent_encoders(taxonomy: Taxonomy) -> None:
    """Say which encoders are not here, at which a fit would stop."""
    from cascade.checks.shape import absent_encoder
    from cascade.checks.subject import Subject

    for finding in absent_encoder(Subject(taxonomy, (), (), ())):
        note(f"{finding.message}: {', '.join(finding.examples)}. {finding.advice}")


def _tell_encoder(taxonomy: Taxonomy, rows: Sequence[Row]) -> None:
    """Say where an encoder would win much, as `cascade check` does, without the indexes that it makes."""
    from cascade.checks.counts import knows_words_alone, poor_in_rows

    if knows_words_alone(taxonomy):
        carried = Counter(name for row in rows for name in dict.fromkeys(row.labels))
        texts = {row.text for row in rows if row.text and not row.text.isspace()}
        if poor := poor_in_rows(taxonomy.labels, carried, len(texts)):
            note(f"{poor}: an encoder would win much, see `cascade check`")


def _tell_lack_of_probabilities(manifest: Manifest) -> None:
    groups = [name for name, one in manifest.groups.items() if one.notes.get("probabilities") == "none"]
    if groups:
        names = ", ".join(group or TOP_LEVEL for group in groups)
        note(
            f"{names}: the service gives no logprobs, so that all scores are 0 or 1. Thresholds mean nothing "
            "there: precision cannot be traded for recall"
        )


def _tell_suspicious(suspicious: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> None:
    if not suspicious:
        return
    note(f"labels of training rows that the model doubts most ({number(len(suspicious))} in its manifest):")
    for one in suspicious[:_SUSPICIOUS_SHOWN]:
        row = rows[one["row"] - 1]
        given = "given" if one["given"] else "not given"
        note(f"  {row.file} row {row.number}: {one['label']!r} is {given}, expected {one['probability']:.2f}")


class FitLog:
    """Says what a fit does, group by group, and counts."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.fitted = 0
        self.reused = 0

    def __call__(self, event: Event) -> None:
        self.fitted += event.kind == "fitted"
        self.reused += event.kind == "reused"
        self.bar.at(event.done, event.total)
        self.bar.renew("")  # what was waited for is there
        if event.kind in ("fitted", "reused"):
            detail = f" ({event.detail})" if event.detail else ""
            self.bar.say(f"{event.kind} {event.group or TOP_LEVEL}{detail}")
        if event.kind == "noted":
            self.bar.say(f"{event.group}: {event.detail}" if event.group else event.detail)


class _Consent:
    """Whether fine-tunes may be paid for: by a budget, by ``--yes``, or by a question at a terminal."""

    def __init__(self, *, budget: float | None, yes: bool) -> None:
        self.budget, self.yes, self.bar = budget, yes, Bar()

    def __call__(self, orders: Sequence[Order]) -> None:
        known = [order.cost_usd for order in orders if order.cost_usd is not None]
        cost = sum(known)
        unknown = len(orders) - len(known)
        services = ", ".join(dict.fromkeys(order.settings.address for order in orders))
        price = f" for about {usd(cost)}" if known else ""
        price += f"; the price of {unknown} is not known" if unknown else ""
        about = f"{len(orders)} fine-tunes at {services}{price}"
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


def _show_fit(summary: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    counts = {name: number(summary[name]) for name in ("labels", "rows", "fitted", "reused")}
    click.echo(
        f"{summary['model']}: {counts['labels']} labels, {counts['rows']} rows, {counts['fitted']} groups "
        f"fitted, {counts['reused']} reused, {summary['seconds']} s"
    )
    if summary.get("is_calibrated", True):
        f1 = f"micro F1 {figure(summary['micro_f1'])}, macro F1 {figure(summary['macro_f1'])}"
        click.echo(f"out of fold: {f1}")
    else:
        note("not calibrated: no row tells how sure the model may be; thresholds are plain")
    note(f"next: cascade predict INPUT{model_words(Path(summary['model']))} --out predictions.jsonl")


def _show_plan(
    taxonomy: Taxonomy, rows: Sequence[Row], seed: int, folder: Path, trainer: Trainer, *, as_json: bool
) -> None:
    from cascade.hosted.fine_tuner import tuned_models
    from cascade.learn.plan import plan

    texts, labels = [row.text for row in rows], [row.labels for row in rows]
    planned = plan(taxonomy, texts, labels, seed, tuned_models(folder), trainer)
    if as_json:
        print_json(
            {
                "rows": len(rows),
                "groups": [_plain(asdict(one)) for one in planned.groups],
                "cost_usd": planned.cost_usd(),
                "thousand_usd": planned.thousand_usd(),
                "flat": None if planned.flat is None else _plain(asdict(planned.flat)),
                "prices_of": planned.prices_of.isoformat(),
                "trunks": [asdict(one) for one in planned.trunks],
                "asked": [_plain(asdict(one)) for one in planned.asked],
                "asked_rows": planned.asked_rows,
                "in_doubt": None if planned.in_doubt is None else _plain(asdict(planned.in_doubt)),
                "in_doubt_labels": planned.in_doubt_labels,
            }
        )
        return
    show(_plan_table(planned))
    if planned.flat is not None:
        show(_hosted_table(planned, planned.flat))
        for line in _about_plan(planned):
            note(line)
    if planned.asked or planned.in_doubt is not None:
        show(_asked_table(planned))
        for line in _about_questions(planned):
            note(line)
    for trunk in planned.trunks:
        note(
            f"{trunk.base}: one fine-tune for {counted(trunk.groups, 'group')}, {number(trunk.rows)} rows in "
            f"{number(trunk.steps)} steps, about {counted(max(round(trunk.seconds / 60), 1), 'minute')} "
            "here, by ten steps of it"
        )
    note("dry run: nothing was trained or written")


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
    table.add_column("cost", usd(planned.cost_usd()), justify="right")
    for one in _costliest(planned.groups):
        rarest = number(min(one.positives, default=0))
        figures = (number(one.rows), number(len(one.children)), rarest, one.negatives, usd(one.cost_usd))
        table.add_row(one.group or TOP_LEVEL, one.backend, *figures)
    hidden = len(planned.groups) - _PLAN_GROUPS
    if hidden > 0:
        table.caption = f"and {counted(hidden, 'group')} with fewer rows; --json has all"
        table.caption_justify = "left"
    return table


def _costliest(groups: Sequence[Planned]) -> list[Planned]:
    """Of many groups those that cost most and have most rows, in the order that they stand in."""
    cost = [math.inf if one.cost_usd is None else one.cost_usd for one in groups]
    places = sorted(range(len(groups)), key=lambda place: (-cost[place], -groups[place].rows))
    return [groups[place] for place in sorted(places[:_PLAN_GROUPS])]


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
    sums = (number(sum(one.examples for one in hosted)), number(sum(one.training_tokens for one in hosted)))
    money = (usd(planned.cost_usd()), usd(planned.thousand_usd()))
    table.add_row("all of them", "", *sums, "", "", "", *money, style="bold")
    table.add_row(*_hosted_cells(flat))
    return table


def _asked_table(planned: Plan) -> RenderableType:
    """What a text takes at each group whose model is asked as it is."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, title="questions", title_justify="left")
    table.add_column("group", overflow="fold")
    table.add_column("answer")
    for name in ("texts", "in", "shared", "out", "fit", "1,000 texts"):
        table.add_column(name, justify="right")
    again = () if planned.in_doubt is None else (planned.in_doubt,)
    for one in (*planned.asked, *again):
        price = one.price
        often = planned.asked_rows if one in planned.asked else planned.in_doubt_labels
        tokens = (f"{price.tokens_in:.0f}", f"{price.tokens_shared:.0f}", f"{price.tokens_out:.1f}")
        share = one.share if one in planned.asked else 1.0
        costs = [share * often, one.share * 1000]
        money = [usd(None if price.usd is None else price.usd * times) for times in costs]
        table.add_row(one.group or TOP_LEVEL, price.answer, f"{one.share:.0%}", *tokens, *money)
    return table


def _about_questions(planned: Plan) -> Iterator[str]:
    again = () if planned.in_doubt is None else (planned.in_doubt,)
    models = ", ".join(dict.fromkeys(one.price.model for one in (*planned.asked, *again)))
    rows = f"{number(planned.asked_rows)} rows are asked about to calibrate; " if planned.asked_rows else ""
    if again:
        labels = counted(planned.in_doubt_labels, "doubtful label")
        rows += f"{labels} of held-out rows are asked about again, to see whether that wins anything; "
    yield (
        f"{models}: {rows}tokens in and out are of a text at the group, those shared by all texts may be "
        "cheaper; `cascade predict --dry-run` tells of a file"
    )


def _hosted_cells(one: NodePlan) -> tuple[str, ...]:
    epochs = f"{one.epochs:g}{'?' if one.epochs_assumed else ''}"
    tokens = (f"{one.tokens_in:.0f}", f"{one.tokens_out:.1f}")
    money = (usd(one.training_usd), usd(one.thousand_usd))
    counts = (number(one.examples), number(one.training_tokens))
    return (one.group or TOP_LEVEL, one.kind, *counts, epochs, *tokens, *money)


def _about_plan(planned: Plan) -> Iterator[str]:
    hosted = [one.hosted for one in planned.groups if one.hosted is not None]
    yield (
        f"prices of {planned.prices_of}; epochs with ? are assumed, as the service chooses them; all of "
        "them: each text asked about at the groups that it truly belongs to"
    )
    for one in hosted:
        if one.why:
            yield f"{one.group or TOP_LEVEL}: {one.why}"
        if one.already:
            yield f"{one.group or TOP_LEVEL}: tuned already, {one.already}"
    for model, day in dict.fromkeys((one.base_model, one.ends) for one in hosted if one.ends is not None):
        yield f"{model}: fine-tunes of it stop answering on {day}"

"""``cascade serve``."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cascade.cli.hosted import keep_answers
from cascade.cli.inputs import chosen_model, columns_of
from cascade.cli.shell import DONE, cascade, debug_option, model_option, note, number
from cascade.errors import CascadeError

if TYPE_CHECKING:
    from cascade.fitted import Cascade
    from cascade.teach.review import Review

_MIB = 1 << 20


@cascade.command(short_help="Answer over HTTP, with a page to try the model on.")
@model_option
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    metavar="N",
    help="0 takes a free one.",
)
@click.option(
    "--token-env", metavar="NAME", help="Environment variable that holds the token clients have to show."
)
@click.option(
    "--review",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A queue that `review` wrote, to be looked at on the page /review.",
)
@click.option(
    "--answers",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where its answers go [default: FILE.reviewed.jsonl, beside the queue].",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="MIB",
    help="Of a request.",
)
@click.option(
    "--max-texts",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    metavar="N",
    help="Of a request.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    metavar="N",
    help="Texts that may wait for an answer; who comes then is told to come back.",
)
@debug_option
def serve(
    model: Path | None,
    host: str,
    port: int,
    token_env: str | None,
    review: Path | None,
    answers: Path | None,
    max_body: int,
    max_texts: int,
    max_waiting: int,
) -> int:
    """Answer over HTTP with the rows that `predict` writes, and show a page at /.

    Only this machine is answered, unless --host says otherwise; then clients have to show a token. When fit
    replaces the model, the new one answers from then on, and no request is lost. Ctrl-C or SIGTERM ends it,
    after all that was asked is answered.

    With --review, people look at the rows of a queue one at a time. Each answer is appended to a file that
    fit reads, before the next row is shown.
    """
    if answers is not None and review is None:
        raise click.UsageError("--answers is for the answers to a queue: name that with --review.")
    try:
        from cascade.serve.limits import Limits
        from cascade.serve.server import Address
        from cascade.serve.server import serve as listen
    except ModuleNotFoundError as error:
        raise CascadeError(
            f"the package {error.name!r} is not installed. Run: pip install 'cascade-classifier[serve]'"
        ) from error

    limits = Limits(body=max_body * _MIB, texts=max_texts, waiting=max_waiting)
    address = Address(host, port, _token(token_env))
    folder = chosen_model(model)
    with _reviewing(folder, review, answers) as shown:
        listen(folder, _loaded, address, limits, review=shown, log=note, ready=_tell)
    return DONE


@contextlib.contextmanager
def _reviewing(folder: Path, queue: Path | None, answers: Path | None) -> Iterator[Review | None]:
    """The queue and its answers, for as long as they are served."""
    if queue is None:
        yield None
        return
    from cascade.model.folder import digest_of, read_manifest
    from cascade.taxonomy.definition import Taxonomy
    from cascade.teach.queue import ANSWERS, path_beside, read_queue
    from cascade.teach.review import Review

    manifest = read_manifest(folder)  # the model itself is loaded once, by the service
    taxonomy = Taxonomy.from_dict(manifest.taxonomy, source=str(folder))
    rows, path = read_queue(queue, taxonomy, digest_of(manifest)), answers or path_beside(queue, ANSWERS)
    with contextlib.closing(Review(rows, path, taxonomy, columns_of(taxonomy.data))) as shown:
        for line in shown.notes:
            note(line)
        note(f"{queue}: {number(len(shown.queued))} rows; answers go to {path}")
        yield shown


def _loaded(folder: Path) -> Cascade:
    from cascade.fitted import Cascade

    model = Cascade.load(folder)
    if model.is_hosted:
        keep_answers(folder, is_awaited=True)
    return model


def _token(name: str | None) -> str:
    if name is None:
        return ""
    token = os.environ.get(name, "").strip()
    if not token:
        raise CascadeError(f"--token-env {name}: that environment variable is not set, or empty")
    return token


def _tell(address: str) -> None:
    click.echo(address)
    sys.stdout.flush()

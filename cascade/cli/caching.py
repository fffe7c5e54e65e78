"""``cascade cache``."""

from __future__ import annotations

import re
from typing import Any

import click

from cascade.cli.shell import DONE, Commands, cascade, counted, debug_option, json_option, print_json

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


@cascade.group(
    "cache", cls=Commands, invoke_without_command=True, short_help="Show, limit and empty kept answers."
)
@json_option
@debug_option
@click.pass_context
def cache(context: click.Context, *, as_json: bool) -> int:
    """Show where answers of services are kept for all models, how many, and how much room they take.

    Fine-tunes and batches that were ordered are not among them: they stay in any case.
    """
    if context.invoked_subcommand is None:
        _tell(as_json=as_json)
    return DONE


@cache.command(short_help="Set the largest size.")
@click.argument("size")
@json_option
@debug_option
def limit(size: str, *, as_json: bool) -> int:
    """Set how much room kept answers may take: SIZE is such as 500MB or 2GB.

    What was not used for longest goes first, at once and from then on. 0 keeps none.
    """
    from cascade.hosted.cache_settings import set_most_bytes

    set_most_bytes(_bytes_of(size))
    with _opened() as answers:
        answers.shrink()
    _tell(as_json=as_json)
    return DONE


@cache.command(short_help="Drop all kept answers.")
@json_option
@debug_option
def clear(*, as_json: bool) -> int:
    """Drop all kept answers. The same questions are paid for again; fine-tunes and batches stay."""
    from cascade.hosted.cache_settings import clear as clear_answers

    clear_answers()
    _tell(as_json=as_json)
    return DONE


def _opened() -> Any:
    from cascade.cli.shell import note
    from cascade.hosted.answer_cache import AnswerCache
    from cascade.hosted.cache_settings import answers_path, most_bytes

    return AnswerCache(answers_path(), note, most_bytes=most_bytes())


def _tell(*, as_json: bool) -> None:
    from cascade.hosted.cache_settings import answers_path, bytes_on_disk, most_bytes

    path = answers_path()
    count = 0
    if path.exists():
        with _opened() as answers:
            count = answers.count()
    if as_json:
        told = {"file": str(path), "answers": count, "bytes": bytes_on_disk(), "limit_bytes": most_bytes()}
        print_json(told)
    else:
        size, most = size_of(bytes_on_disk()), size_of(most_bytes())
        click.echo(f"{path}: {counted(count, 'kept answer')}, {size} of {most}")


def _bytes_of(size: str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", size.lower())
    if found is None or found[2] not in _UNITS:
        raise click.BadParameter(f"expected a size such as 500MB or 2GB, found {size!r}", param_hint="SIZE")
    return int(float(found[1]) * _UNITS[found[2]])


def size_of(count: int) -> str:
    """So many bytes in words, such as ``29.4 MB``."""
    unit = max((unit for unit, least in _UNITS.items() if count >= least), key=_UNITS.__getitem__, default="")
    return f"{count / _UNITS[unit]:.3g} {unit.upper() or 'bytes'}"

"""Changes of a file that somebody has to agree to: shown as a diff, written whole or not at all."""

from __future__ import annotations

import codecs
import difflib
import sys
from pathlib import Path

import click

from cascade.cli.shell import note
from cascade.errors import DataError
from cascade.system.files import atomic_write


def show_change(file: Path, before: str, after: str, *, as_json: bool) -> None:
    """The diff of two texts of a file; with JSON standard output holds one object and nothing else."""
    old, new = (text.splitlines(keepends=True) for text in (before, after))
    diff = "".join(difflib.unified_diff(old, new, fromfile=str(file), tofile=str(file)))
    click.echo(diff, nl=False, err=as_json)


def agreed_change(file: Path, before: str, after: str, *, yes: bool, as_json: bool) -> bool:
    """Show what would change in a file, ask unless `yes`, and write it; whether it was written.

    Raises
    ------
    DataError
        Nobody can be asked, or the file cannot be written.
    """
    show_change(file, before, after, as_json=as_json)
    if not yes and not _is_agreed(file):
        note("nothing was written")
        return False
    marked = file.read_bytes().startswith(codecs.BOM_UTF8)
    with atomic_write(file.resolve()) as out:
        out.write((codecs.BOM_UTF8 if marked else b"") + after.encode())
    return True


def _is_agreed(file: Path) -> bool:
    if not sys.stdin.isatty():
        raise DataError(f"{file}: nothing was written, as nobody can be asked here; --yes writes it")
    return click.confirm(f"Change {file} so?", err=True)

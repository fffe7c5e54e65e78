"""The same taxonomy with names that are paths."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def with_paths(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping with plain names as one with `names: path`.

    A label that stands in several groups stands in the first one, and is ``also_in`` the others.
    """
    found = copy.deepcopy(dict(plain))
    _merge_repeated(found, "", {})
    return {**found, "names": "path"}


def _merge_repeated(body: dict[str, Any], path: str, first: dict[str, dict[str, Any]]) -> None:
    for key, below in body.items():
        if key == "labels":
            body[key] = [one for label in below if (one := _once(label, path, first)) is not None]
        elif key == "groups":
            for name, group in below.items():
                _merge_repeated(group, f"{path}/{name}".strip("/"), first)


def _once(label: str | dict[str, Any], path: str, first: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    long = {"name": label} if isinstance(label, str) else label
    if long["name"] not in first:
        first[long["name"]] = long
        return long
    first[long["name"]].setdefault("also_in", []).append(path)
    return None

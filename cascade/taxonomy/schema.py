"""The taxonomy file as a JSON Schema (draft 2020-12), made of the tables of keys that the reader goes by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cascade.system.shapes import NAME, Key, Shape, either, mapping, one_of
from cascade.taxonomy.data import DATA
from cascade.taxonomy.groups import GROUP, LABEL
from cascade.taxonomy.parser import TOP
from cascade.taxonomy.settings import SETTINGS, VERIFY

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(backends: Mapping[str, Mapping[str, Key]]) -> dict[str, Any]:
    """The schema, JSON-able.

    It holds less than the reader: what a name means elsewhere in the file, it cannot see.

    Parameters
    ----------
    backends : the options of each kind of backend that can be chosen
    """
    top = mapping(_properties(TOP, required="name"), required=["name"])
    return {
        "$schema": DIALECT,
        "title": "A taxonomy of Cascade",
        **top,
        "anyOf": [{"required": ["groups"]}, {"required": ["labels"]}],
        "$defs": {
            "data": mapping(_properties(DATA)),
            "settings": mapping(_properties(SETTINGS)),
            "group": either(mapping(_properties(GROUP)), {"type": "null"}),
            "label": either(NAME, mapping(_properties(LABEL, required="name"), required=["name"])),
            "threshold": _threshold(),
            "backend": _backend(backends),
            "verify": mapping(_properties(VERIFY, required="backend"), required=["backend"]),
        },
    }


def _properties(keys: Mapping[str, Key], required: str = "") -> dict[str, Shape]:
    """The shape of each key; one without a value counts as not given, if it is not required."""
    return {name: key.described() if name == required else _or_nothing(key) for name, key in keys.items()}


def _or_nothing(key: Key) -> Shape:
    return {"description": key.about, **either(key.shape, {"type": "null"})}


def _threshold() -> Shape:
    share = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    tuned = mapping({"precision": share, "recall": share}, minProperties=1, maxProperties=1)
    return either(one_of(["auto"]), {"type": "number", "minimum": 0, "maximum": 1}, tuned)


def _backend(backends: Mapping[str, Mapping[str, Key]]) -> Shape:
    forms = []
    for kind, options in backends.items():
        properties = {"kind": one_of([kind])} | {name: key.described() for name, key in options.items()}
        forms.append(mapping(properties, required=["kind"]))
    return either(one_of(list(backends)), *forms)

"""Many labels for each text: a taxonomy, a router, one model per group, and a walk that combines them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascade.changes.advice import advise
    from cascade.changes.migration import migrate
    from cascade.errors import CascadeError
    from cascade.estimator import CascadeClassifier
    from cascade.fitted import Cascade
    from cascade.rows.reading import read_rows
    from cascade.taxonomy.definition import Taxonomy

__all__ = [
    "Cascade",
    "CascadeClassifier",
    "CascadeError",
    "Taxonomy",
    "__version__",
    "advise",
    "migrate",
    "read_rows",
]

__version__ = "0.12.0"

_HOMES = {
    "Cascade": "cascade.fitted",
    "CascadeClassifier": "cascade.estimator",
    "CascadeError": "cascade.errors",
    "Taxonomy": "cascade.taxonomy.definition",
    "advise": "cascade.changes.advice",
    "migrate": "cascade.changes.migration",
    "read_rows": "cascade.rows.reading",
}


# Their modules take seconds to import, and `cascade --help` needs none of them.
def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})

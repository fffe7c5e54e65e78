"""What a shell proposes for an argument or an option: files, model folders, groups.

A shell asks at every press of the tab key, so nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from cascade.errors import CascadeError

MODELS = Path("models")
LAST = MODELS / ".last"
"""Names the model that `fit` wrote last, as a path below `MODELS`."""
MODEL_VARIABLE = "CASCADE_MODEL"

_MANIFEST = "manifest.json"  # `cascade.model.folder` has the name too, and NumPy with it
_MOST = 1000


def files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Files, as the shell completes them."""
    return [CompletionItem(incomplete, type="file")]


def model_folders(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Model folders where the path leads, and those under `models/`; else folders, as the shell has them."""
    parent = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    found = dict.fromkeys(str(one) for one in (*_models_in(parent), *_models_in(MODELS)))
    fitting = [CompletionItem(one) for one in found if one.startswith(incomplete)]
    return fitting or [CompletionItem(incomplete, type="dir")]


def groups(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The groups of the taxonomy file or the model folder that the command line names, or the last model."""
    with contextlib.suppress(CascadeError, OSError, ValueError, KeyError, TypeError, AttributeError):
        names = _groups_of(_chosen(ctx))
        return [CompletionItem(name) for name in names if name.lower().startswith(incomplete.lower())]
    return []


def _models_in(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        for one in itertools.islice(folder.iterdir(), _MOST):
            if (one / _MANIFEST).is_file():
                yield one


def _chosen(ctx: click.Context) -> Path:
    """What is looked at, as the command will find it."""
    # Where the value of an option is still to come, arguments stand unread in `args`.
    named = next(filter(None, (ctx.params.get("what"), ctx.params.get("model"), *ctx.args)), None)
    named = named or os.environ.get(MODEL_VARIABLE)
    return Path(named) if named else MODELS / LAST.read_text("utf-8").strip()


def _groups_of(path: Path) -> list[str]:
    from cascade.taxonomy.definition import Taxonomy

    if path.is_dir():
        manifest = json.loads((path / _MANIFEST).read_bytes())
        taxonomy = Taxonomy.from_dict(manifest["taxonomy"])
    else:
        taxonomy = Taxonomy.load(path)
    return [name for name in taxonomy.groups if name]

"""The command line: a command parses, calls one function and prints what it gives.

Results go to standard output, everything else to standard error. Nothing heavy is imported before a command
needs it, so that help is instant. It imports every folder, and none imports it.

Exit codes: 0 done, 1 a problem that the message explains, 2 wrong usage, 3 done but some rows were refused,
130 interrupted.
"""

from __future__ import annotations

# A command is there once its module was imported.
from cascade.cli import (  # noqa: F401
    advising,
    caching,
    checking,
    distilling,
    drafting,
    encoders,
    enriching,
    evaluating,
    explaining,
    fitting,
    hosted,
    labelling,
    migrating,
    predicting,
    reviewing,
    schema,
    serving,
    studio,
    trees,
    tuning,
)
from cascade.cli.shell import Commands, cascade, main, run

__all__ = ["Commands", "cascade", "main", "run"]

"""What drives a public command as a process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cascade as package


def environment(**changes):
    """That of this process, without what would colour or steer the commands."""
    steering = ("CASCADE_MODEL", "COLUMNS", "FORCE_COLOR", "NO_COLOR")
    plain = {name: value for name, value in os.environ.items() if name not in steering}
    root = str(Path(package.__file__).parents[1])
    found = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return plain | {"PYTHONPATH": found} | changes


def command(*arguments):
    return [sys.executable, "-m", "cascade", *map(str, arguments)]

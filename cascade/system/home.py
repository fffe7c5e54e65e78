"""Where a user keeps what several model folders share."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "CASCADE_HOME"


def home() -> Path:
    """The user's data folder, whether or not it exists: ``$CASCADE_HOME``, else where the system wants it."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser()
    import platformdirs  # `--help` needs none of it

    return platformdirs.user_data_path("cascade", appauthor=False)

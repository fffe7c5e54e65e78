"""Memory grows with what was visited, not with rows times labels: one float for each of these is 220 MiB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

HELPERS = Path(__file__).parents[1] / "helpers"


@pytest.mark.parametrize(("what", "most_mib"), [("figures", 150), ("advice", 300)])
def test_thousands_of_labels_take_memory_for_what_was_visited(what, most_mib):
    program = [sys.executable, str(HELPERS / "many_walked.py"), what]
    done = subprocess.run(program, env=environment(), capture_output=True, text=True, check=True)
    mib, found = map(float, done.stdout.split())
    assert found > 0
    assert mib < most_mib

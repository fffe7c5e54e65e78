"""Disks that are soon full, where the system lets one be mounted."""

from __future__ import annotations

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, size):
    """A disk of its own at a folder, until the block ends."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def enlarge(folder, size):
    """Make the disk at a folder that large."""
    subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)


def fill(folder):
    """Write a file until the disk at a folder is full."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError) as _:
        while True:
            file.write(bytes(4096))

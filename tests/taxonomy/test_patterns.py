from __future__ import annotations

import glob
import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import DataError, TaxonomyError
from cascade.taxonomy import patterns
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.patterns import TooManyError, files_matching
from cascade.taxonomy.yaml_nodes import MOST_BYTES

NAMES = st.sampled_from(["a", "b", "ab", ".a", "a.csv", "b.csv", "[a]"])
PATHS = st.lists(NAMES, min_size=1, max_size=4)
PARTS = st.sampled_from(["*", "**", "?", "a*", "*.csv", "[ab]", "a", "b", ".*", "**b", "[[]a]"])


@settings(max_examples=200, deadline=None)
@given(st.lists(PATHS, max_size=12), st.lists(PARTS, min_size=1, max_size=4))
def test_files_are_those_that_glob_finds(paths, parts):
    with tempfile.TemporaryDirectory() as made:
        for names in paths:
            path = Path(made, *names)
            if not any(above.is_file() for above in path.parents) and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        pattern = "/".join(parts)
        found = glob.glob(pattern, root_dir=made, recursive=True)  # noqa: PTH207
        expected = sorted({Path(made, name) for name in found if Path(made, name).is_file()})
        assert files_matching(Path(made), pattern) == expected
        assert files_matching(Path("/nowhere"), f"{glob.escape(made)}/{pattern}") == expected


def taxonomy(base, train):
    return Taxonomy.from_dict({"name": "t", "labels": ["a"], "data": {"train": train}}, base=base)


def test_a_pattern_that_looks_at_a_whole_disk_is_an_error():
    for pattern in ("/**", "/**/*", "/**/*.jsonl", "/*/**/*"):
        with pytest.raises(DataError, match=r"data\.train '/.* (looks at|matches) more than \d+,000 files"):
            taxonomy(Path(), pattern).data.files("train")


def test_too_many_files_are_an_error_and_just_as_many_as_allowed_are_not(tmp_path):
    for number in range(patterns.MOST_FILES):
        (tmp_path / f"{number}.csv").touch()
    assert len(files_matching(tmp_path, "*.csv")) == patterns.MOST_FILES
    (tmp_path / "more.csv").touch()
    with pytest.raises(TooManyError, match="matches more than 10,000 files"):
        files_matching(tmp_path, "*.csv")


def test_links_that_lead_up_again_are_not_followed_down(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "a.csv").touch()
    (tmp_path / "inside" / "up").symlink_to(tmp_path)
    assert files_matching(tmp_path, "**/*.csv") == [tmp_path / "inside" / "a.csv"]


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jsonl"))
    (tmp_path / "folder.jsonl").mkdir()
    for name, kind in {
        "pipe.jsonl": "a named pipe",
        "socket.jsonl": "a socket",
        "folder.jsonl": "a folder",
        "/dev/null": "a device",
    }.items():
        with pytest.raises(DataError, match=rf"data\.train '{name}' is {kind}; expected a file") as caught:
            taxonomy(tmp_path, name).data.files("train")
        assert "Did you mean" not in str(caught.value)


def test_a_taxonomy_that_is_no_taxonomy_is_never_held_whole(tmp_path):
    path = tmp_path / "t.yaml"
    with path.open("wb") as file:
        file.truncate(20 * MOST_BYTES)
    with pytest.raises(TaxonomyError, match="has more than 64 MiB; expected a taxonomy"):
        Taxonomy.load(path)
    with pytest.raises(TaxonomyError, match="has more than 64 MiB"):
        Taxonomy.load("/dev/zero")

"""What becomes of encoders and of kept vectors where the disk of the data folder is full."""

from __future__ import annotations

import json
import subprocess

import numpy as np
from processes import command, environment
from small_disks import enlarge, fill, small_disk
from tiny_encoders import MEANINGS, onnx_folder, rows_of, static_folder

from cascade.encoders.settings import DIGEST

TAXONOMY = """
name: tickets
data: {train: train.jsonl}
defaults: {backend: {kind: linear, encoder: tiny}}
groups:
  things: {labels: [money, post]}
  moods: {labels: [angry, sun]}
"""


def cascade(folder, home, *words):
    done = subprocess.run(
        command(*words),
        cwd=folder,
        capture_output=True,
        text=True,
        env=environment(CASCADE_HOME=str(home)),
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def tickets(folder):
    """A taxonomy with rows that name an encoder, and that encoder."""
    texts, labels = rows_of(MEANINGS, 150, seed=0)
    rows = ({"text": text, "labels": own} for text, own in zip(texts, labels, strict=True))
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tickets.yaml").write_text(TAXONOMY)
    onnx_folder(folder / "tiny")


def test_an_encoder_that_found_no_room_is_not_there_and_is_taken_once_there_is_some(tmp_path):
    static_folder(tmp_path / "large", {"embeddings": np.ones((20_000, 8), dtype=np.float32)})
    disk = tmp_path / "disk"
    with small_disk(disk, "300k"):
        failed = cascade(tmp_path, disk, "encoders", "add", "large")
        assert failed.returncode == 1
        assert f"cannot be written: the disk of {disk}/encoders is full. Make room there" in failed.stderr
        told = json.loads(cascade(tmp_path, disk, "encoders", "--json").stdout)
        assert told["here"] == []
        assert list((disk / "encoders").iterdir()) == []
        enlarge(disk, "3m")
        assert cascade(tmp_path, disk, "encoders", "add", "large").returncode == 0
        assert cascade(tmp_path, disk, "encoders", "verify").stdout.startswith("large: whole, ")


def test_an_encoder_is_whole_or_not_there_however_little_room_there_is(tmp_path):
    """The disk becomes full at each of its files, at its record and at its name."""
    onnx_folder(tmp_path / "tiny")
    disk = tmp_path / "disk"
    with small_disk(disk, "4k"):
        outcomes = []
        for pages in range(1, 14):
            enlarge(disk, f"{4 * pages}k")
            added = cascade(tmp_path, disk, "encoders", "add", "tiny")
            outcomes.append(added.returncode)
            whole = [one for one in (disk / "encoders").glob("*") if DIGEST.fullmatch(one.name)]
            assert added.returncode == 0 or "is full. Make room there" in added.stderr
            for one in whole:
                assert {path.name for path in one.iterdir()} == {
                    "encoder.json",
                    "model.onnx",
                    "tokenizer.json",
                }
            assert not list(disk.glob("encoders/.new-*"))
            assert cascade(tmp_path, disk, "encoders", "verify").returncode == 0
            if added.returncode == 0:
                break
        assert outcomes[0] == 1
        assert outcomes[-1] == 0


def test_vectors_that_find_no_room_stop_neither_fit_nor_predict_and_that_is_said_once(tmp_path):
    tickets(tmp_path)
    disk = tmp_path / "disk"
    with small_disk(disk, "2m"):
        assert cascade(tmp_path, disk, "encoders", "add", "tiny").returncode == 0
        kept = cascade(tmp_path, disk, "fit", "tickets.yaml", "--out", "kept")
        assert "cannot be kept" not in kept.stderr
        assert cascade(tmp_path, disk, "encoders", "clear-cache").returncode == 0
        fill(disk)
        full = cascade(tmp_path, disk, "fit", "tickets.yaml", "--out", "full")
        assert full.returncode == 0, full.stderr
        assert full.stderr.count(f"{disk}/vectors.sqlite: vectors cannot be kept, and will have to be") == 1
        answers = [
            cascade(tmp_path, disk, "predict", "train.jsonl", "--model", one) for one in ("kept", "full")
        ]
        assert answers[0].stdout == answers[1].stdout
        assert [one.stderr.count("vectors cannot be kept") for one in answers] == [1, 1]
        (disk / "filler").unlink()
        again = cascade(tmp_path, disk, "predict", "train.jsonl", "--model", "full")
        assert "cannot be kept" not in again.stderr
        assert json.loads(cascade(tmp_path, disk, "encoders", "--json").stdout)["vectors"] > 0


def test_kept_vectors_can_be_dropped_where_the_disk_is_full(tmp_path):
    tickets(tmp_path)
    disk = tmp_path / "disk"
    with small_disk(disk, "2m"):
        assert cascade(tmp_path, disk, "encoders", "add", "tiny").returncode == 0
        cascade(tmp_path, disk, "fit", "tickets.yaml")
        fill(disk)
        done = cascade(tmp_path, disk, "encoders", "clear-cache", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["freed_bytes"] > 0
        assert json.loads(cascade(tmp_path, disk, "encoders", "--json").stdout)["vectors"] == 0

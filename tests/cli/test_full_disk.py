from __future__ import annotations

import json
import subprocess

from processes import command, environment
from shop import SHOP, shop_rows
from small_disks import enlarge, small_disk


def fit(folder, out):
    words = command("fit", folder / "shop.json", "--data", folder / "rows.jsonl", "--out", out)
    return subprocess.run(words, check=False, env=environment(), capture_output=True, text=True)


def test_a_disk_that_is_full_is_named_and_the_same_fit_goes_on_when_it_is_not(tmp_path):
    texts, labels = shop_rows(100, seed=1)
    rows = [{"text": text, "labels": names} for text, names in zip(texts, labels, strict=True)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "shop.json").write_text(json.dumps(SHOP))
    disk = tmp_path / "disk"
    with small_disk(disk, "72k"):
        failed = fit(tmp_path, disk / "model")
        assert failed.returncode == 1
        assert "Traceback" not in failed.stderr
        told = failed.stderr.splitlines()[-1]
        assert told.startswith(f"error: {disk}/model/nodes/")
        assert f"cannot be written: the disk of {disk}/model/nodes is full" in told
        assert "give the same command again: it goes on with what is done already" in told
        assert not (disk / "model" / "manifest.json").exists()
        enlarge(disk, "20m")
        done = fit(tmp_path, disk / "model")
        assert done.returncode == 0, done.stderr
        assert "reused" in done.stderr

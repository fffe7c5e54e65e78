from __future__ import annotations

import json
import stat

import pytest
from hosted_runs import run

from cascade.hosted.answer_cache import AnswerCache, CachedAnswer
from cascade.hosted.cache_settings import answers_path, most_bytes


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def fill(count):
    with AnswerCache(answers_path()) as cache:
        cache.store({bytes([number]) * 32: CachedAnswer({"text": "x"}, {}) for number in range(count)})


def shown(folder, *words):
    return json.loads(run(folder, "cache", *words, "--json").stdout)


def test_where_there_is_no_cache_nothing_is_made(tmp_path, own_home):
    assert shown(tmp_path) == {
        "file": str(own_home / "answers.sqlite"),
        "answers": 0,
        "bytes": 0,
        "limit_bytes": 10**9,
    }
    assert "0 kept answers, 0 bytes of 1 GB" in run(tmp_path, "cache").stdout
    assert not own_home.exists()


@pytest.mark.parametrize(("size", "count"), [("500MB", 500_000_000), ("2.5 gb", 2_500_000_000), ("0", 0)])
def test_a_limit_is_kept_from_then_on(tmp_path, own_home, size, count):
    assert shown(tmp_path, "limit", size)["limit_bytes"] == count
    assert shown(tmp_path)["limit_bytes"] == most_bytes() == count
    assert {stat.S_IMODE(path.stat().st_mode) for path in own_home.iterdir()} == {0o600}
    assert stat.S_IMODE(own_home.stat().st_mode) == 0o700


@pytest.mark.parametrize("size", ["much", "-1MB", "5 parsecs", ""])
def test_what_is_no_size_is_refused(tmp_path, size):
    assert "such as 500MB or 2GB" in run(tmp_path, "cache", "limit", "--", size, code=2).stderr


def test_a_lower_limit_drops_answers_at_once(tmp_path):
    fill(50)
    assert shown(tmp_path)["answers"] == 50
    assert shown(tmp_path, "limit", "0")["answers"] == 0


def test_clearing_drops_all_answers(tmp_path):
    fill(50)
    assert shown(tmp_path, "clear")["answers"] == 0
    assert "0 kept answers" in run(tmp_path, "cache").stdout


def test_clearing_removes_a_damaged_file(tmp_path, own_home):
    own_home.mkdir()
    answers_path().write_bytes(b"no database" * 500)
    run(tmp_path, "cache", "clear")
    assert not answers_path().exists()

from __future__ import annotations

import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import BackendError
from cascade.hosted.answer_cache import AnswerCache, CachedAnswer

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=8), JSON, max_size=5)


def key(number):
    return number.to_bytes(32, "big")


def kept(number):
    return CachedAnswer({"message": {"content": str(number)}}, {"prompt_tokens": number})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "answers.sqlite"


@pytest.fixture
def full(path):
    """A file with the answers 0 to 9."""
    with AnswerCache(path) as cache:
        for number in range(10):
            cache.put(key(number), kept(number))
    return path


def test_what_is_put_is_there_at_once_and_after_closing(path):
    with AnswerCache(path) as cache:
        for number in range(1500):
            cache.put(key(number), kept(number))
            assert cache.get([key(number)]) == {key(number): kept(number)}
    with AnswerCache(path) as cache:
        found = cache.get([key(number) for number in range(2000)])
    assert found == {key(number): kept(number) for number in range(1500)}


@settings(deadline=None, max_examples=30)
@given(OBJECTS, OBJECTS)
def test_answers_come_back_as_they_were(tmp_path_factory, choice, usage):
    path = tmp_path_factory.mktemp("cache") / "answers.sqlite"
    with AnswerCache(path) as cache:
        cache.put(key(1), CachedAnswer(choice, usage))
    with AnswerCache(path) as cache:
        assert cache.get([key(1)]) == {key(1): CachedAnswer(choice, usage)}


def test_an_answer_is_in_the_file_within_a_second_for_other_processes(path):
    with AnswerCache(path) as cache, AnswerCache(path) as other:
        cache.put(key(1), kept(1))
        end = time.monotonic() + 10
        while not other.get([key(1)]):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_only_the_owner_may_read_it(path):
    with AnswerCache(path) as cache:
        cache.put(key(1), kept(1))
        while not list(path.parent.glob("*-wal")):
            time.sleep(0.02)
        modes = {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    assert modes == {0o600}


def test_many_threads_and_caches_share_a_file(path):
    def fill(start):
        with AnswerCache(path) as cache:
            for number in range(start, start + 200):
                cache.put(key(number), kept(number))
                cache.get([key(number - 100)]) if number >= 100 else None

    threads = [threading.Thread(target=fill, args=(200 * place,)) for place in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with AnswerCache(path) as cache:
        assert len(cache.get([key(number) for number in range(1000)])) == 1000


def test_a_kill_loses_the_last_half_second_at_most(path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from cascade.hosted.answer_cache import AnswerCache, CachedAnswer\n"
        "cache, number = AnswerCache(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    cache.put(number.to_bytes(32, 'big'), CachedAnswer({}, {}))\n"
        "    print(number, time.monotonic(), flush=True)\n"
        "    number += 1; time.sleep(0.005)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline()]
    while float(lines[-1].split()[1]) < float(lines[0].split()[1]) + 1.6:
        lines.append(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    put = {int(number): float(when) for number, when in map(str.split, lines)}
    with AnswerCache(path) as cache:
        found = [number for number in put if key(number) in cache.get([key(number)])]
    assert found == list(range(len(found)))
    # Half a second, and as much again for a machine with a lot to do.
    assert max(put.values()) - put[found[-1]] < 1.0


# What may be wrong with the file


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_told_once_and_is_as_empty(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    notes = []
    with AnswerCache(path, notes.append) as cache:
        for number in range(3):
            cache.put(key(number), kept(number))
            cache.get([key(number), key(99)])
    assert path.read_bytes() == content
    assert len(notes) == 1
    assert str(path) in notes[0]
    assert "delete" in notes[0]


def test_a_folder_in_its_place_is_told(path):
    path.mkdir(parents=True)
    notes = []
    with AnswerCache(path, notes.append) as cache:
        assert cache.get([key(1)]) == {}
        cache.put(key(1), kept(1))
    assert len(notes) == 1


def test_the_file_of_another_version_is_left_alone(full):
    with closing(sqlite3.connect(full)) as file:
        file.execute("PRAGMA user_version = 99")
    before = full.read_bytes()
    notes = []
    with AnswerCache(full, notes.append) as cache:
        assert cache.get([key(1)]) == {}
    assert "version" in notes[0]
    assert full.read_bytes() == before


def test_a_damaged_answer_is_no_answer(full):
    with closing(sqlite3.connect(full)) as file:
        file.execute("UPDATE answers SET answer = x'00ff' WHERE key = ?", (key(3),))
        file.execute("UPDATE answers SET answer = 'text' WHERE key = ?", (key(4),))
        file.commit()
    with AnswerCache(full) as cache:
        assert cache.get([key(number) for number in range(10)]).keys() == {key(n) for n in range(10)} - {
            key(3),
            key(4),
        }


def test_a_file_that_another_process_locks_costs_time_and_no_answer(full):
    notes = []
    with closing(sqlite3.connect(full)) as other, AnswerCache(full, notes.append, timeout=0.1) as cache:
        other.execute("BEGIN IMMEDIATE")
        cache.put(key(20), kept(20))
        time.sleep(1.0)
        assert len(cache.get([key(1), key(20)])) == 2
        other.rollback()
    with AnswerCache(full) as cache:
        assert cache.get([key(20)]) == {key(20): kept(20)}
    assert len(notes) == 1


def test_a_file_that_stays_locked_does_not_keep_anybody_from_closing(full):
    notes = []
    with closing(sqlite3.connect(full)) as other:
        other.execute("BEGIN IMMEDIATE")
        with AnswerCache(full, notes.append, timeout=0.1) as cache:
            cache.put(key(20), kept(20))
    assert len(notes) == 1


def test_nothing_is_made_where_nothing_is_asked(path):
    with AnswerCache(path):
        pass
    assert not path.parent.exists()


def test_what_comes_after_closing_is_dropped(path):
    cache = AnswerCache(path)
    cache.put(key(1), kept(1))
    cache.close()
    cache.put(key(2), kept(2))
    cache.close()
    with AnswerCache(path) as again:
        assert again.get([key(1), key(2)]).keys() == {key(1)}


# How much there may be


def large(number):
    """An answer that does not get much smaller by packing."""
    return CachedAnswer({"text": random.Random(number).randbytes(1500).hex()}, {})


class Clock:
    """Hours that pass as a test wants."""

    hours = 0.0

    def __call__(self):
        return self.hours * 3600


def test_a_cache_is_never_much_larger_than_its_limit(path):
    with AnswerCache(path, most_bytes=400_000) as cache:
        for part in range(12):
            cache.store({key(number): large(number) for number in range(part * 100, part * 100 + 100)})
            assert path.stat().st_size < 800_000
        assert 50 < cache.count() < 400
        assert cache.get([key(1199)])
        assert not cache.get([key(0)])
    assert path.stat().st_size < 400_000


def test_what_was_used_last_stays(path):
    clock = Clock()
    with AnswerCache(path, most_bytes=400_000, clock=clock) as cache:
        cache.store({key(number): large(number) for number in range(100)})
    for hours in (1.0, 2.0, 3.0, 4.0):
        clock.hours = hours
        with AnswerCache(path, most_bytes=400_000, clock=clock) as cache:
            assert cache.get([key(7)])
            start = int(hours) * 100
            cache.store({key(number): large(number) for number in range(start, start + 100)})
    with AnswerCache(path) as cache:
        assert cache.get([key(7)])
        assert not cache.get([key(8)])
        assert cache.get([key(499)])


def test_a_limit_that_was_lowered_is_kept_at_once(path):
    with AnswerCache(path) as cache:
        cache.store({key(number): large(number) for number in range(300)})
    with AnswerCache(path, most_bytes=100_000) as cache:
        cache.shrink()
        assert 0 < cache.count() < 70
    assert path.stat().st_size < 110_000


def test_answers_that_must_not_be_lost_are_there_for_another_process(path):
    with AnswerCache(path) as cache:
        cache.store({key(1): kept(1)})
        with AnswerCache(path) as other:
            assert other.get([key(1)]) == {key(1): kept(1)}


def test_answers_that_cannot_be_stored_are_an_error(tmp_path):
    (tmp_path / "answers.sqlite").write_bytes(b"no database at all" * 1000)
    refused = pytest.raises(BackendError, match="cannot be kept")
    with AnswerCache(tmp_path / "answers.sqlite") as cache, refused:
        cache.store({key(1): kept(1)})


# Questions that are on their way


def noted(cache, *numbers):
    for number in numbers:
        cache.note_sent(key(number)).result(10)


def test_a_question_on_its_way_is_known_to_other_processes_when_its_note_is_done(path):
    now = [1000.0]
    with AnswerCache(path, clock=lambda: now[0]) as cache, AnswerCache(path, clock=lambda: now[0]) as other:
        noted(cache, 1, 2)
        now[0] += 30
        noted(cache, 2)
        now[0] += 5
        assert other.sent_seconds([key(number) for number in range(1200)]) == {key(1): 35.0, key(2): 5.0}


def test_a_note_stands_after_a_kill(path):
    code = (
        "import sys; from pathlib import Path\n"
        "from cascade.hosted.answer_cache import AnswerCache\n"
        "cache = AnswerCache(Path(sys.argv[1]))\n"
        "for number in range(50):\n"
        "    cache.note_sent(number.to_bytes(32, 'big')).result(10)\n"
        "    print(number, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as process:
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
    with AnswerCache(path) as cache:
        assert set(cache.sent_seconds([key(number) for number in range(60)])) == {key(one) for one in told}


def test_an_answer_takes_all_notes_of_its_question_off(path):
    with AnswerCache(path) as cache, AnswerCache(path) as other:
        noted(cache, 1, 2)
        noted(other, 1)
        cache.put(key(1), kept(1))
    with AnswerCache(path) as cache:
        assert set(cache.sent_seconds([key(1), key(2)])) == {key(2)}
        cache.store({key(2): kept(2)})
        assert cache.sent_seconds([key(1), key(2)]) == {}


def test_a_refusal_takes_off_the_note_of_who_was_refused(path):
    with AnswerCache(path) as cache, AnswerCache(path) as other:
        noted(cache, 1, 2)
        noted(other, 1)
        cache.note_refused(key(1))
        cache.note_refused(key(2))
    with AnswerCache(path) as cache:
        assert set(cache.sent_seconds([key(1), key(2)])) == {key(1)}


def test_notes_that_no_service_would_remember_are_forgotten(path):
    now = [0.0]
    with AnswerCache(path, clock=lambda: now[0]) as cache:
        noted(cache, 1)
        now[0] += 31 * 86_400
        noted(cache, 2)
        assert cache.sent_seconds([key(1), key(2)]) == {key(2): 0.0}


def test_a_note_of_the_future_is_one_of_now(path):
    with AnswerCache(path, clock=lambda: 1000.0) as cache, AnswerCache(path, clock=lambda: 500.0) as other:
        noted(cache, 1)
        assert other.sent_seconds([key(1)]) == {key(1): 0.0}


def test_a_file_of_an_older_release_takes_notes_and_keeps_its_answers(full):
    with closing(sqlite3.connect(full)) as file:
        file.execute("DROP TABLE sent")
        file.commit()
    with AnswerCache(full) as cache:
        noted(cache, 50)
        assert cache.count() == 10
        assert set(cache.sent_seconds([key(50)])) == {key(50)}


def test_who_cannot_write_a_note_is_not_kept_waiting(path):
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 1000)
    notes = []
    with AnswerCache(path, notes.append) as cache:
        noted(cache, 1, 2)
        assert cache.sent_seconds([key(1)]) == {}
    noted(cache, 3)
    assert len(notes) == 1

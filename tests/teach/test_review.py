from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from places import HELPERS
from processes import command, environment
from review_rows import PLAIN, queued_row
from trees import a_shop

from cascade.errors import DataError
from cascade.fitted import Cascade
from cascade.rows.reading import read_all, read_rows
from cascade.rows.readings import Columns
from cascade.rows.row import Row
from cascade.teach.queue import QueuedRow, path_beside, proposed_by, read_queue, row_key, write_queue
from cascade.teach.review import ConflictError, Review, skipped_beside
from cascade.teach.selection import SPLIT, Doubt

NOON = datetime.datetime(2026, 5, 4, 12, tzinfo=datetime.UTC)
LABELS = ("refund", "vat", "late", "broken", "rude", "kind", "happy", "spam", "billing")


QUEUE = [queued_row(1), queued_row(2, ["refund", "happy"]), queued_row("x-3", [])]
FIRST, SECOND, THIRD = (one.key for one in QUEUE)


def a_review(folder, rows=QUEUE, columns=PLAIN):
    return Review(rows, Path(folder) / "in.reviewed.jsonl", a_shop(), columns, now=lambda: NOON)


@pytest.fixture
def opened():
    with contextlib.ExitStack() as left:
        yield lambda *given, **settings: left.enter_context(contextlib.closing(a_review(*given, **settings)))


def answered(folder, columns=PLAIN):
    """What `fit` would read."""
    rows, refused, _ = read_all([Path(folder) / "in.reviewed.jsonl"], columns, a_shop())
    assert refused == []
    return {row.id: row.labels for row in rows}


# Queues


def test_a_queue_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "a.review.jsonl"
    write_queue(path, QUEUE)
    assert read_queue(path, a_shop()) == QUEUE


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"id": 1, "text": "late"}', "row 1: no row of a queue.*`cascade review TEXTS` writes one"),
        ('{"id": 1, "text": "a", "proposed": "late", "scores": {}, "doubts": [], "model": ""}',
         "row 1: no row"),
        ('{"id": 1, "text": "a", "proposed": ["lat"], "scores": {}, "doubts": [], "model": ""}',
         "row 1: 'lat' is proposed.*Did you mean 'late'"),
        ('{"id": 1', "row 1: not JSON"),
        ("", "an empty queue"),
    ],
)  # fmt: skip
def test_what_is_no_queue_is_told(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_text(line, "utf-8")
    with pytest.raises(DataError, match=f"(?s)a.jsonl.*{said}"):
        read_queue(path, a_shop())


@pytest.mark.parametrize(
    ("queue", "answers", "skipped"),
    [
        ("in.review.jsonl", "in.reviewed.jsonl", "in.skipped.jsonl"),
        ("mine.jsonl", "mine.reviewed.jsonl", "mine.skipped.jsonl"),
    ],
)
def test_files_of_a_review_lie_beside_its_queue(queue, answers, skipped):
    found = path_beside(Path("a") / queue, ".reviewed.jsonl")
    assert (found, skipped_beside(found)) == (Path("a") / answers, Path("a") / skipped)


# Answers


def test_answers_are_rows_that_fit_reads(opened, tmp_path):
    review = opened(tmp_path)
    assert review.answer(FIRST, ["late"], "", "").verdict == "accepted"
    assert review.answer(SECOND, ["broken", "billing", "broken"], "hm", "").verdict == "corrected"
    assert review.answer(THIRD, [], "", "").verdict == "accepted"
    assert answered(tmp_path) == {1: ("late",), 2: ("broken", "billing"), "x-3": ()}
    [row] = [row for row in read_rows(review.path, PLAIN, a_shop()) if row.id == 2]
    assert row.source["review"] == {
        "verdict": "corrected",
        "note": "hm",
        "at": "2026-05-04T12:00:00.000+00:00",
        "proposed": ["refund", "happy"],
        "model": "m" * 64,
    }


@pytest.mark.parametrize(
    "columns",
    [
        Columns(text="message", labels="tags", id="ticket"),
        Columns(labels=("late", "refund", "happy")),
        Columns(text="id"),
    ],
)
def test_answers_stand_in_the_columns_of_the_taxonomy(opened, tmp_path, columns):
    review = opened(tmp_path, columns=columns)
    review.answer(FIRST, ["refund", "late"], "", "")
    review.skip(SECOND, "", "")
    review.close()
    assert set(answered(tmp_path, columns)[1]) == {"refund", "late"}
    assert opened(tmp_path, columns=columns).answers().keys() == {FIRST, SECOND}


def test_what_was_skipped_teaches_nothing(opened, tmp_path):
    review = opened(tmp_path)
    review.skip(FIRST, "ask Ada", "")
    assert not review.path.exists()
    [row] = read_rows(skipped_beside(review.path), PLAIN)
    assert (row.id, row.text, row.source["review"]["note"]) == (1, "text 1", "ask Ada")
    assert "labels" not in row.source
    said = review.answers()[FIRST]
    review.answer(FIRST, ["vat"], "", said.revision)
    assert list(read_rows(skipped_beside(review.path), PLAIN)) == []
    assert answered(tmp_path) == {1: ("vat",)}


def test_an_answer_can_be_taken_back(opened, tmp_path):
    review = opened(tmp_path)
    first = review.answer(FIRST, ["late"], "", "")
    review.answer(SECOND, ["vat"], "", "")
    review.undo(FIRST, first.revision)
    assert answered(tmp_path) == {2: ("vat",)}
    assert FIRST not in review.answers()


def test_nobody_overwrites_what_they_have_not_seen(opened, tmp_path):
    review = opened(tmp_path)
    theirs = review.answer(FIRST, ["late"], "", "")
    for attempt in (
        lambda: review.answer(FIRST, ["vat"], "", ""),
        lambda: review.skip(FIRST, "", ""),
        lambda: review.undo(FIRST, "another"),
    ):
        with pytest.raises(ConflictError) as caught:
            attempt()
        assert caught.value.found == theirs
    assert review.answer(FIRST, ["vat"], "", theirs.revision).labels == ("vat",)
    assert answered(tmp_path) == {1: ("vat",)}


def test_unknown_names_and_rows_are_refused(opened, tmp_path):
    review = opened(tmp_path)
    with pytest.raises(DataError, match=r"unknown label 'lat'. Did you mean 'late'"):
        review.answer(FIRST, ["lat"], "", "")
    for act in (lambda: review.answer("0" * 32, [], "", ""), lambda: review.undo("0" * 32, "")):
        with pytest.raises(KeyError):
            act()
    assert not review.path.exists()


def test_two_processes_do_not_write_one_file(opened, tmp_path):
    review = opened(tmp_path)
    with pytest.raises(DataError, match="another run is writing here"):
        opened(tmp_path)
    review.close()
    opened(tmp_path).close()
    assert list(tmp_path.iterdir()) == []


def test_what_another_hand_wrote_is_kept(opened, tmp_path):
    review = opened(tmp_path)
    review.answer(FIRST, ["late"], "", "")
    with review.path.open("a", encoding="utf-8") as file:
        file.write('\n{"id": "x-3", "text": "text x-3", "labels": ["spam"], "by": "Ada"}\n')
        file.write('{"id": 99, "text": "of no queue", "labels": []}')
    said = review.answers()
    assert said[THIRD].labels == ("spam",)
    review.undo(FIRST, said[FIRST].revision)
    review.answer(SECOND, ["vat"], "", "")
    assert answered(tmp_path) == {"x-3": ("spam",), 99: (), 2: ("vat",)}
    assert '"by": "Ada"' in review.path.read_text("utf-8")


def test_a_file_with_other_things_in_it_is_left_alone(opened, tmp_path):
    path = tmp_path / "in.reviewed.jsonl"
    path.write_text('{"id": 1, "text": "text 1", "labels": ["lat"]}\n', "utf-8")
    with pytest.raises(DataError, match=r"(?s)row 1: unknown label 'lat'.*mend these rows"):
        opened(tmp_path)
    assert path.read_text("utf-8").endswith('["lat"]}\n')
    path.unlink()
    opened(tmp_path).close()


@pytest.mark.parametrize("torn", ['{"id": 2, "te', '{"id": 2, "text": "caf\\u00e9'])
def test_half_a_line_is_left_out_and_told(opened, tmp_path, torn):
    review = opened(tmp_path)
    review.answer(FIRST, ["late"], "", "")
    review.close()
    with review.path.open("a", encoding="utf-8") as file:
        file.write(torn)
    again = opened(tmp_path)
    assert again.notes == [f"{again.path}: half a line at its end, left out: {torn!r}"]
    again.answer(SECOND, [], "", "")
    assert answered(tmp_path) == {1: ("late",), 2: ()}


def test_a_whole_row_without_a_line_break_is_kept(opened, tmp_path):
    path = tmp_path / "in.reviewed.jsonl"
    path.write_text('{"id": 1, "text": "text 1", "labels": ["late"]}', "utf-8")
    review = opened(tmp_path)
    assert review.notes == []
    review.answer(SECOND, ["vat"], "", "")
    assert answered(tmp_path) == {1: ("late",), 2: ("vat",)}


class Reviewing(RuleBasedStateMachine):
    """Whatever is done, the files say what was said last of each row, also after a restart."""

    def __init__(self):
        super().__init__()
        self.folder = TemporaryDirectory()
        self.review = a_review(self.folder.name)
        self.expected = {}

    def teardown(self):
        self.review.close()
        self.folder.cleanup()

    def seen(self, key):
        said = self.review.answers().get(key)
        return said.revision if said else ""

    @rule(key=st.sampled_from([FIRST, SECOND, THIRD]), labels=st.lists(st.sampled_from(LABELS), unique=True))
    def answer(self, key, labels):
        self.review.answer(key, labels, "", self.seen(key))
        self.expected[key] = tuple(labels)

    @rule(key=st.sampled_from([FIRST, SECOND, THIRD]))
    def skip(self, key):
        self.review.skip(key, "later", self.seen(key))
        self.expected[key] = None

    @rule(key=st.sampled_from([FIRST, SECOND, THIRD]))
    def undo(self, key):
        self.review.undo(key, self.seen(key))
        self.expected.pop(key, None)

    @rule()
    def restart(self):
        self.review.close()
        self.review = a_review(self.folder.name)

    @precondition(lambda self: self.expected)
    @rule()
    def another_hand_sorts_the_file(self):
        if self.review.path.exists():
            lines = sorted(self.review.path.read_text("utf-8").splitlines())
            self.review.path.write_text("\n".join([*lines, ""]), "utf-8")

    @invariant()
    def files_say_the_same(self):
        said = self.review.answers()
        assert {
            key: None if one.verdict == "skipped" else one.labels for key, one in said.items()
        } == self.expected
        path, by_id = self.review.path, {one.key: one.id for one in QUEUE}
        kept = {by_id[key]: labels for key, labels in self.expected.items() if labels is not None}
        assert (answered(self.folder.name) if path.exists() else {}) == kept


TestReviewing = Reviewing.TestCase
TestReviewing.settings = settings(max_examples=40, stateful_step_count=15, deadline=None)


WRITER = """
import sys
from pathlib import Path
from review_rows import PLAIN, queued_row
from trees import a_shop
from cascade.teach.review import Review
rows = [queued_row(number) for number in range(100_000)]
review = Review(rows, Path(sys.argv[1]), a_shop(), PLAIN)
for row in rows:
    if row.key not in review.answers():
        said = review.answer(row.key, ["vat"], "", "")
        if row.id % 5 == 0:
            review.undo(row.key, said.revision)
            review.answer(row.key, ["late"], "", "")
        print(row.id, flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(opened, tmp_path):
    path, told = tmp_path / "in.reviewed.jsonl", set()
    draw = random.Random(3)
    for _ in range(4):
        tests = os.pathsep.join([str(HELPERS), environment()["PYTHONPATH"]])
        words = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env=environment(PYTHONPATH=tests)
        ) as writer:
            told.add(int(writer.stdout.readline()))
            time.sleep(draw.uniform(0.05, 0.3))
            writer.send_signal(signal.SIGKILL)
            told.update(int(line) for line in writer.stdout.read().splitlines()[:-1])
    rows = [queued_row(number) for number in range(100_000)]
    review = opened(tmp_path, rows)
    found = {row.id: row.labels for row in read_rows(path, PLAIN, a_shop()) if isinstance(row, Row)}
    assert len(told) > 20
    assert told <= found.keys()
    assert all(
        labels == (("late",) if number % 5 == 0 else ("vat",))
        for number, labels in found.items()
        if number in told
    )
    assert len(found) == len(review.answers())


# The command


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    (folder / "shop.yaml").write_text(
        "name: shop\ndata: {text: message, id: ticket}\n"
        "groups: {billing: {labels: [refund, vat]}, delivery: {labels: [late, broken, refund]}}\n",
        "utf-8",
    )
    draw = random.Random(1)
    lines = []
    for number in range(200):
        names = draw.sample(["refund", "vat", "late", "broken"], draw.choice([1, 1, 2]))
        said = [draw.choice([name, f"{name}s", "thing"]) for name in names]
        text = " ".join([*said, *draw.choices(["the", "my", "was", "not"], k=4), f"n{number}"])
        lines.append(json.dumps({"ticket": number, "message": text, "labels": names}))
    (folder / "rows.jsonl").write_text("\n".join(lines), "utf-8")
    run(folder, "fit", "shop.yaml", "--data", "rows.jsonl", "--out", "model")
    return folder


def run(folder, *words, code=0, given=None):
    done = subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        input=given,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


def inbox(folder, name, texts):
    path = folder / name
    path.write_text(
        "".join(json.dumps({"ticket": f"t{n}", "message": text}) + "\n" for n, text in enumerate(texts)),
        "utf-8",
    )
    return path


def test_the_command_queues_what_teaches_most(model):
    inbox(
        model,
        "in.jsonl",
        [f"the thing {word} was not my n" for word in ("vat", "late", "thing", "vats", "my")],
    )
    done = run(model, "review", "in.jsonl", "--model", "model", "--rows", "2")
    assert "in.review.jsonl: 2 rows; " in done.stdout
    assert "next: cascade serve --review in.review.jsonl --model model\n" in done.stdout
    lines = [json.loads(line) for line in (model / "in.review.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 2
    assert {line["id"] for line in lines} < {f"t{n}" for n in range(5)}
    predicted = run(model, "predict", "in.jsonl", "--model", "model").stdout.splitlines()
    labels = {row["id"]: row["labels"] for row in map(json.loads, predicted)}
    assert all(line["proposed"] == labels[line["id"]] for line in lines)
    assert all(line["doubts"] for line in lines)


def test_what_was_looked_at_is_not_queued_again(model):
    inbox(model, "b.jsonl", ["thing the was", "late thing my", "vat thing not"])
    inbox(model, "known.jsonl", ["late thing my "])
    first = json.loads(
        run(model, "review", "b.jsonl", "--model", "model", "--known", "known.jsonl", "--json").stdout
    )
    assert (first["rows"], first["left_out"]) == (2, 1)
    line = json.loads((model / "b.review.jsonl").read_text("utf-8").splitlines()[0])
    (model / "b.reviewed.jsonl").write_text(
        json.dumps({"ticket": line["id"], "message": line["text"], "labels": ["vat"]}) + "\n", "utf-8"
    )
    second = json.loads(run(model, "review", "b.jsonl", "--model", "model", "--json").stdout)
    assert (second["rows"], second["left_out"]) == (2, 1)
    known = ("--known", "b.jsonl")
    done = run(model, "review", "b.jsonl", "--model", "model", *known, "--out", "none.jsonl")
    assert "nothing to look at: no queue was written" in done.stdout
    assert not (model / "none.jsonl").exists()


def test_bad_rows_are_told_and_the_others_queue_rows(model):
    (model / "bad.jsonl").write_text('{"message": "thing vat"}\n{"text": 3}\n', "utf-8")
    done = run(model, "review", "bad.jsonl", "--model", "model", code=3)
    assert "bad.jsonl row 2: no column 'message' for the text" in done.stderr
    assert (model / "bad.review.jsonl").exists()


def test_standard_input_needs_a_name_for_the_queue(model):
    done = run(model, "review", "-", "--model", "model", code=2, given="")
    assert "say with --out where the queue goes" in done.stderr
    run(model, "review", "-", "--model", "model", "--out", "q.jsonl", given='{"message": "thing vat my"}\n')
    assert json.loads((model / "q.jsonl").read_text("utf-8"))["id"] == 1


def test_the_input_is_not_overwritten(model):
    path = inbox(model, "same.jsonl", ["thing"])
    before = path.read_bytes()
    done = run(model, "review", "same.jsonl", "--model", "model", "--out", "same.jsonl", code=1)
    assert "is the input, and would be overwritten" in done.stderr
    assert path.read_bytes() == before


def test_a_key_stands_for_an_id_and_a_text():
    assert row_key(1, "a") == row_key(1, "a")
    assert len({row_key(1, "a"), row_key("1", "a"), row_key(1, "b"), row_key(11, "")}) == 4


def test_labels_that_another_one_was_split_into_are_asked_about_whatever_a_model_proposes(model):
    asked = (Doubt(SPLIT, "refund", 1.0), Doubt(SPLIT, "a label of another taxonomy", 1.0))
    queued = QueuedRow("t1", "the vat thing was not my n1", ("late", "gone"), {"refund": 1.0}, asked, "")
    found = proposed_by(Cascade.load(model / "model"), queued)
    assert [doubt.label for doubt in found.doubts if doubt.reason == SPLIT] == ["refund"]
    assert "refund" in found.scores
    assert found.proposed == ("late",)
    assert found.model != ""

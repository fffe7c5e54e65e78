"""Asking a teacher about texts: each once, those that teach most first, and nothing is lost."""

from __future__ import annotations

import json

import pytest
from shop import shop_rows

from cascade.errors import DataError
from cascade.fitted import Cascade
from cascade.learn.distil import LEAST
from cascade.rows.row import Row
from cascade.teach.teacher import TeacherAnswers, most_useful, teach


def rows_of(texts):
    return [Row(number, number, text, (), {}, "texts.jsonl") for number, text in enumerate(texts, 1)]


@pytest.fixture(scope="module")
def teacher(shop_model):
    return Cascade.load(shop_model)


@pytest.fixture(scope="module")
def rows():
    return rows_of(dict.fromkeys(shop_rows(90, seed=5)[0]))


def answers(teacher, folder, digest=None):
    return TeacherAnswers(folder / "student.answers.jsonl", digest or teacher.digest, teacher.graph)


def asked(teacher, rows, folder, **options):
    kept = answers(teacher, folder)
    with kept.opened() as mended:
        return teach(teacher, rows, kept, **options), mended


def test_what_a_teacher_says_is_what_it_predicts(teacher, rows, tmp_path):
    found, _ = asked(teacher, rows, tmp_path)
    texts = [row.text for row in rows]
    assert [one.text for one in found.answers] == texts
    assert [list(one.chosen) for one in found.answers] == teacher.predict(texts)
    proba = teacher.predict_proba(texts)
    for place, one in enumerate(found.answers):
        told = {name: one.probabilities.get(name, 0.0) for name in teacher.labels}
        for column, name in enumerate(teacher.labels):
            value = 0.0 if not proba[place, column] >= LEAST else proba[place, column]
            assert told[name] == pytest.approx(float(value), abs=1e-4)
        assert {"billing", "delivery"} & {*one.probabilities} or not {"refund", "late"} & {*one.chosen}


def test_the_file_is_one_of_labelled_rows(teacher, rows, tmp_path):
    from cascade.rows.reading import read_all

    found, _ = asked(teacher, rows, tmp_path)
    read = read_all([tmp_path / "student.answers.jsonl"], None, teacher.taxonomy)
    assert not read.refused
    assert [(row.text, row.labels) for row in read.rows] == [(one.text, one.chosen) for one in found.answers]


def test_what_was_answered_is_not_asked_again(teacher, rows, tmp_path):
    first, _ = asked(teacher, rows[:50], tmp_path)
    content = (tmp_path / "student.answers.jsonl").read_bytes()
    again, _ = asked(teacher, rows, tmp_path)
    assert (first.asked, again.asked) == (50, len(rows) - 50)
    assert again.answers[:50] == first.answers
    assert (tmp_path / "student.answers.jsonl").read_bytes().startswith(content)


def test_a_run_that_stops_in_a_batch_loses_that_batch_alone(teacher, rows, tmp_path):
    def stop(done, _):
        if done >= 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked(teacher, rows, tmp_path, at_once=20, report=stop)
    found, _ = asked(teacher, rows, tmp_path, at_once=20)
    assert found.asked == len(rows) - 40
    whole, _ = asked(teacher, rows, tmp_path / "other")
    assert found.answers == whole.answers


def test_half_a_line_is_left_out_and_asked_again(teacher, rows, tmp_path):
    whole, _ = asked(teacher, rows, tmp_path)
    path = tmp_path / "student.answers.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    found, mended = asked(teacher, rows, tmp_path)
    assert found.asked == 1
    assert found.answers == whole.answers
    assert "half a line at its end" in mended[0]


def test_nothing_is_asked_once_the_money_is_spent(teacher, rows, tmp_path):
    batches = iter([True, True, False])
    found, _ = asked(teacher, rows, tmp_path, at_once=20, may_ask=lambda: next(batches))
    assert found.is_short
    assert (found.asked, len(found.answers)) == (40, 40)
    assert not asked(teacher, rows[:40], tmp_path, may_ask=lambda: False)[0].is_short


def test_answers_of_another_model_are_none_of_ours(teacher, rows, tmp_path):
    asked(teacher, rows[:3], tmp_path)
    other = answers(teacher, tmp_path, digest="0" * 64)
    with pytest.raises(DataError, match=r"answers\.jsonl:1: is the answer of another model"), other.opened():
        pass


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        '{"text": "a", "labels": ["nobody"], "probabilities": {}, "teacher": "T"}',
        '{"text": "a", "labels": [], "probabilities": {"refund": 2}, "teacher": "T"}',
        '{"text": 1, "labels": [], "probabilities": {}, "teacher": "T"}',
        "not JSON",
    ],
)
def test_a_line_that_is_no_answer_is_named(teacher, tmp_path, line):
    path = tmp_path / "student.answers.jsonl"
    path.write_text(line.replace('"T"', json.dumps(teacher.digest)) + "\n", "utf-8")
    with (
        pytest.raises(DataError, match=r"answers\.jsonl:1: is no answer"),
        answers(teacher, tmp_path).opened(),
    ):
        pass


def test_two_runs_do_not_write_to_one_file(teacher, tmp_path):
    with (
        answers(teacher, tmp_path).opened(),
        pytest.raises(DataError, match="another run is writing"),
        answers(teacher, tmp_path).opened(),
    ):
        pass
    with answers(teacher, tmp_path).opened():
        pass


def test_what_a_student_doubts_comes_first(teacher):
    sure = [f"money returned {word} please" for word in ("my", "the", "a", "hello", "box", "you", "it")]
    [picked] = most_useful(teacher, rows_of([*sure, "percentage twice working"]), 1, seed=0)
    assert picked.text == "percentage twice working"


def test_as_many_are_wanted_as_were_asked_for_and_none_twice(teacher, rows):
    for student in (teacher, None):
        picked = most_useful(student, rows, 70, seed=0)
        assert len({row.number for row in picked}) == 70
    assert most_useful(teacher, rows, None, seed=0) == rows
    assert most_useful(None, rows, 10, seed=0) == most_useful(None, rows, 10, seed=0)

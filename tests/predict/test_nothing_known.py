"""Texts that say nothing, and files full of them, by the commands that people run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from processes import command, environment
from shop import SHOP, shop_rows

from cascade.fitted import Cascade
from cascade.predict.files import predict_file
from cascade.predict.request import Request
from cascade.taxonomy.definition import Taxonomy

FOREIGN = "Мне нужен возврат денег"
WAYS = [
    "my order isn't here - it was charged twice",
    "MY ORDER ISN\u2019T HERE \u2013 IT WAS CHARGED TWICE",
    "my order isn\u2018t here \u2014 it was charged twice",
    "my&nbsp;order isn&#39;t here - it was charged twice",
    "my order isn&amp;#x27;t here - it was char\u00adged twice",
    "my\u00a0order\u2003isn't here - it was charged\u200b twice",
    "  my order isn`t here -\tit was\r\ncharged twice ",
    "\ufeffmy order isn\u00b4t here \u2212 it was charged twice\u200e",
    "\uff4d\uff59 order isn\uff07t here \uff0d it was charged twice",
    "my order isn\u02bct here \u2011 it was ch\u2060arged twice",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    texts, labels = shop_rows(600, seed=4)
    out = tmp_path_factory.mktemp("nothing") / "model"
    Cascade.fit(Taxonomy.from_dict(SHOP), texts, labels).save(out)
    return out


def lines_of(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"id": 7, "text": text}) + "\n" for text in texts), "utf-8")
    return path


def predict(folder, path, *more):
    words = ("--model", folder, *more)
    done = subprocess.run(
        command("predict", path, *words), env=environment(), capture_output=True, check=True
    )
    return done.stdout, done.stderr.decode()


def test_ten_ways_to_type_a_message_have_one_answer_byte_for_byte(folder, tmp_path):
    out, err = predict(folder, lines_of(tmp_path / "ways.jsonl", WAYS), "--scores", "all", "--trace")
    assert len(set(out.splitlines())) == 1
    assert json.loads(out.splitlines()[0])["labels"] == ["double_charge"]
    assert "nothing known" not in err


def test_a_text_that_says_nothing_has_no_label_whatever_is_asked_for(folder, tmp_path):
    texts = [".", "", "12345", "!!!", FOREIGN, "\u200b", "&nbsp;"]
    path = lines_of(tmp_path / "nothing.jsonl", texts)
    for more in ([], ["--top", 3], ["--scores", "all"]):
        out, _ = predict(folder, path, *more)
        assert [json.loads(line) for line in out.splitlines()] == [{"id": 7, "labels": [], "scores": {}}] * 7


def test_the_trace_and_explain_say_so(folder, tmp_path):
    out, _ = predict(folder, lines_of(tmp_path / "one.jsonl", ["."]), "--trace")
    assert json.loads(out)["trace"] == [{"node": "", "parent": "", "why": "nothing known in it"}]
    words = command("explain", ".", "--model", folder)
    told = subprocess.run(words, env=environment(), capture_output=True, check=True, text=True)
    assert told.stdout.strip() == "no label: nothing known in it"
    told = subprocess.run([*words, "--json"], env=environment(), capture_output=True, check=True, text=True)
    found = json.loads(told.stdout)
    assert (found["nothing_known"], found["steps"], found["labels"]) == (True, [], [])


def test_predict_warns_where_nothing_is_known_of_more_than_a_fifth_of_a_file(folder, tmp_path):
    known = ["charged twice today"] * 8
    _, err = predict(folder, lines_of(tmp_path / "fifth.jsonl", [*known, FOREIGN, FOREIGN]))
    assert "warning" not in err
    _, err = predict(folder, lines_of(tmp_path / "more.jsonl", [*known[:6], FOREIGN, *known[:1], FOREIGN]))
    (line,) = [line for line in err.splitlines() if "warning" in line]
    assert "2 of 9 rows (22%)" in line
    assert "row 7" in line


@pytest.fixture
def request_for(folder, tmp_path):
    texts = [FOREIGN if row % 3 == 2 else f"charged twice {row}" for row in range(60)]
    path = lines_of(tmp_path / "many.jsonl", texts)
    model = Cascade.load(folder)

    def request(name, **more):
        columns, known = model.columns_of_texts()
        return Request(
            source=str(path), out=str(tmp_path / name), columns=columns, known=known, slice_rows=6, **more
        )

    return model, request


@pytest.mark.parametrize("jobs", [1, 2])
def test_they_are_counted_by_workers_as_well(request_for, jobs):
    model, request = request_for
    outcome = predict_file(model, request("out.jsonl", jobs=jobs), None)
    assert (outcome.rows, outcome.unknown, outcome.first_unknown) == (60, 20, 3)
    assert len(outcome.notes) == 1


def test_they_are_counted_in_what_a_stopped_run_left(request_for):
    model, request = request_for

    def stop(step):
        if step.kind == "slice" and step.rows >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, request("out.jsonl", jobs=1), None, report=stop)
    outcome = predict_file(model, request("out.jsonl", jobs=1), None)
    assert outcome.resumed_from >= 24
    assert (outcome.rows, outcome.unknown, outcome.first_unknown) == (60, 20, 3)


def test_a_folder_of_before_always_answers(folder):
    older = Cascade.load(Path(__file__).parent / "folder_of_0_2" / "model")
    assert older.manifest.least_known is None
    assert older.walk(["", FOREIGN]).nothing_known is None
    assert np.isfinite(older.walk([""]).paths).any()
    assert Cascade.load(folder).manifest.least_known is not None


def test_a_bound_that_is_no_share_is_refused(folder, tmp_path):
    from dataclasses import replace

    from cascade.errors import ModelError
    from cascade.model.folder import read_manifest, write_manifest

    copy = tmp_path / "model"
    Cascade.load(folder).save(copy)
    for least in (1.5, -0.1, "much"):
        write_manifest(copy, replace(read_manifest(folder), least_known=least))
        with pytest.raises(ModelError, match="fit"):
            Cascade.load(copy)

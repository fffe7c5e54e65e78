from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prediction_rows import (
    DAMAGES,
    FEEDBACK,
    PYTHON_PATH,
    KeywordModel,
    damaged_rows,
    names_in,
    texts,
)

from cascade.errors import CascadeError, DataError, ModelError
from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.predict.answers import prediction_rows
from cascade.predict.extras import Style
from cascade.predict.files import predict_file
from cascade.predict.request import Outcome, Progress, Request
from cascade.rows.reading import read_rows
from cascade.rows.readings import Columns
from cascade.rows.row import Row
from cascade.rows.writing import unguarded
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture
def model(tmp_path):
    return KeywordModel.make(tmp_path / "model")


@pytest.fixture
def rows_file(tmp_path):
    """A function that writes values as JSON lines (text as it is) and gives the path."""

    def write(rows, name="in.jsonl"):
        path = tmp_path / name
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return str(path)

    return write


def run(model, source, **options):
    stdout = io.BytesIO()
    outcome = predict_file(model, Request(str(source), **options), stdout)
    return outcome, stdout.getvalue()


def answers(data):
    return [json.loads(line) for line in data.decode().split("\n") if line]


def answers_in(path):
    return answers(Path(path).read_bytes())


def job_of(out):
    """What a run notes as soon as it has a place for its parts."""
    return out.with_name(out.name + ".part") / "job.json"


def noted_in(out):
    """The notes of slices that are done, in their order."""
    return sorted(out.with_name(out.name + ".part").glob("*/_work/[0-9]*.json"))


def wait_until(is_so):
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_so()


# Files in, files out


def test_every_row_is_answered_in_order_with_its_own_id(model, rows_file, tmp_path):
    source = rows_file([{"id": "x", "text": "late"}, {"text": "refund"}, {"id": 7, "text": ""}])
    out = tmp_path / "new" / "folder" / "p.jsonl"
    outcome, printed = run(model, source, out=out)
    assert outcome == Outcome(rows=3, refused=0, resumed_from=0, errors=None)
    assert answers_in(out) == prediction_rows(model, ["x", 2, 7], ["late", "refund", ""], Style())
    assert printed == b""
    assert names_in(out.parent) == ["p.jsonl"]


def test_standard_output_gets_the_same_bytes_as_a_file(model, rows_file, tmp_path):
    source = rows_file(texts(20))
    run(model, source, out=tmp_path / "p.jsonl", trace=True, scores="all")
    _, printed = run(model, source, trace=True, scores="all")
    assert printed == (tmp_path / "p.jsonl").read_bytes()


def test_output_that_is_there_stays_until_the_new_one_is_whole(model, rows_file, tmp_path):
    out = tmp_path / "p.jsonl"
    out.write_text("old")
    seen = []
    request = Request(rows_file(texts(10)), out, slice_rows=2)
    predict_file(model, request, io.BytesIO(), report=lambda _: seen.append(out.read_text()))
    assert seen == ["old"] * 5
    assert len(answers_in(out)) == 10


def test_no_rows_make_an_empty_output(model, rows_file, tmp_path):
    outcome, _ = run(model, rows_file([]), out=tmp_path / "p.jsonl")
    assert (outcome.rows, outcome.refused) == (0, 0)
    assert (tmp_path / "p.jsonl").read_bytes() == b""


def test_table_without_rows_has_its_header(model, rows_file, tmp_path):
    run(model, rows_file([]), out=tmp_path / "p.csv", trace=True)
    assert (tmp_path / "p.csv").read_bytes() == b"id,labels,scores,trace\n"


@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ","), ("p.TSV", "\t")])
def test_table_holds_the_same_as_json_lines(model, rows_file, tmp_path, name, delimiter):
    odd = [
        '=HYPERLINK("x")',
        "a,b\tc",
        "two\nlines",
        "lone\rreturn",
        'quo"te',
        " blanks ",
        "é\u2028ü",
        "\x00",
    ]
    source = rows_file([{"id": identity, "text": identity} for identity in odd])
    run(model, source, out=tmp_path / name, trace=True, scores="all")
    run(model, source, out=tmp_path / "p.jsonl", trace=True, scores="all")
    with (tmp_path / name).open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, delimiter=delimiter, strict=True))
    assert [
        {
            "id": unguarded(row["id"]),
            "labels": row["labels"].split(";") if row["labels"] else [],
            "scores": json.loads(row["scores"]),
            "trace": json.loads(row["trace"]),
        }
        for row in table
    ] == answers_in(tmp_path / "p.jsonl")
    assert [unguarded(row["id"]) for row in table] == odd


def test_labels_of_a_table_can_be_read_back_whatever_their_names(rows_file, tmp_path):
    taxonomy = {"name": "t", "groups": {"g": {"labels": ["a;b", "[c", "d"]}}}
    model = KeywordModel.make(tmp_path / "model", taxonomy, threshold=0.0, routes={})
    source = rows_file([{"text": f"text {number}"} for number in range(30)])
    run(model, source, out=tmp_path / "p.csv")
    run(model, source, out=tmp_path / "p.jsonl")
    columns = Columns(text="scores", labels="labels")
    read = list(read_rows(tmp_path / "p.csv", columns, model.taxonomy))
    assert [list(row.labels) for row in read if isinstance(row, Row)] == [
        row["labels"] for row in answers_in(tmp_path / "p.jsonl")
    ]


@pytest.mark.parametrize("way", ["plain", "dots", "symlink", "hard link"])
def test_input_is_never_the_output(model, rows_file, tmp_path, way):
    source = Path(rows_file(texts(1)))
    before = source.read_bytes()
    (tmp_path / "sub").mkdir()
    out = {"plain": source, "dots": tmp_path / "sub" / ".." / "in.jsonl"}.get(way, tmp_path / "link.jsonl")
    if way == "symlink":
        out.symlink_to(source)
    if way == "hard link":
        os.link(source, out)
    with pytest.raises(DataError, match="is the input"):
        run(model, source, out=out)
    assert source.read_bytes() == before


@pytest.mark.parametrize("name", ["p.errors.jsonl", "p.jsonl.part"])
def test_input_is_none_of_the_files_beside_the_output(model, rows_file, tmp_path, name):
    source = tmp_path / name
    source.write_text('{"text": "late"}\n')
    shown = source if source.suffix == ".jsonl" else source.rename(tmp_path / "keep.jsonl")
    if name.endswith(".part"):
        os.link(shown, source)
    with pytest.raises(DataError, match="is the input"):
        run(model, shown, out=tmp_path / "p.jsonl")
    assert source.read_text() == '{"text": "late"}\n'


def test_answers_and_refused_rows_need_two_files(model, rows_file, tmp_path):
    with pytest.raises(DataError, match="each its own file"):
        run(model, rows_file(texts(1)), out=tmp_path / "p.jsonl", errors=tmp_path / "p.jsonl")


def test_folder_with_other_things_in_it_is_never_the_output(model, rows_file, tmp_path):
    (tmp_path / "p.jsonl").mkdir()
    (tmp_path / "p.jsonl" / "part-of-my-life.txt").write_text("")
    for name in (tmp_path / "p.jsonl", f"{tmp_path}/p.jsonl/"):
        with pytest.raises(DataError, match=r"is a folder with other things in it .*part-of-my-life"):
            run(model, rows_file(texts(1)), out=name)
    assert names_in(tmp_path / "p.jsonl") == ["part-of-my-life.txt"]


def test_slash_behind_a_file_is_refused(model, rows_file, tmp_path):
    (tmp_path / "p.jsonl").write_text("old")
    with pytest.raises(DataError, match="is a file; leave out the slash"):
        run(model, rows_file(texts(1)), out=f"{tmp_path}/p.jsonl/")


@pytest.mark.parametrize("jobs", [1, 2])
def test_folder_gets_a_part_a_slice_and_a_mark_that_it_is_whole(model, rows_file, tmp_path, jobs):
    source, out = rows_file(damaged_rows(50)), tmp_path / "out" / "p"
    for _ in range(2):  # onto nothing, and onto the output of a run before
        outcome, _ = run(model, source, out=f"{out}/", slice_rows=12, jobs=jobs)
        assert (outcome.rows, outcome.refused) == (45, 5)
        assert names_in(out) == ["_SUCCESS", *(f"part-{number:05d}.jsonl" for number in range(5))]
        assert names_in(out.parent) == ["p", "p.errors.jsonl"]
        parts = b"".join(path.read_bytes() for path in sorted(out.glob("part-*")))
        assert parts == run(model, source)[1]


def test_run_to_a_folder_goes_on_where_it_was(model, rows_file, tmp_path):
    source, out = rows_file(damaged_rows(50)), tmp_path / "out" / "p"
    stopped(model, source, 3, out=f"{out}/", slice_rows=8)
    assert names_in(out.parent) == ["p.errors.jsonl.part", "p.part"]
    outcome, _ = run(model, source, out=f"{out}/", slice_rows=8)
    assert outcome == Outcome(45, 5, 24, out.with_name("p.errors.jsonl"))
    assert b"".join(path.read_bytes() for path in sorted(out.glob("part-*"))) == run(model, source)[1]


def test_input_in_the_folder_of_the_output_is_refused(model, rows_file, tmp_path):
    out = tmp_path / "out"
    run(model, rows_file(texts(3)), out=f"{out}/")
    with pytest.raises(DataError, match="is the input"):
        run(model, out / "part-00000.jsonl", out=out)
    assert len(answers_in(out / "part-00000.jsonl")) == 3


def test_output_in_a_place_that_is_no_folder_is_refused(model, rows_file, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written: (Not a directory|File exists)"):
        run(model, rows_file(texts(1)), out=tmp_path / "file" / "p.jsonl")


def test_output_through_a_link_lands_where_the_link_leads(model, rows_file, tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "p.jsonl").symlink_to(tmp_path / "far" / "real.jsonl")
    run(model, rows_file(texts(2)), out=tmp_path / "p.jsonl")
    assert (tmp_path / "p.jsonl").is_symlink()
    assert len(answers_in(tmp_path / "far" / "real.jsonl")) == 2


def test_input_that_cannot_be_used_leaves_nothing_behind(model, tmp_path):
    (tmp_path / "in.csv").write_text("id,foo,bar\n1,late,soon\n")
    with pytest.raises(DataError, match="no column 'text'"):
        run(model, tmp_path / "in.csv", out=tmp_path / "out" / "p.jsonl")
    with pytest.raises(DataError, match="no such file"):
        run(model, tmp_path / "on.csv", out=tmp_path / "out" / "p.jsonl")
    assert not (tmp_path / "out").exists()


def test_columns_of_text_and_id_can_be_named(model, tmp_path):
    (tmp_path / "in.csv").write_text("key,body\nk1,late\nk2,refund\n")
    run(model, tmp_path / "in.csv", out=tmp_path / "p.jsonl", columns=Columns(text="body", id="key"))
    assert answers_in(tmp_path / "p.jsonl") == prediction_rows(
        model, ["k1", "k2"], ["late", "refund"], Style()
    )


@pytest.mark.parametrize("name", ["top", "jobs", "slice_rows"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0; expected 1 or more"):
        Request("in.jsonl", **{name: 0})


def test_progress_counts_all_rows_up(model, rows_file, tmp_path):
    told = []
    request = Request(rows_file([*texts(4), "damaged"]), tmp_path / "p.jsonl", slice_rows=2)
    predict_file(model, request, io.BytesIO(), report=told.append)
    assert told == [Progress("slice", 2, 0), Progress("slice", 4, 0), Progress("slice", 4, 1)]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=30))
@example(["\x00", "\r", "\n", "\u2028", "\ufeff", "", " ", '"', "=1+1"])
def test_ids_and_order_go_through_whatever_the_texts_and_the_chunk_size(found):
    with TemporaryDirectory() as folder:
        model = KeywordModel.make(Path(folder, "model"))
        source = Path(folder, "in.jsonl")
        rows = [{"id": f"{place}{text}", "text": text} for place, text in enumerate(found)]
        source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
        written = set()
        for slice_rows in (1, 3, 1000):
            outcome, printed = run(model, source, slice_rows=slice_rows)
            written.add(printed)
            assert (outcome.rows, outcome.refused) == (len(found), 0)
        assert [row["id"] for row in answers(written.pop())] == [row["id"] for row in rows]
        assert not written


def test_long_texts_are_answered_a_few_at_a_time(model, rows_file, tmp_path):
    source = rows_file([{"text": "x" * 600_000} for _ in range(10)])
    told, walk_of, walked = [], model.walk, []

    def walk(found, **options):
        walked.append(len(found))
        return walk_of(found, **options)

    model.walk = walk
    predict_file(model, Request(source, tmp_path / "p.jsonl"), io.BytesIO(), report=told.append)
    assert [step.rows for step in told] == [4, 8, 10]
    assert walked == [2] * 5


# Refused rows


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("slice_rows", [1, 3, 1000])
def test_damaged_rows_are_listed_once_and_the_rest_is_answered(model, rows_file, tmp_path, slice_rows, jobs):
    n = 60 if slice_rows == 1 else 200
    source = rows_file(damaged_rows(n))
    out = tmp_path / "out" / "p.jsonl"
    outcome, _ = run(model, source, out=out, slice_rows=slice_rows, jobs=jobs)
    damaged = list(range(5, n, 10))
    assert outcome == Outcome(n - len(damaged), len(damaged), 0, out.with_name("p.errors.jsonl"))
    assert [row["id"] for row in answers_in(out)] == [
        f"r{place}" for place in range(n) if place not in damaged
    ]
    refused = answers_in(out.with_name("p.errors.jsonl"))
    assert [row["row"] for row in refused] == [place + 1 for place in damaged]
    assert [row["raw"] for row in refused] == [DAMAGES[place // 10 % len(DAMAGES)] for place in damaged]
    assert all(row["reason"] and row["file"] == source for row in refused)
    assert names_in(out.parent) == ["p.errors.jsonl", "p.jsonl"]


def test_rows_after_a_chunk_of_refused_ones_are_answered(model, rows_file, tmp_path):
    source = rows_file(["bad"] * 5 + texts(2))
    outcome, _ = run(model, source, out=tmp_path / "p.jsonl", slice_rows=2)
    assert (outcome.rows, outcome.refused) == (2, 5)
    assert [row["id"] for row in answers_in(tmp_path / "p.jsonl")] == ["r0", "r1"]


def test_run_without_refused_rows_takes_an_old_list_of_them_away(model, rows_file, tmp_path):
    out = tmp_path / "out" / "p.csv"
    run(model, rows_file(["bad", *texts(2)]), out=out)
    assert names_in(out.parent) == ["p.csv", "p.errors.jsonl"]
    outcome, _ = run(model, rows_file(texts(2)), out=out)
    assert outcome.errors is None
    assert names_in(out.parent) == ["p.csv"]


def test_refused_rows_go_where_the_caller_wants_them(model, rows_file, tmp_path):
    errors = tmp_path / "elsewhere" / "bad.jsonl"
    outcome, printed = run(model, rows_file(["bad", *texts(2)]), errors=errors)
    assert outcome.errors == errors
    assert [row["raw"] for row in answers_in(errors)] == ["bad"]
    assert len(answers(printed)) == 2
    outcome, _ = run(model, rows_file(["bad", *texts(2)]), out=tmp_path / "out" / "p.jsonl", errors=errors)
    assert outcome.errors == errors
    assert names_in(tmp_path / "out") == ["p.jsonl"]
    run(model, rows_file(texts(2)), errors=errors)
    assert names_in(errors.parent) == []


def test_refused_rows_without_a_file_go_to_the_caller(model, rows_file):
    lines = []
    source = rows_file(["bad", *texts(2), "worse"])
    outcome = predict_file(model, Request(source), io.BytesIO(), refuse=lines.append)
    assert outcome == Outcome(2, 2, 0, None)
    assert [(json.loads(line)["row"], json.loads(line)["raw"]) for line in lines] == [
        (1, "bad"),
        (4, "worse"),
    ]


# Standard output that goes away or takes little


class Pipe(io.RawIOBase):
    """Takes at most ten bytes at a time, and breaks after so many."""

    def __init__(self, breaks_after=None):
        self.taken, self.breaks_after = b"", breaks_after

    def write(self, data):
        if self.breaks_after is not None and len(self.taken) > self.breaks_after:
            raise BrokenPipeError
        self.taken += bytes(data[:10])
        return min(len(data), 10)


def test_stream_that_takes_a_little_at_a_time_gets_everything(model, rows_file):
    source, pipe = rows_file(texts(10)), Pipe()
    predict_file(model, Request(source), pipe)
    assert pipe.taken == run(model, source)[1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_broken_pipe_comes_through_and_keeps_what_was_refused(model, rows_file, tmp_path, jobs):
    source = rows_file(["bad", *texts(50)])
    request = Request(source, errors=tmp_path / "errors" / "bad.jsonl", slice_rows=5, jobs=jobs)
    with pytest.raises(BrokenPipeError):
        predict_file(model, request, Pipe(breaks_after=30))
    assert names_in(tmp_path / "errors") == ["bad.jsonl"]
    assert [row["raw"] for row in answers_in(tmp_path / "errors" / "bad.jsonl")] == ["bad"]


# Workers


@pytest.mark.parametrize("name", ["p.jsonl", "p.csv"])
def test_two_workers_write_the_same_bytes_as_none(model, rows_file, tmp_path, name):
    source = rows_file(damaged_rows(100))
    for jobs in (1, 2):
        run(model, source, out=tmp_path / str(jobs) / name, jobs=jobs, slice_rows=7, trace=True, scores="all")
    for made in (name, "p.errors.jsonl"):
        assert (tmp_path / "1" / made).read_bytes() == (tmp_path / "2" / made).read_bytes()


def test_model_replaced_meanwhile_is_noticed_by_workers(model, rows_file, tmp_path):
    KeywordModel.make(tmp_path / "model", threshold=0.75)
    with pytest.raises(ModelError, match="the model was replaced"):
        run(model, rows_file(texts(10)), out=tmp_path / "p.jsonl", jobs=2, slice_rows=2)


class DyingModel(KeywordModel):
    """Ends every process that it is loaded in, but the one that made it."""

    @classmethod
    def make(cls, folder, **settings):
        folder.mkdir()
        (folder / "home").write_text(str(os.getpid()))
        return super().make(folder, **settings)

    @classmethod
    def load(cls, folder):
        if (folder / "home").read_text() != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().load(folder)


def test_worker_that_is_killed_makes_one_clear_error(rows_file, tmp_path):
    model = DyingModel.make(tmp_path / "model")
    with pytest.raises(CascadeError, match=r"a worker process was killed.*fewer --jobs"):
        run(model, rows_file(texts(10)), out=tmp_path / "p.jsonl", jobs=2, slice_rows=2)


def test_workers_stay_a_few_chunks_ahead_of_a_slow_reader(tmp_path):
    """A reader that takes one row and waits must not have the whole input read for it."""
    model = KeywordModel.make(tmp_path / "model")
    fifo = tmp_path / "in.jsonl"
    os.mkfifo(fifo)
    written = [0]

    def feed():
        with fifo.open("w") as pipe:
            for row in texts(20_000):
                pipe.write(json.dumps(row) + "\n")
                written[0] += 1

    feeder = threading.Thread(target=feed)
    feeder.start()
    ahead = []

    def wait(step):
        if not ahead:
            time.sleep(1.0)
            ahead.append(written[0])

    outcome = predict_file(model, Request(str(fifo), jobs=2, slice_rows=100), io.BytesIO(), report=wait)
    feeder.join()
    assert outcome.rows == 20_000
    assert ahead[0] < 5_000


# Stopping and going on


def in_a_process(target, *arguments):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=target, args=arguments)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHON_PATH)
        process.start()
    return process


def predict_here(model_folder, source, out, jobs):
    run(KeywordModel.load(model_folder), source, out=out, jobs=jobs, slice_rows=5, trace=True)


def predict_until(count, model_folder, source, out):
    """Kill this process when it is about to open, rename or remove the `count`-th file beside `out`."""
    left = [count]

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove") and str(out.parent) in str(arguments[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    model = KeywordModel.load(model_folder)
    sys.addaudithook(hook)
    run(model, source, out=out, slice_rows=5, trace=True)


def stopped(model, source, after, **options):
    """Run until so many chunks are done, and then be interrupted as by Ctrl-C."""
    done = []

    def interrupt(step):
        done.append(step)
        if len([step for step in done if step.kind == "slice"]) == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(model, Request(str(source), **options), io.BytesIO(), report=interrupt)


def told(model, source, **options):
    """The outcome of a run and its first report."""
    steps = []
    outcome = predict_file(model, Request(str(source), **options), io.BytesIO(), report=steps.append)
    return outcome, steps[0]


def test_run_killed_at_random_moments_ends_with_the_same_bytes(rows_file, tmp_path):
    model = KeywordModel.make(tmp_path / "model", seconds=0.004)
    source = rows_file(damaged_rows(400))
    run(model, source, out=tmp_path / "whole" / "p.jsonl", slice_rows=5, trace=True)
    out = tmp_path / "killed" / "p.jsonl"
    moments = random.Random(7)
    kills = 0
    while kills < 20:
        process = in_a_process(predict_here, model.folder, source, out, 1)
        part = out.with_name("p.jsonl.part")
        deadline = time.monotonic() + 30
        while process.exitcode is None and not part.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        process.join(moments.uniform(0, 0.1))
        process.kill()
        process.join()
        if process.exitcode == 0:
            assert out.read_bytes() == (tmp_path / "whole" / "p.jsonl").read_bytes()
            out.unlink()
            continue
        kills += 1
        assert not out.exists()
    outcome, _ = run(model, source, out=out, slice_rows=5, trace=True)
    assert outcome.rows + outcome.refused == 400
    for name in ("p.jsonl", "p.errors.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (out.parent / name).read_bytes()
    assert names_in(out.parent) == ["p.errors.jsonl", "p.jsonl"]


@pytest.mark.parametrize("name", ["p.jsonl", pytest.param("p.csv", marks=pytest.mark.slow)])
def test_run_killed_before_any_change_to_a_file_ends_with_the_same_bytes(model, rows_file, tmp_path, name):
    source = rows_file(damaged_rows(18))
    whole = tmp_path / "whole" / name
    run(model, source, out=whole, slice_rows=5, trace=True)
    out = tmp_path / "killed" / name
    out.parent.mkdir()
    out.write_text("old")
    count, status = 0, -signal.SIGKILL
    while status:
        count += 1
        process = in_a_process(predict_until, count, model.folder, source, out)
        process.join()
        status = process.exitcode
        assert status in (0, -signal.SIGKILL)
        # The last thing that a run does is to tidy up, when the output is there.
        assert out.read_bytes() in ((b"old", whole.read_bytes()) if status else (whole.read_bytes(),))
        run(model, source, out=out, slice_rows=5, trace=True)
        assert out.read_bytes() == whole.read_bytes()
        assert (out.parent / "p.errors.jsonl").read_bytes() == (whole.parent / "p.errors.jsonl").read_bytes()
        assert names_in(out.parent) == names_in(whole.parent)
        out.write_text("old")
    assert count > 15


def test_interrupted_run_goes_on_where_it_was(model, rows_file, tmp_path):
    source, out = rows_file(damaged_rows(50)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 3, out=out, slice_rows=8)
    assert names_in(out.parent) == ["p.errors.jsonl.part", "p.jsonl.part"]
    outcome, first = told(model, source, out=out, slice_rows=8)
    assert outcome == Outcome(45, 5, 24, out.with_name("p.errors.jsonl"))
    assert first.kind == "resumed"
    assert (first.rows, first.refused) == (22, 2)
    assert "with 24 rows done; going on with the others" in first.detail
    run(model, source, out=tmp_path / "whole" / "p.jsonl")
    assert out.read_bytes() == (tmp_path / "whole" / "p.jsonl").read_bytes()


def test_run_goes_on_with_another_number_of_workers(model, rows_file, tmp_path):
    source, out = rows_file(damaged_rows(60)), tmp_path / "out" / "p.csv"
    stopped(model, source, 2, out=out, slice_rows=4, jobs=2)
    done = len(noted_in(out))
    outcome, _ = run(model, source, out=out, slice_rows=4, jobs=1)
    assert outcome.resumed_from == 4 * done >= 8
    run(model, source, out=tmp_path / "whole" / "p.csv")
    assert out.read_bytes() == (tmp_path / "whole" / "p.csv").read_bytes()


def test_slices_that_are_missing_in_the_middle_are_made_up_for(model, rows_file, tmp_path):
    source, out = rows_file(damaged_rows(50)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 4, out=out, slice_rows=8)
    noted_in(out)[1].unlink()
    outcome, _ = run(model, source, out=out, slice_rows=8)
    assert (outcome.rows, outcome.refused, outcome.resumed_from) == (45, 5, 24)
    assert out.read_bytes() == run(model, source)[1]


def test_what_has_no_note_is_written_again(model, rows_file, tmp_path):
    source, out = rows_file(damaged_rows(50)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 3, out=out, slice_rows=8)
    work = noted_in(out)[0].parent
    for path in (work.parent / "part-00003.jsonl", work / "00003.refused.jsonl", work / "00003.json.77.new"):
        path.write_bytes(b'{"id": "half a li')
    out.with_name("p.errors.jsonl.part").write_text("half a li")
    outcome, _ = run(model, source, out=out, slice_rows=8)
    assert outcome.resumed_from == 24
    assert len(answers_in(out)) == 45
    assert len(answers_in(outcome.errors)) == 5


def _lengthen_input(source, folder):
    source.write_text(source.read_text() + '{"text": "one more"}\n')
    return {}


def _rewrite_input(source, folder):
    before = source.stat()
    source.write_text(source.read_text().replace("complaint 0", "complaint X"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    return {}


def _touch_input(source, folder):
    os.utime(source, ns=(0, 0))
    return {}


def _rewrite_model(source, folder):
    KeywordModel.make(folder, threshold=0.75)
    return {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_lengthen_input, "with another input"),
        (_touch_input, "with another input"),
        (_rewrite_input, "with another input"),
        (_rewrite_model, "with another model"),
        (lambda *_: {"top": 2}, "with other options"),
        (lambda *_: {"slice_rows": 5}, "with other options"),
        (lambda *_: {"scores": "all"}, "with other options"),
        (lambda *_: {"trace": True}, "with other options"),
        (lambda *_: {"columns": Columns(id="text")}, "with other options"),
    ],
)
def test_run_that_does_not_fit_what_was_left_starts_anew_and_says_so(
    model, rows_file, tmp_path, change, words
):
    source, out = Path(rows_file(texts(20))), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 2, out=out, slice_rows=4)
    options = {"slice_rows": 4} | change(source, model.folder)
    model = KeywordModel.load(model.folder)
    outcome, first = told(model, source, out=out, **options)
    assert (outcome.resumed_from, first.kind) == (0, "anew")
    assert f"left by a stopped run {words}; starting anew" in first.detail
    _, printed = run(model, source, **options)
    assert out.read_bytes() == printed
    assert names_in(out.parent) == ["p.jsonl"]


def test_worker_of_an_older_run_that_lives_on_finds_no_place_for_its_part(model, rows_file, tmp_path):
    source, out = rows_file(texts(20)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 2, out=out, slice_rows=4)
    older = noted_in(out)[0].parents[1]
    stopped(model, source, 2, out=out, slice_rows=4, top=2)
    assert noted_in(out)[0].parents[1] != older
    assert not older.exists()


DAMAGED_NOTES = ["", "{", "[]", '{"job": 1}', "null", '"x"', "\xff", "[" * 100_000]


@pytest.mark.parametrize("damage", DAMAGED_NOTES)
def test_damaged_account_of_a_run_means_to_start_anew(model, rows_file, tmp_path, damage):
    source, out = rows_file(texts(20)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 2, out=out, slice_rows=4)
    job_of(out).write_bytes(damage.encode("latin-1"))
    outcome, first = told(model, source, out=out, slice_rows=4)
    assert (outcome.rows, outcome.resumed_from, first.kind) == (20, 0, "anew")
    assert [row["id"] for row in answers_in(out)] == [f"r{number}" for number in range(20)]


@pytest.mark.parametrize("damage", [*DAMAGED_NOTES, -3, 3.5])
def test_slice_with_a_damaged_note_is_answered_again(model, rows_file, tmp_path, damage):
    source, out = rows_file(texts(20)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 3, out=out, slice_rows=4)
    note = noted_in(out)[1]
    if not isinstance(damage, str):
        damage = json.dumps(json.loads(note.read_text()) | {"answered": damage})
    note.write_bytes(damage.encode("latin-1"))
    outcome, _ = run(model, source, out=out, slice_rows=4)
    assert (outcome.rows, outcome.resumed_from) == (20, 8)
    assert [row["id"] for row in answers_in(out)] == [f"r{number}" for number in range(20)]


@pytest.mark.parametrize("name", ["part-00002.jsonl", "_work/00002.refused.jsonl"])
def test_part_that_was_cut_short_is_written_again(model, rows_file, tmp_path, name):
    source, out = rows_file(damaged_rows(40)), tmp_path / "out" / "p.jsonl"
    stopped(model, source, 4, out=out, slice_rows=6)
    os.truncate(noted_in(out)[0].parents[1] / name, 10)
    outcome, _ = run(model, source, out=out, slice_rows=6)
    assert (outcome.rows, outcome.refused, outcome.resumed_from) == (36, 4, 18)
    assert out.read_bytes() == run(model, source)[1]
    assert len(answers_in(outcome.errors)) == 4


def test_run_interrupted_before_its_first_chunk_leaves_nothing(model, rows_file, tmp_path):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    model.walk = interrupt
    with pytest.raises(KeyboardInterrupt):
        run(model, rows_file(texts(3)), out=tmp_path / "out" / "p.jsonl")
    assert names_in(tmp_path / "out") == []


def predict_on_a_small_disk(model_folder, source, out):
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    with pytest.raises(DataError, match=r"p\.jsonl: cannot be written: File too large"):
        predict_here(model_folder, source, out, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, 20_000))
    with pytest.raises(
        DataError, match=r"q\.jsonl\.part.*part-00000.jsonl: cannot be written: File too large"
    ):
        predict_here(model_folder, source, out.with_name("q.jsonl"), 1)


def test_full_disk_is_a_clear_error_after_which_the_run_goes_on(model, rows_file, tmp_path):
    source, out = rows_file(texts(100)), tmp_path / "out" / "p.jsonl"
    process = in_a_process(predict_on_a_small_disk, model.folder, source, out)
    process.join()
    assert process.exitcode == 0
    assert not out.exists()
    outcome, _ = run(model, source, out=out, trace=True, slice_rows=5)
    assert outcome.rows == outcome.resumed_from == 100
    run(model, source, out=tmp_path / "whole" / "p.jsonl", trace=True)
    assert out.read_bytes() == (tmp_path / "whole" / "p.jsonl").read_bytes()


def test_two_runs_at_once_to_one_output_are_refused(rows_file, tmp_path):
    model = KeywordModel.make(tmp_path / "model", seconds=0.05)
    source, out = rows_file(texts(200)), tmp_path / "out" / "p.jsonl"
    process = in_a_process(predict_here, model.folder, source, out, 2)
    wait_until(lambda: noted_in(out))
    with pytest.raises(DataError, match=r"p\.jsonl\.part.lock: another run is writing here"):
        run(model, source, out=out)
    assert noted_in(out)
    process.kill()
    process.join()
    outcome, _ = run(replaced(model, seconds=0.0), source, out=out, slice_rows=5, trace=True)
    assert outcome.rows == 200
    assert outcome.resumed_from > 0


def predict_while_another_run_ends(model_folder, source, out):
    """The other run tidies up after this one has opened the lock and before this one has it."""
    theirs = out.with_name("p.jsonl.part")
    theirs.mkdir()
    (theirs / "theirs").touch()

    def hook(event, _):
        if event == "fcntl.flock" and (theirs / "theirs").exists():
            shutil.rmtree(theirs)
            out.write_text("theirs")

    sys.addaudithook(hook)
    seen = []
    request = Request(source, out, slice_rows=2)
    predict_file(
        KeywordModel.load(model_folder), request, io.BytesIO(), report=lambda _: seen.append(out.read_text())
    )
    assert seen == ["theirs"] * 3
    assert len(answers_in(out)) == 6


def test_run_that_starts_while_another_ends_leaves_the_output_of_that_alone(model, rows_file, tmp_path):
    (tmp_path / "out").mkdir()
    source, out = rows_file(texts(6)), tmp_path / "out" / "p.jsonl"
    process = in_a_process(predict_while_another_run_ends, model.folder, source, out)
    process.join()
    assert process.exitcode == 0


def replaced(model, seconds):
    model.seconds = seconds
    return model


def test_two_outputs_cannot_share_one_list_of_refused_rows_at_once(model, rows_file, tmp_path):
    source = rows_file(texts(10))

    def second_run(_):
        with pytest.raises(DataError, match="another run is writing here"):
            run(model, source, out=tmp_path / "two.jsonl", errors=tmp_path / "bad.jsonl")

    request = Request(source, tmp_path / "one.jsonl", errors=tmp_path / "bad.jsonl")
    outcome = predict_file(model, request, io.BytesIO(), report=second_run)
    assert outcome.rows == 10
    assert not (tmp_path / "two.jsonl").exists()


def script(model_folder, arguments):
    """A Python process that predicts with these keyword arguments of `Request` and shows what came of it."""
    code = (
        "import sys, prediction_rows as t, signal\n"
        "from cascade.predict.files import *\nfrom cascade.predict.request import Request\n"
        "from pathlib import Path\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"model = t.KeywordModel.load(Path({str(model_folder)!r}))\n"
        "try:\n"
        f"    outcome = predict_file(model, Request(**{arguments!r}), sys.stdout.buffer)\n"
        "    print(outcome.rows, outcome.refused, outcome.resumed_from, file=sys.stderr)\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(130)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code.replace("PosixPath", "Path")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        start_new_session=True,
    )


def test_standard_input_is_read_anew_and_never_gone_on_with(model, tmp_path):
    data = "".join(json.dumps(row) + "\n" for row in texts(30)).encode()
    out = tmp_path / "out" / "p.jsonl"
    process = script(model.folder, {"source": "-", "out": out, "slice_rows": 4, "jobs": 1})
    process.stdin.write(data[:600])
    process.stdin.flush()
    wait_until(lambda: noted_in(out))
    process.kill()
    process.communicate()
    assert names_in(out.parent) == ["p.errors.jsonl.part", "p.jsonl.part"]
    printed, complaints = script(model.folder, {"source": "-", "out": out}).communicate(data)
    assert (printed, complaints) == (b"", b"30 0 0\n")
    assert [row["id"] for row in answers_in(out)] == [f"r{number}" for number in range(30)]
    assert names_in(out.parent) == ["p.jsonl"]


@pytest.mark.parametrize(("jobs", "moment"), [(1, "answering"), (2, "answering"), (2, "starting")])
def test_ctrl_c_ends_all_processes_without_a_word_and_can_be_gone_on_from(rows_file, tmp_path, jobs, moment):
    model = KeywordModel.make(tmp_path / "model", seconds=0.05)
    source, out = rows_file(texts(400)), tmp_path / "out" / "p.jsonl"
    process = script(model.folder, {"source": source, "out": out, "jobs": jobs, "slice_rows": 5})
    wait_until(lambda: noted_in(out) if moment == "answering" else job_of(out).exists())
    if moment == "starting":
        # Workers take longer than this to import what they need.
        time.sleep(0.35)
    os.killpg(process.pid, signal.SIGINT)
    printed, complaints = process.communicate(timeout=30)
    assert (process.returncode, printed, complaints) == (130, b"", b"")
    outcome, _ = run(replaced(model, 0.0), source, out=out, slice_rows=5)
    assert (outcome.resumed_from > 0) == (moment == "answering")
    assert len(answers_in(out)) == 400


def test_workers_of_a_killed_run_end_and_hold_no_lock(rows_file, tmp_path):
    model = KeywordModel.make(tmp_path / "model", seconds=0.05)
    source, out = rows_file(texts(400)), tmp_path / "out" / "p.jsonl"
    process = script(model.folder, {"source": source, "out": out, "jobs": 2, "slice_rows": 5})
    wait_until(lambda: noted_in(out))
    process.kill()
    process.wait()
    outcome, _ = run(replaced(model, 0.0), source, out=out, slice_rows=5)
    assert len(answers_in(out)) == outcome.rows == 400
    # The pipes end when the last process that holds them does.
    process.communicate(timeout=30)


# Memory


def test_memory_does_not_grow_with_the_input(tmp_path):
    small = {"name": "t", "groups": {"g": {"labels": ["a", "b"]}}}
    model = KeywordModel.make(tmp_path / "model", small, routes={})
    source = tmp_path / "in.jsonl"
    with source.open("w") as file:
        file.writelines(f'{{"id": {row}, "text": "number {row % 7}"}}\n' for row in range(10_000))
    peaks = []
    request = Request(str(source), tmp_path / "p.jsonl", slice_rows=100)
    tracemalloc.start()
    try:
        predict_file(
            model, request, io.BytesIO(), report=lambda _: peaks.append(tracemalloc.get_traced_memory()[1])
        )
    finally:
        tracemalloc.stop()
    assert len(peaks) == 100
    assert peaks[-1] < peaks[9] + 100_000


# With a fitted model


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    rows = [("refund my money", ["refund"]), ("charged twice", ["double_charge"]), ("vat is wrong", ["vat"])]
    rows += [
        ("parcel late", ["late"]),
        ("box broken", ["broken"]),
        ("so happy", ["happy"]),
        ("angry now", ["angry"]),
    ]
    rows = [(f"{text} {number}", labels) for number in range(6) for text, labels in rows]
    taxonomy = Taxonomy.from_dict(FEEDBACK)
    folder = tmp_path_factory.mktemp("fitted")
    fit(taxonomy, [text for text, _ in rows], [labels for _, labels in rows], folder)
    return Cascade.load(folder)


def test_fitted_model_answers_a_file_as_it_answers_texts(fitted, rows_file, tmp_path):
    found = [f"{text} {number}" for number in range(10) for text in ("refund late", "box", "", "ünïcode 🎉")]
    source = rows_file([{"text": text} for text in found])
    made = set()
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}.jsonl"
        run(fitted, source, out=out, jobs=jobs, slice_rows=9, trace=True, scores="all")
        made.add(out.read_bytes())
    assert len(made) == 1
    rows = answers(made.pop())
    assert [row["labels"] for row in rows] == fitted.predict(found)
    proba = fitted.predict_proba(found)
    for row, expected in zip(rows, proba, strict=True):
        visited = {label: p for label, p in zip(fitted.labels, expected, strict=True) if not np.isnan(p)}
        assert row["scores"] == pytest.approx(visited, abs=1e-6)
        for entry in row["trace"]:
            if "chosen" in entry:
                assert entry["chosen"] == (entry["node"] in row["labels"])
            if entry.get("entered") is False:
                assert entry["path"] <= entry["threshold"]

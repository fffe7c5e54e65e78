"""Answers as spreadsheets, Parquet and wide tables, and that they are read back the same."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prediction_rows import KeywordModel
from processes import command, environment

from cascade.errors import DataError
from cascade.predict.extras import ALL
from cascade.predict.files import predict_file
from cascade.predict.request import Request
from cascade.rows.reading import read_all
from cascade.rows.writing import guarded, unguarded

FORMATS = (".jsonl", ".ndjson", ".csv", ".tsv", ".xlsx", ".parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return KeywordModel.make(tmp_path_factory.mktemp("model") / "model")


def predict(model, source, **options):
    return predict_file(model, Request(str(source), **options), io.BytesIO())


def input_file(folder, rows, name="in.jsonl"):
    path = Path(folder) / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


ROWS = [
    {"id": "a", "text": "late and broken", "customer": "=1+1", "stars": 2},
    {"id": "b", "text": "refund", "customer": "+49 30 1234", "stars": 5},
    {"id": "c", "text": "@everyone happy", "customer": "-", "stars": None, "tags": ["x", "y"]},
]


def back(path, model):
    """Id, labels and kept columns of each row that is read from an output."""
    rows, refused, _ = read_all([path], None, model.taxonomy)
    assert refused == []
    return rows


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "options", [{}, {"wide": "flags"}, {"paths": True}, {"wide": "scores", "trace": True}]
)
def test_what_is_written_is_read_back_in_every_format(model, tmp_path, suffix, options):
    source = input_file(tmp_path, ROWS)
    predict(model, source, out=tmp_path / "plain.jsonl")
    expected = [json.loads(line) for line in (tmp_path / "plain.jsonl").read_text().splitlines()]
    out = tmp_path / f"out{suffix}"
    predict(model, source, out=out, keep=(ALL,), **options)
    rows = back(out, model)
    assert [(row.id, row.text) for row in rows] == [(row["id"], row["text"]) for row in ROWS]
    assert [set(row.labels) for row in rows] == [set(row["labels"]) for row in expected]
    assert [row.source["customer"] for row in rows] == ["=1+1", "+49 30 1234", "-"]
    assert [str(row.source["stars"]) for row in rows[:2]] == ["2", "5"]


printable = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=40)
starts = st.sampled_from(["", "=", "+", "-", "@", "'", "'=", "''+", "=HYPERLINK(", "'"])


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "id": st.tuples(starts, printable)
                .map("".join)
                .filter(lambda text: text.strip() == text != ""),
                "text": st.tuples(starts, printable).map("".join),
                "note": st.tuples(starts, printable).map("".join),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    suffix=st.sampled_from(FORMATS),
)
def test_any_columns_come_through_any_format(model, rows, suffix):
    with TemporaryDirectory() as folder:
        source = input_file(folder, rows)
        out = Path(folder) / f"out{suffix}"
        predict(model, source, out=out, keep=(ALL,))
        found = back(out, model)
    assert [(row.id, row.text, row.source["note"]) for row in found] == [
        (row["id"], row["text"], row["note"]) for row in rows
    ]


@given(st.tuples(starts, st.text(max_size=5)).map("".join))
def test_a_guarded_cell_is_no_formula_and_comes_back(cell):
    shown = guarded(cell)
    assert unguarded(shown) == cell
    assert shown[:1] not in ("=", "@", "\t", "\r")
    if shown[:1] in ("+", "-"):
        float(shown)


def test_no_cell_of_a_spreadsheet_is_a_formula(model, tmp_path):
    source = input_file(tmp_path, ROWS)
    predict(model, source, out=tmp_path / "a.xlsx", keep=(ALL,))
    page = openpyxl.load_workbook(tmp_path / "a.xlsx").active
    assert page.title == "predictions"
    kinds = {cell.data_type for row in page.iter_rows() for cell in row}
    assert "f" not in kinds
    assert [cell.value for cell in page["C"]] == ["customer", "=1+1", "+49 30 1234", "-"]
    predict(model, source, out=tmp_path / "a.csv", keep=(ALL,))
    with (tmp_path / "a.csv").open(newline="") as file:
        customers = [row["customer"] for row in csv.DictReader(file)]
    assert customers == ["'=1+1", "'+49 30 1234", "'-"]


def test_the_columns_of_a_table_stand_in_their_order(model, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("id,Comment,labels,late\n7,late and broken,x,y\n")
    predict(model, source, out=tmp_path / "a.csv", keep=(ALL,), wide="flags", paths=True)
    header, row = csv.reader((tmp_path / "a.csv").read_text().splitlines())
    labels = list(model.taxonomy.labels)
    own = ["id", "Comment", "labels (input)", "late (input)"]
    assert header == [*own, "labels", "level1", "level2", "level3", "scores", *labels]
    found = dict(zip(header, row, strict=True))
    chosen = found["labels"].split(";")
    assert chosen
    assert [found[label] for label in labels] == [str(int(label in chosen)) for label in labels]
    assert found["late (input)"] == "y"
    places = zip(
        found["labels"].split(";"), found["level1"].split(";"), found["level2"].split(";"), strict=True
    )
    assert all(label == second or first == "billing" for label, first, second in places)


def test_named_columns_alone_are_kept_and_unknown_ones_refused(model, tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("id,Comment,who,when\n7,late,me,now\n")
    predict(model, source, out=tmp_path / "a.csv", keep=("who",))
    assert (tmp_path / "a.csv").read_text().startswith("id,who,labels,scores\n7,me,")
    with pytest.raises(DataError, match=r"no column 'whom' to keep; there are 'id', .*Did you mean 'who'"):
        predict(model, source, out=tmp_path / "b.csv", keep=("whom",))
    assert not (tmp_path / "b.csv").exists()


def test_a_label_named_like_a_column_of_the_answer_is_refused_in_wide_tables(tmp_path):
    taxonomy = {"name": "a", "groups": {"g": {"labels": ["id", "late"]}}}
    model = KeywordModel.make(tmp_path / "model", taxonomy, routes={})
    with pytest.raises(DataError, match="label 'id' has the name of a column of the answers"):
        predict(model, input_file(tmp_path, ROWS), out=tmp_path / "a.csv", wide="flags")


def test_a_text_that_no_cell_holds_is_cut_and_told(model, tmp_path):
    source = input_file(tmp_path, [{"id": 1, "text": "late " * 10_000}])
    outcome = predict(model, source, out=tmp_path / "a.xlsx", keep=(ALL,))
    assert "a cell holds 32,767 characters, so 1 were cut" in outcome.notes[0]
    assert len(pd.read_excel(tmp_path / "a.xlsx", engine="calamine")["text"][0]) == 32_767
    assert predict(model, source, out=tmp_path / "a.parquet", keep=(ALL,)).notes == ()
    assert len(pd.read_parquet(tmp_path / "a.parquet")["text"][0]) == 50_000


def test_types_of_columns_stay_in_parquet(model, tmp_path):
    source = input_file(
        tmp_path, [{"id": 1, "text": "a", "n": 1, "x": 0.5, "b": True, "m": 1}, {"text": "b", "m": "x"}]
    )
    predict(model, source, out=tmp_path / "a.parquet", keep=(ALL,), wide="flags")
    kinds = pd.read_parquet(tmp_path / "a.parquet", dtype_backend="pyarrow").dtypes.astype(str)
    assert [kinds[name].split("[")[0] for name in ("id", "n", "x", "b")] == [
        "int64",
        "int64",
        "double",
        "bool",
    ]
    assert kinds["m"].startswith("string")
    assert kinds["late"].startswith("int8")


def test_no_rows_are_a_table_with_its_header(model, tmp_path):
    (tmp_path / "in.csv").write_text("text\n")
    for suffix in (".xlsx", ".parquet", ".csv"):
        predict(model, tmp_path / "in.csv", out=tmp_path / f"a{suffix}", wide="flags")
    assert len(pd.read_parquet(tmp_path / "a.parquet")) == 0
    assert list(pd.read_excel(tmp_path / "a.xlsx", engine="calamine").columns)[:3] == [
        "id",
        "labels",
        "scores",
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_any_number_of_processes_writes_the_same(shop_model, tmp_path, suffix):
    rows = [{"id": number, "text": f"late refund {number}", "n": number % 3} for number in range(60)]
    source = input_file(tmp_path, rows)
    outputs = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}{suffix}"
        arguments = ["--model", shop_model, "--out", out, "--keep", "--wide", "--jobs", jobs]
        done = subprocess.run(
            command("predict", source, *arguments),
            env=environment(),
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]


def test_standard_output_has_the_columns_as_well(shop_model, tmp_path):
    source = input_file(tmp_path, ROWS)
    done = subprocess.run(
        command("predict", source, "--model", shop_model, "--keep", "customer,stars", "--wide", "scores"),
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
    )
    first = json.loads(done.stdout.splitlines()[0])
    assert (first["customer"], first["stars"]) == ("=1+1", 2)
    assert list(first)[:5] == ["id", "customer", "stars", "labels", "scores"]

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlwt
from hypothesis import given
from hypothesis import strategies as st

from cascade.changes.migration import migrate
from cascade.errors import DataError
from cascade.rows.json_edits import with_keys, with_values
from cascade.rows.reading import read_all
from cascade.rows.spelling import spelled_like
from cascade.taxonomy.definition import Taxonomy

OLD = Taxonomy.from_dict(
    {
        "name": "shop",
        "groups": {"money": {"labels": ["refund", "card"]}, "goods": {"labels": ["late", "broken"]}},
    }
)
NEW = Taxonomy.from_dict(
    {
        "name": "shop",
        "groups": {
            "money": {"labels": ["refund", "card"]},
            "goods": {"labels": [{"name": "slow", "aliases": ["late"]}, "broken"]},
        },
    }
)
ROWS = [("where is it", ["late"]), ("in pieces", ["broken", "late"]), ("hello", []), ("my money", ["refund"])]


def renamed(labels):
    return {"slow" if one == "late" else one for one in labels}


def migrated(path, new=NEW):
    """The report of one file, and what the new file says."""
    out = path.parent / "out"
    report = migrate(OLD, new, [path], out).files[0]
    found = read_all([report.out], None, new)
    assert found.refused == []
    assert [(row.text, set(row.labels)) for row in found.rows] == [
        (text, renamed(labels)) for text, labels in ROWS
    ]
    return report


# JSON


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)
layouts = st.sampled_from([{}, {"separators": (",", ":")}, {"indent": 2}, {"ensure_ascii": False}])


@given(
    st.dictionaries(st.text(max_size=3), json_values, max_size=4), layouts, st.text(max_size=3), json_values
)
def test_a_value_that_is_put_into_json_is_read_from_it_and_all_else_is_as_it_was(fields, layout, key, value):
    text = json.dumps(fields, **layout)
    assert json.loads(with_values(text, {(key,): value})) == fields | {key: value}
    if key in fields:
        assert with_values(with_values(text, {(key,): value}), {}) == with_values(text, {(key,): value})


@given(
    st.dictionaries(st.sampled_from("abcd"), json_values, max_size=4),
    layouts,
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["x", "y", None]), max_size=1),
)
def test_keys_of_json_are_renamed_and_taken_out_in_their_places(fields, layout, keys):
    found = json.loads(with_keys(json.dumps(fields, **layout), keys))
    wanted = [(keys.get(key, key), value) for key, value in fields.items()]
    assert list(found.items()) == [(key, value) for key, value in wanted if key is not None]


def test_a_path_leads_into_lists_and_objects():
    text = '{"m": [{"r": "u"}, {"r": "a", "c":  "late"}]}'
    assert with_values(text, {("m", 1, "c"): "slow"}) == text.replace("late", "slow")
    with pytest.raises(KeyError):
        with_values(text, {("m", 2, "c"): "slow"})


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("Not Delivered", "Very Late"),
        ("not-delivered", "very-late"),
        ("NOT_DELIVERED", "VERY_LATE"),
        ("not_delivered", "very_late"),
        ("Not delivered", "Very late"),
        ("an alias", "very_late"),
    ],
)
def test_a_new_name_is_spelled_as_the_old_one_was(written, wanted):
    assert spelled_like(written, "not_delivered", "very_late") == wanted


# Spreadsheets


def test_a_workbook_keeps_its_other_sheets_its_formats_and_its_types(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["text", "labels", "amount", "when"])
    for place, (text, labels) in enumerate(ROWS):
        sheet.append(
            [text, ";".join(labels) or None, 1.5 * place, pd.Timestamp("2024-03-01").to_pydatetime()]
        )
    sheet["C2"].number_format = "0.00"
    sheet["B2"].font = openpyxl.styles.Font(bold=True)
    book.create_sheet("notes")["A1"] = "=1+1"
    book.save(tmp_path / "rows.xlsx")
    report = migrated(tmp_path / "rows.xlsx")
    assert report.notes == ()
    found = openpyxl.load_workbook(report.out)
    sheet = found.worksheets[0]
    assert [cell.value for cell in sheet["B"]] == ["labels", "slow", "broken;slow", None, "refund"]
    assert [cell.value for cell in sheet["C"]] == ["amount", 0, 1.5, 3, 4.5]
    assert (sheet["C2"].number_format, sheet["B2"].font.bold, sheet["D2"].is_date) == ("0.00", True, True)
    assert found["notes"]["A1"].value == "=1+1"
    with zipfile.ZipFile(tmp_path / "rows.xlsx") as before, zipfile.ZipFile(report.out) as after:
        times = [[(one.filename, one.date_time) for one in book.infolist()] for book in (before, after)]
    assert times[0] == times[1]


def test_a_workbook_of_0_and_1_loses_gains_and_renames_columns(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(["text", "refund", "card", "late", "broken"])
    for text, labels in ROWS:
        book.active.append([text, *(int(name in labels) for name in OLD.labels)])
    book.save(tmp_path / "rows.xlsx")
    fewer = Taxonomy.from_dict(
        {**NEW.to_dict(), "groups": {**NEW.to_dict()["groups"], "money": {"labels": ["refund"]}}}
    )
    report = migrated(tmp_path / "rows.xlsx", fewer)
    sheet = openpyxl.load_workbook(report.out).active
    assert [cell.value for cell in sheet[1]] == ["text", "refund", None, "slow", "broken"]
    assert [cell.value for cell in sheet[3]] == ["in pieces", 0, None, 1, 1]


def test_an_old_spreadsheet_becomes_a_new_one_and_that_is_told(tmp_path):
    book = xlwt.Workbook()
    sheet = book.add_sheet("Feedback")
    for row, cells in enumerate([["text", "labels"], *([text, ";".join(labels)] for text, labels in ROWS)]):
        for column, cell in enumerate(cells):
            sheet.write(row, column, cell)
    book.save(str(tmp_path / "rows.xls"))
    report = migrated(tmp_path / "rows.xls")
    assert report.out.endswith("rows.xlsx")
    assert "written as a new workbook" in report.notes[0]


# Tables of Arrow


def test_parquet_keeps_types_compression_and_what_pandas_noted(tmp_path):
    frame = pd.DataFrame(
        {
            "text": [text for text, _ in ROWS],
            "labels": [labels for _, labels in ROWS],
            "amount": pd.array([1, None, 3, 4], "Int32"),
            "kind": pd.Categorical(["a", "b", "a", "b"]),
        }
    )
    frame.to_parquet(tmp_path / "rows.parquet", compression="zstd")
    report = migrated(tmp_path / "rows.parquet")
    before, after = pq.read_table(tmp_path / "rows.parquet"), pq.read_table(report.out)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop_columns("labels") == before.drop_columns("labels")
    assert pq.read_metadata(report.out).row_group(0).column(0).compression == "ZSTD"


def test_0_and_1_in_parquet_keep_their_types(tmp_path):
    columns = {"text": [text for text, _ in ROWS]}
    columns |= {name: pa.array([name in labels for _, labels in ROWS]) for name in OLD.labels}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    report = migrated(tmp_path / "rows.parquet")
    schema = pq.read_schema(report.out)
    assert schema.names == ["text", "refund", "card", "slow", "broken"]
    assert {str(field.type) for field in schema} == {"string", "bool"}


def test_a_data_set_with_classes_becomes_parquet_with_names(tmp_path):
    names = list(OLD.labels)
    told = {"features": {"labels": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}}}
    metadata = {"huggingface": json.dumps({"info": told})}
    numbers = pa.array([[names.index(one) for one in labels] for _, labels in ROWS], pa.list_(pa.int64()))
    table = pa.table({"text": [text for text, _ in ROWS], "labels": numbers}).replace_schema_metadata(
        metadata
    )
    folder = tmp_path / "feedback"
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data.arrow", table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    report = migrated(folder)
    assert report.out.endswith("feedback.parquet")
    assert "written as Parquet" in report.notes[0]


# Text


def test_files_stay_packed_and_in_their_encoding(tmp_path):
    text = "text;labels\n" + "".join(f"{text};{','.join(labels)}\n" for text, labels in ROWS)
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(("\ufeff" + text).encode("utf-16-be")))
    report = migrated(path)
    with gzip.open(report.out) as stream:
        assert stream.read() == ("\ufeff" + text.replace("late", "slow")).encode("utf-16-be")
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("folder/rows.csv", text)
    report = migrated(tmp_path / "rows.zip")
    with zipfile.ZipFile(report.out) as archive:
        assert archive.read("folder/rows.csv").decode() == text.replace("late", "slow")


def test_a_name_that_an_encoding_lacks_makes_the_file_utf_8_and_that_is_told(tmp_path):
    new = Taxonomy.from_dict(
        {
            "name": "n",
            "groups": {
                "money": {"labels": ["refund", "card"]},
                "goods": {"labels": [{"name": "遅い", "aliases": ["late"]}, "broken"]},
            },
        }
    )
    path = tmp_path / "rows.csv"
    path.write_bytes("text,labels\ncafé où,late\nnaïve été,card\n".encode("cp1252"))
    report = migrate(OLD, new, [path], tmp_path / "out").files[0]
    assert (tmp_path / "out/rows.csv").read_bytes().decode() == "text,labels\ncafé où,遅い\nnaïve été,card\n"
    assert "written in UTF-8" in report.notes[0]


def test_bytes_that_are_no_text_are_carried_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "\xc3\xa9a", "labels": ["late"]}\r\n{"text": "\xff", "labels": ["late"]}\r\n'
    )
    report = migrate(OLD, NEW, [path], tmp_path / "out").files[0]
    assert (tmp_path / "out/rows.jsonl").read_bytes() == path.read_bytes().replace(b"late", b"slow", 1)
    assert [bad.number for bad in report.refused] == [2]


def test_the_export_of_an_annotation_tool_becomes_lines_with_each_task_in_them(tmp_path):
    def task(text, labels):
        result = [{"type": "choices", "value": {"choices": labels}}]
        return {"id": 7, "data": {"text": text}, "annotations": [{"result": result}]}

    path = tmp_path / "export.json"
    path.write_text(json.dumps([task(*row) for row in ROWS]))
    report = migrated(path)
    assert report.out.endswith("export.jsonl")
    first = json.loads((tmp_path / "out/export.jsonl").read_text().splitlines()[0])
    assert first == {"id": 7, "text": "where is it", "labels": ["slow"], "source": task(*ROWS[0])}
    assert "Label Studio" in report.notes[0]


def test_a_column_with_the_name_of_a_new_label_is_an_error_and_nothing_is_written(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,late,broken,slow\na b,1,0,3\nc d,0,1,4\n")
    with pytest.raises(DataError, match="would have the name of another column"):
        migrate(OLD, NEW, [path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_that_are_too_long_are_carried_over_or_nothing_is_written(tmp_path):
    old = Taxonomy.from_dict({**OLD.to_dict(), "data": {"max_row_mb": 1}})
    long_text = "ab " * (1 << 19)
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a b", "labels": ["late"]}\n' + json.dumps({"text": long_text, "labels": ["late"]})
    )
    report = migrate(old, NEW, [path], tmp_path / "out").files[0]
    assert [bad.number for bad in report.refused] == [2]
    assert (tmp_path / "out/rows.jsonl").read_text() == path.read_text().replace("late", "slow", 1)
    path = tmp_path / "rows.csv"
    path.write_text(f"text,labels\na b,late\n{long_text},late\n")
    with pytest.raises(DataError, match="row 2: line 3: longer than 1 MB"):
        migrate(old, NEW, [path], tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_objects_of_labels_and_lists_as_numpy_prints_them_stay_what_they_were(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,labels\na,['late' 'card']\nb,['broken' 'refund']\nc,[]\n")
    migrate(OLD, NEW, [path], tmp_path / "out")
    assert (tmp_path / "out/rows.csv").read_text() == path.read_text().replace("late", "slow")
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"text": "a", "cats": {"late": 1.0, "card": 0.0, "refund": 0.0}}\n'
        '{"text": "b", "cats": {"late": 0.0, "card": 1.0, "refund": 0.0}}\n'
    )
    migrate(OLD, NEW, [path], tmp_path / "out")
    found = (tmp_path / "out/rows.jsonl").read_text().splitlines()
    assert found[0] == '{"text": "a", "cats": {"slow": 1.0, "card": 0.0, "refund": 0.0}}'
    assert json.loads(found[1])["cats"]["card"] == 1.0


def test_tables_without_a_header_and_the_line_of_excel_stay_what_they_are(tmp_path):
    rows = "".join(f"{text};{'#'.join(labels) or 'none'}\n" for text, labels in ROWS)
    (tmp_path / "bare.csv").write_text(rows)
    report = migrated(tmp_path / "bare.csv")
    assert Path(report.out).read_text() == rows.replace("late", "slow")
    (tmp_path / "told.csv").write_text(f"sep=;\ntext;labels\n{rows}")
    report = migrated(tmp_path / "told.csv")
    assert Path(report.out).read_text() == f"sep=;\ntext;labels\n{rows}".replace("late", "slow")


def test_rows_inside_of_a_document_become_lines(tmp_path):
    rows = [{"text": text, "labels": labels} for text, labels in ROWS]
    (tmp_path / "a.json").write_text(json.dumps({"version": 2, "data": rows}, indent=1))
    report = migrated(tmp_path / "a.json")
    assert Path(report.out).name == "a.jsonl"
    assert "written as a.jsonl" in report.notes[0]

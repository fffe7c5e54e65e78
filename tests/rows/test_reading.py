from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import DataError, suggestion
from cascade.rows.files import STANDARD_INPUT
from cascade.rows.reading import read_all, read_rows
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import BadRow, Row, refusal_line, summarise_bad
from cascade.rows.slices import SlicedFile, read_slice
from cascade.rows.writing import labelled_row

PLAIN = Columns()


class KnownNames:
    """A small taxonomy: names, and aliases that mean one of them."""

    def __init__(self, *names, **aliases):
        self._known = {name: name for name in names} | aliases

    def resolve(self, name):
        return self._known.get(name)

    def suggest(self, name):
        return suggestion(name, self._known)

    def spellings(self):
        return self._known

    def is_below(self, name, group):
        return False


NAMES = KnownNames("late", "broken", "refund", "billing", "1", overdue="late")


@pytest.fixture
def written(tmp_path):
    """A function that writes a file of text or bytes and gives its path."""

    def write(name, content):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def as_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def rows_of(path, columns=PLAIN, names=None):
    found = list(read_rows(path, columns, names))
    assert all(isinstance(row, Row) for row in found), found
    return found


def only_bad(path, columns=PLAIN, names=None):
    found = list(read_rows(path, columns, names))
    assert [type(row) for row in found] == [BadRow], found
    return found[0]


def labels_of(path, columns=PLAIN, names=NAMES):
    return [row.labels for row in rows_of(path, columns, names)]


def texts_of(path, columns=PLAIN, names=None):
    return [row.text for row in rows_of(path, columns, names)]


# Formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"id": "x", "text": "hi", "labels": "late"}\n'),
        ("a.ndjson", '{"id": "x", "text": "hi", "labels": "late"}'),
        ("a.json", '{"id": "x", "text": "hi", "labels": "late"}\r\n'),
        ("a.JSONL.GZ", '{"id": "x", "text": "hi", "labels": "late"}\n'),
        ("a.b.csv", "id,text,labels\nx,hi,late\n"),
        ("a.CSV", "id;text;labels\r\nx;hi;late\r\n"),
        ("a.csv.gz", "id|text|labels\nx|hi|late"),
        ("a.tsv", "id\ttext\tlabels\nx\thi\tlate\n"),
        ("a.tsv.gz", "id\ttext\tlabels\nx\thi\tlate\n"),
    ],
)
def test_every_text_format_gives_the_same_row(written, name, content):
    path = written(name.lower() if name.endswith("GZ") else name, content)
    source = {"id": "x", "text": "hi", "labels": "late"}
    assert rows_of(path, PLAIN, NAMES) == [Row(1, "x", "hi", ("late",), source, str(path))]


def test_upper_case_suffixes_are_known(tmp_path):
    path = tmp_path / "A.JSONL.GZ"
    path.write_bytes(gzip.compress(b'{"text": "hi"}'))
    assert texts_of(path) == ["hi"]


def test_parquet_gives_the_same_row(tmp_path):
    path = as_parquet(tmp_path / "a.parquet", id=["x"], text=["hi"], labels=["late"])
    source = {"id": "x", "text": "hi", "labels": "late"}
    assert rows_of(path, PLAIN, NAMES) == [Row(1, "x", "hi", ("late",), source, str(path))]


def test_standard_input_is_jsonl():
    code = (
        "from cascade.rows.reading import *\n"
        "for row in read_rows('-', Columns()): print(ascii((row.number, row.text, row.file)))"
    )
    given_bytes = '{"text": "é"}\n\n{"text": "b"}\n'.encode()
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        [sys.executable, "-c", code], input=given_bytes, capture_output=True, check=True, env=environment
    )
    assert done.stdout.decode().splitlines() == [
        f"(1, '\\xe9', '{STANDARD_INPUT}')",
        f"(2, 'b', '{STANDARD_INPUT}')",
    ]


@pytest.mark.parametrize(
    "name", ["rows.docx", "rows.dat", "rows", "rows.parquet.gz", "rows.gz", "rows.xlsx.bz2"]
)
def test_unknown_suffix_names_those_that_are_known(written, name):
    with pytest.raises(DataError, match=r"rows\S*: unknown kind of file; expected .*\.jsonl.*\.parquet"):
        read_rows(written(name, "x"), PLAIN)


def test_missing_file_is_refused_at_once_with_the_nearest_name(written):
    path = written("feedback.jsonl", "")
    with pytest.raises(DataError, match=r"feedbak\.jsonl: no such file\. Did you mean 'feedback\.jsonl'\?"):
        read_rows(path.with_name("feedbak.jsonl"), PLAIN)


def test_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_rows(tmp_path / "nowhere" / "a.csv", PLAIN)


def test_folder_is_refused(tmp_path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(DataError, match=r"a\.jsonl: is a folder"):
        read_rows(tmp_path / "a.jsonl", PLAIN)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "no such block", "not gzip"])
def test_damaged_gzip_is_an_error_however_late_it_shows(tmp_path, name, damage):
    lines = b"".join(b'{"text": "%d"}\n' % (number * number) for number in range(5000))
    whole = gzip.compress(lines if name == "a.jsonl.gz" else b"text\n" + lines.replace(b'"', b"'"))
    middle = len(whole) // 2
    content = {
        "cut": whole[:middle],
        "flipped": whole[:middle]
        + bytes(255 - byte for byte in whole[middle : middle + 20])
        + whole[middle + 20 :],
        "no such block": whole[:10] + b"\xff" * 20 + whole[30:],
        "not gzip": lines,
    }[damage]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.\w+\.gz: damaged gzip data: .*compress the file again"):
        list(read_rows(path, PLAIN))


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" + b"x" * 30 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_refused(written, content):
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file"):
        list(read_rows(written("a.parquet", content), PLAIN))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(b"text\nhi\n", mtime=0), "gzip"),
        (b"PK\x03\x04rest\n", "spreadsheet"),
    ],
)
def test_other_kinds_of_file_under_a_wrong_name_are_recognised(written, name, content, what):
    with pytest.raises(DataError, match=rf"{name}: looks like .*{what}"):
        list(read_rows(written(name, content), PLAIN))


def test_only_the_first_row_tells_the_kind_of_file(written):
    path = written("a.jsonl", b'{"text": "a"}\nPK\x03\x04\n[{"text": "b"}]\n')
    assert [type(row) for row in read_rows(path, PLAIN)] == [Row, BadRow, BadRow]


# Numbers and ids


def test_rows_are_numbered_without_blank_lines(written):
    path = written("a.jsonl", '\n{"text": "a"}\n  \n\r\noops\n{"text": "b"}')
    found = list(read_rows(path, PLAIN))
    assert [(row.number, type(row)) for row in found] == [(1, Row), (2, BadRow), (3, Row)]


def test_blank_lines_of_a_table_are_no_rows(written):
    path = written("a.csv", "\n\ntext,lang\n\na,en\n   \nb,en\n\n")
    assert [(row.number, row.text) for row in rows_of(path)] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("written_id", "kept"),
    [
        ('"x7"', "x7"),
        ("7", 7),
        ("0", 0),
        ("7.0", 7),
        ("null", 1),
        ('""', 1),
        ("true", 1),
        ("NaN", 1),
        ("[1]", 1),
    ],
)
def test_id_is_the_rows_own_else_its_number(written, written_id, kept):
    path = written("a.jsonl", f'{{"id": {written_id}, "text": "a"}}')
    identity = rows_of(path)[0].id
    assert (identity, type(identity)) == (kept, type(kept))


def test_ids_of_a_table_stay_as_written(written):
    path = written("a.csv", "id,text\n007,a\n,b\n1e3,c\n")
    assert [row.id for row in rows_of(path)] == ["007", 2, "1e3"]


def test_another_column_can_be_the_id(written):
    path = written("a.jsonl", '{"id": 1, "key": "k", "text": "a"}\n{"id": 1, "text": "b"}')
    assert [row.id for row in rows_of(path, Columns(id="key"))] == ["k", 2]


def test_missing_id_column_of_a_table_is_an_error(written):
    path = written("a.csv", "ident,text\n1,a\n")
    with pytest.raises(
        DataError, match=r"no column 'idents' for the id; there are 'ident', 'text'\. Did you mean 'ident'"
    ):
        list(read_rows(path, Columns(id="idents")))


def test_a_text_column_called_id_is_not_the_id(written):
    path = written("a.csv", "id,x\nhello,1\n")
    assert [(row.id, row.text) for row in rows_of(path, Columns(text="id"))] == [(1, "hello")]


# Encoding


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.jsonl", '{"text": "žluť"}\n'), ("a.csv", "text\nžluť\n"), ("a.tsv", '"text"\nžluť\n')],
)
def test_a_byte_order_mark_is_not_part_of_the_first_row(written, name, content):
    assert texts_of(written(name, b"\xef\xbb\xbf" + content.encode())) == ["žluť"]


def test_byte_order_marks_of_joined_files_are_dropped(written):
    path = written("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf{"text": "b"}\n')
    assert texts_of(path) == ["a", "b"]


def test_a_json_line_that_is_not_utf8_is_refused_alone(written):
    path = written("a.jsonl", b'{"text": "\xc3\xa9"}\n{"text": "caf\xe9"}\n{"text": "b"}\n')
    first, bad, last = read_rows(path, PLAIN)
    assert (first.text, last.text) == ("é", "b")
    assert bad == BadRow(2, None, "not UTF-8: byte 0xe9 at position 14", '{"text": "caf\\xe9"}', str(path))


def test_a_table_row_that_is_not_utf8_is_refused_alone(written):
    path = written("a.csv", b'text,x\n\xc3\xa9,1\n"caf\xe9\nau lait",2\nb,3\n')
    first, bad, last = read_rows(path, PLAIN)
    assert (first.text, last.text, last.number) == ("é", "b", 3)
    assert bad == BadRow(
        2, None, "lines 3 to 4: bytes that are not UTF-8", '"caf\\xe9\nau lait",2', str(path)
    )


def test_a_header_that_is_not_utf8_is_an_error(written):
    with pytest.raises(DataError, match=r"header cannot be read: line 1: bytes that are not UTF-8"):
        list(read_rows(written("a.csv", b"text,caf\xe9\na,\xc3\xa9\n"), PLAIN))


@pytest.mark.parametrize("line", ['{"text": "\\ud800"}', '{"text": "a \\udfff b", "id": 4}'])
def test_half_a_surrogate_pair_in_a_text_is_refused(written, line):
    bad = only_bad(written("a.jsonl", line))
    assert "surrogate" in bad.reason
    assert bad.raw == line


def test_half_a_surrogate_pair_in_an_id_is_refused(written):
    bad = only_bad(written("a.jsonl", '{"text": "a", "id": "\\ud800"}'))
    assert (bad.id, "surrogate" in bad.reason) == (None, True)
    refusal_line(bad).encode()


def test_a_whole_surrogate_pair_is_one_character(written):
    assert texts_of(written("a.jsonl", '{"text": "\\ud83d\\ude00"}')) == ["😀"]


# JSONL


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("oops", "not JSON: Expecting value at character 1"),
        ('{"text": "a"', "not JSON: .* at character 13"),
        ('{"text": "a"} {"text": "b"}', "not JSON: Extra data at character 15"),
        ("[1, 2]", "a list; expected a JSON object"),
        ('"text"', "text; expected a JSON object"),
        ("null", "null; expected a JSON object"),
        ("7", "the number 7; expected a JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": "a", "x": ' + '{"x": ' * 100_000, "nested too deeply"),
        ('{"text": "a", "x": ' + "9" * 5000 + "}", "a number with too many digits"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused_and_the_next_read(written, line, reason):
    path = written("a.jsonl", f'{line}\n{{"text": "next"}}\n')
    bad, following = read_rows(path, PLAIN)
    assert following.text == "next"
    assert (bad.number, bad.id, bad.raw, bad.file) == (1, None, line, str(path))
    with pytest.raises(AssertionError, match=f"^{reason}$"):
        raise AssertionError(bad.reason)


def test_the_last_of_equal_keys_wins(written):
    assert texts_of(written("a.jsonl", '{"text": "a", "text": "b"}')) == ["b"]


def test_not_a_number_is_a_fine_value_elsewhere(written):
    source = rows_of(written("a.jsonl", '{"text": "a", "x": NaN, "y": -Infinity}'))[0].source
    assert source["x"] != source["x"]
    assert source["y"] == float("-inf")


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}]', '[\n  {"text": "a"}\n]', '\n [ {"text": "a"},\n{"text": "b"}]']
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_one_json_array_is_read_whatever_its_name(written, name, content):
    assert texts_of(written(name, content)) == ["a", "b"][: content.count("text")]


def test_unusual_line_ends_inside_a_json_text_are_kept(written):
    assert texts_of(written("a.jsonl", '{"text": "a\u2028b\x85c\u00a0"}\n')) == ["a\u2028b\x85c\u00a0"]


def test_an_empty_jsonl_file_has_no_rows(written):
    assert list(read_rows(written("a.jsonl", ""), PLAIN)) == []


# CSV and TSV


def test_cells_stay_as_written(written):
    path = written("a.csv", "text,a,b,c,d\nNA,no,007,1.50, x \n")
    row = rows_of(path)[0]
    assert row.text == "NA"
    assert dict(row.source) == {"text": "NA", "a": "no", "b": "007", "c": "1.50", "d": " x "}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_are_read(written, end):
    assert texts_of(written("a.csv", f"text,x{end}a,1{end}b,2{end}")) == ["a", "b"]


def test_quoted_cells_may_hold_lines_quotes_and_delimiters(written):
    path = written("a.csv", 'text,x\r\n"one\r\ntwo, ""three""\n",1\r\nplain 5" disk,2\r\n')
    assert texts_of(path) == ['one\r\ntwo, "three"\n', 'plain 5" disk']


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("text,x", ","),
        ("text;x", ";"),
        ("text\tx", "\t"),
        ("text|x", "|"),
        ('"a,b,c";text;x', ";"),
        ("text", ","),
    ],
)
def test_the_header_line_tells_the_delimiter(written, header, delimiter):
    others = ",;\t|".replace(delimiter, "")
    n_columns = header.count(delimiter) + 1
    cells = delimiter.join([f"a{others}b"] * n_columns)
    assert texts_of(written("a.csv", f"{header}\n{cells}\n")) == [f"a{others}b"]


def test_a_tsv_file_is_always_split_at_tabs(written):
    assert texts_of(written("a.tsv", "text\tx,y,z,w\na,b;c\t1\n")) == ["a,b;c"]


@pytest.mark.parametrize(
    ("line", "found"),
    [("only", "1 fields"), ("a,b,c", "3 fields"), ("a,b,", "3 fields"), ('"a,b"', "1 fields")],
)
def test_a_row_with_a_wrong_number_of_fields_is_refused(written, line, found):
    path = written("a.csv", f"text,x\n{line}\nnext,1\n")
    bad, following = read_rows(path, PLAIN)
    assert following.text == "next"
    assert (bad.number, bad.id, bad.raw) == (1, None, line)
    assert bad.reason == f"{found}; the header has 2. A field with ',' in it needs quotes"


def test_enormous_fields_are_read_and_the_limit_of_others_is_left_alone(written):
    before = csv.field_size_limit(1234)
    try:
        text = "long, " * 500_000
        assert texts_of(written("a.csv", f'text,x\n"{text}",1\n')) == [text]
        assert csv.field_size_limit() == 1234
    finally:
        csv.field_size_limit(before)


def test_nul_bytes_are_text_like_any_other(written):
    assert texts_of(written("a.csv", b"text,x\na\0b,1\n")) == ["a\0b"]


def test_a_quote_that_never_closes_hands_over_all_it_swallowed(written):
    swallowed = '"b,2\nc,3\n\nd,4'
    path = written("a.csv", f"text,x\na,1\n{swallowed}\n")
    good, bad = read_rows(path, PLAIN)
    assert good.text == "a"
    assert (bad.number, bad.raw) == (2, swallowed)
    assert bad.reason == "lines 3 to 6: a quote is opened and never closed"


def test_a_stray_quote_does_not_swallow_rows_up_to_the_next_quote(written):
    path = written("a.csv", '\ntext,x\n"a,1\nb,2\n"c",3\nd,4\n')
    bad, following = read_rows(path, PLAIN)
    assert bad.raw == '"a,1\nb,2\n"c",3'
    assert bad.reason.startswith("lines 3 to 5: a closing quote in the middle of a field")
    assert (following.text, following.number) == ("d", 2)


def test_a_stray_quote_in_one_line_names_the_line(written):
    bad, following = read_rows(written("a.csv", 'text,x\n"Great" thing,1\nb,2\n'), PLAIN)
    assert bad.reason.startswith("line 2: a closing quote")
    assert following.text == "b"


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_table_is_an_error(written, content):
    with pytest.raises(DataError, match=r"a\.csv: is empty; expected a header"):
        list(read_rows(written("a.csv", content), PLAIN))


def test_a_header_alone_is_a_table_without_rows(written):
    assert list(read_rows(written("a.csv", "text,labels\n"), PLAIN, NAMES)) == []


@pytest.mark.parametrize("header", ["text,x,text", "text,x, text"])
def test_equal_column_names_are_an_error(written, header):
    with pytest.raises(DataError, match=r"columns 1 and 3 are both named 'text'"):
        list(read_rows(written("a.csv", f"{header}\na,b,c\n"), PLAIN))


def test_a_quote_that_never_closes_in_the_header_is_an_error(written):
    with pytest.raises(
        DataError, match="header cannot be read: lines 1 to 3: a quote is opened and never closed"
    ):
        list(read_rows(written("a.csv", '"text,x\na,1\nb,2\n'), PLAIN))


def test_blanks_around_column_names_are_dropped(written):
    assert texts_of(written("a.csv", "x, text \n1, a \n")) == [" a "]


def test_a_table_of_one_column_keeps_empty_and_blank_texts(written):
    assert texts_of(written("a.csv", 'text\n""\n  \n\na\n')) == ["", "  ", "a"]


# Text


def test_the_named_text_column_is_taken(written):
    path = written("a.jsonl", '{"text": "no", "body": "yes"}')
    assert texts_of(path, Columns(text="body")) == ["yes"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_the_one_column_left_over_is_the_text(written, name):
    content = (
        "id,comment,labels\n7,hi,late\n" if name == "a.csv" else '{"id":7,"comment":"hi","labels":"late"}'
    )
    row = rows_of(written(name, content), PLAIN, NAMES)[0]
    assert (row.text, row.labels) == ("hi", ("late",))


@pytest.mark.parametrize("column", ["comment", "Message", " Body ", "Kundenstimme"])
def test_without_labels_a_usual_name_or_the_only_column_is_the_text(written, column):
    assert texts_of(written("a.jsonl", json.dumps({column: "hi"}))) == ["hi"]
    assert texts_of(written("a.csv", f"{column}\nhi\n")) == ["hi"]


def test_without_labels_no_column_is_guessed_among_several_unusual_ones(written):
    assert "no column 'text'" in only_bad(written("a.jsonl", '{"a": "hi", "b": "ho"}')).reason
    with pytest.raises(DataError, match=r"no column 'text'"):
        list(read_rows(written("a.csv", "a,b,c\nhi,ho,he\n"), PLAIN))


def test_two_columns_left_over_are_no_text(written):
    with pytest.raises(
        DataError,
        match=r"no column 'text' for the text; there are 'foo', 'texd', 'labels'. Did you mean 'texd'",
    ):
        list(read_rows(written("a.csv", "foo,texd,labels\na,b,late\n"), PLAIN, NAMES))


def test_an_index_column_of_pandas_is_never_the_text(written):
    assert texts_of(written("a.csv", ",comment,late\n0,hi,1\n"), PLAIN, NAMES) == ["hi"]


def test_the_first_row_settles_which_column_of_jsonl_holds_the_text(written):
    path = written("a.jsonl", '{"text": "a", "labels": []}\n{"note": "not a text", "labels": []}\n')
    good, bad = read_rows(path, PLAIN, NAMES)
    assert good.text == "a"
    assert bad.reason == "no column 'text' for the text; there are 'note', 'labels'."


def test_a_refused_row_settles_nothing(written):
    path = written("a.jsonl", '{"nothing": 1}\n{"text": "a", "labels": []}\n')
    bad, good = read_rows(path, PLAIN, NAMES)
    assert (type(bad), good.text) == (BadRow, "a")


def test_a_missing_text_column_of_a_table_is_an_error_with_a_way_out(written):
    message = (
        "no column 'txt' for the text; there are 'id', 'text'. Did you mean 'text'\\? The taxonomy can say"
    )
    with pytest.raises(DataError, match=message):
        list(read_rows(written("a.csv", "id,text\n1,a\n"), Columns(text="txt")))


def test_the_columns_of_a_broad_table_are_listed_in_part(written):
    header = ",".join(f"c{number}" for number in range(50))
    with pytest.raises(DataError, match="'c18', 'c19' and 30 more"):
        list(read_rows(written("a.csv", header), PLAIN))


def test_a_missing_text_is_the_fault_of_a_json_row_alone(written):
    path = written("a.jsonl", '{"id": "q", "txt": "a"}\n{"text": "b"}\n{}\n')
    first, good, last = read_rows(path, PLAIN)
    assert good.text == "b"
    assert (first.id, first.reason) == (
        "q",
        "no column 'text' for the text; there are 'id', 'txt'. Did you mean 'txt'?",
    )
    assert (last.id, last.reason, last.raw) == (
        3,
        "no column 'text' for the text; there are no columns.",
        "{}",
    )


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("null", "null"),
        ("7", "the number 7"),
        ("NaN", "the number nan"),
        ("true", "true or false"),
        ('["a"]', "a list"),
        ("{}", "an object"),
        ("9" * 200, "a number"),
    ],
)
def test_a_text_that_is_not_text_is_refused(written, value, kind):
    bad = only_bad(written("a.jsonl", f'{{"text": {value}}}'))
    assert bad.reason == f"column 'text' holds {kind}; expected text"


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_empty_text_is_a_row(written, name):
    assert texts_of(written(name, "text,x\n,1\n" if name == "a.csv" else '{"text": ""}')) == [""]


# Labels


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ('["late", "broken"]', ("late", "broken")),
        ('["broken", "late", "overdue", "broken"]', ("broken", "late")),
        ('"late"', ("late",)),
        ('" broken ;; late;"', ("broken", "late")),
        ('["overdue"]', ("late",)),
        ('["billing"]', ("billing",)),
        ('[["late"], ["broken"]]', ("late", "broken")),
        ('[{"name": "late"}]', ("late",)),
        ('{"late": 1, "broken": false, "refund": "yes"}', ("late", "refund")),
        ('{"choices": ["late", "broken"]}', ("late", "broken")),
        ('"NONE"', ()),
        ('["n/a"]', ()),
        ('"LATE"', ("late",)),
        ('[1, "late"]', ("1", "late")),
        ("1", ("1",)),
        ("[1.0]", ("1",)),
        ("[]", ()),
        ('""', ()),
        ('" ; "', ()),
        ("null", ()),
        ("NaN", ()),
    ],
)
def test_a_column_of_labels(written, value, labels):
    assert labels_of(written("a.jsonl", f'{{"text": "a", "labels": {value}}}')) == [labels]


def test_a_json_row_without_labels_has_none(written):
    assert labels_of(written("a.jsonl", '{"text": "a"}')) == [()]
    assert labels_of(written("b.jsonl", '{"text": "a"}'), Columns(labels="tags")) == [()]


def test_the_named_label_column_is_taken(written):
    path = written("a.jsonl", '{"text": "a", "labels": ["late"], "tags": ["broken"]}')
    assert labels_of(path, Columns(labels="tags")) == [("broken",)]


def test_another_delimiter(written):
    path = written("a.csv", "text;labels\na;late, broken\n")
    assert labels_of(path, Columns(delimiter=",")) == [("late", "broken")]


@pytest.mark.parametrize("cell", ['"[""late"", ""broken""]"', "late;broken", "' late ; broken '"])
def test_cells_hold_json_lists_or_delimited_names(written, cell):
    path = written("a.csv", f"text,labels\na,{cell.strip(chr(39))}\n")
    assert labels_of(path) == [("late", "broken")]


def test_numbers_in_a_cell_are_names(written):
    assert labels_of(written("a.csv", "text,labels\na,1\nb,[1]\n")) == [("1",), ("1",)]


@pytest.mark.parametrize(
    "cell",
    [
        "['late'; 'broken']",
        "['late' 'broken']",
        "[late; broken]",
        "[late, broken]",
        "('late', 'broken')",
        "['late',\n 'broken']",
        "array(['late', 'broken'], dtype=object)",
        "[np.str_('late'), np.str_('broken')]",
        "{'late': 1, 'broken': True, 'refund': 0}",
    ],
)
def test_lists_as_python_and_numpy_print_them(written, cell):
    path = written("a.csv", f'text,labels\na,"{cell}"\n')
    assert labels_of(path) == [("late", "broken")]


def test_a_list_with_an_unknown_name_is_a_bad_row_rather_than_no_label(written):
    bad = only_bad(written("a.csv", "text,labels\na,['lat']\n"), PLAIN, NAMES)
    assert bad.reason.startswith("unknown label 'lat'.")


def test_a_name_in_brackets_can_be_a_label(written):
    assert labels_of(written("a.csv", "text,labels\na,[other]\n"), PLAIN, KnownNames("[other]")) == [
        ("[other]",)
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_an_unknown_label_is_refused_with_a_suggestion(written, name):
    content = (
        "id,text,labels\nx,a,lat\n" if name == "a.csv" else '{"id": "x", "text": "a", "labels": ["lat"]}'
    )
    bad = only_bad(written(name, content), PLAIN, NAMES)
    assert bad.reason == "unknown label 'lat'. Did you mean 'late'?"
    assert (bad.id, bad.raw) == ("x", content.splitlines()[-1])


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[7]", "unknown label '7'."),
        ("[1.5]", "a label is the number 1.5; expected a name"),
        ("[true]", "a label is true or false; expected a name"),
        ("[null]", "a label is null; expected a name"),
        ("[[1]]", "a label is a list; expected a name"),
        ('[{"x": "late"}]', "a label is an object; expected a name"),
        ("8", "column 'labels' holds the number 8; expected a list of labels, or text with ';' between them"),
        ('{"late": "maybe"}', "label 'late' has text; expected 0 or 1"),
        ('["\\ud800"]', "unknown label '\\ud800'."),
        ('["late", "' + "x" * 5000 + '"]', "unknown label '" + "x" * 80 + "…'."),
    ],
)
def test_labels_of_a_wrong_type_are_refused(written, value, reason):
    assert only_bad(written("a.jsonl", f'{{"text": "a", "labels": {value}}}'), PLAIN, NAMES).reason == reason


def test_suggestions_are_rationed_but_refusals_are_not(written):
    asked = []

    class Counting(KnownNames):
        def suggest(self, name):
            asked.append(name)
            return " Did you mean it?"

    lines = [f'{{"text": "a", "labels": ["no {number % 1000}"]}}' for number in range(3000)]
    found = list(read_rows(written("a.jsonl", "\n".join(lines)), PLAIN, Counting("late")))
    assert len(found) == 3000
    assert found[0].reason == found[1000].reason == "unknown label 'no 0'. Did you mean it?"
    assert found[999].reason == "unknown label 'no 999'."
    assert len(asked) == len(set(asked)) < 500


def test_no_name_near_an_endless_one_is_looked_for(written):
    class Short(KnownNames):
        def suggest(self, name):
            assert len(name) < 1000, "comparing this takes minutes"
            return super().suggest(name)

    lines = [f'{{"text": "a", "labels": ["{"x" * length}"]}}' for length in (5000, 4)]
    found = list(read_rows(written("a.jsonl", "\n".join(lines)), PLAIN, Short("late", "xxx")))
    assert found[1].reason == "unknown label 'xxxx'. Did you mean 'xxx'?"


def test_labels_are_left_alone_when_nobody_asks_for_them(written):
    assert rows_of(written("a.jsonl", '{"text": "a", "labels": 7}'))[0].labels == ()
    assert rows_of(written("a.csv", "text\na\n"), Columns(labels=("nope",)))[0].labels == ()
    assert rows_of(written("b.csv", "text\na\n"), Columns(labels="nope"))[0].labels == ()


def test_an_empty_delimiter_is_refused_at_once(written):
    with pytest.raises(DataError, match="delimiter of labels is empty"):
        read_rows(written("a.jsonl", ""), Columns(delimiter=""))


# 0/1 columns


@pytest.mark.parametrize("columns", [PLAIN, Columns(labels=("late", "broken")), Columns(text="text")])
def test_columns_named_like_labels_are_0_or_1(written, columns):
    path = written("a.csv", "text,late,broken\nthis is a sample,0,1\nb,1,1\nc,,0\n")
    assert labels_of(path, columns) == [("broken",), ("late", "broken"), ()]


@pytest.mark.parametrize("cell", ["1", "1.0", "true", "TRUE", "True", " 1 "])
def test_yes_in_a_cell(written, cell):
    assert labels_of(written("a.csv", f"text,late\na,{cell}\n")) == [("late",)]


@pytest.mark.parametrize("cell", ["0", "0.0", "false", "FALSE", "", " "])
def test_no_in_a_cell(written, cell):
    assert labels_of(written("a.csv", f"text,late\na,{cell}\n")) == [()]


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("1", ("late",)),
        ("1.0", ("late",)),
        ("true", ("late",)),
        ('"1"', ("late",)),
        ("0", ()),
        ("false", ()),
        ("null", ()),
        ("NaN", ()),
    ],
)
def test_flags_in_json(written, value, labels):
    assert labels_of(written("a.jsonl", f'{{"text": "a", "late": {value}}}')) == [labels]


def test_absent_flags_are_0_in_json(written):
    path = written("a.jsonl", '{"text": "a", "broken": 1}\n{"text": "b", "late": 1}')
    assert labels_of(path, Columns(labels=("late", "broken"))) == [("broken",), ("late",)]


@pytest.mark.parametrize(
    ("value", "found"),
    [("2", "the number 2"), ('"maybe"', "'maybe'"), ("0.5", "the number 0.5"), ("[7]", "a list")],
)
def test_a_flag_of_another_value_is_refused_with_its_column(written, value, found):
    path = written("a.jsonl", f'{{"text": "a", "broken": 0, "late": {value}}}')
    assert only_bad(path, PLAIN, NAMES).reason == f"column 'late' holds {found}; expected 0 or 1"


def test_flag_columns_may_have_the_names_of_aliases(written):
    path = written("a.csv", "text,overdue,late\na,1,1\nb,1,0\nc,0,0\n")
    assert labels_of(path, Columns(labels=("overdue", "late"))) == [("late",), ("late",), ()]
    assert labels_of(path) == [("late",), ("late",), ()]


def test_an_unknown_flag_column_is_refused_at_once(written):
    columns = Columns(labels=("late", "brokn"), labels_are="flags")
    with pytest.raises(DataError, match=r"unknown label 'brokn'\. Did you mean 'broken'\?"):
        read_rows(written("a.jsonl", ""), columns, NAMES)
    with pytest.raises(DataError, match=r"no reading .*\n.*unknown label 'brokn'\. Did you mean 'broken'\?"):
        list(read_rows(written("a.csv", "text,late,brokn\na,0,1\n"), Columns(labels=columns.labels), NAMES))


def test_a_missing_flag_column_of_a_table_is_an_error(written):
    path = written("a.csv", "text,late\na,1\n")
    with pytest.raises(DataError, match=r"no column 'broken' for the labels; there are 'text', 'late'"):
        list(read_rows(path, Columns(labels=("late", "broken")), NAMES))


def test_a_missing_label_column_of_a_table_is_an_error(written):
    with pytest.raises(
        DataError, match=r"no column 'tag' for the labels; there are 'text', 'tags'. Did you mean 'tags'"
    ):
        list(read_rows(written("a.csv", "text,tags\na,late\n"), Columns(labels="tag"), NAMES))


def test_a_table_without_any_labels_is_an_error_where_labels_are_wanted(written):
    with pytest.raises(DataError, match=r"no column of labels: expected one named 'labels', or 0/1 columns"):
        list(read_rows(written("a.csv", "id,text\n1,a\n"), PLAIN, NAMES))


def test_a_column_of_labels_goes_before_columns_named_like_labels(written):
    assert labels_of(written("a.csv", "text,late,labels\na,monthly,broken\n")) == [("broken",)]


def test_text_and_id_are_not_taken_for_labels_of_the_same_name(written):
    path = written("a.csv", "id,text,late\nx,hello,1\n")
    assert labels_of(path, PLAIN, KnownNames("id", "text", "late")) == [("late",)]
    assert labels_of(path, Columns(text="text", id="id"), KnownNames("id", "text", "late")) == [("late",)]


# Parquet


def test_parquet_columns_of_all_string_types(tmp_path):
    types = [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
    for number, kind in enumerate(types):
        path = tmp_path / f"{number}.parquet"
        as_parquet(
            path,
            text=pa.array(["a", ""], pa.string()).cast(kind),
            labels=pa.array(["late;broken", None]).cast(kind),
        )
        assert texts_of(path, PLAIN, NAMES) == ["a", ""]
        assert labels_of(path) == [("late", "broken"), ()]


def test_parquet_lists_of_labels(tmp_path):
    path = as_parquet(
        tmp_path / "a.parquet", text=["a", "b", "c"], labels=[["late", "1"], [], None], n=[1, 2, None]
    )
    assert labels_of(path) == [("late", "1"), (), ()]
    assert [row.source["n"] for row in rows_of(path, PLAIN, NAMES)] == [1, 2, None]


def test_parquet_flags_of_all_types(tmp_path):
    path = as_parquet(
        tmp_path / "a.parquet", text=["a", "b"], late=[True, False], broken=[0.0, 1.0], refund=[1, None]
    )
    assert labels_of(path) == [("late", "refund"), ("broken",)]


def test_lists_that_were_printed_into_parquet_cells_are_read(tmp_path):
    path = as_parquet(tmp_path / "a.parquet", text=["a"], labels=['["late"]'])
    assert labels_of(path) == [("late",)]


def test_a_refused_parquet_row_is_handed_over_as_json(tmp_path):
    path = as_parquet(
        tmp_path / "a.parquet", id=[4, 5], text=["é", None], labels=[["lat"], []], data=[b"x", b"y"]
    )
    unknown, empty = read_rows(path, PLAIN, NAMES)
    assert unknown.reason == "unknown label 'lat'. Did you mean 'late'?"
    assert (unknown.id, unknown.number) == (4, 1)
    assert "é" in unknown.raw
    assert json.loads(unknown.raw) == {"id": 4, "text": "é", "labels": ["lat"], "data": "b'x'"}
    assert (empty.id, empty.reason) == (5, "column 'text' holds null; expected text")


def test_whole_numbers_that_pandas_made_floats_are_ids(tmp_path):
    path = as_parquet(tmp_path / "a.parquet", id=[7.0, float("nan"), None], text=["a", "b", "c"])
    assert [repr(row.id) for row in rows_of(path)] == ["7", "2", "3"]


def wrong_utf8(values, kind):
    _, offsets, data = pa.array(values, pa.binary()).buffers()
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets, data]).cast(kind)


def test_parquet_rows_with_unreadable_cells_are_refused_alone(tmp_path):
    texts = wrong_utf8([b"a", b"caf\xe9", b"c", b"d"], pa.string())
    lists = pa.ListArray.from_arrays(
        [0, 1, 2, 4, 5], wrong_utf8([b"a", b"b", b"\xff", b"d", b"e"], pa.string())
    )
    when = pa.array([0, 0, 0, 9 * 10**17], pa.timestamp("us"))
    path = as_parquet(tmp_path / "a.parquet", text=texts, x=lists, when=when)
    good, text, element, date = read_rows(path, PLAIN)
    assert good.text == "a"
    assert [bad.number for bad in (text, element, date)] == [2, 3, 4]
    assert "column 'text' cannot be read" in text.reason
    assert json.loads(text.raw)["text"] == "caf\\xe9"
    assert json.loads(element.raw)["x"] == ["\\xff", "d"]
    assert json.loads(date.raw)["when"].startswith("30489-11-11")


def test_equal_parquet_column_names_are_an_error(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"columns 1 and 2 are both named 'text'"):
        list(read_rows(tmp_path / "a.parquet", PLAIN))


def test_a_missing_parquet_column_is_an_error(tmp_path):
    path = as_parquet(tmp_path / "a.parquet", a=["a"], texd=["b"], c=["c"])
    with pytest.raises(
        DataError, match=r"no column 'text' for the text; there are 'a'.* Did you mean 'texd'"
    ):
        list(read_rows(path, PLAIN))


def test_parquet_rows_are_numbered_through_all_batches(tmp_path):
    texts = [str(number) for number in range(2500)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=700)
    assert [(row.number, row.text) for row in rows_of(path)] == list(enumerate(texts, start=1))


# Slices


def sliced(path, most_rows, most_bytes=1 << 20, columns=PLAIN):
    """The rows of each slice, read last slice first."""
    source = SlicedFile(path, columns, most_rows, most_bytes, keeps_columns=True)
    reading, parts = source.reading.reading, list(source)
    backwards = [list(read_slice(path, reading, 64, part, str(path))) for part in reversed(parts)]
    return backwards[::-1]


def bare(row):
    return row._replace(source={}) if isinstance(row, Row) else row


ANY_LINES = st.lists(
    st.sampled_from(
        [
            b'{"text": "a"}',
            b'{"id": "x", "text": "\xc3\xa9"}',
            b"oops",
            b"",
            b" ",
            b"\t\r",
            b"\x0b\x0c",
            b"\xef\xbb\xbf",
            b'\xef\xbb\xbf{"text": "b"}',
            b' {"text": "c"} ',
            b"\xff",
            b"\xc2\xa0",
        ]
    ),
    max_size=12,
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    lines=ANY_LINES, ending=st.sampled_from([b"\n", b"\r\n"]), is_ended=st.booleans(), most=st.integers(1, 5)
)
def test_slices_of_any_lines_are_the_whole_file(lines, ending, is_ended, most):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(ending.join(lines) + (ending if is_ended else b""))
        rows = list(read_rows(path, PLAIN))
        parts = sliced(path, most)
    assert [row for part in parts for row in part] == rows
    assert all(len(part) == most for part in parts[:-1])
    assert len(parts) == -(-len(rows) // most)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.parquet"])
@pytest.mark.parametrize("most_rows", [1, 3, 7, 100])
def test_slices_of_every_format_are_the_whole_file(tmp_path, name, most_rows):
    write_rows(tmp_path / name, [(f"text {number}", []) for number in range(20)])
    parts = sliced(tmp_path / name, most_rows)
    assert [bare(row) for part in parts for row in part] == [
        bare(row) for row in read_rows(tmp_path / name, PLAIN)
    ]
    assert [len(part) for part in parts[:-1]] == [most_rows] * (len(parts) - 1)


def test_slices_of_parquet_cross_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [str(number) for number in range(100)]}), path, row_group_size=9)
    assert [[row.number for row in part] for part in sliced(path, 25)] == [
        list(range(start + 1, start + 26)) for start in range(0, 100, 25)
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_slices_of_long_rows_are_short(tmp_path, name):
    rows = [(os.urandom(200_000).hex(), []) for _ in range(12)]
    write_rows(tmp_path / name, rows)
    parts = sliced(tmp_path / name, 1000, 1_000_000)
    assert [row.text for part in parts for row in part] == [text for text, _ in rows]
    assert max(map(len, parts)) <= 5


def test_blocks_of_a_long_file_are_cut_at_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(f'{{"id": {number}, "text": "{"x" * (number % 97)}"}}\n\n' for number in range(60_000))
    )
    parts = sliced(path, 7000, 1 << 30)
    assert [row.number for part in parts for row in part] == list(range(1, 60_001))
    assert [len(part) for part in parts] == [7000] * 8 + [4000]


def test_columns_of_an_empty_parquet_file_are_checked(tmp_path):
    nothing = pa.array([], pa.string())
    path = as_parquet(tmp_path / "a.parquet", a=nothing, b=nothing, c=nothing)
    with pytest.raises(DataError, match="no column 'text' for the text"):
        sliced(path, 10)


def test_file_that_became_shorter_is_an_error(written):
    path = written("a.jsonl", '{"text": "a"}\n' * 9)
    parts = list(SlicedFile(path, PLAIN, 5, 1000))
    os.truncate(path, 100)
    with pytest.raises(DataError, match="became shorter while it was read"):
        list(read_slice(path, Reading(), 64, parts[-1], "a.jsonl"))


def test_refused_rows_of_a_slice_are_told_under_the_name_that_was_given(written):
    path = written("a.jsonl", "oops\n")
    (part,) = SlicedFile(path, PLAIN, 5, 1000)
    assert [bad.file for bad in read_slice(path, Reading(), 64, part, "data/a.jsonl")] == ["data/a.jsonl"]


# Several files, reports


def test_several_files_are_read_one_after_the_other(written):
    paths = [
        written("a.jsonl", '{"text": "a", "labels": "late"}\noops\n'),
        written("b.csv", "text,late\nb,1\nc,7\n"),
    ]
    rows, refused, readings = read_all(paths, PLAIN, NAMES)
    assert [one.reading.labels_are for one in readings] == ["names", "flags"]
    assert [(row.text, row.number, row.file) for row in rows] == [
        ("a", 1, str(paths[0])),
        ("b", 1, str(paths[1])),
    ]
    assert [(bad.number, bad.file) for bad in refused] == [(2, str(paths[0])), (2, str(paths[1]))]


def test_a_refusal_is_one_line_of_json():
    line = refusal_line(BadRow(7, "é", "why", 'raw\n"row" \u2028', "a.csv"))
    assert "\n" not in line
    assert json.loads(line) == {
        "file": "a.csv",
        "row": 7,
        "id": "é",
        "reason": "why",
        "raw": 'raw\n"row" \u2028',
    }


def test_the_summary_ends_with_a_count_of_the_rest():
    refused = [BadRow(number, None, "why", "", "a.csv") for number in range(1, 26)]
    lines = summarise_bad(refused).splitlines()
    assert lines[0] == "a.csv row 1: why"
    assert lines[19:] == ["a.csv row 20: why", "... and 5 more"]
    assert summarise_bad(refused[:20]).splitlines()[-1] == "a.csv row 20: why"
    assert summarise_bad(refused[:3], limit=1) == "a.csv row 1: why\n... and 2 more"
    assert summarise_bad([]) == ""


def test_a_strange_file_name_can_be_written_to_a_report(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    path.write_text("oops")
    refusal_line(only_bad(path)).encode()


# Properties

ANY_ROWS = st.lists(
    st.tuples(st.text(), st.lists(st.text(min_size=1), unique=True, max_size=4)), min_size=1, max_size=8
)


def write_table(path, rows, delimiter):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerow(["labels", "text"])
        writer.writerows([json.dumps(labels), text] for text, labels in rows)


def write_rows(path, rows):
    plain = path.with_suffix("") if path.suffix == ".gz" else path
    if plain.suffix == ".parquet":
        texts, labels = zip(*rows, strict=True)
        as_parquet(plain, text=pa.array(texts), labels=pa.array(labels, pa.list_(pa.string())))
    elif plain.suffix == ".jsonl":
        lines = [
            json.dumps({"text": text, "labels": labels}, ensure_ascii=False) + "\n" for text, labels in rows
        ]
        plain.write_bytes("".join(lines).encode())
    else:
        write_table(plain, rows, "\t" if plain.suffix == ".tsv" else ",")
    if plain != path:
        path.write_bytes(gzip.compress(plain.read_bytes()))


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz", "a.csv.gz"])
@settings(deadline=None, derandomize=True)
@given(rows=ANY_ROWS)
def test_any_rows_read_back_as_they_were_written(name, rows):
    names = KnownNames(*(label for _, labels in rows for label in labels))
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        write_rows(path, rows)
        found = rows_of(path, PLAIN, names)
    assert [(row.text, list(row.labels)) for row in found] == rows
    assert [row.number for row in found] == list(range(1, len(rows) + 1))


SOUND_JSONL = "".join(
    json.dumps({"id": number, "text": f"Grüße, {number}", "labels": ["late"] * (number % 2)}) + "\n"
    for number in range(6)
).encode()
SOUND_CSV = 'id,text,labels\n1,"a ""b"", c",late\n2,žluť,\n3,"two\nlines",late;broken\n4,plain,\n'.encode()
DAMAGE = st.lists(
    st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 3)), min_size=1, max_size=6
)


def damaged(content, damage):
    for where, new, n_removed in damage:
        start = int(where * len(content))
        content = content[:start] + new + content[start + n_removed :]
    return content


@settings(deadline=None, derandomize=True, max_examples=300)
@given(damage=DAMAGE)
def test_damaged_jsonl_loses_no_line(damage):
    content = damaged(SOUND_JSONL, damage)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        path.write_bytes(content)
        try:
            found = list(read_rows(path, PLAIN, NAMES))
        except DataError:
            assert content.lstrip()[:1] in (b"[", b"\x1f", b"\xff", b"\xfe", b"P")
            return
    lines = [line for line in content.split(b"\n") if line.removeprefix(b"\xef\xbb\xbf").strip()]
    assert [row.number for row in found] == list(range(1, len(lines) + 1))
    for row, line in zip(found, lines, strict=True):
        kept = row.raw if isinstance(row, BadRow) else row.text
        assert kept.isascii() or kept.encode()
        if isinstance(row, BadRow) and line.isascii():
            assert row.raw.strip() == line.decode().strip()


@settings(deadline=None, derandomize=True, max_examples=300)
@given(damage=DAMAGE)
def test_damaged_csv_loses_no_text(damage):
    head, body = SOUND_CSV.split(b"\n", 1)
    content = head + b"\n" + damaged(body, damage)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        path.write_bytes(content)
        found = list(read_rows(path, PLAIN, NAMES))
    kept = "".join(row.raw if isinstance(row, BadRow) else "".join(row.source.values()) for row in found)
    letters = "".join(
        chr(byte) for byte in content.removeprefix(head) if chr(byte).isascii() and chr(byte).isalnum()
    )
    remaining = iter(kept)
    assert all(letter in remaining for letter in letters), (letters, kept)


# Memory and patience


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    ("name", "start"),
    [("a.jsonl", b'{"text": "first"}\n{"text": "sec'), ("a.csv", b"text,x\nfirst,1\nsecond,2\nthi")],
)
def test_the_first_row_of_an_endless_stream_comes_at_once(tmp_path, name, start):
    path = tmp_path / name
    os.mkfifo(path)
    is_read = threading.Event()

    def write():
        with path.open("wb", buffering=0) as stream:
            stream.write(start)
            is_read.wait(30)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        rows = read_rows(path, PLAIN)
        assert next(rows).text == "first"
        assert not is_read.is_set()
        rows.close()
    finally:
        is_read.set()
        writer.join()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    line = b'{"text": "%s"}\n' % (b"x" * 2000)
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b"text\n" if name == "a.csv.gz" else b"")
        for _ in range(20_000):
            stream.write(line)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_rows(path, PLAIN)) == 20_000
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4_000_000


def test_memory_does_not_grow_with_a_parquet_row_group(tmp_path):
    texts = [f"{number} " + os.urandom(500).hex() for number in range(40_000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": texts}), path, row_group_size=len(texts), compression="none")
    held_bytes = max(pa.total_allocated_bytes() for row in read_rows(path, PLAIN) if row.number % 500 == 0)
    assert path.stat().st_size > 40_000_000
    assert held_bytes < 20_000_000


def test_no_heavy_library_is_loaded_to_read_text_files(written):
    path = written("a.csv", "text\na\n")
    code = (
        "import sys; from cascade.rows.reading import *; "
        f"print(len(list(read_rows({str(path)!r}, Columns()))), "
        "'pyarrow' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.split() == ["1", "False", "False"]


# Rows to be written


@pytest.mark.parametrize(
    "columns",
    [
        PLAIN,
        Columns(text="message", labels="tags", id="ticket"),
        Columns(text="id", id="number"),
        Columns(labels=("overdue", "refund", "broken")),
    ],
)
@given(
    text=st.text(st.characters(codec="utf-8")),
    identity=st.one_of(st.integers(), st.text(st.characters(codec="utf-8"), min_size=1)),
    labels=st.lists(st.sampled_from(["late", "refund", "broken"]), unique=True),
)
def test_a_row_that_was_written_is_read_again(columns, text, identity, labels):
    row = labelled_row(columns, NAMES, identity, text, labels)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text(json.dumps(row) + "\n", "utf-8")
        [found] = rows_of(path, columns, NAMES)
    assert (found.id, found.text, set(found.labels)) == (identity, text, set(labels))


def test_a_label_without_a_column_of_its_own_is_not_lost():
    columns = Columns(labels=("overdue", "refund"))
    with pytest.raises(DataError, match=r"'broken'.*0/1 columns, and none for it"):
        labelled_row(columns, NAMES, 1, "in pieces", ["late", "broken"])

from __future__ import annotations

import gzip
import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.errors import DataError, TaxonomyError
from cascade.rows.reading import read_rows
from cascade.rows.readings import Columns
from cascade.rows.row import BadRow, Row
from cascade.rows.slices import SlicedFile, read_slice
from cascade.taxonomy.definition import Taxonomy

SMALL = Columns(text="text", max_row_mb=1)
MB = 1 << 20


def read(path, columns=SMALL):
    return list(read_rows(path, columns))


def read_in_slices(path):
    source = SlicedFile(path, SMALL, most_rows=2, most_bytes=100)
    reading, most = source.reading.reading, SMALL.max_row_mb
    return [row for part in source for row in read_slice(path, reading, most, part, str(path))]


def told(rows):
    """Texts of rows that can be used, reasons of others, by number."""
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.text if isinstance(row, Row) else row.reason for row in rows]


def line(text):
    return json.dumps({"text": text}).encode() + b"\n"


LONG = "longer than 1 MB. A larger `max_row_mb` under `data:` in the taxonomy would admit it"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_line_of_json_that_is_too_long_is_refused_alone(tmp_path, name, end):
    path = tmp_path / name
    long_line = line("x" * 5 * MB)[:-1]
    content = (
        long_line + b"\n" + line("one") + b"\n" + line("two") + long_line + b"\n" + line("three") + long_line
    )
    path.write_bytes(gzip.compress(content + end) if name.endswith("gz") else content + end)
    expected = [LONG, "one", "two", LONG, "three", LONG]
    rows = read(path)
    assert told(rows) == expected
    assert rows[0].raw == '{"text": "' + "x" * 990
    assert told(read_in_slices(path)) == expected


def test_just_the_largest_row_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    room = MB - len(line(""))
    path.write_bytes(line("x" * room) + line("x" * (room + 1)) + b" " * (MB + 1) + b"\n" + line("one"))
    for rows in (read(path), read_in_slices(path)):
        assert told(rows) == ["x" * room, LONG, LONG, "one"]
    assert told(read(path, Columns(text="text", max_row_mb=2)))[:2] == ["x" * room, "x" * (room + 1)]


def test_a_row_of_gigabytes_is_never_held_whole(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(b'{"text": "')
        for _ in range(200):
            out.write(b"x" * MB)
        out.write(b'"}\n' + line("one"))
    tracemalloc.start()
    try:
        assert told(read(path)) == [LONG, "one"]
        assert tracemalloc.get_traced_memory()[1] < 10 * MB
    finally:
        tracemalloc.stop()


def test_an_element_of_an_array_that_is_too_long_is_an_error(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + line("x" * 2 * MB)[:-1] + b"]")
    for read_it in (read, read_in_slices):
        with pytest.raises(DataError, match=r"a\.json:1: not a JSON array of rows: longer than 1 MB"):
            read_it(path)


HELD_OPEN = LONG.replace(".", ", with a quote that is opened and never closed.", 1)


def test_a_quote_that_is_never_closed_takes_its_own_line_and_no_other(tmp_path):
    path = tmp_path / "a.csv"
    rest = [f"row number {number}" for number in range(100_000)]
    path.write_text("\n".join(["text", "one", '"two', *rest, '"quoted\ntext"', ""]))
    rows = read(path)
    assert told(rows) == ["one", f"line 3: {HELD_OPEN}", *rest, "quoted\ntext"]
    assert rows[1].raw == '"two'
    assert told(read_in_slices(path)) == told(rows)


def test_a_line_of_a_table_that_is_too_long_is_refused_alone(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text,id\none,1\n" + "x" * 3 * MB + ",2\ntwo,3\n" + "x" * 3 * MB)
    rows = read(path)
    assert told(rows) == ["one", f"line 3: {LONG}", "two", f"line 5: {LONG}"]
    assert rows[1].raw == "x" * 1000


def test_a_header_that_is_too_long_is_an_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\n\n" + "x" * 3 * MB + "\none\n")
    with pytest.raises(DataError, match=r"a\.csv: the header is longer than a row may be"):
        read(path)


def test_a_parquet_cell_that_is_too_long_is_refused_alone(tmp_path):
    path = tmp_path / "a.parquet"
    texts = ["one", "x" * 2 * MB, None, "two"]
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "text": texts}), path)
    rows = read(path)
    assert told(rows) == ["one", LONG, rows[2].reason, "two"]
    assert isinstance(rows[2], BadRow)
    assert told(read_in_slices(path)) == told(rows)


def test_the_taxonomy_tells_how_large_a_row_may_be():
    def data(size):
        return {"name": "t", "labels": ["a"], "data": {"train": "a.jsonl", "max_row_mb": size}}

    taxonomy = Taxonomy.from_dict(data(200))
    assert taxonomy.data.max_row_mb == 200
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy
    for size in (0, -1, 1.5, 1025, "64", True):
        with pytest.raises(TaxonomyError, match=r"data\.max_row_mb is .*; expected a whole number from 1"):
            Taxonomy.from_dict(data(size))

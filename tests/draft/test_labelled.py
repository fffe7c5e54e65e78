"""Labels are found in rows however they are written, and are read the same by the keys of the draft."""

from __future__ import annotations

import csv
import json
import random

import pytest
import xlsxwriter

from cascade.draft.drafting import Request, draft
from cascade.draft.label_cells import delimiter_of, names_in
from cascade.draft.labelled import Asked, read_labelled
from cascade.errors import DataError
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy

GROUP = {"refund": "money", "charge": "money", "late": "goods", "broken": "goods", "rude": "staff"}
WORDS = ["where", "is", "my", "parcel", "again", "please", "answer", "today", "box", "card"]


def rows_of_labels(most=3, least=0):
    """(text, labels) of sixty rows."""
    random_ = random.Random(3)
    for number in range(60):
        own = random_.sample(list(GROUP), random_.randint(least, most))
        yield " ".join([*random_.choices(WORDS, k=5), f"n{number}"]), own


ROWS = list(rows_of_labels())
SINGLE = list(rows_of_labels(1, 1))


def table(path, header, rows, delimiter=",", encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def joined(mark, none=""):
    return lambda path: table(path, ("text", "label"), [(t, mark.join(own) or none) for t, own in ROWS])


def listed(write):
    return lambda path: table(path, ("comment", "topics"), [(t, write(own)) for t, own in ROWS])


def flags(yes, no):
    def write(path):
        cells = [(text, *(yes if name in own else no for name in GROUP)) for text, own in ROWS]
        table(path, ("message", *GROUP), cells)

    return write


def several(path):
    padded = [(text, *own, *["NONE"] * (3 - len(own))) for text, own in ROWS]
    table(path, ("text", "label 1", "label 2", "label 3"), padded)


def workbook(path):
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Feedback")
        for down, row in enumerate([("comment", "topics"), *((t, "; ".join(own)) for t, own in ROWS)]):
            sheet.write_row(down, 0, row)


def chat(path):
    lines(
        path,
        (
            {
                "messages": [
                    {"role": "system", "content": "Name the topics."},
                    {"role": "user", "content": text},
                    {"role": "assistant", "content": ", ".join(own)},
                ]
            }
            for text, own in ROWS
        ),
    )


def prompts(path):
    lines(
        path,
        (
            {"prompt": f"{text}\n\n###\n\n", "completion": f" {', '.join(own) or 'none'} END"}
            for text, own in ROWS
        ),
    )


FORMS = {
    "semicolon.csv": joined(";"),
    "comma and blank.csv": joined(", "),
    "hash.csv": joined("#", "-"),
    "bar.csv": joined("|"),
    "line break.csv": joined("\n", "none"),
    "json.csv": listed(json.dumps),
    "python.csv": listed(repr),
    "brackets.csv": listed(lambda own: f"[{', '.join(own)}]"),
    "lists.jsonl": lambda path: lines(path, ({"text": text, "labels": own} for text, own in ROWS)),
    "objects.jsonl": lambda path: lines(
        path, ({"text": text, "labels": {name: name in own for name in GROUP}} for text, own in ROWS)
    ),
    "array.json": lambda path: path.write_text(
        json.dumps([{"text": text, "labels": own} for text, own in ROWS]), "utf-8"
    ),
    "numbers.csv": flags("1", "0"),
    "words.csv": flags("yes", "no"),
    "crosses.csv": flags("x", ""),
    "several.csv": several,
    "utf16.csv": lambda path: table(
        path, ("text", "label"), [(t, ";".join(own)) for t, own in ROWS], "\t", "utf-16"
    ),
    "book.xlsx": workbook,
    "chat.jsonl": chat,
    "prompts.jsonl": prompts,
}


@pytest.mark.parametrize("name", FORMS)
def test_labels_are_found_however_they_are_written(tmp_path, name):
    FORMS[name](tmp_path / name)
    found = read_labelled(tmp_path / name, Asked())
    assert [row.text for row in found.rows] == [text for text, _ in ROWS]
    assert [{path for (path,) in own} for own in found.paths] == [set(own) for _, own in ROWS]


@pytest.mark.parametrize("name", FORMS)
def test_what_is_drafted_reads_its_own_rows_as_they_were_understood(tmp_path, name):
    FORMS[name](tmp_path / name)
    drafted = draft(Request(tmp_path / name, tmp_path / "taxonomy.yaml"))
    drafted.write()
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    files = [*taxonomy.data.files("train"), *taxonomy.data.files("test")]
    read = read_all(files, Columns.of(taxonomy.data), taxonomy)
    assert read.refused == []
    assert {row.text: set(row.labels) for row in read.rows} == {text: set(own) for text, own in ROWS}


PATHS = {
    "arrows.csv": lambda path: table(
        path, ("text", "label"), [(t, f"{GROUP[one]} > {one}") for t, (one,) in SINGLE]
    ),
    "slashes.csv": lambda path: table(
        path, ("text", "label"), [(t, f"{GROUP[one]}/{one}") for t, (one,) in SINGLE]
    ),
    "bars.csv": lambda path: table(
        path, ("text", "label"), [(t, f"{GROUP[one]}|{one}") for t, (one,) in SINGLE]
    ),
    "levels.csv": lambda path: table(
        path, ("text", "level_1", "level_2"), [(t, GROUP[one], one) for t, (one,) in SINGLE]
    ),
    "several paths.csv": lambda path: table(
        path, ("text", "label"), [(t, "; ".join(f"{GROUP[one]} > {one}" for one in own)) for t, own in ROWS]
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_of_rows_are_the_groups_of_the_draft_and_are_read_by_it(tmp_path, name):
    PATHS[name](tmp_path / name)
    draft(Request(tmp_path / name, tmp_path / "taxonomy.yaml")).write()
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert {label: taxonomy.graph.parents[label] for label in GROUP} == {
        one: (group,) for one, group in GROUP.items()
    }
    files = [*taxonomy.data.files("train"), *taxonomy.data.files("test")]
    read = read_all(files, Columns.of(taxonomy.data), taxonomy)
    truth = ROWS if name.startswith("several") else SINGLE
    assert read.refused == []
    assert {row.text: set(row.labels) for row in read.rows} == {text: set(own) for text, own in truth}


def test_the_same_last_name_in_two_groups_is_read_by_its_path(tmp_path):
    def other(name):
        return "other" if name in ("charge", "broken") else name

    table(
        tmp_path / "rows.csv", ("text", "label"), [(t, f"{GROUP[one]}/{other(one)}") for t, (one,) in SINGLE]
    )
    draft(Request(tmp_path / "rows.csv", tmp_path / "taxonomy.yaml")).write()
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert {"money/other", "goods/other"} <= set(taxonomy.labels)
    read = read_all(taxonomy.data.files("train"), Columns.of(taxonomy.data), taxonomy)
    truth = {text: f"{GROUP[one]}/{other(one)}" for text, (one,) in SINGLE}
    assert {row.text: row.labels for row in read.rows} == {row.text: (truth[row.text],) for row in read.rows}


def test_a_group_and_a_label_in_it_of_one_name_are_told_apart(tmp_path):
    table(tmp_path / "labels.csv", ("group", "label"), [("billing", "billing"), ("billing", "refund")])
    draft(Request(tmp_path / "labels.csv", tmp_path / "taxonomy.yaml")).write()
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert set(taxonomy.labels) == {"billing/billing", "billing/refund"}


def test_a_label_below_two_groups_is_one_where_names_are_paths(tmp_path):
    text = "id,name,parent_id\n1,money,\n2,goods,\n3,refund,1\n3,refund,2\n4,other,1\n5,other,2\n"
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    draft(Request(tmp_path / "labels.csv", tmp_path / "taxonomy.yaml")).write()
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert set(taxonomy.labels) == {"money/refund", "money/other", "goods/other"}
    assert taxonomy.graph.parents["money/refund"] == ("money", "goods")


@pytest.mark.parametrize(
    ("header", "asked", "message"),
    [
        (("text", "a", "b"), Asked(), r"no column is plainly that of the labels; there are 'text', 'a', 'b'"),
        (
            ("text", "a", "b"),
            Asked(labels=("c",)),
            r"no column 'c' for the labels; there are 'text', 'a', 'b'",
        ),
        (("text", "a", "b"), Asked(text="c"), r"no column 'c' for the text"),
    ],
)
def test_columns_that_cannot_be_told_are_named(tmp_path, header, asked, message):
    table(tmp_path / "rows.csv", header, [(f"say {n}", f"p{n % 3}", f"q{n % 5}") for n in range(30)])
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path / "rows.csv", asked)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a;b", ["a", "b"]),
        ('["a", "b;c"]', ["a", "b;c"]),
        ("['a' 'b']", ["a", "b"]),
        (["a", 7, None], ["a", "7"]),
        ([["money", "refund"]], [("money", "refund")]),
        ({"a": 1, "b": 0}, ["a"]),
        ({"choices": ["a", "b"]}, ["a", "b"]),
        (None, []),
        (float("nan"), []),
        ("n/a", []),
    ],
)
def test_names_in_a_cell(cell, names):
    assert names_in(cell, ";") == names


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["a#b", "a", "b#c", "c"], "#"),
        (["a|b", "b|a", "a"], "|"),
        (["goods|late", "goods|broken", "money|refund"], None),
        (["Arts, Culture, Religion", "Law, crime"], None),
        (["a", "b"], None),
        (["a;b"], ";"),
    ],
)
def test_the_mark_between_labels_is_one_whose_parts_stand_elsewhere_too(cells, mark):
    assert delimiter_of(cells) == mark

"""Files as tools and people write them: each is read by the one reading that fits its taxonomy."""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import zipfile
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import SHARED

from cascade.errors import DataError
from cascade.rows.reading import read_all, read_rows
from cascade.rows.readings import Columns, Reading
from cascade.rows.row import BadRow
from cascade.taxonomy.definition import Taxonomy

SHOP = Taxonomy.from_dict(
    {
        "name": "shop",
        "groups": {
            "money": {
                "labels": ["refund", "card fee", {"name": "double_charge", "aliases": ["charged twice"]}]
            },
            "goods": {"labels": ["late", "broken", "Größe"]},
        },
    }
)
PATHS = Taxonomy.from_dict(
    {
        "name": "paths",
        "names": "path",
        "groups": {"money": {"labels": ["refund", "other"]}, "goods": {"labels": ["late", "other"]}},
    }
)
TEXTS = [
    "it came a week too late",
    "where is my money",
    "late, and in pieces",
    "what are your hours",
    "a crack in it",
]
LABELS = [("late",), ("refund",), ("late", "broken"), (), ("broken",)]


def labels_in(path, taxonomy=SHOP, **told):
    rows, refused, _ = read_all([path], Columns(**told), taxonomy)
    assert refused == []
    return [row.labels for row in rows]


def reading_of(path, taxonomy=SHOP, **told):
    return read_rows(path, Columns(**told), taxonomy).reading


def csv_text(header, rows, delimiter=","):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows([header, *rows])
    return out.getvalue()


@pytest.fixture
def written(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


# What a cell holds


@pytest.mark.parametrize("between", [";", ",", "|", "#", "/", "\n", "\t", "&", " ; ", " , ", " # "])
def test_names_may_have_any_usual_mark_between_them(written, between):
    rows = zip(TEXTS, map(between.join, LABELS), strict=True)
    path = written("a.csv", csv_text(["text", "topic"], rows))
    assert labels_in(path) == LABELS
    assert reading_of(path).reading.delimiter == (between.strip() or between)


@pytest.mark.parametrize("between", ["/", " > ", ">", "::", "|", " -> ", " → ", ": ", " - ", "."])
def test_paths_may_have_any_usual_separator(written, between):
    groups = {"late": "goods", "broken": "goods", "refund": "money"}
    cells = [";".join(f"{groups[name]}{between}{name}" for name in names) for names in LABELS]
    path = written("a.csv", csv_text(["text", "labels"], zip(TEXTS, cells, strict=True)))
    assert labels_in(path) == LABELS
    assert reading_of(path).reading.path_separator.strip() == between.strip()


@pytest.mark.parametrize(
    "shown",
    [json.dumps, str, lambda names: f"[{', '.join(names)}]", lambda names: str(names).replace(",", "")],
)
def test_lists_in_cells_as_json_python_numpy_and_bare(written, shown):
    cells = [shown(list(names)) for names in LABELS]
    path = written("a.csv", csv_text(["text", "labels"], zip(TEXTS, cells, strict=True)))
    assert labels_in(path) == LABELS


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("LATE", "late"),
        ("Card Fee", "card fee"),
        ("card_fee", "card fee"),
        ("card-fee", "card fee"),
        ("  card   fee ", "card fee"),
        ("Charged Twice", "double_charge"),
        ("Gro\u0308\u00dfe", "Größe"),
        ("GRÖSSE", "Größe"),
        ("Gr&ouml;&szlig;e", "Größe"),
        ("Double&nbsp;charge", "double_charge"),
    ],
)
def test_names_count_however_they_are_written(written, name, label):
    assert labels_in(written("a.jsonl", json.dumps({"text": "a", "labels": [name]}))) == [(label,)]


def test_two_names_that_differ_in_case_alone_are_told_apart(written):
    taxonomy = Taxonomy.from_dict({"name": "a", "groups": {"g": {"labels": ["us", "US"]}}})
    path = written("a.jsonl", '{"text": "a", "labels": ["us", "US"]}\n{"text": "b", "labels": ["Us"]}')
    first, bad = read_rows(path, None, taxonomy)
    assert first.labels == ("us", "US")
    assert bad.reason.startswith("unknown label 'Us'")


@pytest.mark.parametrize(
    "word", ["NONE", "none", "n/a", "N/A", "null", "-", "--", "NaN", "", "No label", "[]"]
)
def test_words_for_none_are_no_label(written, word):
    path = written("a.csv", csv_text(["text", "labels"], [["a", word], ["b", "late"]]))
    assert labels_in(path) == [(), ("late",)]


def test_a_label_called_none_is_a_label(written):
    taxonomy = Taxonomy.from_dict({"name": "a", "groups": {"g": {"labels": ["none", "late"]}}})
    assert labels_in(written("a.csv", "text,labels\na,none\nb,NONE\nc,-\n"), taxonomy) == [
        ("none",),
        ("none",),
        (),
    ]


# Which columns hold what


@pytest.mark.parametrize(
    "text", ["text", "Comment", " MESSAGE ", "utterance", "Body", "review", "Kundenmeinung"]
)
@pytest.mark.parametrize(
    "label", ["label", "Labels", " Category", "topic", "Intent", "tags", "Grund der Meldung"]
)
def test_columns_of_any_name(written, text, label):
    cells = (";".join(names) for names in LABELS)
    rows = zip(["T-1", "T-2", "T-3", "T-4", "T-5"], TEXTS, cells, ["web"] * 5, strict=True)
    path = written("a.csv", csv_text(["ticket", text, label, "source"], rows))
    rows, refused, [found] = read_all([path], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])
    assert found.is_guessed or (text, label) == ("text", "Labels")


def test_title_and_body_are_one_text(written):
    path = written(
        "a.jsonl", '{"Title": "Late", "Body": "by a week", "tag": "late"}\n{"Title": "", "Body": "x"}'
    )
    rows, _, [found] = read_all([path], None, SHOP)
    assert [row.text for row in rows] == ["Late\nby a week", "x"]
    assert found.reading.text == ("Title", "Body")


@pytest.mark.parametrize(
    "names", [("label1", "label2", "label3"), ("Label A", "Label B", "Label C"), ("a", "b", "x")]
)
def test_several_columns_of_names(written, names):
    cells = [[*labels, *["NONE"] * 3][:2] for labels in LABELS]
    rows = [[text, first, second, "n/a"] for text, (first, second) in zip(TEXTS, cells, strict=True)]
    assert labels_in(written("a.csv", csv_text(["text", *names], rows))) == LABELS


def test_numbered_columns_belong_together_whatever_stands_in_them(written):
    rows = [["a", "late", "broken"], ["b", "broken", "late"], ["c", "", "late"], ["d", "late", "late"]]
    path = written("a.csv", csv_text(["text", "topic 1", "topic 2"], rows))
    assert labels_in(path) == [("late", "broken"), ("broken", "late"), ("late",), ("late",)]


def test_columns_of_two_facets_hold_the_labels_together(written):
    rows = [["a", "refund", "late"], ["b", "-", "broken"], ["c", "card fee", "-"]]
    path = written("a.csv", csv_text(["text", "about money", "about goods"], rows))
    assert labels_in(path) == [("refund", "late"), ("broken",), ("card fee",)]


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1.0", "0.0"), ("yes", "no"), ("TRUE", "FALSE"), ("x", ""), ("+", "-"), ("Y", "N")],
)
def test_a_column_for_each_label(written, yes, no):
    header = ["text", "Late", "broken", "refund", "agent id"]
    rows = [
        [text, *(yes if name in labels else no for name in ("late", "broken", "refund")), 7]
        for text, labels in zip(TEXTS, LABELS, strict=True)
    ]
    path = written("a.csv", csv_text(header, rows))
    assert labels_in(path) == LABELS
    assert reading_of(path).reading.labels_are == "flags"


def test_columns_of_dummies_as_pandas_names_them(tmp_path):
    frame = pd.DataFrame({"text": TEXTS, "topic": [names[0] if names else None for names in LABELS]})
    pd.get_dummies(frame, columns=["topic"]).to_csv(tmp_path / "a.csv", index=False)
    assert labels_in(tmp_path / "a.csv") == [names[:1] for names in LABELS]


def test_labels_that_are_numbers(tmp_path):
    taxonomy = Taxonomy.from_dict({"name": "n", "groups": {"g": {"labels": ["1", "2", "30"]}}})
    frame = pd.DataFrame({"text": ["a", "b", "c"], "label": [1, None, 30]})
    for name, write in (("a.csv", frame.to_csv), ("a.parquet", frame.to_parquet), ("a.xlsx", frame.to_excel)):
        write(tmp_path / name, index=False)
        assert labels_in(tmp_path / name, taxonomy) == [("1",), (), ("30",)]


@pytest.mark.parametrize("last", ["late", "goods > late", "goods/late"])
def test_a_column_for_each_level(written, last):
    rows = [
        ["a", "goods", last],
        ["b", "money", "-"],
        ["c", "", ""],
        ["d", "goods", last.replace("late", "broken")],
    ]
    path = written("a.csv", csv_text(["text", "Category", "Subcategory"], rows))
    assert labels_in(path) == [("late",), ("money",), (), ("broken",)]
    assert reading_of(path).reading.labels_are == "levels"


def test_levels_tell_apart_what_a_last_name_cannot(written):
    rows = [["a", "goods", "other"], ["b", "money", "Other"], ["c", "goods", "late"]]
    path = written("a.csv", csv_text(["text", "level 1", "level 2"], rows))
    assert labels_in(path, PATHS) == [("goods/other",), ("money/other",), ("goods/late",)]


@pytest.mark.parametrize("name", ["money > other", "money/other", "Money::Other", "money | other"])
def test_paths_are_names_where_the_taxonomy_says_so(written, name):
    path = written("a.csv", csv_text(["text", "labels"], [["a", name], ["b", "late"]]))
    assert labels_in(path, PATHS) == [("money/other",), ("goods/late",)]


def test_an_object_of_label_to_0_or_1(written):
    path = written(
        "a.jsonl", '{"text": "a", "cats": {"late": 1.0, "broken": 0.0}}\n{"text": "b", "cats": {}}'
    )
    assert labels_in(path) == [("late",), ()]


# Files of tools


def chat(text, answer, system="Name the topics."):
    said = [("system", system), ("user", text), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


@pytest.mark.parametrize(
    "shown", [", ".join, "\n".join, json.dumps, lambda names: json.dumps({"labels": names})]
)
def test_chats_of_fine_tunes(written, shown):
    lines = (
        json.dumps(chat(text, shown(names))) for text, names in zip(TEXTS, map(list, LABELS), strict=True)
    )
    rows, refused, [found] = read_all([written("a.jsonl", "\n".join(lines))], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])
    assert found.reading.format == "chat"


@pytest.mark.parametrize("prompt_end", ["\n\n###\n\n", " ->", "\nTopics:"])
@pytest.mark.parametrize("completion_end", [" END", "\n", "###", ""])
@pytest.mark.parametrize("shown", [", ".join, "\n".join, json.dumps])
def test_prompts_and_completions_of_fine_tunes(written, prompt_end, completion_end, shown):
    pairs = zip(TEXTS, map(list, LABELS), strict=True)
    rows = [
        {"prompt": text + prompt_end, "completion": f" {shown(names)}{completion_end}"}
        for text, names in pairs
    ]
    path = written("a.jsonl", "\n".join(map(json.dumps, rows)))
    found, refused, _ = read_all([path], None, SHOP)
    assert ([row.text for row in found], [row.labels for row in found], refused) == (TEXTS, LABELS, [])


def test_one_prompt_ends_as_those_of_training_did(written):
    rows = [{"prompt": f"{text} ->", "completion": " late"} for text in TEXTS]
    kept = reading_of(written("a.jsonl", "\n".join(map(json.dumps, rows)))).reading
    [row] = read_rows(written("b.jsonl", json.dumps({"prompt": "where is it ->"})), None, None, [kept])
    assert row.text == "where is it"
    [row] = read_rows(written("c.jsonl", json.dumps({"prompt": "where is it"})), None, None, [kept])
    assert row.text == "where is it"


def test_text_that_ends_alike_is_left_whole(written):
    rows = [{"prompt": f"{text}.", "completion": " late"} for text in TEXTS]
    [first, *_] = read_rows(written("a.jsonl", "\n".join(map(json.dumps, rows))), None, SHOP)
    assert first.text == f"{TEXTS[0]}."


def test_lines_of_fasttext(written):
    lines = (
        "".join(f"__label__{name} " for name in names) + text
        for text, names in zip(TEXTS, LABELS, strict=True)
    )
    rows, refused, _ = read_all([written("a.txt", "\n".join(lines))], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])


def test_fasttext_may_begin_with_rows_without_labels(written):
    lines = ["x;y z", "x;y z", "x;y z", f"__label__{LABELS[0][0]} {TEXTS[0]}"]
    rows, refused, _ = read_all([written("a.txt", "\n".join(lines))], None, SHOP)
    assert [row.text for row in rows] == ["x;y z", "x;y z", "x;y z", TEXTS[0]]
    assert [row.labels for row in rows] == [(), (), (), LABELS[0][:1]]
    assert refused == []


def test_a_table_stays_one_though_a_text_looks_like_fasttext(written):
    lines = ["text,labels", f"{TEXTS[0]},{LABELS[0][0]}", f"__label__x is what I typed,{LABELS[0][0]}"]
    rows, refused, _ = read_all([written("a.csv", "\n".join(lines))], None, SHOP)
    assert [row.text for row in rows] == [TEXTS[0], "__label__x is what I typed"]
    assert refused == []


def test_label_studio_tasks_and_their_short_form(written):
    def task(text, names, **about):
        result = [{"type": "choices", "from_name": "topic", "value": {"choices": list(names)}}]
        return {"data": {"message": text}, "annotations": [{"result": result, **about}]}

    tasks = [task(text, names) for text, names in zip(TEXTS, LABELS, strict=True)]
    tasks[0]["annotations"].insert(0, {"was_cancelled": True, "result": []})
    path = written("export.json", json.dumps(tasks))
    rows, refused, [found] = read_all([path], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])
    assert found.reading.format == "label_studio"
    short = [
        {"id": 1, "message": "a", "topic": "late"},
        {"id": 2, "message": "b", "topic": {"choices": ["late", "broken"]}},
        {"id": 3, "message": "c", "topic": [["goods", "late"]]},
    ]
    assert labels_in(written("min.json", json.dumps(short))) == [("late",), ("late", "broken"), ("late",)]


def test_of_several_answers_the_ground_truth_counts_else_the_newest(written):
    def answer(name, **about):
        return {"result": [{"value": {"choices": [name]}}], **about}

    old, new = answer("late", updated_at="2026-01-01"), answer("broken", updated_at="2026-02-01")
    truth = answer("refund", updated_at="2025-01-01", ground_truth=True)
    tasks = [
        {"data": {"text": "a"}, "annotations": [old, new]},
        {"data": {"text": "b"}, "annotations": [new, truth, old]},
    ]
    assert labels_in(written("a.json", json.dumps(tasks))) == [("broken",), ("refund",)]


def test_a_task_that_nobody_answered_is_refused_alone(written):
    tasks = [
        {"data": {"text": "a"}, "annotations": [{"result": [{"value": {"choices": ["late"]}}]}]},
        {"data": {"text": "b"}, "annotations": []},
    ]
    first, bad = read_rows(written("a.json", json.dumps(tasks)), None, SHOP)
    assert first.labels == ("late",)
    assert bad.reason == "nobody has answered this task"


def test_doccano_spacy_prodigy_and_argilla(written):
    doccano = (
        '{"id": 1, "data": "it came late", "label": ["late"]}\n{"id": 2, "data": "in pieces", "label": []}'
    )
    assert labels_in(written("doccano.jsonl", doccano)) == [("late",), ()]
    prodigy = [
        {"text": "a", "options": [{"id": "late"}], "accept": ["late"], "answer": "accept"},
        {"text": "b", "accept": [], "answer": "accept"},
        {"text": "c", "accept": ["late"], "answer": "ignore"},
    ]
    path = written("prodigy.jsonl", "\n".join(map(json.dumps, prodigy)))
    rows, [ignored], _ = read_all([path], None, SHOP)
    assert [row.labels for row in rows] == [("late",), ()]
    assert "'ignore'" in ignored.reason
    old = '{"text": "a", "annotation": ["late"], "prediction": null}\n{"text": "b", "annotation": []}'
    assert labels_in(written("argilla1.jsonl", old)) == [("late",), ()]
    answers = {"topic": [{"user_id": "u", "value": ["late", "broken"], "status": "submitted"}]}
    new = json.dumps({"fields": {"text": "a"}, "responses": answers})
    assert labels_in(written("argilla2.jsonl", new)) == [("late", "broken")]


def a_dataset(folder, texts, numbers, names, rows_a_file=2):
    """A folder as the library datasets saves it."""
    folder.mkdir()
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": feature}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    schema = pa.schema([("text", pa.string()), ("label", pa.list_(pa.int64()))], metadata=about)
    files = []
    for start in range(0, len(texts), rows_a_file):
        part = slice(start, start + rows_a_file)
        files.append(f"data-{start:05}.arrow")
        with pa.OSFile(str(folder / files[-1]), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            stream.write_table(pa.table([texts[part], numbers[part]], schema=schema))
    state = {"_data_files": [{"filename": name} for name in files], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def test_a_folder_of_the_library_datasets(tmp_path):
    names = ["broken", "late", "refund"]
    numbers = [[names.index(name) for name in labels] for labels in LABELS]
    a_dataset(tmp_path / "saved", TEXTS, numbers, names)
    assert labels_in(tmp_path / "saved") == LABELS
    (tmp_path / "dict").mkdir()
    a_dataset(tmp_path / "dict" / "train", TEXTS, numbers, names)
    (tmp_path / "dict" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(DataError, match=r"holds 'train'; name one of them, such as '.*train'"):
        list(read_rows(tmp_path / "dict"))
    (tmp_path / "saved" / "state.json").write_text('{"_data_files": [{"filename": "../../etc/passwd"}]}')
    with pytest.raises(DataError, match="names files outside of the folder"):
        list(read_rows(tmp_path / "saved"))


# Encodings, compression, dialects

GERMAN = "Kommentar;Thema\nDie Größe stimmt nicht für mich;Größe\nzu spät;late\n"


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", None),
        ("utf-8-sig", None),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("cp1252", "cp1252"),
    ],
)
def test_text_in_any_usual_encoding(written, encoding, told):
    path = written("a.csv", GERMAN.encode(encoding))
    rows, refused, [found] = read_all([path], None, SHOP)
    assert [row.text for row in rows] == ["Die Größe stimmt nicht für mich", "zu spät"]
    assert ([row.labels for row in rows], refused) == ([("Größe",), ("late",)], [])
    assert found.reading.encoding == told
    assert (told is None) or f"encoded in {told}" in found.describe()
    lines = '{"text": "zu spät", "labels": ["Größe"]}\n'.encode(encoding)
    assert labels_in(written("a.jsonl", lines)) == [("Größe",)]


def test_the_first_byte_above_ascii_may_come_late(written):
    lines = ["text;labels", *["a b c;late"] * 200_000, "zu spät;Größe", ""]
    path = written("a.csv", "\n".join(lines).encode("cp1252"))
    *_, last = read_rows(path, None, SHOP)
    assert (last.text, last.labels) == ("zu spät", ("Größe",))


def test_bytes_that_an_encoding_does_not_have_cost_their_row_alone(written):
    path = written("a.csv", b"text;labels\nzu sp\xe4t;late\nodd \x81 byte;late\nfine;late\n")
    rows, [bad], _ = read_all([path], Columns(encoding="cp1252"), SHOP)
    assert [row.text for row in rows] == ["zu spät", "fine"]
    assert "bytes that are not UTF-8" in bad.reason


def zipped(content, *names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zip", "a.zip", "a.csv.zst"])
def test_files_in_any_usual_compression(tmp_path, name):
    content = "text,topic\nzu spät,late\nkaputt,broken\n".encode()
    path = tmp_path / name
    if name.endswith(".zst"):
        with pa.CompressedOutputStream(pa.OSFile(str(path), "wb"), "zstd") as stream:
            stream.write(content)
    else:
        packed = {
            "gz": gzip.compress,
            "bz2": bz2.compress,
            "xz": lzma.compress,
            "zip": lambda b: zipped(b, "a.csv"),
        }
        path.write_bytes(packed[name.rsplit(".", 1)[1]](content))
    assert labels_in(path) == [("late",), ("broken",)]


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zip", "a.csv.zst"])
def test_damaged_archives_are_told(written, name):
    with pytest.raises(DataError, match=rf"{name}: (damaged|cannot be read|not )"):
        list(read_rows(written(name, b"no archive at all, whatever its name says")))


def test_an_archive_of_several_files_is_not_guessed_at(written):
    with pytest.raises(DataError, match=r"holds 2 files \('a\.csv', 'b\.csv'\); expected one"):
        list(read_rows(written("a.csv.zip", zipped(b"text\na\n", "a.csv", "b.csv"))))


def test_tabs_in_the_last_field_belong_to_it(written):
    path = written("a.tsv", "label\ttext\nlate\tit came\ttoo late\nbroken\tin pieces\n")
    assert [row.text for row in read_rows(path, None, SHOP)] == ["it came\ttoo late", "in pieces"]


def test_quotes_may_be_escaped_and_tabs_need_none(written):
    escaped = written("a.csv", 'text,label\n"he said \\"late\\", twice",late\n')
    assert [row.text for row in read_rows(escaped, None, SHOP)] == ['he said "late", twice']
    plain = written("a.tsv", 'label\ttext\nlate\t"Late" is what it was\nbroken\ta 5" crack\n')
    rows = read_rows(plain, None, SHOP)
    assert [row.text for row in rows] == ['"Late" is what it was', 'a 5" crack']
    assert "quotes read as they stand" in rows.reading.describe()


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}', '[{"text": "a"},]', '[{"text": "a"}] more', '[{"text" "a"}]']
)
def test_a_broken_array_is_an_error_with_its_line(written, content):
    with pytest.raises(DataError, match=r"a\.json:1: not a JSON array of rows"):
        list(read_rows(written("a.json", content)))


def test_a_long_array_is_read_piece_by_piece(written):
    texts = [f"{number} " + "x" * (number % 5000) for number in range(2000)]
    path = written("a.json", json.dumps([{"text": text} for text in texts], indent=1))
    assert [row.text for row in read_rows(path)] == texts


@pytest.mark.parametrize("orient", ["records", "columns", "index", "split", "table"])
def test_json_as_pandas_writes_it(tmp_path, orient):
    frame = pd.DataFrame({"text": TEXTS, "labels": [";".join(names) for names in LABELS]})
    frame.to_json(tmp_path / "a.json", orient=orient)
    assert labels_in(tmp_path / "a.json") == LABELS


@pytest.mark.parametrize("indent", [None, 2])
def test_rows_inside_of_one_object(written, indent):
    rows = [{"text": text, "labels": names} for text, names in zip(TEXTS, LABELS, strict=True)]
    assert labels_in(written("a.json", json.dumps({"version": 1, "data": rows}, indent=indent))) == LABELS


@pytest.mark.parametrize("content", ['{\n "a": 1\n}', '{"a": [1, 2],', "{\n"])
def test_an_object_without_rows_is_an_error(written, content):
    with pytest.raises(DataError, match=r"a\.json: (one JSON object without rows|not JSON)"):
        list(read_rows(written("a.json", content)))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("text_first", [True, False])
def test_tables_without_a_header_lose_no_row(written, name, text_first):
    pairs = [(text, ";".join(names)) for text, names in zip(TEXTS, LABELS, strict=True)]
    content = csv_text(*_head_and_rest(pairs, text_first), delimiter="," if name == "a.csv" else "\t")
    path = written(name, content)
    rows, refused, [found] = read_all([path], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])
    assert "no header" in found.describe()
    texts = list(read_rows(path, None, None, [found.reading]))
    assert [row.text for row in texts] == TEXTS
    assert read_all([path], told(found.reading), SHOP).rows == rows


def _head_and_rest(pairs, text_first):
    first, *rest = [pair if text_first else pair[::-1] for pair in pairs]
    return first, rest


def test_a_header_that_is_told_is_one(written):
    path = written("a.csv", "it is late,late\nin pieces,broken\n")
    [row] = read_rows(path, Columns(header=True), SHOP)
    assert (row.text, row.labels) == ("in pieces", ("broken",))


def test_the_line_by_which_excel_tells_the_delimiter_is_no_header(written):
    assert labels_in(written("a.csv", "sep=;\ntext;labels\na, b;late\n")) == [("late",)]


def test_numbers_are_whole_wherever_an_array_is_cut(written):
    numbers = list(range(100_000, 200_000))
    found = list(read_rows(written("a.json", "[{}, " + ", ".join(map(str, numbers)) + "]")))
    assert [bad.raw for bad in found[1:]] == list(map(str, numbers))


# Spreadsheets


def sheet(path, *sheets, merge=None):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets:
        page = book.create_sheet(name)
        for row in rows:
            page.append(row)
    if merge:
        book[sheets[0][0]].merge_cells(merge)
    book.save(path)
    return path


ROWS = [
    ["Nr", "Comment", "Topic", "On"],
    *(
        [i, t, ";".join(n), datetime.date(2026, 1, 2)]
        for i, (t, n) in enumerate(zip(TEXTS, LABELS, strict=True))
    ),
]


@pytest.mark.parametrize("name", ["a.xlsx", "a.xls", "a.ods"])
def test_spreadsheets_of_every_kind(tmp_path, name):
    path = tmp_path / name
    if name == "a.xlsx":
        sheet(path, ("Tickets", ROWS), ("Empty", []))
    elif name == "a.xls":
        import xlwt

        book = xlwt.Workbook()
        page = book.add_sheet("Tickets")
        for at, row in enumerate(ROWS):
            for column, cell in enumerate(row[:3]):
                page.write(at, column, cell)
        book.save(str(path))
    else:
        pd.DataFrame(ROWS[1:], columns=ROWS[0]).to_excel(path, index=False, engine="odf")
    rows, refused, _ = read_all([path], None, SHOP)
    assert ([row.text for row in rows], [row.labels for row in rows], refused) == (TEXTS, LABELS, [])


def test_formulas_above_the_header_and_faults_in_other_columns_do_no_harm(tmp_path):
    rows = [["=TODAY()"], ["Comment", "Topic", "Price"], ["a", "late", "#N/A"], ["b", "broken", "#REF!"]]
    assert labels_in(sheet(tmp_path / "a.xlsx", ("T", rows))) == [("late",), ("broken",)]


def test_a_title_above_the_header_and_numbers_and_dates_in_cells(tmp_path):
    rows = [
        ["Tickets of January"],
        [],
        ["Nr", "Comment", "Topic"],
        [1.0, 404, "late"],
        [2, datetime.date(2026, 1, 2), ""],
    ]
    found = list(read_rows(sheet(tmp_path / "a.xlsx", ("T", rows)), None, SHOP))
    assert [(row.text, row.labels) for row in found] == [("404", ("late",)), ("2026-01-02", ())]


def test_one_sheet_of_several_has_to_be_named(tmp_path):
    path = sheet(tmp_path / "a.xlsx", ("May", ROWS), ("June", ROWS[:3]))
    with pytest.raises(DataError, match=r"the sheets 'May', 'June' hold rows; say which .* `sheet: May`"):
        list(read_rows(path, None, SHOP))
    assert labels_in(path, sheet="June") == LABELS[:2]
    with pytest.raises(DataError, match=r"no sheet 'Juni'; there are 'May', 'June'. Did you mean 'June'"):
        list(read_rows(path, Columns(sheet="Juni"), SHOP))


def test_merged_cells_formulas_and_passwords_are_told(tmp_path):
    merged = sheet(tmp_path / "m.xlsx", ("T", ROWS), merge="C2:C4")
    with pytest.raises(DataError, match=r"sheet 'T': the cells C2:C4 are merged"):
        list(read_rows(merged, None, SHOP))
    formula = sheet(tmp_path / "f.xlsx", ("T", [["text", "label"], ["a", "late"], ["b", '=IF(1,"late","")']]))
    with pytest.raises(DataError, match=r"sheet 'T': cell B3 holds a formula without its value"):
        list(read_rows(formula, None, SHOP))
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000)
    (tmp_path / "p.xlsx").write_bytes(ole)
    with pytest.raises(DataError, match=r"p\.xlsx: (has a password|not a spreadsheet)"):
        list(read_rows(tmp_path / "p.xlsx", None, SHOP))
    (tmp_path / "e.xlsx").touch()
    with pytest.raises(DataError, match=r"e\.xlsx: is empty"):
        list(read_rows(tmp_path / "e.xlsx", None, SHOP))
    (tmp_path / "x.xlsx").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"x\.xlsx: not a spreadsheet"):
        list(read_rows(tmp_path / "x.xlsx", None, SHOP))


# What cannot be settled


def test_two_readings_that_fit_equally_are_an_error_with_a_way_out(written):
    path = written("a.csv", "text,old topic,new topic\na,late,broken\nb,broken,late\nc,refund,refund\n")
    with pytest.raises(DataError) as caught:
        list(read_rows(path, None, SHOP))
    assert str(caught.value).splitlines() == [
        f"{path}: two readings fit equally, and say different things of row 1:",
        "  labels in 'old topic', separated by ';': late",
        "  labels in 'new topic', separated by ';': broken",
        "Say in the taxonomy which it is, such as",
        "  data:",
        '    labels: "old topic"',
        '    labels_delimiter: ";"',
        "or",
        "  data:",
        '    labels: "new topic"',
        '    labels_delimiter: ";"',
    ]
    assert labels_in(path, labels="new topic") == [("broken",), ("late",), ("refund",)]


def test_flags_that_contradict_a_column_of_labels_are_an_error(written):
    with pytest.raises(DataError, match=r"two readings fit equally.*row 2:\n  labels in 'labels'.*\n  0/1"):
        list(read_rows(written("a.csv", "text,labels,late,broken\na,late,1,0\nb,late,0,1\n"), None, SHOP))
    agreeing = written("b.csv", "text,labels,late,broken\na,late,1,0\nb,broken,0,1\n")
    assert labels_in(agreeing) == [("late",), ("broken",)]


def test_where_no_reading_fits_the_nearest_are_told(written):
    path = written("a.csv", "text,topic\na,lat\nb,brokn\nc,late\n")
    with pytest.raises(DataError, match=r"no reading of its labels fits") as caught:
        list(read_rows(path, None, SHOP))
    assert "labels in 'topic', separated by ';': fits 1 of 3 rows; row 1: unknown label 'lat'" in str(
        caught.value
    )


def test_two_separators_at_once_are_told_with_the_row_of_the_file(written):
    rows = [["a", "late;broken"], ["torn"], ["b", "late;refund"], ["c", "broken, late"]]
    path = written("a.csv", csv_text(["text", "topic"], rows))
    with pytest.raises(DataError, match=r"separated by ';' in some rows and by ',' in others \(row 4"):
        list(read_rows(path, None, SHOP))


def test_a_path_with_an_empty_part_or_of_other_groups_is_refused(written):
    rows = [["a", "goods > late"], ["b", "goods > broken"], ["c", "goods > > late"], ["d", "money > late"]]
    found = list(read_rows(written("a.csv", csv_text(["text", "topic"], rows)), None, SHOP))
    assert [row.reason for row in found if isinstance(row, BadRow)] == [
        "a path with an empty part: 'goods /  / late'",
        "'late' does not stand in 'money'",
    ]
    levels = [["a", "goods", "late"], ["b", "goods", "other"], ["c", "", "other"]]
    *_, bad = read_rows(written("b.csv", csv_text(["text", "level1", "level2"], levels)), None, PATHS)
    assert "a level is empty and one below it is not" in bad.reason


def test_an_unknown_label_after_the_first_thousand_rows_is_a_bad_row(written):
    rows = [["a", "late#broken"]] * 1500 + [["b", "lat"]]
    *_, bad = read_rows(written("a.csv", csv_text(["text", "topic"], rows)), None, SHOP)
    assert (bad.number, bad.reason) == (1501, "unknown label 'lat'. Did you mean 'late'?")


# A reading is told, kept and the same again


CASES = sorted(path.parent for path in (SHARED / "cases").glob("*/t.yaml"))


@pytest.mark.skipif(not CASES, reason="needs the cases of the shared folder")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_files_as_people_have_them(case):
    taxonomy = Taxonomy.load(case / "t.yaml")
    [path] = taxonomy.data.files("train")
    if path.suffix == ".xlsx" and "sheet1.xml" not in str(zipfile.ZipFile(path).namelist()):
        pytest.skip("the shared spreadsheet lacks its sheet")
    rows, refused, [found] = read_all([path], Columns.of(taxonomy.data), taxonomy)
    counts = Counter(label for row in rows for label in row.labels)
    assert (dict(counts), refused) == (json.loads((case / "expected.json").read_text()), [])
    again = read_all([path], told(found.reading), taxonomy)
    assert [row.labels for row in again.rows] == [row.labels for row in rows]
    assert not again.readings[0].is_guessed


def told(reading):
    """What a person would write into the taxonomy after the line that was told."""
    spec = Taxonomy.from_dict({"name": "a", "data": reading.keys(), "groups": {"g": {"labels": ["x"]}}}).data
    return Columns.of(spec)


SHAPES = ("cells", "lists", "columns", "flags", "paths")


def _as_table(shape, rows, delimiter):
    if shape == "columns":
        cells = [[*names, "", "", ""][:3] for _, names in rows]
        return ["text", "label1", "label2", "label3"], cells
    if shape == "flags":
        names = ["late", "broken", "refund"]
        return ["text", *names], [[int(name in labels) for name in names] for _, labels in rows]
    groups = {"late": "goods", "broken": "goods", "refund": "money"}
    written = {
        "cells": delimiter.join,
        "lists": lambda names: json.dumps(list(names)),
        "paths": lambda names: delimiter.join(f"{groups[name]} > {name}" for name in names),
    }[shape]
    return ["text", "topic"], [[written(names)] for _, names in rows]


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=30),
            st.lists(st.sampled_from(["late", "broken", "refund"]), unique=True, max_size=3),
        ),
        min_size=1,
        max_size=8,
    ).filter(lambda rows: any(names for _, names in rows)),
    shape=st.sampled_from(SHAPES),
    delimiter=st.sampled_from([";", ",", "|", "#"]),
)
def test_every_reading_is_told_and_reproducible(rows, shape, delimiter):
    header, cells = _as_table(shape, rows, delimiter)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        content = csv_text(header, [[text, *row] for (text, _), row in zip(rows, cells, strict=True)])
        path.write_text(content, "utf-8", newline="")
        found = read_all([path], None, SHOP)
        again = read_all([path], told(found.readings[0].reading), SHOP)
        kept = read_all([path], None, SHOP, [Reading.from_dict(found.readings[0].reading.to_dict())])
    assert [row.text for row in found.rows] == [text for text, _ in rows]
    assert [set(row.labels) for row in found.rows] == [set(names) for _, names in rows]
    assert again.rows == kept.rows == found.rows
    assert kept.readings[0].reading == found.readings[0].reading

"""Files of labelled rows as tools and people write them, one writer for each kind."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

TEXTS = "text"


def table(rows, header, delimiter=",", quoting=csv.QUOTE_MINIMAL, ending="\n"):
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def lines(objects, **options):
    return "".join(json.dumps(one, ensure_ascii=False, **options) + "\n" for one in objects)


def flagged(rows, names, yes=1, no=0):
    return [[text, *(yes if name in labels else no for name in names)] for text, labels in rows]


def _sheet(path, header, rows):
    with xlsxwriter.Workbook(str(path)) as book:
        sheet = book.add_worksheet("Feedback")
        bold = book.add_format({"bold": True})
        sheet.write_row(0, 0, header, bold)
        for place, row in enumerate(rows, 1):
            sheet.write_row(place, 0, row)
        book.add_worksheet("Notes").write(0, 0, "stays")


def write_csv(path, rows, names):
    path.write_text(table([[text, ";".join(labels)] for text, labels in rows], ["text", "labels"]), "utf-8")


def write_semicolons(path, rows, names):
    cells = [[place, text, " | ".join(labels) or "NONE"] for place, (text, labels) in enumerate(rows, 1)]
    path.write_text(table(cells, ["id", "Comment", "Topic"], ";", ending="\r\n"), "utf-8")


def write_quoted(path, rows, names):
    cells = [[text, json.dumps(labels), "so"] for text, labels in rows]
    path.write_text(table(cells, ["text", "labels", "more"], quoting=csv.QUOTE_ALL), "cp1252")


def write_python_lists(path, rows, names):
    path.write_text(table([[text, repr(labels)] for text, labels in rows], ["text", "labels"]), "utf-8")


def write_flags(path, rows, names):
    path.write_text(table(flagged(rows, names), ["text", *names]), "utf-16")


def write_yes_no(path, rows, names):
    path.write_text(table(flagged(rows, names, "yes", "no"), ["text", *names], "\t"), "utf-8-sig")


def write_slots(path, rows, names):
    cells = [[text, *labels, *["NONE"] * (4 - len(labels))] for text, labels in rows]
    path.write_text(table(cells, ["text", "label1", "label2", "label3", "label4"]), "utf-8")


def write_jsonl(path, rows, names):
    objects = [{"n": 1.50, "labels": labels, "text": text, "more": {"b": [1, None]}} for text, labels in rows]
    path.write_text(lines(objects), "utf-8")


def write_compact_jsonl(path, rows, names):
    path.write_text(lines([{"text": text, "labels": labels} for text, labels in rows], separators=(",", ":")))


def write_flag_jsonl(path, rows, names):
    objects = [{"text": text, **{name: name in labels for name in names}, "z": 0.5} for text, labels in rows]
    path.write_text(lines(objects), "utf-8")


def write_objects(path, rows, names):
    objects = [
        {"text": text, "labels": {name: int(name in labels) for name in names}} for text, labels in rows
    ]
    path.write_text(lines(objects), "utf-8")


def write_array(path, rows, names):
    objects = [{"text": text, "labels": labels} for text, labels in rows]
    path.write_text(json.dumps(objects, indent=2) + "\n", "utf-8")


def write_chat(path, rows, names):
    def chat(text, labels):
        said = (("system", "Name the topics."), ("user", text), ("assistant", ", ".join(labels)))
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    path.write_text(lines([chat(*row) for row in rows]), "utf-8")


def write_prompt(path, rows, names):
    objects = [
        {"prompt": f"{text}\n\n###\n\n", "completion": f" {','.join(labels)} END"} for text, labels in rows
    ]
    path.write_text(lines(objects), "utf-8")


def write_fasttext(path, rows, names):
    found = (" ".join([*(f"__label__{name}" for name in labels), text]) + "\n" for text, labels in rows)
    path.write_text("".join(found), "utf-8")


def write_parquet(path, rows, names):
    columns = {
        "text": [text for text, _ in rows],
        "labels": pa.array([one for _, one in rows], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def write_flag_parquet(path, rows, names):
    columns = {"text": [text for text, _ in rows]}
    columns |= {name: pa.array([int(name in labels) for _, labels in rows], pa.int8()) for name in names}
    pq.write_table(pa.table(columns), path)


def write_sheet(path, rows, names):
    _sheet(path, ["text", "labels", "amount"], [[text, ";".join(labels), 2.5] for text, labels in rows])


def write_flag_sheet(path, rows, names):
    _sheet(path, ["text", *names], flagged(rows, names))


def write_gzip(path, rows, names):
    _packed(path, rows, names, gzip.compress)


def write_bzip(path, rows, names):
    _packed(path, rows, names, bz2.compress)


def write_xz(path, rows, names):
    _packed(path, rows, names, lzma.compress)


def write_zstandard(path, rows, names):
    _packed(path, rows, names, lambda data: pa.compress(data, "zstd", asbytes=True))


def write_zip(path, rows, names):
    write_jsonl(path, rows, names)
    data = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inside.jsonl", data)


def _packed(path, rows, names, pack):
    write_jsonl(path, rows, names)
    path.write_bytes(pack(path.read_bytes()))


KINDS = {
    "cells.csv": write_csv,
    "semicolons.csv": write_semicolons,
    "quoted.csv": write_quoted,
    "python.csv": write_python_lists,
    "flags.csv": write_flags,
    "yes_no.tsv": write_yes_no,
    "slots.csv": write_slots,
    "rows.jsonl": write_jsonl,
    "compact.jsonl": write_compact_jsonl,
    "flags.jsonl": write_flag_jsonl,
    "objects.jsonl": write_objects,
    "array.json": write_array,
    "chat.jsonl": write_chat,
    "prompt.jsonl": write_prompt,
    "fasttext.txt": write_fasttext,
    "rows.parquet": write_parquet,
    "flags.parquet": write_flag_parquet,
    "rows.xlsx": write_sheet,
    "flags.xlsx": write_flag_sheet,
    "rows.jsonl.gz": write_gzip,
    "rows.jsonl.bz2": write_bzip,
    "rows.jsonl.xz": write_xz,
    "rows.jsonl.zst": write_zstandard,
    "rows.jsonl.zip": write_zip,
}

"""`cascade init` as people give it, and what the other commands make of what it wrote."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import random
import re
import subprocess
from dataclasses import dataclass

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import command, environment

from cascade.checks.duplicates import essence_of
from cascade.cli import drafting, run
from cascade.draft import sources
from cascade.draft.split import FOLDS, rows_for_tests
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.parser import TOP_KEYS

waits_for_paths = pytest.mark.skipif("names" not in TOP_KEYS, reason="the taxonomy has no key `names` yet")

SUBJECTS = {
    "travel": ["flight", "hotel", "luggage", "visa", "ticket", "seat"],
    "bank": ["account", "card", "transfer", "balance", "deposit", "loan"],
    "kitchen": ["recipe", "oven", "meal", "calories", "flour", "sugar"],
}


def rows_of_subjects(n_rows=600):
    """(text, label, subject) with six labels of each of three subjects."""
    random_ = random.Random(0)
    for number in range(n_rows):
        subject, words = random_.choice(list(SUBJECTS.items()))
        label = random_.randrange(6)
        said = " ".join([*random_.choices(words, k=3), f"own{subject}{label}", f"row{number}"])
        yield said, f"{subject[:2]}_{label}", subject


def wrote_csv(path, header, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def init(folder, *arguments):
    return here(folder, "init", *arguments)


def here(folder, *arguments):
    """What a command does, in this process."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(list(map(str, arguments)))
    out.flush()
    return Done(status, out.buffer.getvalue().decode(), err.getvalue())


def cascade(folder, *arguments):
    done = here(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return done


def as_process(folder, *arguments):
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=folder, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def tickets(tmp_path):
    rows = [(at, text, label, "open") for at, (text, label, _) in enumerate(rows_of_subjects())]
    return wrote_csv(tmp_path / "tickets.csv", ("number", "comment", "topic", "state"), rows)


# From a table to answers


def test_from_a_table_to_answers_in_three_commands(tickets):
    folder = tickets.parent
    done = as_process(folder, "init", "tickets.csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "tickets.csv: 600 rows, text in 'comment', labels in 'topic'\n" in done.stderr
    assert "18 labels in 3 groups" in done.stderr
    assert done.stderr.endswith("Look through it, then: cascade fit taxonomy.yaml\n")

    as_process(folder, "fit", "taxonomy.yaml")
    answered = as_process(
        folder, "predict", "tickets_test.csv", "--text-column", "comment"
    ).stdout.splitlines()
    truth = [row["topic"] for row in read_csv(folder / "tickets_test.csv")]
    right = sum(json.loads(line)["labels"] == [label] for line, label in zip(answered, truth, strict=True))
    assert right > 0.95 * len(truth)


def test_what_is_written_is_explicit_and_check_has_nothing_against_it(tickets):
    folder = tickets.parent
    init(folder, "tickets.csv")
    taxonomy = Taxonomy.load(folder / "taxonomy.yaml")
    assert (taxonomy.name, taxonomy.notes) == ("tickets", ())
    assert (taxonomy.data.train, taxonomy.data.test) == (("tickets_train.csv",), ("tickets_test.csv",))
    assert (taxonomy.data.text, taxonomy.data.labels) == ("comment", "topic")
    lines = (folder / "taxonomy.yaml").read_text("utf-8").splitlines()
    assert lines[0].startswith("# yaml-language-server: $schema=")
    counts = {
        line.split("-")[1].split("#")[0].strip(): line.split("# ")[1] for line in lines if "      - " in line
    }
    real = [row["topic"] for row in read_csv(tickets)]
    assert counts == {label: f"{real.count(label)} rows" for label in set(real)}
    report = json.loads(cascade(folder, "check", "taxonomy.yaml", "--json").stdout)
    assert [finding for finding in report["findings"] if finding["severity"] != "advice"] == []


def test_what_is_written_fits_the_schema_that_its_first_line_names(tickets):
    init(tickets.parent, "tickets.csv")
    text = (tickets.parent / "taxonomy.yaml").read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=taxonomy.schema.json\n")
    schema = json.loads(here(tickets.parent, "schema").stdout)
    jsonschema.validate(yaml.safe_load(text), schema)


def test_the_split_keeps_every_row_and_column_once(tickets):
    folder = tickets.parent
    init(folder, "tickets.csv")
    train, test = (read_csv(folder / f"tickets_{side}.csv") for side in ("train", "test"))
    by_number = sorted([*train, *test], key=lambda row: int(row["number"]))
    assert by_number == read_csv(tickets)
    assert len(test) == pytest.approx(len(by_number) / FOLDS, abs=len(by_number) * 0.02)
    assert {row["topic"] for row in train} == {row["topic"] for row in test}


def test_the_same_file_gives_the_same_bytes(tickets):
    folder = tickets.parent
    init(folder, "tickets.csv")
    names = ("taxonomy.yaml", "tickets_train.csv", "tickets_test.csv")
    first = [(folder / name).read_bytes() for name in names]
    assert init(folder, "tickets.csv", "--force").returncode == 0
    assert [(folder / name).read_bytes() for name in names] == first


@pytest.mark.parametrize("there", ["taxonomy.yaml", "tickets_train.csv", "tickets_test.csv"])
def test_no_file_that_is_there_is_overwritten_and_none_is_written_then(tickets, there):
    folder = tickets.parent
    (folder / there).write_text("mine", "utf-8")
    done = init(folder, "tickets.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: {there}: already there, so nothing was written. --force overwrites"
    )
    assert sorted(path.name for path in folder.iterdir()) == sorted({"tickets.csv", there})
    assert (folder / there).read_text("utf-8") == "mine"


def test_the_source_is_not_overwritten_even_with_force(tickets):
    before = tickets.read_bytes()
    done = init(tickets.parent, "tickets.csv", "--out", "tickets.csv", "--force")
    assert done.stderr.startswith("error: tickets.csv: would be overwritten by what is drafted from it")
    assert tickets.read_bytes() == before


def test_a_number_of_groups_and_a_name_can_be_asked_for(tickets):
    init(tickets.parent, "tickets.csv", "--groups", "2", "--name", "mine", "--out", "sub/t.yaml")
    taxonomy = Taxonomy.load(tickets.parent / "sub" / "t.yaml")
    assert len(taxonomy.groups) - 1 == 2
    assert taxonomy.name == "mine"
    assert taxonomy.data.files("train") == (tickets.parent / "sub" / "tickets_train.csv",)


@pytest.mark.parametrize("named", ["option", "neighbour"])
def test_test_rows_that_are_there_are_named_and_nothing_is_split(tmp_path, named):
    rows = [(text, label) for text, label, _ in rows_of_subjects()]
    other = "test.csv" if named == "neighbour" else "held_out.csv"
    wrote_csv(tmp_path / "train.csv", ("text", "label"), rows[:500])
    wrote_csv(tmp_path / other, ("text", "label"), rows[500:])
    done = init(
        tmp_path, "train.csv", "--out", "here/t.yaml", *(["--test", other] if named == "option" else [])
    )
    assert f"test rows: {other}" in done.stderr
    taxonomy = Taxonomy.load(tmp_path / "here" / "t.yaml")
    assert (taxonomy.data.train, taxonomy.data.test) == (("../train.csv",), (f"../{other}",))
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["t.yaml"]


def test_few_rows_are_all_for_training(tmp_path):
    wrote_csv(tmp_path / "few.csv", ("text", "label"), [(f"say {at}", f"l{at % 2}") for at in range(10)])
    done = init(tmp_path, "few.csv")
    assert "no split: of 10 rows none can be spared for tests" in done.stderr
    assert Taxonomy.load(tmp_path / "taxonomy.yaml").data.train == ("few.csv",)


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".parquet"])
def test_the_split_has_the_format_and_types_of_the_source(tmp_path, suffix):
    import pandas as pd

    frame = pd.DataFrame(
        {
            "text": [text for text, _, _ in rows_of_subjects(200)],
            "labels": [[label] if suffix != ".tsv" else label for _, label, _ in rows_of_subjects(200)],
            "score": [at / 2 for at in range(200)],
        }
    )
    source = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(source)
    elif suffix == ".tsv":
        frame.to_csv(source, sep="\t", index=False)
    else:
        frame.to_json(source, orient="records", lines=True)
    done = init(tmp_path, source.name)
    assert done.returncode == 0, done.stderr
    read = {
        ".parquet": pd.read_parquet,
        ".tsv": lambda path: pd.read_csv(path, sep="\t"),
        ".jsonl": lambda path: pd.read_json(path, lines=True),
    }[suffix]
    both = pd.concat([read(tmp_path / f"rows_{side}{suffix}") for side in ("train", "test")])
    assert both.sort_values("score")["score"].tolist() == frame["score"].tolist()
    assert both.dtypes["score"] == frame.dtypes["score"]
    cascade(tmp_path, "check", "taxonomy.yaml")


def test_labels_with_a_mark_between_them_are_several(tmp_path):
    rows = [(f"{text} and {other}", f"{label}#{mate}") for (text, label, _), (other, mate, _) in pairs()]
    wrote_csv(tmp_path / "rows.csv", ("text", "label"), rows)
    init(tmp_path, "rows.csv")
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert taxonomy.data.labels_delimiter == "#"
    assert len(taxonomy.labels) == 18
    cascade(tmp_path, "check", "taxonomy.yaml")


def pairs():
    rows = list(rows_of_subjects())
    return zip(rows[:300], rows[300:], strict=True)


def test_rows_that_cannot_be_used_are_listed_and_the_rest_goes_on(tmp_path):
    lines = [json.dumps({"text": text, "labels": [label]}) for text, label, _ in rows_of_subjects(100)]
    (tmp_path / "rows.jsonl").write_text("\n".join([*lines, "{", '{"labels": []}']), "utf-8")
    done = init(tmp_path, "rows.jsonl")
    assert done.returncode == 3
    assert "rows.jsonl row 101: " in done.stderr
    assert "2 bad rows left out" in done.stderr
    assert Taxonomy.load(tmp_path / "taxonomy.yaml").labels


def test_rows_that_cannot_be_used_and_are_not_split_off_are_skipped_by_the_next_command(tmp_path):
    (tmp_path / "few.jsonl").write_text(
        '{"text": "a", "labels": ["x"]}\n{"text": "b", "labels": ["y"]}\n{', "utf-8"
    )
    done = init(tmp_path, "few.jsonl")
    assert done.stderr.endswith("cascade fit taxonomy.yaml --skip-bad-rows\n")
    assert here(tmp_path, "fit", "taxonomy.yaml", "--skip-bad-rows").returncode == 3


# What is doubtful


def test_what_is_doubtful_is_told_and_stands_in_the_file(tmp_path):
    rows = [(f"where is my parcel {at}", "late_delivery") for at in range(40)]
    rows += [(f"it never came {at}", "late_deliverys") for at in range(20)]
    rows += [(f"the visa card of mine {at}", "card;visa") for at in range(40)]
    rows += [("rare one", "rare")]
    wrote_csv(tmp_path / "rows.csv", ("text", "labels"), rows)
    done = init(tmp_path, "rows.csv", "--out", "sub/taxonomy.yaml")
    text = (tmp_path / "sub" / "taxonomy.yaml").read_text("utf-8")
    for told in (done.stderr, text):
        assert "1 label has fewer than 10 training rows" in told
        assert "labels with nearly the same name" in told
        assert "labels with exactly the same training rows" in told
    assert "# 1 row, few" in text
    assert "taxonomy.yaml:" not in text


def test_an_alias_that_means_two_things_is_left_out_and_told(tmp_path):
    text = "group,label,aliases\nBilling,Refund,back; money\nBilling,Charge,money; Refund\n"
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    done = init(tmp_path, "labels.csv")
    assert "aliases that mean more than one thing are left out: 'money', 'Refund'" in done.stderr
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert (taxonomy.labels["Refund"].aliases, taxonomy.labels["Charge"].aliases) == (("back",), ())


def test_what_no_taxonomy_may_have_is_told_of_the_source(tmp_path):
    (tmp_path / "names.txt").write_text("late\nhalf \x07 a bell\n", "utf-8")
    done = init(tmp_path, "names.txt")
    assert done.returncode == 1
    assert done.stderr.startswith("error: names.txt: ")
    assert "taxonomy.yaml" not in done.stderr


def test_a_label_of_test_rows_alone_is_a_label_too(tmp_path):
    rows = [(text, label) for text, label, _ in rows_of_subjects(300)]
    wrote_csv(tmp_path / "train.csv", ("text", "label"), rows)
    wrote_csv(tmp_path / "test.csv", ("text", "label"), [("never seen", "new_one")])
    done = init(tmp_path, "train.csv")
    assert "1 label has no training row:\n  'new_one'\n" in done.stderr
    assert "new_one" in Taxonomy.load(tmp_path / "taxonomy.yaml").labels
    assert "# 0 rows, few" in (tmp_path / "taxonomy.yaml").read_text("utf-8")


# Paths and levels


@pytest.mark.parametrize("shape", ["paths", "levels"])
def test_groups_of_paths_and_levels_are_those_of_the_rows(tmp_path, shape):
    if shape == "paths":
        rows, header = (
            [(t, f"{subject} > {label}") for t, label, subject in rows_of_subjects()],
            ("text", "label"),
        )
    else:
        rows, header = (
            [(t, subject, label) for t, label, subject in rows_of_subjects()],
            ("text", "level1", "level2"),
        )
    wrote_csv(tmp_path / "rows.csv", header, rows)
    done = init(tmp_path, "rows.csv")
    assert "groups are those of the paths" in done.stderr
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    for subject in SUBJECTS:
        assert set(taxonomy.groups[subject].children) == {f"{subject[:2]}_{number}" for number in range(6)}


def test_a_row_may_carry_a_group_alone(tmp_path):
    rows = [(t, f"{s} > {label}" if len(label) % 2 == 0 else s) for t, label, s in rows_of_subjects(100)]
    rows += [("only a group", "bank")]
    wrote_csv(tmp_path / "rows.csv", ("text", "label"), rows)
    done = init(tmp_path, "rows.csv")
    assert "some rows carry a group alone, which teaches the router only: bank" in done.stderr


@waits_for_paths
def test_one_name_in_several_groups_makes_names_paths(tmp_path):
    rows = [(t, f"{s} > {'other' if label.endswith('0') else label}") for t, label, s in rows_of_subjects()]
    wrote_csv(tmp_path / "rows.csv", ("text", "label"), rows)
    done = init(tmp_path, "rows.csv")
    assert done.returncode == 0, done.stderr
    taxonomy = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert {"bank/other", "travel/other", "kitchen/other"} <= set(taxonomy.labels)
    cascade(tmp_path, "fit", "taxonomy.yaml")


# Sources without rows


def test_a_sheet_of_names_is_followed_by_a_fit_with_rows(tmp_path):
    rows = [(subject, f"{subject[:2]}_{number}") for subject in SUBJECTS for number in range(6)]
    wrote_csv(tmp_path / "labels.csv", ("group", "label"), rows)
    wrote_csv(
        tmp_path / "rows.csv", ("text", "labels"), [(text, label) for text, label, _ in rows_of_subjects()]
    )
    done = init(tmp_path, "labels.csv")
    assert "labels.csv: read as sheet" in done.stderr
    assert done.stderr.endswith("cascade fit taxonomy.yaml --data ROWS\n")
    assert set(Taxonomy.load(tmp_path / "taxonomy.yaml").groups) == {"", *SUBJECTS}
    cascade(tmp_path, "fit", "taxonomy.yaml", "--data", "rows.csv")


def test_what_a_file_holds_can_be_said(tmp_path):
    (tmp_path / "names.csv").write_text("text\nrefund\nlate\n", "utf-8")
    done = init(tmp_path, "names.csv", "--from", "outline")
    assert done.returncode == 0, done.stderr
    assert set(Taxonomy.load(tmp_path / "taxonomy.yaml").labels) == {"text", "refund", "late"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "rows.csv",
            "a,b\n" + "a long long text about something or other that goes on\n" * 2,
            r"there are 'a', 'b'\. Name it with --text COLUMN",
        ),
        ("rows.csv", "text,label\nwhere,\nwhat,none\n", "no labels found: no row carries one"),
        ("empty.jsonl", "", "holds no row that can be used"),
        ("empty.csv", "", "the table is empty|no column is plainly"),
        (
            "gap.csv",
            "text,label\nx,a > > b\ny,a > c\n",
            r"gap\.csv row 1: a path with an empty part, 'a > \.\.\. > b'",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_and_nothing_is_written(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, "utf-8")
    done = init(tmp_path, name)
    assert done.returncode == 1
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_columns_can_be_named(tmp_path):
    rows = [(text, label, "x") for text, label, _ in rows_of_subjects(100)]
    wrote_csv(tmp_path / "rows.csv", ("what was said", "about", "more"), rows)
    assert init(tmp_path, "rows.csv").returncode == 1
    done = init(tmp_path, "rows.csv", "--from", "rows", "--text", "what was said", "--labels", "about")
    assert done.returncode == 0, done.stderr
    assert Taxonomy.load(tmp_path / "taxonomy.yaml").data.text == "what was said"


def test_a_taxonomy_with_a_name_like_that_of_rows_is_a_taxonomy(tmp_path):
    (tmp_path / "rows.csv.yaml").write_text("name: x\nlabels: [a, b]\n", "utf-8")
    assert "no-data" in here(tmp_path, "check", "rows.csv.yaml").stdout


@pytest.mark.parametrize("word", ["fit", "check"])
def test_rows_in_the_place_of_a_taxonomy_are_sent_to_init(tickets, word):
    done = here(tickets.parent, word, "tickets.csv")
    assert done.returncode == 1
    said = "is no taxonomy but data; `cascade init tickets.csv` drafts one from it"
    assert done.stderr == f"error: tickets.csv: {said}\n"


def test_kinds_that_can_be_said_are_those_that_are_read():
    assert drafting.KINDS == sources.KINDS


# The split

texts = st.lists(
    st.tuples(
        st.sampled_from(["late again", "Late, again!", "where is it", "refund", "refund me", "charged", "x"]),
        st.integers(0, 30),
        st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(texts)
def test_equal_texts_are_on_one_side_and_every_label_has_rows_to_learn_from(drawn):
    said = [f"{text} {number}" for text, number, _ in drawn]
    labels = [own for _, _, own in drawn]
    is_test = rows_for_tests(said, labels)
    sides: dict[str, set[bool]] = {}
    for text, side in zip(said, is_test.tolist(), strict=True):
        sides.setdefault(essence_of(text), set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    learned = {name for own, side in zip(labels, is_test, strict=True) if not side for name in own}
    assert learned == {name for own in labels for name in own}
    assert rows_for_tests(said, labels).tolist() == is_test.tolist()

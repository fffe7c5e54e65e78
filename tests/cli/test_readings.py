"""Files as people have them through the commands: what is said of them, kept, and read alike."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from places import SHARED
from processes import command, environment

import cascade.cli
from cascade.model.folder import read_manifest

TAXONOMY = """\
name: shop
data: {train: export.csv}
groups:
  money: {labels: [refund, card_fee]}
  goods: {labels: [late, broken]}
"""
SAYINGS = {
    "refund": "give me my money back",
    "card_fee": "a fee for paying by card",
    "late": "a week after the date",
    "broken": "it came in pieces",
}


def rows(count):
    for number in range(count):
        names = [name for place, name in enumerate(SAYINGS) if (number >> place) & 1]
        yield f"order {number}: {' and '.join(map(SAYINGS.__getitem__, names)) or 'thank you'}", names


def export(path, count, head="Nr;Comment;Topic;Agent"):
    lines = (
        f"T-{number};{text};{' # '.join(name.replace('_', ' ').title() for name in names) or 'NONE'};Kim"
        for number, (text, names) in enumerate(rows(count))
    )
    path.write_text("\n".join([head, *lines, ""]), encoding="cp1252")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readings")
    (folder / "shop.yaml").write_text(TAXONOMY)
    export(folder / "export.csv", 96)
    return folder


def run(folder, *arguments, code=0):
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, check=False, text=True
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def fitted(folder):
    return run(folder, "fit", "shop.yaml")


LINE = "export.csv: text in 'Comment', labels in 'Topic', separated by '#'; 6 of 96 rows have none"


def test_fit_says_how_it_read_the_rows_and_keeps_it(folder, fitted):
    assert [line for line in fitted.stderr.splitlines() if line.startswith("export.csv")] == [LINE]
    [kept] = read_manifest(folder / "models" / "shop").readings
    assert (kept["text"], kept["labels"], kept["delimiter"]) == (["Comment"], ["Topic"], "#")


def test_predict_evaluate_and_review_read_alike(folder, fitted):
    # Another column would be the better guess in this file, were it not for how the training rows were read.
    export(folder / "new.csv", 24, head="Nr;Comment;Text;Agent")
    done = run(folder, "predict", "new.csv", "--out", "answers.jsonl", "--keep")
    assert "new.csv: text in 'Comment'" in done.stderr
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    right = [set(one["labels"]) == set(names) for one, (_, names) in zip(answers, rows(24), strict=True)]
    assert sum(right) > 20
    export(folder / "test.csv", 48)
    found = json.loads(run(folder, "evaluate", "test.csv", "--json").stdout)
    assert (found["rows"], found["micro_f1"] > 0.9) == (48, True)
    queued = run(folder, "review", "new.csv", "--rows", "3")
    assert "refused" not in queued.stderr


def test_check_shows_three_rows_of_each_file(folder):
    done = run(folder, "check", "shop.yaml")
    first, *examples = done.stdout.splitlines()[:4]
    assert first == LINE
    assert [line.rpartition(": ")[2] for line in examples] == ["refund", "card_fee", "refund, card_fee"]
    [found] = json.loads(run(folder, "check", "shop.yaml", "--json").stdout)["readings"]
    assert found["data"] == {"text": "Comment", "labels": "Topic", "labels_delimiter": "#"}
    assert len(found["examples"]) == 3


def test_what_is_said_can_be_written_into_the_taxonomy(folder, fitted, tmp_path):
    told = "data: {train: export.csv, text: Comment, labels: Topic, labels_delimiter: '#'}"
    (tmp_path / "shop.yaml").write_text(TAXONOMY.replace("data: {train: export.csv}", told))
    export(tmp_path / "export.csv", 96)
    done = run(tmp_path, "fit", "shop.yaml", "--out", "m")
    assert "export.csv" not in done.stderr
    groups = {name: one.node for name, one in read_manifest(tmp_path / "m").groups.items()}
    assert groups == {
        name: one.node for name, one in read_manifest(folder / "models" / "shop").groups.items()
    }


def test_a_later_fit_reads_as_the_one_before(folder, fitted, tmp_path):
    (tmp_path / "shop.yaml").write_text(TAXONOMY)
    text = (folder / "export.csv").read_text("cp1252").replace("Agent", "Label")
    (tmp_path / "export.csv").write_text(text.replace(";Kim", ";late"), encoding="cp1252")
    alone = run(tmp_path, "fit", "shop.yaml")
    assert "labels in 'Label'" in alone.stderr
    done = run(tmp_path, "fit", "shop.yaml", "--out", folder / "models" / "shop")
    assert LINE in done.stderr


def test_a_file_that_no_reading_fits_is_an_error_with_the_nearest(folder):
    (folder / "odd.csv").write_text("text,topic\na,laat\nb,brokn\nc,late\n")
    done = run(folder, "fit", "shop.yaml", "--data", "odd.csv", code=1)
    first, second = done.stderr.splitlines()[:2]
    assert first == "error: odd.csv: no reading of its labels fits the taxonomy. The nearest:"
    assert second.startswith(
        "  labels in 'topic', separated by ';': fits 1 of 3 rows; row 1: unknown label 'laat'."
    )


CASES = sorted(path.parent for path in (SHARED / "cases").glob("*/t.yaml"))


@pytest.mark.skipif(not CASES, reason="needs the cases of the shared folder")
@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_shared_files_are_fitted_and_evaluated(case, tmp_path, monkeypatch, capsys):
    [data] = case.glob("d.*")
    if data.suffix == ".xlsx" and "sheet1.xml" not in str(zipfile.ZipFile(data).namelist()):
        pytest.skip("the shared spreadsheet lacks its sheet")
    monkeypatch.chdir(tmp_path)
    # In this process: fourteen times two of their own would take a minute to start.
    assert cascade.cli.run(["fit", str(case / "t.yaml"), "--out", "m"]) == 0
    capsys.readouterr()
    assert cascade.cli.run(["evaluate", str(data), "--model", "m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {label: figures["rows"] for label, figures in found["per_label"].items()}
    assert counts == json.loads(Path(case / "expected.json").read_text())

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from path_names import with_paths
from processes import command, environment
from trees import SHOP, a_shop, taxonomies

from cascade.errors import DataError
from cascade.rows.reading import read_rows
from cascade.rows.readings import Columns
from cascade.rows.row import Row
from cascade.taxonomy.definition import Taxonomy
from cascade.teach.label_studio import (
    MOST_BYTES,
    labelled_task,
    labelling_config,
    queued_task,
    read_export,
)
from cascade.teach.queue import QueuedRow, write_queue
from cascade.teach.selection import Doubt

PLAIN = Columns()
DOUBTS = (Doubt("near threshold", "late", 0.9), Doubt("nothing chosen", "", 0.3))


def paths_of(element, above=()):
    """All paths through the control, from the top."""
    for choice in element.findall("Choice"):
        here = (*above, choice.get("value"))
        yield here
        yield from paths_of(choice, here)


def control_of(taxonomy):
    return ET.fromstring(labelling_config(taxonomy)).find("Taxonomy")


def exported(*tasks):
    """Tasks as Label Studio 1.23 exports them as JSON, after somebody has submitted what is in them."""
    for number, task in enumerate(tasks, 1):
        for place, annotation in enumerate(task.setdefault("annotations", []), 1):
            annotation.update(id=place, was_cancelled=False, ground_truth=False, completed_by=1)
            annotation.setdefault("updated_at", f"2026-05-04T12:00:0{place}.000000Z")
        task.update(
            id=number, inner_id=number, total_annotations=len(task["annotations"]), predictions=[number]
        )
    return list(tasks)


def minimal(*tasks):
    """The same as JSON-MIN."""
    for task in exported(*tasks):
        for annotation in task["annotations"] or [None]:
            about = {
                "annotator": 1,
                "annotation_id": annotation["id"],
                "updated_at": annotation["updated_at"],
            }
            told = {
                part["from_name"]: [part["value"]] if part["type"] == "taxonomy" else part["value"]["text"][0]
                for part in annotation["result"]
            }
            yield {**task["data"], "id": task["id"], **told, **about}


def imported(folder, tasks, taxonomy, columns=PLAIN):
    path = Path(folder) / "export.json"
    path.write_text(json.dumps(list(tasks)), "utf-8")
    return read_export(path, taxonomy, columns)


def task(*paths, text="a text", identity=1, note="", **changes):
    chosen = {
        "from_name": "labels",
        "to_name": "text",
        "type": "taxonomy",
        "value": {"taxonomy": list(map(list, paths))},
    }
    said = {"from_name": "note", "to_name": "text", "type": "textarea", "value": {"text": [note]}}
    result = [chosen] * bool(paths) + [said] * bool(note)
    return {"data": {"cascade_id": identity, "text": text}, "annotations": [{"result": result, **changes}]}


def labels_of(found):
    return [row["labels"] for row in found.rows]


# The configuration


def test_the_control_has_every_path_to_every_name():
    found = list(paths_of(control_of(a_shop())))
    assert len(found) == len(set(found))
    assert {one[-1] for one in found} == set(a_shop().graph.nodes)
    assert {("billing", "refund"), ("delivery", "refund"), ("billing", "courier", "rude"), ("spam",)} <= set(
        found
    )
    hints = {choice.get("value"): choice.get("hint") for choice in control_of(a_shop()).iter("Choice")}
    assert (hints["billing"], hints["vat"]) == ("Money.", None)


def test_names_of_any_kind_stand_in_the_control():
    names = ['a "quoted" <name> & more', "été ☃", "with / slash"]
    taxonomy = Taxonomy.from_dict({"name": "odd", "labels": names})
    assert [one for (one,) in paths_of(control_of(taxonomy))] == names


@settings(max_examples=50, deadline=None)
@given(taxonomies())
def test_what_is_proposed_can_be_chosen(taxonomy):
    there = set(paths_of(control_of(taxonomy)))
    assert all(taxonomy.path_to(name) in there for name in taxonomy.graph.nodes)


# There and back


@settings(max_examples=50, deadline=None)
@given(taxonomies(), st.data(), st.booleans())
def test_labels_come_back_as_they_went(taxonomy, data, has_paths):
    if has_paths:
        taxonomy = Taxonomy.from_dict(with_paths(taxonomy.to_dict()))
    text = st.text(st.characters(codec="utf-8"))
    names = st.lists(st.sampled_from(taxonomy.graph.labels), unique=True, max_size=4)
    rows = [
        Row(
            n,
            data.draw(st.one_of(st.integers(), text.filter(bool))),
            data.draw(text),
            tuple(data.draw(names)),
            {},
            "f",
        )
        for n in range(3)
    ]
    for form in (exported, minimal):
        with TemporaryDirectory() as folder:
            found = imported(folder, form(*(labelled_task(taxonomy, row) for row in rows)), taxonomy)
        assert (found.refused, found.left_out, found.disagreeing) == ([], 0, [])
        assert [(row["id"], row["text"], set(row["labels"])) for row in found.rows] == [
            (row.id, row.text, set(row.labels)) for row in rows
        ]


def test_a_queue_becomes_tasks_with_predictions():
    queued_row = QueuedRow("q1", "late again", ("late", "refund"), {"late": 0.4}, DOUBTS, "d" * 64)
    found = queued_task(a_shop(), queued_row)
    assert found["data"] == {"cascade_id": "q1", "text": "late again"}
    [prediction] = found["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("d" * 16, 0.1)
    assert prediction["result"][0]["value"] == {"taxonomy": [["delivery", "late"], ["billing", "refund"]]}
    assert queued_task(a_shop(), QueuedRow(1, "a", (), {}, (), "d"))["predictions"][0]["result"] == []


def test_answers_stand_in_the_columns_of_the_taxonomy(tmp_path):
    columns = Columns(text="message", labels="tags", id="ticket")
    found = imported(tmp_path, exported(task(("delivery", "late"), note="sure")), a_shop(), columns)
    about = {"note": "sure", "at": "2026-05-04T12:00:01.000000Z"}
    assert found.rows == [{"review": about, "ticket": 1, "message": "a text", "tags": ["late"]}]


def test_what_was_seen_tells_whether_it_was_accepted(tmp_path):
    seen = {"prediction": {"result": task(("delivery", "late"))["annotations"][0]["result"]}}
    tasks = exported(task(("delivery", "late"), **seen), task(("delivery", "broken"), **seen), task(**seen))
    found = imported(tmp_path, tasks, a_shop())
    assert [row["review"]["verdict"] for row in found.rows] == ["accepted", "corrected", "corrected"]
    assert found.rows[0]["review"]["proposed"] == ["late"]


# What counts


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        ([], []),
        ([("billing", "refund"), ("delivery", "refund")], ["refund"]),
        ([("delivery",)], ["delivery"]),
        ([("delivery",), ("delivery", "late")], ["late"]),
        ([("delivery",), ("billing", "vat")], ["delivery", "vat"]),
        ([("delivery", "courier"), ("delivery", "courier", "rude")], ["rude"]),
    ],
)
def test_a_path_means_the_name_at_its_end(tmp_path, paths, labels):
    assert labels_of(imported(tmp_path, exported(task(*paths)), a_shop())) == [labels]


def test_of_several_answers_the_newest_counts_or_a_ground_truth(tmp_path):
    first, second = ("delivery", "late"), ("delivery", "broken")
    both = task(first)
    both["annotations"] += task(second)["annotations"]
    truth = json.loads(json.dumps(both))
    tasks = exported(both, truth)
    tasks[1]["annotations"][0]["ground_truth"] = True
    tasks[1]["data"]["cascade_id"] = "b"
    found = imported(tmp_path, tasks, a_shop())
    assert labels_of(found) == [["broken"], ["late"]]
    assert found.disagreeing == [1, "b"]
    newest = imported(tmp_path, minimal(both), a_shop())
    assert (labels_of(newest), newest.disagreeing) == ([["broken"]], [1])


def test_what_nobody_answered_is_left_out(tmp_path):
    skipped = exported(task(("delivery", "late")))[0]
    skipped["annotations"][0]["was_cancelled"] = True
    nobody = {"data": {"cascade_id": 2, "text": "b"}, "annotations": [], "id": 2}
    alone = {"cascade_id": 3, "text": "c", "id": 3, "annotator": None, "annotation_id": None}
    found = imported(tmp_path, [skipped, nobody, alone], a_shop())
    assert (found.rows, found.left_out) == ([], 3)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (task(("delivery", "lat")), "unknown label 'lat'. Did you mean 'late'?"),
        ({"data": {"body": "a"}, "annotations": []}, "no text under 'text'"),
        (7, "no task: expected a JSON object"),
        ({"data": {"text": "a"}, "annotations": [12]}, "export again, with whole annotations"),
        (
            {"text": "a", "id": 1, "annotation_id": 2, "labels": [{"taxonomy": "late"}]},
            "no paths through the taxonomy",
        ),
    ],
)
def test_tasks_that_cannot_be_made_out_are_told_and_the_others_read(tmp_path, entry, said):
    found = imported(tmp_path, [*exported(task(("delivery", "late"), identity="a")), entry], a_shop())
    assert labels_of(found) == [["late"]]
    [bad] = found.refused
    assert bad.number == 2
    assert said in bad.reason


@pytest.mark.parametrize(("content", "said"), [("{", "not JSON"), ("{}", "no list of tasks")])
def test_what_is_no_export_is_told(tmp_path, content, said):
    path = tmp_path / "e.json"
    path.write_text(content, "utf-8")
    with pytest.raises(DataError, match=f"e.json: {said}.*as JSON or JSON-MIN"):
        read_export(path, a_shop(), PLAIN)


def test_an_export_of_gigabytes_is_refused_without_being_read(tmp_path):
    path = tmp_path / "e.json"
    with path.open("wb") as file:
        file.truncate(3 * MOST_BYTES)
    with pytest.raises(DataError, match=r"e\.json: more than 1024 MiB\. Export in parts"):
        read_export(path, a_shop(), PLAIN)


# The command


def run(folder, *words, code=0):
    done = subprocess.run(
        command("label-studio", *words),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def shop(tmp_path):
    (tmp_path / "shop.yaml").write_text(json.dumps(SHOP), "utf-8")
    return tmp_path


def test_the_command_goes_there_and_back(shop):
    assert ET.fromstring(run(shop, "config", "--taxonomy", "shop.yaml").stdout).find("Taxonomy") is not None
    write_queue(
        shop / "in.review.jsonl", [QueuedRow("é", "late again", ("late",), {"late": 0.4}, DOUBTS, "d")]
    )
    done = run(shop, "export", "in.review.jsonl", "--taxonomy", "shop.yaml", "--out", "tasks.json")
    assert "tasks.json: 1 task\n" in done.stderr
    [made] = json.loads((shop / "tasks.json").read_text("utf-8"))
    made["annotations"] = [{"result": made["predictions"][0]["result"]}]
    (shop / "export.json").write_text(json.dumps(exported(made)), "utf-8")
    done = run(shop, "import", "export.json", "--taxonomy", "shop.yaml", "--out", "rows.jsonl", "--json")
    assert json.loads(done.stdout) == {
        "out": "rows.jsonl",
        "rows": 1,
        "left_out": 0,
        "refused": 0,
        "disagreeing": [],
    }
    [row] = read_rows(shop / "rows.jsonl", PLAIN, a_shop())
    assert (row.id, row.text, row.labels) == ("é", "late again", ("late",))


def test_labelled_rows_become_annotations_and_bad_ones_are_told(shop):
    (shop / "rows.jsonl").write_text(
        '{"text": "a", "labels": ["late"]}\n{"text": "b", "labels": ["lat"]}\n', "utf-8"
    )
    done = run(shop, "export", "rows.jsonl", "--taxonomy", "shop.yaml", "--out", "tasks.json", code=3)
    assert "rows.jsonl row 2: unknown label 'lat'" in done.stderr
    [made] = json.loads((shop / "tasks.json").read_text("utf-8"))
    assert made["annotations"][0]["result"][0]["value"] == {"taxonomy": [["delivery", "late"]]}


def test_tasks_that_cannot_be_made_out_give_exit_code_3(shop):
    (shop / "export.json").write_text(json.dumps([*exported(task(("delivery", "late"))), 7]), "utf-8")
    done = run(shop, "import", "export.json", "--taxonomy", "shop.yaml", "--out", "rows.jsonl", code=3)
    assert "export.json row 2: no task" in done.stderr
    assert "rows.jsonl: 1 row; 0 tasks without an answer" in done.stderr


def test_faults_of_usage_are_told(shop):
    assert "found both" in run(shop, "config", "--taxonomy", "shop.yaml", "--model", "m", code=2).stderr
    assert "no such file" in run(shop, "config", "--taxonomy", "shap.yaml", code=1).stderr
    done = run(shop, "import", "none.json", "--taxonomy", "shop.yaml", "--out", "rows.jsonl", code=1)
    assert "none.json: cannot be read" in done.stderr
    assert not (shop / "rows.jsonl").exists()

"""What people have in Python and notebooks: frames in and out, figures, reasons, and pictures of them."""

from __future__ import annotations

import json
import re
import subprocess

import nbformat
import pandas as pd
import polars as pl
import pytest
from nbclient import NotebookClient
from places import ROOT
from processes import command, environment

import cascade
from cascade import Cascade, Taxonomy
from cascade.errors import DataError


@pytest.fixture(scope="module")
def model(shop_model):
    return Cascade.load(shop_model)


def frames_of(shop, rows=60):
    names = [list(labels) for labels in shop.labels[:rows]]
    columns = {"Comment": shop.texts[:rows], "topic": [";".join(one) for one in names]}
    return {"pandas": pd.DataFrame(columns), "polars": pl.DataFrame(columns)}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_go_in_and_out(shop, model, library):
    frame = frames_of(shop)[library]
    answers = model.predict_frame(frame)
    assert type(answers) is type(frame)
    assert list(answers.columns) == ["labels", "scores"]
    assert [list(one) for one in answers["labels"]] == model.predict(shop.texts[:60])
    fitted = Cascade.fit(shop.taxonomy, frame)
    assert fitted.predict(shop.texts[:5]) == Cascade.fit(
        shop.taxonomy, shop.texts[:60], shop.labels[:60]
    ).predict(shop.texts[:5])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_evaluate_is_the_command(shop, shop_model, model, tmp_path, library):
    found = model.evaluate(frames_of(shop)[library])
    assert found == model.evaluate(shop.texts[:60], shop.labels[:60])
    rows = zip(shop.texts[:60], shop.labels[:60], strict=True)
    lines = (json.dumps({"text": text, "labels": list(labels)}) + "\n" for text, labels in rows)
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    done = subprocess.run(
        command("evaluate", tmp_path / "rows.jsonl", "--model", shop_model, "--json"),
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == json.loads(json.dumps(found.to_json()))


def test_no_router_is_asked_about_groups_that_are_always_visited(shop, model):
    always = {name for name, group in shop.taxonomy.groups.items() if group.route == "always" and name}
    recalls = {
        name: one.router_recall for name, one in model.evaluate(shop.texts, shop.labels).per_group.items()
    }
    assert always
    assert {name for name, recall in recalls.items() if recall is None} == always


def test_what_is_no_frame_needs_labels(shop, model):
    with pytest.raises(DataError, match="expected a frame where no labels are given, found list"):
        model.evaluate(shop.texts[:3])
    with pytest.raises(DataError, match="unknown label 'x'"):
        model.evaluate(["a"], [["x"]])


def test_explain_and_review(shop, model):
    found = model.explain(shop.texts[0])
    assert [name for name, _ in found.labels] == model.predict(shop.texts[:1])[0]
    queued = model.review(shop.texts, 5)
    assert 0 < len(queued) <= 5
    assert all(row.doubts and row.text in shop.texts for row in queued)


def test_reprs_say_what_there_is(shop, model):
    labels, groups = len(shop.taxonomy.labels), len(shop.taxonomy.groups) - 1
    assert repr(shop.taxonomy) == f"Taxonomy 'shop': {labels} labels in {groups} groups"
    shown = repr(model)
    assert shown.startswith(f"Cascade 'shop': {labels} labels in {groups} groups, ")
    assert re.search(r"linear; out of fold micro F1 [01]\.\d{3}, macro F1 [01]\.\d{3}; '", shown)
    figures = repr(model.evaluate(shop.texts, shop.labels))
    assert re.fullmatch(rf"Evaluation of 300 rows, {labels} labels: micro F1 \S+, macro F1 \S+", figures)
    assert repr(model.explain("late again")).startswith("Explanation of 'late again': ")


def test_pictures_need_no_network_and_escape_what_they_show(shop, model):
    odd = Taxonomy.from_dict(
        {"name": "odd", "groups": {"<b>": {"labels": ["<script>alert(1)</script>", "b"]}}}
    )
    drawn = {
        "taxonomy": shop.taxonomy,
        "model": model,
        "evaluation": model.evaluate(shop.texts, shop.labels),
        "explanation": model.explain("<script>alert(2)</script> late"),
        "odd": odd,
    }
    for name, thing in drawn.items():
        html = thing._repr_html_()
        assert not re.search(r"(src|href)=.{0,9}https?:", html), name
        assert "<script>alert" not in html, name
    assert "alert(2)" in drawn["explanation"]._repr_html_()
    assert "late" in drawn["taxonomy"]._repr_html_()
    assert drawn["evaluation"]._repr_html_().count("<rect") == len(shop.taxonomy.labels)


def test_reading_is_there_in_python(shop, tmp_path):
    path = tmp_path / "a.csv"
    frames_of(shop)["pandas"].to_csv(path, index=False)
    rows = cascade.read_rows(path, names=shop.taxonomy)
    assert rows.reading.reading.text == ("Comment",)
    assert [list(row.labels) for row in rows] == [list(labels) for labels in shop.labels[:60]]


def test_the_example_runs(tmp_path):
    notebook = nbformat.read(ROOT / "docs" / "example.ipynb", as_version=4)
    # ipykernel waits for its sockets in ways that Python warns of at exit; what counts is what cells say.
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": ROOT}}
    )
    client.execute(env=environment(PYTHONWARNINGS="error::UserWarning"))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    drawn = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert sum("<iframe" in html for html in drawn) == 1
    assert any("cascade-evaluation" in html for html in drawn)
    assert any("cascade-explanation" in html for html in drawn)

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from evaluated_rows import TREE, rows
from processes import environment
from sparse_tables import table

from cascade.fitted import Cascade
from cascade.measure.comparison import compare_models, flat_labels, flat_taxonomy
from cascade.measure.known_cells import KnownCells, Predictions
from cascade.measure.metrics import macro_f1, micro_f1
from cascade.taxonomy.definition import Taxonomy


def with_chosen(one, chosen):
    cells = one.cells
    scored = Predictions(cells.scored.paths, chosen)
    made = KnownCells.of(one.graph, cells.truth_nodes, scored, cells.oracle, always=cells.always)
    return replace(one, cells=made)


def test_a_model_beside_itself_differs_in_nothing(evaluated):
    found = compare_models(evaluated, evaluated)
    assert (found.rows, found.labels, found.left_out) == (150, 9, ())
    for one in (*found.figures, *found.by_label):
        assert one.this == one.other
        assert (one.interval, one.p, one.is_sure) == ((0.0, 0.0), 1.0, False)


def test_a_perfect_model_is_surely_better(evaluated):
    found = compare_models(evaluated, with_chosen(evaluated, evaluated.cells.truth_nodes))
    micro, macro = found.figures
    assert (micro.this, micro.other) == (
        pytest.approx(micro_f1(evaluated.cells.truth, evaluated.cells.chosen)),
        1,
    )
    assert (macro.this, macro.other) == (
        pytest.approx(macro_f1(evaluated.cells.truth, evaluated.cells.chosen)),
        1,
    )
    assert micro.is_sure
    assert micro.p == pytest.approx(2 / 1001)
    assert micro.interval[0] <= micro.other - micro.this <= micro.interval[1]
    back = compare_models(with_chosen(evaluated, evaluated.cells.truth_nodes), evaluated).figures[0]
    assert back.interval == pytest.approx((-micro.interval[1], -micro.interval[0]))


def test_one_row_that_changed_is_no_sure_difference(evaluated):
    chosen = evaluated.cells.scored.chosen.toarray()
    chosen[3] ^= np.arange(chosen.shape[1]) == evaluated.graph.column["late"]
    found = compare_models(evaluated, with_chosen(evaluated, table(chosen)))
    assert not found.figures[0].is_sure
    assert found.by_label[0].name == "late"
    assert found.figures[0].p > 0.3


def test_the_command_compares_models_of_different_taxonomies(model, tmp_path):
    model.save(tmp_path / "shop")
    fewer = {**TREE["groups"], "mood": {"labels": ["pleased", "bored"]}}
    training = [row for row in rows(400, 3) if "cross" not in row["labels"]]
    texts, labels = ([row[name] for row in training] for name in ("text", "labels"))
    Cascade.fit(Taxonomy.from_dict(TREE | {"groups": fewer}), texts, labels).save(tmp_path / "other")
    lines = "".join(json.dumps(row) + "\n" for row in rows(150, 2))
    (tmp_path / "test.jsonl").write_text(lines, "utf-8")

    def run(*words):
        command = [sys.executable, "-m", "cascade", "evaluate", "test.jsonl", "--model", "shop"]
        return subprocess.run(
            [*command, "--compare", "other", *words],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=environment(),
        )  # fmt: skip

    told = json.loads(run("--json").stdout)["comparison"]
    assert told["left_out"] == ["bored", "cross"]
    # A row with a label that one of them does not know is refused for both.
    assert told["rows"] == sum("cross" not in row["labels"] for row in rows(150, 2))
    shown = run("--report", "page.html")
    assert shown.returncode == 3
    assert "beside other" in shown.stdout
    assert "micro F1" in shown.stdout
    assert '"comparison"' in (tmp_path / "page.html").read_text("utf-8")


def test_against_flat_tells_what_the_hierarchy_gains(model, tmp_path):
    model.save(tmp_path / "shop")
    for name, seed in {"train": 1, "test": 2}.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows(300, seed))
        (tmp_path / f"{name}.jsonl").write_text(lines, "utf-8")

    def run(*words):
        command = [sys.executable, "-m", "cascade", "evaluate", "test.jsonl", "--model", "shop", *words]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment()
        )

    told = json.loads(run("--against", "flat", "--train", "train.jsonl", "--json").stdout)["comparison"]
    assert (told["other"], told["labels"], told["left_out"]) == ("flat", 9, [])
    assert told["figures"][0]["other"] > 0.5
    assert run("--against", "flat").returncode == 2


def test_a_flat_taxonomy_has_the_labels_and_no_groups():
    tree = Taxonomy.from_dict(TREE)
    flat = flat_taxonomy(tree)
    assert (flat.graph.labels, flat.graph.groups) == (tree.graph.labels, ("",))
    assert flat_labels(tree, [["late", "delivery"], ["delivery"], []]) == [["late"], None, []]

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from evaluated_rows import rows
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import environment
from sparse_tables import known_cells, predictions, table

from cascade.measure.evaluated_rows import EvaluatedRows
from cascade.measure.known_cells import Predictions
from cascade.measure.metrics import micro_f1
from cascade.measure.mistakes import mistakes
from cascade.measure.report import (
    MOST_FLOWING,
    NOTHING,
    OTHERS,
    calibration,
    curve,
    flows,
    render_html,
    report_figures,
)
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture(scope="module")
def shown(evaluated):
    return json.loads(json.dumps(report_figures(evaluated)))


# Figures


def test_the_tree_has_each_place_once_and_the_figures_of_the_evaluation(evaluated, shown):
    graph = evaluated.graph
    assert len(shown["tree"]) == 1 + sum(len(graph.children[group]) for group in graph.groups)
    assert len({one["id"] for one in shown["tree"]}) == len(shown["tree"])
    known = {one["id"] for one in shown["tree"]}
    assert all(one["parent"] in known for one in shown["tree"][1:])
    late = evaluated.evaluation.per_label["late"]
    assert [one["f1"] for one in shown["tree"] if one["name"] == "late"] == [late.f1]


def test_what_flows_is_what_groups_truly_have_and_were_given(evaluated, shown):
    top = list(evaluated.graph.children[""])
    names, links = shown["flows"]["names"], shown["flows"]["links"]
    for name in top:
        column = evaluated.graph.column[name]
        leaving = sum(one["value"] for one in links if names[one["from"]] == name)
        assert leaving == pytest.approx(evaluated.cells.truth_nodes[:, [column]].sum(), abs=0.1)
    straight = sum(one["value"] for one in links if one["from"] == one["to"])
    assert 0 < straight < sum(one["value"] for one in links)
    assert NOTHING in names


def test_many_groups_flow_as_the_largest_and_the_others():
    groups = {f"g{number}": {"labels": [f"l{number}"]} for number in range(MOST_FLOWING + 20)}
    tree = Taxonomy.from_dict({"name": "wide", "groups": groups})
    n_labels = len(tree.graph.labels)
    truth = np.zeros((200, len(tree.graph.nodes)), dtype=bool)
    draw = np.random.default_rng(0)
    for row in range(200):
        number = draw.integers(n_labels)
        truth[row, [tree.graph.column[f"g{number}"], tree.graph.column[f"l{number}"]]] = True
    chosen = truth.copy()
    chosen[:, : len(groups)] = False
    scored = predictions(np.where(truth, np.float32(1), np.float32(np.nan)), chosen)
    cells = known_cells(tree.graph, truth, scored, scored)
    found = flows(EvaluatedRows(tree, None, [], [], cells, None))
    assert OTHERS in found["names"]
    assert len(found["names"]) <= MOST_FLOWING + 2
    assert sum(one["value"] for one in found["links"]) == pytest.approx(200)


def test_what_is_to_be_won_is_the_f1_without_these_errors(evaluated, shown):
    truth, chosen = evaluated.cells.truth, evaluated.cells.chosen
    now = micro_f1(truth, chosen)
    assert now == pytest.approx(evaluated.evaluation.micro_f1)
    kinds = {name: getattr(evaluated.kinds, name).toarray() for name in ("router", "leaf", "threshold")}
    graph = evaluated.graph

    def won(kind, labels):
        mended = chosen.toarray()
        mended[:, labels] ^= kinds[kind][:, labels]
        return pytest.approx(micro_f1(truth, table(mended)) - now)

    for one in shown["mend"]:
        assert one["gain"] == won(one["kind"], slice(None))
        for group in one["groups"]:
            below = [graph.labels.index(name) for name in graph.descendant_labels(group["group"])]
            assert group["gain"] == won(one["kind"], below)
        for label in one["labels"]:
            assert label["gain"] == won(one["kind"], [graph.labels.index(label["label"])])
        assert one["errors"] == kinds[one["kind"]].sum()
        gains = [label["gain"] for label in one["labels"]]
        assert gains == sorted(gains, reverse=True)
    gains = [one["gain"] for one in shown["mend"]]
    assert gains == sorted(gains, reverse=True)


def test_what_helps_is_said_once_and_for_which_labels_with_how_many_rows(evaluated, shown):
    assert len(shown["mend"]) == len({one["advice"] for one in shown["mend"]}) >= 2
    learnt = evaluated.manifest.groups["delivery"]
    children = evaluated.taxonomy.groups["delivery"].children
    late = learnt.positives[children.index("late")]
    assert late in {
        label["rows"] for one in shown["mend"] for label in one["labels"] if label["label"] == "late"
    }


def test_the_cut_in_use_gives_the_figures_of_the_label(shown):
    for one in shown["labels"]:
        cuts = [cut for cut in one["curve"] if cut[0] >= one["threshold"] - 1e-4]
        if not cuts or one["parents"] == ["mood"]:
            continue  # a sibling may have been preferred
        _, hits, wrong = cuts[-1]
        assert hits + wrong == one["predicted"]
        assert hits / one["rows"] == pytest.approx(one["recall"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=200), st.floats(0, 1))
def test_each_point_of_a_curve_counts_what_reaches_it(pairs, threshold):
    paths = np.array([path for path, _ in pairs], dtype=np.float32)
    true = np.array([flag for _, flag in pairs], dtype=bool)
    found = curve(paths, true, threshold)
    assert [cut for cut, _, _ in found] == sorted((cut for cut, _, _ in found), reverse=True)
    above = [paths >= cut for cut in np.unique(paths)]
    counts = {(int((true & some).sum()), int((~true & some).sum())) for some in above}
    assert all((hits, wrong) in counts for _, hits, wrong in found)
    reaching = paths[paths >= np.float32(threshold)]
    if len(reaching) and reaching.min() > 0:
        assert len(reaching) in {hits + wrong for _, hits, wrong in found}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), max_size=100))
def test_every_row_with_a_probability_is_in_one_bin(pairs):
    paths = np.array([path for path, _ in pairs], dtype=np.float32)
    true = np.array([flag for _, flag in pairs], dtype=bool)
    found = calibration(paths, true)
    assert sum(count for _, _, count in found) == (paths > 0).sum()
    assert sum(round(share * count) for _, share, count in found) == true[paths > 0].sum()


def test_mistakes_are_errors_the_surest_first_of_both_kinds(evaluated, shown):
    sure = [abs(one["path"] - one["missed"]) for one in shown["mistakes"]]
    assert sure == sorted(sure, reverse=True)
    assert {one["missed"] for one in shown["mistakes"]} == {True, False}
    truth, chosen = evaluated.cells.truth, evaluated.cells.chosen
    for one in shown["mistakes"]:
        row, column = evaluated.ids.index(one["id"]), evaluated.graph.labels.index(one["label"])
        assert truth[row, column] == one["missed"]
        assert chosen[row, column] != one["missed"]
        sides = one["label"] in one["true"], one["label"] in one["given"]
        assert sides == (one["missed"], not one["missed"])
    ways = {one["label"]: [name for name, _ in one["way"]] for one in shown["mistakes"]}
    assert ways.get("rude", ["delivery", "courier"]) == ["delivery", "courier"]


def test_the_words_that_misled_are_told_of_labels_that_are_not_true(evaluated, shown):
    wrong = [one for one in shown["mistakes"] if not one["missed"]]
    assert all(one["spans"] == [] for one in shown["mistakes"] if one["missed"])
    assert any(one["spans"] for one in wrong)
    for one in wrong:
        row = evaluated.ids.index(one["id"])
        [[carried]] = evaluated.carried([evaluated.texts[row]], [[one["label"]]])
        assert one["spans"] == [[span.start, span.end] for span in carried.spans]
    without = mistakes(replace(evaluated, carried=None))
    assert all(one["spans"] == [] for one in without)


def test_mistakes_are_of_many_rows(evaluated):
    before, everything = evaluated.cells, np.ones((150, len(evaluated.graph.nodes)), dtype=bool)
    nothing = Predictions(before.scored.paths, table(~everything))
    cells = known_cells(evaluated.graph, everything, nothing, before.oracle)
    found = mistakes(replace(evaluated, cells=cells))
    rows = Counter(one["id"] for one in found)
    assert (len(found), max(rows.values())) == (50, 3)


def test_confused_siblings_share_a_group(evaluated, shown):
    for one in shown["pairs"]:
        assert one["true"] != one["given"]
        assert {one["true"], one["given"]} <= set(evaluated.graph.children[one["group"]])
        true, given = (evaluated.graph.labels.index(one[side]) for side in ("true", "given"))
        missed, wrong = evaluated.cells.missed[:, [true]], evaluated.cells.wrong[:, [given]]
        assert one["rows"] == missed.multiply(wrong).sum() > 0
    assert shown["pairs"]


# The page


class Seen(HTMLParser):
    """What a browser would load and run."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.loaded, self.scripts, self.handlers, self._script = [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.loaded += [given[name] for name in ("src", "href", "action", "data") if name in given]
        self.handlers += [name for name in given if name.startswith("on")]
        self._script = tag == "script"
        if self._script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._script = self._script and tag != "script"

    def handle_data(self, data):
        if self._script:
            self.scripts[-1] += data


def drawn(report_figures):
    """What the page has of the figures: of each label it tells once."""
    evaluation = {name: value for name, value in report_figures["evaluation"].items() if name != "per_label"}
    return {**report_figures, "evaluation": evaluation}


def test_the_page_is_one_file_in_which_names_and_texts_are_inert(shown):
    text = render_html(shown)
    seen = Seen(text)
    assert [target for target in seen.loaded if not target.startswith("#")] == []
    assert seen.handlers == []
    assert len(seen.scripts) == 3
    assert json.loads(seen.scripts[0]) == drawn(shown)
    assert len(text.encode()) < 6_000_000
    assert re.search(r"Content-Security-Policy.*default-src 'none'", text)


def test_the_command_writes_the_page_and_the_same_figures(model, shown, tmp_path):
    model.save(tmp_path / "shop")
    lines = "".join(json.dumps(row) + "\n" for row in rows(150, 2))
    (tmp_path / "test.jsonl").write_text(lines, "utf-8")
    command = [sys.executable, "-m", "cascade", "evaluate", "test.jsonl", "--model", "shop"]
    done = subprocess.run(
        [*command, "--report", "out/page.html", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=environment(),
    )  # fmt: skip
    assert "loads nothing from elsewhere" in done.stderr
    told = json.loads(done.stdout)
    assert told.keys() == shown.keys()
    assert told["labels"] == shown["labels"]
    assert json.loads(Seen((tmp_path / "out" / "page.html").read_text("utf-8")).scripts[0]) == drawn(told)

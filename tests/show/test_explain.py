from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processes import environment

from cascade.fitted import Cascade
from cascade.show.explain import explain, worth_showing
from cascade.taxonomy.definition import Taxonomy

TREE = {
    "name": "shop",
    "groups": {
        "billing": {
            "labels": ["refund", "overcharged"],
            "groups": {"card": {"labels": ["declined", "stolen"]}},
        },
        "delivery": {"labels": ["late", "broken", "refund"]},
        "mood": {"choose": "one", "route": "always", "labels": ["pleased", "cross"]},
        "odd": {"back_off": True, "labels": ["spam"]},
    },
}
LABELS = ("refund", "overcharged", "declined", "stolen", "late", "broken", "pleased", "cross", "spam")


def rows():
    draw = np.random.default_rng(1)
    for number in range(400):
        names = list(draw.choice(LABELS, draw.integers(0, 4), replace=False))
        if {"pleased", "cross"} <= set(names):
            names.remove("cross")
        words = [*(f"{name}word" for name in names), *draw.choice(["the", "my", "please"], 4), f"n{number}"]
        yield " ".join(draw.permutation(words)), names


@pytest.fixture(scope="module")
def model():
    texts, labels = zip(*rows(), strict=True)
    return Cascade.fit(Taxonomy.from_dict(TREE), texts, labels)


texts = st.lists(st.sampled_from([*(f"{name}word" for name in LABELS), "the", "my", "?"]), max_size=8).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(texts)
def test_the_explanation_is_of_the_walk_that_answers(model, text):
    found = explain(model, text)
    assert [name for name, _ in found.labels] == model.predict([text])[0]
    walked = model.walk([text])
    column = model.graph.column
    for _, step in found.walk():
        path = walked.before.paths[0, column[step.node]]
        if not step.is_group:
            assert step.probability == pytest.approx(walked.paths[0, column[step.node]], rel=1e-5)
        if step.verdict == "not entered":
            assert np.isnan(path)
            assert step.path < step.threshold
        elif step.counts:
            assert step.path == pytest.approx(path, rel=1e-5)
        assert (step.verdict in ("entered", "backed off")) == bool(step.steps)
    chosen = {step.node for _, step in found.walk() if step.verdict in ("chosen", "backed off")}
    assert chosen == {name for name, _ in found.labels}


@settings(max_examples=30, deadline=None)
@given(texts)
def test_every_visited_node_is_told_once_for_each_parent_that_was_entered(model, text):
    walked = model.walk([text])
    visited = int((~np.isnan(walked.conditionals)).sum())
    assert len(list(explain(model, text).walk())) == visited


def test_words_speak_for_what_they_mean(model):
    found = explain(model, "the refundword my CROSSWORD")
    steps = {step.node: step for _, step in found.walk()}
    assert steps["refund"].pushes[0].word == "refundword"
    assert steps["refund"].pushes[0].push > 0
    assert steps["refund"].pushes[0].spans == ((4, 14),)
    assert steps["cross"].pushes[0].word == "crossword"
    assert steps["mood"].pushes == ()  # nobody asks about what is always visited
    assert (steps["mood"].threshold, steps["mood"].why) == (None, "always visited")
    assert steps["pleased"].verdict in ("lost", "below")


def test_no_more_words_than_wanted(model):
    text = "the refundword my crossword please lateword brokenword"
    for _, step in explain(model, text, most_words=1).walk():
        assert len(step.pushes) <= 2
    assert all(step.pushes == () for _, step in explain(model, text, most_words=0).walk())


def test_a_label_with_two_parents_tells_which_way_counts(model):
    found = explain(model, "refundword lateword overchargedword")
    ways = [step for _, step in found.walk() if step.node == "refund"]
    if len(ways) == 2:
        assert sorted(step.counts for step in ways) == [False, True]
        assert max(ways, key=lambda step: step.path).counts


def test_what_leads_to_an_answer_is_shown_and_the_best_few_others(model):
    steps = explain(model, "lateword").steps
    assert {step.node for step in steps if step.leads} == {"delivery"}
    few = worth_showing(steps, 1)
    others = [step for step in steps if not step.leads]
    best = max(others, key=lambda step: step.path)
    assert {step.node for step in few} == {"delivery", best.node}
    assert [step.path for step in few] == sorted((step.path for step in few), reverse=True)
    assert all(step.leads or not step.steps for step in few)
    assert {step.node for step in worth_showing(steps, None)} == {step.node for step in steps}


def test_the_command_draws_a_tree_and_writes_json(model, tmp_path):
    model.save(tmp_path / "shop")

    def run(*words, given=""):
        command = [sys.executable, "-m", "cascade", "explain", *words, "--model", str(tmp_path / "shop")]
        return subprocess.run(
            command, input=given, capture_output=True, text=True, check=False, env=environment()
        )

    drawn = run("my refundword is lateword").stdout
    assert drawn.splitlines()[0].startswith(("refund", "late"))
    assert "[x] late" in drawn
    assert "lateword +" in drawn
    assert "always visited" in drawn
    found = json.loads(run("-", "--json", given="my refundword").stdout)
    assert found["text"] == "my refundword"
    assert found["labels"] == [list(one) for one in explain(model, "my refundword").labels]
    assert found["steps"][0]["node"] == "billing"
    assert "more without an answer" not in run("lateword", "--all").stdout
    endless = run("-", given="x" * 1_000_001)
    assert endless.returncode == 1
    assert "<stdin>: more than 1,000,000 characters; expected one text" in endless.stderr

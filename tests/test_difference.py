from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import SHOP, manifest_of

from cascade.cli import run
from cascade.difference import Side, difference
from cascade.taxonomy import Taxonomy


def shop(**groups):
    return Taxonomy.from_dict(SHOP | {"groups": {**SHOP["groups"], **groups}})


def compared(before, after):
    return difference(Side(before), Side(after))


def told(found):
    return {(one.kind, one.name, one.before, one.after) for one in found.changes}


BACKEND = "backend linear C=3"


def test_equal_taxonomies_have_no_difference():
    found = compared(shop(), shop())
    assert (found.changes, found.retrained) == ((), ())


def test_labels_come_and_go():
    mood = SHOP["groups"]["mood"] | {"labels": ["happy", "bored"]}
    found = compared(shop(), shop(mood=mood))
    assert told(found) == {("added", "bored", "", "mood"), ("removed", "angry", "mood", "")}
    assert found.retrained == (("mood", "other children"),)  # which the top level does not ask about


def test_a_label_that_is_an_alias_now_was_merged_or_renamed():
    merged = SHOP["groups"]["mood"] | {"labels": [{"name": "happy", "aliases": ["angry"]}, "sad"]}
    assert told(compared(shop(), shop(mood=merged))) == {
        ("merged", "angry", "mood", "happy"),
        ("added", "sad", "", "mood"),
    }
    renamed = SHOP["groups"]["mood"] | {"labels": ["happy", {"name": "cross", "aliases": ["angry"]}]}
    assert told(compared(shop(), shop(mood=renamed))) == {("renamed", "angry", "mood", "cross")}


def test_a_label_in_another_group_has_moved():
    groups = {
        "mood": SHOP["groups"]["mood"] | {"labels": ["happy", "angry", "vat"]},
        "billing": SHOP["groups"]["billing"] | {"labels": ["refund"]},
    }
    found = compared(shop(), shop(**groups))
    assert told(found) == {("moved", "vat", "billing", "mood")}
    assert dict(found.retrained) == {
        "": "other labels below its children",
        "billing": "other children",
        "mood": "other children",
    }


@pytest.mark.parametrize(
    ("setting", "value", "words", "why"),
    [
        ("choose", "many", ("choose one", "choose many"), ""),
        ("threshold", 0.3, ("threshold auto", "threshold value 0.3"), ""),
        ("negatives", "all", ("negatives auto", "negatives all"), "negatives all"),
        ("backend", {"kind": "linear", "C": 3}, ("backend linear", BACKEND), BACKEND),
    ],
)
def test_settings_are_told_and_retrain_only_where_the_model_depends_on_them(setting, value, words, why):
    mood = SHOP["groups"]["mood"] | {setting: value}
    found = compared(shop(), shop(mood=mood))
    assert told(found) == {("settings", "mood", *words)}
    assert found.retrained == ((("mood", why),) if why else ())


def test_what_a_hosted_model_is_asked_for_is_a_part_of_it():
    hosted = {"backend": {"kind": "openai"}}
    one, many = (SHOP["groups"]["mood"] | hosted | {"choose": choose} for choose in ("one", "many"))
    assert compared(shop(mood=one), shop(mood=many)).retrained == (("mood", "choose many"),)


def test_of_two_models_the_nodes_tell_what_was_trained():
    tree = shop()
    before = manifest_of(tree)
    figures = before.metrics["f1"] | {"late": 0.1, "rude": 0.9}
    other = replace(before.groups["courier"], node="1" * 64)
    after = replace(before, metrics={"f1": figures}, groups={**before.groups, "courier": other})
    found = difference(Side(tree, before), Side(tree, after))
    assert [(one.name, one.after) for one in found.of("f1")] == [("late", "0.100"), ("rude", "0.900")]
    assert found.retrained == (("courier", "other rows, seed or version"),)


NAMES = ("a", "b", "c", "d", "e")


@st.composite
def taxonomies(draw):
    members = st.sets(st.sampled_from(NAMES), min_size=1)
    groups = draw(st.dictionaries(st.sampled_from(("g", "h")), members, min_size=1))
    return Taxonomy.from_dict(
        {"name": "t", "groups": {name: {"labels": sorted(members)} for name, members in groups.items()}}
    )


@settings(max_examples=100, deadline=None)
@given(taxonomies(), taxonomies())
def test_every_name_that_came_went_or_moved_is_told_once(before, after):
    found = compared(before, after)
    names = [(one.kind, one.name) for one in found.changes]
    assert len(set(names)) == len(names)
    old, new = set(before.graph.nodes), set(after.graph.nodes)
    assert {one.name for one in found.of("added")} == new - old
    assert {one.name for one in found.of("removed")} == old - new
    moved = {name for name in old & new if set(before.graph.parents[name]) != set(after.graph.parents[name])}
    assert {one.name for one in found.of("moved")} == moved
    back = compared(after, before)
    assert {one.name for one in back.of("added")} == old - new
    if before == after:
        assert found.retrained == ()


def test_the_command_tells_it_in_words_and_as_json(tmp_path, capsys):
    mood = SHOP["groups"]["mood"] | {"labels": ["happy", "bored"]}
    for name, changes in {"old": {}, "new": {"mood": mood}}.items():
        described = SHOP | {"groups": {**SHOP["groups"], **changes}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(described), "utf-8")
    old, new = str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")
    assert run(["inspect-tree", old, "--diff", new]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "added: 1",
        "  bored, in mood",
        "removed: 1",
        "  angry, was in mood",
        "`fit` trains anew: 1",
        "  mood: other children",
    ]
    assert run(["inspect-tree", old, "--diff", new, "--format", "json"]) == 0
    assert [one["group"] for one in json.loads(capsys.readouterr().out)["retrained"]] == ["mood"]
    assert run(["inspect-tree", old, "--diff", new, "--format", "dot"]) == 2
    assert run(["inspect-tree", old, "--diff", old]) == 0
    assert capsys.readouterr().out == "`fit` trains anew: nothing\n"

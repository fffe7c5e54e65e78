from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import a_shop, expected_edges, expected_nodes, manifest_of, taxonomies

from cascade.errors import DataError
from cascade.show.tree import TOP_LEVEL, ordered, pruned, subtree, tree_of_model, tree_of_taxonomy, walk
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture
def shop():
    return a_shop()


def node_of(tree, *path):
    for name in path:
        tree = next(child for child in tree.children if child.name == name)
    return tree


def shape(node):
    return {child.name: shape(child) for child in node.children} if node.kind == "group" else node.kind


def test_the_tree_of_a_taxonomy_has_each_name_under_each_of_its_parents(shop):
    tree = tree_of_taxonomy(shop)
    assert (tree.name, tree.description, tree.kind) == ("shop", "What customers say.", "group")
    assert shape(tree) == {
        "spam": "label",
        "billing": {"refund": "label", "vat": "label", "courier": {"rude": "label", "kind": "label"}},
        "delivery": {"late": "label", "broken": "label", "refund": "label", "courier": {}},
        "mood": {"happy": "label", "angry": "label"},
    }


def test_a_name_with_several_parents_knows_the_others(shop):
    tree = tree_of_taxonomy(shop)
    assert node_of(tree, "billing", "refund").also_in == ("delivery",)
    assert node_of(tree, "delivery", "refund").also_in == ("billing",)
    assert node_of(tree, "billing", "vat").also_in == ()
    assert node_of(tree, "delivery", "courier").also_in == ("billing",)


def test_a_label_at_the_top_and_in_a_group_names_the_top_level():
    tree = tree_of_taxonomy(
        Taxonomy.from_dict({"name": "n", "labels": ["a"], "groups": {"g": {"labels": ["a", "b"]}}})
    )
    assert node_of(tree, "g", "a").also_in == (TOP_LEVEL,)
    assert node_of(tree, "a").also_in == ("g",)


def test_what_is_below_a_group_with_several_parents_is_told_once(shop):
    first, second = (node_of(tree_of_taxonomy(shop), parent, "courier") for parent in ("billing", "delivery"))
    assert not first.repeated
    assert len(first.children) == 2
    assert second.repeated
    assert (second.children, second.labels_below) == ((), 2)


def test_many_shared_groups_make_no_explosion():
    groups = {"g0": {"labels": ["z"]}}
    for level in range(1, 40):
        above = [f"a{level - 1}", f"b{level - 1}"] if level > 1 else ["g0"]
        for side in "ab":
            groups[f"{side}{level}"] = {"also_in": above, "labels": [f"{side}{level} x", f"{side}{level} y"]}
    tree = tree_of_taxonomy(Taxonomy.from_dict({"name": "n", "groups": groups}))
    assert sum(1 for _ in walk(tree)) < 1000
    assert tree.labels_below == 4 * 39 + 1


def test_settings_of_groups_are_those_of_the_taxonomy(shop):
    tree = tree_of_taxonomy(shop)
    mood, courier = node_of(tree, "mood"), node_of(tree, "billing", "courier")
    assert (mood.choose, mood.route, mood.backend, mood.negatives) == ("one", "always", "linear", "auto")
    assert (courier.choose, courier.route, courier.negatives) == ("many", "model", "all")
    assert tree.route is None


def test_thresholds_of_a_taxonomy_are_told_as_they_were_asked_for(shop):
    tree = tree_of_taxonomy(shop)
    assert node_of(tree, "billing", "vat").threshold == "precision 0.9"
    assert node_of(tree, "delivery", "broken").threshold == 0.4
    assert node_of(tree, "delivery", "late").threshold == "auto"
    assert node_of(tree, "billing").threshold is None


def test_the_tree_of_a_model_has_rows_figures_and_thresholds(shop):
    tree = tree_of_model(shop, manifest_of(shop))
    place = shop.graph.labels.index("late")
    late = node_of(tree, "delivery", "late")
    assert (late.rows, late.f1, late.threshold) == (5 * place, place / 10, 0.25)
    billing, mood = node_of(tree, "billing"), node_of(tree, "mood")
    assert (billing.rows, billing.threshold, billing.negatives) == (1234, 0.0125, "siblings")
    assert mood.threshold is None  # nothing decides whether it is entered
    assert (tree.rows, tree.threshold) == (1234, None)


def test_rows_are_right_beside_a_group_that_is_always_visited():
    """It takes no column of its parent's model."""
    taxonomy = Taxonomy.from_dict(
        {"name": "n", "groups": {"m": {"route": "always", "labels": ["x", "y"]}}, "labels": ["p", "q"]}
    )
    tree = tree_of_model(taxonomy, manifest_of(taxonomy))
    rows = {node.name: node.rows for _, node in walk(tree) if node.kind == "label"}
    assert rows == {name: 5 * place for place, name in enumerate(taxonomy.graph.labels)}


def test_a_group_without_a_model_of_its_own_is_shown_too():
    taxonomy = Taxonomy.from_dict({"name": "n", "groups": {"m": {"route": "always", "labels": ["x", "y"]}}})
    manifest = manifest_of(taxonomy)
    without_root = {name: record for name, record in manifest.groups.items() if name}
    tree = tree_of_model(taxonomy, replace(manifest, groups=without_root))
    assert tree.rows is None
    assert node_of(tree, "m", "y").rows == 5


def test_labels_with_few_rows_or_none_and_doubted_rows_are_warned_of(shop):
    doubted = ({"row": 3, "label": "vat"}, {"row": 9, "label": "vat"}, {"row": 9, "label": "kind"})
    tree = tree_of_model(shop, manifest_of(shop, suspicious=doubted))
    labels = shop.graph.labels
    warnings = {node.name: node.warnings for _, node in walk(tree) if node.kind == "label"}
    assert warnings[labels[0]] == ("no rows",)
    assert warnings[labels[1]] == ("few rows",)
    assert warnings["vat"][-1] == "2 suspicious rows"
    assert warnings["kind"] == ("1 suspicious row",)
    assert warnings[labels[-1]] == ()


def test_a_group_whose_answers_never_vary_is_warned_of(shop):
    manifest = manifest_of(shop)
    constant = replace(manifest.groups["mood"], backend={"kind": "constant"})
    tree = tree_of_model(shop, replace(manifest, groups={**manifest.groups, "mood": constant}))
    assert node_of(tree, "mood").warnings == ("answers the same for every text",)
    assert node_of(tree, "mood").backend == "constant"
    assert node_of(tree, "billing").warnings == ()


def test_json_is_plain_and_complete(shop):
    plain = json.loads(json.dumps(tree_of_model(shop, manifest_of(shop)).to_json()))
    assert [child["name"] for child in plain["children"]] == ["spam", "billing", "delivery", "mood"]
    delivery = plain["children"][2]
    assert delivery["rows"] == 1234
    assert delivery["choose"] == "many"
    late = delivery["children"][0]
    assert late == {
        "name": "late",
        "last_name": "late",
        "kind": "label",
        "description": "",
        "rows": late["rows"],
        "positives": late["rows"],
        "threshold": 0.25,
        "also_in": [],
        "warnings": late["warnings"],
        "f1": late["f1"],
    }
    again = delivery["children"][3]
    assert (again["repeated"], again["labels_below"], again["children"]) == (True, 2, [])


def test_a_subtree_begins_at_the_group(shop):
    assert subtree(tree_of_taxonomy(shop), "delivery").name == "delivery"


def test_the_subtree_of_a_shared_group_is_the_one_that_is_told(shop):
    assert len(subtree(tree_of_taxonomy(shop), "courier").children) == 2


def test_an_unknown_group_is_named_with_the_nearest(shop):
    with pytest.raises(DataError, match=r"'shop' has no group 'biling'\. Did you mean 'billing'\?"):
        subtree(tree_of_taxonomy(shop), "biling")
    with pytest.raises(
        DataError, match=r"has no group 'zzz'\. It has: 'billing', 'courier', 'delivery', 'mood'\."
    ):
        subtree(tree_of_taxonomy(shop), "zzz")
    with pytest.raises(DataError, match="has no group 'late'"):
        subtree(tree_of_taxonomy(shop), "late")


def test_a_pruned_tree_keeps_the_count_of_what_it_hides(shop):
    tree = pruned(tree_of_taxonomy(shop), 1)
    assert [(child.name, child.labels_below) for child in tree.children] == [
        ("spam", 0),
        ("billing", 4),
        ("delivery", 5),
        ("mood", 2),
    ]
    assert all(not child.children for child in tree.children)


def test_a_tree_that_is_shallow_enough_is_not_pruned(shop):
    assert pruned(tree_of_taxonomy(shop), 3) == tree_of_taxonomy(shop)


def test_the_f1_of_a_group_is_the_mean_of_the_labels_below_it(shop):
    figures = {"f1": {"refund": 0.5, "late": 1.0, "rude": 0.0, "happy": 0.2}}
    tree = tree_of_model(shop, manifest_of(shop, metrics=figures))
    assert node_of(tree, "delivery").f1 == 0.5
    assert node_of(tree, "mood").f1 == 0.2
    assert tree.f1 == pytest.approx(1.7 / 4)
    assert tree_of_taxonomy(shop).f1 is None


def test_positives_are_what_the_parents_model_learnt_from(shop):
    tree = tree_of_model(shop, manifest_of(shop))
    assert node_of(tree, "billing").positives == 600
    assert node_of(tree, "mood").positives is None  # no model scores it
    assert tree.positives is None
    late = node_of(tree, "delivery", "late")
    assert late.positives == late.rows


def test_children_come_in_the_order_that_was_asked_for(shop):
    figures = {"f1": {"late": 0.9, "broken": 0.1, "rude": 0.5, "kind": 0.5}}
    tree = tree_of_model(shop, manifest_of(shop, metrics=figures))
    order = [child.name for child in node_of(ordered(tree, "f1"), "delivery").children]
    assert order == ["broken", "courier", "late", "refund"]  # that of courier is 0.5, refund has none
    assert [child.name for child in ordered(tree, "name").children] == ["billing", "delivery", "mood", "spam"]
    rows = [child.rows for child in node_of(ordered(tree, "rows"), "mood").children]
    assert rows == sorted(rows, reverse=True)


def test_a_shared_group_is_told_where_it_comes_first_in_any_order():
    names = {"name": "shop", "groups": {"z": {"labels": ["a"]}, "b": {"labels": ["c"]}}}
    names["groups"]["z"]["groups"] = {"s": {"also_in": ["b"], "labels": ["d"]}}
    tree = ordered(tree_of_taxonomy(Taxonomy.from_dict(names)), "name")
    assert [(node.name, node.repeated) for _, node in walk(tree) if node.name == "s"] == [
        ("s", False),
        ("s", True),
    ]
    assert len(node_of(tree, "b", "s").children) == 1


def test_a_subtree_tells_what_was_told_elsewhere(shop):
    courier = node_of(subtree(tree_of_taxonomy(shop), "delivery"), "courier")
    assert not courier.repeated
    assert len(courier.children) == 2


def test_what_is_pruned_was_not_told():
    groups = {
        "a": {"groups": {"deep": {"groups": {"s": {"also_in": ["b"], "labels": ["x"]}}}}, "labels": ["p"]}
    }
    groups["b"] = {"labels": ["q"]}
    tree = pruned(tree_of_taxonomy(Taxonomy.from_dict({"name": "n", "groups": groups})), 3)
    assert [child.name for child in node_of(tree, "b", "s").children] == ["x"]


@given(taxonomies(), st.sampled_from(["f1", "rows", "name", None]))
@settings(deadline=None, derandomize=True)
def test_every_edge_stands_in_the_tree_once_and_every_name_under_each_parent(taxonomy, order):
    tree = tree_of_model(taxonomy, manifest_of(taxonomy))
    nodes = [node for _, node in walk(tree if order is None else ordered(tree, order))]
    assert Counter(node.name for node in nodes) == expected_nodes(taxonomy)
    assert Counter((node.name, child.name) for node in nodes for child in node.children) == expected_edges(
        taxonomy
    )


@given(taxonomies())
@settings(deadline=None, derandomize=True)
def test_json_has_every_edge_once(taxonomy):
    edges, left = Counter(), [json.loads(json.dumps(tree_of_taxonomy(taxonomy).to_json()))]
    while left:
        group = left.pop()
        edges.update((group["name"], child["name"]) for child in group["children"])
        left += [child for child in group["children"] if child["kind"] == "group"]
    assert edges == expected_edges(taxonomy)

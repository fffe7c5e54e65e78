from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from cascade.drawing import render
from cascade.errors import DataError
from cascade.store import GroupRecord, Manifest
from cascade.taxonomy import Taxonomy
from cascade.tree import TOP_LEVEL, TreeNode, of_model, of_taxonomy, ordered, pruned, subtree, walk
from cascade.walk import modelled

SHOP = {
    "name": "shop",
    "description": "What customers say.",
    "labels": ["spam"],
    "groups": {
        "billing": {
            "description": "Money.",
            "threshold": {"precision": 0.9},
            "labels": [{"name": "refund", "description": "Money\nback."}, "vat"],
        },
        "delivery": {
            "labels": ["late", {"name": "broken", "threshold": 0.4}, "refund"],
            "groups": {"courier": {"also_in": ["billing"], "negatives": "all", "labels": ["rude", "kind"]}},
        },
        "mood": {"choose": "one", "route": "always", "labels": ["happy", "angry"]},
    },
}


@pytest.fixture
def shop():
    return Taxonomy.from_dict(SHOP)


def manifest_of(taxonomy, **changes):
    """A manifest in which the n-th label has 5 n rows and an F1 of n / 10."""
    labels = taxonomy.graph.labels
    rows = {label: 5 * place for place, label in enumerate(labels)}
    groups = {}
    for group in taxonomy.graph.groups:
        children = modelled(taxonomy, group)
        groups[group] = GroupRecord(
            backend={"kind": "linear", "C": 1.0},
            node="0" * 64,
            files={},
            negatives="siblings",
            slopes=(1.0,) * len(children),
            offsets=(0.0,) * len(children),
            route_threshold=0.0125,
            rows=1234,
            positives=tuple(rows.get(child, 600) for child in children),
        )
    manifest = Manifest(
        taxonomy=taxonomy.to_dict(),
        nodes=taxonomy.graph.nodes,
        groups=groups,
        thresholds=dict.fromkeys(labels, 0.25),
        metrics={"f1": {label: place / 10 for place, label in enumerate(labels)}},
        suspicious=(),
        seed=0,
        versions={},
    )
    return replace(manifest, **changes)


def drawn(tree, width=80, depth=None):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(render(tree, depth))
    return console.file.getvalue().splitlines()


def line_of(lines, name):
    found = [line for line in lines if f" {name} " in f"{line} "]
    assert found, lines
    return found[0]


def node_of(tree, *path):
    for name in path:
        tree = next(child for child in tree.children if child.name == name)
    return tree


def shape(node):
    return {child.name: shape(child) for child in node.children} if node.kind == "group" else node.kind


def test_the_tree_of_a_taxonomy_has_each_name_under_each_of_its_parents(shop):
    tree = of_taxonomy(shop)
    assert (tree.name, tree.description, tree.kind) == ("shop", "What customers say.", "group")
    assert shape(tree) == {
        "spam": "label",
        "billing": {"refund": "label", "vat": "label", "courier": {"rude": "label", "kind": "label"}},
        "delivery": {"late": "label", "broken": "label", "refund": "label", "courier": {}},
        "mood": {"happy": "label", "angry": "label"},
    }


def test_a_name_with_several_parents_knows_the_others(shop):
    tree = of_taxonomy(shop)
    assert node_of(tree, "billing", "refund").also_in == ("delivery",)
    assert node_of(tree, "delivery", "refund").also_in == ("billing",)
    assert node_of(tree, "billing", "vat").also_in == ()
    assert node_of(tree, "delivery", "courier").also_in == ("billing",)


def test_a_label_at_the_top_and_in_a_group_names_the_top_level():
    tree = of_taxonomy(
        Taxonomy.from_dict({"name": "n", "labels": ["a"], "groups": {"g": {"labels": ["a", "b"]}}})
    )
    assert node_of(tree, "g", "a").also_in == (TOP_LEVEL,)
    assert node_of(tree, "a").also_in == ("g",)


def test_what_is_below_a_group_with_several_parents_is_told_once(shop):
    first, second = (node_of(of_taxonomy(shop), parent, "courier") for parent in ("billing", "delivery"))
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
    tree = of_taxonomy(Taxonomy.from_dict({"name": "n", "groups": groups}))
    assert sum(1 for _ in walk(tree)) < 1000
    assert tree.labels_below == 4 * 39 + 1


def test_settings_of_groups_are_those_of_the_taxonomy(shop):
    tree = of_taxonomy(shop)
    mood, courier = node_of(tree, "mood"), node_of(tree, "billing", "courier")
    assert (mood.choose, mood.route, mood.backend, mood.negatives) == ("one", "always", "linear", "auto")
    assert (courier.choose, courier.route, courier.negatives) == ("many", "model", "all")
    assert tree.route is None


def test_thresholds_of_a_taxonomy_are_told_as_they_were_asked_for(shop):
    tree = of_taxonomy(shop)
    assert node_of(tree, "billing", "vat").threshold == "precision 0.9"
    assert node_of(tree, "delivery", "broken").threshold == 0.4
    assert node_of(tree, "delivery", "late").threshold == "auto"
    assert node_of(tree, "billing").threshold is None


def test_the_tree_of_a_model_has_rows_figures_and_thresholds(shop):
    tree = of_model(shop, manifest_of(shop))
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
    tree = of_model(taxonomy, manifest_of(taxonomy))
    rows = {node.name: node.rows for _, node in walk(tree) if node.kind == "label"}
    assert rows == {name: 5 * place for place, name in enumerate(taxonomy.graph.labels)}


def test_a_group_without_a_model_of_its_own_is_shown_too():
    taxonomy = Taxonomy.from_dict({"name": "n", "groups": {"m": {"route": "always", "labels": ["x", "y"]}}})
    manifest = manifest_of(taxonomy)
    without_root = {name: record for name, record in manifest.groups.items() if name}
    tree = of_model(taxonomy, replace(manifest, groups=without_root))
    assert tree.rows is None
    assert node_of(tree, "m", "y").rows == 5


def test_labels_with_few_rows_or_none_and_doubted_rows_are_warned_of(shop):
    doubted = ({"row": 3, "label": "vat"}, {"row": 9, "label": "vat"}, {"row": 9, "label": "kind"})
    tree = of_model(shop, manifest_of(shop, suspicious=doubted))
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
    tree = of_model(shop, replace(manifest, groups={**manifest.groups, "mood": constant}))
    assert node_of(tree, "mood").warnings == ("answers the same for every text",)
    assert node_of(tree, "mood").backend == "constant"
    assert node_of(tree, "billing").warnings == ()


def test_json_is_plain_and_complete(shop):
    plain = json.loads(json.dumps(of_model(shop, manifest_of(shop)).to_json()))
    assert [child["name"] for child in plain["children"]] == ["spam", "billing", "delivery", "mood"]
    delivery = plain["children"][2]
    assert delivery["rows"] == 1234
    assert delivery["choose"] == "many"
    late = delivery["children"][0]
    assert late == {
        "name": "late",
        "kind": "label",
        "description": "",
        "rows": late["rows"],
        "threshold": 0.25,
        "also_in": [],
        "warnings": late["warnings"],
        "f1": late["f1"],
    }
    again = delivery["children"][3]
    assert (again["repeated"], again["labels_below"], again["children"]) == (True, 2, [])


def test_a_subtree_begins_at_the_group(shop):
    assert subtree(of_taxonomy(shop), "delivery").name == "delivery"


def test_the_subtree_of_a_shared_group_is_the_one_that_is_told(shop):
    assert len(subtree(of_taxonomy(shop), "courier").children) == 2


def test_an_unknown_group_is_named_with_the_nearest(shop):
    with pytest.raises(DataError, match=r"'shop' has no group 'biling'\. Did you mean 'billing'\?"):
        subtree(of_taxonomy(shop), "biling")
    with pytest.raises(
        DataError, match=r"has no group 'zzz'\. It has: 'billing', 'courier', 'delivery', 'mood'\."
    ):
        subtree(of_taxonomy(shop), "zzz")
    with pytest.raises(DataError, match="has no group 'late'"):
        subtree(of_taxonomy(shop), "late")


def test_a_pruned_tree_keeps_the_count_of_what_it_hides(shop):
    tree = pruned(of_taxonomy(shop), 1)
    assert [(child.name, child.labels_below) for child in tree.children] == [
        ("spam", 0),
        ("billing", 4),
        ("delivery", 5),
        ("mood", 2),
    ]
    assert all(not child.children for child in tree.children)


def test_a_tree_that_is_shallow_enough_is_not_pruned(shop):
    assert pruned(of_taxonomy(shop), 3) == of_taxonomy(shop)


def test_a_drawing_counts_everything_however_deep_it_goes(shop):
    first = "4 groups, 9 labels, 1,234 training rows"
    tree = of_model(shop, manifest_of(shop))
    assert drawn(tree)[0] == first
    assert drawn(tree, depth=1)[0] == first


def test_a_drawing_of_a_model_shows_rows_f1_and_threshold(shop):
    lines = drawn(of_model(shop, manifest_of(shop)), width=100)
    place = shop.graph.labels.index("late")
    assert line_of(lines, "late").split()[-5:] == [
        "late",
        str(5 * place),
        lines_bar(place / 10),
        f"{place / 10:.2f}",
        "0.25",
    ]
    assert "1,234 rows, linear, F1 0.75, choose one, route always" in line_of(lines, "mood")
    assert "route from 0.013" in line_of(lines, "billing")


def lines_bar(f1):
    eighths = round(f1 * 5 * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


@pytest.mark.parametrize(
    ("f1", "bar", "number"),
    [(None, "", "-"), (0.0, "", "0.00"), (0.35, "█▊", "0.35"), (0.5, "██▌", "0.50"), (1.0, "█████", "1.00")],
)
def test_the_bar_is_as_long_as_the_f1(shop, f1, bar, number):
    figures = {"f1": {} if f1 is None else {"late": f1}}
    words = line_of(drawn(of_model(shop, manifest_of(shop, metrics=figures))), "late").split()
    assert words[-2 - bool(bar) : -1] == ([bar, number] if bar else [number])


def test_figures_stand_in_columns_under_their_headings(shop):
    lines = drawn(of_model(shop, manifest_of(shop)), width=100)
    heading = lines[1]
    for name in ("spam", "late", "happy", "rude"):
        line = line_of(lines, name)
        assert line[: heading.index("rows") + 4][-1].isdigit()
        assert line[: heading.index("threshold") + 9].endswith("0.25")


def test_a_drawing_of_a_taxonomy_shows_descriptions_on_one_line_and_no_figures(shop):
    lines = drawn(of_taxonomy(shop))
    assert line_of(lines, "refund").endswith("refund  threshold precision 0.9  also in delivery  Money back.")
    assert "threshold" not in line_of(lines, "late")
    assert not any("F1" in line for line in lines)


def test_a_shared_group_points_to_where_it_was_told(shop):
    lines = drawn(of_taxonomy(shop))
    assert [("told above" in line) for line in lines if "courier" in line] == [False, True]


def test_names_in_square_brackets_are_no_markup():
    tree = of_taxonomy(Taxonomy.from_dict({"name": "n", "labels": ["[red]a[/red]", ":smile:"]}))
    text = "\n".join(drawn(tree))
    assert "[red]a[/red]" in text
    assert ":smile:" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_console_even_with_long_and_wide_names(width):
    names = [f"label {place} " + "long " * (place % 12) + "長い名前" * (place % 7) for place in range(500)]
    groups = {f"group {at}": {"labels": [name.strip() for name in names[at::20]]} for at in range(20)}
    taxonomy = Taxonomy.from_dict({"name": "n", "groups": groups})
    for tree in (of_taxonomy(taxonomy), of_model(taxonomy, manifest_of(taxonomy))):
        lines = drawn(tree, width)
        assert max(map(cell_len, lines)) <= width
        assert len(lines) == 1 + (tree.rows is not None) + 1 + 20 + 500


def test_a_long_name_is_cut_before_its_figures_are():
    labels = ["a label " + "with a long name " * 10, "b"]
    taxonomy = Taxonomy.from_dict({"name": "n", "labels": [name.strip() for name in labels]})
    line = line_of(drawn(of_model(taxonomy, manifest_of(taxonomy))), "label")
    assert "…" in line
    assert line.split()[-5:] == ["0", "0.00", "0.25", "no", "rows"]


def test_a_terminal_without_box_characters_gets_ascii(shop):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80, highlight=False)
    console.print(render(of_model(shop, manifest_of(shop))))
    console.file.flush()
    assert b"|-- mood" in raw.getvalue().replace(b"`", b"|")
    assert b"####" in raw.getvalue()


def test_a_single_node_is_a_tree():
    assert [depth for depth, _ in walk(TreeNode("a", "label"))] == [0]
    assert drawn(TreeNode("a", "label", description="One."))[-1] == "a  One."


# Orders and means


def test_children_come_in_the_order_that_is_wanted(shop):
    tree = of_model(shop, manifest_of(shop))
    assert [child.name for child in ordered(tree, "name").children] == ["billing", "delivery", "mood", "spam"]
    by_rows = ordered(tree, "rows").children
    assert [child.rows for child in by_rows] == sorted((child.rows for child in by_rows), reverse=True)
    by_f1 = [child.f1 for child in ordered(tree, "f1").children]
    assert by_f1 == sorted(by_f1)
    for order in ("name", "rows", "f1"):
        assert sorted(node.name for _, node in walk(ordered(tree, order))) == sorted(
            node.name for _, node in walk(tree)
        )


def test_what_has_no_f1_comes_last(shop):
    manifest = manifest_of(shop)
    manifest.metrics["f1"].pop("late")
    (delivery,) = [one for one in of_model(shop, manifest).children if one.name == "delivery"]
    assert ordered(delivery, "f1").children[-1].name == "late"


def test_the_f1_of_a_group_is_the_mean_of_the_labels_below(shop):
    tree, figures = of_model(shop, manifest_of(shop)), manifest_of(shop).metrics["f1"]
    for _, node in walk(tree):
        if node.kind == "group":
            name = "" if node is tree else node.name
            below = [figures[label] for label in shop.graph.descendant_labels(name)]
            assert node.f1 == pytest.approx(sum(below) / len(below))
    assert of_taxonomy(shop).f1 is None


def test_a_hosted_group_names_its_model(shop):
    manifest = manifest_of(shop)
    hosted = replace(
        manifest.groups["billing"], backend={"kind": "openai"}, notes={"model": "ft:gpt:shop::1"}
    )
    tree = of_model(shop, replace(manifest, groups={**manifest.groups, "billing": hosted}))
    lines = drawn(tree, width=160)
    assert "openai" in line_of(lines, "billing")
    assert "ft:gpt:shop::1" in line_of(lines, "billing")
    models = {one["name"]: one.get("model") for one in tree.to_json()["children"]}
    assert (models["billing"], models["mood"]) == ("ft:gpt:shop::1", None)

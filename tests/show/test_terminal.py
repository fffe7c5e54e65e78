from __future__ import annotations

import io
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from trees import a_shop, expected_edges, manifest_of, taxonomies

from cascade.show.terminal import render_tree
from cascade.show.tree import TreeNode, tree_of_model, tree_of_taxonomy, walk
from cascade.taxonomy.definition import Taxonomy


@pytest.fixture
def shop():
    return a_shop()


def drawn(tree, width=80, depth=None):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(render_tree(tree, depth))
    return console.file.getvalue().splitlines()


def line_of(lines, name):
    found = [line for line in lines if f" {name} " in f"{line} "]
    assert found, lines
    return found[0]


def test_a_drawing_counts_everything_however_deep_it_goes(shop):
    first = "4 groups, 9 labels, 1,234 training rows"
    tree = tree_of_model(shop, manifest_of(shop))
    assert drawn(tree)[0] == first
    assert drawn(tree, depth=1)[0] == first


def test_a_drawing_of_a_model_shows_rows_f1_and_threshold(shop):
    lines = drawn(tree_of_model(shop, manifest_of(shop)), width=100)
    place = shop.graph.labels.index("late")
    assert line_of(lines, "late").split()[-5:] == [
        "late",
        str(5 * place),
        lines_bar(place / 10),
        f"{place / 10:.2f}",
        "0.25",
    ]
    assert line_of(lines, "mood").split()[-6:] == ["1,234", "███▊", "0.75", "always", "choose", "one"]
    assert line_of(lines, "billing").split()[-1] == "0.013"


def lines_bar(f1):
    eighths = round(f1 * 5 * 8)
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


@pytest.mark.parametrize(
    ("f1", "bar", "number"),
    [(None, "", "-"), (0.0, "", "0.00"), (0.35, "█▊", "0.35"), (0.5, "██▌", "0.50"), (1.0, "█████", "1.00")],
)
def test_the_bar_is_as_long_as_the_f1(shop, f1, bar, number):
    figures = {"f1": {} if f1 is None else {"late": f1}}
    words = line_of(drawn(tree_of_model(shop, manifest_of(shop, metrics=figures))), "late").split()
    assert words[-2 - bool(bar) : -1] == ([bar, number] if bar else [number])


def test_figures_stand_in_columns_under_their_headings(shop):
    lines = drawn(tree_of_model(shop, manifest_of(shop)), width=100)
    heading = lines[3]
    for name in ("spam", "late", "happy", "rude"):
        line = line_of(lines, name)
        assert line[: heading.index("rows") + 4][-1].isdigit()
        assert line[: heading.index("threshold") + 9].endswith("0.25")


def test_a_drawing_of_a_taxonomy_shows_descriptions_on_one_line_and_no_figures(shop):
    lines = drawn(tree_of_taxonomy(shop))
    assert line_of(lines, "refund").endswith("refund  also in delivery  threshold precision 0.9  Money back.")
    assert "threshold" not in line_of(lines, "late")
    assert not any("F1" in line for line in lines)
    assert line_of(lines, "mood").endswith("mood  choose one, route always")


def test_a_shared_group_points_to_where_it_was_told(shop):
    lines = drawn(tree_of_taxonomy(shop))
    assert [("told above" in line) for line in lines if "courier" in line] == [False, True]


def test_names_in_square_brackets_are_no_markup():
    tree = tree_of_taxonomy(Taxonomy.from_dict({"name": "n", "labels": ["[red]a[/red]", ":smile:"]}))
    text = "\n".join(drawn(tree))
    assert "[red]a[/red]" in text
    assert ":smile:" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_console_even_with_long_and_wide_names(width):
    names = [f"label {place} " + "long " * (place % 12) + "長い名前" * (place % 7) for place in range(500)]
    groups = {f"group {at}": {"labels": [name.strip() for name in names[at::20]]} for at in range(20)}
    taxonomy = Taxonomy.from_dict({"name": "n", "groups": groups})
    for tree in (tree_of_taxonomy(taxonomy), tree_of_model(taxonomy, manifest_of(taxonomy))):
        lines = drawn(tree, width)
        assert max(map(cell_len, lines)) <= width
        assert len(lines) == (2 if tree.rows is None else 4) + 1 + 20 + 500


def test_a_long_name_is_cut_before_its_figures_are():
    labels = ["a label " + "with a long name " * 10, "b"]
    taxonomy = Taxonomy.from_dict({"name": "n", "labels": [name.strip() for name in labels]})
    line = line_of(drawn(tree_of_model(taxonomy, manifest_of(taxonomy))), "label")
    assert "…" in line
    assert line.split()[-5:] == ["0", "0.00", "0.25", "no", "rows"]


def test_a_terminal_without_box_characters_gets_ascii(shop):
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii"), width=80, highlight=False)
    console.print(render_tree(tree_of_model(shop, manifest_of(shop))))
    console.file.flush()
    assert b"|-- mood" in raw.getvalue().replace(b"`", b"|")
    assert b"####" in raw.getvalue()


def test_a_single_node_is_a_tree():
    assert [depth for depth, _ in walk(TreeNode("a", "label"))] == [0]
    assert drawn(TreeNode("a", "label", description="One."))[-1] == "a  One."


def test_what_most_groups_are_set_to_is_said_once(shop):
    lines = drawn(tree_of_taxonomy(shop))
    assert lines[1] == "unless another is said: linear, choose many, route model, negatives auto"
    assert [line for line in lines if "choose many" in line] == [lines[1]]
    assert "negatives all" in line_of(lines, "courier")
    assert "choose" not in line_of(lines, "delivery")


def test_a_hosted_group_shows_the_model_that_answers(shop):
    manifest = manifest_of(shop)
    hosted = replace(manifest.groups["mood"], backend={"kind": "openai"}, notes={"model": "ft:small:shop::1"})
    tree = tree_of_model(shop, replace(manifest, groups={**manifest.groups, "mood": hosted}))
    assert "openai ft:small:shop::1" in line_of(drawn(tree, width=120), "mood")
    mood = next(node for _, node in walk(tree) if node.name == "mood")
    assert (mood.backend, mood.model) == ("openai", "ft:small:shop::1")


def test_a_group_that_may_be_the_answer_says_from_where_on():
    plain = {"name": "n", "groups": {"g": {"back_off": True, "threshold": 0.25, "labels": ["a"]}}}
    assert line_of(drawn(tree_of_taxonomy(Taxonomy.from_dict(plain))), "g").endswith("back off from 0.25")


def test_names_stand_before_their_figures_without_colour(shop):
    """Nothing but colour would be lost on paper: bars have numbers, warnings words."""
    lines = drawn(tree_of_model(shop, manifest_of(shop, suspicious=({"row": 1, "label": "vat"},))))
    assert "1 suspicious" in line_of(lines, "vat")
    assert all("\x1b" not in line for line in lines)


@given(taxonomies(st.text("abcxyz日本", min_size=1, max_size=6)), st.booleans())
@settings(deadline=None, derandomize=True)
def test_every_edge_stands_in_the_drawing_once(taxonomy, is_fitted):
    tree = tree_of_model(taxonomy, manifest_of(taxonomy)) if is_fitted else tree_of_taxonomy(taxonomy)
    path, edges = [], Counter()
    for line in drawn(tree, width=400)[4 if is_fitted else 2 :]:
        guide, _, rest = line.rpartition("── ")
        depth = (len(guide) + 3) // 4 if guide else 0
        path[depth:] = [rest.split()[0]]
        if depth:
            edges[path[-2], path[-1]] += 1
    assert edges == expected_edges(taxonomy)

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from trees import HOSTILE, a_shop, expected_edges, expected_nodes, manifest_of, taxonomies

from cascade.show.tree import TreeNode, pruned, tree_of_model, tree_of_taxonomy
from cascade.show.tree_html import render_html
from cascade.taxonomy.definition import Taxonomy

VOID = {"meta", "input", "rect", "link", "br", "img"}


class Reader(HTMLParser):
    """Tags, the text of scripts, and the names of the tree with those that they stand under."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.scripts, self.open = Counter(), [], [], []
        self.path, self.edges, self.nodes, self.notes = [], Counter(), Counter(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        if tag == "li":
            self.path.append("")
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class")))

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag):
        opened, kind = self.open.pop()
        assert opened == tag
        if (tag, kind) == ("span", "name"):
            self.nodes[self.path[-1]] += 1
            if len(self.path) > 1:
                self.edges[self.path[-2], self.path[-1]] += 1
        if tag == "li":
            self.path.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == ("span", "name"):
            self.path[-1] += data
        if self.open and self.open[-1][0] == "script":
            self.scripts.append(data)
        if ("span", "notes") in self.open:
            self.notes.append(data)


@given(taxonomies())
@settings(deadline=None, derandomize=True, max_examples=50)
def test_every_edge_stands_in_the_page_once_and_every_name_under_each_parent(taxonomy):
    for tree in (tree_of_taxonomy(taxonomy), tree_of_model(taxonomy, manifest_of(taxonomy))):
        found = Reader(render_html(tree))
        assert found.open == []
        assert found.edges == expected_edges(taxonomy)
        assert found.nodes == expected_nodes(taxonomy)


def hostile():
    labels = [{"name": name, "description": name, "aliases": []} for name in HOSTILE]
    plain = {"name": "n", "description": "</title><script>", "groups": {"a&b": {"labels": labels}}}
    return Taxonomy.from_dict(plain)


def test_names_and_descriptions_are_no_markup():
    found = Reader(render_html(tree_of_taxonomy(hostile())))
    assert found.tags["script"] == 1
    assert found.tags["b"] == 0
    assert set(HOSTILE) < set(found.nodes)
    assert "".join(found.notes).count("</script><script>alert(1)</script>") == 1


def test_the_page_loads_nothing_and_runs_its_own_script_only():
    text = render_html(tree_of_taxonomy(hostile()))
    found = Reader(text)
    assert {name for name, _ in found.attributes} & {"src", "href", "style", "onclick", "onload"} == set()
    assert "url(" not in text
    assert "@import" not in text
    policy = next(value for name, value in found.attributes if value and "default-src 'none'" in value)
    (script,) = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_a_page_of_a_model_has_figures_and_warnings():
    shop = a_shop()
    text = render_html(tree_of_model(shop, manifest_of(shop, suspicious=({"row": 1, "label": "vat"},))))
    assert "1 suspicious row" in text
    assert '<span class="rows">1,234</span>' in text
    assert "of 1,234" in text
    assert re.search(r'F1 0\.40 <svg .*?width="40\.0"', text)
    assert "from 0.013" in text


def test_a_page_of_a_taxonomy_has_no_figures():
    text = render_html(tree_of_taxonomy(a_shop()))
    assert 'class="rows"' not in text
    assert "threshold precision 0.9" in text
    assert "also in delivery" in text
    assert "told above" in text


@pytest.mark.parametrize(("n_labels", "opened"), [(10, 4), (100, 1)])
def test_a_large_tree_is_closed_below_the_first_level_at_first(n_labels, opened):
    groups = {f"g{at}": {"labels": [f"l{at} {place}" for place in range(n_labels)]} for at in range(3)}
    assert (
        render_html(tree_of_taxonomy(Taxonomy.from_dict({"name": "n", "groups": groups}))).count(
            "<details open>"
        )
        == opened
    )


def test_a_group_whose_children_are_left_out_does_not_open():
    text = render_html(pruned(tree_of_taxonomy(a_shop()), 1))
    assert text.count("<details") == 1
    assert "5 labels below" in text


def test_letters_that_html_cannot_hold_are_replaced():
    text = render_html(TreeNode("top", "group", children=(TreeNode("a\x00b\ud83d\x1b", "label"),)))
    assert "a\N{REPLACEMENT CHARACTER}b" in text
    text.encode("utf-8")

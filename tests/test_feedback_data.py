"""Our own data keep what they promise: enough rows, by hand, several labels, none of them twice."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from cascade.checks.check import check
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy

ROOT = Path(__file__).parents[1]
FACET = {"pleased", "displeased", "mixed"}


@pytest.fixture(scope="module")
def taxonomy():
    return Taxonomy.load(ROOT / "taxonomies" / "feedback.yaml")


@pytest.fixture(scope="module")
def rows(taxonomy):
    found = {}
    for which in ("train", "test"):
        found[which], refused, _ = read_all(taxonomy.data.files(which), Columns(), taxonomy)
        assert not refused
    return found


def test_the_taxonomy_has_every_kind_of_node(taxonomy):
    graph = taxonomy.graph
    assert len(graph.groups) - 1 >= 12
    assert len(graph.labels) >= 100
    assert max(graph.depth(label) for label in graph.labels) >= 3
    assert any(len(graph.parents[label]) == 2 for label in graph.labels)
    assert taxonomy.groups["sentiment"].choose == "one"
    assert taxonomy.groups["sentiment"].route == "always"


def test_there_are_enough_rows_for_training_and_for_measuring(taxonomy, rows):
    assert len(rows["train"]) >= 2500
    assert len(rows["test"]) >= 500
    for which, least in (("train", 20), ("test", 1)):
        counts = Counter(label for row in rows[which] for label in row.labels)
        assert min(counts[label] for label in taxonomy.graph.labels) >= least


def test_about_two_in_five_messages_have_several_topics_and_some_have_no_label(rows):
    for some in rows.values():
        topics = [len(set(row.labels) - FACET) for row in some]
        assert 0.36 <= sum(count >= 2 for count in topics) / len(some) <= 0.46
        assert 0.02 <= sum(not row.labels for row in some) / len(some) <= 0.08


def test_no_two_messages_share_eight_words_in_a_row(rows):
    first_in: dict[tuple[str, ...], str] = {}
    for row in rows["train"] + rows["test"]:
        words = re.findall(r"\w+", row.text.lower())
        runs = {tuple(words[at : at + 8]) for at in range(len(words) - 7)} or {tuple(words)}
        shared = [run for run in runs if run in first_in]
        assert not shared, (row.id, first_in[shared[0]])
        first_in.update(dict.fromkeys(runs, row.id))


def test_check_has_nothing_to_mend(taxonomy, rows):
    report = check(taxonomy, rows["train"], rows["test"])
    assert {finding.rule for finding in report.findings} == {"several-parents", "encoder-wins"}


@pytest.mark.parametrize(
    ("name", "labels", "groups"),
    [("clinc150", 150, 10), ("goemotions", 28, 10), ("nlupp", 62, 10), ("us_bills", 536, 32)],
)
def test_the_taxonomies_of_public_data_are_whole_and_say_where_the_rows_are(name, labels, groups):
    path = ROOT / "taxonomies" / f"{name}.yaml"
    taxonomy = Taxonomy.load(path)
    assert (len(taxonomy.graph.labels), len(taxonomy.graph.groups) - 1) == (labels, groups)
    head = path.read_text(encoding="utf-8").split("\nname:")[0]
    assert "https://" in head
    assert f"make {name} DATA=" in head

"""What is not visited for a text that says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.model.evidence import Silence, entry_groups
from cascade.model.walk import Block, Walked, edges
from cascade.taxonomy.definition import Taxonomy

GROUPS = {
    "money": {"labels": ["refund", "fee"]},
    "mood": {
        "route": "always",
        "labels": ["happy"],
        "groups": {"degree": {"route": "always", "labels": ["very"]}},
    },
    "thing": {"labels": ["box"], "groups": {"part": {"labels": ["lid", "hinge"]}}},
}


@pytest.fixture(scope="module")
def taxonomy():
    return Taxonomy.from_dict({"name": "shop", "groups": GROUPS})


def heard(taxonomy, hosted):
    silence = Silence(taxonomy, hosted)
    return {node for node, silent in zip(taxonomy.graph.nodes, silence.nodes, strict=True) if not silent}


def test_entries_are_the_root_and_what_is_always_visited_from_it(taxonomy):
    assert set(entry_groups(taxonomy)) == {"", "mood", "degree"}


def test_embedded_models_say_nothing_at_all(taxonomy):
    assert heard(taxonomy, []) == set()


def test_a_model_at_a_service_is_not_silenced_nor_the_way_to_it(taxonomy):
    assert heard(taxonomy, ["part"]) == {"thing", "part", "lid", "hinge"}
    assert heard(taxonomy, ["mood"]) == {"mood", "happy", "degree"}


def test_a_router_at_a_service_is_heard_and_an_embedded_facet_beside_it_is_not(taxonomy):
    assert heard(taxonomy, [""]) == {*taxonomy.graph.nodes} - {"happy", "degree", "very"}


def test_paths_and_scores_of_these_rows_alone_become_unvisited(taxonomy):
    graph = taxonomy.graph
    rows, above = np.arange(3), np.full(3, 0.5, np.float32)

    def half(group):
        return np.full((3, len(graph.children[group])), 0.5, np.float32)

    blocks = {group: Block(rows, above, half(group), half(group)) for group in graph.groups}
    walked = Walked(graph, 3, blocks)
    nothing = np.array([False, True, False])
    found = Silence(taxonomy, ["part"]).of(walked, nothing)
    kept = [graph.column[name] for name in ("thing", "part", "lid", "hinge")]
    assert np.isfinite(found.paths[1]).nonzero()[0].tolist() == sorted(kept)
    shown = {edge for edge, score in zip(edges(graph), found.conditionals[1], strict=True) if score == 0.5}
    assert shown == {("", "thing"), ("thing", "part"), ("part", "lid"), ("part", "hinge")}
    assert (found.paths[[0, 2]] == 0.5).all()
    assert (found.conditionals[[0, 2]] == 0.5).all()
    assert (walked.paths == 0.5).all()
    assert found.nothing_known.tolist() == [False, True, False]
    assert found.of(np.array([1])).nothing_known.tolist() == [True]

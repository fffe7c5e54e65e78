"""Which groups have tiers, from the file to a group and back."""

from __future__ import annotations

import pytest

from cascade.errors import TaxonomyError
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

ENCODED = {"kind": "linear", "encoder": "minilm"}
ASKED = {"kind": "prompt", "model": "m"}
PAIR = ["words", "encoder"]


def taxonomy_of(groups, **top):
    return Taxonomy.from_dict({"name": "n", "groups": groups, **top})


def tiers_of(taxonomy):
    return {name: list(group.escalate) for name, group in taxonomy.groups.items()}


def test_tiers_go_where_the_backend_goes_that_they_end_with():
    found = taxonomy_of(
        {
            "g": {
                "backend": ENCODED,
                "escalate": PAIR,
                "labels": ["a", "b"],
                "groups": {
                    "below": {"labels": ["c", "d"]},
                    "other": {"labels": ["e", "f"], "backend": "linear"},
                    "off": {"labels": ["g1", "g2"], "escalate": "off"},
                },
            },
            "beside": {"labels": ["h", "i"]},
        }
    )
    assert tiers_of(found) == {ROOT: [], "g": PAIR, "below": PAIR, "other": [], "off": [], "beside": []}


def test_defaults_give_all_groups_tiers_and_the_top_level_too():
    found = taxonomy_of(
        {"g": {"labels": ["a"]}, "h": {"labels": ["b"], "backend": ASKED, "escalate": ["words", "prompt"]}},
        defaults={"backend": ENCODED, "escalate": PAIR},
    )
    assert tiers_of(found) == {ROOT: PAIR, "g": PAIR, "h": ["words", "prompt"]}


@pytest.mark.parametrize(
    "group",
    [
        {"escalate": "off"},
        {"backend": "linear"},
        {"backend": ENCODED},
        {"backend": ENCODED, "escalate": PAIR},
        {"backend": {**ENCODED, "encoder": "other"}, "escalate": PAIR},
        {"backend": ASKED, "escalate": ["words", "prompt"]},
        {"groups": {"below": {"labels": ["z"], "escalate": "off"}}},
    ],
)
def test_what_is_written_is_read_back(group):
    for top in ({}, {"defaults": {"backend": ENCODED, "escalate": PAIR}}):
        found = taxonomy_of({"g": {"labels": ["a", "b"], **group}}, **top)
        assert Taxonomy.from_dict(found.to_dict()) == found


def test_the_backend_of_a_group_has_its_tiers_and_what_they_may_lose_among_its_options():
    groups = {"g": {"labels": ["a"], "backend": ENCODED, "escalate": PAIR}, "h": {"labels": ["b"]}}
    found = taxonomy_of(groups, first_look=0.01)
    told = {"tiers": PAIR, "most_lost": 0.01}
    assert found.backend_of("g").options == {"encoder": "minilm", "escalate": told}
    assert found.backend_of("h") == found.groups["h"].backend
    off = taxonomy_of(groups, first_look="off")
    assert off.backend_of("g") == off.groups["g"].backend


def test_whole_rows_and_groups_do_not_both_hand_on():
    groups = {"g": {"labels": ["a"], "groups": {"below": {"labels": ["b"]}}, "backend": ASKED}}
    groups["g"]["escalate"] = ["words", "prompt"]
    with pytest.raises(TaxonomyError) as caught:
        taxonomy_of(groups, escalate=["words", "prompt"])
    assert len(caught.value.problems) == 1
    assert "group 'g' has `escalate`, and so has the top level" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (["encoder", "words"], "escalate of group 'g' is encoder, words; expected two or more, in the order"),
        (["words", "enkoder"], "escalate of group 'g' has 'enkoder'; .* Did you mean 'encoder'?"),
        ("on", "escalate of group 'g' .*on"),
    ],
)
def test_tiers_that_are_none_are_told(written, told):
    with pytest.raises(TaxonomyError, match=told):
        taxonomy_of({"g": {"labels": ["a"], "escalate": written}})

"""SKOS vocabularies as outlines."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from processes import environment

from cascade.draft.concepts import needs_paths, walk
from cascade.draft.skos import read_skos
from cascade.draft.sources import kind_of
from cascade.draft.yaml_text import Head, written
from cascade.errors import DataError
from cascade.taxonomy.definition import Taxonomy

PREFIXES = "@prefix skos: <http://www.w3.org/2004/02/skos/core#> .\n@prefix : <http://example.org/> .\n"
ANIMALS = (
    PREFIXES
    + """
:scheme a skos:ConceptScheme ; skos:prefLabel "Zoo"@en ; skos:hasTopConcept :animals .
:animals a skos:Concept ; skos:prefLabel "Animals"@en, "Tiere"@de .
:pets a skos:Concept ; skos:prefLabel "Pets"@en, "Haustiere"@de ; skos:topConceptOf :scheme .
:dogs a skos:Concept ; skos:prefLabel "Dogs"@en-GB, "Hunde"@de ; skos:altLabel "Hounds"@en, "Köter"@de ;
  skos:definition "They bark."@en, "Sie bellen."@de ; skos:broader :animals, :pets .
:cats a skos:Concept ; skos:prefLabel "Cats"@en .
:animals skos:narrower :cats .
"""
)


def vocabulary(folder, text, name="v.ttl"):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def places(outline):
    return [" > ".join(path) for path, _ in walk(outline.top)]


def test_a_concept_below_two_others_is_one_label_with_two_parents(tmp_path):
    outline = read_skos(vocabulary(tmp_path, ANIMALS), "en")
    assert places(outline) == ["Animals", "Animals > Cats", "Animals > Dogs", "Pets", "Pets > Dogs"]
    assert outline.name == "Zoo"
    assert not needs_paths(outline.top)
    taxonomy = Taxonomy.of_text(written(outline, Head("zoo")))
    assert taxonomy.graph.parents["Dogs"] == ("Animals", "Pets")
    assert taxonomy.resolve("Hounds") == "Dogs"
    assert taxonomy.labels["Dogs"].description == "They bark."


def test_labels_are_those_of_the_language_that_is_asked_for(tmp_path):
    outline = read_skos(vocabulary(tmp_path, ANIMALS), "de")
    assert places(outline) == ["Haustiere", "Haustiere > Hunde", "Tiere", "Tiere > Cats", "Tiere > Hunde"]
    (told,) = outline.told
    assert told.startswith("1 of 4 concepts have no prefLabel in 'de': one in another language is taken")
    dogs = outline.top[0].children[0]
    assert (dogs.aliases, dogs.description) == (("Köter",), "Sie bellen.")


def test_all_formats_say_the_same(tmp_path):
    import rdflib

    graph = rdflib.Graph().parse(data=ANIMALS, format="turtle")
    wanted = places(read_skos(vocabulary(tmp_path, ANIMALS), "en"))
    for suffix, kind in {
        ".rdf": "xml",
        ".jsonld": "json-ld",
        ".nt": "nt",
        ".json": "json-ld",
        ".xml": "xml",
    }.items():
        path = vocabulary(tmp_path, graph.serialize(format=kind), f"v{suffix}")
        assert kind_of(path) == "skos"
        assert places(read_skos(path, "en")) == wanted


def test_a_group_below_two_others_is_written_once(tmp_path):
    text = (
        PREFIXES
        + """
:a skos:prefLabel "A" ; skos:narrower :c . :b skos:prefLabel "B" ; skos:narrower :c .
:c skos:prefLabel "C" ; skos:narrower :d . :d skos:prefLabel "D" .
"""
    )
    taxonomy = Taxonomy.of_text(written(read_skos(vocabulary(tmp_path, text), "en"), Head("x")))
    assert taxonomy.graph.parents["C"] == ("A", "B")


def test_several_schemes_are_groups_at_the_top(tmp_path):
    text = (
        PREFIXES
        + """
:one a skos:ConceptScheme ; skos:prefLabel "One" . :two a skos:ConceptScheme ; skos:prefLabel "Two" .
:a a skos:Concept ; skos:prefLabel "A" ; skos:topConceptOf :one .
:b a skos:Concept ; skos:prefLabel "B" ; skos:inScheme :two .
"""
    )
    assert places(read_skos(vocabulary(tmp_path, text), "en")) == ["One", "One > A", "Two", "Two > B"]


def test_two_concepts_of_one_name_in_different_places_are_two_things(tmp_path):
    text = (
        PREFIXES
        + """
:a skos:prefLabel "A" ; skos:narrower :x . :b skos:prefLabel "B" ; skos:narrower :y .
:x skos:prefLabel "Other" . :y skos:prefLabel "Other" .
"""
    )
    assert needs_paths(read_skos(vocabulary(tmp_path, text), "en").top)


def test_two_concepts_of_one_name_in_one_place_are_one_and_told(tmp_path):
    text = (
        PREFIXES
        + """
:a skos:prefLabel "A" ; skos:narrower :x, :y . :x skos:prefLabel "Other" . :y skos:prefLabel "Other" .
"""
    )
    outline = read_skos(vocabulary(tmp_path, text), "en")
    assert places(outline) == ["A", "A > Other"]
    assert outline.told == ["concepts of one name in one place are taken as one: Other"]


def test_a_concept_without_a_label_has_the_end_of_its_address(tmp_path):
    text = (
        PREFIXES
        + ":billing a skos:Concept . <http://e.org/v#refund> a skos:Concept ; skos:broader :billing ."
    )
    assert places(read_skos(vocabulary(tmp_path, text), "en")) == ["billing", "billing > refund"]


def test_a_vocabulary_with_more_ways_than_can_be_gone_is_read(tmp_path):
    steps = [
        f":a{at} skos:narrower :b{at}, :c{at} . :a{at + 1} skos:broader :b{at}, :c{at} ." for at in range(15)
    ]
    outline = read_skos(vocabulary(tmp_path, PREFIXES + "\n".join(steps)), "en")
    taxonomy = Taxonomy.of_text(written(outline, Head("x")))
    assert len(taxonomy.groups) + len(taxonomy.labels) == 1 + 3 * 15 + 1
    assert taxonomy.graph.parents["a15"] == ("b14", "c14")


def test_a_vocabulary_that_is_too_deep_is_told(tmp_path):
    steps = "\n".join(f":a{at} skos:narrower :a{at + 1} ." for at in range(3000))
    outline = read_skos(vocabulary(tmp_path, PREFIXES + steps), "en")
    with pytest.raises(DataError, match=r"a0 > a1 > a2 \.\.\.: more than 40 levels; expected fewer"):
        needs_paths(outline.top)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ':a skos:prefLabel "A" ; skos:broader :b . :b skos:prefLabel "B" ; skos:broader :a .',
            "a cycle: (A > B > A|B > A > B)",
        ),
        ("", "no skos:Concept in it"),
        (":a :b", "not valid turtle"),
    ],
)
def test_what_is_no_hierarchy_is_told(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_skos(vocabulary(tmp_path, PREFIXES + text), "en")


@pytest.mark.parametrize(
    "value",
    [
        {"@context": "https://example.org/context.json", "@id": "x"},
        {"@context": [{"a": "b"}, "https://example.org/context.json"]},
        {"@context": {"@import": "https://example.org/context.json"}},
        {"@graph": [{"@context": "https://example.org/context.json"}]},
    ],
)
def test_a_context_that_lies_elsewhere_is_refused_and_not_fetched(tmp_path, value):
    with pytest.raises(
        DataError, match=r"names a context that lies elsewhere, 'https://example.org/context.json'"
    ):
        read_skos(vocabulary(tmp_path, json.dumps(value), "v.jsonld"), "en")


def test_without_rdflib_a_sentence_names_what_to_install(tmp_path):
    path = vocabulary(tmp_path, ANIMALS)
    code = f"""
import sys
sys.modules["rdflib"] = None
from cascade.cli import run
sys.exit(run(["init", {str(path)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith("install it with: pip install 'cascade-classifier[skos]'\n")
    assert "Traceback" not in done.stderr

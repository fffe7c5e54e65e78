"""Words put into the text of a taxonomy file: what had none has them, and nothing else changed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edit_text import edited_text
from cascade.taxonomy.edits import Describe, edited

BARE = """\
# What people write.
name: bare
groups:
  billing:      # money
    labels:
      # Asked for since May.
      - refund  # short form
      - name: invoice      # long form
        aliases:
          - bill
      - 'no'
  # Everything on the road.
  delivery: {labels: [late, "on", {name: lost, description: ''}], choose: many}
  mood:
    description:
    labels: [happy]
"""

WORDS = [
    Describe("billing", "Charges: what they cost.", ("money",)),
    Describe("refund", "Money back."),
    Describe("invoice", "The bill itself.", ("statement",)),
    Describe("no", "", ("nope",)),
    Describe("delivery", "Getting it to the door."),
    Describe("on", "Switched on."),
    Describe("lost", "It never came.", ("gone",)),
    Describe("mood", "How they feel."),
]

TOLD = """\
# What people write.
name: bare
groups:
  billing:      # money
    description: "Charges: what they cost."
    aliases: [money]
    labels:
      # Asked for since May.
      - name: refund  # short form
        description: Money back.
      - name: invoice      # long form
        description: The bill itself.
        aliases:
          - bill
      - name: 'no'
        aliases: [nope]
  # Everything on the road.
  delivery: {description: Getting it to the door., labels: [late,
      {name: "on", description: Switched on.},
      {name: lost, aliases: [gone], description: It never came.}], choose: many}
  mood:
    description: How they feel.
    labels: [happy]
"""


def test_words_stand_behind_names_and_all_else_stays():
    assert edited_text(BARE, WORDS, "plain") == TOLD
    assert Taxonomy.of_text(TOLD) == edited(Taxonomy.of_text(BARE), WORDS)


def test_line_breaks_of_windows_stay():
    windows = BARE.replace("\n", "\r\n")
    assert edited_text(windows, WORDS, "plain") == TOLD.replace("\n", "\r\n")


def test_who_has_words_keeps_them():
    others = [Describe(one.name, "Others.", ("others",)) for one in WORDS[4:6]]
    assert edited_text(TOLD, [others[0]], "plain").count("Others.") == 0
    again = [Describe(one.name, "Other words.") for one in WORDS if one.description]
    assert edited_text(TOLD, again, "plain") == TOLD


def test_a_name_that_is_not_there_gets_none():
    with pytest.raises(KeyError, match="rufend"):
        edited_text(BARE, [Describe("rufend", "x")], "plain")


def test_a_label_in_two_groups_has_its_words_once():
    text = "name: a\ngroups:\n  one: {labels: [x, y]}\n  two:\n    labels: [x]\n"
    found = edited_text(text, [Describe("x", "Ex.", ("ecks",))], "plain")
    assert found.count("Ex.") == 1
    assert Taxonomy.of_text(found).labels["x"].description == "Ex."


def test_where_names_are_paths_the_right_one_gets_the_words():
    text = "name: a\nnames: path\ngroups:\n  one: {labels: [other]}\n  two: {labels: [other]}\n"
    found = Taxonomy.of_text(edited_text(text, [Describe("two/other", "The rest.")], "path"))
    assert found.labels["two/other"].description == "The rest."
    assert not found.labels["one/other"].description


# Any layout

NAMES = ["a", "b c", "d-1", "e, f", "no", "1e3", "x: y", "#h", "ü", "2024-01-01", "[z]", "true"]
TEXTS = st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Zl", "Zp"]), min_size=1).map(
    lambda text: " ".join(text.split()) or "x"
)
ALIASES = st.lists(st.sampled_from(["al", "b 2", "c.d", "yes", "0"]), max_size=2, unique=True)


def quoted(name):
    return "'" + name.replace("'", "''") + "'"


@st.composite
def label_of(draw, name):
    """A label as it may stand in a block and in brackets, with what people wrote of it."""
    form = draw(st.sampled_from(["short", "long", "flow"]))
    own = [draw(st.sampled_from(["", "description: ''", 'description: "By hand: yes"', "threshold: 0.5"]))]
    own = [one for one in own if one]
    flow = quoted(name) if form == "short" else f"{{{', '.join([f'name: {quoted(name)}', *own])}}}"
    if form != "long":
        return f"- {flow}", flow
    return "\n  ".join([f"- name: {quoted(name)}  # mine", *own]), flow


@st.composite
def files(draw):
    names = draw(st.permutations(NAMES))
    parts, at = ["# a head", "name: any", "groups:"], 0
    for group in ("first", "second"):
        count = draw(st.integers(1, 4))
        labels = [draw(label_of(name)) for name in names[at : at + count]]
        at += count
        described = draw(st.sampled_from(["", "description: Mine.", "description:"]))
        if draw(st.booleans()):
            flow = ", ".join(flow for _, flow in labels)
            pairs = ", ".join(filter(None, [described.replace("description:", "description: ''", 1)
                              if described.endswith(":") else described, f"labels: [{flow}]"]))  # fmt: skip
            parts.append(f"  {group}: {{{pairs}}}  # end")
            continue
        parts.append(f"  {group}:  # {group}")
        parts += [f"    {described}"] if described else []
        parts.append("    labels:")
        for number, (block, _) in enumerate(labels):
            parts += [f"      # about {number}"] if draw(st.booleans()) else []
            parts += [f"      {line}" for line in block.split("\n")]
    return "\n".join(parts) + draw(st.sampled_from(["", "\n", "\n# the end\n"]))


def comments(text):
    return re.findall(r"(?<=[ \n])# (?:a head|the end|end|mine|first|second|about \d)", f"\n{text}")


@settings(deadline=None, max_examples=150)
@given(files(), st.data())
def test_nothing_changes_but_what_was_empty(text, data):
    before = Taxonomy.of_text(text)
    names = [*list(before.groups)[1:], *before.labels]
    taken = set()
    edits = []
    for name in data.draw(st.lists(st.sampled_from(names), unique=True)):
        aliases = tuple(one for one in data.draw(ALIASES) if one not in taken)
        taken |= set(aliases)
        edits.append(Describe(name, data.draw(TEXTS), aliases))
    found = edited_text(text, edits, "plain")
    after = Taxonomy.of_text(found)
    assert after == edited(before, edits)
    assert after.graph.nodes == before.graph.nodes
    assert comments(found) == comments(text)
    words = {one.name: one for one in edits}
    for name in names:
        old, new = before.node(name), after.node(name)
        own = words.get(name, Describe(name))
        assert new.description == (old.description or own.description)
        assert new.aliases == (old.aliases or own.aliases)
        assert getattr(new, "threshold", None) == getattr(old, "threshold", None)


@settings(deadline=None, max_examples=50)
@given(files())
def test_what_gets_no_words_stays_letter_by_letter(text):
    names = [*list(Taxonomy.of_text(text).groups)[1:], *Taxonomy.of_text(text).labels]
    assert edited_text(text, [Describe(name) for name in names], "plain") == text

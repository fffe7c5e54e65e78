"""Changes of a taxonomy: as values, and in the text of its file."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import TaxonomyError
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edit_text import edited_text
from cascade.taxonomy.edits import MergeLabels, MoveLabel, SplitGroup, edited

SHOP = """\
# What customers write.
name: shop
groups:
  billing:      # money
    description: "Charges: refunds, invoices."
    threshold: {precision: 0.9}
    labels:
      # Asked for since May.
      # Ask Kim.
      - refund  # short form

      - name: double_charge        # long form
        description: Charged twice.
        aliases:
          - charged twice
      - 'no'
      - vat                # the last one
  # Everything on the road.
  delivery: {labels: [late, "on", {name: lost, aliases: gone}], choose: many}
  mood: {choose: one, route: always, labels: [happy, angry]}
"""

MOVED = """\
# What customers write.
name: shop
groups:
  billing:      # money
    description: "Charges: refunds, invoices."
    threshold: {precision: 0.9}
    labels:

      - name: double_charge        # long form
        description: Charged twice.
        aliases:
          - charged twice
      - 'no'
      - vat                # the last one
      - "on"
  # Everything on the road.
  delivery: {labels: [late, {name: lost, aliases: gone}, refund], choose: many}
  mood: {choose: one, route: always, labels: [happy, angry]}
"""

MERGED = """\
# What customers write.
name: shop
groups:
  billing:      # money
    description: "Charges: refunds, invoices."
    threshold: {precision: 0.9}
    labels:
      # Asked for since May.
      # Ask Kim.
      - {name: refund, aliases: [vat]}  # short form

      - name: double_charge        # long form
        description: Charged twice.
        aliases:
          - charged twice
          - "no"
  # Everything on the road.
  delivery: {labels: ["on", {name: lost, aliases: [gone, late]}], choose: many}
  mood: {choose: one, route: always, labels: [happy, angry]}
"""

SPLIT = """\
# What customers write.
name: shop
groups:
  billing:      # money
    description: "Charges: refunds, invoices."
    threshold: {precision: 0.9}
    labels:

      - 'no'
      - vat                # the last one
  money_back:
    threshold: {precision: 0.9}
    labels:
      # Asked for since May.
      # Ask Kim.
      - refund  # short form
      - name: double_charge        # long form
        description: Charged twice.
        aliases:
          - charged twice
  # Everything on the road.
  delivery: {labels: [late], choose: many}
  rest: {choose: many, labels: ["on", {name: lost, aliases: gone}]}
  mood: {choose: one, route: always, labels: [happy, angry]}
"""

MOVES = [MoveLabel("refund", "billing", "delivery"), MoveLabel("on", "delivery", "billing")]
MERGES = [MergeLabels("vat", "refund"), MergeLabels("no", "double_charge"), MergeLabels("late", "lost")]
SPLITS = [
    SplitGroup("billing", "money_back", ("refund", "double_charge")),
    SplitGroup("delivery", "rest", ("on", "lost")),
]


@pytest.mark.parametrize(("edits", "expected"), [(MOVES, MOVED), (MERGES, MERGED), (SPLITS, SPLIT)])
def test_what_a_change_does_not_touch_stays_letter_by_letter(edits, expected):
    assert edited_text(SHOP, edits, "plain") == expected
    assert Taxonomy.of_text(expected) == edited(Taxonomy.of_text(SHOP), edits)


def test_line_breaks_of_windows_stay():
    windows = SHOP.replace("\n", "\r\n")
    assert edited_text(windows, MOVES, "plain") == MOVED.replace("\n", "\r\n")


def test_a_file_without_a_last_line_break_keeps_its_lines_apart():
    text = "name: a\ngroups:\n  one:\n    labels: [x, y]\n  two:\n    labels:\n      - z"
    assert edited_text(text, [MoveLabel("x", "one", "two")], "plain").endswith(
        "labels:\n      - z\n      - x\n"
    )


def test_names_that_rows_have_still_mean_the_label():
    before = Taxonomy.of_text(SHOP)
    after = edited(before, [*MERGES, MoveLabel("double_charge", "billing", "delivery")])
    assert after.resolve("vat") == "refund"
    assert after.resolve("charged twice") == after.resolve("no") == "double_charge"
    assert after.resolve("gone") == after.resolve("late") == "lost"


DESK = """\
name: desk
names: path
groups:
  money:
    labels: [refund, {name: other, aliases: [misc]}]
    groups: {tax: {labels: [missing, wrong, other]}}
  goods:
    labels:
    - late          # rows: 12
    - other
    - lost
"""


@pytest.mark.parametrize(
    ("edit", "meanings"),
    [
        (
            MoveLabel("money/refund", "money", "goods"),
            {"money/refund": "goods/refund", "refund": "goods/refund", "goods/refund": "goods/refund"},
        ),
        (
            MergeLabels("money/other", "goods/other"),
            {"money/other": "goods/other", "money/misc": "goods/other", "money/tax/other": "money/tax/other"},
        ),
        (MergeLabels("goods/lost", "goods/late"), {"goods/lost": "goods/late", "lost": "goods/late"}),
        (
            SplitGroup("money/tax", "law", ("money/tax/missing", "money/tax/wrong")),
            {"money/tax/missing": "money/law/missing", "tax/wrong": None, "wrong": "money/law/wrong"},
        ),
    ],
)
def test_where_names_are_paths_old_paths_still_lead_to_the_label(edit, meanings):
    after = edited(Taxonomy.of_text(DESK), [edit])
    assert Taxonomy.of_text(edited_text(DESK, [edit], "path")) == after
    assert {name: after.resolve(name) for name in meanings} == meanings


def test_a_name_that_is_taken_is_a_fault():
    with pytest.raises(TaxonomyError, match="mood"):
        edited(Taxonomy.of_text(SHOP), [SplitGroup("delivery", "mood", ("late", "on"))])


def test_a_label_that_is_not_there_is_no_change():
    with pytest.raises(KeyError, match="rufend"):
        edited_text(SHOP, [MergeLabels("rufend", "late")], "plain")


# Any layout

LETTERS = st.sampled_from(
    ["a", "b c", "d-1", "e, f", "no", "1e3", "x: y", "'q'", "#h", "ü", "2024-01-01", "[z]"]
)


def written(name):
    return "'" + name.replace("'", "''") + "'"


@st.composite
def files(draw):
    """A taxonomy file with two groups or three, in any mixture of forms, and a change of it."""
    lines, groups, comment = ["name: any", "groups:"], {}, 0
    for number in range(draw(st.integers(2, 3))):
        group = f"g{number}"
        names = [f"{draw(LETTERS)}{number}{place}" for place in range(draw(st.integers(2, 4)))]
        names = [name if "x: y" in name or name[0] in "'#[" else name.strip() for name in names]
        groups[group] = names
        forms = [draw(st.sampled_from(["short", "flow", "block"])) for _ in names]
        if draw(st.booleans()):
            items = [
                written(name) if form == "short" else f"{{name: {written(name)}, description: d}}"
                for name, form in zip(names, forms, strict=True)
            ]
            lines.append(f"  {group}: {{labels: [{', '.join(items)}]}}")
            continue
        lines += [f"  {group}:", "    labels:"]
        for name, form in zip(names, forms, strict=True):
            comment += 1
            lines.append(f"      # above {comment}")
            if form == "block":
                lines += [
                    f"      - name: {written(name)}  # beside {comment}",
                    "        description: |-",
                    "          d",
                ]
            else:
                item = written(name) if form == "short" else f"{{name: {written(name)}}}"
                lines.append(f"      - {item}  # beside {comment}")
    groups_in_order = draw(st.permutations(list(groups)))
    source, target = groups_in_order[:2]
    label = draw(st.sampled_from(groups[source]))
    kind = draw(st.sampled_from(["move", "merge", "split"]))
    if kind == "move":
        edit = MoveLabel(label, source, target)
    elif kind == "merge":
        edit = MergeLabels(label, draw(st.sampled_from(groups[target])))
    else:
        edit = SplitGroup(source, "new one", (label,))
    return "\n".join(lines) + "\n", edit


@settings(max_examples=40, deadline=None)
@given(files())
def test_the_text_means_what_the_change_does_in_any_layout(case):
    text, edit = case
    changed = edited_text(text, [edit], "plain")
    assert Taxonomy.of_text(changed) == edited(Taxonomy.of_text(text), [edit])
    kept = [line for line in text.splitlines() if line in changed.splitlines()]
    assert len(kept) >= len(text.splitlines()) - 6

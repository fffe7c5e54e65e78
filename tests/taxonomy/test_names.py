"""Names that are paths: what a file with `names: path` means, and what each way to write a name does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.errors import TaxonomyError
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

SHOP = """\
name: shop
names: path
labels: [spam]
groups:
  money:
    labels: [refund, other, {name: money, aliases: [cash]}]
    groups:
      tax:
        aliases: [vat]
        labels: [{name: missing, aliases: [none]}, other]
  goods:
    aliases: [things]
    labels:
      - late
      - {name: other, also_in: [service/desk]}
      - {name: broken, aliases: [none], also_in: [service/tax]}
  service:
    groups:
      tax: {labels: [rude]}
      desk: {also_in: [goods], labels: [slow]}
"""


def load(folder, text):
    path = folder / "t.yaml"
    path.write_text(text)
    return Taxonomy.load(path)


def complaints(folder, text):
    with pytest.raises(TaxonomyError) as caught:
        load(folder, text)
    return [str(problem).removeprefix(f"{folder / 't.yaml'}:") for problem in caught.value.problems]


@pytest.fixture
def shop(tmp_path):
    return load(tmp_path, SHOP)


def test_a_name_is_its_path(shop):
    assert shop.graph.labels == (
        "spam", "money/refund", "money/other", "money/money", "money/tax/missing", "money/tax/other",
        "goods/late", "goods/other", "goods/broken", "service/tax/rude", "service/desk/slow",
    )  # fmt: skip
    assert set(shop.groups) == {
        ROOT, "money", "money/tax", "goods", "service", "service/tax", "service/desk"
    }  # fmt: skip


def test_also_in_makes_a_child_of_another_group(shop):
    assert shop.graph.parents["goods/other"] == ("goods", "service/desk")
    assert shop.groups["service/tax"].children == ("service/tax/rude", "goods/broken")
    assert shop.graph.parents["service/desk"] == ("goods", "service")
    assert [place.line for place in shop.labels["goods/broken"].places] == [16, 16]


def test_what_is_said_of_also_in_is_no_accident(shop):
    assert not shop.notes


def test_the_first_parent_is_where_a_name_is_written(shop):
    assert shop.path_to("goods/broken") == ("goods", "broken")
    assert shop.path_to("service/desk/slow") == ("service", "desk", "slow")
    assert shop.last_name("money/tax/other") == "other"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("money/tax/other", "money/tax/other"),
        ("money", "money"),  # a whole path, though another path ends so
        ("money/money", "money/money"),
        ("refund", "money/refund"),
        ("tax/other", "money/tax/other"),
        ("tax/rude", "service/tax/rude"),
        ("goods/desk/slow", "service/desk/slow"),
        ("service/tax/broken", "goods/broken"),
        ("goods/desk/other", "goods/other"),
        ("cash", "money/money"),
        ("money/cash", "money/money"),
        ("things/late", "goods/late"),
        ("money/vat/none", "money/tax/missing"),
        ("goods/none", "goods/broken"),
        ("vat", "money/tax"),
        ("other", None),
        ("tax", None),
        ("none", None),
        ("Money/other", None),
        ("money/late", None),
        ("ther", None),
        ("/other", None),
        ("money/", None),
        ("money//other", None),
        ("", None),
    ],
)
def test_a_name_is_found_by_paths_aliases_and_ends_that_are_clear(shop, written, meant):
    assert shop.resolve(written) == meant
    assert shop.resolve(written) == meant  # what was found once is remembered


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("other", " 'other' may be 'money/other', 'money/tax/other' or 'goods/other'; write the path."),
        ("none", " 'none' may be 'money/tax/missing' or 'goods/broken'; write the path."),
        ("tax", " 'tax' may be 'money/tax' or 'service/tax'; write the path."),
        ("refnud", " Did you mean 'money/refund'?"),
        ("mony/refund", " Did you mean 'money/refund'?"),
        ("othr", " Did you mean 'money/other', 'money/tax/other' or 'goods/other'?"),
        ("xyzzy", ""),
    ],
)
def test_a_name_that_is_not_clear_is_answered_with_paths(shop, written, hint):
    assert shop.suggest(written) == hint


def test_of_many_meanings_a_few_are_named(tmp_path):
    groups = "".join(f"  g{number}: {{labels: [x, y{number}]}}\n" for number in range(8))
    taxonomy = load(tmp_path, f"name: n\nnames: path\ngroups:\n{groups}")
    shown = ", ".join(f"'g{number}/x'" for number in range(5))
    assert taxonomy.suggest("x") == f" 'x' may be {shown} or 3 more; write the path."


def test_a_plain_name_is_no_path(tmp_path):
    taxonomy = load(tmp_path, "name: n\ngroups: {g: {labels: [x]}}\n")
    assert taxonomy.resolve("g/x") is None
    assert taxonomy.path_to("x") == ("g", "x")


def test_plain_names_may_be_asked_for(tmp_path):
    body = "groups: {g: {labels: [x]}, h: {labels: [x]}}\n"
    assert load(tmp_path, f"name: n\nnames: plain\n{body}") == load(tmp_path, f"name: n\n{body}")
    assert load(tmp_path, f"name: n\n{body}") != load(tmp_path, f"name: n\nnames: path\n{body}")


def test_a_threshold_comes_from_the_group_that_a_label_is_written_in(tmp_path):
    text = (
        "name: n\nnames: path\ngroups:\n  a: {threshold: 0.1, labels: [w]}\n"
        "  b: {threshold: 0.2, labels: [{name: x, also_in: a}]}\n"
    )
    assert load(tmp_path, text).threshold_of("b/x").value == 0.2


# Complaints

HEAD = "name: n\nnames: path\n"
FAULTS = r"""
groups: {g: {labels: [x, x]}}
=> 3:26: label 'g/x' stands twice in group 'g'; first at line 3; keep one

groups: {g: {labels: [x], groups: {x: {labels: [y]}}}}
=> 3:36: group 'g/x' has the name of a label (line 3); rename one of them

groups:
  a: {labels: [b/c]}
  a/b: {labels: [c]}
=> 5:18: label 'a/b/c' is the path of two labels; first at line 4; rename one of them

groups:
  a: {groups: {b: {labels: [x]}}}
  a/b: {labels: [c]}
=> 5:3: group 'a/b' is defined twice; first at line 4; the one in the top level has the same path: rename one
   of them

groups:
  a: {labels: [b/c]}
  a/b: {groups: {c: {labels: [x]}}}
=> 5:18: group 'a/b/c' has the name of a label (line 4); rename one of them

groups:
  a: {labels: [{name: x, also_in: b}, y]}
  b: {labels: [x]}
=> 4:35: also_in of label 'a/x' names 'b', which has another 'x' (line 5); rename one of them

groups:
  a: {groups: {t: {labels: [x], also_in: [b]}}}
  b: {groups: {t: {labels: [x]}}}
=> 4:43: also_in of group 'a/t' names 'b', which has another 't' (line 5); rename one of them

groups:
  a: {labels: [{name: x, also_in: a}]}
=> 4:35: also_in of label 'a/x' names 'a', which it is in already; take it out

groups:
  a: {groups: {t: {labels: [x]}}}
  b: {groups: {t: {labels: [x]}}}
  c: {labels: [{name: x, also_in: [t]}]}
=> 6:36: also_in of label 'c/x' names 't', which may be 'a/t' or 'b/t'; write the path.

groups:
  a: {groups: {tax: {labels: [x]}}}
  c: {labels: [{name: x, also_in: [a/tex]}]}
=> 5:36: also_in of label 'c/x' names 'a/tex', which is not defined; expected a group. Did you mean 'a/tax'?

groups:
  a: {labels: [x]}
  c: {labels: [{name: x, also_in: [a/x]}]}
=> 5:36: also_in of label 'c/x' names 'a/x', which is a label; expected a group.

groups:
  a: {also_in: [u], labels: [x], groups: {t: {labels: [y]}}}
  b: {also_in: [t], groups: {u: {labels: [z]}}}
=> 5:17: groups form a cycle: a -> a/t -> b -> b/u -> a; take out this also_in

groups:
  a: {labels: [{name: x, aliases: y}, y]}
=> 4:35: alias 'y' of 'a/x' is also the name of a label (line 4); expected one meaning

groups:
  a: {labels: [{name: x, aliases: z}, {name: y, aliases: z}]}
=> 4:58: alias 'z' of 'a/y' is also an alias of 'a/x' (line 4); expected one meaning

groups:
  a: {labels: [{name: x, aliases: z}]}
  b: {labels: [{name: y, aliases: z, also_in: a}]}
=> 5:35: alias 'z' of 'b/y' is also an alias of 'a/x' (line 4); expected one meaning
"""


def cases(table):
    pairs = [block.split("\n=> ") for block in table.strip("\n").split("\n\n")]
    return [pytest.param(text + "\n", " ".join(found.split("\n   ")), id=found[:40]) for text, found in pairs]


@pytest.mark.parametrize(("text", "complaint"), cases(FAULTS))
def test_each_fault_is_the_one_complaint_at_its_place(tmp_path, text, complaint):
    assert complaints(tmp_path, HEAD + text) == [complaint]


def test_an_unknown_kind_of_names_is_the_one_complaint(tmp_path):
    text = "name: n\nnames: paths\ngroups: {g: {labels: [x]}, h: {labels: [{name: x, also_in: g}]}}\n"
    found = complaints(tmp_path, text.replace(", also_in: g", ""))
    assert found == ["2:8: names is 'paths'; expected 'plain' or 'path'. Did you mean 'path'?"]


def test_a_plain_label_is_repeated_instead_of_also_in(tmp_path):
    text = "name: n\ngroups: {g: {labels: [x]}, h: {labels: [{name: y, also_in: g}]}}\n"
    assert complaints(tmp_path, text) == [
        (
            "2:51: unknown key 'also_in' in a label of group 'h'; expected 'name', 'description', 'aliases' "
            "or 'threshold'. Labels have `also_in` only with `names: path` at the top; a plain name is "
            "repeated in each of its groups."
        )
    ]


SETTLED = [
    "groups: {g: {labels: [x]}, h: {groups: {g: {labels: [y]}}}}\n",
    "groups: {g: {labels: [g]}}\n",
    "labels: [x]\ngroups: {g: {groups: {x: {labels: [y]}}}}\n",
    "groups: {g: {labels: [{name: x, description: a}]}, h: {labels: [{name: x, description: b}]}}\n",
    "groups: {g: {labels: [{name: x, aliases: z}]}, h: {labels: [{name: y, aliases: z}]}}\n",
    "groups: {g: {labels: [{name: x, aliases: y}]}, h: {labels: [y]}}\n",
]
NOT_SETTLED = [
    "groups: {g: {labels: [x, x]}}\n",
    "labels: [g]\ngroups: {g: {labels: [y]}}\n",
    "groups: {g: {labels: [{name: x, aliases: z}, {name: y, aliases: z}]}}\n",
]


@pytest.mark.parametrize("text", SETTLED)
def test_a_clash_of_plain_names_that_paths_settle_says_so(tmp_path, text):
    assert any(
        "or if they are two things write `names: path`" in one
        for one in complaints(tmp_path, f"name: n\n{text}")
    )
    assert load(tmp_path, HEAD + text)


@pytest.mark.parametrize("text", NOT_SETTLED)
def test_a_clash_of_plain_names_that_paths_do_not_settle_says_nothing_of_them(tmp_path, text):
    assert not any("names: path" in one for one in complaints(tmp_path, f"name: n\n{text}"))
    assert complaints(tmp_path, HEAD + text)


# Laws

LAST_NAMES = st.sampled_from(["a", "b", "c", "other", "none"])


@st.composite
def bodies(draw, depth=3):
    """A group's keys, with names from so few that they are the same in many groups."""
    called = draw(st.lists(LAST_NAMES, min_size=1, max_size=4, unique=True))
    n_groups = draw(st.integers(0, len(called))) if depth else 0
    groups, labels = called[:n_groups], called[n_groups:]
    body = {"groups": {name: draw(bodies(depth - 1)) for name in groups}, "labels": draw(labels_of(labels))}
    keys = draw(st.permutations([key for key in body if body[key]]))
    return {key: body[key] for key in keys}


def labels_of(names):
    forms = [
        st.sampled_from(
            [name, {"name": name, "description": f"what {name} is"}, {"name": name, "aliases": [f"{name}!"]}]
        )
        for name in names
    ]
    return st.tuples(*forms).map(list)


@st.composite
def taxonomies(draw):
    """Taxonomies with names that are paths; some labels and groups have several parents."""
    plain = {"name": "top", "names": "path", **draw(bodies())}
    for _, node in draw(st.permutations(list(places_of(plain))))[:3]:
        groups = [path for path, one in places_of(plain) if isinstance(one, dict) and "name" not in one]
        if isinstance(node, dict) and groups:
            trial = dict(node)
            node["also_in"] = [draw(st.sampled_from(groups))]
            if not is_sound(plain):
                node.clear()
                node.update(trial)
    return Taxonomy.from_dict(plain), plain


def is_sound(plain):
    try:
        Taxonomy.from_dict(plain)
    except TaxonomyError:
        return False
    return True


def places_of(body, above=""):
    """Path and form of each group and label, as they are written."""
    for name, group in body.get("groups", {}).items():
        yield above + name, group
        yield from places_of(group, f"{above}{name}/")
    for label in body.get("labels", []):
        yield above + (label if isinstance(label, str) else label["name"]), label


def ways_to(taxonomy, name):
    """Every path from the top down to a node, by whichever parents."""
    if name == ROOT:
        return [""]
    ways = [way for parent in taxonomy.graph.parents[name] for way in ways_to(taxonomy, parent)]
    return [f"{way}/{taxonomy.last_name(name)}".removeprefix("/") for way in ways]


@given(taxonomies())
def test_the_written_form_is_the_same_taxonomy(both):
    taxonomy, _ = both
    again = Taxonomy.from_dict(taxonomy.to_dict())
    assert again == taxonomy
    assert again.to_dict() == taxonomy.to_dict()
    assert again.graph.nodes == taxonomy.graph.nodes


@given(taxonomies())
def test_every_two_places_are_told_apart(both):
    taxonomy, plain = both
    paths = [path for path, _ in places_of(plain)]
    assert len(set(paths)) == len(paths)
    assert set(taxonomy.graph.nodes) == set(paths)
    assert {taxonomy.resolve(path) for path in paths} == set(paths)


@given(taxonomies())
def test_every_way_to_a_node_means_it(both):
    taxonomy, _ = both
    for name in taxonomy.graph.nodes:
        assert {taxonomy.resolve(way) for way in ways_to(taxonomy, name)} == {name}


@given(taxonomies())
def test_the_end_of_a_path_means_a_node_just_where_it_is_clear(both):
    taxonomy, _ = both
    ways = {way: name for name in taxonomy.graph.nodes for way in ways_to(taxonomy, name)}
    ends = {way.split("/", cut)[-1] for way in ways for cut in range(way.count("/") + 1)}
    for end in ends:
        meant = {name for way, name in ways.items() if f"/{way}".endswith(f"/{end}")}
        expected = ways.get(end) or (meant.pop() if len(meant) == 1 else None)
        assert taxonomy.resolve(end) == expected
        if expected is None:
            assert sum(repr(name) in taxonomy.suggest(end) for name in meant) == min(len(meant), 5)

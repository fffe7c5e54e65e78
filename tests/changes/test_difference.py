from __future__ import annotations

import copy
import io
import json
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from path_names import with_paths
from rich.console import Console
from shop import SHOP
from trees import manifest_of, taxonomies

from cascade.changes.difference import difference
from cascade.changes.retraining import Version
from cascade.changes.terminal import render_difference
from cascade.learn.fit import fit
from cascade.model.folder import read_manifest
from cascade.show.tree import TOP_LEVEL
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT


def edited(edit, plain=SHOP):
    """The taxonomy after an edit of its file."""
    plain = copy.deepcopy(plain)
    edit(plain["groups"])
    return Taxonomy.from_dict(plain)


def nothing(groups):
    """No edit."""


def between(before, after):
    return difference(Version("old", before), Version("new", after))


def after_edit(edit, plain=SHOP):
    return between(edited(nothing, plain), edited(edit, plain))


def told(found, width=100):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    console.print(render_difference(found))
    return console.file.getvalue()


def reasons(found):
    return {one.group: one.reasons for one in found.retrained}


# Names


def test_a_taxonomy_does_not_differ_from_itself(shop):
    found = between(shop.taxonomy, shop.taxonomy)
    assert (found.added, found.removed, found.moved, found.settings, found.retrained) == ((), (), (), (), ())
    assert found.kept == 6
    assert "nothing changed" in told(found)
    assert "fit trains no group anew" in told(found)


def test_labels_and_groups_that_came_or_went_are_named_with_their_parents():
    def edit(groups):
        groups["delivery"]["labels"][0] = "never_came"
        groups["returns"] = {"labels": ["label_missing"], "also_in": ["billing"]}
        del groups["billing"]["groups"]

    found = after_edit(edit)
    added = {(one.kind, one.name): one.parents for one in found.added}
    assert added == {
        ("group", "returns"): (TOP_LEVEL, "billing"),
        ("label", "label_missing"): ("returns",),
        ("label", "never_came"): ("delivery",),
    }
    assert {one.name: one.parents for one in found.removed} == {
        "tax": ("billing",),
        "vat_missing": ("tax",),
        "vat_wrong": ("tax",),
        "late": ("delivery",),
    }
    assert "+ group returns  in top level, billing" in told(found)
    assert "- label late  from delivery" in told(found)


def test_what_has_other_parents_was_moved():
    def edit(groups):
        groups["product"]["labels"].remove("broken")
        groups["delivery"]["groups"] = {"tax": groups["billing"].pop("groups")["tax"]}

    found = after_edit(edit)
    assert [(one.name, one.kind, one.before, one.after) for one in found.moved] == [
        ("tax", "group", ("billing",), ("delivery",)),
        ("broken", "label", ("delivery", "product"), ("delivery",)),
    ]
    assert found.added == found.removed == ()
    assert "~ label broken  from delivery, product to delivery" in told(found)


def test_another_order_of_parents_is_no_move():
    groups = {"a": {"labels": ["x", "p"]}, "b": {"labels": ["x", "q"]}}
    turned = {"b": groups["b"], "a": groups["a"]}
    found = between(*(Taxonomy.from_dict({"name": "n", "groups": one}) for one in (groups, turned)))
    assert found.moved == ()
    assert reasons(found) == {TOP_LEVEL: ("another order of its children",)}


def test_a_label_that_is_an_alias_of_another_now_was_merged_into_it():
    def edit(groups):
        groups["product"]["labels"] = [{"name": "broken", "aliases": ["faulty"]}]

    found = after_edit(edit)
    assert [(one.name, one.into) for one in found.merged] == [("faulty", "broken")]
    assert found.removed == found.added == found.renamed == found.moved == ()
    assert "> label faulty into broken" in told(found)


def test_a_name_that_is_an_alias_of_a_new_one_was_renamed():
    def edit(groups):
        groups["delivery"]["labels"][0] = {"name": "too_late", "aliases": ["late"]}
        groups["goods"] = groups.pop("product") | {"aliases": ["product"]}

    found = after_edit(edit)
    assert [(one.name, one.into, one.kind) for one in found.renamed] == [
        ("product", "goods", "group"),
        ("late", "too_late", "label"),
    ]
    assert found.added == found.removed == found.merged == ()
    assert found.moved == ()  # broken stands in the same group under its new name
    assert set(reasons(found)) == {TOP_LEVEL, "delivery"}  # what is in the group is the same


def test_two_labels_that_become_one_new_one_are_merged():
    def edit(groups):
        groups["delivery"]["labels"] = [{"name": "bad", "aliases": ["late", "broken"]}, "other"]
        groups["product"]["labels"].remove("broken")

    found = after_edit(edit)
    assert [(one.name, one.into) for one in found.merged] == [("late", "bad"), ("broken", "bad")]
    assert [one.name for one in found.added] == ["bad", "other"]


def test_an_alias_that_is_a_label_now_was_split_off():
    def edit(groups):
        groups["billing"]["labels"][1:] = ["double_charge", "charged twice"]

    found = after_edit(edit)
    assert [(one.name, one.into) for one in found.split] == [("charged twice", "double_charge")]
    assert found.added == ()


def test_a_label_that_became_a_group_went_and_came():
    def edit(groups):
        groups["delivery"]["labels"].remove("late")
        groups["delivery"]["groups"] = {"late": {"labels": ["hours", "days"]}}

    found = after_edit(edit)
    assert ("late", "label") in [(one.name, one.kind) for one in found.removed]
    assert ("late", "group") in [(one.name, one.kind) for one in found.added]
    assert reasons(found)["late"] == ("new",)


@given(taxonomies(), taxonomies())
@settings(deadline=None, derandomize=True)
def test_what_came_one_way_went_the_other_way(one, other):
    there, back = between(one, other), between(other, one)
    for mine, theirs in ((there, back), (back, there)):
        assert Counter(mine.added) == Counter(theirs.removed)
    assert {(move.name, *move.before) for move in there.moved} == {
        (move.name, *move.after) for move in back.moved
    }
    assert there.kept + len(there.retrained) <= len(other.graph.groups)
    json.dumps(there.to_json())


# Settings and figures


def test_settings_are_compared_group_by_group_and_label_by_label():
    def edit(groups):
        groups["mood"] |= {"choose": "many", "route": "model", "description": "How they feel."}
        groups["delivery"] |= {"threshold": {"precision": 0.9}, "backend": {"kind": "linear", "C": 2}}
        groups["billing"]["labels"][0] = {"name": "refund", "threshold": 0.25}

    changes = {(one.name, one.setting): (one.before, one.after) for one in after_edit(edit).settings}
    assert changes == {
        ("mood", "choose"): ("one", "many"),
        ("mood", "route"): ("always", "model"),
        ("mood", "description"): ("", "How they feel."),
        ("delivery", "threshold"): ("auto", "precision 0.9"),
        ("delivery", "backend"): ({"kind": "linear", "C": 1}, {"kind": "linear", "C": 2}),
        ("refund", "threshold"): (None, 0.25),
    }
    text = told(after_edit(edit))
    assert "~ group mood: choose one -> many" in text
    assert "~ group delivery: backend kind linear, C 1 -> kind linear, C 2" in text
    assert "~ group mood: description (none) -> How they feel." in text


def test_f1_is_compared_where_both_are_models(shop):
    old = manifest_of(
        shop.taxonomy, metrics={"micro_f1": 0.5, "macro_f1": 0.4, "f1": {"late": 0.5, "refund": 0.6, "x": 1}}
    )
    new = replace(
        old, metrics={"micro_f1": 0.6, "macro_f1": 0.3, "f1": {"late": 0.25, "refund": 0.7, "broken": 0.9}}
    )
    found = difference(Version("old", shop.taxonomy, old), Version("new", shop.taxonomy, new))
    assert [(one.label, one.before, one.after) for one in found.f1] == [
        ("late", 0.5, 0.25),
        ("refund", 0.6, 0.7),
    ]
    assert found.overall == {"micro_f1": (0.5, 0.6), "macro_f1": (0.4, 0.3)}
    text = told(found)
    assert "F1 out of fold: micro 0.500 -> 0.600, macro 0.400 -> 0.300, 1 label better, 1 worse" in text
    assert "0.50 -> 0.25  -0.25  late" in text
    assert difference(Version("old", shop.taxonomy, old), Version("new", shop.taxonomy)).f1 == ()


def test_the_f1_of_a_renamed_label_is_compared_too(shop):
    new = edited(rename_label)
    manifests = [
        manifest_of(shop.taxonomy, metrics={"f1": {"late": 0.5}}),
        manifest_of(new, metrics={"f1": {"too_late": 0.75}}),
    ]
    found = difference(Version("old", shop.taxonomy, manifests[0]), Version("new", new, manifests[1]))
    assert [(one.label, one.before, one.after) for one in found.f1] == [("too_late", 0.5, 0.75)]


def test_only_the_greatest_changes_of_f1_are_listed(shop):
    taxonomy = Taxonomy.from_dict({"name": "n", "labels": [f"l{place}" for place in range(50)]})
    sides = [
        Version(
            str(by),
            taxonomy,
            manifest_of(taxonomy, metrics={"f1": {f"l{at}": at * by / 100 for at in range(1, 50)}}),
        )
        for by in (1, 2)
    ]
    text = told(difference(*sides))
    assert "l49" in text
    assert "l20" not in text
    assert "and 29 that differ less" in text


def test_json_holds_everything(shop):
    plain = json.loads(
        json.dumps(between(shop.taxonomy, edited(lambda groups: groups.pop("product"))).to_json())
    )
    assert plain["removed"][0] == {"name": "product", "kind": "group", "parents": [TOP_LEVEL]}
    assert plain["retrained"][0]["group"] == TOP_LEVEL
    assert plain["rows_known"] is False
    assert (plain["before"], plain["after"], plain["kept"]) == ("old", "new", 3)


# What fit would train, beside what it does


def add_label(groups):
    groups["product"]["labels"].append("recalled")


def add_deep_label(groups):
    groups["billing"]["groups"]["tax"]["labels"].append("vat_number")


def remove_from_one_parent(groups):
    groups["product"]["labels"].remove("broken")


def move_group(groups):
    groups["delivery"]["groups"] = {"tax": groups["billing"].pop("groups")["tax"]}


def merge(groups):
    groups["product"]["labels"][1] = "stopped"
    groups["billing"]["labels"][1]["aliases"].append("faulty")


def merge_siblings(groups):
    groups["billing"]["groups"]["tax"]["labels"] = [{"name": "vat_missing", "aliases": ["vat_wrong"]}, "vat"]


def merge_into_group(groups):
    groups["product"]["labels"][1] = "stopped"
    groups["billing"]["aliases"] = ["faulty"]


def rename_label(groups):
    groups["delivery"]["labels"][0] = {"name": "too_late", "aliases": ["late"]}


def rename_group(groups):
    groups["goods"] = groups.pop("product") | {"aliases": ["product"]}


def other_order(groups):
    groups["billing"]["labels"].reverse()


def other_penalty(groups):
    groups["delivery"]["backend"] = {"kind": "linear", "C": 0.5}


def other_negatives(groups):
    groups["delivery"]["negatives"] = "all"


def left_to_a_trial(groups):
    groups["delivery"]["negatives"] = "auto"


def enter_by_model(groups):
    groups["mood"]["route"] = "model"


def enter_always(groups):
    groups["billing"]["groups"]["tax"]["route"] = "always"


def group_between(groups):
    groups["all_product"] = {"groups": {"product": groups.pop("product")}, "labels": ["colour"]}


def choose_and_cuts(groups):
    groups["mood"]["choose"] = "many"
    groups["delivery"]["threshold"] = 0.25
    groups["billing"]["back_off"] = True
    groups["product"]["description"] = "Things."


EDITS = [
    nothing, add_label, add_deep_label, remove_from_one_parent, move_group, merge, merge_siblings,
    merge_into_group, rename_label, rename_group, other_order, other_penalty, other_negatives,
    left_to_a_trial, enter_by_model, enter_always, group_between, choose_and_cuts,
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("is_model", [True, False])
def test_fit_trains_what_was_told_to_be_trained(edit, is_model, shop, shop_model, tmp_path):
    """On the same rows: all that is sure, nothing that was not mentioned."""
    taxonomy = edited(edit)
    folder = shutil.copytree(shop_model, tmp_path / "model")
    before = Version("old", shop.taxonomy, read_manifest(folder) if is_model else None)
    found = difference(before, Version("new", taxonomy))
    labels = [[taxonomy.resolve(name) for name in names] for names in shop.labels]
    known = [row for row, names in enumerate(labels) if None not in names]
    assert len(known) == len(labels), "an edit has to keep the names of all rows"
    done = []
    fit(taxonomy, shop.texts, labels, folder, report=done.append)
    fitted = {event.group or TOP_LEVEL for event in done if event.kind == "fitted"}
    sure = {one.group for one in found.retrained if one.sure}
    assert sure <= fitted <= {one.group for one in found.retrained}
    after = Version("fitted", taxonomy, read_manifest(folder))
    exact = difference(Version("old", shop.taxonomy, read_manifest(shop_model)), after)
    assert {one.group for one in exact.retrained} == fitted
    assert exact.kept + len(fitted) == len(after.manifest.groups)
    assert exact.rows_known


# Names that are paths


GUEST_LAST = SHOP | {"groups": SHOP["groups"] | {"product": {"labels": ["faulty", "broken"]}}}
"""As a label that is ``also_in`` a group comes last in it."""


def to_paths(edit=nothing, plain=GUEST_LAST):
    """From plain names to paths, after an edit of the file."""
    return between(edited(nothing, plain), Taxonomy.from_dict(with_paths(edited(edit, plain).to_dict())))


def test_names_that_become_paths_are_the_one_difference():
    found = to_paths()
    assert [(one.setting, one.before, one.after) for one in found.settings] == [("names", "plain", "path")]
    assert (found.added, found.removed, found.moved, found.renamed, found.merged) == ((), (), (), (), ())
    assert (found.split, found.retrained) == ((), ())
    assert {one.name: one.into for one in found.paths} == {
        "tax": "billing/tax", "refund": "billing/refund", "double_charge": "billing/double_charge",
        "vat_missing": "billing/tax/vat_missing", "vat_wrong": "billing/tax/vat_wrong",
        "late": "delivery/late", "broken": "delivery/broken", "faulty": "product/faulty",
        "happy": "mood/happy", "angry": "mood/angry",
    }  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(taxonomies())
def test_any_names_that_become_paths_are_the_one_difference(plain):
    paths = Taxonomy.from_dict(with_paths(plain.to_dict()))
    for before, after in ((plain, paths), (paths, plain)):
        found = between(before, after)
        assert [one.setting for one in found.settings] == ["names"]
        assert (found.added, found.removed, found.moved) == ((), (), ())
        assert (found.renamed, found.merged, found.split) == ((), (), ())
        # A guest comes last in its group.
        assert {reason for one in found.retrained for reason in one.reasons} <= {
            "another order of its children"
        }


def test_names_that_become_paths_are_told_in_one_line():
    assert told(to_paths()).splitlines() == [
        "old -> new",
        "written otherwise",
        "  ~ 10 names, such as group tax -> billing/tax",
        "settings",
        "  ~ taxonomy shop: names plain -> path",
        "fit trains no group anew",
        "Rows were not compared: a group whose rows or texts changed is trained anew too.",
    ]


def test_paths_that_become_plain_names_are_the_one_difference():
    plain = edited(nothing, GUEST_LAST)
    found = between(Taxonomy.from_dict(with_paths(GUEST_LAST)), plain)
    assert [one.setting for one in found.settings] == ["names"]
    assert (found.added, found.removed, found.moved, found.renamed, found.retrained) == ((), (), (), (), ())
    assert len(found.paths) == 10


def test_one_label_that_becomes_two_is_a_split():
    before = Taxonomy.from_dict({"name": "n", "groups": {"a": {"labels": ["x"]}, "b": {"labels": ["x"]}}})
    after = Taxonomy.from_dict(before.to_dict() | {"names": "path"})
    found = between(before, after)
    assert [(one.name, one.into) for one in found.paths] == [("x", "a/x")]
    assert [(one.name, one.into) for one in found.split] == [("b/x", "x")]
    back = between(after, before)
    assert [(one.name, one.into) for one in back.merged] == [("a/x", "x"), ("b/x", "x")]


def test_a_path_is_another_thing_in_another_group():
    groups = {"a": {"labels": ["x", "other"]}, "b": {"labels": ["y"]}}
    before = Taxonomy.from_dict({"name": "n", "names": "path", "groups": groups})
    groups = {"a": {"labels": ["x"]}, "b": {"labels": ["y", "other"]}}
    found = between(before, Taxonomy.from_dict({"name": "n", "names": "path", "groups": groups}))
    assert [one.name for one in found.removed] == ["a/other"]
    assert [one.name for one in found.added] == ["b/other"]
    assert not found.moved


def test_an_old_path_as_an_alias_is_a_new_name():
    before = {"name": "n", "names": "path", "groups": {"a": {"labels": ["x", "y"]}, "b": {"labels": ["z"]}}}
    groups = {"a": {"labels": ["x"]}, "b": {"labels": ["z", {"name": "y", "aliases": ["a/y"]}]}}
    after = before | {"groups": groups}
    found = between(Taxonomy.from_dict(before), Taxonomy.from_dict(after))
    assert [(one.name, one.into) for one in found.renamed] == [("a/y", "b/y")]
    assert [(one.name, one.before, one.after) for one in found.moved] == [("b/y", ("a",), ("b",))]
    assert (found.added, found.removed) == ((), ())


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("is_model", [True, False])
def test_fit_trains_what_was_told_where_names_become_paths_too(edit, is_model, shop, shop_model, tmp_path):
    taxonomy = Taxonomy.from_dict(with_paths(edited(edit).to_dict()))
    folder = shutil.copytree(shop_model, tmp_path / "model")
    before = Version("old", shop.taxonomy, read_manifest(folder) if is_model else None)
    found = difference(before, Version("new", taxonomy))
    labels = [[taxonomy.resolve(name) for name in names] for names in shop.labels]
    assert not any(None in names for names in labels), "an edit has to keep the names of all rows"
    done = []
    fit(taxonomy, shop.texts, labels, folder, report=done.append)
    fitted = {event.group or TOP_LEVEL for event in done if event.kind == "fitted"}
    sure = {one.group for one in found.retrained if one.sure}
    assert sure <= fitted <= {one.group for one in found.retrained}
    after = Version("fitted", taxonomy, read_manifest(folder))
    exact = difference(Version("old", shop.taxonomy, read_manifest(shop_model)), after)
    assert {one.group for one in exact.retrained} == fitted


def test_rows_that_changed_are_told_where_both_are_models(shop, shop_model, tmp_path):
    at = shop.labels.index(["late"])
    fit(
        shop.taxonomy,
        shop.texts[:at] + shop.texts[at + 1 :],
        shop.labels[:at] + shop.labels[at + 1 :],
        tmp_path,
    )
    sides = [Version(str(folder), shop.taxonomy, read_manifest(folder)) for folder in (shop_model, tmp_path)]
    found = difference(*sides)
    assert "rows 300 -> 299" in reasons(found)[TOP_LEVEL]
    assert set(reasons(found)) == {TOP_LEVEL, "delivery", "mood"}
    texts = [*shop.texts[:at], "it arrived ever so slowly", *shop.texts[at + 1 :]]
    fit(shop.taxonomy, texts, shop.labels, tmp_path)
    found = difference(sides[0], Version("texts", shop.taxonomy, read_manifest(tmp_path)))
    assert reasons(found)["delivery"] == ("other texts, or other labels of them",)


def test_a_label_that_comes_may_change_all_that_its_rows_reach():
    found = after_edit(add_deep_label)
    assert {one.group: one.sure for one in found.retrained} == {
        TOP_LEVEL: False,
        "billing": False,
        "tax": True,
        "mood": False,
    }
    assert reasons(found)["tax"] == ("children came: 'vat_number'",)
    assert reasons(found)["billing"] == ("if rows carry 'vat_number'",)
    text = told(found)
    assert "fit trains 1 of 6 groups" in text
    assert "fit may train 3 of 6 groups\n  * top level, billing, mood: if rows carry 'vat_number'" in text
    assert "Rows were not compared" in text


def test_a_group_that_learns_from_all_rows_may_change_with_any():
    plain = copy.deepcopy(SHOP)
    plain["groups"]["delivery"]["negatives"] = "all"
    found = after_edit(add_deep_label, plain)
    assert reasons(found)["delivery"] == ("it learns from all rows, so if any carry 'vat_number'",)


def test_other_versions_than_the_model_was_made_with_train_everything(shop, shop_model):
    manifest = read_manifest(shop_model)
    older = replace(manifest, versions={**manifest.versions, "numpy": "1.0"})
    found = difference(Version("old", shop.taxonomy, older), Version("new", shop.taxonomy))
    assert len(found.retrained) == len(manifest.groups)
    assert all(one.reasons[0].startswith("numpy 1.0 -> ") for one in found.retrained)


def test_a_hosted_group_is_made_of_what_the_service_is_told_too():
    plain = {
        "name": "n",
        "defaults": {"backend": {"kind": "openai"}},
        "groups": {"g": {"labels": ["a", "b"]}, "h": {"labels": ["c", "d"]}},
    }

    def describe(groups):
        groups["g"]["description"] = "Of the letters."

    assert set(reasons(after_edit(describe, plain))) == {"g", TOP_LEVEL}
    assert all("service" in one[0] for one in reasons(after_edit(describe, plain)).values())
    assert ROOT not in reasons(after_edit(describe, plain))


def test_hostile_names_are_no_markup():
    taxonomies_ = (
        Taxonomy.from_dict({"name": "n", "labels": ["x", *more]})
        for more in ([], ["[red]a[/red]", ":smile:"])
    )
    text = told(between(*taxonomies_))
    assert "+ label [red]a[/red]" in text
    assert ":smile:" in text


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_the_console(width):
    labels = [f"label {place} " + "long " * place + "x" for place in range(20)]
    sides = (Taxonomy.from_dict({"name": "n", "labels": one}) for one in (labels, ["y" * 100]))
    assert max(map(len, told(between(*sides), width).splitlines())) <= width

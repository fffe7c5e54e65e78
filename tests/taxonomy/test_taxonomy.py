from __future__ import annotations

import datetime
import json
import os
import pickle
import re
from pathlib import Path

import places
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cascade.errors import DataError, Place, TaxonomyError
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.settings import BackendSpec, Threshold
from cascade.taxonomy.yaml_nodes import MAX_DEPTH

EXAMPLES = places.ROOT / "taxonomies"

WHOLE = """\
name: feedback
description: What customers tell us.
data:
  train: ../data/feedback.jsonl
  test: [a.csv, "b*.csv"]
  text: body
  labels: [late, broken]
  labels_delimiter: "|"
  id: ticket
combine: noisy_or
defaults: {backend: {kind: linear, C: [0.3, 1]}, choose: one, threshold: 0.4}
groups:
  billing:
    description: Charges and refunds.
    aliases: [money]
    choose: many
    route: always
    threshold: {precision: 0.9}
    negatives: siblings
    back_off: yes
    backend: {kind: finetune, model: small, epochs: 3, rate: 1e-4, shuffle: on, seed: ~, tags: ["1", 2]}
    labels:
      - refund
      - name: double_charge
        description: Charged twice for one order.
        aliases: [charged twice, twice]
        threshold: {recall: 0.95}
    groups:
      tax:
        also_in: [b2b]
        threshold: auto
        labels: [vat_missing, shared]
  b2b:
    labels: [shared]
labels:
  - other
"""


def written(folder: Path, text: str | bytes, name: str = "t.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def complaints(folder: Path, text: str | bytes, **options) -> list[str]:
    """The complaints about a file, each as ``line:column: message``."""
    path = written(folder, text)
    with pytest.raises(TaxonomyError) as caught:
        Taxonomy.load(path, **options)
    lines = [str(problem) for problem in caught.value.problems]
    assert all(line.startswith(f"{path}:") for line in lines)
    assert str(caught.value) == "\n".join(lines)
    return [line.removeprefix(f"{path}:").strip() for line in lines]


@pytest.fixture
def whole(tmp_path) -> Taxonomy:
    return Taxonomy.load(written(tmp_path, WHOLE))


# What a sound file says


def test_top_level_keys_are_read(whole, tmp_path):
    assert (whole.name, whole.description, whole.combine) == (
        "feedback",
        "What customers tell us.",
        "noisy_or",
    )
    assert whole.source == str(tmp_path / "t.yaml")


@pytest.mark.parametrize(
    ("written", "expected"),
    [("0.01", 0.01), ("1e-3", 0.001), ("0", 0.0), ("off", None), ("no", None), ("false", None), ("", 0.002)],
)
def test_what_a_first_look_may_lose_is_a_number_or_off(written, expected):
    found = Taxonomy.of_text(f"name: n\nfirst_look: {written}\nlabels: [x]\n")
    assert found.first_look == expected
    assert Taxonomy.from_dict(found.to_dict()) == found
    assert ("first_look" in found.to_dict()) == (expected != 0.002)


def test_data_is_kept_as_written(whole, tmp_path):
    data = whole.data
    assert data.train == ("../data/feedback.jsonl",)
    assert data.test == ("a.csv", "b*.csv")
    assert (data.text, data.labels, data.labels_delimiter, data.id) == (
        "body",
        ("late", "broken"),
        "|",
        "ticket",
    )
    assert data.base == tmp_path


def test_data_may_be_absent(tmp_path):
    data = Taxonomy.load(written(tmp_path, "name: n\nlabels: [a]\n")).data
    assert (data.train, data.test, data.text, data.labels, data.labels_delimiter) == (
        (),
        (),
        None,
        None,
        None,
    )
    assert data.files("train") == ()


def test_groups_and_labels_come_in_the_order_of_the_file(whole):
    assert list(whole.groups) == [ROOT, "billing", "tax", "b2b"]
    assert list(whole.labels) == ["refund", "double_charge", "vat_missing", "shared", "other"]
    assert whole.graph.labels == tuple(whole.labels)
    assert whole.graph.groups == (ROOT, "billing", "b2b", "tax")


def test_labels_written_after_groups_follow_them(tmp_path):
    text = "name: n\ngroups:\n  g:\n    groups: {low: {labels: [x]}}\n    labels: [y]\nlabels: [z]\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert taxonomy.groups["g"].children == ("low", "y")
    assert taxonomy.graph.labels == ("x", "y", "z")


def test_children_are_in_the_order_of_the_file_and_guests_last(whole):
    assert whole.groups[ROOT].children == ("billing", "b2b", "other")
    assert whole.groups["billing"].children == ("refund", "double_charge", "tax")
    assert whole.groups["b2b"].children == ("shared", "tax")


def test_every_setting_of_a_group_is_read(whole):
    billing = whole.groups["billing"]
    assert (billing.description, billing.aliases) == ("Charges and refunds.", ("money",))
    assert (billing.choose, billing.route, billing.negatives, billing.back_off) == (
        "many",
        "always",
        "siblings",
        True,
    )
    assert billing.threshold == Threshold("precision", 0.9)
    assert billing.within == ROOT
    assert billing.places == (Place(whole.source, 13, 3),)


def test_options_of_a_backend_are_python_values(whole):
    backend = whole.groups["billing"].backend
    expected = {
        "model": "small",
        "epochs": 3,
        "rate": 1e-4,
        "shuffle": True,
        "seed": None,
        "tags": ["1", 2],
    }
    assert backend == BackendSpec("finetune", expected)
    assert type(backend.options["epochs"]) is int
    assert backend.place == Place(whole.source, 21, 14)


@pytest.mark.parametrize(
    ("written_as", "value"),
    [
        ("1e3", 1000.0), ("1E-2", 0.01), (".5", 0.5), ("-2", -2), ("+3", 3), ("007", 7),
        ('"7"', "7"), ('"1e3"', "1e3"), ("!!str 7", "7"), ("1_000", "1_000"), ("1:30", "1:30"),
        ("0x1F", "0x1F"), ("2024-01-01", "2024-01-01"), ("=", "="),
        ("'~'", "~"), ("a b", "a b"), ('"true"', "true"),
        ("No", False), ("true", True), ("null", None), ("", None),
        ("{deep: [1, {x: no}]}", {"deep": [1, {"x": False}]}),
    ],
)  # fmt: skip
def test_scalars_among_options(tmp_path, written_as, value):
    text = f"name: n\nlabels: [a]\ndefaults:\n  backend:\n    kind: k\n    option: {written_as}\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    found = taxonomy.groups[ROOT].backend.options["option"]
    assert found == value
    assert type(found) is type(value)
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy


def test_labels_of_both_forms_are_read(whole):
    long = whole.labels["double_charge"]
    assert (long.description, long.aliases) == ("Charged twice for one order.", ("charged twice", "twice"))
    assert long.threshold == Threshold("recall", 0.95)
    short = whole.labels["refund"]
    assert (short.description, short.aliases, short.threshold) == ("", (), None)


def test_a_label_has_a_place_for_each_time_it_stands_in_the_file(whole):
    assert whole.labels["shared"].places == (Place(whole.source, 32, 31), Place(whole.source, 34, 14))
    assert whole.labels["double_charge"].places == (Place(whole.source, 24, 15),)


def test_a_group_has_places_of_its_definition_and_of_also_in(whole):
    assert whole.groups["tax"].places == (Place(whole.source, 29, 7), Place(whole.source, 30, 19))


def test_settings_of_a_group_go_down_to_the_groups_in_it(whole):
    tax = whole.groups["tax"]
    assert (tax.negatives, tax.back_off, tax.backend.kind) == ("siblings", True, "finetune")
    assert tax.threshold == Threshold("auto")
    assert tax.within == "billing"


def test_choose_and_route_come_from_the_group_itself_or_from_defaults(whole):
    tax = whole.groups["tax"]
    assert (tax.choose, tax.route) == ("one", "model")


def test_defaults_reach_the_root_save_for_its_route(whole):
    root = whole.groups[ROOT]
    assert (root.choose, root.threshold, root.backend.options) == (
        "one",
        Threshold("value", 0.4),
        {"C": [0.3, 1]},
    )
    assert (root.route, root.within) == ("always", None)


def test_without_settings_a_group_has_the_documented_ones(tmp_path):
    group = Taxonomy.load(written(tmp_path, "name: n\ngroups: {g: {labels: [a]}}\n")).groups["g"]
    assert (group.choose, group.route, group.negatives, group.back_off) == ("many", "model", "auto", False)
    assert (group.threshold, group.backend) == (Threshold(), BackendSpec("linear", {}))


@pytest.mark.parametrize(
    ("written_as", "threshold"),
    [
        ("auto", Threshold("auto", None)), ("0", Threshold("value", 0.0)), ("1", Threshold("value", 1.0)),
        ("5e-1", Threshold("value", 0.5)), ("{precision: 1}", Threshold("precision", 1.0)),
        ("{recall: .9}", Threshold("recall", 0.9)),
    ],
)  # fmt: skip
def test_thresholds(tmp_path, written_as, threshold):
    text = f"name: n\ngroups: {{g: {{labels: [a], threshold: {written_as}}}}}\n"
    assert Taxonomy.load(written(tmp_path, text)).groups["g"].threshold == threshold


def test_threshold_of_a_label_is_its_own_or_that_of_its_first_parent(whole):
    assert whole.threshold_of("double_charge") == Threshold("recall", 0.95)
    assert whole.threshold_of("refund") == Threshold("precision", 0.9)
    assert whole.threshold_of("shared") == Threshold("auto")
    assert whole.threshold_of("other") == Threshold("value", 0.4)


def test_names_and_aliases_resolve_exactly(whole):
    names = ["refund", "charged twice", "money", "tax", "Refund", " refund", "", "nobody"]
    found = [whole.resolve(name) for name in names]
    assert found == ["refund", "double_charge", "billing", "tax", None, None, None, None]


def test_suggestions_look_at_names_and_aliases(whole):
    assert whole.suggest("refunds") == " Did you mean 'refund'?"
    assert whole.suggest("charged twise") == " Did you mean 'charged twice'?"
    assert whole.suggest("zzzz") == ""


def test_names_stay_the_strings_that_were_written(tmp_path):
    names = [
        "on",
        "1e3",
        "2024-01-01",
        "null",
        "007",
        "0x1F",
        "1_000",
        "<<",
        "=",
        "1:30",
        "True",
        ".5",
        "!",
        "-1",
    ]
    text = (
        f"name: 1e4\ngroups:\n  no: {{labels: [{', '.join(names).replace('!', chr(39) + '!' + chr(39))}]}}\n"
    )
    text += "  ~: {labels: [{name: off, description: 010, aliases: [yes, 1.0]}]}\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert taxonomy.name == "1e4"
    assert taxonomy.groups["no"].children == tuple(names)
    assert taxonomy.groups["~"].children == ("off",)
    assert (taxonomy.labels["off"].description, taxonomy.labels["off"].aliases) == ("010", ("yes", "1.0"))


def test_a_key_without_a_value_counts_as_not_given(tmp_path):
    text = "name: n\ndescription:\ndata:\ndefaults: ~\nlabels: [{name: a, description: null, threshold: }]\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert taxonomy.description == ""
    assert taxonomy.labels["a"].description == ""


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_mark_and_line_ends_make_no_difference(tmp_path, whole, newline, mark):
    path = written(tmp_path, mark + WHOLE.replace("\n", newline), "other.yaml")
    taxonomy = Taxonomy.load(path)
    assert taxonomy == whole
    assert taxonomy.groups["tax"].places[0].line == 29


def test_unicode_names_are_kept(tmp_path):
    text = "name: rückmeldung\ngroups:\n  支付: {labels: [👍🏽, e\u0301té, été, naïve name]}\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert taxonomy.groups["支付"].children == ("👍🏽", "e\u0301té", "été", "naïve name")


def test_anchors_and_merge_keys_work(tmp_path):
    text = """\
name: n
groups:
  a:
    <<: &base {choose: one, threshold: 0.3}
    labels: &both [x, y]
  b: {threshold: 0.7, <<: *base, labels: *both}
  c:
    <<: [{choose: many}, *base]
    labels: [z]
"""
    taxonomy = Taxonomy.load(written(tmp_path, text))
    seen = {name: (group.choose, group.threshold.value) for name, group in taxonomy.groups.items()}
    assert seen == {"": ("many", None), "a": ("one", 0.3), "b": ("one", 0.7), "c": ("many", 0.3)}
    assert taxonomy.graph.parents["y"] == ("a", "b")


def test_many_aliases_in_a_large_file_are_no_explosion(tmp_path):
    labels = ", ".join(f"label {number}" for number in range(500))
    groups = "".join(f"  g{number}: {{labels: *all}}\n" for number in range(100))
    text = f"name: n\ngroups:\n  first: {{labels: &all [{labels}]}}\n{groups}"
    assert len(Taxonomy.load(written(tmp_path, text)).graph.parents["label 7"]) == 101


def test_a_large_taxonomy_is_no_explosion():
    labels = [{"name": f"label {number}", "description": "d"} for number in range(30_000)]
    assert len(Taxonomy.from_dict({"name": "n", "labels": labels}).labels) == 30_000


def test_a_label_in_two_groups_is_noted_with_the_lines(whole):
    message = "label 'shared' stands in groups tax (line 32) and b2b (line 34): one label with two parents"
    assert [str(note) for note in whole.notes] == [f"{whole.source}:34:14: {message}"]


def test_a_label_in_three_groups_is_noted_once(tmp_path):
    text = "name: n\nlabels: [x]\ngroups:\n  a: {labels: [x]}\n  b: {labels: [x]}\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    groups = "the top level (line 2), a (line 4) and b (line 5)"
    assert [note.message for note in taxonomy.notes] == [
        f"label 'x' stands in groups {groups}: one label with 3 parents"
    ]


def test_what_is_said_of_a_label_in_two_places_comes_together(tmp_path):
    text = "name: n\ngroups:\n  a: {labels: [{name: x, aliases: [p, q]}]}\n"
    text += "  b: {labels: [{name: x, description: d, aliases: [q, r], threshold: 0.2}]}\n"
    label = Taxonomy.load(written(tmp_path, text)).labels["x"]
    assert (label.description, label.aliases, label.threshold) == (
        "d",
        ("p", "q", "r"),
        Threshold("value", 0.2),
    )


def test_an_alias_that_is_the_own_name_does_no_harm(tmp_path):
    taxonomy = Taxonomy.load(written(tmp_path, "name: n\nlabels: [{name: x, aliases: [x, y]}]\n"))
    assert (taxonomy.resolve("x"), taxonomy.resolve("y")) == ("x", "x")


def test_a_group_may_hold_guests_only(tmp_path):
    text = "name: n\ngroups:\n  host: {description: d}\n  g: {also_in: host, labels: [x]}\n"
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert taxonomy.groups["host"].children == ("g",)
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy


def test_a_taxonomy_can_go_to_another_process(whole):
    whole.resolve("refund")
    assert pickle.loads(pickle.dumps(whole)) == whole


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_load_and_survive_json(path):
    taxonomy = Taxonomy.load(path)
    again = Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict())))
    assert again == taxonomy
    assert list(again.labels) == list(taxonomy.labels)


def test_the_living_example_has_two_labels_with_two_parents():
    taxonomy = Taxonomy.load(EXAMPLES / "feedback.yaml")
    assert {name for name in taxonomy.labels if len(taxonomy.graph.parents[name]) > 1} == {
        "broken_on_arrival", "refund_late",
    }  # fmt: skip
    assert taxonomy.groups["sentiment"].choose == "one"
    assert taxonomy.groups["timing"].route == "model"


@pytest.mark.skipif(not places.SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "labels", "groups"),
    [("clinc150", 150, 10), ("goemotions", 28, 10), ("nlupp", 62, 10), ("us_bills", 536, 32)],
)
def test_taxonomies_of_real_data_sets_load(name, labels, groups):
    taxonomy = Taxonomy.load(places.SHARED / "data" / name / "taxonomy.yaml")
    assert (len(taxonomy.labels), len(taxonomy.groups) - 1) == (labels, groups)


# Files with data


def data_of(folder: Path, *train: str) -> Taxonomy:
    (folder / "sub").mkdir(exist_ok=True)
    for name in ("a.jsonl", "b.jsonl", "c.csv", "odd[1].jsonl"):
        (folder / name).touch()
    text = "name: n\nlabels: [x]\ndata:\n" + "".join(
        ["  train:\n", *(f"    - {json.dumps(one)}\n" for one in train)]
    )
    return Taxonomy.load(written(folder / "sub", text))


def test_files_are_found_from_the_folder_of_the_taxonomy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    files = data_of(tmp_path, "../a.jsonl", str(tmp_path / "c.csv")).data.files("train")
    assert [file.resolve() for file in files] == [tmp_path / "a.jsonl", tmp_path / "c.csv"]


def test_globs_are_sorted_and_a_file_comes_once(tmp_path):
    for name in ("k7", "k2", "k9", "k1", "k8", "k3", "k6", "k4", "k5"):
        (tmp_path / f"{name}.tsv").touch()
    (tmp_path / "k0.tsv").mkdir()
    files = data_of(tmp_path, "../k5.tsv", "../k*.tsv", "../*.csv").data.files("train")
    assert [file.stem for file in files] == ["k5", "k1", "k2", "k3", "k4", "k6", "k7", "k8", "k9", "c"]


def test_two_stars_look_into_folders(tmp_path):
    files = data_of(tmp_path, str(tmp_path / "**" / "*.csv")).data.files("train")
    assert files == (tmp_path / "c.csv",)


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path):
    files = data_of(tmp_path, "../odd[1].jsonl").data.files("train")
    assert [file.name for file in files] == ["odd[1].jsonl"]


def test_a_folder_whose_name_looks_like_a_glob_is_no_pattern(tmp_path):
    folder = tmp_path / "run[1]"
    folder.mkdir()
    assert [file.name for file in data_of(folder, "../*.csv").data.files("train")] == ["c.csv"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("../a.jsnl", r"t.yaml:5:7: data.train '../a.jsnl' does not exist, .*sub. Did you mean 'a.jsonl'\?"),
        ("*.parquet", r"t.yaml:5:7: no file matches data.train '\*.parquet', looked for from .*sub"),
        ("../sub/", r"t.yaml:5:7: data.train '../sub/' is a folder; expected .* such as '../sub/\*.jsonl'"),
        ("~nobody-at-all/x", r"t.yaml:5:7: data.train '~nobody-at-all/x' does not exist"),
    ],
)  # fmt: skip
def test_a_pattern_without_a_file_is_named_with_its_place(tmp_path, pattern, message):
    taxonomy = data_of(tmp_path, pattern)
    with pytest.raises(DataError, match=message):
        taxonomy.data.files("train")


def test_test_files_are_apart_from_train_files(tmp_path):
    (tmp_path / "a.csv").touch()
    taxonomy = Taxonomy.load(written(tmp_path, "name: n\nlabels: [x]\ndata: {train: a.csv, test: b.csv}\n"))
    assert taxonomy.data.files("train") == (tmp_path / "a.csv",)
    with pytest.raises(DataError, match=r"t.yaml:3:28: data.test 'b.csv' does not exist"):
        taxonomy.data.files("test")


# Complaints: the file as a whole


def test_a_missing_file_is_named_with_a_suggestion(tmp_path):
    written(tmp_path, WHOLE, "feedback.yaml")
    path = tmp_path / "feedbak.yaml"
    with pytest.raises(
        TaxonomyError, match=r"feedbak.yaml: cannot be read: No such file.* Did you mean 'feedback.yaml'\?"
    ):
        Taxonomy.load(path)


def test_a_folder_is_no_taxonomy(tmp_path):
    with pytest.raises(TaxonomyError, match="cannot be read: Is a directory"):
        Taxonomy.load(tmp_path)


def test_an_impossible_path_is_a_complaint():
    with pytest.raises(TaxonomyError, match="cannot be read: embedded null byte"):
        Taxonomy.load("a\0b.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_leave_to_read_is_a_complaint(tmp_path):
    path = written(tmp_path, WHOLE)
    path.chmod(0)
    with pytest.raises(TaxonomyError, match="cannot be read: Permission denied"):
        Taxonomy.load(path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"name: n\nlabels: [caf\xe9]\n", "2:13: not UTF-8: found byte 0xe9; save the file as UTF-8"),
        ("ä\r\nüb".encode() + b"\xff", "2:3: not UTF-8: found byte 0xff; save the file as UTF-8"),
        (b"\xef\xbb\xbf\xff", "1:1: not UTF-8: found byte 0xff; save the file as UTF-8"),
        ("name: n".encode("utf-16"), "1:1: not UTF-8: found byte 0xff; save the file as UTF-8"),
        (b"name: n\nx: a\x00b\n", "2:5: not valid YAML: the character U+0000 is not allowed; delete it"),
        (b"", "1:1: the file is empty; expected at least `name:` and `groups:`"),
        (b"# nothing here\n\n", "1:1: the file is empty; expected at least `name:` and `groups:`"),
        (b"---\n", "1:1: the file is empty; expected at least `name:` and `groups:`"),
    ],
)  # fmt: skip
def test_content_that_is_no_text_or_nothing(tmp_path, content, complaint):
    assert complaints(tmp_path, content) == [complaint]


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("name: n\ngroups:\n\ta: 1\n", "3:1", "indent with blanks, not with tabs"),
        ("name: n\ndescription: note: this\n", "2:18", "put quotes around a text that contains `: `"),
        ("name: n\nlabels: [*star]\n", "2:10", "put quotes around a text that begins with `*`"),
        ("name: n\nlabels: [@home]\n", "2:10", "put quotes around a text that begins with `@`"),
        ("name: n\nlabels:\n  - a\n - b\n", "4:2", "is the indentation the same as that of the lines above?"),
        ('name: "n\n', "2:1", "found unexpected end of stream"),
        ("name: n\nlabels: [a\n", "3:1", "expected ',' or ']', but got '<stream end>'"),
        ('name: n\nlabels: ["\\UFFFFFFFF"]\n', "2:13", "escape or a directive is out of range"),
        (f"%YAML 1.{'9' * 5000}\n---\nname: n\n", "1:9", "escape or a directive is out of range"),
    ],
)  # fmt: skip
def test_yaml_syntax_is_explained_at_its_place(tmp_path, text, place, hint):
    (complaint,) = complaints(tmp_path, text)
    assert complaint.startswith(f"{place}: not valid YAML: ")
    assert complaint.endswith(hint)


def test_several_documents_are_refused_where_the_second_begins(tmp_path):
    assert complaints(tmp_path, "name: n\nlabels: [a]\n---\nname: m\n") == [
        "3:1: a second document begins here; expected one taxonomy in a file, without `---`"
    ]


@pytest.mark.parametrize(
    ("text", "found"), [("- a\n", "a list"), ("hello\n", "'hello'"), ("7\n", "7"), ("~\n", "'~'")]
)
def test_the_top_level_must_be_a_mapping(tmp_path, text, found):
    (complaint,) = complaints(tmp_path, text)
    assert complaint.startswith(f"1:1: the top level is {found}; expected a mapping with 'name', ")


def test_an_anchor_that_contains_itself_is_one_complaint(tmp_path):
    assert complaints(tmp_path, "name: n\ngroups: &all\n  g: {groups: *all}\n") == [
        "2:9: a mapping contains itself, through an anchor (&) and its alias (*)"
    ]


def test_a_merge_of_itself_is_one_complaint(tmp_path):
    assert complaints(tmp_path, "name: n\ngroups:\n  g: &g\n    <<: *g\n") == [
        "3:6: a mapping contains itself, through an anchor (&) and its alias (*)"
    ]


def test_an_explosion_of_aliases_is_one_complaint(tmp_path):
    lines = ["name: n", "a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]" for number in range(1, 40)]
    (complaint,) = complaints(tmp_path, "\n".join(lines))
    assert complaint.startswith("6:5: aliases (*) unfold ")
    assert complaint.endswith(" nodes of the file to more than 100,000; write out what is meant")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[" * 50_000, f"1:{MAX_DEPTH + 2}"),
        ("{a: " * 50_000, f"1:{4 * MAX_DEPTH + 2}"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 3000)), "101:7"),
    ],
)  # fmt: skip
def test_nesting_beyond_the_limit_is_one_complaint(tmp_path, text, place):
    assert complaints(tmp_path, text) == [f"{place}: nested more than 100 deep; expected fewer levels"]


def nested(levels: int) -> str:
    opening = "".join(f"{{g{number}: {{groups: " for number in range(levels))
    return f"name: n\ngroups: {opening}{{last: {{labels: [x]}}}}{'}}' * levels}\n"


def test_forty_levels_of_groups_are_no_trouble(tmp_path):
    taxonomy = Taxonomy.load(written(tmp_path, nested(40)))
    assert taxonomy.graph.depth("x") == 42
    assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy


def test_all_complaints_come_at_once_in_the_order_of_the_file(tmp_path):
    text = "nam: n\ncombine: sum\ngroups:\n  a: {labels: [x, x], chose: one}\n  b: {also_in: [c]}\n"
    found = complaints(tmp_path, text)
    assert [line.split(" ", 1)[0] for line in found] == [
        "1:1:",
        "1:1:",
        "2:10:",
        "4:19:",
        "4:23:",
        "5:3:",
        "5:17:",
    ]


# Complaints: one rule each

SOUND = "name: n\nlabels: [ok]\n"


# Each case: what follows two sound lines, then => and the one complaint.
FAULTS = r"""
## unknown keys

descripton: d
=> 3:1: unknown key 'descripton' in the top level; expected 'name', 'description', 'data', 'combine',
   'names', 'first_look', 'escalate', 'verify', 'defaults', 'groups' or 'labels'. Did you mean 'description'?

threshold: 0.5
=> 3:1: unknown key 'threshold' in the top level; expected 'name', 'description', 'data', 'combine',
   'names', 'first_look', 'escalate', 'verify', 'defaults', 'groups' or 'labels'. Write it under `defaults:`.

verify: prompt
=> 3:9: verify is 'prompt'; expected a mapping with keys such as 'backend' or 'at_most'

verify: {at_most: 10%}
=> 3:9: verify has no key 'backend'; expected for instance {kind: prompt, model: gpt-4.1-mini}

verify: {backend: linear}
=> 3:19: backend of verify is of kind 'linear'; expected one that is asked: for instance
   {kind: prompt, model: gpt-4.1-mini}

verify: {backend: {kind: prompt, model: m}, at_most: 0%}
=> 3:54: at_most of verify is '0%'; expected a share of the texts such as 10%

verify: {backend: {kind: prompt, model: m}, at_most: 101%}
=> 3:54: at_most of verify is '101%'; expected a share of the texts such as 10%

verify: {backend: {kind: prompt, model: m}, at_most: 10}
=> 3:54: at_most of verify is 10; expected a share of the texts such as 10%

verify: {backend: {kind: prompt, model: m}, atmost: 10%}
=> 3:45: unknown key 'atmost' in verify; expected 'backend' or 'at_most'. Did you mean 'at_most'?

data: {trian: x}
=> 3:8: unknown key 'trian' in data; expected 'train', 'test', 'format', 'text', 'labels', 'labels_are',
   'labels_delimiter', 'path_separator', 'id', 'prompt_end', 'completion_end', 'encoding', 'sheet', 'header'
   or 'max_row_mb'. Did you mean 'train'?

defaults: {labels: [x]}
=> 3:12: unknown key 'labels' in defaults; expected 'choose', 'route', 'threshold', 'negatives',
   'back_off', 'backend' or 'escalate'.

groups: {g: {lables: [x]}}
=> 3:14: unknown key 'lables' in group 'g'; expected 'description', 'aliases', 'choose', 'route',
   'threshold', 'negatives', 'back_off', 'backend', 'escalate', 'labels', 'groups' or 'also_in'. Did you mean
   'labels'?

groups: {g: {labels: [{name: x, alias: y}]}}
=> 3:33: unknown key 'alias' in a label of group 'g'; expected 'name', 'description', 'aliases' or
   'threshold'. Did you mean 'aliases'?

defaults: {threshold: {precison: 0.9}}
=> 3:24: unknown key 'precison' in threshold of defaults; expected 'precision' or 'recall'. Did you
   mean 'precision'?

## duplicate keys

description: a
description: b
=> 4:1: the top level has the key 'description' twice, at lines 3 and 4; keep one

groups:
  g: {labels: [x]}
  h: {labels: [y]}
  g: {labels: [z]}
=> 6:3: groups of the top level has the key 'g' twice, at lines 4 and 6; keep one

defaults: {backend: {kind: k, C: 1, C: 2}}
=> 3:37: backend of defaults has the key 'C' twice, at lines 3 and 3; keep one

## wrong types

data: x.jsonl
=> 3:7: data is 'x.jsonl'; expected a mapping with keys such as 'train', 'test' or 'format'

data: {train: {a: b}}
=> 3:15: data.train is a mapping; expected text

data: {text: []}
=> 3:14: data.text is an empty list; expected a column, or several columns

data: {text: [a, a]}
=> 3:18: data.text names the column 'a' twice; keep one

data: {encoding: klingon}
=> 3:18: data.encoding is 'klingon'; expected such as utf-8, utf-16 or cp1252

data: {labels_are: flag}
=> 3:20: data.labels_are is 'flag'; expected 'names', 'flags' or 'levels'. Did you mean 'flags'?

data: {labels: {a: b}}
=> 3:16: data.labels is a mapping; expected text

data: {labels: []}
=> 3:16: data.labels is an empty list; expected a column, or a list of 0/1 columns

data: {labels: [a, b, a]}
=> 3:23: data.labels names the column 'a' twice; keep one

data: {id: ''}
=> 3:12: data.id is empty; expected the name of a column

data: {labels_delimiter: ''}
=> 3:26: data.labels_delimiter is empty; expected for instance ';'

description: [a]
=> 3:14: description of the taxonomy is a list; expected text

defaults: one
=> 3:11: defaults is 'one'; expected a mapping with keys such as 'choose', 'route' or 'threshold'

groups: [a, b]
=> 3:9: groups of the top level is a list; expected a mapping such as {billing: {labels: [refund]}}

groups: {g: [a, b]}
=> 3:13: group 'g' is a list; expected a mapping such as {labels: [refund]}

groups: {g: refund}
=> 3:13: group 'g' is 'refund'; expected a mapping with keys such as 'description', 'aliases' or
   'choose'

groups: {g: {labels: refund}}
=> 3:22: labels of group 'g' is 'refund'; expected a list such as [refund]

groups: {g: {labels: {refund: Money back}}}
=> 3:22: labels of group 'g' is a mapping; expected a list such as [{name: refund, description: Money
   back}]

groups: {g: {labels: [[x]]}}
=> 3:23: a label of group 'g' is a list; expected a name or a mapping with the key 'name'

groups: {g: {labels: [x], description: {a: b}}}
=> 3:40: description of group 'g' is a mapping; expected text

groups: {g: {labels: [x], aliases: {a: b}}}
=> 3:36: an alias of group 'g' is a mapping; expected text

groups: {g: {labels: [x], also_in: {a: b}}}
=> 3:36: also_in of group 'g' is a mapping; expected text

? [a]
: b
=> 3:3: a key of the top level is a list; expected text

<<: hello
=> 3:5: << of the top level is 'hello'; expected the alias of a mapping

groups: {g: {labels: !include more.yaml}}
=> 3:22: 'more.yaml' has the tag '!include'; expected text, numbers, lists and mappings only

groups: {g: {labels: !!set {x}}}
=> 3:22: a mapping has the tag '!!set'; expected text, numbers, lists and mappings only

## choices

combine: maximum
=> 3:10: combine is 'maximum'; expected 'max' or 'noisy_or'. Did you mean 'max'?

defaults: {choose: meny}
=> 3:20: choose of defaults is 'meny'; expected 'many' or 'one'. Did you mean 'many'?

groups: {g: {labels: [x], route: allways}}
=> 3:34: route of group 'g' is 'allways'; expected 'model' or 'always'. Did you mean 'always'?

groups: {g: {labels: [x], negatives: [all]}}
=> 3:38: negatives of group 'g' is a list; expected 'auto', 'siblings', 'all' or 'both'.

defaults: {negatives: sibling}
=> 3:23: negatives of defaults is 'sibling'; expected 'auto', 'siblings', 'all' or 'both'. Did you mean
   'siblings'?

defaults: {back_off: 1}
=> 3:22: back_off of defaults is 1; expected true or false, without quotes

defaults: {back_off: 'no'}
=> 3:22: back_off of defaults is 'no'; expected true or false, without quotes

first_look: 1
=> 3:13: first_look is 1; expected a number from 0 to less than 1, or off

first_look: of
=> 3:13: first_look is 'of'; expected a number such as 0.002, or off. Did you mean 'off'?

first_look: true
=> 3:13: first_look is 'true'; expected a number such as 0.002, or off.

## thresholds

defaults: {threshold: 1.5}
=> 3:23: threshold of defaults is 1.5; expected a number from 0 to 1

defaults: {threshold: -1e-3}
=> 3:23: threshold of defaults is -1e-3; expected a number from 0 to 1

defaults: {threshold: .nan}
=> 3:23: threshold of defaults is .nan; expected a number from 0 to 1

defaults: {threshold: atuo}
=> 3:23: threshold of defaults is 'atuo'; expected 'auto', a number from 0 to 1, {precision: 0.9} or
   {recall: 0.95}. Did you mean 'auto'?

defaults: {threshold: '0.5'}
=> 3:23: threshold of defaults is '0.5'; expected 'auto', a number from 0 to 1, {precision: 0.9} or
   {recall: 0.95}. Take it out of the quotes.

defaults: {threshold: [0.5]}
=> 3:23: threshold of defaults is a list; expected 'auto', a number from 0 to 1, {precision: 0.9} or
   {recall: 0.95}.

defaults: {threshold: {}}
=> 3:23: threshold of defaults is an empty mapping; expected {precision: 0.9} or {recall: 0.95}

defaults: {threshold: {recall: 1, precision: 1}}
=> 3:23: threshold of defaults is both; expected {precision: 0.9} or {recall: 0.95}

defaults: {threshold: {precision: 0}}
=> 3:35: precision of threshold of defaults is 0; expected a number above 0, at most 1

groups: {g: {labels: [{name: x, threshold: {recall: high}}]}}
=> 3:53: recall of threshold of label 'x' is 'high'; expected a number above 0, at most 1

## backends

defaults: {backend: {C: 3}}
=> 3:21: backend of defaults has no key 'kind'; expected for instance {kind: linear, C: 1}

defaults: {backend: ''}
=> 3:21: backend of defaults is empty; expected a name

defaults: {backend: [linear]}
=> 3:21: backend of defaults is a list; expected text

defaults: {backend: {kind: k, C: 1e999}}
=> 3:34: C of backend of defaults is 1e999; expected a finite number

defaults: {backend: {kind: k, C: .inf}}
=> 3:34: C of backend of defaults is .inf; expected a finite number

## names

groups: {'': {labels: [x]}}
=> 3:10: the name of a group in the top level is empty; expected a name

groups: {g: {labels: [x, ]}, ' h': {labels: [y]}}
=> 3:30: the name of a group in the top level, ' h', begins or ends with a blank; take the blank out of
   the quotes

groups: {g: {labels: ['']}}
=> 3:23: the name of a label of group 'g' is empty; expected a name

groups:
  g:
    labels:
    -
    - x
=> 6:6: the name of a label of group 'g' is empty; expected a name

groups: {g: {labels: ["x\xa0"]}}
=> 3:23: the name of a label of group 'g', 'x\xa0', begins or ends with a blank; take the blank out of
   the quotes

groups: {g: {labels: ["a\nb"]}}
=> 3:23: the name of a label of group 'g', 'a\nb', contains a line break or a control character;
   expected one line of text

groups: {g: {labels: ["a\u2028b"]}}
=> 3:23: the name of a label of group 'g', 'a\u2028b', contains a line break or a control character;
   expected one line of text

groups: {g: {labels: [{name: x, aliases: ["\0"]}]}}
=> 3:43: an alias of label 'x', '\x00', contains a line break or a control character; expected one line
   of text

description: "\ud800"
=> 3:14: description of the taxonomy contains half a character (a lone surrogate); expected text

## groups and labels

groups: {g: {description: d}}
=> 3:10: group 'g' has no labels and no groups; expected for instance labels: [refund]

groups:
  g:
=> 4:3: group 'g' has no labels and no groups; expected for instance labels: [refund]

groups: {g: {labels: [], groups: {}}}
=> 3:10: group 'g' has no labels and no groups; expected for instance labels: [refund]

groups: {ok: {labels: [x]}}
=> 3:10: group 'ok' has the name of a label (line 2); rename one of them

groups:
  g: {labels: [h]}
  h: {labels: [x]}
=> 5:3: group 'h' has the name of a label (line 4); rename one of them, or if they are two things
   write `names: path` at the top

groups:
  h: {labels: [x]}
  g: {labels: [h]}
=> 5:16: label 'h' has the name of a group (line 4); rename one of them, or if they are two things
   write `names: path` at the top

groups:
  h:
    groups: {g: {labels: [h]}}
=> 5:27: label 'h' has the name of a group (line 4); rename one of them, or if they are two things
   write `names: path` at the top

groups:
  g: {labels: [x]}
  h: {groups: {g: {labels: [y]}}}
=> 5:16: group 'g' is defined twice; first at line 4; write `also_in: [h]` there instead, or if they are
   two things write `names: path` at the top

groups:
  g: {labels: [x],
    groups: {h: {labels: [y]}}}
  h: {labels: [z]}
=> 6:3: group 'h' is defined twice; first at line 5; keep one, or if they are two things
   write `names: path` at the top

groups:
  g:
    labels:
    - x
    - {name: x, description: d}
=> 7:14: label 'x' stands twice in group 'g'; first at line 6; keep one

groups:
  g:
    labels:
    - refund: Money back
=> 6:7: a label of group 'g' has the one key 'refund'; expected `- {name: refund, description: Money
   back}`

groups:
  g:
    labels:
    - refund:
=> 6:7: a label of group 'g' has the one key 'refund'; expected the name alone, without a colon: `-
   refund`

groups:
  g:
    labels:
    - refund: {description: d}
=> 6:7: a label of group 'g' has the one key 'refund'; expected `- {name: refund, description: ...}`

groups:
  g:
    labels:
    - description: d
      aliases: [x]
=> 6:7: a label of group 'g' has no key 'name'; expected for instance {name: refund}

groups:
  g: {labels: [{name: x, description: d}]}
  h: {labels: [{name: x, description: e}]}
=> 5:23: label 'x' has another description than in group 'g' (line 4); keep one, or rename a
   label, or if they are two things write `names: path` at the top

groups:
  g: {labels: [{name: x, threshold: 0.1}]}
  h: {labels: [{name: x, threshold: auto}]}
=> 5:23: label 'x' has another threshold than in group 'g' (line 4); keep one, or rename a
   label, or if they are two things write `names: path` at the top

## aliases

groups: {g: {labels: [{name: x, aliases: [ok]}]}}
=> 3:43: alias 'ok' of 'x' is also the name of a label (line 2); expected one meaning, or if they are
   two things write `names: path` at the top

groups:
  g: {labels: [x]}
  h: {aliases: g, labels: [y]}
=> 5:16: alias 'g' of 'h' is also the name of a group (line 4); expected one meaning

groups:
  g: {aliases: [a, b], labels: [{name: x, aliases: b}]}
=> 4:52: alias 'b' of 'x' is also an alias of 'g' (line 4); expected one meaning, or if they are two things
   write `names: path` at the top

## also_in

groups:
  billing: {labels: [x]}
  tax: {also_in: [biling], labels: [y]}
=> 5:19: also_in of group 'tax' names 'biling', which is not defined; expected a group. Did you mean
   'billing'?

groups: {tax: {also_in: [ok], labels: [y]}}
=> 3:26: also_in of group 'tax' names 'ok', which is a label; expected a group.

groups:
  g:
    groups:
      tax: {also_in: g, labels: [y]}
=> 6:22: also_in of group 'tax' names 'g', which it is in already; take it out

groups:
  g: {labels: [x]}
  tax: {also_in: [g, g], labels: [y]}
=> 5:22: also_in of group 'tax' names 'g', which it is in already; take it out

## cycles

groups:
  a:
    also_in: [c]
    groups:
      b: {groups: {c: {labels: [x]}}}
=> 5:15: groups form a cycle: a -> b -> c -> a; take out this also_in

groups: {a: {also_in: a, labels: [x]}}
=> 3:23: groups form a cycle: a -> a; take out this also_in

groups:
  a: {also_in: [b], labels: [x]}
  b: {also_in: [a], labels: [y]}
=> 5:17: groups form a cycle: a -> b -> a; take out this also_in
"""


def cases(table: str) -> list[object]:
    blocks = [block for block in table.strip("\n").split("\n\n") if not block.startswith("##")]
    pairs = [block.split("\n=> ") for block in blocks]
    return [pytest.param(text + "\n", " ".join(found.split("\n   ")), id=found[:40]) for text, found in pairs]


@pytest.mark.parametrize(("text", "complaint"), cases(FAULTS))
def test_each_fault_is_the_one_complaint_at_its_place(tmp_path, text, complaint):
    assert complaints(tmp_path, SOUND + text) == [complaint]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a/b", "contains '/'"),
        ("'a:b'", "contains ':'"),
        ("..", "begins or ends with a dot"),
        ("n.", "begins or ends with a dot"),
        ("Con.v2", "is a device on Windows"),
        ("é" * 101, "is longer than 200 bytes"),
    ],
)
def test_the_name_must_be_usable_as_a_folder_name(tmp_path, name, fault):
    told = (
        f"the name of the taxonomy, {name.strip(chr(39))!r}, {fault}; expected a name that can be a folder's"
    )
    assert complaints(tmp_path, f"name: {name}\nlabels: [x]\n") == [f"1:7: {told}"]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("''", "1:7: the name of the taxonomy is empty; expected a name"),
        ("", "1:6: the name of the taxonomy is empty; expected a name"),
        ("[n]", "1:7: the name of the taxonomy is a list; expected text"),
    ],
)
def test_the_name_must_be_a_name(tmp_path, name, complaint):
    assert complaints(tmp_path, f"name: {name}\nlabels: [x]\n") == [complaint]


@pytest.mark.parametrize("name", ["feedback", "Rückmeldung 2", "a.b", "console", "é" * 100, "-x_1"])
def test_ordinary_names_are_folder_names(tmp_path, name):
    taxonomy = Taxonomy.load(written(tmp_path, f"name: {name}\nlabels: [x]\n"))
    (tmp_path / taxonomy.name).mkdir()


def test_a_missing_name_and_missing_groups_are_complaints(tmp_path):
    assert complaints(tmp_path, "description: d\n") == [
        "1:1: the key 'name' is missing; expected for instance `name: feedback`",
        "1:1: the top level has no labels and no groups; expected for instance labels: [refund]",
    ]


def test_a_misspelt_name_of_a_label_is_an_unknown_key_and_no_slip(tmp_path):
    (complaint,) = complaints(tmp_path, "name: n\nlabels:\n- nmae: x\n")
    assert complaint.endswith("Did you mean 'name'?")


def test_a_group_behind_a_fault_is_not_called_empty_or_unknown(tmp_path):
    text = "name: n\ngroups:\n  a: {labels: [[x]]}\n  b: {lables: [y]}\n  c: [z]\n"
    text += "  d: {also_in: [a, b, c], labels: [w]}\n"
    assert [line.split(":")[0] for line in complaints(tmp_path, text)] == ["3", "4", "5"]


def test_a_fault_that_an_alias_repeats_is_told_once(tmp_path):
    text = "name: n\ngroups:\n  a: {labels: &all [{name: x, threshold: 9}]}\n  b: {labels: *all}\n"
    assert complaints(tmp_path, text) == ["3:42: threshold of label 'x' is 9; expected a number from 0 to 1"]


def test_a_fault_that_means_two_groups_is_told_for_both(tmp_path):
    text = "name: n\ngroups:\n  a: &a {labels: [x], choose: two}\n  b: *a\n"
    assert complaints(tmp_path, text) == [
        "3:31: choose of group 'a' is 'two'; expected 'many' or 'one'.",
        "3:31: choose of group 'b' is 'two'; expected 'many' or 'one'.",
    ]


def test_two_knots_of_groups_are_two_complaints(tmp_path):
    text = "name: n\ngroups:\n  a: {also_in: a, labels: [x]}\n  b: {also_in: b, labels: [y]}\n"
    found = complaints(tmp_path, text)
    assert [line.split(";")[0] for line in found] == [
        "3:16: groups form a cycle: a -> a",
        "4:16: groups form a cycle: b -> b",
    ]


# Backends are judged by the caller


def only_linear(spec: BackendSpec) -> list[str]:
    unknown = [f"unknown option {name!r}" for name in spec.options if name != "C"]
    return unknown if spec.kind == "linear" else [f"unknown backend {spec.kind!r}", *unknown]


def test_complaints_of_the_backend_check_stand_at_the_backend(tmp_path):
    text = (
        "name: n\ndefaults: {backend: {kind: linear, D: 1}}\ngroups:\n  g:\n    backend: liner\n    groups:\n"
    )
    text += "      a: {labels: [x]}\n      b: {labels: [y], backend: linear}\n"
    assert complaints(tmp_path, text, check_backend=only_linear) == [
        "2:21: unknown option 'D'",
        "5:14: unknown backend 'liner'",
    ]


def test_complaints_of_the_backend_check_come_with_all_others(tmp_path):
    text = "name: n\ncombine: sum\nlabels: [x]\ndefaults: {backend: liner}\n"
    found = complaints(tmp_path, text, check_backend=only_linear)
    assert [line.split(" ")[0] for line in found] == ["2:10:", "4:21:"]


def test_the_backend_check_complains_of_each_place(tmp_path):
    text = "name: n\ngroups:\n  a: {labels: [x], backend: liner}\n  b: {labels: [y], backend: liner}\n"
    assert complaints(tmp_path, text, check_backend=only_linear) == [
        "3:29: unknown backend 'liner'",
        "4:29: unknown backend 'liner'",
    ]


def test_the_backend_check_sees_each_backend_once(tmp_path):
    seen: list[BackendSpec] = []
    text = "name: n\ngroups:\n  a: &a {backend: {kind: k, C: 1}, labels: [x]}\n"
    text += "  b: {<<: *a, labels: [y]}\n  c: {labels: [z], backend: k}\n"
    Taxonomy.load(written(tmp_path, text), check_backend=lambda spec: seen.append(spec) or [])
    assert [(spec.kind, dict(spec.options), spec.place.line) for spec in seen] == [
        ("k", {"C": 1}, 3),
        ("k", {}, 5),
    ]


def test_backends_of_a_mapping_are_checked_too():
    plain = {
        "name": "n",
        "groups": {"a": {"backend": "b1", "labels": ["x"]}, "b": {"backend": "b2", "labels": ["y"]}},
    }
    with pytest.raises(
        TaxonomyError, match=r"(?s)<dict>: unknown backend 'b1'.*<dict>: unknown backend 'b2'"
    ):
        Taxonomy.from_dict(plain, check_backend=only_linear)


# From Python values and back


def test_a_mapping_is_the_same_as_the_file_of_it(whole):
    again = Taxonomy.from_dict(whole.to_dict(), source="manifest.json")
    assert again == whole
    assert again.source == "manifest.json"
    assert list(again.labels) == list(whole.labels)
    assert list(again.groups) == list(whole.groups)


def test_the_written_form_holds_what_differs_from_the_inherited(whole):
    plain = whole.to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["defaults"] == {
        "choose": "one",
        "threshold": 0.4,
        "backend": {"kind": "linear", "C": [0.3, 1]},
    }
    billing = plain["groups"]["billing"]
    assert billing["threshold"] == {"precision": 0.9}
    assert billing["labels"][0] == "refund"
    assert billing["groups"]["tax"] == {
        "threshold": "auto",
        "also_in": ["b2b"],
        "labels": ["vat_missing", "shared"],
    }
    assert plain["groups"]["b2b"] == {"labels": ["shared"]}


def test_what_is_known_of_a_label_is_written_once():
    told = {"name": "x", "description": "d", "aliases": ["y"], "threshold": 0.5}
    plain = {"name": "n", "groups": {"a": {"labels": ["x"]}, "b": {"labels": [told]}}}
    assert Taxonomy.from_dict(plain).to_dict()["groups"] == {"a": {"labels": [told]}, "b": {"labels": ["x"]}}


def test_a_taxonomy_differs_from_one_with_another_setting(whole):
    plain = whole.to_dict()
    plain["groups"]["billing"]["back_off"] = False
    assert Taxonomy.from_dict(plain) != whole


def test_data_of_a_mapping_is_looked_for_from_base(tmp_path):
    (tmp_path / "a.csv").touch()
    plain = {"name": "n", "labels": ["x"], "data": {"train": Path("a.csv")}}
    assert Taxonomy.from_dict(plain, base=tmp_path).data.files("train") == (tmp_path / "a.csv",)


def test_strings_of_a_mapping_stay_strings():
    options = {
        "kind": "k",
        "a": "1",
        "b": "no",
        "c": "~",
        "d": 1e-7,
        "e": 10**30,
        "f": None,
        "g": True,
        "h": "1e3",
    }
    plain = {"name": "1", "labels": ["no", "1e3", "", "<<"][:2], "defaults": {"backend": options}}
    found = Taxonomy.from_dict(plain).groups[ROOT].backend.options
    assert found == {key: value for key, value in options.items() if key != "kind"}
    assert [type(value) for value in found.values()] == [str, str, str, float, int, type(None), bool, str]


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"name": "n", "labels": [False]}, r"<dict>: the name of .* is false \(bool\); expected a string"),
        ({"name": "n", "labels": [7]}, r"label of the top level is 7 \(int\); expected"),
        ({"name": "n", "labels": [None]}, r"label of the top level is null \(null\); expected"),
        ({"name": "n", "groups": {True: {"labels": ["x"]}}}, r"a key of groups .* is true \(bool\)"),
        ({"name": "n", "labels": [datetime.date(2024, 1, 1)]}, "'2024-01-01' has the tag '!!timestamp'"),
        ({"name": "n", "labels": [object()]}, "<dict>: found a value of type object; expected dict"),
        ({"name": "n", "labels": ["a", "a"]}, "<dict>: label 'a' stands twice in the top level; keep one"),
        ({"name": "n", "labels": ["\ud800"]}, "contains half a character"),
        ({"name": "n", "labels": ["x"], "defaults": {"threshold": float("nan")}}, "defaults is .nan"),
        ({"name": "n", "labels": ["x"], "defaults": {"threshold": "0.5"}}, "Take it out of the quotes"),
        (["name"], "<dict>: the top level is a list; expected a mapping"),
        ("name: n", "<dict>: the top level is 'name: n'; expected a mapping"),
        ({}, "the key 'name' is missing"),
        (None, "the top level is 'null'"),
    ],
)  # fmt: skip
def test_unusable_mappings_are_refused(plain, message):
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy.from_dict(plain)


def test_a_mapping_that_contains_itself_is_refused():
    groups: dict = {}
    groups["g"] = {"groups": groups}
    with pytest.raises(TaxonomyError, match="a mapping contains itself"):
        Taxonomy.from_dict({"name": "n", "groups": groups})


def test_a_mapping_nested_beyond_the_stack_is_refused():
    plain: dict = {}
    for _ in range(5000):
        plain = {"groups": plain}
    with pytest.raises(TaxonomyError, match="<dict>: nested more than 100 deep"):
        Taxonomy.from_dict(plain)


# Properties

NAMES = st.one_of(
    st.sampled_from(
        [
            "no",
            "on",
            "1e3",
            "~",
            "null",
            "2024-01-01",
            "<<",
            "a: b",
            "#x",
            "- y",
            "été",
            "*z",
            "&w",
            "!v",
            "{",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8),
)
THRESHOLDS = st.one_of(
    st.just("auto"),
    st.floats(0, 1),
    st.builds(
        lambda kind, value: {kind: value}, st.sampled_from(["precision", "recall"]), st.floats(1e-9, 1)
    ),
)
# PyYAML writes the text 1e3 without quotes, which here is a number among the options of a backend.
TEXTS = NAMES.filter(lambda text: not re.fullmatch(r"[0-9.]+[eE][0-9]+", text))
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
OPTIONS = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "choose": st.sampled_from(["many", "one"]),
        "route": st.sampled_from(["model", "always"]),
        "threshold": THRESHOLDS,
        "negatives": st.sampled_from(["auto", "siblings", "all"]),
        "back_off": st.booleans(),
        "backend": st.one_of(
            NAMES, st.builds(lambda options: {**options, "kind": "k"}, st.dictionaries(NAMES, OPTIONS))
        ),
    },
)


@st.composite
def plain_taxonomies(draw):
    """A taxonomy in the file's format: groups nested at random, also in others before them, labels shared."""
    names = draw(st.lists(NAMES, min_size=9, max_size=16, unique=True))
    count = draw(st.integers(0, 5))
    groups, labels, aliases = names[:count], names[count:-3], names[-3:]
    top: dict = {
        "name": "n",
        **draw(st.fixed_dictionaries({}, optional={"defaults": SETTINGS, "description": NAMES})),
    }
    made: list[tuple[str | None, dict]] = [(None, top)]
    for name in groups:
        above, parent = draw(st.sampled_from(made))
        group: dict = draw(SETTINGS)
        others = [other for other, _ in made if other not in (None, above)]
        if others and draw(st.booleans()):
            group["also_in"] = draw(st.lists(st.sampled_from(others), unique=True, min_size=1))
        parent.setdefault("groups", {})[name] = group
        made.append((name, group))
    for _, group in made:
        group["labels"] = list(draw(st.lists(st.sampled_from(labels), unique=True, min_size=1, max_size=4)))
    first = top["labels"][0]
    top["labels"][0] = {"name": first, "aliases": aliases, "description": "d", "threshold": draw(THRESHOLDS)}
    return top


def edges_of(plain: dict, name: str = ROOT) -> set[tuple[str, str]]:
    """Parent and child of every edge, read from the plain form without any of the code under test."""
    found = {(name, label["name"] if isinstance(label, dict) else label) for label in plain.get("labels", [])}
    for child, group in plain.get("groups", {}).items():
        found |= {(name, child), *((other, child) for other in group.get("also_in", []))} | edges_of(
            group, child
        )
    return found


@given(plain=plain_taxonomies(), flow=st.sampled_from([None, True, False]))
@settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_taxonomies_survive_the_ways_round(tmp_path, plain, flow):
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=flow)
    taxonomy = Taxonomy.load(written(tmp_path, text))
    assert Taxonomy.from_dict(plain) == taxonomy
    again = Taxonomy.from_dict(json.loads(json.dumps(taxonomy.to_dict())))
    assert again == taxonomy
    assert (list(again.groups), list(again.labels)) == (list(taxonomy.groups), list(taxonomy.labels))
    assert again.to_dict() == taxonomy.to_dict()


@given(plain=plain_taxonomies())
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_the_graph_of_a_random_taxonomy_has_just_its_edges(plain):
    taxonomy = Taxonomy.from_dict(plain)
    graph = taxonomy.graph
    edges = edges_of(plain)
    assert {(parent, child) for parent, below in graph.children.items() for child in below} == edges
    assert {(parent, child) for child, above in graph.parents.items() for parent in above} == edges
    position = {name: index for index, name in enumerate(graph.groups)}
    assert all(position[parent] < position[child] for parent, child in edges if child in position)
    for name in graph.nodes:
        assert taxonomy.resolve(name) == name
        assert {above for above, below in edges if below in graph.closure([name])} <= graph.closure(
            [name]
        ) | {ROOT}


def accepted_or_explained(path: Path) -> Taxonomy | None:
    try:
        return Taxonomy.load(path)
    except TaxonomyError as error:
        problems = error.problems
    assert problems
    assert all(problem.message and problem.place.file == str(path) for problem in problems)
    return None


YAMLISH = st.text(st.sampled_from("abn:-?[]{}*&!|>'\"#%@`<~ \n\t,=\\0U.é\ufeff"), max_size=60)


@given(
    text=st.one_of(
        st.text(st.characters(codec="utf-8")), YAMLISH, YAMLISH.map(lambda tail: f"name: n\nlabels: {tail}")
    )
)
@example(text='"\\UFFFFFFFF"')
@example(text="? ? ? x")
@example(text="&a [&b {*a : *b}]")
@example(text="&a\n*a : x")
@example(text="!!str")
@example(text="%TAG ! tag:x,2000:\n---\nname: !y z")
@settings(
    deadline=None,
    derandomize=True,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_text_is_met_with_anything_but_a_taxonomy_error(tmp_path, text):
    accepted_or_explained(written(tmp_path, text))


@given(content=st.binary(max_size=40))
@settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_are_met_with_anything_but_a_taxonomy_error(tmp_path, content):
    accepted_or_explained(written(tmp_path, content))


@given(
    cuts=st.lists(
        st.tuples(
            st.integers(0, len(WHOLE)), st.integers(0, 12), st.one_of(YAMLISH, st.sampled_from(WHOLE.split()))
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(
    deadline=None,
    derandomize=True,
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_mutation_of_a_sound_file_is_met_with_anything_but_a_taxonomy_error(tmp_path, cuts):
    text = WHOLE
    for start, length, piece in cuts:
        text = text[:start] + piece + text[start + length :]
    taxonomy = accepted_or_explained(written(tmp_path, text))
    if taxonomy is not None:
        assert Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy


JSONISH = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["name", "labels", "groups", "also_in", "data", "train", "defaults", "x"]), inner
        ),
    ),
)


@given(
    plain=st.dictionaries(
        st.sampled_from(["name", "labels", "groups", "data", "defaults", "combine"]), JSONISH
    )
)
@settings(deadline=None, derandomize=True)
def test_no_mapping_is_met_with_anything_but_a_taxonomy_error(plain):
    taxonomy, problems = None, ()
    try:
        taxonomy = Taxonomy.from_dict({"name": "n", "labels": ["ok"], **plain})
    except TaxonomyError as error:
        problems = error.problems
    assert problems if taxonomy is None else Taxonomy.from_dict(taxonomy.to_dict()) == taxonomy

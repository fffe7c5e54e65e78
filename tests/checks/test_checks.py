import json
from dataclasses import replace
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.checks.check import RULES, check
from cascade.checks.findings import Finding, Report, render
from cascade.checks.subject import Subject
from cascade.hosted.settings import Settings
from cascade.hosted.shutdowns import announced_shutdowns
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.rows.row import BadRow, Row
from cascade.taxonomy.definition import Taxonomy

SHOP = {
    "name": "shop",
    "groups": {
        "billing": {"labels": ["refund", "double_charge"]},
        "delivery": {"labels": ["late", "broken"]},
        "mood": {"choose": "one", "route": "always", "labels": ["pleased", "displeased"]},
    },
}
LEAVES = ("refund", "double_charge", "late", "broken", "pleased", "displeased")
CARD = "4111 1111 1111 1111"


def rows_of(*pairs, file="train.jsonl"):
    return [Row(n, n, text, tuple(labels), {}, file) for n, (text, labels) in enumerate(pairs, start=1)]


def distinct(n, *labels, about="message"):
    return [
        (f"{about} {chr(97 + i // 26)}{chr(97 + i % 26)} on {' and '.join(labels)}", labels) for i in range(n)
    ]


def clean_pairs():
    # Every other row has one label more, so that no two labels go together throughout.
    singles = [pair for i, label in enumerate(LEAVES) for pair in distinct(12 + i, label, about=f"a{i}b")]
    return [*((f"{label[0]}. {text}", label) for text, label in singles), ("what is this", ())]


def clean_test():
    return rows_of(("never seen", ["late"]), file="test.jsonl")


def report_of(taxonomy=None, pairs=None, extra=(), test=None, bad=()):
    taxonomy = Taxonomy.from_dict(taxonomy or SHOP)
    train = rows_of(*(clean_pairs() if pairs is None else pairs), *extra)
    return check(taxonomy, train, clean_test() if test is None else test, bad)


def found(report: Report, rule: str) -> Finding:
    findings = [finding for finding in report.findings if finding.rule == rule]
    assert len(findings) == 1, [finding.rule for finding in report.findings]
    return findings[0]


def rules_in(report: Report) -> list[str]:
    return [finding.rule for finding in report.findings]


def only_finding(report: Report, rule: str) -> Finding:
    assert rules_in(report) == [rule]
    return report.findings[0]


def flat(*labels):
    return {"name": "flat", "labels": list(labels)}


def read_text(tmp_path: Path, text: str, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_all([path], Columns(), Taxonomy.from_dict(SHOP))[:2]


# The whole


def test_clean_data_give_no_finding_at_all():
    report = report_of()
    assert report.findings == ()
    assert report.ok
    assert (report.rows, report.labels, report.groups) == (len(clean_pairs()), 6, 3)
    assert list(render(report)) == [
        f"0 errors, 0 warnings, 0 pieces of advice on {report.rows} training rows, 6 labels and 3 groups"
    ]


def test_no_rule_complains_when_there_are_no_rows_save_that_there_are_none():
    report = check(Taxonomy.from_dict(SHOP), [])
    only_finding(report, "no-data")
    assert not report.ok


def test_errors_come_first_and_advice_last():
    bad = [BadRow(1, None, "not JSON: Expecting value at character 1", "x", "train.jsonl")]
    report = report_of(pairs=distinct(12, "late"), test=[], bad=bad)
    severities = [finding.severity for finding in report.findings]
    assert severities == sorted(severities, key=["error", "warning", "advice"].index)
    assert {"error", "advice"} <= set(severities)
    assert [finding.rule for finding in report.of("error")] == ["bad-row", "no-rows"]


def test_each_rule_yields_findings_named_after_itself_only():
    bad = [BadRow(1, None, "unknown label ' refnd'. Did you mean 'refund'?", "x", "train.jsonl")]
    subject = Subject(
        Taxonomy.from_dict(SHOP | {"labels": ["lates"]}),
        tuple(rows_of(("", []), ("Ã©", ["late"]), (f"{CARD} ->", ["pleased", "displeased"]))),
        (),
        tuple(bad),
    )
    expected = {"leftover_separator", "personal_data", "mojibake", "empty_text", "unknown_label"}
    fired = {rule.__name__ for rule in RULES if list(rule(subject))}
    assert expected <= fired
    for rule in RULES:
        assert {finding.rule for finding in rule(subject)} <= {rule.__name__.replace("_", "-")}


def test_the_report_survives_json():
    report = report_of(extra=[("", ["late"])])
    copy = json.loads(json.dumps(report.to_json()))
    assert copy["ok"] is True
    assert copy["rows"] == report.rows
    assert copy["labels"] == 6
    assert copy["groups"] == 3
    assert copy["findings"] == [
        {
            "rule": "empty-text",
            "severity": "warning",
            "message": "1 row has an empty text",
            "count": 1,
            "examples": [f"train.jsonl row {report.rows}"],
            "advice": report.findings[0].advice,
        }
    ]


def test_render_indents_examples_and_counts_at_the_end():
    report = report_of(extra=[("", ["late"]), ("good " * 5000, ["late"])], test=[])
    lines = list(render(report))
    assert lines[0] == "warning empty-text: 1 row has an empty text"
    assert lines[1] == f"    train.jsonl row {report.rows - 1}"
    assert lines[2].startswith("  -> Delete them")
    assert lines[-1].startswith("0 errors, 2 warnings, 1 piece of advice on ")
    assert max(map(len, lines)) <= 100


def test_render_keeps_within_a_hundred_columns():
    pairs = [("the very same words " * 20, [label]) for label in LEAVES]
    lines = list(render(report_of(extra=[*pairs, *distinct(30, *LEAVES)])))
    assert any("conflicting-labels" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_file_is_named_without_its_folders_unless_two_share_a_name():
    taxonomy = Taxonomy.from_dict(SHOP)
    one = rows_of(("", []), file="/data/a/rows.jsonl")
    other = rows_of(("", []), file="/data/b/rows.jsonl")
    report = check(taxonomy, one, other)
    assert found(report, "empty-text").examples == ("/data/a/rows.jsonl row 1", "/data/b/rows.jsonl row 1")
    assert found(check(taxonomy, one), "empty-text").examples == ("rows.jsonl row 1",)


def test_nothing_in_a_text_can_steer_the_terminal():
    nasty = "\x1b[2J\r\n\u202ered " + "x" * 100
    report = report_of(extra=[(nasty, ["late"]), (nasty, ["broken"])])
    example = found(report, "conflicting-labels").examples[0]
    assert example.isprintable()
    assert "red xxx" in example
    assert "…" in example


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.text(), st.sets(st.sampled_from([*LEAVES, "billing", "mood"]))), max_size=20),
    st.lists(st.tuples(st.text(), st.just(["late"])), max_size=5),
    st.lists(st.text(), max_size=5),
)
def test_any_rows_and_reasons_give_a_report_of_printable_lines(train, test, reasons):
    bad = [BadRow(n, None, reason, "", "x.csv") for n, reason in enumerate(reasons)]
    report = check(Taxonomy.from_dict(SHOP), rows_of(*train), rows_of(*test), bad)
    assert all(line.isprintable() for line in render(report))
    json.dumps(report.to_json())
    assert sum(f.count for f in report.findings if f.rule in ("bad-row", "unknown-label")) == len(bad)


@settings(deadline=None, derandomize=True)
@given(st.permutations(clean_pairs()[:20]))
def test_the_order_of_rows_changes_no_count(pairs):
    extra = [("", ["late"]), ("same", ["late"]), ("same", ["broken"]), ("Ã©", ["refund"])]
    counts = {(f.rule, f.count) for f in report_of(pairs=[*clean_pairs()[:20], *extra]).findings}
    assert {(f.rule, f.count) for f in report_of(pairs=[*extra, *pairs]).findings} == counts


# Rows that could not be read


def test_bad_rows_are_counted_by_kind_of_reason(tmp_path):
    rows, bad = read_text(
        tmp_path, 'nope\n{"text": 3}\n{"text": 4}\n{"text": null}\n{"labels": []}\n[1]\n{"a'
    )
    report = check(Taxonomy.from_dict(SHOP), rows, (), bad)
    findings = [finding for finding in report.findings if finding.rule == "bad-row"]
    assert sum(finding.count for finding in findings) == len(bad) == 7
    assert len(findings) == 6
    two = next(finding for finding in findings if "holds the number" in finding.message)
    assert two.message.startswith("2 rows cannot be used, such as: column 'text' holds the number 3")
    assert two.examples[1] == "rows.jsonl row 3: column 'text' holds the number 4; expected text"


def test_bad_rows_of_one_reason_are_listed_by_place_and_the_rest_counted():
    bad = [BadRow(n, None, "not an object", "", "t.jsonl") for n in range(1, 8)]
    finding = found(report_of(bad=bad), "bad-row")
    assert finding.severity == "error"
    assert finding.count == 7
    assert finding.message == "7 rows cannot be used: not an object"
    assert finding.examples == ("t.jsonl row 1", "t.jsonl row 2", "t.jsonl row 3", "and 4 more")


def test_many_kinds_of_reasons_end_in_one_finding_for_the_rest():
    bad = [BadRow(n, None, "reason " + "x" * n, "", "t.jsonl") for n in range(1, 41)]
    findings = [finding for finding in report_of(bad=bad).findings if finding.rule == "bad-row"]
    assert [finding.count for finding in findings] == [1] * 8 + [32]


def test_unknown_labels_are_counted_by_name_with_a_suggestion(tmp_path):
    lines = [json.dumps({"text": "a", "labels": [name]}) for name in ("refnd", "late", "xyzzy", "refnd")]
    rows, bad = read_text(tmp_path, "\n".join(lines))
    finding = found(check(Taxonomy.from_dict(SHOP), rows, (), bad), "unknown-label")
    assert finding.severity == "error"
    assert finding.count == 3
    assert finding.message == "3 rows with 2 names that the taxonomy does not have"
    assert finding.examples == (
        "'refnd' in 2 rows, first in rows.jsonl row 1. Did you mean 'refund'?",
        "'xyzzy' in 1 row, first in rows.jsonl row 3.",
    )


def test_unknown_labels_with_quotes_dots_and_line_breaks_are_told_apart(tmp_path):
    names = ["it's", 'say "x".', "a\nb", "a'b\"c.", "\\"]
    rows, bad = read_text(tmp_path, "\n".join(json.dumps({"text": "a", "labels": [name]}) for name in names))
    report = check(Taxonomy.from_dict(SHOP), rows, (), bad)
    finding = found(report, "unknown-label")
    assert finding.message.startswith("5 rows with 5 names")
    assert "bad-row" not in rules_in(report)
    assert [example.rsplit(" in 1 row", 1)[0] for example in finding.examples] == [
        repr(name) for name in names
    ]


def test_more_than_ten_unknown_names_are_cut_short():
    bad = [BadRow(n, n, f"unknown label 'name{n}'.", "", "t.csv") for n in range(25)]
    assert found(report_of(bad=bad), "unknown-label").examples[10:] == ("and 15 more",)


# How many rows there are


def test_no_training_rows_at_all_is_an_error():
    finding = found(report_of(pairs=[]), "no-data")
    assert finding.severity == "error"
    assert "data: train:" in finding.advice


def test_no_usable_row_is_told_from_no_row():
    bad = [BadRow(1, None, "not an object", "", "t.jsonl")]
    assert found(report_of(pairs=[], bad=bad), "no-data").message.endswith("that can be used")


def test_labels_without_a_training_row_are_an_error_that_names_their_lines(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text("name: shop\nlabels:\n- late\n- refund\n", encoding="utf-8")
    taxonomy = Taxonomy.load(path)
    finding = found(check(taxonomy, rows_of(*distinct(12, "late"))), "no-rows")
    assert (finding.severity, finding.count) == ("error", 1)
    assert finding.examples == ("'refund' (shop.yaml:4)",)


def test_a_label_that_only_test_rows_carry_has_no_training_row():
    test = rows_of(*distinct(20, "late"), file="test.jsonl")
    report = report_of(flat("late", "refund"), pairs=distinct(12, "refund"), test=test)
    assert found(report, "no-rows").examples == ("'late' (<dict>)",)


def test_labels_with_nine_rows_are_few_and_with_ten_are_not():
    pairs = [*distinct(9, "late"), *distinct(10, "refund"), *distinct(3, "broken"), ("x", [])]
    finding = only_finding(report_of(flat("late", "refund", "broken"), pairs=pairs), "few-rows")
    assert (finding.severity, finding.count) == ("warning", 2)
    assert finding.examples == ("'broken' (<dict>): 3 rows", "'late' (<dict>): 9 rows")


def test_a_long_list_of_labels_names_ten_and_counts_the_others():
    codes = [f"code {n}" for n in range(33)]
    report = report_of(
        flat(*codes), pairs=[("x", []), *[(f"{n} text", [code]) for n, code in enumerate(codes)]]
    )
    examples = only_finding(report, "few-rows").examples
    assert len(examples) == 11
    assert examples[-1] == "and 23 more"


def test_training_rows_that_all_have_labels_bring_advice_on_none():
    pairs = [pair for pair in clean_pairs() if pair[1]]
    assert only_finding(report_of(pairs=pairs), "no-none-rows").severity == "advice"


def test_no_test_rows_bring_advice():
    assert only_finding(report_of(test=[]), "no-test-data").severity == "advice"


def test_rows_that_stop_at_a_group_are_counted_by_group():
    extra = [("the bill", ["billing"]), ("my bill", ["billing"]), ("parcel", ["delivery", "refund"])]
    finding = only_finding(report_of(extra=[*extra, ("money", ["billing", "refund"])]), "only-inner-names")
    assert (finding.severity, finding.count) == ("advice", 3)
    assert finding.examples == ("'billing' (<dict>): 2 rows", "'delivery' (<dict>): 1 row")


def test_a_group_is_not_the_end_when_a_group_in_it_is_named_too():
    deep = {"name": "deep", "groups": {"top": {"labels": ["a"], "groups": {"low": {"labels": ["b", "c"]}}}}}
    report = report_of(deep, pairs=[("x", ["top", "low"]), ("y", ["low"])])
    assert found(report, "only-inner-names").examples == ("'low' (<dict>): 2 rows",)


# Rows that repeat or contradict each other


def test_repeated_rows_are_counted_without_the_first():
    extra = [("same", ["late", "refund"]), ("same", ["refund", "late"]), ("same", ["late", "refund"])]
    finding = only_finding(report_of(extra=extra), "duplicate-texts")
    start = len(clean_pairs())
    assert finding.count == 2
    assert finding.examples == (f"'same' in 3 rows, first in train.jsonl row {start + 1}",)


def test_a_single_repetition_counts():
    report = report_of(extra=[("same", ["late"]), ("same", ["late"])])
    assert only_finding(report, "duplicate-texts").count == 1


def test_texts_of_sixty_characters_are_shown_whole_and_longer_ones_cut():
    extra = [("x" * length, labels) for length in (60, 61) for labels in (["late"], ["broken"])]
    one, other = found(report_of(extra=extra), "conflicting-labels").examples
    assert one.startswith("'" + "x" * 60 + "':")
    assert other.startswith("'" + "x" * 60 + "…':")


def test_texts_that_differ_in_case_are_no_duplicates():
    assert rules_in(report_of(extra=[("same", ["late"]), ("Same", ["late"])])) == []


def test_equal_texts_with_different_labels_conflict_and_only_the_difference_is_shown():
    extra = [("same", ["late", "refund"]), ("same", ["refund"]), ("same", ["refund", "broken"])]
    finding = only_finding(report_of(extra=extra), "conflicting-labels")
    first = len(clean_pairs()) + 1
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples == (
        (
            f"'same': train.jsonl row {first} with 'late'; train.jsonl row {first + 1} without; "
            f"train.jsonl row {first + 2} with 'broken'"
        ),
    )


def test_a_text_with_and_without_labels_conflicts():
    assert found(report_of(extra=[("same", ["late"]), ("same", [])]), "conflicting-labels").count == 1


def test_blank_texts_are_neither_duplicates_nor_conflicts():
    extra = [("", ["late"]), ("", ["late"]), (" ", []), (" ", ["refund"])]
    assert only_finding(report_of(extra=extra), "empty-text").count == 4


def test_overlap_sees_through_case_punctuation_and_white_space():
    test = rows_of(("WHERE is my - parcel?!", ["late"]), ("where is it", ["late"]), file="test.jsonl")
    report = report_of(extra=[("Where is “my” parcel", ["broken"])], test=test)
    finding = only_finding(report, "train-test-overlap")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "(50.0% of the test rows)" in finding.message
    place = f"test.jsonl row 1 and train.jsonl row {len(clean_pairs()) + 1}"
    assert finding.examples == (f"{place}: 'WHERE is my - parcel?!'",)


@pytest.mark.parametrize(
    ("one", "other"), [("great 👍", "great 👎"), ("कि", "क"), ("...", "?!"), ("a1", "a2")]
)
def test_overlap_keeps_signs_and_vowel_marks_apart_and_skips_bare_punctuation(one, other):
    report = report_of(extra=[(one, ["late"])], test=rows_of((other, ["late"]), file="test.jsonl"))
    assert "train-test-overlap" not in rules_in(report)


def test_labels_that_always_go_together_are_named():
    pairs = [*distinct(12, "late", "broken"), *distinct(12, "refund"), ("x", [])]
    finding = only_finding(report_of(flat("late", "broken", "refund"), pairs=pairs), "same-rows")
    assert finding.examples == ("'late', 'broken': the same 12 rows",)
    apart = report_of(flat("late", "broken", "refund"), pairs=[*pairs, ("one more", ["late"])])
    assert rules_in(apart) == []


def test_labels_with_the_same_four_rows_may_be_chance():
    report = report_of(flat("late", "broken"), pairs=[*distinct(4, "late", "broken"), ("x", [])])
    assert rules_in(report) == ["few-rows"]
    report = report_of(flat("late", "broken"), pairs=[*distinct(5, "late", "broken"), ("x", [])])
    assert rules_in(report) == ["few-rows", "same-rows"]


# Texts


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u00a0\u3000"])
def test_blank_texts_are_found_in_training_and_test_rows(text):
    test = rows_of((text, ["late"]), file="test.jsonl")
    finding = only_finding(report_of(extra=[(text, ["late"])], test=test), "empty-text")
    assert finding.examples == (f"train.jsonl row {len(clean_pairs()) + 1}", "test.jsonl row 1")


def test_texts_over_twenty_thousand_characters_are_enormous():
    extra = [("x " * 10_000, ["late"]), ("y " * 10_000 + "z", ["late"]), ("w " * 20_000, ["late"])]
    finding = only_finding(report_of(extra=extra), "enormous-text")
    assert finding.count == 2
    assert "40,000 characters, 'w w w" in finding.examples[0]
    assert len(finding.examples[0]) < 130


@pytest.mark.parametrize(
    "text",
    ["late\n\n###\n\n", "late\n\n###\n\nand more", "late ->", "late\n->\n", "late\n\n###", "late\n\n---\n\n"],
)
def test_separators_of_old_prompts_are_found(text):
    finding = only_finding(report_of(extra=[(text, ["late"])]), "leftover-separator")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples[0].startswith(f"train.jsonl row {len(clean_pairs()) + 1}: ends in '")


@pytest.mark.parametrize(
    "text",
    ["Settings -> Account", "# Head\n\n### Part\nit", "a --- b", "a\n---\nb", "#1", "->x", "so late --"],
)
def test_arrows_and_rules_inside_natural_texts_are_left_alone(text):
    assert rules_in(report_of(extra=[(text, ["late"])])) == []


@pytest.mark.parametrize(
    "template", ["Classify this text: {}", "{}\n\nCategory:", "Please sort the following {}"]
)
def test_a_prompt_around_most_texts_is_found_without_the_words_of_the_texts(template):
    pairs = [(template.format(text), labels) for text, labels in clean_pairs()]
    plain = [(f"{n} plain", ["late"]) for n in range(len(pairs) // 2)]
    finding = only_finding(report_of(pairs=[*plain, *pairs]), "leftover-separator")
    assert finding.count == len(pairs)
    assert finding.examples == (repr(template.replace("{}", "")),)


def test_a_start_that_half_of_the_texts_share_is_left_alone():
    pairs = clean_pairs()
    half = len(pairs) // 2
    pairs = [
        (f"Classify this: {t}" if n < half else t, labels) for n, (t, labels) in enumerate(pairs[: 2 * half])
    ]
    report = report_of(pairs=[*pairs, ("x", []), ("y", [])])
    assert rules_in(report) == []


def test_a_start_that_just_more_than_half_share_is_found_wherever_the_others_sort():
    for others in ("alpha {}", "zulu {}"):
        pairs = [(f"Classify this: {n} x", ["late"]) for n in range(51)]
        pairs += [(others.format(n * 7919), ["late"]) for n in range(49)]
        finding = found(report_of(pairs=pairs), "leftover-separator")
        assert finding.count == 51


def test_a_start_is_a_prompt_if_long_enough_and_shared_by_ten_texts():
    def fires(start, n):
        pairs = [(f"{start}{chr(97 + i)}{i}", ["late"]) for i in range(n)]
        return "leftover-separator" in rules_in(report_of(pairs=pairs))

    assert fires("I would like ", 10)
    assert not fires("I would like ", 9)
    assert not fires("I would lik ", 10)
    assert fires("Text: ", 10)
    assert not fires("Txt: ", 10)


def test_one_text_that_is_repeated_is_no_prompt():
    report = report_of(extra=[("Thank you very much: bye", ["pleased"])] * 500)
    assert rules_in(report) == ["unbalanced-group", "duplicate-texts"]


def test_labels_that_begin_with_a_blank_are_traced_to_old_completions(tmp_path):
    lines = [
        json.dumps({"text": "a", "labels": [name]}) for name in (" refnd", "late", " refnd", "\u00a0x", "y")
    ]
    rows, bad = read_text(tmp_path, "\n".join(lines))
    report = check(Taxonomy.from_dict(SHOP), rows, (), bad)
    finding = found(report, "leftover-separator")
    assert finding.message == "3 rows have a label that begins with a blank"
    assert finding.examples == ("' refnd'", r"'\xa0x'")


@pytest.mark.parametrize(
    "text",
    [
        "Café is late",
        "itâ€™s late",
        "MÃ¼nchen 👍 and more",
        "lost \ufffd letter",
        "20Â°C outside",
        "Größe".encode().decode("cp1252"),
        "“quoted”".encode().decode("latin-1"),
        "привет".encode().decode("latin-1"),
    ],
)
def test_misread_encodings_are_found(text):
    text = text if text != "Café is late" else text.encode().decode("latin-1")
    finding = only_finding(report_of(extra=[(text, ["late"])]), "mojibake")
    assert (finding.severity, finding.count) == ("warning", 1)


@pytest.mark.parametrize(
    "text",
    [
        "Café für Ärger",
        "SÃO PAULO",
        "IRMÃ «ANA»",
        "«CAFÉ»",
        "it\u2019s “fine” \u2013 yes…",
        "20°C, 5 €",
        "привет",
        "日本語",
        "👍",
    ],
)
def test_proper_accents_and_scripts_are_no_mojibake(text):
    assert rules_in(report_of(extra=[(text, ["late"])])) == []


# Personal data


@pytest.mark.parametrize(
    ("text", "kind", "secret"),
    [
        ("write to jo.doe+x@mail.example.co.uk.", "e-mail address", "jo.doe"),
        ("<müller@example.de>", "e-mail address", "müller"),
        (f"my card is {CARD}", "card number", "1111"),
        ("my card is 4111-1111-1111-1111", "card number", "1111"),
        ("378282246310005 please", "card number", "3782"),
        ("3782 822463 10005", "card number", "8224"),
        ("call +44 20 7946 0958", "telephone number", "7946"),
        ("call (615) 555-0142 now", "telephone number", "0142"),
        ("call 615.555.0142", "telephone number", "0142"),
        ("Tel. 030/9018200", "telephone number", "9018"),
    ],
)
def test_personal_data_are_counted_and_never_shown(text, kind, secret):
    finding = only_finding(report_of(extra=[(text, ["late"])]), "personal-data")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.message == f"1 text seems to hold a{'n' if kind[0] == 'e' else ''} {kind}"
    assert finding.examples == (f"train.jsonl row {len(clean_pairs()) + 1}",)
    assert secret not in json.dumps(finding.to_json(), ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112",  # fails the check digit
        "order 2024-01-25 14:30:59",
        "H.R. 1540, sections 101-102 of 2011",
        "tracking 00340434161094042557",
        "version 1.2.3.4, 192.168.100.200",
        "@shop answer me",
        "3 @ 5.99 each",
        "$1,250,000,000 in 2011-2014",
        "phone 12345",
    ],
)
def test_other_numbers_are_not_personal(text):
    assert rules_in(report_of(extra=[(text, ["late"])])) == []


def test_examples_of_other_rules_blank_personal_data_out():
    text = f"jo@example.com {CARD} +44 20 7946 0958 said"
    report = report_of(
        extra=[(text, ["late"]), (text, ["broken"])], test=rows_of((text, []), file="test.jsonl")
    )
    assert {"conflicting-labels", "train-test-overlap", "personal-data"} == set(rules_in(report))
    whole = "\n".join(render(report))
    assert "*** *** *** said" in whole
    assert not any(secret in whole for secret in ("jo@", "1111", "7946"))


def test_reasons_of_bad_rows_blank_personal_data_out():
    reasons = ["unknown label 'jo@example.com'.", "column 'late' holds 'al@example.com'; expected 0 or 1"]
    bad = [BadRow(n, n, reason, "", "t.csv") for n, reason in enumerate(reasons)]
    whole = "\n".join(render(report_of(bad=bad)))
    assert "'***'" in whole
    assert "example.com" not in whole


# Names


@pytest.mark.parametrize(
    "names",
    [
        ("late_delivery", "late deliveries"),
        ("late_delivery", "LateDelivery"),
        ("late-delivery", "LATE_DELIVERY"),
        ("refund", "Refunds"),
        ("terms & conditions", "Terms and conditions"),
        ("accessibility", "accesibility"),
        ("wrong_adress", "wrong_address"),
        ("not_recieved", "not_received"),
        ("class_1", "class 01"),
        ("after_sales", "aftersales"),
        ("gift_taxes", "gift_tax"),
        ("box_refund", "box_refnud"),
        ("delivery", "delivary"),
        ("dleivery", "delivery"),
        ("\uff30\uff41yment", "payment"),
    ],
)
def test_names_that_differ_in_form_only_look_alike(names):
    pairs = [pair for n, name in enumerate(names) for pair in distinct(12 + n, name)]
    finding = only_finding(report_of(flat(*names), pairs=[*pairs, ("x", [])]), "near-identical-names")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples == (f"'{names[0]}' (<dict>), '{names[1]}' (<dict>)",)


@pytest.mark.parametrize(
    "names",
    [
        ("savings", "saving_2"),
        ("class_1", "class_2"),
        ("v1 12", "v11 2"),
        ("late", "hate"),
        ("debit", "credit"),
        ("new", "news"),
        ("C", "C++"),
        ("score_-1", "score_1"),
        ("employer", "employee"),
        ("available", "unavailable"),
        ("moral", "amoral"),
        ("size_s", "size_m"),
        ("refund_late", "refund_date"),
        ("price_rose", "price_rise"),
        ("wrong_order", "wrong_ordar"),
        ("deliver", "delivar"),
        ("mission", "emission"),
        ("hypertension", "hypotension"),
        ("кот", "код"),
    ],
)
def test_names_that_mean_different_things_are_left_alone(names):
    pairs = [pair for n, name in enumerate(names) for pair in distinct(12 + n, name)]
    assert rules_in(report_of(flat(*names), pairs=[*pairs, ("x", [])])) == []


def test_more_than_two_names_alike_make_one_set():
    names = ["late_delivery", "LateDelivery", "late deliveries", "refund", "latedelivry", "late.delivery"]
    pairs = [pair for n, name in enumerate(names) for pair in distinct(12 + n, name)]
    finding = only_finding(report_of(flat(*names), pairs=[*pairs, ("x", [])]), "near-identical-names")
    assert finding.count == 1
    assert finding.examples == (
        (
            "'late_delivery' (<dict>), 'LateDelivery' (<dict>), 'late deliveries' (<dict>), "
            "'late.delivery' (<dict>), and 1 more"
        ),
    )


def test_three_names_one_letter_apart_are_slips_and_four_a_series():
    names = ["box_parcel", "box_parcal", "box_parcol", "box_parcul"]
    taxonomies = [Taxonomy.from_dict(flat(*names[:n])) for n in (3, 4)]
    assert ["near-identical-names" in rules_in(check(taxonomy, [])) for taxonomy in taxonomies] == [
        True,
        False,
    ]


def test_a_series_of_names_one_letter_apart_is_no_slip():
    names = [f"article{letter}x" for letter in "abcdefgh"]
    pairs = [pair for n, name in enumerate(names) for pair in distinct(12 + n, name)]
    assert rules_in(report_of(flat(*names), pairs=[*pairs, ("x", [])])) == []


# The shape of the taxonomy


def test_a_label_in_several_groups_is_told_with_its_lines(tmp_path):
    path = tmp_path / "shop.yaml"
    path.write_text(
        "name: shop\ngroups:\n  a:\n    labels: [x, y]\n  b:\n    labels:\n    - z\n    - x\n",
        encoding="utf-8",
    )
    finding = found(check(Taxonomy.load(path), []), "several-parents")
    assert (finding.severity, finding.count) == ("advice", 1)
    assert finding.examples[0].startswith("shop.yaml:")
    assert "'x'" in finding.examples[0]
    assert "line 4" in finding.examples[0]
    assert "line 8" in finding.examples[0]


def two_groups(n_one, n_other, **settings):
    taxonomy = {
        "name": "two",
        "groups": {"a": {"labels": ["x", "y"]} | settings, "b": {"labels": ["z", "w"]}},
    }
    return report_of(
        taxonomy,
        pairs=[
            *distinct(n_one, "x"),
            *distinct(n_one + 1, "y"),
            *distinct(n_other, "z"),
            *distinct(n_other, "w", about="b"),
        ],
    )


def test_a_router_with_most_rows_in_one_child_is_unbalanced():
    finding = found(two_groups(80, 10), "unbalanced-group")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples == ("the top level: 'a' has 161 of 181 rows",)


def test_a_router_with_four_fifths_in_one_child_is_not():
    assert "unbalanced-group" not in rules_in(two_groups(39, 10))
    assert "unbalanced-group" in rules_in(two_groups(40, 10))


def test_groups_that_are_always_asked_do_not_count_in_the_balance():
    assert "unbalanced-group" not in rules_in(two_groups(80, 10, route="always"))


def test_a_choice_with_most_rows_in_one_child_brings_advice():
    finding = only_finding(report_of(extra=distinct(200, "pleased", about="extra")), "unbalanced-group")
    assert finding.severity == "advice"
    assert finding.examples == ("'mood' (<dict>): 'pleased' has 216 of 233 rows",)


def test_a_group_of_many_with_most_rows_in_one_label_is_left_alone():
    pairs = [*clean_pairs(), *distinct(55, "late", about="extra"), *distinct(55, "refund", about="extra")]
    assert rules_in(report_of(pairs=pairs)) == []


def test_a_handful_of_rows_says_nothing_about_balance():
    report = report_of(pairs=[*distinct(17, "late"), *distinct(2, "refund")])
    assert "unbalanced-group" not in rules_in(report)
    report = report_of(pairs=[*distinct(18, "late"), *distinct(2, "refund")])
    assert "unbalanced-group" in rules_in(report)


def test_groups_of_more_than_sixty_children_are_large():
    names = [f"code {n}" for n in range(61)]
    finding = found(
        report_of(
            {"name": "wide", "groups": {"g": {"labels": names}, "h": {"labels": names[:60]}}}, pairs=[]
        ),
        "large-group",
    )
    assert (finding.severity, finding.count) == ("advice", 1)
    assert finding.examples == ("'g' (<dict>): 61 children",)


def test_groups_with_one_child_are_named():
    taxonomy = {"name": "one", "groups": {"g": {"labels": ["x"]}, "h": {"labels": ["y", "z"]}}}
    finding = found(report_of(taxonomy, pairs=[]), "single-child")
    assert (finding.severity, finding.count) == ("advice", 1)
    assert finding.examples == ("'g' (<dict>): only 'x'",)
    top = found(report_of({"name": "one", "groups": {"h": {"labels": ["y", "z"]}}}, pairs=[]), "single-child")
    assert top.examples == ("the top level: only 'h'",)


def test_rows_with_two_children_of_a_choice_are_named():
    extra = [("good and bad", ["pleased", "displeased"]), ("good, refund", ["pleased", "refund", "mood"])]
    finding = only_finding(report_of(extra=extra), "several-of-one")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert finding.examples == (f"train.jsonl row {len(clean_pairs()) + 1}: 'pleased', 'displeased'",)
    assert "'mood'" in finding.message


def test_one_label_in_two_children_of_a_choice_is_one_choice():
    taxonomy = {
        "name": "facet",
        "groups": {
            "f": {"choose": "one", "groups": {"a": {"labels": ["x", "s"]}, "b": {"labels": ["y", "s"]}}}
        },
    }
    pairs = [("one", ["s"]), ("two", ["s", "x"]), ("three", ["x", "y"]), ("four", ["s", "x", "y"])]
    finding = found(report_of(taxonomy, pairs=pairs), "several-of-one")
    assert finding.count == 2
    assert [example.split(":")[0] for example in finding.examples] == [
        "train.jsonl row 3",
        "train.jsonl row 4",
    ]


def test_five_thousand_names_are_compared_without_delay_of_pairs():
    names = [
        f"{a}{b}{c} subject matter"
        for a in "bcdfghjklmnpqrst"
        for b in "aeiouy"
        for c in "bcdfghjklmnpqrstvwxz"
    ]
    names += [f"{name} of {n}" for n, name in enumerate(names)] + [
        "subject matters of thing",
        "subject matter of things",
    ]
    taxonomy = Taxonomy.from_dict(flat(*names))
    finding = found(check(taxonomy, []), "near-identical-names")
    assert finding.count == 1
    assert finding.examples == ("'subject matters of thing' (<dict>), 'subject matter of things' (<dict>)",)


# Hosted groups


def hosted(**options):
    backend = {"kind": "openai", "api_key_env": "CHECK_KEY", **options}
    return SHOP | {"defaults": {"backend": backend}}


def findings_of(taxonomy, today=date(2026, 1, 1), told=None):
    report = check(Taxonomy.from_dict(taxonomy), rows_of(*clean_pairs()), clean_test(), (), told, today)
    return {finding.rule: finding for finding in report.findings}


def test_a_model_that_ends_soon_is_warned_of_ninety_days_before():
    assert "model-ends" not in findings_of(hosted(), date(2026, 10, 7))
    found = findings_of(hosted(), date(2026, 10, 8))["model-ends"]
    assert (found.severity, found.count) == ("warning", 1)
    assert "no new fine-tunes after 2027-01-06" in found.examples[0]
    users = ("the top level", "'billing'", "'delivery'", "'mood'")
    assert [name for name in users if name not in found.examples[0]] == []
    both = findings_of(hosted(), date(2027, 6, 1))["model-ends"]
    assert [words for one in both.examples for words in ("fine-tunes", "no answers") if words in one] == [
        "fine-tunes",
        "no answers",
    ]


def test_a_model_that_is_tuned_already_needs_no_training():
    tuned = hosted(model="ft:gpt-4.1-mini-2025-04-14:shop::abc")
    (example,) = findings_of(tuned, date(2026, 12, 1))["model-ends"].examples
    assert "no answers after 2027-01-14" in example


def test_the_dates_of_a_price_file_are_those_of_its_service():
    elsewhere = hosted(provider="compatible", base_url="http://127.0.0.1:1/v1")
    assert "model-ends" not in findings_of(elsewhere, date(2027, 6, 1))
    told = {("http://127.0.0.1:1/v1", "gpt-4.1-mini-2025-04-14"): date(2027, 6, 20)}
    (example,) = findings_of(elsewhere, date(2027, 6, 1), told)["model-ends"].examples
    assert "after 2027-06-20" in example


def test_of_two_days_the_earlier_counts():
    told = {("https://api.openai.com/v1", "gpt-4.1-mini-2025-04-14"): date(2026, 12, 24)}
    examples = findings_of(hosted(), date(2026, 12, 1), told)["model-ends"].examples
    assert [one for one in examples if "no answers after 2026-12-24" in one]
    assert not [one for one in examples if "no answers after 2027-01-14" in one]


def test_embedded_groups_end_never():
    assert not {"model-ends", "large-hosted-group"} & findings_of(SHOP, date(2099, 1, 1)).keys()


def test_a_hosted_group_with_more_children_than_digits_is_told():
    many = {"labels": [f"label {n}" for n in range(41)]}
    large = hosted() | {"groups": SHOP["groups"] | {"many": many}}
    assert "41 children" in findings_of(large)["large-hosted-group"].examples[0]
    one = hosted() | {"groups": SHOP["groups"] | {"many": many | {"choose": "one"}}}
    assert "large-hosted-group" not in findings_of(one)


class Models(BaseHTTPRequestHandler):
    """A service that lists models."""

    def do_GET(self):
        days = {"old": "2027-03-01", "new": None, "odd": "?"}
        models = [{"id": name, "shutdown_date": day} for name, day in days.items()]
        body = json.dumps({"object": "list", "data": models}).encode()
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_services_tell_when_their_models_end(monkeypatch):
    monkeypatch.setenv("CHECK_KEY", "any")
    with HTTPServer(("127.0.0.1", 0), Models) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/v1"
        here = Settings(provider="compatible", base_url=address, api_key_env="CHECK_KEY")
        gone = replace(here, base_url="http://127.0.0.1:9/v1")
        no_key = replace(here, api_key_env="NO_SUCH_KEY")
        assert announced_shutdowns([gone, here, here, no_key]) == {(address, "old"): date(2027, 3, 1)}
        server.shutdown()


def many_pairs(each):
    return [pair for label in LEAVES for pair in distinct(each, label, about=label)] + [
        (f"{chr(97 + i // 26)}{chr(97 + i % 26)} nothing", ()) for i in range(500)
    ]


def test_an_encoder_that_is_not_here_is_an_error():
    report = report_of({**SHOP, "defaults": {"backend": {"kind": "linear", "encoder": "minilm"}}})
    finding = found(report, "absent-encoder")
    assert (finding.severity, finding.examples) == ("error", ("'minilm'",))
    assert "cascade encoders get" in finding.advice


def test_weights_to_train_that_are_not_here_are_an_error():
    report = report_of({**SHOP, "defaults": {"backend": {"kind": "encoder", "base": "minilm"}}})
    finding = found(report, "absent-encoder")
    assert (finding.severity, finding.examples) == ("error", ("'minilm'",))
    assert finding.message == "the weights of 1 encoder to train are not on this machine"
    assert finding.advice == "Run: cascade encoders get NAME --to-train."
    assert not [one for one in report.findings if one.rule == "encoder-wins"]


def test_few_rows_a_label_are_where_an_encoder_wins():
    finding = found(report_of(pairs=many_pairs(40)), "encoder-wins")
    assert finding.severity == "advice"
    assert "half of the labels have 40 rows or fewer" in finding.message
    assert "cascade encoders get minilm" in finding.advice


@pytest.mark.parametrize(
    ("pairs", "backend"),
    [
        (many_pairs(60), "linear"),
        (many_pairs(40)[:400], "linear"),
        (many_pairs(40), {"kind": "linear", "encoder": "minilm"}),
        (many_pairs(40), {"kind": "openai", "model": "ft:x"}),
    ],
    ids=["many rows", "few in all", "an encoder", "hosted"],
)
def test_where_there_is_no_need_of_an_encoder_nothing_is_said(pairs, backend):
    report = report_of({**SHOP, "defaults": {"backend": backend}}, pairs=pairs)
    assert "encoder-wins" not in {one.rule for one in report.findings}

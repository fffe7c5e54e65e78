from __future__ import annotations

import io

from rich.console import Console
from small_evaluations import NO_GROUPS, TREE, evaluate, scored, truth_of

from cascade.measure.terminal import render_evaluation
from cascade.taxonomy.graph import ROOT, Graph


def shown(evaluation, width=80):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(render_evaluation(evaluation))
    return console.file.getvalue()


def test_summary_begins_with_the_head_figures(evaluation):
    lines = shown(evaluation).splitlines()
    assert lines[0] == "5 rows; 3 labels, 3 of them in the rows"
    low, high = evaluation.micro_f1_interval
    ends = [f"{end:.3f}".removeprefix("0") for end in (low, high)]
    micro = next(line.split() for line in lines if line.startswith("micro F1 "))
    assert micro == ["micro", "F1", ".667", ends[0], "to", ends[1]]
    assert ["router", "recall", ".714"] in [line.split() for line in lines]


def test_summary_says_in_words_where_most_is_lost(evaluation):
    text = shown(evaluation, width=200)
    assert "3 errors: router 2 (67%), leaf 0 (0%), threshold 1 (33%)" in text
    assert "Perfect routing would change micro F1 by +0.222." in text
    assert (
        "Most is lost in the routing: texts miss their group or enter a wrong one (67% of the errors)."
        in text
    )


def test_summary_of_a_perfect_model_has_no_errors():
    answers = scored(TREE, ({"x"}, {"a": 0.9, "x": 0.9}))
    found = evaluate(TREE, truth_of(TREE, {"x"}), answers, answers, always=NO_GROUPS)
    assert "No errors." in shown(found)


def test_summary_mentions_rows_of_which_only_a_group_is_known():
    answers = scored(TREE, *[(set(), {"a": 0.9, "x": 0.1})] * 3)
    found = evaluate(TREE, truth_of(TREE, {"a"}, {"a"}, {"x"}), answers, answers, always=NO_GROUPS)
    assert shown(found).startswith("3 rows, of 2 only the group is known; 3 labels, 1 of them in the rows")


def test_groups_stand_in_the_order_of_their_errors(evaluation):
    rows = [line.split() for line in shown(evaluation).splitlines()]
    table = [row[0] for row in rows if row and row[0] in ("a", "b", "c")]
    assert table == ["a", "b", "c"]
    a = next(row for row in rows if row and row[0] == "a")
    assert a[1:5] == ["3", "5", "1.000", ".400"]
    assert a[-4:] == [".800", "2", "0", "1"]


def many_labels(n_labels, rows_of):
    """A flat group of labels; label number n is right in n of its `rows_of(n)` rows."""
    names = [f"label{index}" for index in range(n_labels)]
    graph = Graph.build({ROOT: ["all"], "all": names})
    truth, chosen = [], []
    for index, name in enumerate(names):
        for row in range(rows_of(index)):
            truth.append({name})
            chosen.append({name} if row < index else set())
    paths = dict.fromkeys(("all", *names), 0.4)
    answers = scored(graph, *((names, paths) for names in chosen))
    return evaluate(graph, truth_of(graph, *truth), answers, answers, always=NO_GROUPS)


def test_ten_weakest_labels_with_enough_rows_are_listed():
    found = many_labels(14, lambda index: 9 if index in (0, 3) else 14)
    rows = [line.split() for line in shown(found).splitlines()]
    listed = [row[0] for row in rows if row and row[0].startswith("label") and row[0] != "label"]
    assert listed == [f"label{index}" for index in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11)]
    first = next(row for row in rows if row and row[0] == "label1")
    assert first[1:7] == ["all", "14", "1", "1.000", ".071", ".133"]


def test_summary_says_when_no_label_has_enough_rows():
    assert "No label has 10 rows" in shown(many_labels(3, lambda _: 9))


def test_long_list_of_groups_is_cut_and_counted():
    names = [f"g{index}" for index in range(33)]
    graph = Graph.build({ROOT: names} | {name: [f"in_{name}"] for name in names})
    answers = scored(graph, (set(), {}))
    found = evaluate(graph, truth_of(graph, {"in_g32"}), answers, answers, always=NO_GROUPS)
    rows = [line.split() for line in shown(found).splitlines()]
    listed = [row[0] for row in rows if row and row[0] in names]
    assert len(listed) == 30
    assert listed[0] == "g32"
    assert "and 3 groups with fewer errors" in shown(found)


def test_names_that_look_like_markup_are_shown_as_they_are():
    graph = Graph.build({ROOT: ["[red]billing[/red]"], "[red]billing[/red]": ["[/bold]"]})
    paths = {"[red]billing[/red]": 0.9, "[/bold]": 0.4}
    answers = scored(graph, *[(set(), paths)] * 10)
    found = evaluate(graph, truth_of(graph, *[{"[/bold]"}] * 10), answers, answers, always=NO_GROUPS)
    text = shown(found, width=140)
    assert "[red]billing[/red]" in text
    assert "[/bold]" in text


def test_figures_stay_whole_in_a_terminal_of_80_columns():
    found = many_labels(14, lambda _: 14)
    narrow, wide = shown(found, width=80), shown(found, width=200)
    assert "…" not in narrow
    assert sorted(narrow.split()) == sorted(wide.split())


def test_summary_of_no_rows_is_shown():
    nothing = scored(TREE)
    found = evaluate(TREE, truth_of(TREE), nothing, nothing, always=NO_GROUPS)
    assert shown(found).startswith("0 rows; 3 labels, 0 of them in the rows")

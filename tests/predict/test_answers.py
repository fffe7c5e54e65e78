from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prediction_rows import OneLook

from cascade.errors import DataError
from cascade.model.decide import contenders, decide
from cascade.model.folder import GroupRecord, Manifest
from cascade.model.walk import MOST_CELLS, edges, walk
from cascade.predict.answers import Answer, prediction_lines, prediction_rows
from cascade.predict.extras import Style
from cascade.predict.form import Form
from cascade.rows.writing import unguarded
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT

# Three levels, a label with two parents, a group that is always visited, one that may be answered itself,
# and names that JSON and tables have to quote.
ODD = {
    "name": "odd",
    "groups": {
        "billing": {
            "back_off": True,
            "labels": ['quo"te', "back\\slash"],
            "groups": {"tax": {"labels": ["a;b", "shared"]}},
        },
        "delivery": {"labels": ["[late", "naïve", "shared"]},
        "mood": {"route": "always", "choose": "one", "labels": ["漢字", "\N{PILE OF POO}"]},
    },
}
SHOP = {
    "name": "shop",
    "groups": {
        "billing": {"labels": ["refund", "double_charge"], "groups": {"tax": {"labels": ["vat", "shared"]}}},
        "delivery": {"labels": ["late", "broken", "shared"]},
        "mood": {"route": "always", "choose": "one", "labels": ["happy", "angry"]},
    },
}
BACKING_OFF = {"name": "t", "groups": {"delivery": {"back_off": True, "labels": ["late", "lost"]}}}
STYLES = [
    Style(top, scores, trace)
    for top in (None, 1, 3, 50)
    for scores in ("chosen", "all")
    for trace in (False, True)
]


@dataclass
class Keywords(OneLook):
    """A stand-in that knows a name when it stands in the text, and guesses elsewhere: always the same."""

    taxonomy: Taxonomy
    threshold: float = 0.5
    thresholds: dict[str, float] = field(default_factory=dict)
    routes: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    batches: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, taxonomy, **options):
        return cls(Taxonomy.from_dict(taxonomy), **options)

    @property
    def manifest(self):
        groups = {
            name: GroupRecord({}, "", {}, "siblings", (), (), self.routes.get(name, 0.0), 0, ())
            for name in self.taxonomy.graph.groups
            if self.taxonomy.scored_children(name)
        }
        thresholds = dict.fromkeys(self.taxonomy.graph.nodes, self.threshold) | self.thresholds
        return Manifest({}, self.taxonomy.graph.nodes, groups, thresholds, {}, (), 0, {})

    def walk(self, texts):
        self.batches.append(len(texts))

        def score(asked):
            return {group: self.scores(group, [texts[row] for row in rows]) for group, rows in asked.items()}

        def enter(group, _, path):
            return path >= np.float32(self.routes.get(group, 0.0))

        return walk(self.taxonomy, len(texts), score, enter)

    def scores(self, group, texts):
        children = self.taxonomy.scored_children(group)
        guesses = [np.random.default_rng([self.seed, *text.encode()]).random(len(children)) for text in texts]
        # A coarse grid, so that there are ties.
        scores = np.array(guesses, dtype=np.float32).round(self.seed % 3 + 1)
        known = [[child in text for child in children] for text in texts]
        return np.where(known, np.float32(0.9), scores)

    def decide(self, walked):
        return decide(self.taxonomy, self.manifest.thresholds, walked.paths)


@pytest.fixture
def model():
    return Keywords.of(SHOP, routes={"billing": 0.25, "delivery": 0.25, "tax": 0.25})


def answered(model, text, **style):
    return prediction_rows(model, ["a"], [text], Style(**style))[0]


# What a row holds, from the definitions


def expected_row(model, identity, text, style):
    walked = model.walk([text])
    graph, path = model.taxonomy.graph, walked.paths[0]
    seen = [column for column in range(len(graph.nodes)) if not np.isnan(path[column])]
    ranked = sorted(seen, key=lambda column: (-path[column], column))
    if style.top is None:
        chosen = {column for column in seen if model.decide(walked)[0, column]}
    else:
        left = contenders(model.taxonomy, walked.paths)[0]
        chosen = {c for c in ranked if graph.nodes[c] in graph.labels and not np.isnan(left[c])}
        chosen = set([column for column in ranked if column in chosen][: style.top])
    shown = [
        column
        for column in ranked
        if column in chosen or (style.scores == "all" and graph.nodes[column] in graph.labels)
    ]
    row = {
        "id": identity,
        "labels": [graph.nodes[column] for column in ranked if column in chosen],
        "scores": {graph.nodes[column]: round(float(path[column]), 6) for column in shown},
    }
    return row | {"trace": expected_trace(model, walked, chosen)} if style.trace else row


def expected_trace(model, walked, chosen):
    graph, path, groups = model.taxonomy.graph, walked.paths[0], model.taxonomy.groups
    entries = []
    for (parent, node), conditional in zip(edges(graph), walked.conditionals[0], strict=True):
        if np.isnan(conditional):
            continue
        column = graph.column[node]
        above = path[graph.column[parent]] if parent != ROOT else np.float32(1)
        arrived = above * conditional if np.isnan(path[column]) else path[column]
        least = model.routes.get(node, 0.0) if node in groups else model.manifest.thresholds[node]
        entry = {
            "node": node,
            "parent": parent,
            "conditional": round(float(conditional), 6),
            "path": round(float(arrived), 6),
            "threshold": round(float(np.float32(least)), 6),
        }
        if node in groups:
            entry["entered"] = not np.isnan(path[column])
        if node not in groups or groups[node].back_off:
            entry["chosen"] = column in chosen
        entries.append(entry)
    return entries


@st.composite
def models(draw):
    routes = {
        group: draw(st.sampled_from([0.0, 0.2, 1 / 3, 1.0])) for group in ("billing", "delivery", "tax")
    }
    thresholds = {"naïve": draw(st.sampled_from([0.0, 1 / 3, 1.0]))}
    return Keywords.of(
        draw(st.sampled_from([ODD, ODD | {"combine": "noisy_or"}])),
        threshold=draw(st.sampled_from([0.1, 0.3, 0.6])),
        thresholds=thresholds,
        routes=routes,
        seed=draw(st.integers(0, 1000)),
    )


@given(models(), st.lists(st.text(max_size=8), max_size=4), st.sampled_from(STYLES))
@settings(deadline=None, derandomize=True, max_examples=200)
def test_rows_are_what_the_arrays_of_the_walk_say(model, texts, style):
    ids = list(range(len(texts)))
    rows = prediction_rows(model, ids, texts, style)
    expected = [expected_row(model, *pair, style) for pair in zip(ids, texts, strict=True)]
    # As JSON, so that order counts and 0.5 is another thing than True.
    assert [json.dumps(row) for row in rows] == [json.dumps(row) for row in expected]


identities = st.one_of(st.integers(), st.text(st.characters(codec="utf-8"), max_size=8))


@given(models(), st.lists(identities, max_size=4), st.sampled_from(STYLES))
@settings(deadline=None, derandomize=True, max_examples=200)
@example(Keywords.of(ODD), ["\x00\x7f", "\u2028", '"', "\\", 10**40, -1], Style(scores="all", trace=True))
def test_json_lines_are_what_json_makes_of_the_rows(model, ids, style):
    texts = [f"text {place} shared" for place in range(len(ids))]
    rows = prediction_rows(model, ids, texts, style)
    lines = prediction_lines(model, ids, texts, Form(None, style))
    assert lines.decode() == "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@given(models(), st.lists(identities, max_size=4), st.sampled_from(STYLES), st.sampled_from([",", "\t"]))
@settings(deadline=None, derandomize=True, max_examples=200)
@example(Keywords.of(ODD), ["\r", "\n", "a,b", "\t", '"', " blanks ", "\x00"], Style(), ",")
def test_tables_hold_what_the_rows_do(model, ids, style, delimiter):
    texts = [f"text {place} a;b [late" for place in range(len(ids))]
    form = Form(delimiter, style)
    table = form.head() + prediction_lines(model, ids, texts, form)
    found = list(csv.reader(io.StringIO(table.decode(), newline=""), delimiter=delimiter, strict=True))
    assert found[0] == ["id", "labels", "scores", *(["trace"] if style.trace else [])]
    for row, cells in zip(prediction_rows(model, ids, texts, style), found[1:], strict=True):
        assert unguarded(cells[0]) == str(row["id"])
        assert labels_in(cells[1]) == row["labels"]
        assert [json.loads(cell) for cell in cells[2:]] == [
            row[name] for name in row if name not in ("id", "labels")
        ]


def labels_in(cell):
    if cell.startswith("["):
        return json.loads(cell)
    return cell.split(";") if cell else []


def test_bytes_of_each_form_by_hand():
    answers = [
        Answer("é\r", ["a;b"], [("a;b", 0.5), ('q"', 1e-06)], [{"node": "a;b"}]),
        Answer(7, [], [], []),
    ]
    style = Style(trace=True)
    assert Form(None, style).lines(answers).decode() == (
        '{"id": "é\\r", "labels": ["a;b"], "scores": {"a;b": 0.5, "q\\"": 1e-06}, '
        '"trace": [{"node": "a;b"}]}\n'
        '{"id": 7, "labels": [], "scores": {}, "trace": []}\n'
    )
    assert Form(",", style).lines(answers).decode() == (
        '"é\r","[""a;b""]","{""a;b"": 0.5, ""q\\"""": 1e-06}","[{""node"": ""a;b""}]"\n7,,{},[]\n'
    )
    assert Form("\t", Style()).lines([Answer("a,b", ["c", "d"], [])]) == b"a,b\tc;d\t{}\n"
    assert Form("\t", Style()).lines([Answer(1, ["[c", "d"], [])]) == b'1\t"[""[c"", ""d""]"\t{}\n'
    assert (Form(None, style).head(), Form("\t", Style()).head()) == (b"", b"id\tlabels\tscores\n")


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
@settings(deadline=None, derandomize=True, max_examples=500)
@example([odd / 128 for odd in range(1, 128, 2)])
@example([2**-7 + 2**-20, 0.0009765625, 0.0048828125, 1.4012984643e-45])
def test_probabilities_are_rounded_as_python_rounds_them(values):
    """Ties included: odd multiples of 1/128 end in half a millionth, and go to the even neighbour."""
    names = [f"l{place}" for place in range(len(values))]
    model = Flat(Taxonomy.from_dict({"name": "flat", "labels": names}), lambda texts: np.float32([values]))
    (row,) = prediction_rows(model, [1], ["text"], Style(scores="all"))
    rounded = [round(float(np.float32(value)), 6) for value in values]
    assert row["scores"] == dict(zip(names, rounded, strict=True))


@dataclass
class Flat(OneLook):
    """A stand-in for a taxonomy without groups: `scores` answers those of all labels."""

    taxonomy: Taxonomy
    scores: Callable[[list[str]], np.ndarray]
    batches: list[int] = field(default_factory=list)

    def walk(self, texts):
        self.batches.append(len(texts))
        answers = {ROOT: self.scores(texts)}
        return walk(self.taxonomy, len(texts), lambda _: answers, lambda _group, _rows, path: path > 0)

    def decide(self, walked):
        return walked.paths > 0


def test_many_texts_of_a_wide_taxonomy_are_walked_a_part_at_a_time():
    labels = [f"l{number}" for number in range(MOST_CELLS // 1000)]
    taxonomy = Taxonomy.from_dict({"name": "wide", "labels": labels})
    places = [number * 7919 % len(labels) for number in range(2300)]

    def one_each(texts):
        scores = np.zeros((len(texts), len(labels)), dtype=np.float32)
        scores[range(len(texts)), [int(text) for text in texts]] = 0.5
        return scores

    model = Flat(taxonomy, one_each)
    rows = prediction_rows(model, range(2300), [str(place) for place in places], Style())
    assert model.batches == [1000, 1000, 300]
    assert [row["id"] for row in rows] == list(range(2300))
    assert [row["labels"] for row in rows] == [[labels[place]] for place in places]


def test_ids_and_texts_must_be_of_one_number(model):
    for ids in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"{len(ids)} ids and 2 texts"):
            prediction_rows(model, ids, ["one", "two"], Style())


# What a row says, by example


def test_row_has_labels_and_scores_from_the_most_probable_down(model):
    row = answered(model, "billing refund delivery late", scores="all")
    assert list(row) == ["id", "labels", "scores"]
    assert list(row["scores"].values()) == sorted(row["scores"].values(), reverse=True)
    assert row["labels"] == [name for name in row["scores"] if name in row["labels"]]
    assert {"late", "refund"} <= set(row["labels"])


def test_equal_probabilities_keep_the_order_of_the_taxonomy():
    model = Keywords.of({"name": "flat", "labels": ["d", "c", "b", "a"]})
    assert answered(model, "a b c d")["labels"] == ["d", "c", "b", "a"]


def test_chosen_labels_are_those_that_the_model_decides_on(model):
    texts = ["late refund", "angry", ""]
    decided = model.decide(model.walk(texts))
    for place, row in enumerate(prediction_rows(model, [1, 2, 3], texts, Style())):
        nodes = {name for name, yes in zip(model.taxonomy.graph.nodes, decided[place], strict=True) if yes}
        assert set(row["labels"]) == nodes
        assert list(row["scores"]) == row["labels"]


def test_all_scores_are_those_of_visited_labels_only():
    model = Keywords.of(SHOP, routes={"billing": 1.0})
    row = answered(model, "late", scores="all")
    assert set(row["scores"]) == {"late", "broken", "shared", "happy", "angry"}
    assert set(row["labels"]) < set(row["scores"])


def test_group_that_backs_off_is_answered_by_its_name():
    model = Keywords.of(BACKING_OFF, thresholds={"late": 1.0, "lost": 1.0})
    row = answered(model, "delivery", scores="all")
    assert row["labels"] == ["delivery"]
    assert set(row["scores"]) == {"delivery", "late", "lost"}


def test_top_gives_the_most_probable_labels_whatever_their_thresholds():
    model = Keywords.of(SHOP, threshold=1.0)
    everything = list(answered(model, "a text", scores="all")["scores"])
    mood = [label for label in everything if label in {"happy", "angry"}][:1]
    expected = [label for label in everything if label not in {"happy", "angry"} or label in mood]
    assert answered(model, "a text")["labels"] == []
    for top in (1, 2, 3, 5):
        assert answered(model, "a text", top=top)["labels"] == expected[:top]
    assert answered(model, "a text", top=50)["labels"] == expected


def test_top_never_names_two_children_of_a_group_that_chooses_one(model):
    texts = [f"text {number} happy angry" for number in range(50)]
    for row in prediction_rows(model, texts, texts, Style(top=100)):
        assert len({"happy", "angry"} & set(row["labels"])) == 1


def test_top_does_not_name_what_was_not_visited():
    model = Keywords.of(SHOP, routes={"billing": 1.0, "delivery": 1.0})
    assert len(answered(model, "nothing", top=5)["labels"]) == 1


def test_trace_tells_each_visited_node_with_what_decided_on_it():
    routes = {"billing": 1.0, "delivery": 0.25}
    row = answered(
        Keywords.of(SHOP, routes=routes, thresholds={"late": 0.75}), "delivery late shared", trace=True
    )
    trace = {(entry["parent"], entry["node"]): entry for entry in row["trace"]}
    assert trace["", "delivery"] == {
        "node": "delivery", "parent": "", "conditional": 0.9, "path": 0.9, "threshold": 0.25, "entered": True,
    }  # fmt: skip
    assert trace["delivery", "late"] == {
        "node": "late", "parent": "delivery", "conditional": 0.9, "path": 0.81, "threshold": 0.75,
        "chosen": True,
    }  # fmt: skip
    assert trace["", "billing"]["entered"] is False
    assert trace["", "mood"]["conditional"] == 1.0
    assert ("billing", "refund") not in trace
    assert {node for (_, node), entry in trace.items() if entry.get("chosen")} == set(row["labels"])


def test_trace_tells_what_a_group_that_was_not_entered_fell_short_with():
    model = Keywords.of(SHOP, routes={"tax": 0.99, "delivery": 0.99})
    row = answered(model, "billing tax delivery", trace=True)
    trace = {entry["node"]: entry for entry in row["trace"]}
    found = {name: (trace[name]["path"], trace[name]["threshold"]) for name in ("tax", "delivery")}
    assert found == {"tax": (0.81, 0.99), "delivery": (0.9, 0.99)}
    assert not trace["tax"]["entered"]
    assert "vat" not in trace


def test_trace_has_an_entry_for_each_parent_of_a_label():
    row = answered(Keywords.of(SHOP), "billing delivery tax shared", trace=True)
    entries = [entry for entry in row["trace"] if entry["node"] == "shared"]
    assert {entry["parent"] for entry in entries} == {"delivery", "tax"}
    assert {entry["path"] for entry in entries} == {0.81}


def test_trace_tells_of_a_group_whether_it_is_answered_where_it_may_be():
    model = Keywords.of(BACKING_OFF, thresholds={"late": 1.0, "lost": 1.0})
    entry = answered(model, "delivery", trace=True)["trace"][0]
    assert (entry["node"], entry["entered"], entry["chosen"]) == ("delivery", True, True)


def test_trace_goes_through_a_group_that_has_no_model_of_its_own():
    inner = {"mood": {"route": "always", "labels": ["happy", "angry"]}}
    model = Keywords.of({"name": "t", "groups": {"reviews": {"groups": inner}}})
    assert "reviews" not in model.manifest.groups
    row = answered(model, "reviews happy", trace=True)
    assert [(entry["node"], entry["threshold"]) for entry in row["trace"][:2]] == [
        ("reviews", 0.0),
        ("mood", 0.0),
    ]


def test_no_texts_give_no_rows_and_no_bytes(model):
    assert prediction_rows(model, [], [], Style(trace=True)) == []
    assert prediction_lines(model, [], [], Form(None, Style())) == b""
    assert prediction_lines(model, [], [], Form(",", Style())) == b""


# Forms


@pytest.mark.parametrize(
    ("name", "delimiter"),
    [("p.jsonl", None), ("p.NDJSON", None), ("p.csv", ","), ("p.TSV", "\t"), (None, None)],
)
def test_the_name_of_the_output_says_its_form(name, delimiter):
    assert Form.of(name and Path(name), Style()).delimiter == delimiter


@pytest.mark.parametrize("name", ["p", "p.xls", "p.jsonl.gz"])
def test_unknown_kind_of_output_is_refused(name):
    with pytest.raises(DataError, match=r"unknown kind of output file; expected .*\.jsonl, .*\.tsv"):
        Form.of(Path(name), Style())

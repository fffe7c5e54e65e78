from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sparse_tables import of_arrays, table

from cascade.measure import metrics
from cascade.measure.metrics import F1Counts, f1_intervals
from cascade.taxonomy.graph import ROOT, Graph

NAN = np.nan

bootstrap, column_f1, exact_match, macro_f1, micro_f1, none_recall, precision_at_1 = map(
    of_arrays,
    (
        metrics.bootstrap,
        metrics.column_f1,
        metrics.exact_match,
        metrics.macro_f1,
        metrics.micro_f1,
        metrics.none_recall,
        metrics.precision_at_1,
    ),
)
counts_of = of_arrays(F1Counts.of)


def with_ancestors(graph, nodes):
    return metrics.with_ancestors(graph, table(nodes)).toarray()


def flags(*rows):
    """Rows written as ``"10 1"``, blanks left out."""
    return np.array([[mark == "1" for mark in row.replace(" ", "")] for row in rows], dtype=np.bool_)


def random_flags(seed, shape, density=0.3):
    return np.random.default_rng(seed).random(shape) < density


def scores(*rows):
    return np.array(rows, dtype=np.float32)


def node_flags(graph, *rows):
    """Each row a set of names."""
    return np.array([[name in row for name in graph.nodes] for row in rows], dtype=np.bool_)


bool_pairs = st.tuples(st.integers(1, 12), st.integers(1, 6)).flatmap(
    lambda shape: st.tuples(*[st.integers(0, 2 ** (shape[0] * shape[1]) - 1)] * 2).map(
        lambda codes: tuple(
            np.array([code >> bit & 1 for bit in range(shape[0] * shape[1])], dtype=np.bool_).reshape(shape)
            for code in codes
        )
    )
)


@st.composite
def graphs(draw):
    """Small DAGs: each group hangs under one or more earlier ones, each label under one or more groups."""
    names = [ROOT, *(f"g{index}" for index in range(draw(st.integers(0, 4))))]
    children = {name: [] for name in names}
    for index, name in enumerate(names[1:], start=1):
        for parent in draw(st.sets(st.sampled_from(names[:index]), min_size=1, max_size=2)):
            children[parent].append(name)
    for index in range(draw(st.integers(1, 5))):
        for parent in draw(st.sets(st.sampled_from(names), min_size=1, max_size=3)):
            children[parent].append(f"l{index}")
    for name, members in children.items():
        if not members:
            members.append(f"only_{name}")
    return Graph.build(children)


@st.composite
def graphs_with_answers(draw):
    graph = draw(graphs())
    n_texts = draw(st.integers(0, 6))
    cells = st.lists(st.booleans(), min_size=n_texts * len(graph.nodes), max_size=n_texts * len(graph.nodes))
    truth, chosen = (
        np.array(draw(cells), dtype=np.bool_).reshape(n_texts, len(graph.nodes)) for _ in range(2)
    )
    return graph, truth, chosen


# F1


@settings(deadline=None, derandomize=True)
@given(bool_pairs)
def test_f1s_are_those_of_scikit_learn(pair):
    truth, chosen = pair
    by_column = [
        reference.f1_score(true, answer, zero_division=0)
        for true, answer in zip(truth.T, chosen.T, strict=True)
    ]
    occurring = [f1 for f1, occurs in zip(by_column, truth.any(axis=0), strict=True) if occurs]
    assert column_f1(truth, chosen) == pytest.approx(by_column)
    assert micro_f1(truth, chosen) == pytest.approx(
        reference.f1_score(truth.ravel(), chosen.ravel(), zero_division=0)
    )
    assert macro_f1(truth, chosen) == pytest.approx(np.mean(occurring) if occurring else 0.0)


def test_macro_f1_leaves_out_a_column_that_is_only_chosen():
    assert macro_f1(flags("10", "10"), flags("11", "10")) == 1.0


def test_micro_f1_counts_a_column_that_is_only_chosen():
    assert micro_f1(flags("10", "10"), flags("11", "10")) == pytest.approx(4 / 5)


def test_f1_of_nothing_is_zero():
    nothing = flags("00", "00")
    assert micro_f1(nothing, nothing) == 0.0
    assert macro_f1(nothing, nothing) == 0.0
    assert column_f1(nothing, nothing).tolist() == [0.0, 0.0]


def test_no_rows_are_no_error():
    empty = np.zeros((0, 3), dtype=np.bool_)
    assert micro_f1(empty, empty) == 0.0
    assert macro_f1(empty, empty) == 0.0
    assert precision_at_1(empty, np.zeros((0, 3), dtype=np.float32)) is None
    assert none_recall(empty, empty) is None
    assert exact_match(empty, empty) is None
    assert bootstrap(empty, empty, seed=0).columns.tolist() == [[0.0, 0.0]] * 3


# Precision at 1


def test_precision_at_1_asks_for_the_greatest_score_only():
    truth = flags("110", "110", "001")
    assert precision_at_1(truth, scores([0.1, 0.9, 0.2], [0.1, 0.2, 0.9], [0, 0, 0.01])) == pytest.approx(
        2 / 3
    )


def test_precision_at_1_leaves_out_rows_without_labels():
    assert precision_at_1(flags("10", "00"), scores([0.9, 0.1], [0.9, 0.1])) == 1.0


def test_first_of_equal_scores_counts():
    equal = scores([0.5, 0.5])
    assert precision_at_1(flags("10"), equal) == 1.0
    assert precision_at_1(flags("01"), equal) == 0.0


def test_column_not_visited_never_wins_even_against_zero():
    assert precision_at_1(flags("01"), scores([NAN, 0.0])) == 1.0
    assert precision_at_1(flags("10"), scores([NAN, 0.0])) == 0.0


def test_row_without_any_score_is_wrong():
    assert precision_at_1(flags("10", "10"), scores([NAN, NAN], [0.3, NAN])) == 0.5


def test_precision_at_1_without_labelled_rows_is_none():
    assert precision_at_1(flags("00"), scores([0.5, 0.5])) is None


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_precision_at_1_is_top_1_accuracy_where_each_row_has_one_label(seed):
    rng = np.random.default_rng(seed)
    classes = rng.integers(4, size=30)
    classes[:4] = range(4)
    values = rng.random((30, 4)).astype(np.float32)
    expected = reference.top_k_accuracy_score(classes, values, k=1)
    assert precision_at_1(np.eye(4, dtype=np.bool_)[classes], values) == pytest.approx(expected)


# Whole rows


def test_none_recall_is_the_share_of_unlabelled_rows_left_without_labels():
    assert none_recall(flags("00", "00", "00", "10"), flags("00", "01", "00", "00")) == pytest.approx(2 / 3)


def test_none_recall_without_unlabelled_rows_is_none():
    assert none_recall(flags("10", "01"), flags("00", "00")) is None


def test_exact_match_is_subset_accuracy():
    truth, chosen = random_flags(0, (200, 3)), random_flags(1, (200, 3))
    assert exact_match(truth, chosen) == pytest.approx(reference.accuracy_score(truth, chosen))


def test_truth_that_is_none_everywhere_has_figures():
    truth, chosen = flags("00", "00"), flags("00", "10")
    assert micro_f1(truth, chosen) == 0.0
    assert macro_f1(truth, chosen) == 0.0
    assert none_recall(truth, chosen) == 0.5
    assert exact_match(truth, chosen) == 0.5
    assert bootstrap(truth, chosen, seed=0).macro_f1 == (0.0, 0.0)


# Hierarchy

#          root
#         /    \
#       a        b
#      / \      / \
#     c   x    y   z       c is a group; w stands in c and in b
#     |
#     w
TREE = Graph.build({ROOT: ["a", "b"], "a": ["c", "x"], "b": ["y", "w"], "c": ["w"]})


def test_closure_adds_the_ancestors_along_all_parents():
    result = with_ancestors(TREE, node_flags(TREE, {"w"}, {"x"}, {"y"}, set(), {"c"}))
    expected = node_flags(TREE, {"w", "c", "a", "b"}, {"x", "a"}, {"y", "b"}, set(), {"c", "a"})
    assert result.tolist() == expected.tolist()


def test_closure_leaves_its_argument_alone():
    nodes = node_flags(TREE, {"w"})
    with_ancestors(TREE, nodes)
    assert nodes.sum() == 1


@settings(deadline=None, derandomize=True)
@given(graphs_with_answers())
def test_closure_is_that_of_the_graph_row_by_row(case):
    graph, nodes, _ = case
    for row, result in zip(nodes, with_ancestors(graph, nodes), strict=True):
        names = {name for name, flag in zip(graph.nodes, row, strict=True) if flag}
        assert {name for name, flag in zip(graph.nodes, result, strict=True) if flag} == graph.closure(names)


def test_near_miss_keeps_the_groups_it_got_right():
    truth = node_flags(TREE, {"a", "x"})
    # x against w, whose groups are c, a and b: one of two true nodes, one of four chosen ones.
    assert micro_f1(truth, with_ancestors(TREE, node_flags(TREE, {"w"}))) == pytest.approx(2 * 1 / (2 + 4))
    # A group alone is half of the answer, and all of it is right.
    assert micro_f1(truth, with_ancestors(TREE, node_flags(TREE, {"a"}))) == pytest.approx(2 * 1 / (2 + 1))
    assert micro_f1(truth, with_ancestors(TREE, node_flags(TREE, {"y"}))) == 0.0


# Bootstrap


def brute_samples(truth, chosen, seed, resamples, figure):
    """`figure` on rows copied out for each resample, drawn as the library draws them."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(truth), size=len(truth)) for _ in range(resamples))
    return [figure(truth[rows], chosen[rows]) for rows in draws]


def test_intervals_are_those_of_rows_copied_out():
    truth, chosen = random_flags(1, (60, 4)), random_flags(2, (60, 4))
    chosen |= truth
    found = bootstrap(truth, chosen, seed=3, resamples=200)
    for interval, figure in ((found.micro_f1, micro_f1), (found.macro_f1, macro_f1)):
        samples = brute_samples(truth, chosen, 3, 200, figure)
        assert interval == pytest.approx(np.percentile(samples, [2.5, 97.5]))
    samples = brute_samples(truth, chosen, 3, 200, column_f1)
    assert found.columns == pytest.approx(np.percentile(samples, [2.5, 97.5], axis=0).T)


def test_rare_columns_do_not_push_the_macro_interval_below_its_figure():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 2)
    truth = np.eye(100, dtype=np.bool_)[labels]
    chosen = np.eye(100, dtype=np.bool_)[np.where(rng.random(200) < 0.8, labels, rng.integers(100, size=200))]
    low, high = bootstrap(truth, chosen, seed=0).macro_f1
    assert low < macro_f1(truth, chosen) < high


def test_column_never_true_takes_no_part_in_the_macro_interval():
    truth, chosen = flags(*["10"] * 8), flags(*["11"] * 8)
    assert bootstrap(truth, chosen, seed=0).macro_f1 == (1.0, 1.0)


def test_interval_of_an_f1_without_doubt_has_no_width():
    truth = flags(*["10"] * 5)
    found = bootstrap(truth, truth, seed=0)
    assert found.micro_f1 == (1.0, 1.0)
    assert found.columns.tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_same_seed_gives_the_same_intervals_and_another_seed_others():
    truth, chosen = random_flags(1, (50, 3)), random_flags(2, (50, 3))
    first, again, other = (bootstrap(truth, chosen, seed=seed, resamples=100) for seed in (5, 5, 6))
    assert (first.micro_f1, first.macro_f1) == (again.micro_f1, again.macro_f1)
    assert first.columns.tolist() == again.columns.tolist()
    assert first.micro_f1 != other.micro_f1


def test_interval_has_the_width_that_theory_gives():
    # With everything chosen that is true or not, F1 = 2p / (1 + p) for a share p of true rows.
    n_texts = 2000
    truth = np.arange(n_texts)[:, None] % 2 == 0
    low, high = bootstrap(truth, np.ones_like(truth), seed=0).micro_f1
    deviation = 2 / 1.5**2 * np.sqrt(0.25 / n_texts)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.08)
    assert (low + high) / 2 == pytest.approx(2 / 3, abs=0.005)


def test_more_resamples_begin_with_the_same_ones():
    tallies = counts_of(random_flags(1, (300, 2)), random_flags(2, (300, 2)))
    many, few = tallies.resampled_f1(4, 50), tallies.resampled_f1(4, 20)
    assert many[:20].tolist() == few.tolist()


def test_resamples_do_not_depend_on_how_many_are_drawn_at_once():
    # Rows enough for several rounds: the counts of all resamples would not fit into one.
    n_texts = 50_000
    truth = random_flags(1, (n_texts, 1), 0.5)
    chosen = truth ^ random_flags(2, (n_texts, 1), 0.1)
    found = counts_of(truth, chosen).resampled_f1(0, 90)
    assert found[:, 0] == pytest.approx(brute_samples(truth, chosen, 0, 90, micro_f1))


def test_pooled_columns_have_one_f1_with_its_interval():
    truth, chosen = random_flags(1, (80, 3)), random_flags(2, (80, 3))
    pooled = counts_of(truth, chosen).pooled(table(flags("10", "11", "01")))
    assert pooled.f1() == pytest.approx([micro_f1(truth[:, at], chosen[:, at]) for at in ([0, 1], [1, 2])])
    for at, interval in zip(([0, 1], [1, 2]), f1_intervals(pooled, 7, 100), strict=True):
        assert interval == pytest.approx(bootstrap(truth[:, at], chosen[:, at], 7, 100).micro_f1)


def test_five_thousand_rows_and_540_columns_need_little_memory():
    rng = np.random.default_rng(0)
    truth = rng.random((5000, 540)) < 0.004
    chosen = truth ^ (rng.random((5000, 540)) < 0.002)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = bootstrap(truth, chosen, seed=0)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.columns.shape == (540, 2)
    assert found.micro_f1[0] < micro_f1(truth, chosen) < found.micro_f1[1]
    assert peak_bytes < 150e6


# Calibration


def drawn(seed, n_rows=400, off=1.0):
    """Probabilities of rows and five labels, and a truth that is as probable as they say, times `off`."""
    random = np.random.default_rng(seed)
    probabilities = random.random((n_rows, 5)) ** 3
    return probabilities.astype(np.float32), random.random((n_rows, 5)) < probabilities * off


def calibration_of(probabilities, truth):
    return metrics.calibration_error(table(truth), table(probabilities))


def test_the_calibration_error_is_the_mean_distance_of_probabilities_and_shares_in_ten_bins():
    probabilities = np.array([[0.62, 0.68, 0.62, 0.68, 0.04]], dtype=np.float32)
    truth = np.array([[True, False, True, True, True]])
    assert calibration_of(probabilities, truth) == pytest.approx(0.75 - 0.65)
    two_bins = np.array([[0.65, 0.65, 0.65, 0.65, 0.1]], dtype=np.float32)
    assert calibration_of(two_bins, truth) == pytest.approx((4 * (0.75 - 0.65) + 0.9) / 5)


def test_exact_probabilities_are_off_by_chance_on_average_as_much_as_is_told():
    found = [drawn(seed) for seed in range(40)]
    measured = np.mean([calibration_of(*one) for one in found])
    told = np.mean([metrics.calibration_error_by_chance(table(one)) for one, _ in found])
    assert told == pytest.approx(measured, rel=0.1)
    many = drawn(0, n_rows=40_000)[0]
    assert metrics.calibration_error_by_chance(table(many)) == pytest.approx(told / 10, rel=0.1)


def test_probabilities_that_are_too_high_are_off_by_more_than_chance():
    probabilities, truth = drawn(1, n_rows=4_000, off=0.7)
    assert calibration_of(probabilities, truth) > 5 * metrics.calibration_error_by_chance(
        table(probabilities)
    )


def test_without_a_probability_that_is_told_there_is_no_calibration():
    nothing = table(np.full((2, 2), 0.01, dtype=np.float32))
    assert metrics.calibration_error(table(np.zeros((2, 2), dtype=bool)), nothing) is None
    assert metrics.calibration_error_by_chance(nothing) is None

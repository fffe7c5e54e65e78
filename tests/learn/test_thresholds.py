from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.learn.thresholds import (
    ALWAYS_ASKED,
    FOLDS,
    ROUNDS,
    SHRINKAGES,
    Curve,
    LabelScores,
    auto_thresholds,
    best_f1,
    global_cut,
    micro_macro_cuts,
    promised_threshold,
    reached,
    route_threshold,
    shrunk,
)
from cascade.model.decide import decide
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.settings import Threshold
from cascade.validation.calibration import logit, sigmoid
from cascade.validation.folds import stratified_folds

seeds = st.integers(0, 2**20)


def problem(seed, rows=30, labels=4):
    """Scores with ties, extremes and gaps, and truth that goes with them more or less; labels get rarer."""
    random = np.random.default_rng(seed)
    scores = random.random((rows, labels), dtype=np.float32)
    truth = random.random((rows, labels)) < scores / np.arange(1, labels + 1)
    if seed % 3:
        scores = (np.round(scores * 5) / 5).astype(np.float32)
    scores[random.random(scores.shape) < 0.1] = np.nan
    return scores, truth


def near_ties(seed, rows=40):
    """Neighbouring float32 numbers, between which there is nothing."""
    random = np.random.default_rng(seed)
    start = np.float32(random.choice([0.5, 0.3, 1e-9, 0.99999]))
    ladder = [start]
    for _ in range(5):
        ladder.append(np.nextafter(ladder[-1], np.float32(2)))
    return random.choice(np.array(ladder, dtype=np.float32), rows), random.random(rows) < 0.4


def chosen_at(scores, cut):
    """What `decide` chooses of one label's scores."""
    taxonomy = Taxonomy.from_dict({"name": "one", "labels": ["x"]})
    return decide(taxonomy, {"x": cut}, scores[:, None])[:, 0]


def exact_f1(hits, chosen, positives):
    return Fraction(2 * hits, chosen + positives) if chosen + positives else Fraction(0)


def candidates(scores):
    """Every set of rows that some cut in [0, 1] chooses, the smallest first: equal scores go together."""
    visited = sorted({float(score) for score in scores if not np.isnan(score)}, reverse=True)
    nothing = [] if visited and visited[0] == 1 else [np.zeros(len(scores), dtype=bool)]
    return nothing + [scores >= np.float32(least) for least in visited]


def lin_and_lin(scores, truth):
    """Chosen rows of every label by a search that follows the paper's words and counts with fractions.

    Labels by falling frequency; each takes the cut with the greatest micro F1 of all labels so far plus
    macro F1 of all labels so far; of equal cuts the highest.
    """
    n_labels = truth.shape[1]
    order = sorted(range(n_labels), key=lambda label: (-int(truth[:, label].sum()), label))
    answer, tp, fp, fn, figures = {}, 0, 0, 0, []
    for label in order:
        best = None
        for chosen in candidates(scores[:, label]):
            true = truth[:, label]
            here = (int((chosen & true).sum()), int((chosen & ~true).sum()), int((~chosen & true).sum()))
            all_tp, all_fp, all_fn = tp + here[0], fp + here[1], fn + here[2]
            micro = exact_f1(all_tp, all_tp + all_fp, all_tp + all_fn)
            own = exact_f1(here[0], here[0] + here[1], here[0] + here[2])
            macro = (sum(figures) + own) / (len(figures) + 1)
            if best is None or micro + macro > best[0]:
                best = (micro + macro, chosen, here, own)
        _, answer[label], here, own = best
        tp, fp, fn, figures = tp + here[0], fp + here[1], fn + here[2], [*figures, own]
    return np.column_stack([answer[label] for label in range(n_labels)])


def curves_of(scores, truth):
    return [Curve.of(scores[:, label], truth[:, label]) for label in range(truth.shape[1])]


def columns_of(scores, truth):
    return [LabelScores.of(*column) for column in zip(scores.T, truth.T, strict=True)]


def cuts_of(curve):
    return [curve.cut(chosen) for chosen in curve.counts()[0].tolist()]


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=150)
def test_micro_macro_cuts_choose_what_a_literal_search_chooses(seed):
    scores, truth = problem(seed)
    cuts = micro_macro_cuts(curves_of(scores, truth))
    chosen = np.column_stack([chosen_at(scores[:, label], cut) for label, cut in enumerate(cuts)])
    np.testing.assert_array_equal(chosen, lin_and_lin(scores, truth))


@pytest.mark.parametrize("seed", [9747, 14841, 16809])
def test_of_cuts_that_differ_by_rounding_alone_the_highest_is_taken(seed):
    """Sums of fractions which are equal, but not in float64."""
    random = np.random.default_rng(seed)
    rows, labels = int(random.integers(3, 12)), int(random.integers(1, 4))
    truth = random.random((rows, labels)) < 0.5
    scores = (random.integers(0, 8, (rows, labels)) / 8).astype(np.float32)
    cuts = micro_macro_cuts(curves_of(scores, truth))
    chosen = np.column_stack([chosen_at(scores[:, label], cut) for label, cut in enumerate(cuts)])
    np.testing.assert_array_equal(chosen, lin_and_lin(scores, truth))


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_micro_macro_cuts_part_neighbouring_floats_as_counted(seed):
    pairs = [near_ties(seed), near_ties(seed + 1)]
    scores, truth = (np.column_stack(columns) for columns in zip(*pairs, strict=True))
    cuts = micro_macro_cuts(curves_of(scores, truth))
    chosen = np.column_stack([chosen_at(scores[:, label], cut) for label, cut in enumerate(cuts)])
    np.testing.assert_array_equal(chosen, lin_and_lin(scores, truth))


@given(seeds, st.booleans())
@settings(deadline=None, derandomize=True, max_examples=150)
def test_every_cut_of_a_curve_chooses_the_rows_that_it_counts(seed, close):
    scores, truth = near_ties(seed) if close else (part[:, 0] for part in problem(seed))
    curve = Curve.of(scores, truth)
    cuts, (counts, all_hits) = cuts_of(curve), curve.counts()
    assert cuts == np.array(cuts, dtype=np.float32).tolist()
    assert all(0 <= cut <= 1 for cut in cuts)
    assert (np.diff(counts) > 0).all()
    assert curve.positives == truth.sum()
    for cut, chosen, hits in zip(cuts, counts, all_hits, strict=True):
        picked = chosen_at(scores, cut)
        assert (picked.sum(), (picked & truth).sum()) == (chosen, hits)


@given(seeds, st.booleans(), st.data())
@settings(deadline=None, derandomize=True, max_examples=150)
def test_at_any_threshold_a_curve_counts_what_is_chosen(seed, close, data):
    scores, truth = near_ties(seed) if close else (part[:, 0] for part in problem(seed))
    visited = scores[~np.isnan(scores)].tolist()
    threshold = data.draw(st.sampled_from([0.0, 1.0, *visited, *np.nextafter(visited, 1).tolist()]))
    picked = chosen_at(scores, threshold)
    found = reached([Curve.of(scores, truth)], np.array([threshold], dtype=np.float32))
    assert found.tolist() == [[(picked & truth).sum()], [picked.sum()]]


@given(seeds, st.booleans())
@settings(deadline=None, derandomize=True, max_examples=100)
def test_a_curve_has_every_cut_that_does_not_part_equal_scores(seed, close):
    scores, truth = near_ties(seed) if close else (part[:, 0] for part in problem(seed))
    chosen, _ = Curve.of(scores, truth).counts()
    assert chosen.tolist() == [int(rows.sum()) for rows in candidates(scores)]


def test_cuts_stand_half_way_between_scores():
    scores = np.array([0.75, 0.25, 0.25, 0.5], dtype=np.float32)
    curve = Curve.of(scores, np.array([True, True, False, False]))
    assert cuts_of(curve) == [0.875, 0.625, 0.375, 0.125]
    assert [counts.tolist() for counts in curve.counts()] == [[0, 1, 2, 4], [0, 1, 1, 2]]


def test_where_a_score_is_one_no_cut_pretends_to_choose_nothing():
    scores = np.array([1, 1, 0.5], dtype=np.float32)
    curve = Curve.of(scores, np.array([False, False, True]))
    assert curve.counts()[0].tolist() == [2, 3]
    assert chosen_at(scores, curve.cut(2)).tolist() == [True, True, False]
    _, greatest = curve.best()[1:]
    assert greatest == pytest.approx(0.5)


def test_zero_with_a_sign_is_zero():
    curve = Curve.of(np.array([-0.0, 0.5, 0.0], dtype=np.float32), np.array([True, False, False]))
    assert [counts.tolist() for counts in curve.counts()] == [[0, 1, 3], [0, 0, 1]]


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_global_cut_has_the_greatest_micro_f1_of_all_cuts(seed):
    scores, truth = problem(seed)
    flat, true = scores.ravel(), truth.ravel()
    figures = [exact_f1(int((c & true).sum()), int(c.sum()), int(true.sum())) for c in candidates(flat)]
    picked = chosen_at(flat, global_cut(curves_of(scores, truth)))
    np.testing.assert_array_equal(picked, candidates(flat)[figures.index(max(figures))])
    assert best_f1(scores, truth) == pytest.approx(float(max(figures)))


PROMISES = (0.05, 0.3, 0.35, 0.55, 0.7, 0.9, 1.0)


@given(seeds, st.booleans(), st.sampled_from(PROMISES), st.sampled_from(["precision", "recall"]))
@settings(deadline=None, derandomize=True, max_examples=300)
def test_a_promise_is_kept_in_the_best_way_that_any_cut_can(seed, close, value, kind):
    scores, truth = near_ties(seed) if close else (part[:, 0] for part in problem(seed))
    wanted = Fraction(str(value))
    picked = chosen_at(scores, promised_threshold(Curve.of(scores, truth), Threshold(kind, value)))
    options = [figures_of(chosen, truth) for chosen in candidates(scores) if chosen.any()]
    place = 0 if kind == "precision" else 1
    kept = [option for option in options if option[place] >= wanted]
    got = figures_of(picked, truth)
    if kept:
        assert got == max(kept, key=lambda option: (option[1 - place], option[place]))
    elif kind == "precision":
        assert got == max(options)
    else:
        assert got[1] == max(recall for _, recall in options)


def figures_of(chosen, truth):
    """Precision and recall of one label, which has positives and chosen rows."""
    hits = int((chosen & truth).sum())
    return Fraction(hits, int(chosen.sum())), Fraction(hits, int(truth.sum()))


def test_a_promise_for_a_label_without_positives_chooses_nothing():
    scores = np.array([0.2, 0.9, np.nan], dtype=np.float32)
    curve = Curve.of(scores, np.zeros(3, dtype=bool))
    for kind in ("precision", "recall"):
        assert not chosen_at(scores, promised_threshold(curve, Threshold(kind, 0.5))).any()


def test_a_promise_for_a_label_that_was_never_visited_is_a_threshold_all_the_same():
    scores = np.full(3, np.nan, dtype=np.float32)
    curve = Curve.of(scores, np.ones(3, dtype=bool))
    for kind in ("precision", "recall"):
        assert 0 <= promised_threshold(curve, Threshold(kind, 0.9)) <= 1


def test_a_recall_that_routing_made_impossible_gets_all_that_is_left():
    scores = np.array([0.9, 0.3, np.nan, np.nan], dtype=np.float32)
    curve = Curve.of(scores, np.ones(4, dtype=bool))
    assert chosen_at(scores, promised_threshold(curve, Threshold("recall", 0.9))).sum() == 2


def test_shrinkage_moves_rare_labels_to_the_global_cut_and_frequent_ones_little():
    cuts, whole = [0.8, 0.8, 0.8, 0.8], 0.2
    positives = np.array([0, 3, 100, 100_000])
    drawn = shrunk(cuts, whole, positives, 30.0)
    assert drawn[0] == np.float32(whole)
    assert drawn[0] < drawn[1] < drawn[2] < drawn[3] <= np.float32(0.8)
    assert drawn[1] < 0.3
    assert drawn[3] > 0.799


def test_half_way_means_as_many_positives_as_the_shrinkage():
    drawn = shrunk([0.9], 0.1, np.array([30]), 30.0)
    assert drawn[0] == pytest.approx(0.5)


def test_without_shrinkage_cuts_come_back_to_the_bit():
    cuts = [float(np.nextafter(np.float32(1), np.float32(0))), 1e-12, float(np.float32(0.3)), 0.0, 1.0]
    kept = shrunk(cuts, 0.5, np.ones(5, dtype=np.int64), 0.0)
    assert kept.tolist() == np.array(cuts, dtype=np.float32).tolist()


def test_with_no_positives_and_no_shrinkage_a_label_gets_the_global_cut():
    assert shrunk([0.9], 0.25, np.array([0]), 0.0).tolist() == [0.25]


def learnable(seed, rows=300, labels=12):
    """Scores that say something about truth; the later a label, the rarer."""
    random = np.random.default_rng(seed)
    truth = random.random((rows, labels)) < 0.5 / np.arange(1, labels + 1)
    raw = random.normal(0, 1, truth.shape) + np.where(truth, 2.0, -1.0)
    return (1 / (1 + np.exp(-raw))).astype(np.float32), truth, np.arange(rows)


def averaged(parts, positives, shrinkage):
    """Mean cuts of some parts in log odds, weighted by positives, drawn to the mean of their global cuts."""
    curves = [curves_of(*part) for part in parts]
    weights = np.array([truth.sum(axis=0) for _, truth in parts])
    own = np.array([micro_macro_cuts(one) for one in curves])
    whole = np.array([global_cut(one) for one in curves])
    means = [mean(*label) for label in zip(own.T, weights.T, strict=True)]
    return shrunk(means, mean(whole, np.ones(len(whole))), positives, shrinkage)


def mean(cuts, weights):
    if len(set(cuts.tolist())) == 1:
        return cuts[0]
    return sigmoid((logit(cuts) * weights).sum() / max(weights.sum(), 1))


def held_out_figure(partings, shrinkage):
    """Micro F1 + macro F1 of each part of each parting at the thresholds that its other parts give."""
    true, chosen = [], []
    for parts in partings:
        for one, (scores, truth) in enumerate(parts):
            others = parts[:one] + parts[one + 1 :]
            known = sum(of_other.sum(axis=0) for _, of_other in others)
            with np.errstate(invalid="ignore"):
                chosen.append(scores >= averaged(others, known, shrinkage))
            true.append(truth)
    true, chosen = np.concatenate(true), np.concatenate(chosen)
    hits, both = (true & chosen).sum(axis=0), true.sum(axis=0) + chosen.sum(axis=0)
    macro = [2 * h / b for h, b, some in zip(hits, both, true.any(axis=0), strict=True) if some]
    return 2 * hits.sum() / both.sum() + np.mean(macro)


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=40)
def test_auto_thresholds_are_the_average_of_folds_at_the_shrinkage_that_serves_held_out_rows_best(seed):
    random = np.random.default_rng(seed)
    scores, truth, _ = learnable(seed, 90, int(random.integers(1, 34)))
    scores[random.random(scores.shape) < 0.2] = np.nan
    clusters = random.integers(0, 60, 90)
    found = auto_thresholds(columns_of(scores, truth), clusters, seed)
    partings = []
    for parting in range(ROUNDS):
        fold_of = stratified_folds(truth, clusters, FOLDS, seed * ROUNDS + parting)
        partings.append([(scores[fold_of == fold], truth[fold_of == fold]) for fold in range(FOLDS)])
    figures = [held_out_figure(partings, shrinkage) for shrinkage in SHRINKAGES]
    best = [s for s, figure in zip(SHRINKAGES, figures, strict=True) if figure > max(figures) - 1e-9]
    parts, positives = [part for parts in partings for part in parts], truth.sum(axis=0)
    assert found.dtype == np.float32
    assert found.tolist() in [averaged(parts, positives, shrinkage).tolist() for shrinkage in best]


def test_auto_thresholds_beat_a_threshold_of_one_half_where_scores_are_not_calibrated():
    scores, truth, clusters = learnable(3)
    low, (unseen, unseen_truth, _) = scores**6, learnable(4)
    thresholds = auto_thresholds(columns_of(low, truth), clusters, 0)
    tuned, untuned = unseen**6 >= thresholds, unseen**6 >= 0.5
    micro = [
        float(exact_f1(int((c & unseen_truth).sum()), int(c.sum()), int(unseen_truth.sum())))
        for c in (tuned, untuned)
    ]
    assert micro[0] > micro[1] + 0.05


def test_noise_is_shrunk_more_than_clean_data():
    """Where scores of rare labels say nothing, own cuts are luck, and the global one is safer."""
    random = np.random.default_rng(0)
    truth = random.random((400, 30)) < 0.02
    scores = random.random(truth.shape, dtype=np.float32)
    noisy = auto_thresholds(columns_of(scores, truth), np.arange(400), 0)
    own = np.array(micro_macro_cuts(curves_of(scores, truth)))
    assert noisy.std() < own.std() / 2


def test_auto_thresholds_are_the_same_twice_and_do_not_change_what_they_get():
    scores, truth, clusters = learnable(5)
    before = scores.copy(), truth.copy()
    first = auto_thresholds(columns_of(scores, truth), clusters, 7)
    np.testing.assert_array_equal(first, auto_thresholds(columns_of(scores, truth), clusters, 7))
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(truth, before[1])


@pytest.mark.parametrize("value", [0.0, 1e-7, 0.25, 1 - 1e-7, 1.0])
@pytest.mark.parametrize("true", [True, False])
def test_constant_scores_are_all_chosen_or_none(value, true):
    scores = np.full((9, 2), value, dtype=np.float32)
    truth = np.array([[true, row < 5] for row in range(9)])
    thresholds = auto_thresholds(columns_of(scores, truth), np.arange(9), 0)
    assert np.isfinite(thresholds).all()
    assert ((thresholds >= 0) & (thresholds <= 1)).all()
    for label in range(2):
        assert chosen_at(scores[:, label], thresholds[label]).sum() in (0, 9)
    assert chosen_at(scores[:, 1], thresholds[1]).sum() == 9


@pytest.mark.parametrize(
    ("pair", "positives"), [((1e-11, 1e-9), 30), ((1 - 4e-7, 1 - 1e-7), 30), ((1 - 4e-7, 1 - 1e-7), 1)]
)
def test_scores_beyond_the_reach_of_log_odds_are_parted_all_the_same(pair, positives):
    truth = (np.arange(90) < positives)[:, None]
    scores = np.where(truth, *reversed(pair)).astype(np.float32)
    thresholds = auto_thresholds(columns_of(scores, truth), np.arange(90), 0)
    np.testing.assert_array_equal(chosen_at(scores[:, 0], thresholds[0]), truth[:, 0])


def test_of_labels_without_positives_nothing_is_chosen_where_that_can_be():
    scores, truth, _ = learnable(6)
    truth[:, 3] = False
    cuts = micro_macro_cuts(curves_of(scores, truth))
    assert not chosen_at(scores[:, 3], cuts[3]).any()


def test_without_any_positive_every_threshold_is_one_half():
    scores = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    thresholds = auto_thresholds(columns_of(scores, np.zeros((5, 3), dtype=bool)), np.arange(5), 0)
    assert thresholds.tolist() == [0.5, 0.5, 0.5]


def test_all_positive_rows_are_all_chosen():
    scores = np.random.default_rng(0).random((30, 2), dtype=np.float32)
    truth = np.ones((30, 2), dtype=bool)
    thresholds = auto_thresholds(columns_of(scores, truth), np.arange(30), 0)
    cuts = micro_macro_cuts(curves_of(scores, truth))
    assert (scores >= np.array(cuts, dtype=np.float32)).all()
    assert (scores >= thresholds).mean() > 0.9


def test_scores_that_are_all_nan_give_usable_thresholds():
    scores = np.full((6, 2), np.nan, dtype=np.float32)
    thresholds = auto_thresholds(columns_of(scores, np.ones((6, 2), dtype=bool)), np.arange(6), 0)
    assert ((thresholds >= 0) & (thresholds <= 1)).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_one_or_two_rows_are_enough_for_thresholds(rows):
    scores = np.full((rows, 2), 0.75, dtype=np.float32)
    truth = np.tile([True, False], (rows, 1))
    thresholds = auto_thresholds(columns_of(scores, truth), np.arange(rows), 0)
    assert thresholds.shape == (2,)
    assert chosen_at(scores[:, 0], thresholds[0]).all()


def test_no_labels_need_no_thresholds():
    nothing = np.empty((4, 0))
    assert auto_thresholds(
        columns_of(nothing.astype(np.float32), nothing.astype(bool)), np.arange(4), 0
    ).shape == (0,)


@given(seeds, st.integers(1, 1000))
@settings(deadline=None, derandomize=True, max_examples=100)
def test_route_threshold_keeps_nearly_all_true_rows_and_only_a_sure_group_could_have_a_higher_one(seed, rows):
    random = np.random.default_rng(seed)
    path = random.choice(np.linspace(0, 1, 50, dtype=np.float32), rows) ** 3
    truth = random.random(rows) < 0.6
    threshold = route_threshold(path, truth)
    kept = int((path[truth] >= np.float32(threshold)).sum())
    assert kept >= 0.995 * truth.sum()
    assert threshold <= ALWAYS_ASKED
    if truth.any() and threshold < ALWAYS_ASKED:
        higher = np.nextafter(np.float32(threshold), np.float32(2))
        assert (path[truth] >= higher).sum() < 0.995 * truth.sum()


def test_route_threshold_leaves_out_rows_that_never_arrived():
    path = np.array([np.nan, 0.0625, 0.75, 0.01], dtype=np.float32)
    assert route_threshold(path, np.array([True, True, True, False])) == 0.0625


def test_a_group_whose_true_rows_are_all_sure_is_still_asked_where_it_is_merely_likely():
    path = np.array([0.99, 0.98, 0.97], dtype=np.float32)
    assert route_threshold(path, np.ones(3, dtype=bool)) == ALWAYS_ASKED


def test_a_group_without_a_true_row_is_open_to_all():
    assert route_threshold(np.array([0.5, np.nan], dtype=np.float32), np.array([False, True])) == 0.0
    assert route_threshold(np.empty(0, dtype=np.float32), np.empty(0, dtype=bool)) == 0.0

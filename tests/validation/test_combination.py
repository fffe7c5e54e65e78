"""Several scores of a label to one probability."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize

from cascade.validation.calibration import logit
from cascade.validation.combination import (
    FEATURES,
    PRIOR,
    Combination,
    fit_combination,
    regressed,
    rising_blocks,
)

numbers = st.floats(-12, 12, width=32)
weights = st.tuples(*(st.floats(0, 3, width=32) for _ in FEATURES))
rising = st.lists(
    st.tuples(st.floats(0.25, 3, width=32), st.floats(0.25, 3, width=32)), min_size=2, max_size=6
).map(lambda steps: tuple(map(tuple, (np.cumsum(np.array(steps), axis=0) - 5).tolist())))
combinations = st.builds(Combination, weights, st.floats(-3, 3, width=32), st.one_of(st.just(()), rising))


def cells(rows):
    return np.array(rows, dtype=np.float32).reshape(-1, len(FEATURES))


@given(
    combinations, st.tuples(*(numbers for _ in FEATURES)), st.integers(0, len(FEATURES) - 1), st.floats(0, 9)
)
def test_more_of_any_score_never_makes_a_label_less_probable(combination, features, which, more):
    raised = list(features)
    raised[which] += more
    low, high = combination.apply(cells([features, raised]))
    assert 0 <= low <= high <= 1


@given(combinations)
def test_what_is_written_reads_the_same(combination):
    assert Combination.from_dict(json.loads(json.dumps(combination.to_dict()))) == combination


@given(combinations, st.lists(st.tuples(*(numbers for _ in FEATURES)), min_size=1, max_size=9))
def test_cells_are_combined_bit_for_bit_as_one_by_one(combination, rows):
    together = combination.apply(cells(rows))
    assert together.tolist() == [float(combination.apply(cells([row]))[0]) for row in rows]


def test_the_product_is_the_path_probability():
    paths = np.array([0.02, 0.4, 0.97], dtype=np.float32)
    features = np.zeros((3, len(FEATURES)), dtype=np.float32)
    features[:, 0] = logit(paths)
    features[:, 1:] = 7
    assert Combination.product().is_product
    np.testing.assert_allclose(Combination.product().apply(features), paths, rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": {"path": 1.0}},
        {"weights": dict.fromkeys(FEATURES, -1.0)},
        {"offset": "much"},
        {"offset": float("nan")},
        {"curve": [[0.0, 1.0], [1.0, 0.0]]},
        {"curve": [[1.0, 0.0], [1.0, 2.0]]},
        {"curve": [[0.0]]},
    ],
)
def test_what_is_no_combination_is_refused(change):
    with pytest.raises((ValueError, TypeError, KeyError)):
        Combination.from_dict(Combination.product().to_dict() | change)


def sample(n_cells, seed, path_noise=1.0, second_noise=1.0):
    """Cells of labels that are true by chance, with two noisy scores of the same evidence."""
    random = np.random.default_rng(seed)
    evidence = random.normal(-1.5, 2, n_cells)
    targets = random.random(n_cells) < 1 / (1 + np.exp(-evidence))
    features = np.zeros((n_cells, len(FEATURES)))
    features[:, 0] = evidence + path_noise * random.normal(size=n_cells)
    features[:, 1] = random.normal(size=n_cells)
    features[:, 2] = evidence + second_noise * random.normal(size=n_cells)
    return features.astype(np.float32), targets


def fitted(features, targets):
    ones = np.ones(len(targets), dtype=np.float32)
    return fit_combination(features, targets, ones, np.arange(len(targets)) % 2)


def loss(probabilities, targets):
    return -np.where(targets, np.log(probabilities), np.log1p(-probabilities)).mean()


def test_a_second_score_that_knows_as_much_counts_as_much():
    found = fitted(*sample(20_000, seed=1))
    path, own, second, *_ = found.weights
    assert abs(path - second) < 0.1
    assert own < 0.05
    test, truth = sample(20_000, seed=2)
    assert loss(found.apply(test), truth) < loss(Combination.product().apply(test), truth) - 0.02


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n_cells", [40, 5_000])
def test_the_weights_are_the_least_that_a_general_optimizer_finds_too(n_cells, seed):
    features, targets = sample(n_cells, seed, second_noise=0.5)
    # Some that speak for a label, some against it, and one that says what another says.
    features[:, 3] = features[:, 0] - features[:, 1]
    features[:, 4] = -features[:, 2] + seed
    found = regressed(features, targets, np.ones(n_cells, dtype=np.float32))
    start = np.array([*Combination.product().weights, 0.0])

    def terms(at):
        margins = features.astype(float) @ at[:-1] + at[-1]
        off = 1 / (1 + np.exp(-margins)) - targets
        lost = np.logaddexp(0, margins).sum() - margins[targets].sum()
        slope = np.append(off @ features, off.sum()) + PRIOR * (at - start)
        return lost + PRIOR / 2 * ((at - start) ** 2).sum(), slope

    bounds = [(0, None)] * len(FEATURES) + [(None, None)]
    options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 10_000}
    best = minimize(terms, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    own = np.array([*found.weights, found.offset])
    assert own == pytest.approx(best.x, abs=1e-4)
    assert (own[:-1] == 0).sum() == (best.x[:-1] < 1e-7).sum() > 0


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 9)), min_size=1, max_size=30)
    .map(np.array)
    .map(np.transpose)
)
def test_blocks_that_rise_have_the_means_of_isotonic_regression(drawn):
    values, masses = drawn
    blocks = rising_blocks(values, masses)
    means = [np.average(values[own], weights=masses[own]) for own in blocks]
    each = np.concatenate(
        [np.full(own.stop - own.start, mean) for own, mean in zip(blocks, means, strict=True)]
    )
    assert each == pytest.approx(isotonic_regression(values, weights=masses).x, abs=1e-9)
    assert (np.diff(means) > -1e-12).all()


def test_neighbours_that_are_equal_are_one_block():
    drawn = np.array([1.0, 1.0, 2.0, 3.0, 2.0, 2.5]), np.ones(6)
    assert rising_blocks(*drawn) == [slice(0, 2), slice(2, 3), slice(3, 6)]


def test_what_says_nothing_does_not_count():
    features, targets = sample(3_000, seed=3, path_noise=0)
    features[:, 1:] = 0
    found = fitted(features, targets)
    assert found.is_product
    assert found.weights[0] == 1


def test_the_curve_makes_probabilities_of_what_is_too_sure_of_itself():
    features, targets = sample(40_000, seed=4, path_noise=0)
    features[:, 0] = 3 * features[:, 0] + 2
    features[:, 1:] = 0
    found = fitted(features, targets)
    test, truth = sample(40_000, seed=5, path_noise=0)
    test[:, 0] = 3 * test[:, 0] + 2
    test[:, 1:] = 0
    chances = found.apply(test)
    for low in np.arange(0, 1, 0.1):
        within = (chances >= low) & (chances < low + 0.1)
        if within.sum() > 300:
            assert abs(chances[within].mean() - truth[within].mean()) < 0.05


def test_cells_that_count_twice_are_as_two():
    features, targets = sample(400, seed=6)
    twice = np.where(targets, 1, 2)
    folds = np.arange(len(targets)) % 2
    weighted = fit_combination(features, targets, twice.astype(np.float32), folds)
    again = (np.repeat(one, twice, axis=0) for one in (features, targets, folds))
    repeated_features, repeated_targets, repeated_folds = again
    ones = np.ones(len(repeated_targets), dtype=np.float32)
    repeated = fit_combination(repeated_features, repeated_targets, ones, repeated_folds)
    np.testing.assert_allclose(weighted.apply(features), repeated.apply(features), atol=1e-3)


def test_with_more_threads_it_is_the_same():
    features, targets = sample(3_000, seed=8)
    ones, folds = np.ones(len(targets), dtype=np.float32), np.arange(len(targets)) % 3
    one, several = (fit_combination(features, targets, ones, folds, threads) for threads in (1, 4))
    assert one == several


@pytest.mark.parametrize("truth", [True, False])
def test_labels_that_never_vary_keep_the_product(truth):
    features, targets = sample(50, seed=7)
    assert fitted(features, np.full_like(targets, truth)) == Combination.product()


@given(combinations.filter(lambda one: one.weights[0] > 0.1), st.floats(0.05, 0.95), st.floats(0, 1))
def test_below_the_least_path_no_label_reaches_a_probability(combination, probability, own):
    least = combination.least_path(probability, seconds=False)
    assert 0 <= least <= 1
    path = float(logit(np.array([max(least * 0.9 - 1e-6, 0)]))[0])
    features = cells([[path, float(logit(np.array([own]))[0]), path, 0, 0]])
    if least * 0.9 > 2e-6:
        assert combination.apply(features)[0] < probability

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from cascade.validation.calibration import (
    LEAST_SLOPE,
    SHRINKAGE,
    Calibration,
    conditional,
    fit_calibration,
    log_loss,
    logit,
    sigmoid,
)

seeds = st.integers(0, 2**20)


def drawn(seed, rows, slopes, offsets, centre=-1.0):
    """Scores, and targets that follow sigmoid(slope * logit(score) + offset) for each child."""
    random = np.random.default_rng(seed)
    raw = random.normal(centre, 1.5, (rows, len(slopes)))
    chance = expit(np.array(slopes) * raw + np.array(offsets))
    return expit(raw).astype(np.float32), random.random(raw.shape) < chance


def test_a_known_sigmoid_is_found_from_many_rows():
    slopes, offsets = [2.0, 0.5, 1.0], [1.0, -1.0, 0.0]
    found = fit_calibration(*drawn(0, 50_000, slopes, offsets))
    np.testing.assert_allclose(found.slopes, slopes, rtol=0.05)
    np.testing.assert_allclose(found.offsets, offsets, atol=0.08)


def test_calibrated_probabilities_are_the_share_of_true_rows():
    scores, targets = drawn(1, 20_000, [1.7], [1.2])
    chance = fit_calibration(scores, targets).apply(scores)
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1)):
        inside = (chance >= low) & (chance < high)
        assert targets[inside].mean() == pytest.approx(chance[inside].mean(), abs=0.03)


def test_one_child_alone_gets_what_scikit_learn_calls_platt_scaling():
    from sklearn.calibration import _SigmoidCalibration

    scores, targets = drawn(2, 800, [1.4], [0.7])
    theirs = _SigmoidCalibration().fit(logit(scores[:, 0]), targets[:, 0])
    found = fit_calibration(scores, targets)
    # Drawn to the curve of the group, which is its own.
    np.testing.assert_allclose([found.slopes[0], found.offsets[0]], [-theirs.a_, -theirs.b_], rtol=1e-4)


def test_many_rows_outweigh_the_group_as_logistic_regression_has_it():
    from sklearn.linear_model import LogisticRegression

    scores, targets = drawn(3, 30_000, [2.0, 0.7], [1.0, -0.5])
    found = fit_calibration(scores, targets)
    for child in range(2):
        free = LogisticRegression(C=np.inf).fit(logit(scores[:, [child]]), targets[:, child])
        assert found.slopes[child] == pytest.approx(free.coef_[0, 0], rel=0.02)
        assert found.offsets[child] == pytest.approx(free.intercept_[0], abs=0.03)


def test_a_child_with_few_rows_has_nearly_the_groups_curve():
    scores, targets = drawn(4, 40, [1.5] * 40, [0.5] * 40)
    contrary = scores[:, 39] < np.quantile(scores[:, 39], 0.05)
    targets[:, 39] = contrary
    found = fit_calibration(scores, targets)
    whole = fit_calibration(scores.reshape(-1, 1), targets.reshape(-1, 1))
    group, own = (
        np.array([whole.slopes[0], whole.offsets[0]]),
        np.array([found.slopes[39], found.offsets[39]]),
    )
    free = fit_calibration(scores[:, [39]], targets[:, [39]])
    alone = np.array([free.slopes[0], free.offsets[0]])
    assert np.abs(own - group).max() < np.abs(alone - group).max() / 2
    assert np.abs(found.slopes[:39] - group[0]).max() < 0.5


def slope_of_the_loss(curve, logits, target, centre, weight):
    """Gradient of Platt's penalised loss in slope and offset, and its curvature in each."""
    positives, negatives = target.sum(), (~target).sum()
    goal = np.where(target, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    chance = expit(curve[0] * logits + curve[1])
    miss, bend = chance - goal, chance * (1 - chance)
    gradient = np.array([miss @ logits, miss.sum()]) + weight * (curve - centre)
    return gradient, np.array([bend @ logits**2, bend.sum()]) + weight


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=300)
def test_each_curve_is_the_best_one_wherever_scores_lie(seed):
    """Newton's method must not be led astray by extreme, crowded or contrary scores."""
    random = np.random.default_rng(seed)
    rows = int(random.integers(2, 150))
    wide = random.choice([0.1, 1, 5, 20])
    scores = expit(random.normal(random.normal(0, 3), wide, (rows, 3))).astype(np.float32)
    targets = random.random((rows, 3)) < expit(random.normal(1, 2) * logit(scores) + random.normal(0, 3, 3))
    if not targets.any() or targets.all():
        return
    found = fit_calibration(scores, targets)
    whole = fit_calibration(scores.reshape(-1, 1), targets.reshape(-1, 1))
    group = np.array([whole.slopes[0], whole.offsets[0]])
    for child in range(3):
        curve = np.array([found.slopes[child], found.offsets[child]])
        data = (logit(scores[:, child]), targets[:, child], group, SHRINKAGE)
        gradient, bend = slope_of_the_loss(curve, *data)
        # Newton's forecast of what is still to gain along each axis; at the least slope only upwards counts.
        gains = gradient**2 / bend
        assert gains[1] < 1e-6
        assert gains[0] < 1e-6 or (curve[0] == LEAST_SLOPE and gradient[0] > 0)


@pytest.mark.parametrize(
    ("slope", "offset", "centre"), [(0.4, 2.0, -6.0), (1.0, 0.0, 0.0), (12.0, 9.0, -1.0)]
)
def test_of_many_rows_a_curve_is_as_good_as_that_of_each_row_by_itself(slope, offset, centre):
    scores, targets = drawn(10, 60_000, [slope], [offset], centre)
    found = fit_calibration(scores, targets)
    whole = np.array([found.slopes[0], found.offsets[0]])
    # Drawn to the free curve, which it nearly is: what pulls it is negligible next to so many rows.
    gradient, bend = slope_of_the_loss(
        whole, logit(scores[:, 0]).astype(float), targets[:, 0], whole, SHRINKAGE
    )
    assert (gradient**2 / bend).max() < 1e-4
    np.testing.assert_array_less(np.abs(gradient / bend), 1e-4 * np.maximum(1, np.abs(whole)))


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_slopes_are_positive_so_that_order_is_kept(seed):
    random = np.random.default_rng(seed)
    scores = random.random((int(random.integers(0, 60)), 3), dtype=np.float32)
    targets = random.random(scores.shape) < random.choice([scores, 1 - scores, np.full_like(scores, 0.3)])
    calibration = fit_calibration(scores, targets)
    assert (calibration.slopes > 0).all()
    ladder = np.repeat(np.linspace(0, 1, 201, dtype=np.float32)[:, None], 3, axis=1)
    assert (np.diff(calibration.apply(ladder), axis=0) >= 0).all()


def test_a_child_whose_scores_run_the_wrong_way_gets_its_share_of_the_rows():
    scores, right = drawn(5, 3000, [1.5, 1.5], [0.0, 0.0], centre=-2.0)
    right[:, 1] = np.random.default_rng(0).random(3000) < expit(-1.5 * logit(scores[:, 1]) - 5)
    calibration = fit_calibration(scores, right)
    chance = calibration.apply(scores)[:, 1]
    assert calibration.slopes[1] < 0.01
    assert chance.mean() == pytest.approx(right[:, 1].mean(), rel=0.1)


def test_contrary_scores_of_a_whole_group_get_its_share_of_the_rows():
    scores, targets = drawn(6, 2000, [-1.0], [-6.0], centre=-4.0)
    chance = fit_calibration(scores, targets).apply(scores)
    assert chance.mean() == pytest.approx(targets.mean(), rel=0.1)


def test_scores_of_zero_and_one_stay_finite():
    scores = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], dtype=np.float32)
    calibration = fit_calibration(scores, scores.astype(bool))
    chance = calibration.apply(scores)
    assert np.isfinite([calibration.slopes, calibration.offsets]).all()
    assert ((chance >= 0) & (chance <= 1)).all()
    assert chance[1, 0] > 0.5 > chance[0, 0]


def test_a_score_that_is_no_number_spoils_no_other_child():
    scores, targets = drawn(11, 4000, [1.0, 2.0], [0.0, 0.0])
    scores[7, 0] = np.nan
    found = fit_calibration(scores, targets)
    assert np.isfinite([found.slopes, found.offsets]).all()
    alone = fit_calibration(scores[:, 1:], targets[:, 1:])
    assert found.slopes[1] == pytest.approx(alone.slopes[0], rel=0.1)


def test_constant_scores_get_the_share_of_true_rows():
    scores = np.full((400, 1), 0.9, dtype=np.float32)
    targets = np.arange(400)[:, None] < 100
    assert fit_calibration(scores, targets).apply(scores)[0, 0] == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("true", [True, False])
def test_targets_that_never_vary_leave_scores_as_they_are(true):
    scores = np.array([[0.2, 0.7], [0.4, 0.1]], dtype=np.float32)
    calibration = fit_calibration(scores, np.full((2, 2), true))
    np.testing.assert_allclose(calibration.apply(scores), scores, rtol=1e-6)


def test_no_rows_leave_scores_as_they_are():
    calibration = fit_calibration(np.empty((0, 2), dtype=np.float32), np.empty((0, 2), dtype=bool))
    assert calibration.slopes.tolist() == [1, 1]
    assert calibration.offsets.tolist() == [0, 0]


def test_calibration_lowers_the_loss_of_overconfident_scores():
    scores, targets = drawn(7, 2000, [0.3, 0.4], [0.0, -0.5])
    assert (
        log_loss(fit_calibration(scores, targets).apply(scores), targets) < log_loss(scores, targets) - 0.05
    )


def test_a_fit_is_the_same_twice():
    scores, targets = drawn(8, 300, [1.0, 2.0], [0.0, 1.0])
    first, second = fit_calibration(scores, targets), fit_calibration(scores, targets)
    assert first.slopes.tolist() == second.slopes.tolist()
    assert first.offsets.tolist() == second.offsets.tolist()


def test_apply_gives_float32_and_the_same_for_a_row_alone():
    scores, targets = drawn(9, 50, [1.0, 2.0], [0.0, 1.0])
    calibration = fit_calibration(scores, targets)
    together = calibration.apply(scores)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(
        np.vstack([calibration.apply(scores[[row]]) for row in range(50)]), together
    )
    assert calibration.apply(scores[:0]).shape == (0, 2)


def test_identity_changes_nothing_between_the_extremes():
    scores = np.linspace(1e-5, 1 - 1e-5, 100, dtype=np.float32)[:, None]
    np.testing.assert_allclose(Calibration.identity(1).apply(scores), scores, rtol=1e-6)


@given(arrays(np.float64, 20, elements=st.floats(1e-6, 1 - 1e-6)))
@settings(deadline=None, derandomize=True)
def test_sigmoid_undoes_logit(scores):
    np.testing.assert_allclose(sigmoid(logit(scores)), scores, rtol=1e-9)


def probabilities(seed, rows=30):
    random = np.random.default_rng(seed)
    path = random.choice(np.array([1, 0.5, 1e-3, 1e-5], dtype=np.float32), rows)
    return random.random((rows, 3), dtype=np.float32) * random.choice([1, 1e-3]).astype(np.float32), path


def test_a_model_of_its_groups_rows_answers_conditionals_as_they_are():
    chance, path = probabilities(0)
    np.testing.assert_array_equal(conditional(chance, "siblings", path), chance)


@given(seeds)
@settings(deadline=None, derandomize=True, max_examples=50)
def test_down_the_path_a_model_of_all_rows_answers_its_own_probability_below_that_of_the_group(seed):
    chance, path = probabilities(seed)
    found = conditional(chance, "all", path)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    product = path[:, None] * found
    assert (product <= path[:, None]).all()
    np.testing.assert_allclose(product, np.minimum(chance, path[:, None]), rtol=1e-6)


def test_a_path_of_zero_gives_conditionals_in_range():
    found = conditional(np.array([[0, 0.5]], dtype=np.float32), "all", np.zeros(1, dtype=np.float32))
    assert found.tolist() == [[0, 1]]


def test_sigmoid_and_logit_take_extremes_without_a_warning():
    far = np.array([-1e30, -800, 0, 800, 1e30])
    np.testing.assert_allclose(sigmoid(far), [0, 0, 0.5, 1, 1], atol=1e-15)
    assert sigmoid(far.astype(np.float32)).dtype == np.float32
    assert logit(np.array([0.0, 0.5, 1.0])).tolist() == pytest.approx([-13.8155, 0, 13.8155], abs=1e-4)


def test_log_loss_is_the_mean_surprise():
    scores = np.array([[0.5, 0.25]], dtype=np.float32)
    assert log_loss(scores, np.array([[True, False]])) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2)
    assert log_loss(scores[:0], np.empty((0, 2), dtype=bool)) == 0.0
    assert np.isfinite(log_loss(np.array([[0.0, 1.0]], dtype=np.float32), np.array([[True, False]])))

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from cascade.errors import ModelError
from cascade.nodes.contract import NodeProblem
from cascade.nodes.linear import (
    PENALTIES,
    TRIAL_TOLERANCE,
    LinearBackend,
    LinearModel,
    bags,
    folds_for,
    make,
)
from cascade.nodes.solver import Block
from cascade.nodes.weighting import Idf
from cascade.nodes.weights import BOUND, BOUND_OF_SMALL, VECTOR, Weights, cells_of
from cascade.system.serialization import write_array
from cascade.text.features import DAMPED, INSIDE_WEIGHT, bags_of
from cascade.text.hashing import BUCKETS_OF_EACH, WIDTH
from cascade.text.texts import Texts
from cascade.validation.calibration import logit


def words_problem(rows=240, seed=0, noise=0.0):
    """Each child has words of its own among filler; `noise` is the share of rows with random targets."""
    random = np.random.default_rng(seed)
    filler = [f"filler{number}" for number in range(60)]
    targets = random.random((rows, 3)) < 0.3
    texts = [
        " ".join(
            [
                *(f"{'abc'[column] * 3}{random.integers(3)}" for column in np.flatnonzero(row)),
                *random.choice(filler, 6),
            ]
        )
        for row in targets
    ]
    wrong = random.random(rows) < noise
    targets[wrong] = random.random((int(wrong.sum()), 3)) < 0.3
    return NodeProblem(("aaa", "bbb", "ccc"), Texts(texts), targets, np.ones(rows, dtype=bool), seed)


def area(scores, truth):
    """Area under the ROC curve, by ranks."""
    ranks, positives = rankdata(scores), truth.sum()
    return (ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * (~truth).sum())


def areas(scores, targets):
    return np.array([area(scores[:, child], targets[:, child]) for child in range(targets.shape[1])])


# Honesty


def test_what_can_be_learned_is_learned_and_held_out_scores_say_so(tmp_path):
    problem, unseen = words_problem(), words_problem(seed=1)
    fitted = make().fit(problem, tmp_path)
    assert areas(fitted.scores, problem.targets).min() > 0.95
    assert areas(fitted.model.scores(unseen.texts), unseen.targets).min() > 0.95


def test_held_out_scores_of_random_labels_are_no_better_than_chance(tmp_path):
    problem = words_problem(rows=600, noise=1.0)
    fitted = make().fit(problem, tmp_path)
    assert areas(fitted.scores, problem.targets).mean() == pytest.approx(0.5, abs=0.05)
    assert areas(fitted.model.scores(problem.texts), problem.targets).min() > 0.8


def test_copies_of_a_text_do_not_betray_its_random_labels(tmp_path):
    once = words_problem(rows=300, noise=1.0)
    texts = [*once.texts, *(f"  {text.upper()} " for text in once.texts)]
    targets = np.vstack([once.targets, once.targets])
    fitted = make().fit(NodeProblem(once.children, Texts(texts), targets, np.ones(600, dtype=bool)), tmp_path)
    assert areas(fitted.scores, targets).mean() == pytest.approx(0.5, abs=0.07)


def test_every_row_has_a_held_out_score_that_differs_from_the_final_models(tmp_path):
    problem = words_problem(noise=0.3)
    fitted = make().fit(problem, tmp_path)
    assert fitted.rows.tolist() == list(range(240))
    assert (fitted.scores != fitted.model.scores(problem.texts)).mean() > 0.99


def test_of_a_part_alone_there_are_held_out_scores_and_they_are_honest(tmp_path):
    problem = words_problem(noise=1.0)
    part = np.arange(len(problem.texts)) % 3 == 0
    fitted = make(C=1).fit(replace(problem, part=part), tmp_path)
    np.testing.assert_array_equal(fitted.rows, np.flatnonzero(part))
    assert fitted.scores.shape == (part.sum(), 3)
    assert areas(fitted.scores, problem.targets[part]).mean() < 0.65
    whole = make(C=1).fit(problem, tmp_path).model
    np.testing.assert_allclose(fitted.model.scores(problem.texts), whole.scores(problem.texts), atol=0.1)


def test_a_small_model_drops_more_weights_and_scores_nearly_the_same(tmp_path):
    problem, unseen = words_problem(), words_problem(seed=1)
    plain, small = (make(C=1).fit(replace(problem, small=one), tmp_path).model for one in (False, True))
    assert np.abs(small.weights.single).min() >= BOUND_OF_SMALL > np.abs(plain.weights.single).min() >= BOUND
    assert len(small.weights.values) < len(plain.weights.values)
    np.testing.assert_allclose(small.scores(unseen.texts), plain.scores(unseen.texts), atol=0.1)


def test_held_out_scores_agree_with_what_unseen_rows_get(tmp_path):
    problem, unseen = words_problem(900, noise=0.3), words_problem(900, seed=1, noise=0.3)
    fitted = make().fit(problem, tmp_path)
    held_out, honest = (
        areas(fitted.scores, problem.targets),
        areas(fitted.model.scores(unseen.texts), unseen.targets),
    )
    assert (held_out <= honest + 0.05).all()
    assert (held_out >= honest - 0.1).all()


def test_a_trial_does_not_look_at_the_rows_to_test():
    """Other texts and targets there change no score of the rest."""
    problem = words_problem(rows=60)
    train, test = np.arange(40, dtype=np.int64), np.arange(40, 50, dtype=np.int64)
    changed = problem.targets.copy()
    changed[40:] = ~changed[40:]
    texts = [*list(problem.texts)[:50], *["utterly different words"] * 10]
    other = NodeProblem(problem.children, Texts(texts), changed, problem.own)
    np.testing.assert_array_equal(
        make().fit_and_score(problem, train, test), make().fit_and_score(other, train, test)
    )


# Penalties


@pytest.mark.parametrize("grid", [[1.0, 3.0, 0.3], [0.01], [5.0, 0.1, 100.0], list(PENALTIES)])
def test_the_penalty_is_one_of_the_grid(tmp_path, grid):
    assert make(C=grid).fit(words_problem(rows=60, noise=0.2), tmp_path).notes["C"] in grid


def test_one_penalty_alone_is_taken(tmp_path):
    assert make(C=7).fit(words_problem(rows=40), tmp_path).notes == {"C": 7}


def test_the_order_of_the_grid_says_where_to_begin_and_a_far_better_penalty_is_found(tmp_path):
    problem = words_problem(noise=0.4)
    alone = {C: held_out_loss(problem, C, tmp_path) for C in (1e-3, 0.3, 300.0)}
    assert alone[300.0] > alone[0.3] + 0.005
    assert make(C=[300.0, 0.3, 1e-3]).fit(problem, tmp_path).notes["C"] < 300.0
    assert make(C=[1e-3, 0.3, 300.0]).fit(problem, tmp_path).notes["C"] < 300.0


def held_out_loss(problem, C, tmp_path):
    from cascade.validation.calibration import fit_calibration, log_loss

    scores = make(C=C).fit(problem, tmp_path).scores
    return log_loss(fit_calibration(scores, problem.targets).apply(scores), problem.targets)


# Columns that never vary


def test_a_child_that_nobody_or_everybody_has_gets_a_sure_score_and_spoils_no_other(tmp_path):
    problem = words_problem(rows=90)
    targets = problem.targets.copy()
    targets[:, 1], targets[:, 2] = False, True
    mixed = NodeProblem(problem.children, problem.texts, targets, problem.own)
    scores = make(C=1).fit(mixed, tmp_path).model.scores(problem.texts)
    assert (scores[:, 1] < 0.001).all()
    assert (scores[:, 2] > 0.999).all()
    alone = make(C=1).fit(problem, tmp_path).model.scores(problem.texts)[:, 0]
    np.testing.assert_allclose(scores[:, 0], alone, atol=0.06)  # to what the solver's tolerance allows


def test_a_child_with_one_row_can_be_fitted(tmp_path):
    problem = words_problem(rows=60)
    targets = problem.targets.copy()
    targets[:, 1] = np.arange(60) == 17
    fitted = make().fit(NodeProblem(problem.children, problem.texts, targets, problem.own), tmp_path)
    assert fitted.model.scores(problem.texts)[:, 1].argmax() == 17


def test_without_any_feature_the_score_is_the_share_of_rows_smoothed(tmp_path):
    targets = np.zeros((12, 3), dtype=bool)
    targets[:6, 0] = targets[:3, 1] = targets[1:, 2] = True
    bare = NodeProblem(("a", "b", "c"), Texts([""] * 12), targets, np.ones(12, dtype=bool))
    scores = make().fit(bare, tmp_path).model.scores(Texts(["anything"]))[0]
    np.testing.assert_allclose(scores, [7 / 14, 4 / 14, 12 / 14], rtol=1e-5)


def test_one_fit_alone_learns_what_the_whole_fit_learns(tmp_path):
    problem, unseen = words_problem(), words_problem(seed=1)
    once = LinearBackend([1.0]).fit_once(problem)
    whole = make(C=1).fit(problem, tmp_path).model
    np.testing.assert_array_equal(once.weights.dense, whole.weights.dense)
    np.testing.assert_array_equal(once.scores(unseen.texts), whole.scores(unseen.texts))


@pytest.mark.parametrize("children", [1, 7, 8, 9, 16, 17, 33, 40])
def test_any_number_of_children_is_scored_in_whole_vectors(tmp_path, children):
    random = np.random.default_rng(children)
    targets = random.random((120, children)) < 0.3
    texts = [" ".join(f"w{column}" for column in np.flatnonzero(row)) or "none" for row in targets]
    problem = NodeProblem(tuple(map(str, range(children))), Texts(texts), targets, np.ones(120, dtype=bool))
    fitted = make(C=1).fit(problem, tmp_path)
    model = fitted.model
    assert model.weights.dense.shape[1] == -(-children // VECTOR) * VECTOR
    assert not model.weights.dense[:, children:].any()
    assert model.scores(problem.texts).shape == fitted.scores.shape == (120, children)
    assert ((model.scores(problem.texts) > 0.5) == targets).mean() > 0.97


@pytest.mark.parametrize("grid", [[0.5, 1.0], [0.1, 0.3, 1, 3, 10, 30, 100]])
def test_a_grid_of_any_length_can_be_tried(tmp_path, grid):
    assert make(C=grid).fit(words_problem(rows=120, noise=0.2), tmp_path).notes["C"] in grid


@pytest.mark.parametrize(
    ("characters", "rows", "folds"),
    [(40, 20_000, 10), (40, 30_000, 5), (40, 130_000, 3), (600, 1_600, 10), (600, 1_700, 2), (500, 2_500, 5)],
)
def test_long_texts_are_soon_parted_into_few_folds(characters, rows, folds):
    assert folds_for(Texts(["x" * characters] * rows)) == folds


def long_problem(seed=0, noise=0.0):
    """900 texts of `words_problem`, each with two hundred rare words besides."""
    problem = words_problem(900, seed, noise)
    random = np.random.default_rng(seed)
    rest = [" ".join(f"w{word:04}x" for word in random.integers(0, 3000, 200)) for _ in range(900)]
    return replace(problem, texts=Texts([" ".join(both) for both in zip(problem.texts, rest, strict=True)]))


def test_with_many_long_texts_only_a_grid_of_ones_own_is_tried(tmp_path):
    many = long_problem(noise=0.2)
    few = many.of(np.arange(300))
    assert LinearBackend().fit(few, tmp_path).notes["C"] != PENALTIES[0]
    assert LinearBackend().fit(many, tmp_path).notes["C"] == PENALTIES[0]
    assert make(C=[1e-4, *PENALTIES]).fit(many, tmp_path).notes["C"] > 1e-4


def test_scores_of_halves_are_as_sure_as_those_of_unseen_rows(tmp_path):
    problem, unseen = long_problem(), long_problem(seed=1)
    assert folds_for(problem.texts) == 2
    fitted = make(C=1).fit(problem, tmp_path)
    held_out, honest = logit(fitted.scores), logit(fitted.model.scores(unseen.texts))
    sure = held_out.std(axis=0) / honest.std(axis=0)
    assert ((sure > 0.8) & (sure < 1.1)).all()
    assert areas(fitted.scores, problem.targets).min() > 0.7


def test_scores_of_halves_do_not_know_the_labels_of_their_rows(tmp_path):
    problem = long_problem(noise=1.0)
    fitted = make(C=1).fit(problem, tmp_path)
    assert areas(fitted.scores, problem.targets).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("is_long", [False, True])
def test_a_trial_of_short_texts_looks_at_each_row_once_more(is_long):
    problem = long_problem(noise=0.3) if is_long else words_problem(rows=900, noise=0.3)
    train, test = np.arange(600), np.arange(600, 900)
    texts = bags(problem.texts)
    idf = Idf(texts[train])
    rows, asked = idf.weigh(texts[train]), idf.weigh(texts[test])
    C = np.full(3, PENALTIES[0], dtype=np.float32)
    block = Block(rows, problem.targets[train], C, problem.seed)
    found = make().fit_and_score(problem, train, test)
    for check in (True, False):
        solution = block.solve(TRIAL_TOLERANCE, check=check)
        margins = asked.margins(np.arange(300), solution.weights, solution.biases)[:, :3]
        assert np.allclose(found, 1 / (1 + np.exp(-2 * margins)), rtol=0, atol=1e-6) == (check != is_long)


# Weights of features


def test_features_of_two_rows_count_by_their_idf_and_rarer_ones_are_rare():
    texts = ["red red blue", "red green", "red blue ?"]
    bags = bags_of(texts)
    found = Idf(bags).weighting
    frequency = dict(zip(bags.buckets.tolist(), np.bincount(bags.places).tolist(), strict=True))
    of_each = np.array([frequency[column] for column in found.columns.tolist()])
    assert sorted(found.columns.tolist()) == sorted(one for one, rows in frequency.items() if rows >= 2)
    assert (np.diff(of_each) <= 0).all()
    assert found.rare == pytest.approx(np.log(4) + 1)
    kind = np.where(found.columns < BUCKETS_OF_EACH, 1, INSIDE_WEIGHT)
    np.testing.assert_allclose(found.idf, (np.log(4 / (1 + of_each)) + 1) * kind, rtol=1e-6)


def test_rows_are_of_unit_length_less_what_only_they_have():
    texts = ["red red blue", "red green", "red blue ?", "", "only here"]
    bags = bags_of(texts)
    idf = Idf(bags)
    rows = idf.weigh(bags[np.array([2, 0, 3, 4])])
    for row, text in enumerate([2, 0, 3, 4]):
        span = slice(bags.starts[text], bags.starts[text + 1])
        columns = bags.buckets[bags.places[span]]
        places = idf.weighting.places(columns)
        kind = np.where(columns < BUCKETS_OF_EACH, 1, INSIDE_WEIGHT)
        weight = np.where(places >= 0, idf.weighting.idf[places], idf.weighting.rare * kind)
        values = DAMPED[bags.counts[span]] * weight
        values /= max(np.linalg.norm(values), 1e-9)
        own = slice(rows.starts[row], rows.starts[row + 1])
        filled = rows.values[own] > 0
        np.testing.assert_array_equal(rows.features[own][filled], places[places >= 0])
        np.testing.assert_allclose(rows.values[own][filled], values[places >= 0], rtol=1e-5)
        assert rows.energy[row] == pytest.approx((values[places >= 0] ** 2).sum(), abs=1e-6)
    assert rows.energy.tolist()[2:] == [0, 0]


def long_texts(n_texts=120, words=200, seed=0):
    """Texts of many words, most of them rare, and "often" in three of four."""
    random = np.random.default_rng(seed)
    rare = [f"w{number:04}x" for number in range(3000)]
    return [" ".join([*random.choice(rare, words), *["often"] * (row % 4 > 0)]) for row in range(n_texts)]


def test_what_most_long_texts_have_counts_neither_for_margins_nor_for_lengths():
    bags = bags_of(long_texts())
    idf = Idf(bags)
    found, rows = idf.weighting, idf.weigh(bags)
    frequency = dict(zip(bags.buckets.tolist(), np.bincount(bags.places).tolist(), strict=True))
    of_each = np.array([frequency[column] for column in found.columns.tolist()])
    assert 0 < found.n_common < len(found.columns)
    most = np.where(found.columns < BUCKETS_OF_EACH, 0.5, 0.35) * 120
    assert (of_each > most).tolist() == [True] * found.n_common + [False] * (len(most) - found.n_common)
    for part in (of_each[: found.n_common], of_each[found.n_common :]):
        assert (np.diff(part) <= 0).all()
    assert (most[: found.n_common] == 60).any()
    assert rows.features[rows.values > 0].min() == found.n_common
    lengths = np.add.reduceat(rows.values.astype(np.float64) ** 2, rows.starts[:-1])
    np.testing.assert_allclose(rows.energy, lengths, rtol=1e-4)


@pytest.mark.parametrize(("n_texts", "words"), [(120, 20), (90, 200)], ids=["short texts", "few rows"])
def test_where_texts_are_short_or_few_all_features_count(n_texts, words):
    assert Idf(bags_of(long_texts(n_texts, words))).weighting.n_common == 0


def test_a_text_of_what_most_long_texts_have_is_known_and_says_nothing(tmp_path):
    texts, n_texts = long_texts(), 120
    targets = (np.arange(n_texts) % 2 == 0)[:, None]
    texts = [f"{text} topic" if true else text for text, true in zip(texts, targets[:, 0], strict=True)]
    problem = NodeProblem(("topic",), Texts(texts), targets, np.ones(n_texts, dtype=bool))
    model = make(C=1).fit(problem, tmp_path).model
    model.save(tmp_path)
    for one in (model, make().load(tmp_path)):
        assert one.weighting.n_common > 0
        empty, often, topic = one.scores(Texts(["", "often", "often topic"]))[:, 0]
        assert often == pytest.approx(empty, abs=0.02)  # its n-grams stand in other words as well
        assert topic > often + 0.1
        assert one.known(Texts(["often"]))[0] > 0.9


def test_evidence_gives_nothing_to_what_counts_for_nothing(tmp_path):
    texts, n_texts = long_texts(), 120
    targets = (np.arange(n_texts) % 2 == 0)[:, None]
    problem = NodeProblem(("even",), Texts(texts), targets, np.ones(n_texts, dtype=bool))
    model = make(C=1).fit(problem, tmp_path).model
    asked = Texts([texts[1]])
    (one,) = model.contributions(asked)
    margin = one.values.sum(axis=0) + one.rest
    np.testing.assert_allclose(1 / (1 + np.exp(-2 * margin)), model.scores(asked)[0], atol=1e-4)


@pytest.mark.parametrize("common", [-1, 10**9, "1", 0.5, None])
def test_an_impossible_number_of_common_features_is_a_model_error(folder, common):
    settings = json.loads((folder / "linear.json").read_text())
    (folder / "linear.json").write_text(json.dumps({**settings, "common": common}))
    with pytest.raises(ModelError, match=r"expected .*(common|distinct columns)"):
        make().load(folder)


def test_a_folder_that_tells_of_no_common_features_has_none(folder):
    settings = json.loads((folder / "linear.json").read_text())
    expected = make().load(folder).scores(Texts(["aaa1 aaa2"]))
    del settings["common"]
    (folder / "linear.json").write_text(json.dumps(settings))
    assert make().load(folder).scores(Texts(["aaa1 aaa2"])).tobytes() == expected.tobytes()


def test_rows_of_other_texts_are_lengthened_by_what_the_first_did_not_have():
    bags = bags_of(["red blue", "red blue green", "red pink blue pink", "grey pink", ""], least_rows=1)
    idf = Idf(bags[np.array([0, 1])])
    rows = idf.weigh(bags[np.array([2, 3, 4])])
    again = idf.weigh(bags[np.array([2, 3, 4])])
    for row, text in enumerate([2, 3, 4]):
        span = slice(bags.starts[text], bags.starts[text + 1])
        columns = bags.buckets[bags.places[span]]
        places = idf.weighting.places(columns)
        kind = np.where(columns < BUCKETS_OF_EACH, 1, INSIDE_WEIGHT)
        weight = np.where(places >= 0, idf.weighting.idf[places], idf.weighting.rare * kind)
        values = DAMPED[bags.counts[span]] * weight
        own = slice(rows.starts[row], rows.starts[row + 1])
        length = max(np.linalg.norm(values), 1e-9)
        found = rows.values[own][rows.values[own] > 0]
        np.testing.assert_allclose(found, values[places >= 0] / length, rtol=1e-5)
    assert rows.values.tobytes() == again.values.tobytes()


def weights_of(dense):
    return Weights.of_blocks([cells_of(dense)], [dense.shape[1]], len(dense))


TEXT = st.text(st.sampled_from("ab é?\n" + "cd"), max_size=30)


@given(
    st.lists(TEXT, max_size=12),
    st.lists(TEXT, min_size=2, max_size=12),
    st.integers(1, 20),
    st.sampled_from([0, 0.5, 0.97]),
)
@settings(deadline=None, derandomize=True, max_examples=100)
def test_scores_are_those_of_dense_arrays(texts, learned, children, dropped):
    """Products of rows of unit length, features without a place in the model lengthening them."""
    bags = bags_of(learned)
    weighting = Idf(bags).weighting
    random = np.random.default_rng(0)
    weights = random.normal(size=(len(weighting.columns), children)).astype(np.float16).astype(np.float32)
    weights[random.random(weights.shape) < dropped] = 0
    model = LinearModel(weighting, weights_of(weights), random.normal(size=children).astype(np.float32))
    weights[np.abs(weights) < BOUND] = 0
    np.testing.assert_array_equal(model.weights.dense.view(np.float16)[:, :children], weights)
    asked = bags_of(texts)
    idf = np.where(np.arange(WIDTH) < BUCKETS_OF_EACH, 1, INSIDE_WEIGHT) * weighting.rare
    idf[weighting.columns] = weighting.idf
    margins = np.zeros((len(texts), children))
    for row in range(len(texts)):
        span = slice(asked.starts[row], asked.starts[row + 1])
        columns = asked.buckets[asked.places[span]]
        values = DAMPED[asked.counts[span]] * idf[columns]
        values /= max(np.linalg.norm(values), 1e-9)
        known = np.isin(columns, weighting.columns)
        places = [int(np.flatnonzero(weighting.columns == column)[0]) for column in columns[known]]
        margins[row] = values[known] @ weights[places]
    expected = 1 / (1 + np.exp(-2 * (margins + model.biases)))
    np.testing.assert_allclose(model.scores(Texts(texts)), expected, atol=1e-5)


@given(st.integers(0, 50), st.integers(8, 40), st.sampled_from([0, 0.5]))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_a_text_is_scored_alike_alone_and_among_many_to_the_last_bit(seed, children, dropped):
    """Of many texts the weights come as a table, for one as they lie in the folder."""
    random = np.random.default_rng(seed)
    words = [f"w{number}" for number in range(400)]
    texts = [" ".join(random.choice(words, random.integers(0, 12))) for _ in range(1200)]
    weighting = Idf(bags_of(texts)).weighting
    weights = random.normal(size=(len(weighting.columns), children)).astype(np.float32)
    weights[random.random(weights.shape) < dropped] = 0
    biases = random.normal(size=children).astype(np.float32)
    alone, among = (LinearModel(weighting, weights_of(weights), biases) for _ in range(2))
    found = among.scores(Texts(texts))
    one = alone.scores(Texts(texts[:1]))
    assert (among.weights.table(0) is None, alone.weights.table(0) is None) == (False, True)
    assert found[:1].tobytes() == one.tobytes()


def test_strange_words_make_a_text_shorter_and_so_its_score_less_sure(tmp_path):
    problem = words_problem()
    model = make(C=1).fit(problem, tmp_path).model
    plain, strange = model.scores(Texts(["aaa1 aaa2", "aaa1 aaa2 qqzz xxyy jjkk wwvv"]))[:, 0]
    assert plain > strange > 0


def test_a_text_without_a_known_feature_gets_the_bias_alone(tmp_path):
    model = make(C=1).fit(words_problem(), tmp_path).model
    scores = model.scores(Texts(["", "§§ ¤¤"]))
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-2 * model.biases))] * 2, rtol=1e-5)


def test_texts_of_a_batch_are_hashed_once_for_all_models(tmp_path):
    problem = words_problem(rows=60)
    first, second = make(C=1).fit(problem, tmp_path).model, make(C=3).fit(problem, tmp_path).model
    batch = CountingTexts(["aaa1", "bbb1"])
    texts = Texts(batch)
    first.scores(texts.take(np.array([0])))
    read_for_one = batch.read
    second.scores(texts.take(np.array([1, 0])))
    assert batch.read == read_for_one > 0


class CountingTexts(list):
    read = 0

    def __iter__(self):
        self.read += 1
        return super().__iter__()


# The folder


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "node"
    place.mkdir()
    make(C=1).fit(words_problem(rows=60), tmp_path).model.save(place)
    return place


def test_a_loaded_model_cannot_change_its_arrays(folder):
    model = make().load(folder)
    weights = model.weights
    for array in (weights.values, weights.children, weights.dense, model.biases, model.weighting.idf):
        assert not array.flags.writeable


def changed(folder, name, change):
    array = change(np.load(folder / f"{name}.npy"))
    (folder / f"{name}.npy").unlink()
    write_array(folder / f"{name}.npy", array)


def with_value(value):
    def change(array):
        array.flat[len(array.flat) // 2] = value
        return array

    return change


ARRAYS = ("columns", "idf", "lengths", "children", "weights", "biases")


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", ["float64", ">f4", "int64", "U4", "bool", ">i4", ">u2"])
def test_an_array_of_another_type_is_a_model_error(folder, name, dtype):
    changed(folder, name, lambda array: array.astype(dtype))
    with pytest.raises(ModelError, match=rf"{name}\.npy: expected .*, found"):
        make().load(folder)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "change", [lambda array: array[:-1], lambda array: array[None], lambda array: array[:0]]
)
def test_an_array_of_another_shape_is_a_model_error(folder, name, change):
    changed(folder, name, change)
    with pytest.raises(
        ModelError,
        match=r"\.npy: expected (float32|float16|u?int\d+) of shape \(.*\), found .* of shape|numbers below",
    ):
        make().load(folder)


@pytest.mark.parametrize("name", ["idf", "weights", "biases"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_a_model_error(folder, name, value):
    changed(folder, name, with_value(value))
    with pytest.raises(ModelError, match=rf"{name}\.npy: expected finite numbers"):
        make().load(folder)


def test_a_child_that_is_none_is_a_model_error(folder):
    changed(folder, "children", with_value(3))
    with pytest.raises(ModelError, match=r"children\.npy: expected numbers below 3, found 3"):
        make().load(folder)


def test_lengths_that_do_not_sum_up_are_a_model_error(folder):
    changed(folder, "lengths", lambda array: array + np.uint8(1))
    with pytest.raises(ModelError, match=r"children\.npy: expected uint8 of shape"):
        make().load(folder)


COLUMN_FAULTS = {
    "twice the same": lambda columns: np.repeat(columns[::2], 2)[: len(columns)],
    "below 0": lambda columns: np.append(np.int32(-1), columns[1:]),
    "beyond the width": lambda columns: np.append(columns[:-1], np.int32(WIDTH)),
}


@pytest.mark.parametrize("fault", COLUMN_FAULTS)
def test_columns_that_are_not_distinct_or_beyond_the_width_are_a_model_error(folder, fault):
    changed(folder, "columns", COLUMN_FAULTS[fault])
    with pytest.raises(ModelError, match=rf"columns\.npy: expected distinct columns below {WIDTH}"):
        make().load(folder)


@pytest.mark.parametrize("rare", [None, "9", float("nan"), float("inf"), 0.0, -1.0, 1e30, [9.0], {}, True])
def test_an_impossible_weight_of_rare_features_is_a_model_error(folder, rare):
    settings = json.loads((folder / "linear.json").read_text())
    (folder / "linear.json").write_text(json.dumps({**settings, "rare": rare}))
    with pytest.raises(ModelError, match=r"linear\.json: expected 'rare' above 0"):
        make().load(folder)


@pytest.mark.parametrize("features", [None, 0, 1, "2"])
def test_features_of_another_version_are_a_model_error(folder, features):
    settings = json.loads((folder / "linear.json").read_text())
    (folder / "linear.json").write_text(json.dumps({**settings, "features": features}))
    with pytest.raises(ModelError, match=r"linear\.json: made by another version"):
        make().load(folder)


def test_the_default_grid_begins_with_one():
    assert LinearBackend().penalties == PENALTIES
    assert PENALTIES[0] == 1.0


# Rows of another model


def taught(problem, texts, targets, weights=None):
    """The problem with rows that another model labelled behind its own."""
    n_rows, n_all = len(problem.texts), len(problem.texts) + len(texts)
    return NodeProblem(
        problem.children,
        Texts([*problem.texts, *texts]),
        np.concatenate([problem.targets, targets]),
        np.ones(n_all, dtype=bool),
        problem.seed,
        extra=np.arange(n_all) >= n_rows,
        weights=weights,
    )


def test_rows_of_another_model_teach_and_have_no_held_out_scores(tmp_path):
    few, many, unseen = words_problem(rows=24), words_problem(rows=300, seed=1), words_problem(seed=2)
    alone = make().fit(few, tmp_path)
    found = make().fit(taught(few, many.texts, many.targets), tmp_path)
    assert found.rows.tolist() == list(range(24))
    assert found.scores.shape == (24, 3)
    before, after = (areas(one.model.scores(unseen.texts), unseen.targets) for one in (alone, found))
    assert after.mean() > before.mean() + 0.02


def test_held_out_scores_rest_on_what_another_model_labelled(tmp_path):
    few, many = words_problem(rows=24), words_problem(rows=300, seed=1)
    right = make().fit(taught(few, many.texts, many.targets), tmp_path)
    wrong = make().fit(taught(few, many.texts, ~many.targets), tmp_path)
    assert areas(right.scores, few.targets).mean() > 0.95
    assert areas(wrong.scores, few.targets).mean() < 0.2


def test_a_held_out_row_does_not_teach_the_model_that_scores_it(tmp_path):
    random = np.random.default_rng(0)
    targets = random.random((60, 3)) < 0.5
    # Each row has a word of its own, twice in it, so that only itself could tell its labels.
    texts = [f"only{number} only{number}" for number in range(60)]
    problem = NodeProblem(("a", "b", "c"), Texts(texts), targets, np.ones(60, dtype=bool), 0)
    others = words_problem(rows=60, seed=1)
    found = make().fit(taught(problem, others.texts, others.targets), tmp_path)
    assert abs(areas(found.scores, targets).mean() - 0.5) < 0.2


def test_a_group_that_no_labelled_row_reaches_is_taught_all_the_same(tmp_path):
    none, many = words_problem(rows=0), words_problem(rows=200, seed=1)
    found = make().fit(taught(none, many.texts, many.targets), tmp_path)
    assert found.scores.shape == (0, 3)
    assert areas(found.model.scores(many.texts), many.targets).min() > 0.95

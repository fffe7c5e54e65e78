"""The linear model with vectors beside words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_encoders import DIMS, MEANINGS, gather, onnx_folder, rows_of, static_folder, table

from cascade.encoders import fetching, store
from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import NodeProblem
from cascade.nodes.linear import bags, make
from cascade.nodes.meaning import WEIGHTS, Meaning, beside, settled, vectors
from cascade.nodes.weighting import UNROLLED, Idf
from cascade.text.texts import Texts


@pytest.fixture(scope="module", autouse=True)
def tiny(home, tmp_path_factory):
    fetching.add(onnx_folder(tmp_path_factory.mktemp("onnx") / "tiny"), "tiny")
    return store.opened("tiny")


def half(first):
    """The meanings with the first or the last words of each."""
    return {name: words[:2] if first else words[2:] for name, words in MEANINGS.items()}


def problem_of(texts, labels, **changes):
    targets = np.array([[name in own for name in MEANINGS] for own in labels])
    return NodeProblem(tuple(MEANINGS), Texts(texts), targets, np.ones(len(texts), dtype=bool), **changes)


def learned(count=120, **changes):
    return problem_of(*rows_of(half(first=True), count, seed=0), **changes)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return make(encoder="tiny").fit(learned(), tmp_path_factory.mktemp("work"))


def test_what_a_vector_says_has_its_weight_in_it(tiny):
    texts = Texts(["my refund", "the parcel"])
    weights = np.random.default_rng(0).normal(size=(tiny.dims, 3)).astype(np.float32)
    expected = 2 * vectors(tiny, texts) @ weights
    np.testing.assert_allclose(Meaning.of(tiny, 2.0, weights).margins(texts), expected, atol=0.01)


# Rows of both


def test_columns_of_vectors_stand_behind_those_of_words():
    problem = learned(30)
    found = bags(problem.texts)
    words = Idf(found).weigh(found)
    meaning = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    rows = beside(words, meaning, 2.0)
    assert rows.n_features == words.n_features + 6
    assert not (rows.starts % UNROLLED).any()
    assert rows.energy == pytest.approx(words.energy + 4 * (meaning**2).sum(axis=1), rel=1e-5)
    weights = np.random.default_rng(1).normal(size=(rows.n_features, 8)).astype(np.float32)
    nothing, every = np.zeros(8, dtype=np.float32), np.arange(30)
    expected = words.margins(every, weights[: words.n_features], nothing)
    expected = expected + 2 * meaning @ weights[words.n_features :]
    assert rows.margins(every, weights, nothing) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([[1.0, 1.0], [1.0, 1.0]], (1.0, 3.0)),
        ([[1.0, 0.99], [0.985, 1.0]], (1.0, 3.0)),
        ([[1.0, 0.9], [0.95, 1.0]], (1.0, 5.0)),
        ([[1.0, 1.0], [1.0, 0.5]], (2.0, 5.0)),
    ],
)
def test_the_first_weight_and_penalty_stay_unless_others_are_clearly_better(losses, expected):
    assert settled(np.array(losses), (1.0, 2.0), (3.0, 5.0)) == expected


# What it is good for


def test_words_that_were_never_seen_are_known_by_what_they_mean(fitted, tmp_path):
    texts, labels = rows_of(half(first=False), 200, seed=1)
    unseen = problem_of(texts, labels)
    found = fitted.model.scores(unseen.texts).argmax(axis=1)
    words = make().fit(learned(), tmp_path).model.scores(unseen.texts).argmax(axis=1)
    truth = unseen.targets.argmax(axis=1)
    assert (found == truth).mean() > 0.95
    assert (words == truth).mean() < 0.5


def test_noise_instead_of_meaning_is_given_little_weight(tmp_path):
    random = np.random.default_rng(7).normal(size=table().shape).astype(np.float32)
    fetching.add(static_folder(tmp_path / "noise", {"embeddings": random}), "noise")
    fitted = make(encoder="noise").fit(learned(), tmp_path)
    assert fitted.notes["weight"] == min(WEIGHTS)
    assert (fitted.scores[np.arange(120), learned().targets.argmax(axis=1)] > 0.5).mean() > 0.9


def test_held_out_scores_come_from_models_that_did_not_see_the_row(tmp_path):
    """A row with a label that only it has, and vectors that say nothing of it, is not known by heart."""
    texts, labels = rows_of(half(first=True), 120, seed=0)
    random = np.random.default_rng(3)
    shuffled = [labels[row] for row in random.permutation(len(labels))]
    problem = problem_of(texts, shuffled)
    fitted = make(encoder="tiny").fit(problem, tmp_path)
    right = fitted.scores[np.arange(120), problem.targets.argmax(axis=1)]
    wrong = fitted.scores[~problem.targets]
    assert right.mean() < wrong.mean() + 0.1


# Contracts


def test_scores_of_a_batch_are_those_of_its_rows_one_by_one(fitted):
    texts = [*rows_of(MEANINGS, 40, seed=2)[0], "", "xylophone", "  "]
    together = fitted.model.scores(Texts(texts))
    alone = np.concatenate([fitted.model.scores(Texts([text])) for text in texts])
    assert np.array_equal(together, alone)


def test_the_same_problem_gives_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        make(encoder="tiny").fit(learned(), tmp_path).model.save(tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_a_model_that_was_saved_gives_the_same_scores(fitted, tmp_path):
    fitted.model.save(tmp_path)
    texts = Texts(rows_of(MEANINGS, 40, seed=2)[0])
    loaded = make(encoder="tiny").load(tmp_path)
    assert np.array_equal(loaded.scores(texts), fitted.model.scores(texts))


def test_contributions_with_meaning_sum_up_to_the_margin(fitted):
    for text in ("my refund please", "livid, again", "xylophone", ""):
        [found] = fitted.model.contributions(Texts([text]))
        assert list(found.beside) == ["meaning (tiny)"]
        total = found.values.sum(axis=0) + found.rest + found.beside["meaning (tiny)"]
        score = fitted.model.scores(Texts([text]))[0].astype(float)
        assert total == pytest.approx(np.log(score / (1 - score)) / 2, abs=1e-4)


def test_how_it_was_typed_does_not_matter_to_meaning(tiny):
    typed = Texts(["my REFUND please", "my re\u00adfund  please", "my &nbsp; refund please"])
    found = vectors(tiny, typed)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_a_trial_sees_meaning_too():
    first, last = rows_of(half(first=True), 100, seed=0), rows_of(half(first=False), 100, seed=1)
    problem = problem_of(first[0] + last[0], first[1] + last[1])
    found = make(encoder="tiny").fit_and_score(problem, np.arange(100), np.arange(100, 200))
    assert (found.argmax(axis=1) == problem.targets[100:].argmax(axis=1)).mean() > 0.9


def test_words_alone_have_nothing_of_it(tmp_path):
    make().fit(learned(), tmp_path).model.save(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "biases.npy", "children.npy", "columns.npy", "idf.npy", "lengths.npy", "linear.json", "weights.npy",
    ]  # fmt: skip


# What is refused


def test_an_encoder_that_is_not_here_is_named_with_the_command_that_brings_it(tmp_path):
    with pytest.raises(
        BackendError, match=r"encoder 'minilm' is not on this machine\. Run: cascade encoders get"
    ):
        make(encoder="minilm").fit(learned(), tmp_path)
    with pytest.raises(BackendError, match=r"unknown encoder 'tinny'. Did you mean 'tiny'\?"):
        make(encoder="tinny").fit(learned(), tmp_path)


def test_another_encoder_of_the_same_name_is_refused(tmp_path):
    fetching.add(onnx_folder(tmp_path / "own", gather(seed=1)), "own")
    folder = tmp_path / "model"
    folder.mkdir()
    make(encoder="own").fit(learned(), tmp_path).model.save(folder)
    store.remove("own")
    with pytest.raises(BackendError, match="unknown encoder 'own'"):
        make(encoder="own").load(folder)
    fetching.add(onnx_folder(tmp_path / "other", gather(seed=2)), "own")
    with pytest.raises(
        BackendError, match=r"was fitted with encoder 'own' [0-9a-f]{12}; the 'own' of this machine"
    ):
        make(encoder="own").load(folder)


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("encoder.json", b"{}", "expected name, sha256, dims and weight"),
        ("encoder.json", b"[", "expected JSON"),
        ("meaning.npy", b"", "expected a NumPy array"),
    ],
)
def test_a_damaged_model_is_refused(fitted, tmp_path, file, content, told):
    fitted.model.save(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match=told):
        make(encoder="tiny").load(tmp_path)


def test_a_model_whose_vectors_have_another_length_is_refused(fitted, tmp_path):
    fitted.model.save(tmp_path)
    np.save(tmp_path / "meaning.npy", np.zeros((DIMS + 1, len(MEANINGS)), dtype=np.float16))
    with pytest.raises(ModelError, match=rf"expected float16 of shape \({DIMS}, 4\)"):
        make(encoder="tiny").load(tmp_path)
    np.save(tmp_path / "meaning.npy", np.full((DIMS, len(MEANINGS)), np.nan, dtype=np.float16))
    with pytest.raises(ModelError, match="expected finite numbers"):
        make(encoder="tiny").load(tmp_path)


def test_the_record_of_a_model_names_its_encoder(fitted, tiny, tmp_path):
    fitted.model.save(tmp_path)
    told = json.loads((tmp_path / "encoder.json").read_text())
    assert (told["name"], told["sha256"]) == ("tiny", tiny.sha256)
    assert fitted.notes["encoder"] == "tiny"


@pytest.mark.parametrize("rows", [2, 5, 40])
def test_few_rows_and_a_part_of_them_are_enough(tmp_path, rows):
    texts, labels = rows_of(half(first=True), rows, seed=0)
    part = np.arange(rows) % 2 == 0
    for problem in (problem_of(texts, labels), problem_of(texts, labels, part=part)):
        fitted = make(encoder="tiny").fit(problem, tmp_path)
        assert np.isfinite(fitted.scores).all()
        assert len(fitted.rows) == (rows if problem.part is None else part.sum())

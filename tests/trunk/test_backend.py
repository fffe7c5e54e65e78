"""Node models that are heads: head and words together, on disk and back, and what each word did."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from tiny_encoders import DIMS, MEANINGS, onnx_folder, rows_of

from cascade.backends import complaints, make_backend
from cascade.encoders import fetching, store
from cascade.encoders.contract import counts
from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import NodeProblem
from cascade.text.texts import Texts
from cascade.trunk.backend import BIASES, RECORD, SHARES, USUAL_SHARE, VALUES, TrunkBackend
from cascade.trunk.heads import Head, Lesson, taught
from cascade.trunk.settings import FEWEST_EPOCHS, MOST_EPOCHS, TrunkSettings
from cascade.validation.calibration import logit, sigmoid


@pytest.fixture(scope="module", autouse=True)
def tiny(home, tmp_path_factory):
    fetching.add(onnx_folder(tmp_path_factory.mktemp("onnx") / "tiny"), "tiny")
    return store.opened("tiny")


def problem_of(count=200, seed=0):
    texts, labels = rows_of(MEANINGS, count, seed=seed)
    targets = np.array([[name in own for name in MEANINGS] for own in labels])
    return NodeProblem(tuple(MEANINGS), Texts(texts), targets, np.ones(count, dtype=bool))


@pytest.fixture(scope="module")
def head(tiny):
    problem = problem_of(seed=1)
    vectors = tiny.encode(list(problem.texts))
    return Head(tiny, taught(Lesson(np.arange(200), problem.targets, exclusive=False), vectors, seed=0))


HELD_OUT = np.arange(0, 200, 5)


@pytest.fixture(scope="module")
def adopted(head):
    return TrunkBackend(TrunkSettings("tiny")).adopt_head(problem_of(), head, HELD_OUT)


def test_scores_are_those_of_head_and_words_averaged_as_log_odds(tiny, head, adopted):
    model, texts = adopted.model, problem_of(seed=2).texts
    assert model.share in SHARES
    of_head = head.weights.log_odds(tiny.encode(list(texts)))
    for share in (0.0, 0.3, 1.0):
        model = type(adopted.model)(head, adopted.model.words, share)
        expected = sigmoid((1 - share) * of_head + share * logit(adopted.model.words.scores(texts)))
        np.testing.assert_allclose(model.scores(texts), expected, atol=2e-3)


def test_held_out_rows_are_scored_and_no_word_of_theirs_is_learned(head):
    problem = problem_of()
    texts = list(problem.texts)
    for row in HELD_OUT:
        texts[row] += f" unheard{row}"
    problem = replace(problem, texts=Texts(texts))
    fitted = TrunkBackend(TrunkSettings("tiny")).adopt_head(problem, head, HELD_OUT)
    assert fitted.rows.tolist() == HELD_OUT.tolist()
    assert fitted.scores.shape == (len(HELD_OUT), len(MEANINGS))
    assert ((fitted.scores > 0.5) == problem.targets[HELD_OUT]).mean() > 0.9
    assert fitted.model.words.known(Texts(["unheard0 unheard5"]))[0] < 0.5


def test_only_rows_that_are_held_out_are_encoded(head):
    texts, labels = rows_of(MEANINGS, 200, seed=9)
    texts = [f"{text} again{row}" for row, text in enumerate(texts)]
    targets = np.array([[name in own for name in MEANINGS] for own in labels])
    problem = NodeProblem(tuple(MEANINGS), Texts(texts), targets, np.ones(200, dtype=bool))
    before = counts.encoded + counts.kept
    TrunkBackend(TrunkSettings("tiny")).adopt_head(problem, head, HELD_OUT)
    assert counts.encoded + counts.kept - before <= 2 * len(HELD_OUT)


def test_few_held_out_labels_do_not_settle_what_words_count_for(head):
    fitted = TrunkBackend(TrunkSettings("tiny")).adopt_head(problem_of(), head, np.arange(5))
    assert fitted.model.share == USUAL_SHARE


def test_without_words_the_head_answers_alone(tiny, head):
    fitted = TrunkBackend(TrunkSettings("tiny", words=False)).adopt_head(problem_of(), head, HELD_OUT)
    texts = problem_of(seed=2).texts
    expected = sigmoid(head.weights.log_odds(tiny.encode(list(texts))))
    np.testing.assert_allclose(fitted.model.scores(texts), expected, atol=2e-3)
    assert fitted.model.known(texts).tolist() == [1.0] * len(texts)
    assert "words" not in fitted.notes


@pytest.mark.parametrize("words", [True, False])
def test_a_model_answers_the_same_from_disk(tmp_path, head, words):
    backend = TrunkBackend(TrunkSettings("tiny", words=words))
    model = backend.adopt_head(problem_of(), head, HELD_OUT).model
    model.save(tmp_path)
    texts = problem_of(seed=3).texts
    np.testing.assert_array_equal(backend.load(tmp_path).scores(texts), model.scores(texts))


@pytest.mark.parametrize(
    ("file", "change"),
    [
        (RECORD, {"share": 2.0}),
        (RECORD, {"exclusive": "yes"}),
        (RECORD, {"dims": DIMS + 1}),
        (VALUES, None),
        (BIASES, None),
        ("linear.json", None),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path, adopted, file, change):
    adopted.model.save(tmp_path)
    if change is None:
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-7])
    else:
        told = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps(told | change))
    with pytest.raises(ModelError, match=r"head\.json|head_values\.npy" if file == RECORD else file):
        TrunkBackend(TrunkSettings("tiny")).load(tmp_path)


def test_weights_that_are_no_numbers_are_refused(tmp_path, adopted):
    adopted.model.save(tmp_path)
    broken = np.load(tmp_path / VALUES)
    broken[0, 0] = np.nan
    np.save(tmp_path / VALUES, broken)
    with pytest.raises(ModelError, match="finite numbers"):
        TrunkBackend(TrunkSettings("tiny")).load(tmp_path)


def test_a_trunk_that_is_not_here_is_told(tmp_path, adopted):
    adopted.model.save(tmp_path)
    told = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(json.dumps(told | {"sha256": "0" * 64}))
    with pytest.raises(BackendError, match="another one"):
        TrunkBackend(TrunkSettings("tiny")).load(tmp_path)


def test_contributions_sum_up_to_the_log_odds_and_speak_for_the_right_child(adopted):
    model, text = adopted.model, "please refund my parcel again"
    [found] = model.contributions(Texts([text]))
    together = found.values.sum(axis=0) + found.rest + sum(found.beside.values())
    expected = logit(model.scores(Texts([text])).astype(np.float64))[0]
    np.testing.assert_allclose(together, expected, atol=0.05)
    assert list(found.beside) == ["words together (tiny)"]
    words = [text[start:end] for start, end in found.spans.tolist()]
    money, post = list(MEANINGS).index("money"), list(MEANINGS).index("post")
    assert words[int(found.values[:, money].argmax())] == "refund"
    assert words[int(found.values[:, post].argmax())] == "parcel"


def test_occlusion_agrees_with_what_words_themselves_say(adopted):
    """A word that a linear model counts for a child most is the one that the head misses most, too."""
    text = "again the weather please"
    [found] = adopted.model.contributions(Texts([text]))
    [words] = adopted.model.words.contributions(Texts([text]))
    sun = list(MEANINGS).index("sun")
    assert found.values[:, sun].argmax() == words.values[:, sun].argmax()


def test_a_text_of_nothing_has_no_contributions(adopted):
    [found] = adopted.model.contributions(Texts([""]))
    assert found.values.shape == (0, len(MEANINGS))


def test_a_head_is_not_fitted_alone(tmp_path):
    with pytest.raises(BackendError, match="trained with all others"):
        TrunkBackend(TrunkSettings("tiny")).fit(problem_of(), tmp_path)


# Settings


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "expected a base"),
        ({"base": "../etc"}, "option 'base'.*expected the name"),
        ({"base": "minilm", "words": "yes"}, "option 'words'.*true or false"),
        ({"base": "minilm", "epochs": 0}, "option 'epochs'.*from 1 to 1000, found 0"),
        ({"base": "minilm", "learning_rate": 0}, "option 'learning_rate'.*above 0"),
        ({"base": "minilm", "batch_size": 2.5}, "option 'batch_size'.*found 2.5"),
        ({"base": "minilm", "epoch": 3}, "no option 'epoch'.*Did you mean 'epochs'"),
    ],
)
def test_options_that_are_wrong_are_told(options, told):
    [complaint] = complaints("encoder", options)
    assert re.search(told, complaint)


def test_options_are_taken():
    options = {"base": "minilm", "words": False, "epochs": 3, "learning_rate": 1e-4, "batch_size": 16}
    assert list(complaints("encoder", options)) == []
    assert make_backend("encoder", options).settings == TrunkSettings("minilm", False, 3, 1e-4, 16)


def test_few_rows_are_seen_often_and_many_seldom():
    settings = TrunkSettings("minilm")
    assert settings.epochs_for(13_600) == 4
    assert settings.epochs_for(10) == MOST_EPOCHS
    assert settings.epochs_for(10**6) == FEWEST_EPOCHS
    assert replace(settings, epochs=7).epochs_for(10) == 7

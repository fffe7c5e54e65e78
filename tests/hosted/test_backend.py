"""Hosted node models against a service on loopback: questions, scores, and what is noted of them."""

from __future__ import annotations

import numpy as np
import pytest
from answering_service import INVALID, Script, Service

from cascade.hosted.asker import Asker
from cascade.hosted.backend import OpenAIBackend, scores_together
from cascade.hosted.settings import Settings
from cascade.nodes.contract import GroupDescription, NodeProblem, RowsError
from cascade.text.texts import Texts

CHILDREN = ("refund", "late", "broken")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SERVICE_KEY", "any")


@pytest.fixture
def service():
    with Service(Script(answer=lambda text: text.split(":")[0])) as running:
        yield running


@pytest.fixture
def asker():
    with Asker() as running:
        yield running


def backend(service, asker, **options):
    address = {"provider": "compatible", "base_url": service.base_url, "api_key_env": "SERVICE_KEY"}
    return OpenAIBackend(Settings(**address, **options), asker)


def problem_of(texts, choose="many"):
    targets, own = np.eye(len(texts), 3, dtype=bool), np.ones(len(texts), dtype=bool)
    return NodeProblem(CHILDREN, Texts(texts), targets, own, description=GroupDescription(choose=choose))


TEXTS = ["refund; late: a", "none: b", "broken: c"]


def test_scores_without_probabilities_are_noted(service, asker):
    fitted = backend(service, asker, answer="names").adopt(problem_of(TEXTS), "tuned", np.arange(3))
    assert fitted.scores.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert fitted.notes == {"model": "tuned", "answer": "names", "probabilities": "none"}


def test_scores_with_probabilities_are_not(service, asker):
    top = [{"token": "1", "logprob": -0.1, "bytes": None}, {"token": "0", "logprob": -2.4, "bytes": None}]
    step = {"token": "1", "logprob": -0.1, "bytes": None, "top_logprobs": top}
    service.script.answer = lambda _: "1"
    service.script.logprobs = {"content": [step], "refusal": None}
    fitted = backend(service, asker, answer="code").adopt(problem_of(TEXTS, "one"), "tuned", np.arange(3))
    assert "probabilities" not in fitted.notes
    assert (fitted.scores[:, 1] > 0.8).all()


def test_rows_that_fail_are_left_out_of_what_is_learnt_from(service, asker):
    service.script.always[TEXTS[1]] = INVALID
    fitted = backend(service, asker, answer="names").adopt(problem_of(TEXTS), "tuned", np.arange(3))
    assert fitted.rows.tolist() == [0, 2]
    assert fitted.notes["failed"] == 1
    service.script.always.update(dict.fromkeys(TEXTS, INVALID))
    with pytest.raises(RowsError, match="3 of 3 texts could not be scored"):
        backend(service, asker, answer="names").adopt(problem_of(TEXTS), "other", np.arange(3))


def test_models_are_asked_together_and_answer_each_for_itself(service, asker):
    made = backend(service, asker, answer="names")
    views = {
        "one": (made.node(problem_of(TEXTS), "first"), Texts(TEXTS)),
        "two": (made.node(problem_of(TEXTS), "second"), Texts(TEXTS[::-1])),
    }
    service.script.always["none: b"] = INVALID
    found = scores_together(views)
    assert found["one"][0][0].tolist() == found["two"][0][2].tolist() == [1, 1, 0]
    assert list(found["one"][1]) == list(found["two"][1]) == [1]
    assert "first: " in found["one"][1][1]
    assert np.isnan(found["two"][0][1]).all()
    assert service.models == {"first": 3, "second": 3}

"""Tiers before a service that stands in for any: what they learn from, and what gets to whom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_encoders import MEANINGS, onnx_folder, rare_words, rows_of

from cascade.backends import make_backend
from cascade.encoders import fetching
from cascade.encoders.contract import counts
from cascade.errors import ModelError
from cascade.nodes.constant import ConstantModel
from cascade.nodes.contract import FittedNode, HostedBackend, NodeProblem, PromptedBackend, ServiceBackend
from cascade.system.serialization import read_json, write_json
from cascade.text.texts import Texts
from cascade.tiers.backend import make

CHILDREN = ("money", "post")


class Knowing:
    """A service that gives every row its right answer, and new texts none."""

    model, settings, waits = "m", None, False

    def node(self, problem, model):
        return ConstantModel(np.zeros(len(problem.children), dtype=np.float32))

    def adopt(self, problem, model, rows):
        scores = np.where(problem.targets[rows], 0.95, 0.05).astype(np.float32)
        return FittedNode(self.node(problem, model), rows, scores, {"model": model})

    def fit(self, problem, workdir):
        return self.adopt(problem, "m", np.empty(0, dtype=np.int64))

    def load(self, folder):
        return ConstantModel(np.zeros(2, dtype=np.float32))

    def prepare(self, texts, jobs):
        """Nothing."""


def problem_of(texts, labels, own=None):
    targets = np.array([[child in one for child in CHILDREN] for one in labels])
    own = np.ones(len(texts), dtype=bool) if own is None else own
    return NodeProblem(CHILDREN, Texts(texts), targets & own[:, None], own)


def texts_of_things(count, seed=0, words=2):
    meanings = {name: MEANINGS[name][:words] for name in CHILDREN}
    return rows_of(meanings, count, seed=seed)


def adopted(tiers, problem, most_lost=0.1, rows=None):
    backend = make(tiers, most_lost)
    assert isinstance(backend, ServiceBackend)
    return backend.adopt(problem, "m", np.flatnonzero(problem.own) if rows is None else rows)


def test_tiers_are_the_kind_of_backend_that_their_last_one_is():
    linear = make_backend("linear")
    options = {"provider": "compatible", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "K"}
    prompted = make({"words": linear, "prompt": make_backend("prompt", {**options, "model": "m"})}, 0.1)
    tuned = make({"words": linear, "openai": make_backend("openai", options)}, 0.1)
    assert isinstance(prompted, PromptedBackend)
    assert not isinstance(prompted, HostedBackend)
    assert isinstance(tuned, HostedBackend)
    assert not isinstance(tuned, PromptedBackend)
    assert not isinstance(make({"words": linear, "encoder": linear}, 0.1), ServiceBackend)


def test_words_before_a_service_learn_from_the_rows_of_the_group_alone():
    texts, labels = texts_of_things(200)
    others = [f"{text} elsewhere" for text in texts] * 9
    own = np.arange(10 * len(texts)) < len(texts)
    problem = problem_of([*texts, *others], [*labels, *labels * 9], own)
    model = adopted({"words": make_backend("linear"), "prompt": Knowing()}, problem).model
    assert model.tiers == ("words", "prompt")
    # Of a text without any word what is left is how frequent the children are in the group.
    assert model.all[0].model.scores(Texts([""])).sum() == pytest.approx(1, abs=0.2)


def test_rows_that_a_service_did_not_answer_are_left_out():
    problem = problem_of(*texts_of_things(300))
    some = np.arange(0, 300, 2)
    fitted = adopted({"words": make_backend("linear"), "prompt": Knowing()}, problem, rows=some)
    assert fitted.rows.tolist() == some.tolist()
    assert fitted.scores.shape == (150, 2)
    assert fitted.notes["model"] == "m"


def test_without_held_out_rows_the_service_answers_alone():
    problem = problem_of(*texts_of_things(50))
    nothing = np.empty(0, dtype=np.int64)
    fitted = adopted({"words": make_backend("linear"), "prompt": Knowing()}, problem, rows=nothing)
    assert fitted.model.tiers == ("prompt",)
    assert fitted.notes["tiers"] == {"words": 0.0, "prompt": 0.0}


def test_a_text_of_which_no_word_is_known_is_handed_on_however_likely_a_child_is():
    texts, labels = texts_of_things(400)
    labels = [["money"] if number % 40 else ["post"] for number in range(len(labels))]
    told = [f"{text} {own[0]}" for text, own in zip(texts, labels, strict=True)]
    # Rows of words that no other row has, which are right by what is likely: they speak for not asking.
    alone = rare_words(20)["money"] + rare_words(20)["post"]
    problem = problem_of([*told, *alone], [*labels, *[["money"]] * len(alone)])
    model = adopted({"words": make_backend("linear"), "prompt": Knowing()}, problem, 0.9).model
    assert model.answered_by(Texts(["the my please", "qqqq wwww", ""])).tolist() == [0, 1, 1]


def test_an_encoder_in_the_middle_sees_only_what_words_hand_on(home, tmp_path):
    fetching.add(onnx_folder(tmp_path / "tiny"), "tiny")
    known, labels = texts_of_things(1500)
    rare, of_rare = texts_of_things(150, seed=1, words=4)
    problem = problem_of([*known, *rare], [*labels, *of_rare])
    tiers = {
        "words": make_backend("linear"),
        "encoder": make_backend("linear", {"encoder": "tiny"}),
        "prompt": Knowing(),
    }
    model = adopted(tiers, problem, 0.02).model
    assert model.tiers == ("words", "encoder", "prompt")
    texts = [f"{text} please please please" for text in texts_of_things(20, seed=2)[0]]
    encoded, kept = counts.encoded, counts.kept
    doubtful = f"{MEANINGS['money'][0]} {MEANINGS['post'][0]} my my my"
    assert model.answered_by(Texts([*texts, doubtful])).tolist()[:-1] == [0] * 20
    assert (counts.encoded - encoded) + (counts.kept - kept) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.update(version=9),
        lambda told: told["tiers"].reverse(),
        lambda told: told["tiers"].pop(),
        lambda told: told["tiers"][0].update(name="magic"),
        lambda told: told["tiers"][0].update(name="../words"),
        lambda told: told["tiers"][0].update(handover=None),
        lambda told: told["tiers"][0]["handover"].update(slopes=[1.0]),
        lambda told: told["tiers"][0]["handover"].update(slopes=[-1.0, 1.0]),
        lambda told: told["tiers"][0]["handover"].update(doubt=-1),
        lambda told: told["tiers"][0]["handover"].update(cut="low"),
        lambda told: told.update(tiers=[]),
    ],
)
def test_a_record_of_tiers_that_cannot_be_is_refused(tmp_path, change):
    tiers = {"words": make_backend("linear"), "prompt": Knowing()}
    problem = problem_of(*texts_of_things(300))
    adopted(tiers, problem).model.save(tmp_path)
    assert make(tiers, 0.1).load(tmp_path).tiers == ("words", "prompt")
    told = read_json(tmp_path / "tiers.json")
    change(told)
    write_json(tmp_path / "tiers.json", told)
    with pytest.raises(ModelError, match=r"tiers\.json"):
        make(tiers, 0.1).load(tmp_path)


def test_each_tier_has_a_folder_of_its_own(tmp_path):
    tiers = {"words": make_backend("linear"), "prompt": Knowing()}
    adopted(tiers, problem_of(*texts_of_things(300))).model.save(tmp_path)
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["prompt", "tiers.json", "words"]

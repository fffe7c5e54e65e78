"""What held-out rows say of a second pass, by answers that are right as often as we like."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cascade.hosted.questions import Answer
from cascade.learn.datasets import Dataset
from cascade.learn.decisions import labels_out_of_fold
from cascade.learn.fit import fit_out_of_fold
from cascade.learn.verifying import planned_second_pass, settle_verification, told_of_verification
from cascade.model.decide import decide
from cascade.model.verification import FEWEST, DoubtFinder, checked
from cascade.predict.verifying import Verifier
from cascade.taxonomy.definition import Taxonomy

LABELS = {"billing": ["refund", "invoice", "charge"], "delivery": ["late", "broken", "lost"]}
ALL = [label for labels in LABELS.values() for label in labels]


def described(**verify):
    asked = {"kind": "prompt", "provider": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "m"}
    backend = {**asked, **verify.pop("backend", {})}
    groups = {name: {"labels": labels} for name, labels in LABELS.items()}
    return Taxonomy.from_dict({"name": "t", "verify": {"backend": backend, **verify}, "groups": groups})


def rows(count=400, seed=0):
    """Texts whose words often name the wrong label, which only who asks can tell."""
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for number in range(count):
        true = random.integers(len(ALL))
        named = true if random.random() < 0.6 else random.integers(len(ALL))
        texts.append(f"{ALL[named]} about {ALL[random.integers(len(ALL))]} w{number} v{number * 7}")
        labels.append([ALL[true]] if random.random() < 0.9 else [])
    return texts, labels


class Answering:
    """Answers rightly with a chance, which only text and label decide; of some texts not at all."""

    def __init__(self, truth, right, *, confidence=0.9, silent=lambda _: False):
        self.truth, self.right, self.confidence, self.silent = truth, right, confidence, silent
        self.asked, self.rivals = [], []

    def ask(self, questions):
        return [self.answer(one) for one in questions]

    def answer(self, question):
        (label, *rivals), text = question.codec.form.children, question.text
        self.asked.append((text, label))
        self.rivals += [(label, rival) for rival in rivals]
        if self.silent(text):
            return Answer(None, "no such answer")
        drawn = int(hashlib.md5(f"{text} {label}".encode()).hexdigest()[:8], 16) / 2**32
        yes = (label in self.truth[text]) == (drawn < self.right)
        return Answer(np.array([self.confidence if yes else 1 - self.confidence], dtype=np.float32))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    texts, labels = rows()
    dataset = Dataset.make(described(at_most="30%"), texts, labels)
    found = fit_out_of_fold(dataset, tmp_path_factory.mktemp("model"))
    return dataset, found, dict(zip(texts, labels, strict=True))


def settled(fitted, right, *, budget_usd=None, taxonomy=None, **answering):
    dataset, found, truth = fitted
    dataset = dataset if taxonomy is None else replace(dataset, taxonomy=taxonomy)
    asker = Answering(truth, right, **answering)
    verification = settle_verification(
        dataset, found.rows, found.walked, found.manifest, budget_usd=budget_usd, asker=asker
    )
    return verification, asker


def test_answers_that_are_mostly_right_are_used_and_win(fitted):
    found, asker = settled(fitted, 0.95)
    assert found.is_used
    assert found.notes["verified_micro_f1"] > found.notes["micro_f1"] + 0.02
    assert found.weights[2] > 0.5
    assert found.notes["asked"] == len(asker.asked) > FEWEST
    assert found.notes["changed"] > 0
    assert "micro F1" in told_of_verification(found)


@pytest.mark.parametrize("right", [0.5, 0.05])
def test_answers_that_say_nothing_or_the_contrary_change_nothing(fitted, right):
    found, asker = settled(fitted, right)
    assert asker.asked
    assert not found.is_used
    assert (found.weights, found.least_doubt) == ((0.0, 1.0, 0.0), 1.0)
    assert "none, as" in told_of_verification(found)


def test_what_the_probabilities_alone_would_win_is_not_for_answers_to_claim(fitted):
    dataset, found, truth = fitted
    # Probabilities that are far too high: to lower those in doubt wins, whatever is answered.
    raised = {group: block.paths ** np.float32(0.15) for group, block in found.walked.blocks.items()}
    plain = dict.fromkeys(found.manifest.thresholds, 0.5)
    manifest = replace(found.manifest, thresholds=plain, exclusive=())
    poor = dataset, replace(found, manifest=manifest, walked=found.walked.with_paths(raised)), truth
    hardly, _ = settled(poor, 0.55, confidence=0.6)
    assert hardly.notes["verified_micro_f1"] > hardly.notes["micro_f1"] + 0.005
    assert not hardly.is_used


def test_a_label_is_held_against_a_sibling_of_its_group(fitted):
    _, asker = settled(fitted, 0.95)
    siblings = {label: set(labels) - {label} for labels in LABELS.values() for label in labels}
    assert len(asker.rivals) > 20
    assert all(rival in siblings[label] for label, rival in asker.rivals)


def test_no_more_texts_are_asked_about_than_the_taxonomy_allows(fitted):
    dataset, fit, _ = fitted
    for share in (0.05, 0.3):
        found, asker = settled(fitted, 0.95, taxonomy=described(at_most=share))
        assert len({text for text, _ in asker.asked}) <= share * len(fit.rows)
        assert found.notes["share"] <= share
        assert found.notes["share"] > share / 2
        if found.is_used:
            finder = DoubtFinder(found, dataset.taxonomy.graph, fit.manifest.thresholds)
            doubtful = finder.doubtful(
                fit.walked,
                lambda part: decide(dataset.taxonomy, fit.manifest.thresholds, part.paths),
                found.least_doubt,
            )
            assert len(np.unique(doubtful.rows)) <= share * len(fit.rows) + 1


def test_questions_are_bounded_by_the_settings_and_by_a_budget(fitted):
    few, asker = settled(fitted, 0.95, taxonomy=described(at_most="50%", backend={"calibration_rows": 40}))
    assert FEWEST <= len(asker.asked) <= 40
    assert few.notes["asked"] == len(asker.asked)
    priced = {"provider": "openai", "base_url": "https://api.openai.com/v1", "model": "gpt-4.1"}
    paid = described(at_most="50%", backend=priced)
    planned, _ = planned_second_pass(replace(fitted[0], taxonomy=paid))
    _, asker = settled(fitted, 0.95, taxonomy=paid, budget_usd=50 * planned.price.usd)
    assert 30 <= len(asker.asked) <= 60
    found, asker = settled(fitted, 0.95, taxonomy=paid, budget_usd=5 * planned.price.usd)
    assert not asker.asked
    assert not found.is_used
    assert f"{FEWEST} are the fewest" in told_of_verification(found)


def test_labels_without_an_answer_are_counted_and_left_as_they_were(fitted):
    found, asker = settled(fitted, 0.95, silent=lambda text: "refund" in text)
    assert 0 < found.notes["failed"] < len(asker.asked)
    assert found.is_used
    nothing, asker = settled(fitted, 0.95, silent=lambda _: True)
    assert not nothing.is_used
    assert nothing.notes["failed"] == len(asker.asked)


def test_the_same_rows_and_answers_settle_the_same(fitted):
    assert settled(fitted, 0.9)[0] == settled(fitted, 0.9)[0]


def test_siblings_that_were_swapped_and_labels_that_never_meet_are_found(fitted):
    found, _ = settled(fitted, 0.95)
    siblings = {label: set(labels) for labels in LABELS.values() for label in labels}
    dataset, fit, _ = fitted
    manifest = fit.manifest
    cells = labels_out_of_fold(dataset, fit.rows, fit.walked, manifest.thresholds, manifest.exclusive)
    truth, chosen = (dict(zip(dataset.taxonomy.graph.labels, one.dense().T, strict=True)) for one in cells)
    assert found.confused
    for label, sibling, rate in found.confused:
        assert sibling in siblings[label]
        alone = chosen[label] & ~chosen[sibling]
        swapped = alone & ~truth[label] & truth[sibling]
        assert rate == pytest.approx(swapped.sum() / (alone.sum() + 5), abs=1e-5)
    # No row has two labels, and each has some sixty.
    assert len(found.apart) == len(ALL) * (len(ALL) - 1) / 2


def test_a_plan_tells_what_asking_takes_before_anything_is_sent(fitted):
    planned, most = planned_second_pass(fitted[0])
    assert planned.share == pytest.approx(0.3)
    assert most == 120
    assert planned.price.tokens_in > 50
    assert planned.price.questions == 1
    plain = Taxonomy.from_dict({"name": "t", "labels": ALL})
    assert planned_second_pass(Dataset.make(plain, *rows(20))) is None


def test_what_questions_cost_grows_with_their_number(fitted):
    dataset, found, _ = fitted
    priced = {"kind": "prompt", "model": "gpt-4.1-mini"}
    asked = replace(settled(fitted, 0.95)[0], backend=priced)
    verifier = Verifier(dataset.taxonomy, found.manifest, asked)
    doubtful = verifier.asked(
        found.walked,
        lambda part: decide(dataset.taxonomy, found.manifest.thresholds, part.paths),
    )
    walked = checked(asked, found.walked, doubtful, np.full(len(doubtful), 0.5, dtype=np.float32))
    texts = dataset.texts.take(found.rows)
    one = verifier.price(doubtful, texts).usd
    assert len(doubtful) > 50
    assert verifier.usd(walked.checked, texts) == pytest.approx(one * len(doubtful))
    assert verifier.usd(walked.checked.of(np.empty(0, dtype=np.int64)), texts) == 0

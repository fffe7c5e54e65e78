"""Which rows models are asked about that learn from none: evenly, and as many as a budget pays for."""

from __future__ import annotations

import numpy as np
import pytest

from cascade.errors import BackendError, DataError
from cascade.learn.asking import fit_untaught, planned_questions, rows_to_ask, usd_left, usd_of_text
from cascade.learn.datasets import Dataset
from cascade.learn.groups import service_groups
from cascade.learn.thresholds import WORTH_ASKING, route_threshold
from cascade.taxonomy.definition import Taxonomy

LABELS = ("late", "broken", "refund", "invoice")


def dataset(rows=300, **options):
    asked = {"kind": "prompt", "model": "gpt-4.1", "examples": 0, **options}
    groups = {"delivery": {"labels": ["late", "broken"]}, "billing": {"labels": ["refund", "invoice"]}}
    taxonomy = Taxonomy.from_dict({"name": "t", "defaults": {"backend": asked}, "groups": groups})
    labels = [[LABELS[row % 4]] for row in range(rows)]
    texts = [f"{own[0]} and word{row} of line{row * 7}" for row, own in enumerate(labels)]
    return Dataset.make(taxonomy, texts, labels)


def test_no_more_rows_are_asked_about_than_are_worth_it_and_every_label_has_its_share():
    data = dataset(calibration_rows=100)
    asked = rows_to_ask(data, service_groups(data), 0)
    assert 90 <= asked.sum() <= 110
    shares = [sum(asked[place::4]) for place in range(4)]
    assert min(shares) >= 20


def test_all_rows_are_asked_about_where_there_are_few():
    data = dataset(60)
    assert rows_to_ask(data, service_groups(data), 0).all()


def test_a_budget_asks_about_as_many_rows_as_it_pays_for():
    data = dataset()
    services = service_groups(data)
    usd = usd_of_text(planned_questions(data, services, 0))
    assert rows_to_ask(data, services, 0, 1000 * usd).sum() == 300
    assert 100 <= rows_to_ask(data, services, 0, 120 * usd).sum() <= 120
    with pytest.raises(BackendError, match="more than --budget"):
        rows_to_ask(data, services, 0, 10 * usd)


def test_a_budget_pays_for_the_rows_on_which_examples_are_tried():
    data = dataset(examples="auto")
    services = service_groups(data)
    usd = usd_of_text(planned_questions(data, services, 0))
    # Each row is asked about four times at most: with no, four, eight and sixteen examples.
    assert 25 <= rows_to_ask(data, services, 0, 120 * usd).sum() <= 30
    assert rows_to_ask(data, services, 0, 700 * usd).sum() == 300


def test_groups_that_learn_from_rows_are_another_matter():
    data = dataset()
    assert rows_to_ask(data, {}, 0) is None


def test_a_group_that_is_asked_is_entered_where_that_is_worth_a_question():
    path = np.array([0.01, 0.02, 0.6, 0.9], dtype=np.float32)
    truth = np.array([True, False, True, True])
    assert route_threshold(path, truth) == pytest.approx(0.01)
    assert route_threshold(path, truth, WORTH_ASKING) == WORTH_ASKING
    assert route_threshold(path, np.zeros(4, dtype=bool), WORTH_ASKING) == WORTH_ASKING


def test_without_rows_nothing_that_learns_is_made(tmp_path):
    taxonomy = Taxonomy.from_dict({"name": "t", "labels": ["a", "b"]})
    with pytest.raises(DataError, match="no rows, and 1 groups learn from them: top level"):
        fit_untaught(taxonomy, tmp_path / "model")


def test_plain_thresholds_are_those_of_the_taxonomy_or_what_is_likelier_than_not(tmp_path):
    asked = {"kind": "prompt", "model": "gpt-4.1"}
    described = {
        "name": "t",
        "defaults": {"backend": asked},
        "groups": {
            "a": {"labels": [{"name": "x", "threshold": 0.9}, "y"], "groups": {"b": {"labels": ["z"]}}},
            "c": {"route": "always", "labels": ["u", "v"]},
        },
    }
    manifest = fit_untaught(Taxonomy.from_dict(described), tmp_path / "model")
    assert manifest.thresholds == {"x": 0.9, "y": 0.5, "z": 0.5, "u": 0.5, "v": 0.5}
    routes = {name: record.route_threshold for name, record in manifest.groups.items()}
    assert routes == {"": 0.0, "a": 0.5, "b": 0.25, "c": 0.0}
    assert not manifest.is_calibrated


def test_what_is_left_of_a_budget_is_without_what_calibrating_takes():
    data = dataset()
    services = service_groups(data)
    usd = usd_of_text(planned_questions(data, services, 0))
    assert usd_left(data, services, 0, 100 * usd, 60) == pytest.approx(40 * usd)
    assert usd_left(data, services, 0, 100 * usd, 200) == 0
    assert usd_left(data, services, 0, None, 60) is None
    assert usd_left(data, {}, 0, 0.5, 60) == 0.5  # nobody else is asked

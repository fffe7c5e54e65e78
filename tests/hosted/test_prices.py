from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from node_problems import problem_of

from cascade.errors import BackendError
from cascade.hosted import tokens
from cascade.hosted.codecs import codec_of
from cascade.hosted.examples import Examples
from cascade.hosted.prices import EPOCHS_OF_AUTO, Price, Prices, flat_plan, node_plan
from cascade.hosted.questions import Usage
from cascade.hosted.settings import BASE_MODEL, PROVIDERS, Settings

SETTINGS = Settings()
FILE = """
as_of: 2026-05-04
service: http://localhost:9/v1/
batch_factor: 0.25
models:
  small: {training: 2, input: 1, cached: 0.5, output: 4, answers_until: 2027-02-03}
  small-talk: {input: 7, output: 7}
"""


@pytest.fixture(scope="module")
def prices():
    return Prices.load()


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_the_bundled_prices_are_dated_and_of_one_service(prices):
    assert prices.as_of == date(2026, 11, 1)
    assert prices.service == PROVIDERS["openai"].base_url
    assert prices.batch_factor == 0.5
    itself = Price(input=0.4, cached=0.1, output=1.6)
    tuned = Price(training=5.0, input=0.8, cached=0.2, output=3.2, itself=itself)
    assert prices.price_of(f"ft:{BASE_MODEL}") == tuned
    assert prices.price_of(BASE_MODEL) == itself


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-4.1", 2.0),
        ("ft:gpt-4.1-2025-04-14:acme::x", 3.0),
        ("gpt-4.1-mini", 0.4),
        ("gpt-4.1-mini-2025-04-14", 0.4),
        ("ft:gpt-4.1-mini-2025-04-14:acme:shop-billing:AbC123", 0.8),
        ("ft:gpt-4o-mini-2024-07-18:acme::x", 0.3),
        ("gpt-6-luna", 0.1),
    ],
)
def test_a_model_is_known_with_and_without_its_date(prices, model, price):
    assert prices.price_of(model).input == price


@pytest.mark.parametrize(
    "model", ["", "gpt-4", "gpt-4.1-mini-audio", "gpt-4o-audio", "qwen", "ft:", "ft:qwen:a::b", "gpt-4.12"]
)
def test_other_models_have_no_price(prices, model):
    assert prices.price_of(model) is None
    assert prices.training_usd(model, 1000, 3) is None
    assert prices.answer_usd(model, 1000, 1) is None


def test_some_models_end(prices):
    assert prices.ends("ft:gpt-4o-2024-08-06:acme::x") == date(2027, 1, 14)
    assert prices.training_ends("gpt-4.1-mini") == date(2027, 1, 6)
    assert prices.ends("gpt-3.5-turbo-0125") == date(2026, 10, 31)
    assert prices.ends("gpt-6-luna") is None
    assert prices.training_ends("gpt-6-luna") is None


def test_costs_are_tokens_times_prices(prices):
    assert prices.training_usd(BASE_MODEL, 2_000_000, 3) == pytest.approx(30.0)
    assert prices.answer_usd(f"ft:{BASE_MODEL}", 1_000_000, 100_000) == pytest.approx(1.12)
    assert prices.answer_usd(f"ft:{BASE_MODEL}", 1_000_000, 100_000, batch=True) == pytest.approx(0.56)
    assert prices.answer_usd(f"ft:{BASE_MODEL}", 1_000_000, 0, n_cached=500_000) == pytest.approx(0.5)
    assert prices.training_usd("gpt-6-luna", 1000, 1) is None


def test_a_file_of_ones_own_is_read(own_file):
    prices = Prices.load(own_file)
    assert prices.as_of == date(2026, 5, 4)
    assert prices.service == "http://localhost:9/v1"
    assert prices.training_usd("small", 500_000, 2) == 2.0
    assert prices.answer_usd("ft:small", 1_000_000, 0, batch=True) == 0.25
    assert prices.answer_usd("small-talk", 1_000_000, 0, n_cached=1_000_000) == 7.0
    # What its fine-tunes cost says nothing of the model itself.
    assert prices.answer_usd("small", 1_000_000, 0) is None
    assert prices.ends("small") == date(2027, 2, 3)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("- 1", "expected `as_of`, `service` and `models`"),
        ("models: {}", "as_of: expected a day"),
        ("{as_of: 2026-01-01, models: {a: 5}}", "a: expected some of training"),
        ("{as_of: 2026-01-01, models: {a: {train: 5}}}", "a: expected some of training"),
        (
            "{as_of: 2026-01-01, models: {a: {input: -1}}}",
            "a: input: expected a number of 0 or more, found -1",
        ),
        ("{as_of: 2026-01-01, models: {a: {input: yes}}}", "found True"),
        (
            "{as_of: 2026-01-01, models: {a: {itself: 3}}}",
            "a: itself: expected some of input, cached",
        ),
        ("{as_of: 2026-01-01, models: {a: {itself: {training: 3}}}}", "a: itself: expected some of input"),
        ("{as_of: 2026-01-01, models: {a: {itself: {input: -3}}}}", "a: itself: input: expected a number"),
        ("{as_of: 2026-01-01, models: {a: {input: .inf}}}", "found inf"),
        ("{as_of: 2026-01-01, models: {a: {answers_until: soon}}}", "expected a day"),
        ("{as_of: 2026-01-01, batch_factor: half, models: {}}", "batch_factor: expected a number"),
        ("a: [", "expected prices in YAML"),
        (b"\xff\xfe\x00", "expected prices in YAML"),
        (None, "no such file"),
    ],
)
def test_what_is_no_price_is_told_with_its_place(tmp_path, content, complaint):
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BackendError) as caught:
        Prices.load(path)
    assert str(path) in str(caught.value)
    assert complaint in str(caught.value)


# Plans


def plan_of(prices, problem=None, settings=SETTINGS, **given_):
    problem = problem or problem_of(100, 20)
    return node_plan(
        "billing", problem, codec_of(problem.children, {}, "many", settings), settings, prices, **given_
    )


def test_a_plan_is_what_the_examples_would_cost(prices):
    problem = problem_of(100, 20)
    codec = codec_of(problem.children, {}, "many", SETTINGS)
    examples = Examples.of(problem, codec, SETTINGS, problem.seed)
    plan = plan_of(prices, problem)
    assert (plan.group, plan.kind, plan.provider, plan.base_model) == (
        "billing",
        "indicator",
        "openai",
        BASE_MODEL,
    )
    assert (plan.rows, plan.examples) == (100, examples.n_training)
    assert plan.positives == problem.targets.any(axis=1).sum()
    assert plan.training_tokens == examples.tokens
    assert (plan.epochs, plan.epochs_assumed) == (EPOCHS_OF_AUTO, True)
    assert plan.training_usd == prices.training_usd(BASE_MODEL, examples.tokens, EPOCHS_OF_AUTO)
    assert plan.tokens_in == pytest.approx(
        np.mean([tokens.of_request(codec.request(problem.texts[row])) for row in range(100)])
    )
    assert plan.tokens_out == (5 if tokens.is_exact() else 2)
    assert plan.thousand_usd == pytest.approx(
        1000 * prices.answer_usd(f"ft:{BASE_MODEL}", plan.tokens_in, plan.tokens_out)
    )
    assert (plan.ends, plan.why, plan.already) == (date(2027, 1, 14), "", "")


def test_epochs_that_are_given_are_no_assumption(prices):
    plan = plan_of(prices, settings=replace(SETTINGS, hyperparameters={"n_epochs": 2}))
    assert (plan.epochs, plan.epochs_assumed) == (2, False)
    assert plan.training_usd == pytest.approx(prices.training_usd(BASE_MODEL, plan.training_tokens, 2))


def test_a_model_that_is_there_is_not_paid_again(prices):
    for plan in (
        plan_of(prices, already="ft:gpt-4.1-2025-04-14:acme::x"),
        plan_of(prices, settings=replace(SETTINGS, model="ft:gpt-4.1-2025-04-14:acme::x")),
    ):
        assert plan.already == "ft:gpt-4.1-2025-04-14:acme::x"
        assert plan.training_usd == 0.0
        assert plan.thousand_usd == pytest.approx(
            1000 * prices.answer_usd("ft:gpt-4.1", plan.tokens_in, plan.tokens_out)
        )


@pytest.mark.parametrize(
    "settings",
    [
        replace(SETTINGS, provider="nebius"),
        replace(SETTINGS, base_url="http://localhost:9/v1"),
        replace(SETTINGS, base_model="some-model"),
    ],
)
def test_prices_of_other_services_and_models_are_not_known(prices, settings):
    plan = plan_of(prices, settings=settings)
    assert plan.training_usd is None
    assert plan.thousand_usd is None
    assert plan.ends is None
    assert plan.training_tokens > 0


@pytest.mark.parametrize("n_own", [0, 5])
def test_a_group_that_cannot_be_trained_says_why(prices, n_own):
    plan = plan_of(prices, problem_of(n_own, 20))
    assert (plan.examples, plan.training_tokens, plan.training_usd) == (0, 0, None)
    assert "expected 10 training examples" in plan.why
    assert plan.rows == n_own


def test_the_flat_plan_has_all_labels_in_one_answer(prices):
    problem = problem_of(400)
    settings = replace(SETTINGS, answer="indicator", max_examples=50, model="ft:gpt-4.1:a::b")
    plan = flat_plan(list(problem.texts), problem.targets, problem.children, settings, prices)
    assert plan.kind == "names"
    assert plan.already == ""
    assert plan.rows == 400
    assert plan.examples > 300
    assert plan.training_usd > 0
    capped = flat_plan(
        list(problem.texts), problem.targets, problem.children, settings, prices, max_examples=60
    )
    assert capped.examples == 60
    assert capped.training_usd < plan.training_usd


@pytest.mark.parametrize(("batched", "factor"), [(0, 1.0), (10, 0.5), (4, 0.8)])
def test_what_was_used_costs_less_for_what_went_in_batches(batched, factor):
    used = Usage(
        10, prompt_tokens=2_000_000, cached_tokens=500_000, completion_tokens=1_000_000, batched=batched
    )
    whole = 1.5 * 0.80 + 0.5 * 0.20 + 3.20
    assert Prices.load().used_usd("ft:gpt-4.1-mini-2025-04-14:x::1", used) == pytest.approx(whole * factor)
    assert Prices.load().used_usd("somebody's", used) is None
    assert Prices.load().used_usd("gpt-4.1-mini", Usage()) == 0

"""What a taxonomy may say of a model that is asked."""

from __future__ import annotations

import pytest

from cascade.backends import complaints
from cascade.prompt.settings import PromptSettings

LOCAL = {"provider": "compatible", "base_url": "http://127.0.0.1:1/v1", "model": "m"}


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, "expected a model"),
        ({"model": "m", "provider": "compatible"}, "base_url is missing"),
        ({**LOCAL, "batch": True, "answer": "decisions"}, "has no batches"),
        ({**LOCAL, "answer": "words"}, "expected one of auto, number"),
        ({**LOCAL, "examples": 51}, "expected auto or a whole number from 0 to 50"),
        ({**LOCAL, "examples": True}, "expected auto or a whole number"),
        ({**LOCAL, "calibration_rows": 5}, "expected a whole number of 20 or more"),
        ({**LOCAL, "shortlist": 1}, "expected a whole number"),
        ({**LOCAL, "prompt": "no places"}, "the place {choices} is missing"),
        ({**LOCAL, "extra": {"messages": []}}, "'messages' is what Cascade itself says"),
        ({**LOCAL, "epochs": 3}, "has no option 'epochs'"),
        ({**LOCAL, "store": True, "answer": "decisions"}, "'m' is asked by the Decisions API, which keeps"),
        ({"model": "gpt-6-luna", "store": True}, "the Decisions API, which keeps no answers"),
        ({**LOCAL, "store": True, "batch": True}, "batches are found again as they are"),
        ({**LOCAL, "store": True, "extra": {"metadata": {}}}, "'metadata' under `extra` is what `store`"),
        ({**LOCAL, "store": True, "extra": {"store": True}}, "'store' under `extra` is what `store`"),
        ({**LOCAL, "extra": {"store": True, "metadata": {}}}, ""),
        ({**LOCAL, "store": True}, ""),
        ({"model": "gpt-6-luna", "answer": "each", "store": True}, ""),
        ({**LOCAL, "encoder": {"api": "x"}}, "expected the name of an encoder"),
        (LOCAL, ""),
        ({**LOCAL, "examples": "auto", "samples": 5, "extra": {"reasoning_effort": "none"}}, ""),
    ],
)
def test_options_are_checked(options, wrong):
    found = list(complaints("prompt", options))
    assert bool(found) == bool(wrong)
    assert wrong in "".join(found)


@pytest.mark.parametrize(
    ("provider", "model", "children", "choose", "answer"),
    [
        ("openai", "gpt-6-luna", 5, "many", "decisions"),
        ("openai", "gpt-4.1-mini", 5, "one", "number"),
        ("openai", "gpt-4.1-mini", 5, "many", "each"),
        ("openai", "gpt-4.1-mini", 30, "many", "list"),
        ("vllm", "qwen", 5, "one", "number"),
        ("compatible", "reader", 5, "one", "list"),
        ("nebius", "qwen", 5, "many", "list"),
    ],
)
def test_the_strongest_way_of_answering_is_taken(provider, model, children, choose, answer):
    address = {"base_url": "http://127.0.0.1:1/v1"} if provider == "compatible" else {}
    settings = PromptSettings.of({"provider": provider, "model": model, **address})
    assert settings.answer_kind(children, choose) == answer


def test_answers_are_kept_at_the_service_only_where_that_is_said():
    assert not PromptSettings.of(LOCAL).service.store
    assert PromptSettings.of({**LOCAL, "store": True}).service.store


def test_batches_have_no_decisions():
    settings = PromptSettings.of({"model": "gpt-6-luna", "batch": True})
    assert settings.answer_kind(5, "many") == "each"


@pytest.mark.parametrize(
    ("provider", "hold"),
    [
        ("openai", "schema"),
        ("vllm", "choice"),
        ("llamacpp", "grammar"),
        ("crusoe", "plain"),
        ("compatible", "plain"),
    ],
)
def test_the_strongest_means_of_the_service_holds_answers(provider, hold):
    assert PromptSettings.of({"provider": provider, "model": "m"}).holds == hold
    assert PromptSettings.of({"provider": provider, "model": "m", "hold": "schema"}).holds == "schema"


def test_models_that_think_are_told_not_to_unless_something_else_is_said():
    assert PromptSettings.of({"model": "gpt-6-luna"}).extra_of_requests() == {"reasoning_effort": "none"}
    assert PromptSettings.of({"model": "gpt-4.1"}).extra_of_requests() == {}
    said = {"reasoning_effort": "low"}
    assert PromptSettings.of({"model": "gpt-6-luna", "extra": said}).extra_of_requests() == said

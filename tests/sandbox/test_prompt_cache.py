"""Prompts that begin like one that came before are cheaper, as at a real service."""

from __future__ import annotations

import pytest
from prompts_to_read import held, strict
from sandbox_helpers import BASE, connected, requests_seen

from cascade.sandbox.prompt_cache import BLOCK_TOKENS, LEAST_TOKENS, PromptCache
from cascade.sandbox.tokens import count_messages

LONG = " ".join(f"number {at} of the instructions" for at in range(400))


def prompt(text, system=LONG):
    return [{"role": "system", "content": system}, {"role": "user", "content": text}]


def cached(cache, messages, model="m", before=None):
    return cache.cached(model, messages, count_messages([one["content"] for one in messages]), before)


@pytest.mark.parametrize("model", ["reader", BASE])
def test_the_second_prompt_that_begins_the_same_is_cached_for_any_model(tmp_path, model):
    with connected(tmp_path) as (process, client):
        usages = [
            client.chat.completions.create(model=model, messages=prompt(text)).usage
            for text in ("one", "two")
        ]
        assert requests_seen(process.address)["usage"][model]["cached_tokens"] > LEAST_TOKENS
    first, second = (usage.prompt_tokens_details.cached_tokens for usage in usages)
    assert first == 0
    assert second >= LEAST_TOKENS
    assert (second - LEAST_TOKENS) % BLOCK_TOKENS == 0
    assert usages[1].prompt_tokens - 2 * BLOCK_TOKENS < second < usages[1].prompt_tokens


def test_decisions_have_cached_tokens_too(tmp_path):
    asked = [{"type": "predicate", "instructions": "It is long."}]
    with connected(tmp_path) as (_, client):
        found = [
            client.decisions.create(model="reader", input=prompt(text), questions=asked).usage
            for text in ("one", "two")
        ]
    assert found[0].input_tokens_details.cached_tokens == 0
    assert LEAST_TOKENS <= found[1].input_tokens_details.cached_tokens < found[1].input_tokens


def test_only_what_stands_at_the_beginning_is_cached():
    cache = PromptCache()
    assert cached(cache, prompt("a")) == 0
    whole = cached(cache, prompt("b"))
    half = len(LONG) // 2
    other = LONG[:half] + "else" + LONG[half:]
    assert LEAST_TOKENS <= cached(cache, prompt("b", other)) < whole
    assert cached(cache, prompt("b", "else " + LONG)) == 0
    assert cached(cache, prompt("b"), model="other") == 0
    assert cached(cache, prompt("b"), before=held(strict({}))) == 0
    assert cached(cache, prompt("b"), before=held(strict({}))) == whole


def test_short_prompts_are_never_cached():
    cache = PromptCache()
    assert [cached(cache, prompt("a", "short")) for _ in range(3)] == [0, 0, 0]


def test_what_was_not_used_for_ten_minutes_is_forgotten_and_what_was_is_not():
    now = [0.0]
    cache = PromptCache(clock=lambda: now[0])
    found = []
    for minutes in (0, 9, 18, 29):
        now[0] = minutes * 60.0
        found.append(cached(cache, prompt("a")) > 0)
    assert found == [False, True, True, False]


def test_memory_is_bounded():
    cache = PromptCache(most=20)
    for at in range(50):
        cached(cache, prompt("a", f"{at} {LONG}"))
    assert cached(cache, prompt("a", f"0 {LONG}")) == 0
    assert cached(cache, prompt("a", f"0 {LONG}")) > 0
    assert len(cache) <= 20

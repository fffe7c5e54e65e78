from __future__ import annotations

import httpx2
import openai
import pytest

from cascade.backends import complaints
from cascade.errors import BackendError
from cascade.hosted.client import connect, key_of
from cascade.hosted.service_errors import service_error
from cascade.hosted.settings import PROVIDERS, Settings, conflicts

ADDRESS = "https://here/v1"
SECRET = "sk-abcdefghijklmnop"


def status_error(status, body, **headers):
    """What the package makes of a response."""
    request = httpx2.Request("POST", f"{ADDRESS}/chat/completions")
    response = httpx2.Response(status, json=body, headers=headers, request=request)
    client = openai.OpenAI(api_key="x", base_url=ADDRESS)
    return client._make_status_error_from_response(response)


def error(code, message="no"):
    return {"error": {"message": message, "type": "some", "param": None, "code": code}}


# Settings


def test_options_become_settings_with_their_defaults():
    settings = Settings.of({"provider": "nebius", "limits": {"rpm": 600}})
    assert settings.address == "https://api.tokenfactory.nebius.com/v1"
    assert (settings.limits.rpm, settings.limits.tpm) == (600, None)
    assert settings.service == (settings.address, "OPENAI_API_KEY")
    assert (settings.top_logprobs, Settings.of({"format": "completion"}).top_logprobs) == (20, 5)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"provider": "opnai"}, "Did you mean 'openai'"),
        ({"base_url": "here"}, "expected an address"),
        ({"base_url": "https://me:word@here/v1"}, "without a name and password"),
        ({"api_key_env": SECRET}, "the key itself must not stand in a file"),
        ({"concurrency": 0}, "1 or more"),
        ({"max_examples": True}, "10 or more"),
        ({"limits": {"rps": 1}}, "expected rpm, tpm or both"),
        ({"limits": {"rpm": 0}}, "rpm: expected a whole number"),
        ({"hyperparameters": {"n_epochs": [3]}}, "at 'n_epochs'"),
        ({"hyperparameters": {"learning_rate_multiplier": float("nan")}}, "at 'learning_rate_multiplier'"),
        ({"suffix": "a b"}, "letters, digits"),
        ({"model": " "}, "expected a text"),
        ({"modle": "x"}, "Did you mean 'model'"),
        ({"provider": "compatible"}, "base_url is missing"),
        ({"provider": "azure", "base_url": ADDRESS, "suffix": "a.b"}, "no dots in a suffix"),
    ],
)
def test_what_is_wrong_with_options_is_told(options, complaint):
    (told,) = complaints("openai", options)
    assert complaint in told
    assert SECRET not in told


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_provider_can_be_named(provider):
    assert conflicts({"provider": provider, "base_url": ADDRESS}) == ""


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, ""),
        ({"format": "completion"}, "only answers to chat messages are kept"),
        ({"batch": True}, "batches are found again as they are"),
    ],
)
def test_answers_are_kept_at_the_service_where_they_can_be(options, wrong):
    found = conflicts({"store": True, **options})
    assert bool(found) == bool(wrong)
    assert wrong in found
    assert conflicts(options) == ""


# Clients


def test_the_key_comes_from_the_named_variable_and_its_lack_is_told(monkeypatch):
    settings = Settings.of({"base_url": ADDRESS, "api_key_env": "SOME_KEY"})
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(BackendError, match=r"https://here/v1: no key: .*SOME_KEY is not set"):
        key_of(settings)
    monkeypatch.setenv("SOME_KEY", f" {SECRET}\n")
    client = connect(settings)
    assert (client.api_key, str(client.base_url), client.max_retries) == (SECRET, f"{ADDRESS}/", 0)


# Errors


@pytest.mark.parametrize(
    ("status", "code", "said", "trouble"),
    [
        (400, "invalid_value", "no", "invalid"),
        (401, "invalid_api_key", "no", "forbidden"),
        (402, "", "pay", "quota"),
        (403, "training_not_available", "no", "forbidden"),
        (404, "model_not_found", "no", "missing"),
        (408, "", "slow", "lost"),
        (409, "conflict", "no", "invalid"),
        (422, "", "no", "invalid"),
        (429, "rate_limit_exceeded", "slower", "limit"),
        (429, "daily_rate_limit_exceeded", "tomorrow", "daily"),
        (429, "rate_limit_exceeded", "The model is still being loaded", "loading"),
        (429, "insufficient_quota", "pay", "quota"),
        (500, "", "oh", "broken"),
        (503, "server_is_overloaded", "later", "overloaded"),
    ],
)
def test_what_a_service_answers_is_understood(status, code, said, trouble):
    found = service_error(status_error(status, error(code, said)), ADDRESS)
    assert (found.trouble, found.status) == (trouble, status)
    assert str(found).startswith(f"{ADDRESS}: {status}")


def test_every_error_of_the_package_is_understood():
    request = httpx2.Request("POST", ADDRESS)
    made = {
        openai.APITimeoutError: lambda: openai.APITimeoutError(request),
        openai.APIConnectionError: lambda: openai.APIConnectionError(request=request),
        openai.APIResponseValidationError: lambda: openai.APIResponseValidationError(
            httpx2.Response(200, request=request), None
        ),
    }
    for make in made.values():
        assert service_error(make(), ADDRESS).trouble in {"lost", "broken"}
    response = httpx2.Response(418, request=request)
    for kind in openai.APIStatusError.__subclasses__():
        assert service_error(kind("no", response=response, body=None), ADDRESS).trouble


def test_errors_of_others_pass_through():
    with pytest.raises(ZeroDivisionError):
        service_error(ZeroDivisionError(), ADDRESS)


def test_no_message_has_a_key_or_what_a_service_quotes():
    row = "my neighbour's cat ate the parcel that I was waiting for since monday"
    said = f"Incorrect key provided: {SECRET}. Invalid content: '{row}'"
    for status in (400, 401, 403, 404, 422, 429, 500):
        told = str(service_error(status_error(status, error("some", said)), ADDRESS))
        assert SECRET not in told
        assert "cat" not in told


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_the_pause_that_a_service_asks_for(headers, seconds):
    assert service_error(status_error(429, error("slow_down"), **headers), ADDRESS).retry_after == seconds


def test_the_way_out_of_closed_training_is_told():
    told = str(service_error(status_error(403, error("training_not_available")), ADDRESS))
    assert "cascade export" in told
    assert "backend: linear" in told

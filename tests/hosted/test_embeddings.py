"""Encoders at a service, asked of the sandbox."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess

import httpx2
import numpy as np
import pytest
from openai import OpenAI
from processes import command, environment
from sandbox_helpers import sandbox
from shop import SHOP, shop_rows
from tiny_encoders import MEANINGS, rows_of

from cascade import Cascade
from cascade.backends import complaints
from cascade.encoders.vectors import vectors_of
from cascade.errors import BackendError
from cascade.hosted.asker import shared_asker
from cascade.hosted.embeddings import ApiEncoder
from cascade.hosted.prices import Prices
from cascade.learn.fit import fit
from cascade.taxonomy.definition import Taxonomy

MODEL = "text-embedding-3-small"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running.address


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SANDBOX_KEY", "sk-not-a-real-key")


def described(service, **more):
    return {"api": MODEL, "provider": "compatible", "base_url": service, "api_key_env": "SANDBOX_KEY", **more}


def requests_at(service):
    told = httpx2.get(
        f"{service.removesuffix('/v1')}/sandbox/requests", headers={"authorization": "Bearer x"}
    )
    return told.json()["requests"].get("POST /v1/embeddings", 0)


# The sandbox


@pytest.mark.parametrize("form", ["float", "base64"])
def test_the_sandbox_answers_the_official_client(service, form):
    client = OpenAI(base_url=service, api_key="any", max_retries=0)
    texts = ["a refund", "the parcel"]
    found = client.embeddings.create(model=MODEL, input=texts, dimensions=64, encoding_format=form)
    assert (found.object, found.model) == ("list", MODEL)
    assert [(one.object, one.index) for one in found.data] == [("embedding", 0), ("embedding", 1)]
    assert found.usage.prompt_tokens == found.usage.total_tokens > 2
    told = found.data[0].embedding
    vector = np.frombuffer(base64.b64decode(told), "<f4") if form == "base64" else np.array(told)
    assert len(vector) == 64
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "unknown", "input": "x"}, 404),
        ({"model": MODEL, "input": ""}, 400),
        ({"model": MODEL, "input": []}, 400),
        ({"model": MODEL, "input": [1]}, 400),
        ({"model": MODEL, "input": "word " * 9000}, 400),
        ({"model": MODEL, "input": "x", "dimensions": 5000}, 400),
        ({"input": "x"}, 400),
    ],
)
def test_the_sandbox_refuses_what_the_service_would(service, body, status):
    answer = httpx2.post(f"{service}/embeddings", json=body, headers={"authorization": "Bearer any"})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


# The encoder


def test_texts_that_share_words_get_near_vectors_of_unit_length(service):
    encoder = ApiEncoder.of(described(service, dimensions=128))
    texts = [f"a refund for order {number}" for number in range(300)] + ["sunny weather tomorrow"]
    found = encoder.encode(texts)
    assert found.shape == (301, 128)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(301), abs=1e-5)
    assert found[0] @ found[1] > found[0] @ found[300]
    assert encoder.encode([texts[7]])[0] == pytest.approx(found[7], abs=1e-6)


def test_how_long_vectors_are_is_asked_where_nobody_says(service):
    assert ApiEncoder.of(described(service)).dims == 1536


def test_no_text_is_paid_for_twice(service):
    encoder = ApiEncoder.of(described(service, dimensions=32))
    texts = [f"text {number}" for number in range(200)]
    vectors_of(encoder, texts)
    before = requests_at(service)
    vectors_of(encoder, [*reversed(texts), "", "text 7"])
    assert requests_at(service) == before
    vectors_of(encoder, [*texts, "a new one"])
    assert requests_at(service) == before + 1


def test_tokens_are_counted_and_have_a_price(service):
    used = shared_asker().usage().get(MODEL)
    before = used.prompt_tokens if used else 0
    ApiEncoder.of(described(service, dimensions=16)).encode(["how much is this"])
    used = shared_asker().usage()[MODEL]
    assert used.prompt_tokens > before
    assert Prices.load().used_usd(MODEL, used) > 0


def test_a_service_that_does_not_know_the_model_is_told_of(service):
    with pytest.raises(BackendError, match="does not exist"):
        ApiEncoder.of({**described(service), "api": "unknown"}).encode(["x"])


def test_another_length_than_the_model_was_fitted_with_is_refused(service):
    encoder = ApiEncoder.of(described(service), expected=100)
    with pytest.raises(BackendError, match="gave vectors of 1536 numbers, expected 100"):
        encoder.encode(["x"])


def test_address_model_and_dimensions_tell_which_encoder_it_is(service):
    one = ApiEncoder.of(described(service, dimensions=16))
    assert one.sha256 == ApiEncoder.of(described(service, dimensions=16), expected=16).sha256
    others = [
        described(service, dimensions=17),
        described("http://localhost:1/v1", dimensions=16),
        described(service, dimensions=16, prefix="query: "),
        {**described(service, dimensions=16), "api": "other"},
    ]
    assert len({one.sha256, *(ApiEncoder.of(other).sha256 for other in others)}) == 5


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"api": ""}, "api: expected the name of a model"),
        ({"provider": "openai"}, "api: expected the name of a model"),
        ({"api": MODEL, "dimension": 3}, "unknown key 'dimension', expected .* Did you mean 'dimensions'"),
        ({"api": MODEL, "dimensions": 0}, "dimensions: expected a whole number"),
        ({"api": MODEL, "dimensions": True}, "dimensions: expected a whole number"),
        ({"api": MODEL, "prefix": 3}, "prefix: expected a text"),
        ({"api": MODEL, "provider": "compatible"}, "base_url is missing"),
        ({"api": MODEL, "base_url": "ftp://x"}, "base_url: expected an address"),
        (7, "expected the name of an encoder"),
    ],
)
def test_what_is_wrong_with_a_description_is_told(value, told):
    [found] = complaints("linear", {"encoder": value})
    assert re.search(told, found), found


# A model with one


def test_a_model_is_fitted_and_answers_with_the_vectors_of_a_service(service, tmp_path):
    texts, labels = shop_rows(150, seed=0)
    taxonomy = {
        **SHOP,
        "data": {"train": "train.jsonl"},
        "defaults": {"backend": {"kind": "linear", "encoder": described(service, dimensions=64)}},
    }
    (tmp_path / "shop.yaml").write_text(json.dumps(taxonomy))
    lines = (json.dumps({"text": text, "labels": own}) for text, own in zip(texts, labels, strict=True))
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "new.jsonl").write_text('{"text": "money returned please, and lovely thanks"}\n')

    def run(*words, **changes):
        done = subprocess.run(
            command(*words),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environment(**{"SANDBOX_KEY": "sk-not-a-real-key", **changes}),
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    fitted = run("fit", "shop.yaml", "--jobs", "2")
    assert fitted.returncode == 0, fitted.stderr
    assert f"encoder ({MODEL}): " in fitted.stderr
    assert "price not known" in fitted.stderr
    before = requests_at(service)
    again = run("fit", "shop.yaml", "--jobs", "2")
    assert "0 groups fitted" in again.stdout
    assert requests_at(service) == before
    answered = run("predict", "new.jsonl", "--jobs", "1")
    assert "refund" in json.loads(answered.stdout)["labels"]
    assert requests_at(service) == before + 1
    nobody = run("predict", "train.jsonl", CASCADE_HOME=str(tmp_path / "none"), SANDBOX_KEY="")
    assert nobody.returncode == 1
    assert "no key: the environment variable SANDBOX_KEY is not set" in nobody.stderr
    assert os.environ["SANDBOX_KEY"] not in (tmp_path / "models" / "shop" / "manifest.json").read_text()


def test_a_service_is_asked_only_about_texts_that_words_leave_in_doubt(service, tmp_path):
    groups = {"things": {"labels": ["money", "post"]}, "moods": {"labels": ["angry", "sun"]}}
    backend = {"kind": "linear", "encoder": described(service, dimensions=16)}
    taxonomy = Taxonomy.from_dict({"name": "paid", "defaults": {"backend": backend}, "groups": groups})
    learned = rows_of(MEANINGS, 1200, seed=0)
    fit(taxonomy, *learned, tmp_path / "model")
    model = Cascade.load(tmp_path / "model")
    before = requests_at(service)
    texts, labels = rows_of(MEANINGS, 20, seed=1)
    assert set(texts) - set(learned[0])  # not all vectors are kept
    assert model.predict(texts) == labels
    assert requests_at(service) == before
    model.predict([*texts, "an unheard of thing"])
    assert requests_at(service) == before + 1

"""Weights that a fine-tune begins with: how they come here, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
from package_index import served
from processes import command, environment
from tiny_encoders import HIDDEN, bert_folder, bert_weights, onnx_folder, safetensors, tokenizer

from cascade.encoders import fetching, register, store
from cascade.encoders.settings import TO_TRAIN
from cascade.errors import BackendError, ModelError


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))


def test_weights_of_a_folder_are_taken_with_what_its_files_say(tmp_path):
    stored = fetching.add(bert_folder(tmp_path / "bert"), "tiny", to_train=True)
    settings = stored.settings
    assert (settings.kind, settings.dims, settings.longest) == ("transformer", HIDDEN, 16)
    assert settings.files.keys() == {"config.json", "model.safetensors", "tokenizer.json"}
    folder, found = store.weights("tiny")
    assert found.settings == settings
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == HIDDEN


def test_weights_and_the_encoder_of_one_name_lie_side_by_side(tmp_path):
    fetching.add(bert_folder(tmp_path / "bert"), "tiny", to_train=True)
    fetching.add(onnx_folder(tmp_path / "onnx"), "tiny")
    assert store.opened("tiny").encode(["refund"]).shape == (1, 8)
    assert store.weights("tiny")[1].settings.kind == "transformer"
    store.remove("tiny")
    assert store.names().keys() == {f"tiny{TO_TRAIN}"}


def test_weights_encode_nothing(tmp_path):
    fetching.add(bert_folder(tmp_path / "bert"), "tiny", to_train=True)
    with pytest.raises(BackendError, match=r"weights to train.*kind: encoder, base: tiny"):
        store.opened(f"tiny{TO_TRAIN}")


def test_absent_weights_are_told_with_the_command_that_brings_them():
    with pytest.raises(BackendError, match="Run: cascade encoders get minilm --to-train"):
        store.weights("minilm")
    with pytest.raises(
        BackendError, match=r"Did you mean 'minilm'\? `cascade encoders get OWNER/NAME --to-train`"
    ):
        store.weights("minilmm")
    with pytest.raises(BackendError, match="'wordllama' cannot be trained"):
        store.weights("wordllama")


def test_changed_weights_are_not_trained(tmp_path):
    fetching.add(bert_folder(tmp_path / "bert"), "tiny", to_train=True)
    folder, _ = store.weights("tiny")
    (folder / "model.safetensors").write_bytes(safetensors(bert_weights(seed=1)))
    with pytest.raises(ModelError, match=r"model.safetensors: changed since it was fetched"):
        store.weights("tiny")


def test_weights_are_verified_as_encoders_are(tmp_path):
    fetching.add(bert_folder(tmp_path / "bert"), "tiny", to_train=True)
    fetching.add(onnx_folder(tmp_path / "onnx"), "tiny")
    words = command("encoders", "verify", "--json")
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    assert {one["name"] for one in json.loads(done.stdout)["verified"]} == {"tiny", f"tiny{TO_TRAIN}"}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"auto_map": {"AutoModel": "modeling.Own"}}, "would run code of its own"),
        ({"hidden_size": None}, "expected hidden_size and model_type"),
        ({"hidden_size": 77}, "expected weights of 77 dims"),
    ],
)
def test_weights_that_are_none_of_a_plain_transformer_are_refused(tmp_path, config, told):
    with pytest.raises(ModelError, match=told):
        fetching.add(bert_folder(tmp_path / "bert", config), "tiny", to_train=True)
    assert store.names() == {}


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_half_a_folder_is_refused(tmp_path, missing):
    folder = bert_folder(tmp_path / "bert")
    (folder / missing).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelError, match=rf"expected {missing} of weights to train.*is a pickle"):
        fetching.add(folder, "tiny", to_train=True)


def test_half_a_file_of_weights_is_refused(tmp_path):
    folder = bert_folder(tmp_path / "bert")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model.safetensors: expected a file of safetensors"):
        fetching.add(folder, "tiny", to_train=True)


def test_weights_of_the_hub_are_fetched_and_nothing_else(monkeypatch):
    with served() as place:
        monkeypatch.setenv("HF_ENDPOINT", place.address)
        place.repositories["acme/Tiny-Bert"] = {
            "config.json": json.dumps({"model_type": "bert", "hidden_size": HIDDEN}).encode(),
            "model.safetensors": safetensors({"weight": np.zeros((HIDDEN, 4), dtype=np.float32)}),
            "tokenizer.json": json.dumps(tokenizer()).encode(),
            "onnx/model.onnx": b"not needed",
        }
        words = ("encoders", "get", "acme/Tiny-Bert", "--to-train", "--json")
        done = subprocess.run(command(*words), capture_output=True, text=True, env=environment(), check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["name"] == "tiny-bert.base"
        assert "{kind: encoder, base: tiny-bert}" not in done.stdout
        assert not any("onnx" in path for _, path, _ in place.asked)
    assert store.weights("tiny-bert")[1].settings.dims == HIDDEN


def test_the_register_tells_where_weights_come_from():
    known = register.weights_of("minilm")
    assert known is not None
    assert known.settings["kind"] == "transformer"
    assert all(len(file.sha256) == 64 for source in known.sources for file in source.files.values())
    assert register.weights_of("wordllama") is None
    on_hub = register.weights_of("bge-small")
    assert on_hub is not None
    assert on_hub.name == "bge-small.base"
    with pytest.raises(BackendError, match=r"cannot be trained: it has no weights.*minilm"):
        fetching.get("wordllama", os.devnull.count, to_train=True)

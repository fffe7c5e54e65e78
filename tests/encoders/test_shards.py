"""Weights that lie in several files: how they come here, and what is refused."""

from __future__ import annotations

import json
import subprocess

import numpy as np
import pytest
from package_index import served
from processes import command, environment
from small_disks import small_disk
from tiny_encoders import (
    BERT,
    HIDDEN,
    INDEX,
    SHARDS,
    bert_weights,
    in_shards,
    safetensors,
    sharded_folder,
    tokenizer,
)

from cascade.encoders import fetching, store
from cascade.encoders.files import digest_of
from cascade.errors import ModelError

ALL = {"config.json", "tokenizer.json", INDEX, *SHARDS}


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))


@pytest.fixture
def hub(monkeypatch):
    """A hub with weights in two files."""
    with served() as place:
        monkeypatch.setenv("HF_ENDPOINT", place.address)
        place.repositories["acme/Large-Bert"] = {
            "config.json": json.dumps(BERT).encode(),
            "tokenizer.json": json.dumps(tokenizer()).encode(),
            "README.md": b"# not needed",
            "model-00003-of-00002.safetensors": b"not named",
            "pytorch_model-00001-of-00001.bin": b"a pickle",
            **in_shards(bert_weights()),
        }
        place.large = set(SHARDS)
        yield place


def run(*words):
    return subprocess.run(
        command("encoders", *words), capture_output=True, text=True, env=environment(), check=False
    )


def fetched(place):
    """The files that were asked for, each as often as its bytes went out."""
    paths = [path.split("?")[0] for verb, path, _ in place.asked if verb == "GET" and "/resolve/" in path]
    return sorted(path.rsplit("/", 1)[1] for path in paths)


def reindexed(folder, **files):
    """Let the index of a folder name other files for some of its tensors."""
    told = json.loads((folder / INDEX).read_bytes())
    told["weight_map"] |= files
    (folder / INDEX).write_text(json.dumps(told))
    return folder


def add(folder):
    return fetching.add(folder, "tiny", to_train=True)


def refused(folder, match):
    with pytest.raises(ModelError, match=match):
        add(folder)
    assert store.names() == {}


def test_weights_in_two_files_are_taken_whole(tmp_path):
    source = sharded_folder(tmp_path / "bert")
    stored = add(source)
    assert stored.settings.files == {name: digest_of(source / name) for name in ALL}
    assert (stored.settings.kind, stored.settings.model, stored.settings.dims) == (
        "transformer",
        INDEX,
        HIDDEN,
    )
    folder, _ = store.weights("tiny")
    assert {one.name for one in folder.iterdir()} == {*ALL, store.RECORD}


def test_one_file_of_weights_goes_before_an_index(tmp_path):
    source = sharded_folder(tmp_path / "bert")
    (source / "model.safetensors").write_bytes(safetensors(bert_weights()))
    assert add(source).settings.files.keys() == {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("shard", SHARDS)
def test_every_file_is_verified(tmp_path, shard):
    add(sharded_folder(tmp_path / "bert"))
    assert run("verify").returncode == 0
    folder, _ = store.weights("tiny")
    content = bytearray((folder / shard).read_bytes())
    content[-1] ^= 1
    (folder / shard).write_bytes(content)
    done = run("verify")
    assert done.returncode == 1
    assert f"{shard}: changed since it was fetched" in done.stderr
    with pytest.raises(ModelError, match=f"{shard}: changed since it was fetched"):
        store.weights("tiny")
    (folder / shard).unlink()
    assert f"{shard}: missing" in run("verify").stderr


@pytest.mark.parametrize(
    "name",
    ["../other.safetensors", "/etc/other.safetensors", "sub/other.safetensors", "..", "", ".safetensors"],
)
def test_an_index_that_names_files_outside_its_folder_is_refused(tmp_path, name):
    (tmp_path / "other.safetensors").write_bytes(safetensors(bert_weights()))
    folder = sharded_folder(tmp_path / "bert")
    (folder / "sub").mkdir()
    (folder / "sub" / "other.safetensors").write_bytes(safetensors(bert_weights()))
    refused(
        reindexed(folder, **{"pooler.dense.bias": name}),
        rf"{INDEX} names {name!r}: expected plain names of files of safetensors, which lie in its folder",
    )


def test_an_index_that_names_a_pickle_is_refused(tmp_path):
    folder = sharded_folder(tmp_path / "bert")
    (folder / "more.bin").write_bytes(b"a pickle")
    refused(
        reindexed(folder, **{"pooler.dense.bias": "more.bin"}),
        r"names 'more\.bin': a pickle, which could run any code when it is read\. Not taken",
    )


def test_an_index_of_pickles_alone_is_refused(tmp_path):
    folder = sharded_folder(tmp_path / "bert")
    (folder / INDEX).rename(folder / "pytorch_model.bin.index.json")
    for shard in SHARDS:
        (folder / shard).rename((folder / shard).with_suffix(".bin"))
    refused(folder, r"expected model\.safetensors of weights to train, found none\. .*\.bin is a pickle")


@pytest.mark.parametrize("shard", SHARDS)
def test_a_missing_file_is_told(tmp_path, shard):
    folder = sharded_folder(tmp_path / "bert")
    (folder / shard).unlink()
    refused(folder, rf"expected {shard}, which {INDEX} names, found none \(1 of 2 files are missing\)")


def test_half_a_file_is_refused(tmp_path):
    folder = sharded_folder(tmp_path / "bert")
    content = (folder / SHARDS[1]).read_bytes()
    (folder / SHARDS[1]).write_bytes(content[: len(content) // 2])
    refused(folder, rf"{SHARDS[1]}: expected a file of safetensors")


def test_a_file_without_a_tensor_that_the_index_finds_there_is_refused(tmp_path):
    folder = reindexed(sharded_folder(tmp_path / "bert"), **{"no.such.weight": SHARDS[0]})
    refused(folder, rf"{SHARDS[0]}: expected the tensor 'no\.such\.weight', as {INDEX} says; found none")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"weight_map": {"a": "mod', "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b"[]", "expected a weight_map"),
        (b'{"weight_map": {}}', "expected a weight_map"),
        (b'{"weight_map": {"a": 1}}', "expected a weight_map"),
    ],
    ids=["half", "deep", "list", "empty", "numbers"],
)
def test_what_is_no_index_is_refused(tmp_path, content, told):
    folder = sharded_folder(tmp_path / "bert")
    (folder / INDEX).write_bytes(content)
    refused(folder, f"{INDEX}: {told}")


# The hub


def test_the_hub_is_asked_for_the_files_that_the_index_names_and_no_others(hub):
    done = run("get", "acme/Large-Bert", "--to-train", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["dims"] == HIDDEN
    assert fetched(hub) == sorted(ALL)
    folder, stored = store.weights("large-bert")
    for name in SHARDS:
        assert (folder / name).read_bytes() == hub.repositories["acme/Large-Bert"][name]
    assert stored.settings.files.keys() == ALL


@pytest.mark.parametrize("large", [True, False], ids=["large", "small"])
def test_a_file_of_other_bytes_than_the_hub_promised_is_refused(hub, large):
    hub.large = set(SHARDS) if large else set()
    hub.lies[SHARDS[1]] = hub.repositories["acme/Large-Bert"][SHARDS[1]][:-1] + b"?"
    done = run("get", "acme/Large-Bert", "--to-train")
    assert done.returncode == 1
    assert f"acme/Large-Bert: {SHARDS[1]}: expected the hash" in done.stderr
    assert store.names() == {}
    hub.lies.clear()
    hub.asked.clear()
    assert run("get", "acme/Large-Bert", "--to-train").returncode == 0
    assert SHARDS[0] not in fetched(hub)


def test_an_index_of_the_hub_that_names_other_places_brings_none_of_the_weights(hub):
    files = hub.repositories["acme/Large-Bert"]
    told = json.loads(files[INDEX])
    told["weight_map"]["pooler.dense.bias"] = "../../../../etc/other.safetensors"
    files[INDEX] = json.dumps(told).encode()
    done = run("get", "acme/Large-Bert", "--to-train")
    assert done.returncode == 1
    assert "expected plain names of files of safetensors" in done.stderr
    assert fetched(hub) == [INDEX]
    assert store.names() == {}


def test_a_hub_without_one_of_the_files_is_told_before_the_others_are_fetched(hub):
    del hub.repositories["acme/Large-Bert"][SHARDS[0]]
    done = run("get", "acme/Large-Bert", "--to-train")
    assert done.returncode == 1
    assert f"acme/Large-Bert: expected {SHARDS[0]}, which {INDEX} names" in done.stderr
    assert fetched(hub) == [INDEX]


def test_large_weights_need_the_room_of_one_copy_while_they_come(hub, tmp_path, monkeypatch):
    weights = bert_weights() | {f"large.{number}": np.ones(500_000, np.float32) for number in range(2)}
    hub.repositories["acme/Large-Bert"] |= in_shards(weights)
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "disk"))
    with small_disk(tmp_path / "disk", "6m"):
        done = run("get", "acme/Large-Bert", "--to-train")
        assert done.returncode == 0, done.stderr
        folder, _ = store.weights("large-bert")
        assert (folder / SHARDS[1]).stat().st_nlink == 1
        assert not (store.place() / ".unfinished" / "large-bert.base").exists()

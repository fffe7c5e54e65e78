"""What encoders make of texts."""

from __future__ import annotations

import contextlib
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoders import (
    DIMS,
    MEANINGS,
    gather,
    onnx_folder,
    sociable,
    static_folder,
    table,
    vocabulary,
)

from cascade.encoders import fetching, store, vector_cache
from cascade.encoders.contract import SAME, Nobody, counts, listen
from cascade.encoders.vector_cache import VectorCache
from cascade.encoders.vectors import vectors_of
from cascade.errors import BackendError, ModelError

# The user's own store, before tests get one of theirs.
REAL = store.place()
HERE = store.names()
WORDS = [word for group in MEANINGS.values() for word in group] + [
    "the",
    "my",
    "please",
    "again",
    "xylophone",
    "!",
]
TEXTS = st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join)


class Listener:
    def __init__(self):
        self.steps, self.lines = [], []

    def at(self, done, total):
        self.steps.append((done, total))

    def say(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module")
def tiny(home, tmp_path_factory):
    """The tiny network, added to the store of this file's tests."""
    fetching.add(onnx_folder(tmp_path_factory.mktemp("onnx") / "tiny"), "tiny")
    return store.opened("tiny")


@pytest.fixture(scope="module")
def tables(home, tmp_path_factory):
    """The same as a table of tokens."""
    fetching.add(static_folder(tmp_path_factory.mktemp("static") / "tables"), "tables")
    return store.opened("tables")


@pytest.fixture(params=["tiny", "tables"])
def encoder(request):
    return request.getfixturevalue(request.param)


def variant(encoder, **changes):
    """The same files used in another way."""
    changed = replace(encoder.stored.settings, **changes)
    return type(encoder)(encoder.folder, replace(encoder.stored, settings=changed))


def test_words_of_one_meaning_are_near_and_others_are_not(encoder):
    refund, cash, rain = encoder.encode(["my refund", "cash please", "rain again"])
    assert refund @ cash > 0.7
    assert abs(refund @ rain) < 0.3


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(TEXTS, min_size=1, max_size=80), threads=st.integers(1, 3))
def test_a_text_has_the_same_vector_of_unit_length_whatever_stands_beside_it(tiny, tables, texts, threads):
    for encoder in (tiny, tables):
        found = encoder.encode(texts, threads)
        assert found.shape == (len(texts), DIMS)
        assert found.dtype == np.float32
        lengths = np.linalg.norm(found, axis=1)
        assert ((abs(lengths - 1) < 1e-5) | (lengths == 0)).all()
        place = len(texts) // 2
        assert np.abs(found[place] - encoder.encode([texts[place]])[0]).max() <= SAME


def test_the_vector_of_a_network_is_the_pooled_one_of_its_tokens(tiny):
    words, rows = vocabulary(), table()
    tokens = rows[[words[one] for one in ("[CLS]", "my", "refund", "[SEP]")]]
    for pooling, expected in {
        "mean": tokens.mean(axis=0),
        "max": tokens.max(axis=0),
        "cls": tokens[0],
        "last": tokens[-1],
    }.items():
        found = variant(tiny, pooling=pooling).encode(["my refund", "the weather is what it is"])[0]
        assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6), pooling


def test_a_network_that_pools_itself_is_taken_at_its_word(home, tmp_path):
    from tiny_encoders import network, node, number_attribute, tensor

    lookup = node("Gather", ["table", "input_ids"], ["found"])
    axes = tensor("axes", np.array([1]))
    most = node(
        "ReduceSum", ["found", "axes"], ["sentence_embedding"], attributes=[number_attribute("keepdims", 0)]
    )
    model = network([lookup, most], [tensor("table", table()), axes], output=("sentence_embedding", 2))
    fetching.add(onnx_folder(tmp_path / "pooled", model), "pooled")
    tokens = table()[[vocabulary()[one] for one in ("[CLS]", "rain", "[SEP]")]].sum(axis=0)
    found = store.opened("pooled").encode(["rain"])[0]
    assert found == pytest.approx(tokens / np.linalg.norm(tokens), abs=1e-6)


def test_a_text_that_is_too_long_is_cut_and_that_is_said(tiny):
    listener, long = Listener(), " ".join(["refund"] * 14 + ["rain"] * 50)
    found = tiny.encode([long, "my refund", "refund " * 14], 1, listener)
    assert found[0] == pytest.approx(found[2], abs=1e-6)
    [line] = listener.lines
    assert "reads 16 tokens" in line
    assert "1 of 3 texts" in line


def test_a_text_that_is_too_long_can_be_read_in_windows(tiny):
    listener, long = Listener(), " ".join(["refund"] * 14 + ["rain"] * 14)
    windows = variant(tiny, windows=2)
    found = windows.encode([long], 1, listener)[0]
    halves = tiny.encode(["refund " * 14, "rain " * 14])
    expected = halves.sum(axis=0) / np.linalg.norm(halves.sum(axis=0))
    assert found == pytest.approx(expected, abs=1e-6)
    assert listener.lines == []


def test_a_prefix_stands_before_each_text(tiny, tables):
    for encoder in (tiny, tables):
        found = variant(encoder, prefix="please ").encode(["refund"])
        assert found == pytest.approx(encoder.encode(["please refund"]), abs=1e-6)


def test_a_network_that_looks_at_the_other_texts_of_a_batch_is_given_one_at_a_time(home, tmp_path):
    fetching.add(onnx_folder(tmp_path / "sociable", sociable()), "sociable")
    encoder = store.opened("sociable")
    assert encoder.stored.settings.alone
    together = encoder.encode(["my refund", "rain again", "the parcel"])
    assert np.array_equal(together[1], encoder.encode(["rain again"])[0])
    company = variant(encoder, alone=False).encode(["my refund", "rain again", "the parcel"])
    assert np.abs(company - together).max() > 0.01


def test_tables_know_weights_of_tokens_and_vectors_that_tokens_share(home, tmp_path):
    words, rows = vocabulary(), table()
    mapping = np.zeros(len(words), dtype=np.int64)
    mapping[words["refund"]], mapping[words["rain"]] = 1, 2
    weights = np.ones(len(words), dtype=np.float32)
    weights[words["rain"]] = 3
    shared = np.stack([rows[words["the"]], rows[words["refund"]], rows[words["rain"]]]).astype(np.float16)
    fetching.add(
        static_folder(tmp_path / "shared", {"embeddings": shared, "mapping": mapping, "weights": weights}),
        "shared",
    )
    expected = shared[1].astype(float) + 3 * shared[2].astype(float)
    found = store.opened("shared").encode(["refund rain"])[0]
    assert found == pytest.approx(expected / np.linalg.norm(expected), abs=1e-5)


def test_a_text_of_unknown_words_says_nothing_to_a_table(tables):
    assert not tables.encode(["xylophone", ""]).any()


def test_progress_counts_texts(tiny):
    listener = Listener()
    tiny.encode(["refund please"] * 5000, 1, listener)
    assert listener.steps[-1] == (5000, 5000)
    assert [done for done, _ in listener.steps] == sorted(done for done, _ in listener.steps)


def test_an_encoder_goes_to_another_process_by_its_place(tiny):
    copied = pickle.loads(pickle.dumps(tiny))
    assert np.array_equal(copied.encode(["refund"]), tiny.encode(["refund"]))


# What is kept


def test_a_text_is_encoded_once_and_never_again(encoder, tmp_path):
    texts = [f"my refund {number}" for number in range(20)] * 3 + ["  "]
    before = counts.encoded
    first = vectors_of(encoder, texts, 1)
    assert counts.encoded == before + 20
    again = vectors_of(encoder, [*texts, "one more"], 1)
    assert counts.encoded == before + 21
    assert np.array_equal(first, again[:-1])
    assert not first[-1].any()


def test_vectors_are_the_same_from_the_cache_and_from_the_encoder(tiny, monkeypatch, tmp_path):
    texts = ["my refund", "rain", "the parcel again"]
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "other"))
    fresh = vectors_of(tiny, texts, 1)
    assert np.array_equal(vectors_of(tiny, texts, 1), fresh)
    (tmp_path / "other" / "vectors.sqlite").write_bytes(b"no database")
    assert np.array_equal(vectors_of(tiny, texts, 1), fresh)


class Stopping:
    """Stops at the third lot that it is given."""

    name, sha256, dims = "stopping", "c" * 64, 2

    def __init__(self):
        self.lots = []

    def encode(self, texts, threads, listener):
        if len(self.lots) == 2:
            raise KeyboardInterrupt
        self.lots.append(len(texts))
        return np.ones((len(texts), 2), dtype=np.float32)


def test_what_was_encoded_before_an_interrupt_is_kept():
    texts, before = [f"text {number}" for number in range(4000)], Stopping()
    with pytest.raises(KeyboardInterrupt):
        vectors_of(before, texts, 1)
    after = Stopping()
    vectors_of(after, texts[:3000], 1)
    assert sum(after.lots) == 3000 - sum(before.lots)
    assert sum(before.lots) > 2000


def test_two_encoders_do_not_share_vectors(tmp_path):
    one, other = (VectorCache(tmp_path / "v.sqlite", digest * 64, 4) for digest in "ab")
    one.put(["x"], np.ones((1, 4), dtype=np.float32))
    assert one.get(["x"])[1].tolist() == [True]
    assert other.get(["x"])[1].tolist() == [False]


def test_the_cache_has_a_largest_size_and_the_oldest_goes_first(tmp_path):
    cache = VectorCache(tmp_path / "v.sqlite", "a" * 64, 8, most_bytes=32 * 100)
    for start in range(0, 300, 50):
        cache.put([str(number) for number in range(start, start + 50)], np.ones((50, 8), dtype=np.float32))
    _, have = cache.get([str(number) for number in range(300)])
    assert have.sum() <= 100
    assert have[-50:].all()
    assert not have[:150].any()


def test_a_cache_is_dropped_whatever_is_in_it_unless_somebody_is_writing(monkeypatch, tmp_path):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    vector_cache.clear()
    assert not vector_cache.path().exists()
    VectorCache(vector_cache.path(), "a" * 64, 512).put(
        [str(number) for number in range(500)], np.ones((500, 512), dtype=np.float32)
    )
    assert vector_cache.bytes_on_disk() > 500 * 1024
    assert vector_cache.count() == 500
    with contextlib.closing(sqlite3.connect(vector_cache.path())) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError, match=r"vectors.sqlite: another process is writing"):
            vector_cache.clear(patience=0)
    assert vector_cache.count() == 500
    vector_cache.clear()
    assert vector_cache.count() == 0
    assert vector_cache.bytes_on_disk() < 50_000
    vector_cache.path().write_bytes(b"no database")
    assert vector_cache.count() == 0
    vector_cache.clear()
    assert vector_cache.bytes_on_disk() == 0


def test_vectors_that_cannot_be_kept_are_right_and_that_is_said(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path))
    listener = Listener()
    (tmp_path / "vectors.sqlite").write_bytes(b"no database at all" * 100)
    listen(listener)
    try:
        found = vectors_of(tiny, ["my refund"], 1)
    finally:
        listen(Nobody())
    assert found == pytest.approx(tiny.encode(["my refund"]), abs=1e-3)
    [line] = listener.lines
    assert line.startswith(
        f"{tmp_path}/vectors.sqlite: vectors cannot be kept, and will have to be made again: "
    )


# What is refused


def test_a_file_that_changed_is_refused_before_anything_is_made_of_it(home, tmp_path):
    for name, folder in {
        "one": onnx_folder(tmp_path / "one", gather(seed=3)),
        "two": static_folder(tmp_path / "two"),
    }.items():
        stored = fetching.add(folder, name)
        place = store.place() / stored.settings.sha256
        path = place / stored.settings.model
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(ModelError, match="changed since it was fetched"):
            store.opened(name).encode(["refund"])
        path.unlink()
        with pytest.raises(ModelError, match=f"missing. Run: cascade encoders remove {name}"):
            store.opened(name).encode(["refund"])


def test_a_record_that_changed_is_refused(home, tmp_path):
    stored = fetching.add(onnx_folder(tmp_path / "three", gather(seed=4)), "three")
    path = store.place() / stored.settings.sha256 / "encoder.json"
    path.write_text(path.read_text().replace('"pooling": "mean"', '"pooling": "max"'))
    with pytest.raises(ModelError, match="changed since it was written"):
        store.opened("three")
    path.write_text('{"settings": {"kind": "onnx"}}')
    with pytest.raises(ModelError, match="expected alone, dims, files"):
        store.opened("three")


def test_numbers_that_are_none_are_refused(home, tmp_path):
    from tiny_encoders import network, node, tensor

    rows = table()
    rows[vocabulary()["rain"]] = np.nan
    model = network([node("Gather", ["table", "input_ids"], ["last_hidden_state"])], [tensor("table", rows)])
    fetching.add(onnx_folder(tmp_path / "odd", model), "odd")
    with pytest.raises(ModelError, match="encoder 'odd' gives numbers that are none"):
        vectors_of(store.opened("odd"), ["my refund", "rain"], 1)


def test_an_encoder_that_is_added_again_stays_as_it_is_and_one_that_is_damaged_is_mended(home, tmp_path):
    folder = static_folder(tmp_path / "again", {"embeddings": table(seed=9)})
    stored = fetching.add(folder, "again")
    path = store.place() / stored.settings.sha256 / "model.safetensors"
    before = path.stat().st_ino
    fetching.add(folder, "again")
    assert path.stat().st_ino == before
    path.write_bytes(b"damaged")
    fetching.add(folder, "again")
    assert store.opened("again").encode(["refund"]).any()


def test_encoding_can_be_interrupted(home, tiny):
    script = """
from cascade.encoders import store
print("ready", flush=True)
store.opened("tiny").encode(["refund my parcel " * 4] * 3_000_000, 2)
"""
    running = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline() == b"ready\n"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, told = running.communicate(timeout=30)
    assert b"KeyboardInterrupt" in told


# The real one


@pytest.mark.skipif(
    "minilm" not in HERE, reason="minilm is not on this machine: `cascade encoders get minilm`"
)
def test_minilm_knows_what_people_mean(monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(REAL.parent))
    encoder = store.opened("minilm")
    texts = ["I want my money back", "refund me please", "the sun is shining", "a" * 5000, ""]
    found = encoder.encode(texts, 2)
    assert found[0] @ found[1] > 0.5
    assert abs(found[0] @ found[2]) < 0.2
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(found - alone).max() <= SAME

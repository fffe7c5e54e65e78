"""The encoder of convolutions, and vocabularies of SentencePiece, both from files made here."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_encoders import field, varint

from cascade.encoders import fetching, store
from cascade.encoders.contract import SAME
from cascade.encoders.files import read_tokenizer
from cascade.encoders.ngram_encoder import read_weights
from cascade.encoders.register import Known
from cascade.encoders.repository import settled
from cascade.encoders.sentencepiece import tokenizer_of
from cascade.encoders.settings import Stored
from cascade.errors import ModelError

PIECES = ["<unk>", "<s>", "</s>", "▁refund", "▁my", "▁", "re", "fund", "s", "▁退", "款", "▁re", "y", "m"]
WIDTH, EMBEDDED, DIMS, CHUNKS = 4, 6, 5, 17
ORDERS = ((2, 0), (3, 1), (5, 2))


def vocabulary(pieces=PIECES):
    """The bytes of a unigram model of these pieces, the first the likeliest."""
    found = b""
    for number, piece in enumerate(pieces):
        score = varint(2 << 3 | 5) + struct.pack("<f", -1.0 - number / 4)
        found += field(1, field(1, piece) + score)
    return found + field(2, field(3, "trainer")) + field(3, field(1, "identity"))


def weights(seed=0):
    random = np.random.default_rng(seed)

    def made(*shape):
        return random.normal(size=shape).astype(np.float32)

    found = {
        f"q{number + 1}": random.integers(0, 255, (2, EMBEDDED)).astype(np.uint8) for number in range(CHUNKS)
    }
    found |= {"scale": 0.01 * abs(made(CHUNKS)), "lo": made(CHUNKS), "eps": np.float64(1e-6)}
    for order, _ in ORDERS:
        found |= {f"proj{order}": made(EMBEDDED, WIDTH), f"proj_b{order}": made(WIDTH)}
        found |= {f"ln_g{order}": made(WIDTH), f"ln_b{order}": made(WIDTH)}
        for layer in "12":
            found |= {f"w{layer}_{order}": made(order * WIDTH, WIDTH), f"b{layer}_{order}": made(WIDTH)}
    inner = EMBEDDED + len(ORDERS) * WIDTH
    found |= {"ln_g": made(inner), "ln_b": made(inner), "cnn_W": made(inner, DIMS), "cnn_b": made(DIMS)}
    found |= {
        "d0": made(DIMS, 3),
        "d1": made(3, 3),
        "p1": made(DIMS, 3),
        "d2": made(3, 4),
        "p3": made(3, DIMS),
    }
    return found | {"d3": made(4, DIMS)}


def normalised(rows, gains, offsets):
    spread = np.sqrt(rows.var(axis=-1, keepdims=True) + 1e-6)
    return (rows - rows.mean(axis=-1, keepdims=True)) / spread * gains + offsets


def expected(tokens, held):
    """The vector of one text, a token and a neighbour at a time."""
    held = {name: value.astype(np.float64) for name, value in held.items()}
    words = np.array([
        held[f"q{token % CHUNKS + 1}"][token // CHUNKS] * held["scale"][token % CHUNKS]
        + held["lo"][token % CHUNKS]
        for token in tokens
    ])  # fmt: skip
    every = [np.concatenate([held[f"{name}{order}"] for order, _ in ORDERS]) for name in ("ln_g", "ln_b")]
    projected = np.concatenate(
        [words @ held[f"proj{order}"] + held[f"proj_b{order}"] for order, _ in ORDERS], axis=1
    )
    inner = normalised(projected, *every)
    parts = [words]
    for place, (order, left) in enumerate(ORDERS):
        rows = inner[:, place * WIDTH : (place + 1) * WIDTH]
        for layer in "12":
            near = []
            for at in range(len(rows)):
                around = [rows[near_by] if 0 <= near_by < len(rows) else np.zeros(WIDTH)
                          for near_by in range(at - left, at - left + order)]  # fmt: skip
                near.append(np.concatenate(around) @ held[f"w{layer}_{order}"] + held[f"b{layer}_{order}"])
            rows = np.maximum(near, 0) + rows
        parts.append(rows)
    features = normalised(np.concatenate(parts, axis=1), held["ln_g"], held["ln_b"])
    summed = (features @ held["cnn_W"] + held["cnn_b"]).sum(axis=0) / np.sqrt(len(tokens))
    first = np.maximum(summed @ held["d0"], 0)
    second = np.maximum(summed @ held["p1"] + first @ held["d1"], 0)
    found = np.tanh(second @ held["p3"] + np.maximum(second @ held["d2"], 0) @ held["d3"])
    return found / np.linalg.norm(found)


def folder_with(folder, held):
    folder.mkdir()
    np.savez_compressed(folder / "weights.npz", **held)
    (folder / "sp.model").write_bytes(vocabulary())
    (folder / "tokenizer.json").write_bytes(tokenizer_of(folder / "sp.model"))
    return folder


@pytest.fixture(scope="module")
def encoder(home, tmp_path_factory):
    folder = folder_with(tmp_path_factory.mktemp("ngram") / "own", weights())
    entry = Known("own", "", "", "", (), {"kind": "ngram", "model": "weights.npz", "longest": 0})
    with store.staging() as place:
        for one in folder.iterdir():
            (place / one.name).write_bytes(one.read_bytes())
        store.put(place, Stored("own", fetching.settled(place, entry)))
    return store.opened("own")


def test_a_vector_is_what_its_tokens_give_one_by_one(encoder):
    tokenizer = read_tokenizer(encoder.folder / "tokenizer.json")
    for text in ("my refund", "refunds my my refund", "退款", "q"):
        tokens = [1, *tokenizer.encode(text, add_special_tokens=False).ids, 2]
        assert encoder.encode([text])[0] == pytest.approx(expected(tokens, weights()), abs=1e-5), text


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.lists(st.sampled_from(["my", "refund", "refunds", "退款", "x", " "])).map(" ".join), min_size=1
    )
)
def test_no_text_sees_another(encoder, texts):
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert together.shape == (len(texts), DIMS)
    assert np.abs(together - alone).max() <= SAME
    assert np.linalg.norm(together, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


def test_long_and_many_texts_are_taken_in_batches(encoder):
    texts = ["my refund " * 300, *["refunds my"] * 2000, "退款"]
    found = encoder.encode(texts)
    assert found[1] == pytest.approx(found[2000], abs=1e-5)
    assert found[-1] == pytest.approx(encoder.encode(["退款"])[0], abs=1e-5)


@pytest.mark.parametrize("name", ["q3", "proj5", "d0", "eps"])
def test_weights_without_an_array_are_refused(tmp_path, name):
    held = weights()
    del held[name]
    np.savez(tmp_path / "weights.npz", **held)
    with pytest.raises(ModelError, match="expected the weights of a sentence encoder"):
        read_weights(tmp_path / "weights.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_half_a_file_of_weights_is_refused(tmp_path, content):
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ModelError, match="expected the weights of a sentence encoder"):
        read_weights(tmp_path / "weights.npz")


def test_weights_that_hold_objects_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", **weights() | {"d0": np.array([{}], dtype=object)})
    with pytest.raises(ModelError, match="expected the weights of a sentence encoder"):
        read_weights(tmp_path / "weights.npz")


# Vocabularies


def pieces_of(folder, text):
    (folder / "sp.model").write_bytes(vocabulary())
    (folder / "tokenizer.json").write_bytes(tokenizer_of(folder / "sp.model"))
    return read_tokenizer(folder / "tokenizer.json").encode(text, add_special_tokens=False).tokens


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("my refund", ["▁my", "▁refund"]),
        ("  my   refunds ", ["▁my", "▁refund", "s"]),
        ("退款", ["▁退", "款"]),
        ("", []),
    ],
)
def test_texts_are_cut_into_the_likeliest_pieces(tmp_path, text, pieces):
    assert pieces_of(tmp_path, text) == pieces


def test_a_vocabulary_makes_the_same_bytes_each_time(tmp_path):
    (tmp_path / "sp.model").write_bytes(vocabulary())
    assert tokenizer_of(tmp_path / "sp.model") == tokenizer_of(tmp_path / "sp.model")


@pytest.mark.parametrize("content", [b"", b"no model at all", vocabulary()[:50], vocabulary()[:-3]])
def test_half_a_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "sp.model").write_bytes(content)
    with pytest.raises(ModelError, match="expected a model of SentencePiece"):
        tokenizer_of(tmp_path / "sp.model")


def test_what_makes_no_encoder_is_refused_as_it_comes(tmp_path):
    folder = folder_with(tmp_path / "own", {"a": np.zeros(3)})
    with pytest.raises(ModelError, match="expected the weights of a sentence encoder"):
        settled(folder, "own", {"kind": "ngram", "model": "weights.npz", "longest": 0})

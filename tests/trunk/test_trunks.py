"""Trunks in a model folder: whole or not at all, and built on where nearly all rows are known to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_encoders import MEANINGS, bert_folder, onnx_folder, rows_of

from cascade.encoders import fetching, store
from cascade.encoders.contract import counts
from cascade.errors import BackendError
from cascade.learn.node_fit import digests
from cascade.text.texts import Texts
from cascade.trunk.heads import Lesson, taught
from cascade.trunk.settings import TrunkSettings
from cascade.trunk.trainer import ALL, SEEN_TAUGHT, Taught, Trainer, _key, _origin
from cascade.trunk.trunks import TRUNKS, Trunk, digest_of, trunks_in

SETTINGS = TrunkSettings("tiny")
NAMES = tuple(MEANINGS)


class Said:
    """A listener that writes down what it is told."""

    def __init__(self):
        self.lines = []

    def at(self, step, steps, loss, seconds_left):
        raise AssertionError("nothing is trained here")

    def say(self, line):
        self.lines.append(line)


@pytest.fixture(scope="module", autouse=True)
def tiny(home, tmp_path_factory):
    fetching.add(bert_folder(tmp_path_factory.mktemp("bert")), "tiny", to_train=True)
    fetching.add(onnx_folder(tmp_path_factory.mktemp("onnx") / "tiny"), "tiny")
    return store.opened("tiny")


def lessons_of(texts, labels, children=NAMES):
    """Two groups: whether a text is of the first two meanings or of others, and which of these it is."""
    targets = np.array([[name in own for name in NAMES] for own in labels])
    first = targets[:, :2].any(axis=1)
    router = Lesson(np.arange(len(texts)), np.c_[first, ~first], exclusive=True)
    inside = Lesson(np.flatnonzero(first), targets[first, :2], exclusive=True)
    everywhere = Lesson(np.arange(len(texts)), targets[:, :2], exclusive=False)
    lessons = {"": router, "first": inside, f"first{ALL}": everywhere}
    return lessons, {"": ("first", "other"), "first": children[:2], f"first{ALL}": children[:2]}


def what(count=200, seed=0, more=(), held_out=None, children=NAMES):
    texts, labels = rows_of(MEANINGS, count, seed)
    texts = [f"{text} {row}" for row, text in enumerate(texts)] + [text for text, _ in more]
    batch = Texts(texts)
    lessons, names = lessons_of(texts, [*labels, *(own for _, own in more)], children)
    unseen = np.arange(len(texts)) % 10 == 0 if held_out is None else held_out
    return Taught(batch, digests(batch), lessons, names, unseen, seed=0)


def planted(root, tiny, asked):
    """A trunk in a model folder as a training leaves it, with the tiny encoder for a tuned one."""
    place = root / store.ENCODERS
    store.copy(tiny, place)
    vectors = tiny.encode(list(asked.texts))
    heads = {
        name: taught(one.without(asked.held_out), vectors[one.without(asked.held_out).rows], 0)
        for name, one in asked.lessons.items()
    }
    hashes, origin = asked.hashes(), _origin(SETTINGS, 0)
    numbers = asked.digests.view(np.uint64)[::2]
    seen, unseen = np.unique(numbers[asked.rows()]), np.unique(numbers[asked.held_out])
    key = _key(origin, hashes, asked)
    trunk = Trunk(key, origin, tiny.sha256, "tiny", heads, hashes, seen, unseen, {"epochs": 3})
    trunk.save(root)
    return trunk


def test_a_trunk_comes_back_from_disk_as_it_was(tmp_path, tiny):
    trunk = planted(tmp_path, tiny, what())
    [found] = trunks_in(tmp_path)
    assert (found.key, found.origin, found.encoder, found.notes) == (
        trunk.key,
        trunk.origin,
        trunk.encoder,
        trunk.notes,
    )
    assert list(found.heads) == list(trunk.heads)
    for name, head in trunk.heads.items():
        assert found.heads[name].digest() == head.digest()
    seen, unseen = found.knows(what().digests)
    assert (unseen == what().held_out).all()
    assert (seen == ~what().held_out).all()


@pytest.mark.parametrize("file", ["trunk.json", "values.npy", "biases.npy", "seen.npy", "unseen.npy"])
def test_a_damaged_trunk_is_as_good_as_none(tmp_path, tiny, file):
    trunk = planted(tmp_path, tiny, what())
    path = tmp_path / TRUNKS / trunk.key / file
    path.write_bytes(path.read_bytes()[:-3])
    assert trunks_in(tmp_path) == []


def test_nothing_is_left_of_a_trunk_that_could_not_be_written(tmp_path, tiny):
    trunk = planted(tmp_path, tiny, what())
    broken = replace(trunk, key="f" * 64, notes={"epochs": object()})
    with pytest.raises(TypeError):
        broken.save(tmp_path)
    assert [one.name for one in (tmp_path / TRUNKS).iterdir()] == [trunk.key]


def test_equal_rows_in_another_order_teach_the_same(tmp_path):
    texts = ["a refund", "a parcel", "the sun", "cash"]
    targets = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=bool)
    for positives in (True, False):
        found = set()
        for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
            lesson = Lesson(np.arange(4), targets[order], exclusive=True)
            found.add(
                digest_of(lesson, "ab", digests(Texts([texts[at] for at in order])), positives=positives)
            )
        assert len(found) == 1


def test_rows_without_any_child_count_for_the_head_of_a_group_alone():
    texts = digests(Texts(["a refund", "a parcel", "the sun"]))
    targets = np.array([[1, 0], [0, 1], [0, 0]], dtype=bool)
    with_none, without = Lesson(np.arange(3), targets, True), Lesson(np.arange(2), targets[:2], True)
    assert digest_of(with_none, "ab", texts, positives=True) == digest_of(
        without, "ab", texts, positives=True
    )
    assert digest_of(with_none, "ab", texts, positives=False) != digest_of(
        without, "ab", texts, positives=False
    )


def test_the_same_rows_train_nothing(tmp_path, tiny):
    trunk, said = planted(tmp_path, tiny, what()), Said()
    found, heads = Trainer(listener=said).heads(tmp_path, SETTINGS, what())
    assert found.key == trunk.key
    assert said.lines == ["tiny: trained before on these rows"]
    assert heads["first"].weights.digest() == trunk.heads["first"].digest()
    assert heads["first"].encoder.sha256 == tiny.sha256


def test_new_rows_teach_the_heads_that_they_reach_and_no_others(tmp_path, tiny):
    trunk, said = planted(tmp_path, tiny, what()), Said()
    other = NAMES[3]
    more = [(f"{MEANINGS[other][row % 4]} anew {row}", [other]) for row in range(20)]
    asked = what(more=more, held_out=np.append(what().held_out, np.arange(20) % 10 == 0))
    found, heads = Trainer(listener=said).heads(tmp_path, SETTINGS, asked)
    assert found.key != trunk.key
    assert found.encoder == trunk.encoder
    assert "with 2 of its 3 heads; 18 new rows teach those of top level" in said.lines[0]
    kept = {name for name in heads if heads[name].weights.digest() == trunk.heads[name].digest()}
    assert kept == {"first", f"first{ALL}"}
    again, _ = Trainer(listener=said).heads(tmp_path, SETTINGS, asked)
    assert again.key == found.key


def test_a_head_alone_is_taught_by_some_of_the_rows_that_the_trunk_knows(tmp_path, tiny):
    planted(tmp_path, tiny, what(count=200))
    more = [(f"{MEANINGS[NAMES[3]][0]} new {row}", [NAMES[3]]) for row in range(10)]
    asked = what(count=200, more=more, held_out=np.append(what().held_out, np.zeros(10, dtype=bool)))
    before = counts.encoded + counts.kept
    Trainer().heads(tmp_path, SETTINGS, asked)
    assert counts.encoded + counts.kept - before <= SEEN_TAUGHT
    assert counts.encoded + counts.kept - before == 190


def test_another_child_is_taught_and_the_head_of_before_is_not_taken_for_its(tmp_path, tiny):
    trunk = planted(tmp_path, tiny, what())
    renamed = ("cash", *NAMES[1:])
    _, heads = Trainer().heads(tmp_path, SETTINGS, what(children=renamed))
    assert heads["first"].weights.digest() != trunk.heads["first"].digest()
    assert heads[""].weights.digest() == trunk.heads[""].digest()


def test_rows_are_held_out_that_the_last_trunk_has_not_seen(tmp_path, tiny):
    asked = what()
    planted(tmp_path, tiny, asked)
    other = np.roll(asked.held_out, 1)
    found = Trainer().held_out(tmp_path, SETTINGS, 0, asked.digests, other)
    assert (found == asked.held_out).all()
    anew = Trainer(retrain=True).held_out(tmp_path, SETTINGS, 0, asked.digests, other)
    assert (anew == other).all()
    elsewhere = Trainer().held_out(tmp_path, TrunkSettings("tiny", epochs=2), 0, asked.digests, other)
    assert (elsewhere == other).all()


def test_a_trunk_that_was_built_on_is_none_that_was_trained_anew(tmp_path, tiny):
    asked = what()
    trunk = planted(tmp_path, tiny, asked)
    more = what(more=[("sunny again", ["sun"])], held_out=np.append(asked.held_out, False))
    built, _ = Trainer().heads(tmp_path, SETTINGS, more)
    assert built.notes == {**trunk.notes, "built_on": True}
    same, _ = Trainer().heads(tmp_path, SETTINGS, more)
    assert same.key == built.key
    with pytest.raises(BackendError, match="torch"):  # which is not here, or has no such device
        Trainer(retrain=True, device="no such").heads(tmp_path, SETTINGS, more)


def test_a_trunk_that_knows_too_few_rows_is_not_built_on(tmp_path, tiny):
    planted(tmp_path, tiny, what(count=100))
    asked = what(count=100, more=[(f"sunny {row}", ["sun"]) for row in range(60)])
    assert (Trainer().held_out(tmp_path, SETTINGS, 0, asked.digests, asked.held_out) == asked.held_out).all()
    assert Trainer()._extended(tmp_path, trunks_in(tmp_path)[0], asked, asked.hashes(), "0" * 64) is None


def test_a_trunk_without_its_encoder_is_not_built_on(tmp_path, tiny):
    planted(tmp_path, tiny, what())
    (tmp_path / store.ENCODERS / tiny.sha256 / store.RECORD).unlink()
    assert Trainer().last(tmp_path, SETTINGS, 0) == []


def test_absent_weights_stop_a_fit_with_the_command_that_brings_them(tmp_path):
    with pytest.raises(BackendError, match="cascade encoders get minilm --to-train"):
        Trainer().heads(tmp_path, TrunkSettings("minilm"), what())

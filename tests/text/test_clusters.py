from __future__ import annotations

import numpy as np
import pytest

from cascade.text.clusters import AT_ONCE, LONG, clusters_of, near_duplicates
from cascade.text.texts import Texts


def sentence(seed, words=LONG):
    return " ".join(np.random.default_rng(seed).choice([f"w{number}" for number in range(500)], words))


def test_clusters_of_a_view_are_those_of_the_whole_batch():
    """Two bills that are alike only to a third one, which the view leaves out."""
    words = [sentence(0, 30), sentence(1, 30), sentence(2, 30)]
    first, both, second = " ".join(words[:2]), " ".join(words), " ".join(words[1:])
    texts = Texts([first, "other", both, second])
    view = texts.take(np.array([3, 0, 1]))
    clusters = clusters_of(view)
    assert clusters.dtype == np.int64
    assert clusters.tolist() == clusters_of(texts)[[3, 0, 1]].tolist()
    assert clusters[0] == clusters[1] != clusters[2]
    assert len(set(near_duplicates([second, first]).tolist())) == 2


def test_equal_texts_are_one_cluster_however_many_lie_between():
    texts = [sentence(seed, LONG - seed % 2) for seed in range(AT_ONCE + 10)]
    cluster = near_duplicates([*texts, *(text.upper() for text in texts)])
    np.testing.assert_array_equal(cluster[: len(texts)], cluster[len(texts) :])
    assert len(set(cluster.tolist())) == len(texts)


@pytest.mark.parametrize(("words", "clusters"), [(LONG, 1), (LONG - 1, 2)])
def test_only_long_texts_may_differ_by_a_word(words, clusters):
    text = sentence(3, words)
    other = text.rsplit(" ", 1)[0] + " otherwise"
    assert len(set(near_duplicates([text, other]).tolist())) == clusters


def test_the_order_of_words_in_a_long_text_matters():
    """Backwards, each run of five has the same words."""
    text = "to be or not yet " * 6
    backwards = " ".join(reversed(text.split()))
    assert len(set(near_duplicates([text, backwards]).tolist())) == 2


def test_a_cluster_has_the_number_of_its_first_text_however_long_the_chain():
    words = sentence(5, 700).split()
    starts = np.random.default_rng(0).permutation(np.arange(0, 640, 5))
    cluster = near_duplicates([" ".join(words[start : start + 60]) for start in starts])
    assert cluster.tolist() == [0] * len(starts)


def test_clusters_that_grow_together_late_have_the_number_of_their_first_text_too():
    texts = [text for seed in range(100) for text in chain(seed)]
    cluster = near_duplicates(texts)
    assert (cluster <= np.arange(len(cluster))).all()
    np.testing.assert_array_equal(cluster[cluster], cluster)


def chain(seed):
    """Texts of which each shares about half of its runs with two others, in any order."""
    random = np.random.default_rng(seed)
    words = [f"{seed}w{number}" for number in range(400)]
    starts = random.permutation(np.arange(0, 350, 12))
    return [" ".join(words[start : start + 50]) for start in starts]


def test_any_characters_will_do():
    texts = [
        " ".join([word] * LONG + [str(row)]) for row, word in enumerate(("é", "\ud800", "\x00", "🙂", "ß"))
    ]
    cluster = near_duplicates([*texts, "\ud800", "?", *(text + "\u2003" for text in texts)])
    np.testing.assert_array_equal(cluster[:5], cluster[7:])


def test_no_texts_have_no_clusters():
    assert near_duplicates([]).tolist() == []


def test_texts_that_share_half_of_their_runs_of_words_are_one_cluster():
    bill = (
        "a bill to suspend temporarily the duty on certain {} that come from abroad and for such other "
        "purposes as the secretary of the treasury may from time to time direct"
    )
    texts = [
        bill.format("sweeteners"),
        "when will my parcel come",
        bill.format("loudspeakers"),
        "When will  MY parcel come",
        "when will my refund come",
        "",
        " ",
    ]
    cluster = near_duplicates(texts)
    assert cluster[0] == cluster[2]
    assert cluster[1] == cluster[3]
    assert cluster[5] == cluster[6]
    assert len({cluster[0], cluster[1], cluster[4], cluster[5]}) == 4


def test_clusters_agree_with_the_jaccard_similarity_counted_in_full():
    random = np.random.default_rng(5)
    words = np.array([f"w{number}" for number in range(60)])
    base = [random.choice(words, 40) for _ in range(30)]
    texts, alike = [], []
    for one in base:
        for changed in (1, 2, 6, 25):
            other = one.copy()
            other[random.choice(40, changed, replace=False)] = random.choice(words, changed)
            texts += [" ".join(one), " ".join(other)]
            runs = [{tuple(text[at : at + 5]) for at in range(36)} for text in (one, other)]
            alike.append(len(runs[0] & runs[1]) / len(runs[0] | runs[1]))
    cluster = near_duplicates(texts)
    together = cluster[0::2] == cluster[1::2]
    alike = np.array(alike)
    assert together[alike >= 0.7].all()
    assert not together[alike <= 0.25].any()
    assert (alike >= 0.7).sum() > 5
    assert ((alike > 0.1) & (alike <= 0.25)).sum() > 5

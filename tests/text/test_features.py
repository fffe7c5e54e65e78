"""The kernel against scikit-learn's analyzers and a twin of its hash in plain Python."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from places import ROOT
from sklearn.feature_extraction.text import CountVectorizer

from cascade.text.characters import (
    IDEOGRAPH,
    N_CODES,
    OTHER,
    SPACE,
    WORD,
    classes_of_python,
    classes_of_words,
)
from cascade.text.features import DAMPED, INSIDE_WEIGHT, LOWERED, VERSION, VERSIONS, bags_of
from cascade.text.hashing import BUCKETS_OF_EACH, MOST_COUNTED, WIDTH
from cascade.text.normal import normal
from cascade.text.texts import Texts

WORDS = CountVectorizer(
    analyzer="word", ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]"
).build_analyzer()
INSIDE = CountVectorizer(analyzer="char_wb", ngram_range=(3, 4)).build_analyzer()
FEEDBACK = ROOT / "training_data" / "feedback.jsonl"
FULL = 2**64 - 1


# The twin: whoever changes it changes what saved models mean, and has to raise VERSION.


def mixed(value):
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & FULL
    value = (value ^ value >> 27) * 0x94D049BB133111EB & FULL
    return value ^ value >> 31


def word_hash(word):
    value = 0x9E3779B97F4A7C15
    for character in word:
        value = (value ^ ord(character)) * 0x9FB21C651E98DF25 & FULL
        value ^= value >> 32
    return value


def word_column(word):
    return mixed(word_hash(word)) >> 44


def pair_column(before, word):
    return mixed((word_hash(before) * 0xD1B54A32D192ED03 + word_hash(word)) & FULL) >> 44


def inside_column(ngram):
    first, second, third, *fourth = map(ord, ngram)
    value = mixed(first << 42 | second << 21 | third)
    for code in fourth:
        value = mixed((value + code * 0x9FB21C651E98DF25) & FULL)
    return 2**20 + (value >> 44)


def clean(text):
    return text.encode("utf-8", "replace").decode("utf-8")


HAN = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
IDEOGRAPHS = f"[{HAN}{KANA}\U0001aff0-\U0001b16f\U00020000-\U0003ffff]"
MARKS = "".join(
    letter for letter in map(chr, range(N_CODES)) if unicodedata.category(letter) in ("Mn", "Mc", "Me")
)
BY_SYLLABLE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"


def words_of(text):
    """The words of a text in the normal form, with a blank where one stands between two ideographs."""
    parts = []
    for letter in text:
        if re.fullmatch(IDEOGRAPHS, letter) and re.fullmatch(r"\w", letter):
            parts.append((letter, "ideograph"))
        elif letter.isspace():
            parts.append((" ", "blank"))
        elif re.fullmatch(r"\w", letter) or (
            letter in MARKS and not re.fullmatch(f"[{BY_SYLLABLE}]", letter)
        ):
            if parts and parts[-1][1] == "word":
                parts[-1] = (parts[-1][0] + letter, "word")
            else:
                parts.append((letter, "word"))
        else:
            parts.append((letter, "mark"))
    return [
        word
        for at, (word, kind) in enumerate(parts)
        if kind != "blank"
        or (0 < at < len(parts) - 1 and parts[at - 1][1] == parts[at + 1][1] == "ideograph")
    ]


def pairs_of(words):
    """Pairs of neighbours; an ideograph at the beginning or the end of a text stands beside a blank."""
    is_ideograph = [re.fullmatch(IDEOGRAPHS, one) and re.fullmatch(r"\w", one) for one in words]
    start, end = ([" "] if words and is_ideograph[at] else [] for at in (0, -1))
    return pairwise([*start, *words, *end])


def apart(text):
    """The same text with blanks for ideographs."""
    return "".join(" " if re.fullmatch(IDEOGRAPHS, one) and re.fullmatch(r"\w", one) else one for one in text)


def expected(text, version=VERSION):
    if version == LOWERED:
        # The analyzer of words gives pairs as well: those that have a blank.
        words = [tuple(ngram.split(" ")) for ngram in WORDS(clean(text))]
        counts = Counter(word_column(*one) if len(one) == 1 else pair_column(*one) for one in words)
        counts.update(map(inside_column, INSIDE(clean(text))))
    else:
        words = words_of(normal(text))
        counts = Counter(map(word_column, words))
        counts.update(pair_column(*pair) for pair in pairs_of(words))
        counts.update(map(inside_column, INSIDE(apart(normal(text)))))
    return {column: min(count, MOST_COUNTED) for column, count in counts.items()}


def found(bags, text=0):
    """Columns and counts of one text of the view."""
    row = bags.rows[text]
    own = slice(bags.starts[row], bags.starts[row + 1])
    columns, counts = bags.buckets[bags.places[own]].tolist(), bags.counts[own].tolist()
    assert len(set(columns)) == len(columns)
    return dict(zip(columns, counts, strict=True))


def feedback_texts():
    with FEEDBACK.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


# What the features of a text are

PIECES = st.one_of(
    st.text(st.characters(exclude_categories=())),  # halves of surrogate pairs as well
    st.text("ab ?", max_size=40),
    st.sampled_from([
        "", " ", "\n", "\t \t", "\xa0", "\u2028", "\x1c", "\x85", "\u200b", "\x00", "\ufeff",
        "İ", "\u0131", "IİI", "Σ", "ΟΔΟΣ", "ΟΔΟΣ.", "ß", "ẞ", "ǅ", "ﬁ", "e\u0301", "\u0301", "\u20e3",
        "😀", "👩\u200d👩\u200d👧", "🇩🇪", "\U0010ffff", "\ud800", "\ude00\ud83d", "٣٤", "½", "²", "_", "__a_",
        "don't", "3.14", "?!?!", "日本語", "हिन्दी", "x" * 300, "ab" * 3000,
    ]),
)  # fmt: skip
ANY_TEXT = st.lists(PIECES, max_size=8).map("".join)


@pytest.mark.parametrize("version", VERSIONS)
@given(text=ANY_TEXT)
@example(text="")
@example(text="a")
@example(text="ab")
@example(text="a b")
@settings(max_examples=300, deadline=None)
def test_features_are_those_of_scikit_learns_analyzers(text, version):
    assert found(bags_of([text], version=version)) == expected(text, version)


@given(st.lists(ANY_TEXT, max_size=12), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_features_of_a_text_do_not_depend_on_the_texts_beside_it(texts, threads):
    bags = bags_of(texts, threads=threads)
    assert len(bags) == len(texts)
    assert [found(bags, row) for row in range(len(texts))] == [found(bags_of([text])) for text in texts]


def test_every_character_is_of_the_class_that_python_gives_it():
    everything = [chr(code) for code in range(N_CODES)]
    other, word, space = (
        [everything[code] for code in np.flatnonzero(classes_of_python(N_CODES) == kind)]
        for kind in (OTHER, WORD, SPACE)
    )
    assert len(other) + len(word) + len(space) == len(everything)
    assert word == [character for character in everything if character.isalnum() or character == "_"]
    assert space == [character for character in everything if character.isspace()]
    assert space == [character for character in everything if not character.split()]
    assert other == re.findall(r"(?u)[^\w\s]", "".join(everything))


def test_ideographs_and_combining_marks_are_all_that_is_classed_otherwise():
    differ = np.flatnonzero(classes_of_words(N_CODES) != classes_of_python(N_CODES))
    names = {
        kind: " ".join(
            unicodedata.name(chr(code), "").split(" ")[0]
            for code in differ[classes_of_words(N_CODES)[differ] == kind].tolist()
        )
        for kind in (WORD, IDEOGRAPH)
    }
    assert {"COMBINING", "DEVANAGARI", "ARABIC", "TAMIL"} <= set(names[WORD].split())
    assert {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"} <= set(names[IDEOGRAPH].split())
    assert not {"THAI", "LAO", "KHMER", "MYANMAR"} & set(" ".join(names.values()).split())
    assert set(classes_of_words(N_CODES)[differ].tolist()) == {int(WORD), int(IDEOGRAPH)}


def test_words_marks_and_emoji_are_features_and_case_is_none():
    assert found(bags_of(["Refund? 😀"])) == found(bags_of(["rEFUND? 😀"]))
    only_mark = set(found(bags_of(["?"])))
    assert only_mark < set(found(bags_of(["why ?"])))
    assert only_mark.isdisjoint(found(bags_of(["why"])))


def test_neighbouring_words_make_a_pair_in_their_order():
    both, words = set(found(bags_of(["late refund"]))), set(found(bags_of(["late\n\nrefund"])))
    assert both == words
    one_way = both - set(found(bags_of(["late"]))) - set(found(bags_of(["refund"])))
    other_way = set(found(bags_of(["refund late"])))
    assert len(one_way) == 1
    assert one_way.isdisjoint(other_way)
    assert min(one_way) < BUCKETS_OF_EACH


def test_a_count_stops_at_255():
    for times in (254, 255, 256, 1000):
        assert set(found(bags_of(["x " * times])).values()) == {
            min(times, MOST_COUNTED),
            min(times - 1, MOST_COUNTED),
        }


def test_weights_are_damped_counts():
    assert DAMPED.dtype == np.float32
    assert DAMPED.shape == (MOST_COUNTED + 1,)
    assert DAMPED[:2].tolist() == [0, 1]
    assert DAMPED[1:] == pytest.approx(1 + np.log(np.arange(1, 256)))


# Bags


def check_arrays(bags, n_texts):
    assert (bags.starts.dtype, bags.places.dtype, bags.counts.dtype) == (np.int64, np.int32, np.uint8)
    assert (bags.buckets.dtype, bags.left_out.dtype, bags.rows.dtype) == (np.int32, np.float32, np.int64)
    assert bags.starts.shape == (n_texts + 1,)
    assert bags.left_out.shape == (n_texts,)
    assert bags.starts[0] == 0
    assert bags.starts[-1] == len(bags.places) == len(bags.counts)
    assert bags.rows.tolist() == list(range(n_texts))
    assert len(np.unique(bags.buckets)) == len(bags.buckets)
    assert ((bags.buckets >= 0) & (bags.buckets < WIDTH)).all()
    assert (bags.counts >= 1).all()


@pytest.mark.parametrize("least_rows", [1, 2])
@pytest.mark.parametrize("texts", [[], [""], ["", " \n", ""], ["one text"], ["", "some words", ""]])
def test_few_and_empty_texts_have_well_formed_bags(texts, least_rows):
    bags = bags_of(texts, least_rows)
    check_arrays(bags, len(texts))
    for row, text in enumerate(texts):
        assert found(bags, row) == ({} if least_rows == 2 else expected(text))


def test_buckets_are_numbered_as_they_first_occur():
    bags = bags_of(feedback_texts()[:200])
    check_arrays(bags, 200)
    _, first = np.unique(bags.places, return_index=True)
    assert bags.places[np.sort(first)].tolist() == list(range(len(bags.buckets)))
    assert not bags.left_out.any()


SHORT_TEXTS = st.lists(st.text("abc ?", max_size=12), max_size=12)


@given(SHORT_TEXTS, st.integers(2, 4))
@settings(max_examples=200, deadline=None)
def test_rare_features_are_left_out_and_what_they_weigh_is_kept(texts, least_rows):
    whole, bags = bags_of(texts), bags_of(texts, least_rows)
    check_arrays(bags, len(texts))
    features = [found(whole, row) for row in range(len(texts))]
    frequency = Counter(column for counts in features for column in counts)
    kept = [column for column in frequency if frequency[column] >= least_rows]
    assert bags.buckets.tolist() == sorted(kept, key=lambda column: (-frequency[column], column))
    for row, counts in enumerate(features):
        assert list(found(bags, row).items()) == [item for item in counts.items() if item[0] in kept]
        weights = [
            DAMPED[count] * (INSIDE_WEIGHT if column >= BUCKETS_OF_EACH else 1)
            for column, count in counts.items()
            if column not in kept
        ]
        assert bags.left_out[row] == pytest.approx(sum(weight**2 for weight in weights))


def test_a_view_has_its_rows_and_shares_the_rest():
    texts = feedback_texts()[:20]
    bags = bags_of(texts)
    rows = np.array([7, 3, 3, 12])
    view = bags[rows]
    assert len(view) == 4
    assert [found(view, row) for row in range(4)] == [expected(texts[row]) for row in rows]
    again = view[np.array([3, 0])]
    assert [found(again, row) for row in range(2)] == [expected(texts[12]), expected(texts[7])]
    assert len(view[np.array([], dtype=np.int64)]) == 0
    for name in ("starts", "places", "counts", "buckets", "left_out"):
        assert getattr(again, name) is getattr(bags, name)


def test_texts_that_share_features_select_from_them():
    texts = Texts(["one", "two", "three"])
    view = texts.take(np.array([2, 0]))
    bags = view.features("bags", bags_of)
    assert [found(bags, row) for row in range(2)] == [expected("three"), expected("one")]
    assert found(bags_of(view), 1) == expected("one")


@pytest.fixture(scope="module")
def many():
    """Texts that fill several slices, with some too long for one and many that are empty."""
    texts = feedback_texts()
    texts = [*texts, "", " ".join(texts)[:300_000], *[""] * 1000, *texts[::-1], "ΑΣ" * 100_000]
    return texts * 2


@pytest.mark.parametrize("least_rows", [1, 2])
def test_threads_do_not_change_a_byte(many, least_rows):
    alone = bags_of(many, least_rows)
    check_arrays(alone, len(many))
    for threads in (2, 3):
        shared = bags_of(many, least_rows, threads)
        for name in ("starts", "places", "counts", "buckets", "left_out", "rows"):
            assert getattr(shared, name).tobytes() == getattr(alone, name).tobytes()


def test_slices_of_many_texts_join_in_order(many):
    bags = bags_of(many)
    kinds = {text: found(bags_of([text])) for text in set(many)}
    assert all(found(bags, row) == kinds[text] for row, text in enumerate(many))


# Size


def test_a_text_of_ten_megabytes_counts_like_a_short_one():
    text = "alpha beta! " * 850_000
    counts = found(bags_of([text]))
    assert counts.keys() == expected("alpha beta! alpha beta!").keys()
    assert set(counts.values()) == {MOST_COUNTED}


def test_a_text_with_more_features_than_buckets_fills_them():
    alphabet = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789?!  ", dtype=np.uint8)
    text = alphabet[np.random.default_rng(0).integers(len(alphabet), size=10_000_000)].tobytes().decode()
    bags = bags_of([text, "short"])
    check_arrays(bags, 2)
    assert BUCKETS_OF_EACH < len(bags.buckets) <= WIDTH
    assert len(found(bags)) == bags.starts[1]
    assert found(bags, 1) == expected("short")


# Spread


def numbers():
    return " ".join(map(str, range(100_000)))


def letters():
    return " ".join(
        f"{first}{second}{third}"
        for first in "abcdefghijklmnopqrstuvwxyz"
        for second in "abcdefghijklmnopqrstuvwxyz"
        for third in "abcdefghijklmnopqrstuvwxyz"
    )


def ideographs():
    return "".join(chr(0x4E00 + first) + chr(0x4E00 + 17 * first % 20_000) for first in range(20_000))


def real():
    return " ".join(feedback_texts())


@pytest.mark.parametrize("make", [numbers, letters, ideographs, real])
def test_distinct_features_collide_as_often_as_chance_has_it(make):
    text = make()
    columns = np.array(list(found(bags_of([text]))))
    words = words_of(normal(text))
    for features, own in (
        ({*words, *pairs_of(words)}, columns[columns < BUCKETS_OF_EACH]),
        (set(INSIDE(apart(normal(text)))), columns[columns >= BUCKETS_OF_EACH] - BUCKETS_OF_EACH),
    ):
        if not features:
            assert not len(own)
            continue
        n_features = len(features)
        load = n_features / BUCKETS_OF_EACH
        # Occupancy of buckets by balls thrown at random: its mean and variance.
        filled = BUCKETS_OF_EACH * -np.expm1(-load)
        spread = np.sqrt(BUCKETS_OF_EACH * np.exp(-load) * (1 - (1 + load) * np.exp(-load)))
        assert abs(len(own) - filled) < 5 * spread + 5
        # And no part of the buckets is favoured: chi squared with 255 degrees of freedom.
        parts = np.bincount(own >> 12, minlength=256)
        assert ((parts - len(own) / 256) ** 2).sum() / (len(own) / 256) < 255 + 6 * np.sqrt(2 * 255)

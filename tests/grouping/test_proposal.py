import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascade
from cascade.errors import TaxonomyError
from cascade.grouping.clustering import LARGEST, clusters_of, silhouettes
from cascade.grouping.meaning import TEXTS_READ
from cascade.grouping.proposal import propose_groups
from cascade.grouping.vectors import label_vectors
from cascade.grouping.words import words_of, words_of_name

SUBJECTS = {
    "travel": ["flight", "hotel", "airport", "luggage", "visa", "ticket", "seat", "train"],
    "bank": ["account", "card", "transfer", "balance", "deposit", "payment", "loan", "interest"],
    "kitchen": ["recipe", "oven", "cook", "meal", "calories", "flour", "sugar", "ingredient"],
    "car": ["engine", "oil", "tire", "gas", "mileage", "brake", "mechanic", "garage"],
}
OF_SUBJECT = 6


def rows_of_subjects(n_rows=1200, seed=0):
    """Rows of four subjects, with six labels of each: words of the subject, and one of the label's own."""
    random_ = random.Random(seed)
    texts, labels = [], []
    for _ in range(n_rows):
        subject, words = random_.choice(list(SUBJECTS.items()))
        number = random_.randrange(OF_SUBJECT)
        texts.append(" ".join([*random_.choices(words, k=3), "please", f"own{subject}{number}"]))
        labels.append([f"{subject[:2]}{number}"])
    return texts, labels


def sides(proposal):
    return {frozenset(own) for own in proposal.groups.values()}


def true_sides():
    return {frozenset(f"{subject[:2]}{number}" for number in range(OF_SUBJECT)) for subject in SUBJECTS}


# What is put together


def test_labels_of_one_subject_come_into_one_group_and_the_number_of_groups_is_found():
    proposal = propose_groups(*rows_of_subjects())
    assert sides(proposal) == true_sides()
    assert proposal.alone == ()


def test_groups_are_named_by_the_words_of_their_texts_where_names_say_nothing():
    for name, own in propose_groups(*rows_of_subjects()).groups.items():
        subject = next(one for one in SUBJECTS if own[0].startswith(one[:2]))
        assert set(name.split("_")) <= set(SUBJECTS[subject])


def test_groups_are_named_by_a_word_that_their_labels_share():
    texts, labels = rows_of_subjects()
    long = {subject[:2]: subject for subject in SUBJECTS}
    spoken = [[f"{long[own[:2]]} matter {own[2:]}"] for (own,) in labels]
    assert set(propose_groups(texts, spoken).groups) == set(SUBJECTS)


def test_labels_that_go_together_come_into_one_group_whatever_the_texts_say():
    random_ = random.Random(1)
    circles = [[f"{circle}{number}" for number in range(5)] for circle in "abcd"]
    labels = [random_.sample(random_.choice(circles), 3) for _ in range(800)]
    texts = [" ".join(random_.choices(["one", "two", "three", "four", "five"], k=4)) for _ in labels]
    assert sides(propose_groups(texts, labels)) == {frozenset(circle) for circle in circles}


def meaning_of(texts):
    """A vector for each text: which subject each of its words is of, as an encoder may know."""
    found = np.zeros((len(texts), len(SUBJECTS)), dtype=np.float32)
    for row, text in enumerate(texts):
        for column, words in enumerate(SUBJECTS.values()):
            found[row, column] = sum(word in words for word in words_of(text))
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    return found / np.where(lengths > 0, lengths, 1)


def rows_of_one_word(n_rows):
    """Rows with a word of their label alone, so that labels of one subject share none of it."""
    random_ = random.Random(2)
    words = [word for own in SUBJECTS.values() for word in own]
    chosen = [random_.choice(words) for _ in range(n_rows)]
    return [f"please the {word} again" for word in chosen], [[f"x{words.index(word):02}"] for word in chosen]


@pytest.mark.parametrize("n_groups", [None, 4])
def test_labels_that_share_no_word_are_alike_by_what_an_encoder_knows_of_their_texts(n_groups):
    texts, labels = rows_of_one_word(600)
    expected = {frozenset(f"x{at:02}" for at in range(first, first + 8)) for first in (0, 8, 16, 24)}
    assert sides(propose_groups(texts, labels, n_groups=n_groups, encode=meaning_of)) == expected
    assert sides(propose_groups(texts, labels, n_groups=n_groups)) != expected


def test_names_that_share_no_word_are_alike_by_what_an_encoder_knows_of_them():
    names = [word for words in SUBJECTS.values() for word in words]
    proposal = propose_groups([], [], more_labels=names, encode=meaning_of)
    assert sides(proposal) == {frozenset(words) for words in SUBJECTS.values()}
    assert propose_groups([], [], more_labels=names).groups == {}


def test_an_encoder_that_knows_nothing_changes_nothing():
    rows = rows_of_subjects()

    def blank(texts):
        return np.zeros((len(texts), 4), dtype=np.float32)

    assert propose_groups(*rows, encode=blank) == propose_groups(*rows)


def test_a_label_counts_as_much_of_its_texts_as_are_read_and_its_name_beside_them():
    read = []

    def encode(texts):
        read.append(list(texts))
        return meaning_of(texts)

    texts, labels = ["hotel"] * 500 + ["oven"] * 3, [["flightSeat"]] * 500 + [["card_payment"]] * 3
    label_vectors(["card_payment", "flightSeat"], texts, labels, encode)
    [given_texts] = read
    assert given_texts == ["hotel"] * TEXTS_READ + ["oven"] * 3 + ["card payment", "flight Seat"]


def test_names_alone_are_grouped_where_there_are_no_rows():
    names = [f"{subject} {word}" for subject, words in SUBJECTS.items() for word in words[:4]]
    proposal = propose_groups([], [], more_labels=names, n_groups=4)
    assert set(proposal.groups) == set(SUBJECTS)


def test_a_label_that_shares_nothing_with_others_stands_alone():
    texts, labels = rows_of_subjects()
    proposal = propose_groups([*texts, "quux"], [*labels, ["zzz"]])
    assert proposal.alone == ("zzz",)
    assert sides(proposal) == true_sides()


def test_few_labels_get_no_groups():
    proposal = propose_groups(["a b", "b c", "c a"], [["x"], ["y"], ["z"]])
    assert (proposal.groups, proposal.alone) == ({}, ("x", "y", "z"))


def test_no_rows_and_no_names_give_nothing():
    assert propose_groups([], []) == propose_groups(["text"], [[]])


def test_names_without_words_are_no_obstacle():
    assert propose_groups(["!", "?"], [["+"], ["-"]], n_groups=2).alone == ("+", "-")


def test_many_labels_that_no_text_tells_apart_are_no_obstacle():
    labels = [f"{number:03}" for number in range(80)]
    proposal = propose_groups(["one text"] * 80, [[label] for label in labels])
    assert sorted([*itertools.chain(*proposal.groups.values()), *proposal.alone]) == labels


def test_texts_without_spaces_are_grouped_too():
    subjects = {"car": "汽车引擎轮胎", "food": "米饭面条蔬菜", "home": "房子花园窗户"}
    random_ = random.Random(2)
    texts, labels = [], []
    for subject, number, _ in itertools.product(subjects, range(4), range(30)):
        letters = subjects[subject]
        pairs = [letters[at : at + 2] for at in range(0, len(letters), 2)]
        texts.append("".join(random_.choices(pairs, k=3)))
        labels.append([f"{subject[0]}{number}"])
    assert {frozenset(name[0] for name in side) for side in sides(propose_groups(texts, labels))} == {
        frozenset("c"),
        frozenset("f"),
        frozenset("h"),
    }


# How many


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_a_number_of_groups_that_is_asked_for_is_kept_to(count):
    proposal = propose_groups(*rows_of_subjects(), n_groups=count)
    assert len(proposal.groups) == count
    assert all(proposal.groups.values())
    assert sum(map(len, proposal.groups.values())) == len(SUBJECTS) * OF_SUBJECT


def test_more_groups_than_labels_are_as_many_as_labels():
    assert len(propose_groups(*rows_of_subjects(), n_groups=1000).groups) == len(SUBJECTS) * OF_SUBJECT


def test_less_than_one_group_is_refused():
    with pytest.raises(ValueError, match="n_groups is 0; expected 1 or more"):
        propose_groups(["a"], [["x"]], n_groups=0)


def test_lists_of_another_length_than_the_texts_are_refused():
    with pytest.raises(ValueError, match="2 texts and 1 lists of labels"):
        propose_groups(["a", "b"], [["x"]])


# Laws

row = st.tuples(
    st.lists(st.sampled_from(["red", "green", "blue", "one", "two"]), max_size=5).map(" ".join),
    st.lists(st.sampled_from([f"l_{number}" for number in range(14)]), max_size=3),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(row, max_size=40), st.none() | st.integers(1, 6))
def test_each_label_stands_once_and_names_are_all_different(rows, count):
    texts, labels = [text for text, _ in rows], [own for _, own in rows]
    proposal = propose_groups(texts, labels, n_groups=count)
    placed = [*itertools.chain(*proposal.groups.values()), *proposal.alone]
    assert sorted(placed) == sorted({name for own in labels for name in own})
    names = [*placed, *proposal.groups]
    assert len({name.casefold() for name in names}) == len(names)
    if count is None:
        assert all(len(own) > 1 for own in proposal.groups.values())
    assert propose_groups(texts, labels, n_groups=count) == proposal


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(8, 60), st.integers(0, 5))
def test_no_group_holds_more_than_its_share_and_a_half(n_labels, seed):
    vectors = np.random.default_rng(seed).normal(size=(n_labels, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for count in (2, 3, 5):
        sizes = np.bincount(clusters_of(vectors, count))
        assert len(sizes) == count
        assert sizes.max() <= np.ceil(LARGEST * n_labels / count)


def test_silhouettes_are_those_of_scikit_learn_in_sign_and_order():
    from sklearn.metrics import silhouette_samples

    texts, labels = rows_of_subjects()
    names = sorted({own[0] for own in labels})
    vectors = label_vectors(names, texts, labels).vectors
    good = np.array([list(SUBJECTS).index(next(s for s in SUBJECTS if s[:2] == name[:2])) for name in names])
    bad = np.arange(len(names)) % 4
    ours = [silhouettes(vectors, clusters).mean() for clusters in (good, bad)]
    theirs = [silhouette_samples(vectors, clusters, metric="cosine").mean() for clusters in (good, bad)]
    assert ours[0] > 0 > ours[1]
    assert theirs[0] > 0 > theirs[1]
    assert ours[0] == pytest.approx(theirs[0], abs=0.25)


# Words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cardDeclined", ["card", "declined"]),
        ("card_declined", ["card", "declined"]),
        ("Card-Declined", ["card", "declined"]),
        ("don't know", ["don't", "know"]),
        ("Ünïcode É", ["ünïcode", "é"]),
        ("退款", ["退款"]),
        ("", []),
    ],
)
def test_words_of_a_name(name, words):
    assert words_of_name(name) == words


def test_words_of_a_text_without_blanks_are_pairs_of_neighbours():
    assert list(words_of("我要退款 now")) == ["我要", "要退", "退款", "now"]


# As a taxonomy


def test_a_taxonomy_from_rows_has_the_groups_and_can_be_fitted():
    texts, labels = rows_of_subjects(400)
    taxonomy = cascade.Taxonomy.from_rows(texts, labels, name="subjects")
    assert taxonomy.name == "subjects"
    assert {frozenset(group.children) for name, group in taxonomy.groups.items() if name} == true_sides()
    model = cascade.Cascade.fit(taxonomy, texts, labels)
    assert model.predict(["transfer balance please ownbank3"]) == [["ba3"]]


def test_a_taxonomy_from_rows_without_labels_is_refused():
    with pytest.raises(TaxonomyError, match="no labels"):
        cascade.Taxonomy.from_rows(["a"], [[]])


def test_no_group_takes_most_of_what_is_alike():
    alike = np.zeros((90, 6))
    alike[:, 0], alike[:, 1] = 1, np.linspace(0, 0.01, 90)
    vectors = np.concatenate([alike, np.eye(6)[2:]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = np.bincount(clusters_of(vectors, 5))
    assert len(sizes) == 5
    assert sizes.max() <= np.ceil(LARGEST * len(vectors) / 5) < 90

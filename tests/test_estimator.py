from __future__ import annotations

import copy
import doctest
import pickle
import subprocess
import sys
from io import BytesIO

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError, SkipTestWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import cascade.estimator
from cascade import Cascade, CascadeClassifier, CascadeError, Taxonomy
from cascade.errors import TaxonomyError
from cascade.estimator import InputError
from cascade.fitted import CHUNK

# The columns of an indicator stand in this order, which is no alphabetical one.
MAPPING = {
    "name": "shop",
    "groups": {
        "money": {"labels": [{"name": "refund", "aliases": ["money_back"]}, "fee"]},
        "delivery": {"labels": ["late", "broken"]},
    },
}
LABELS = ["refund", "fee", "late", "broken"]
ABOUT = {
    "refund": "please refund the price",
    "fee": "what a high fee for nothing",
    "late": "the parcel came much too late",
    "broken": "the cup was broken in the box",
}
NAMES = [["refund"], ["fee"], ["late"], ["broken"], ["refund", "late"], []] * 12
TEXTS = [
    f"{' and '.join(ABOUT[name] for name in names) or 'good morning'} number {number}"
    for number, names in enumerate(NAMES)
]
Y = np.array([[name in names for name in LABELS] for names in NAMES])
NEW = [ABOUT["late"], f"{ABOUT['refund']} and {ABOUT['broken']}", "hello there", ""]


@pytest.fixture(scope="module")
def fitted() -> CascadeClassifier:
    return CascadeClassifier(MAPPING).fit(TEXTS, NAMES)


@pytest.fixture(scope="module")
def digest() -> str:
    """Of the model that `Cascade` itself makes of the same rows."""
    return Cascade.fit(Taxonomy.from_dict(MAPPING), TEXTS, NAMES).digest


# The contract of scikit-learn. Its checks come with numbers, and it withholds all of them from an estimator
# whose tags say that it takes none. So they are put to a subclass that writes each number as a word.


class NumbersAsWords(CascadeClassifier):
    def fit(self, X, y):
        return super().fit(as_texts(X), as_flags(y))

    def predict(self, X):
        return super().predict(as_texts(X))

    def predict_proba(self, X):
        return super().predict_proba(as_texts(X))

    def score(self, X, y, sample_weight=None):
        return super().score(X, as_flags(y), sample_weight)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, True
        return tags


def as_texts(X):
    """A text for each row of numbers; whatever else a check tries goes to the estimator as it is."""
    array = np.empty(0) if sparse.issparse(X) else np.asarray(X)
    if array.ndim != 2 or not array.size or np.iscomplexobj(array):
        return X
    return [as_text(row) for row in array.astype(float)]


def as_text(row):
    if not np.isfinite(row).all():
        return row[~np.isfinite(row)][0]
    return " ".join(f"feature{column}is{int(value)}" for column, value in enumerate(row))


def as_flags(y):
    """The greater of the two numbers of a column is its 1; scikit-learn's checks use 1 and 2 as well."""
    array = np.asarray(y)
    two_numbers = array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu"
    return array == array.max() if two_numbers else y


EXPECTED_FAILURES = {
    "check_classifier_not_supporting_multiclass": "a single class is refused, of two values as of more",
    "check_classifiers_classes": "one class for each text is no list of labels and is refused",
    "check_classifiers_train": "answers are an indicator, of shape (n_texts, n_labels) for one label too",
    "check_complex_data": "numbers of every kind are refused as no texts, not complex ones in particular",
    "check_estimators_empty_data_messages": "texts have no features that could be missing",
    "check_fit2d_predict1d": "one dimension is what texts have",
    "check_n_features_in": "texts have no features to count",
    "check_n_features_in_after_fitting": "texts have no features to count",
}


@parametrize_with_checks([NumbersAsWords()], expected_failed_checks=lambda _: EXPECTED_FAILURES)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


def test_checks_for_text_estimators_pass_on_the_estimator_itself():
    with pytest.warns(SkipTestWarning, match="string=True"):
        results = check_estimator(CascadeClassifier(), on_skip=None)
    assert {result["status"] for result in results} == {"passed"}


def test_tags_say_texts_in_several_labels_out():
    tags = get_tags(CascadeClassifier())
    assert is_classifier(CascadeClassifier())
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert tags.target_tags.required
    assert not tags.target_tags.single_output
    assert tags.classifier_tags.multi_label
    assert not tags.classifier_tags.multi_class
    assert not tags.non_deterministic


# What fit takes

KINDS_OF_TEXTS = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "array of str": np.array(TEXTS),
    "array of objects": np.array(TEXTS, dtype=object),
    "one column": np.array(TEXTS)[:, None],
    "series": pd.Series(TEXTS, index=range(7, 7 + len(TEXTS))),
    "series of objects": pd.Series(TEXTS, dtype=object),
    "frame of one column": pd.DataFrame({"text": TEXTS}),
}
KINDS_OF_LABELS = {
    "names": NAMES,
    "names in sets": [set(names) for names in NAMES],
    "names in tuples": tuple(map(tuple, NAMES)),
    "names in arrays": [np.array(names, dtype=object) for names in NAMES],
    "series of names": pd.Series(NAMES, index=range(3, 3 + len(NAMES))),
    "aliases": [["money_back" if name == "refund" else name for name in names] for names in NAMES],
    "bool array": Y,
    "int array": Y.astype(np.int8),
    "float array": Y.astype(float),
    "object array": Y.astype(object),
    "lists": Y.astype(int).tolist(),
    "list of arrays": list(Y),
    "csr matrix": sparse.csr_matrix(Y.astype(int)),
    "csc array": sparse.csc_array(Y.astype(float)),
    "coo array": sparse.coo_array(Y),
    "lil array": sparse.lil_array(Y.astype(int)),
    "frame": pd.DataFrame(Y, columns=LABELS),
    "frame of nullable values": pd.DataFrame(Y.astype(int), columns=LABELS).astype("Int64"),
    "frame without names": pd.DataFrame(Y.astype(int)),
    "frame with an alias": pd.DataFrame(Y, columns=["money_back", *LABELS[1:]]),
}


@pytest.mark.parametrize("X", KINDS_OF_TEXTS.values(), ids=KINDS_OF_TEXTS)
def test_every_kind_of_texts_gives_the_same_model(X, digest):
    assert CascadeClassifier(MAPPING).fit(X, NAMES).model_.digest == digest


@pytest.mark.parametrize("y", KINDS_OF_LABELS.values(), ids=KINDS_OF_LABELS)
def test_every_kind_of_labels_gives_the_same_model(y, digest):
    assert CascadeClassifier(MAPPING).fit(TEXTS, y).model_.digest == digest


@pytest.mark.parametrize("y", KINDS_OF_LABELS.values(), ids=KINDS_OF_LABELS)
def test_every_kind_of_labels_gives_the_same_score(y, fitted):
    doubted = fitted.score(["good morning", *TEXTS[1:]], y)
    assert doubted == pytest.approx((len(TEXTS) - 1) / len(TEXTS))


@settings(deadline=None, derandomize=True, max_examples=5)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=6, max_size=12).filter(np.any))
def test_names_and_flags_teach_the_same(rows):
    flags = np.array(rows)
    texts = [f"word{number} other" for number in range(len(rows))]
    mapping = {"name": "flat", "labels": ["c", "a", "b"]}
    names = [["cab"[column] for column in np.flatnonzero(row)] for row in flags]
    digests = {
        CascadeClassifier(mapping).fit(texts, y).model_.digest
        for y in (names, flags, sparse.csr_array(flags), pd.DataFrame(flags, columns=list("cab")))
    }
    assert len(digests) == 1


def test_a_frame_in_another_order_is_read_by_name_with_a_warning(digest):
    frame = pd.DataFrame(Y, columns=LABELS)[sorted(LABELS)]
    with pytest.warns(DataConversionWarning, match="not in the order of the taxonomy"):
        classifier = CascadeClassifier(MAPPING).fit(TEXTS, frame)
    assert list(classifier.classes_) == LABELS
    assert classifier.model_.digest == digest
    assert classifier.score(TEXTS, frame) == 1.0


def test_names_of_groups_teach_the_router():
    texts = [*TEXTS, *[f"credit card {number}" for number in range(12)]]
    classifier = CascadeClassifier(MAPPING).fit(texts, [*NAMES, *[["money"]] * 12])
    column = classifier.model_.graph.column["money"]
    assert classifier.model_.walk(["my credit card"]).paths[0, column] > 0.5


def test_a_mapping_a_path_and_a_taxonomy_are_the_same(tmp_path, digest):
    path = tmp_path / "shop.yaml"
    path.write_text(
        "name: shop\ngroups:\n  money:\n    labels:\n    - {name: refund, aliases: [money_back]}\n    - fee\n"
        "  delivery: {labels: [late, broken]}\n",
        encoding="utf-8",
    )
    for taxonomy in (path, str(path), Taxonomy.load(path)):
        assert CascadeClassifier(taxonomy).fit(TEXTS, Y).model_.digest == digest


def test_without_a_taxonomy_names_stand_sorted_in_one_flat_group():
    classifier = CascadeClassifier().fit(TEXTS, NAMES)
    assert list(classifier.classes_) == sorted(LABELS)
    assert classifier.taxonomy_.graph.children[""] == tuple(sorted(LABELS))
    assert classifier.predict([ABOUT["late"]]).tolist() == [[0, 0, 1, 0]]


def test_without_a_taxonomy_columns_without_names_are_numbered():
    classifier = CascadeClassifier().fit(TEXTS, Y)
    assert list(classifier.classes_) == ["0", "1", "2", "3"]
    assert classifier.predict([ABOUT["late"]]).tolist() == [[0, 0, 1, 0]]


def test_without_a_taxonomy_a_frame_names_the_labels_in_its_own_order():
    classifier = CascadeClassifier().fit(TEXTS, pd.DataFrame(Y, columns=LABELS))
    assert list(classifier.classes_) == LABELS


def test_more_than_ten_columns_without_names_keep_their_order():
    y = np.eye(12, dtype=int)[np.arange(60) % 12]
    texts = [f"about {'abcdefghijkl'[column] * 4} {row}" for row, column in enumerate(y.argmax(axis=1))]
    assert (CascadeClassifier().fit(texts, y).predict(texts) == y).all()


def test_one_label_is_an_indicator_of_one_column():
    classifier = CascadeClassifier().fit(TEXTS, Y[:, [2]])
    assert classifier.predict(["much too late", "a fee"]).tolist() == [[1], [0]]
    assert classifier.predict_proba(["much too late", "a fee"]).shape == (2, 1)
    assert classifier.n_classes_ == 1


def test_fitting_again_forgets_the_labels_of_before():
    classifier = CascadeClassifier().fit(TEXTS, NAMES)
    classifier.fit(TEXTS, Y[:, :2])
    assert list(classifier.classes_) == ["0", "1"]
    assert classifier.predict(NEW).shape == (4, 2)


# What comes out


def test_predictions_are_those_of_the_cascade(fitted):
    chosen = fitted.predict([*TEXTS, *NEW])
    assert chosen.dtype == np.int64
    named = [{fitted.classes_[column] for column in np.flatnonzero(row)} for row in chosen]
    assert named == [set(names) for names in fitted.model_.predict([*TEXTS, *NEW])]
    assert named[: len(TEXTS)] == [set(names) for names in NAMES]


def test_fitted_attributes_follow_the_taxonomy(fitted):
    assert list(fitted.classes_) == LABELS
    assert fitted.n_classes_ == 4
    assert fitted.taxonomy_ == Taxonomy.from_dict(MAPPING)
    assert not hasattr(fitted, "n_features_in_")
    assert not hasattr(fitted, "feature_names_in_")


def test_probability_of_what_was_not_visited_is_zero(fitted):
    raw, proba = fitted.model_.predict_proba(NEW), fitted.predict_proba(NEW)
    assert np.isnan(raw).any()
    assert (proba[np.isnan(raw)] == 0).all()
    assert (proba[~np.isnan(raw)] == raw[~np.isnan(raw)]).all()
    assert proba.shape == (4, 4)
    assert proba.dtype.kind == "f"


def test_a_bad_text_is_named_by_its_place_among_all_texts(fitted):
    texts = [*NEW[:3] * (CHUNK // 3 + 1), "half \ud83d"]
    for refuse in (fitted.predict, fitted.predict_proba):
        with pytest.raises(InputError, match=f"X, row {len(texts)}: half"):
            refuse(texts)


def test_texts_beyond_ascii_are_texts():
    texts = [f"{ABOUT['late']} \U0001f69a ähm", "\ufeff", "\x00", "日本語"]
    classifier = CascadeClassifier().fit([text.replace("late", "spät") for text in TEXTS], Y)
    proba = classifier.predict_proba([text.replace("late", "spät") for text in texts])
    assert proba[0].argmax() == LABELS.index("late")
    assert (proba[0, 2] > proba[1:, 2]).all()


def test_no_texts_give_no_rows(fitted):
    assert fitted.predict([]).shape == (0, 4)
    assert fitted.predict_proba(np.array([], dtype=object)).shape == (0, 4)


def test_batches_of_the_walk_leave_no_seam(fitted):
    texts = (NEW[:3] * (CHUNK // 3 + 2))[: CHUNK + 3]
    chosen = fitted.predict(texts)
    alone = fitted.predict(NEW[:3])
    assert alone.any()
    assert (chosen == np.resize(alone, chosen.shape)).all()


def test_a_group_that_backs_off_has_no_column():
    mapping = copy.deepcopy(MAPPING)
    mapping["groups"]["money"] |= {"back_off": True, "threshold": 1.0}
    classifier = CascadeClassifier(mapping).fit(TEXTS, NAMES)
    classifier.model_.manifest.thresholds["money"] = 0.5
    assert classifier.model_.predict(["please refund"]) == [["money"]]
    assert classifier.predict(["please refund"]).tolist() == [[0, 0, 0, 0]]


def test_score_is_subset_accuracy(fitted):
    wrong = [["fee"] if number < 18 else names for number, names in enumerate(NAMES)]
    truth = MultiLabelBinarizer(classes=LABELS).fit_transform(wrong)
    weights = np.arange(len(TEXTS))
    assert fitted.score(TEXTS, wrong) == accuracy_score(truth, fitted.predict(TEXTS)) == 57 / 72
    assert fitted.score(TEXTS, truth, weights) == accuracy_score(
        truth, fitted.predict(TEXTS), sample_weight=weights
    )


# Together with the rest of scikit-learn


def test_a_pipeline_changes_texts_first():
    classifier = make_pipeline(FunctionTransformer(lowered), CascadeClassifier(MAPPING))
    classifier.fit(pd.Series(TEXTS), Y)
    assert classifier.predict([ABOUT["late"].upper()]).tolist() == [[0, 0, 1, 0]]
    assert classifier.score(TEXTS, Y) == 1.0


def lowered(texts):
    return [text.lower() for text in texts]


@pytest.mark.parametrize("y", [Y, pd.DataFrame(Y.astype(int), columns=LABELS)], ids=["array", "frame"])
def test_cross_validation_scores_every_kind_of_indicator(y):
    scores = cross_val_score(CascadeClassifier(MAPPING), np.array(TEXTS), y, scoring="f1_micro", cv=3)
    assert scores.tolist() == [1.0, 1.0, 1.0]


def test_cross_validation_in_processes_gives_the_same_probabilities():
    alone, together = (
        cross_val_predict(CascadeClassifier(MAPPING), TEXTS, Y, cv=2, method="predict_proba", n_jobs=n_jobs)
        for n_jobs in (1, 2)
    )
    assert alone.shape == Y.shape
    assert (alone == together).all()


def test_scorers_of_probabilities_see_one_column_for_each_label():
    scores = cross_val_score(CascadeClassifier(MAPPING), TEXTS, Y, scoring="average_precision", cv=3)
    assert (scores > 0.99).all()


def test_a_grid_search_chooses_between_taxonomies():
    always_wrong = {"name": "shop", "labels": [{"name": name, "threshold": 1.0} for name in LABELS]}
    search = GridSearchCV(
        CascadeClassifier(),
        {"taxonomy": [always_wrong, MAPPING]},
        scoring="f1_micro",
        cv=3,
        error_score="raise",
    ).fit(TEXTS, Y)
    assert search.best_params_ == {"taxonomy": MAPPING}
    assert search.predict([ABOUT["late"]]).tolist() == [[0, 0, 1, 0]]


def test_a_clone_has_the_parameters_and_nothing_learnt(fitted):
    taxonomy = Taxonomy.from_dict(MAPPING)
    twin = clone(CascadeClassifier(taxonomy, random_state=3, jobs=2).fit(TEXTS, NAMES))
    assert twin.get_params() == {"taxonomy": taxonomy, "random_state": 3, "jobs": 2}
    with pytest.raises(NotFittedError, match="CascadeClassifier instance is not fitted yet"):
        twin.predict(NEW)


@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_what_is_not_fitted_says_so(method):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(CascadeClassifier(), method)(NEW)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        CascadeClassifier().score(TEXTS, NAMES)


def through_joblib(classifier):
    file = BytesIO()
    joblib.dump(classifier, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize(
    "carried", [lambda one: pickle.loads(pickle.dumps(one)), through_joblib, copy.deepcopy]
)
def test_a_copy_answers_alike(fitted, carried):
    copied = carried(fitted)
    assert (copied.predict_proba(NEW) == fitted.predict_proba(NEW)).all()
    assert (copied.predict(NEW) == fitted.predict(NEW)).all()
    assert list(copied.classes_) == LABELS


def test_a_saved_model_is_one_for_the_command_line(fitted, tmp_path):
    fitted.model_.save(tmp_path / "model")
    assert Cascade.load(tmp_path / "model").predict(NEW) == fitted.model_.predict(NEW)


def test_equal_integers_give_equal_models(digest):
    other = CascadeClassifier(MAPPING, random_state=7).fit(TEXTS, NAMES).model_
    again = CascadeClassifier(MAPPING, random_state=np.int64(7)).fit(TEXTS, NAMES).model_
    assert other.manifest.seed == 7
    assert other.digest == again.digest != digest


def test_a_random_state_instance_is_drawn_from():
    state = np.random.RandomState(0)
    first, second = (CascadeClassifier(random_state=state).fit(TEXTS, NAMES).model_ for _ in range(2))
    assert first.manifest.seed != second.manifest.seed
    same = CascadeClassifier(random_state=np.random.RandomState(0)).fit(TEXTS, NAMES).model_
    assert same.digest == first.digest


def test_any_seed_will_do_for_random_state_none():
    assert CascadeClassifier(random_state=None).fit(TEXTS, NAMES).score(TEXTS, NAMES) == 1.0


def test_fit_leaves_what_it_was_given():
    mapping, names, flags = copy.deepcopy(MAPPING), copy.deepcopy(NAMES), Y.astype(int)
    classifier = CascadeClassifier(mapping).fit(TEXTS, names)
    classifier.fit(TEXTS, flags)
    assert classifier.taxonomy is mapping
    assert mapping == MAPPING
    assert names == NAMES
    assert (flags == Y).all()


# Complaints


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (
            "one text",
            r"X: expected a list or an array of texts, found str 'one text'\. Wrap one text in \[ \]",
        ),
        (b"one text", "X: expected a list or an array of texts, found bytes"),
        ({"text": TEXTS}, "X: expected a list or an array of texts, found dict"),
        (set(TEXTS), "X: expected a list or an array of texts, found set"),
        (42, "X: expected a list or an array of texts, found int 42"),
        (None, "X: expected a list or an array of texts, found a missing value"),
        (["good", None], r"X, row 2: expected a text, found a missing value \(None\)\. Fill in missing"),
        (pd.Series(["good", np.nan]), r"X, row 2: expected a text, found a missing value \(NaN\)"),
        (
            pd.Series(["good", pd.NA], dtype="string"),
            r"X, row 2: expected a text, found a missing value \(<NA>\)",
        ),
        (["good", "half \ud83d"], "X, row 2: half of a surrogate pair, which UTF-8 cannot carry"),
        (["good", b"bytes"], "X, row 2: expected a text, found bytes b'bytes'"),
        ([["a", "b"], ["c", "d"]], "X, row 1: expected a text, found list"),
        (
            np.array([["a", "b"], ["c", "d"]]),
            r"X: expected one column of texts, found an array of shape \(2, 2\)",
        ),
        (
            pd.DataFrame({"id": ["1"], "text": ["a"]}),
            r"shape \(1, 2\)\. Select it first, for instance X\['text'\]",
        ),
        (np.zeros(3), r"X, row 1: expected a text, found float 0\.0"),
        (np.array("text"), r"X: expected one column of texts, found an array of shape \(\)"),
        (sparse.csr_array(np.eye(2)), "X: expected texts, found a sparse matrix"),
    ],
)
def test_what_is_no_texts_is_refused_by_all_methods(fitted, X, message):
    for refuse in (
        fitted.predict,
        fitted.predict_proba,
        lambda X: CascadeClassifier().fit(X, [["late"]] * 2),
    ):
        with pytest.raises(InputError, match=message):
            refuse(X)


BAD_LABELS = {
    "nothing": (None, "requires y to be passed, but the target y is None"),
    "strings": (["late"] * 72, r"y, row 1: expected a list of names, found the string 'late'\. .*\[\[name\]"),
    "series of strings": (
        pd.Series(["late"] * 72),
        "y, row 1: expected a list of names, found the string 'late'",
    ),
    "one string": ("late", "y: expected a list of names for each text or an indicator, found str 'late'"),
    "mapping": ({"late": [1]}, "y: expected a list of names for each text or an indicator, found dict"),
    "number": (1, "y: expected a list of names for each text or an indicator, found int 1"),
    "classes": (np.arange(72) % 3, r"found an array of shape \(72,\) \(binary or multiclass, one value"),
    "amounts": (np.arange(72) / 7, r"found an array of shape \(72,\) \(continuous, one value"),
    "list of numbers": (
        [0, 1] * 36,
        "y, row 1: expected a list of names or the flags of all labels, found int 0",
    ),
    "missing row": (
        [["late"], None],
        r"y, row 2: .* found a missing value \(None\)\. A text without labels has \[\]",
    ),
    "missing name": (
        [["late"], ["fee", None]],
        "y, row 2: expected the name of a label, found a missing value",
    ),
    "names and flags": ([["late"], [0, 1]], "y, row 2: expected the name of a label, found int 0"),
    "unknown name": ([["late"], ["fees"]] * 36, r"row 2: unknown label 'fees'\. Did you mean 'fee'\?"),
    "too few rows": (NAMES[1:], "72 texts and 71 lists of labels"),
    "too few flags": (Y[1:], "72 texts and 71 lists of labels"),
    "no labels at all": ([[]] * 72, "72 rows, none with a label"),
    "no flag at all": (np.zeros((72, 4)), "72 rows, none with a label"),
    "too few columns": (Y[:, :3], "y: 3 columns, expected 4: one for each label, in order"),
    "uneven flags": ([[0, 1], [0, 1, 0]], "y: rows of 2 to 3 flags; expected one flag for each label"),
    "a two": (Y * 2, r"y, row 1, column 1: expected 0 or 1 in an indicator, found 2"),
    "a seven": (np.where(np.arange(288).reshape(72, 4) == 22, 7, Y), "y, row 6, column 3: expected 0 or 1"),
    "a negative flag": (np.where(Y, -1, 0), "expected 0 or 1 in an indicator, found -1"),
    "a missing flag": (
        np.where(Y, np.nan, 0),
        "y, row 1, column 1: expected 0 or 1 in an indicator, found nan",
    ),
    "a sparse two": (sparse.csc_array(np.eye(72, 4)[::-1] * 2), "y, row 69, column 4: expected 0 or 1"),
    "a sparse cell twice": (
        sparse.coo_array(([1, 1], ([5, 5], [2, 2])), shape=(72, 4)),
        "y, row 6, column 3: expected 0 or 1 in an indicator, found 2",
    ),
    "deep lists": ([[[0]]] * 72, r"found an array of shape \(72, 1, 1\)"),
    "flags that are words": (
        pd.DataFrame(np.where(Y, "yes", "no"), columns=LABELS),
        "could not convert .* 'yes'",
    ),
    "frame of lists": (
        pd.DataFrame({"labels": NAMES}),
        r"Pass lists of names as one column, .* y\['labels'\]",
    ),
    "unknown column": (pd.DataFrame(Y, columns=["refnd", *LABELS[1:]]), r"y, column 1: .* mean 'refund'\?"),
    "column of a group": (pd.DataFrame(Y, columns=["money", *LABELS[1:]]), "column 1: 'money' is a group"),
    "missing column": (pd.DataFrame(Y, columns=LABELS)[["fee", "late"]], "no column for 'refund', 'broken'"),
    "a column twice": (
        pd.DataFrame(np.hstack([Y, Y[:, :1]]), columns=[*LABELS, "money_back"]),
        "y: columns 1 and 5 both mean 'refund'; keep one",
    ),
    "numbers as columns": (
        pd.DataFrame(Y, columns=[3, 4, 5, 6]),
        "expected names of labels as columns, found int 3",
    ),
}


@pytest.mark.parametrize(("y", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_what_is_no_labels_is_refused(y, message):
    with pytest.raises(InputError, match=message):
        CascadeClassifier(MAPPING).fit(TEXTS, y)


def test_many_missing_columns_are_counted():
    mapping = {"name": "wide", "labels": [f"label{number}" for number in range(9)]}
    with pytest.raises(InputError, match=r"no column for 'label1', .*, 'label5' and 3 more labels"):
        CascadeClassifier(mapping).fit(TEXTS, pd.DataFrame({"label0": [1] * 72}))


@pytest.mark.parametrize("y", [[[]] * 72, np.zeros((72, 0)), np.zeros((72, 3))])
def test_without_a_taxonomy_something_must_be_labelled(y):
    with pytest.raises(InputError, match="nothing to learn"):
        CascadeClassifier().fit(TEXTS, y)


def test_the_name_of_a_group_cannot_be_scored(fitted):
    with pytest.raises(InputError, match="y, row 2: 'money' is a group; expected a label"):
        fitted.score(TEXTS[:2], [["late"], ["money"]])


def test_an_unknown_name_cannot_be_scored(fitted):
    with pytest.raises(InputError, match=r"y, row 1: unknown label 'lat'\. Did you mean 'late'"):
        fitted.score(TEXTS[:1], [["lat"]])


def test_complaints_are_those_of_cascade_and_of_scikit_learn_alike():
    with pytest.raises(ValueError, match="row 2"):
        CascadeClassifier().fit(["a", None], [["x"], []])
    with pytest.raises(CascadeError, match="row 2"):
        CascadeClassifier().fit(["a", None], [["x"], []])


def test_faults_of_a_taxonomy_are_named():
    with pytest.raises(TaxonomyError, match="'gruops'"):
        CascadeClassifier({"name": "shop", "gruops": {}}).fit(TEXTS, NAMES)
    with pytest.raises(TaxonomyError, match="linaer"):
        CascadeClassifier(MAPPING | {"defaults": {"backend": "linaer"}}).fit(TEXTS, NAMES)
    with pytest.raises(TaxonomyError, match=r"nowhere\.yaml: cannot be read"):
        CascadeClassifier("nowhere.yaml").fit(TEXTS, NAMES)


def test_a_name_that_no_label_can_have_is_blamed_on_y():
    with pytest.raises(TaxonomyError, match=r"^y: .* begins or ends with a blank"):
        CascadeClassifier().fit(TEXTS, [["late "]] * 72)


def test_what_is_no_taxonomy_is_refused():
    with pytest.raises(
        TypeError, match="taxonomy: expected a Taxonomy, a path, a mapping or None, found list"
    ):
        CascadeClassifier(["late"]).fit(TEXTS, NAMES)


def test_the_example_of_its_docstring_runs():
    results = doctest.testmod(cascade.estimator)
    assert results.attempted
    assert not results.failed


# The package itself


def test_importing_the_package_or_its_errors_loads_nothing_heavy():
    program = (
        "import sys, cascade; from cascade import CascadeError; "
        "print(sorted({'numpy', 'pandas', 'scipy', 'sklearn', 'yaml', 'networkx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_are_found_and_listed():
    assert set(cascade.__all__) <= set(dir(cascade))
    for name in cascade.__all__:
        assert getattr(cascade, name) is getattr(cascade, name)
    assert cascade.Cascade.__module__ == "cascade.fitted"
    assert cascade.CascadeClassifier.__module__ == "cascade.estimator"


def test_a_name_that_the_package_has_not_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'cascade' has no attribute 'Cascades'"):
        cascade.Cascades  # noqa: B018

"""Every backend is asked the same questions; what only one of them does is tested elsewhere."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from cascade.backends import CHOOSABLE, KINDS, complaints, make_backend
from cascade.errors import BackendError, ModelError
from cascade.nodes.contract import NodeProblem, TrialBackend, most_frequent_children
from cascade.taxonomy.settings import BackendSpec
from cascade.testing import KeywordBackend
from cascade.text.texts import Texts
from cascade.tiers import backend as tiers

MAKERS = {
    "linear": lambda: make_backend("linear"),
    "linear, one penalty": lambda: make_backend("linear", {"C": 0.5}),
    "constant": lambda: make_backend("constant"),
    "tiers": lambda: tiers.make({"words": make_backend("linear"), "encoder": make_backend("constant")}, 0.5),
    "tiers of which one is left": lambda: tiers.make(
        {"words": make_backend("constant"), "encoder": make_backend("linear")}, 0.0
    ),
    "keyword": lambda: KeywordBackend({"late": ["late", "too slow"]}),
}
CHILDREN = ("late", "broken", "never")
AWKWARD = [
    "",
    " \t\n",
    "x",
    "?",
    "late",
    "LATE and Broken",
    "zzz qqq vvv",
    "\0",
    "late\0broken",
    "\ufeffspät 遅い متأخر 🐌 e\u0301 \u200b \U0010ffff",
    "\u2028\x85\x1f",
    "half a pair \ud800",
    "late " * 5000,
    "a" * 20_000,
    "'; DROP TABLE late; -- <b>&amp;</b> %s {}",
]


@pytest.fixture(params=MAKERS)
def backend(request):
    return MAKERS[request.param]()


def problem_of(rows=48, seed=0):
    """Texts of a few words, where a word stands for a child; nobody has the child ``never``."""
    random = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(20)]
    targets = np.zeros((rows, len(CHILDREN)), dtype=bool)
    targets[:, :2] = random.random((rows, 2)) < 0.4
    texts = [
        " ".join([*np.array(CHILDREN)[target], *random.choice(words, 5), str(row)])
        for row, target in enumerate(targets)
    ]
    return NodeProblem(CHILDREN, Texts(texts), targets, random.random(rows) < 0.9, seed=seed)


def saved(backend, tmp_path, problem=None):
    """A fitted model and the folder that it was saved to."""
    folder = tmp_path / "node"
    folder.mkdir()
    model = backend.fit(problem or problem_of(), tmp_path).model
    model.save(folder)
    return model, folder


def files(folder):
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def assert_scores(scores, n_texts, n_children=3):
    assert isinstance(scores, np.ndarray)
    assert scores.shape == (n_texts, n_children)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()


def test_scores_of_any_text_have_the_shape_type_and_range_of_the_contract(backend, tmp_path):
    model = backend.fit(problem_of(), tmp_path).model
    assert_scores(model.scores(Texts(AWKWARD)), len(AWKWARD))


def test_no_texts_get_no_scores(backend, tmp_path):
    model = backend.fit(problem_of(), tmp_path).model
    assert_scores(model.scores(Texts([])), 0)
    assert_scores(model.scores(Texts(["late"]).take(np.array([], dtype=np.int64))), 0)


def test_held_out_scores_belong_to_rows_of_the_problem_each_once(backend, tmp_path):
    problem = problem_of()
    fitted = backend.fit(problem, tmp_path)
    assert_scores(fitted.scores, len(fitted.rows))
    assert fitted.rows.dtype == np.int64
    assert len(set(fitted.rows.tolist())) == len(fitted.rows)
    assert set(fitted.rows.tolist()) <= set(range(len(problem.texts)))


def test_notes_can_be_written_as_json(backend, tmp_path):
    assert (
        json.loads(json.dumps(dict(backend.fit(problem_of(), tmp_path).notes), allow_nan=False)) is not None
    )


def test_a_saved_model_gives_the_same_scores_bit_for_bit(backend, tmp_path):
    model, folder = saved(backend, tmp_path)
    again = backend.load(folder)
    texts = [*AWKWARD, *problem_of(seed=1).texts]
    assert again.scores(Texts(texts)).tobytes() == model.scores(Texts(texts)).tobytes()


def test_a_loaded_model_can_be_saved_again_to_the_same_bytes(backend, tmp_path):
    _, folder = saved(backend, tmp_path)
    second = tmp_path / "second"
    second.mkdir()
    backend.load(folder).save(second)
    assert files(second) == files(folder)


def test_a_node_folder_holds_plain_arrays_and_json_only(backend, tmp_path):
    _, folder = saved(backend, tmp_path)
    assert files(folder)
    for path in map(folder.joinpath, files(folder)):
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        else:
            np.load(path, allow_pickle=False)


def test_the_same_problem_twice_gives_the_same_bytes(backend, tmp_path):
    found = []
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        fitted = backend.fit(problem_of(), tmp_path / run)
        folder = tmp_path / run / "node"
        folder.mkdir()
        fitted.model.save(folder)
        found.append((files(folder), fitted.scores.tobytes(), dict(fitted.notes)))
    assert found[0] == found[1]


def test_a_text_alone_gets_what_it_gets_in_a_batch(backend, tmp_path):
    model = backend.fit(problem_of(), tmp_path).model
    texts = [*AWKWARD, *problem_of(seed=1).texts]
    alone = [model.scores(Texts([text]))[0] for text in texts]
    np.testing.assert_array_equal(model.scores(Texts(texts)), alone)


def test_a_view_of_a_batch_is_scored_like_those_texts(backend, tmp_path):
    model = backend.fit(problem_of(), tmp_path).model
    rows = np.array([5, 4, 9, 4], dtype=np.int64)
    view, plain = Texts(AWKWARD).take(rows), [AWKWARD[row] for row in rows]
    np.testing.assert_array_equal(model.scores(view), model.scores(Texts(plain)))


def test_it_is_the_same_problem_whether_its_texts_are_a_view_or_not(backend, tmp_path):
    plain = problem_of()
    padded = Texts(["late late unrelated", *plain.texts, "broken too"])
    view = NodeProblem(
        CHILDREN, padded.take(np.arange(1, 49, dtype=np.int64)), plain.targets, plain.own, plain.seed
    )
    first, second = backend.fit(plain, tmp_path), backend.fit(view, tmp_path)
    np.testing.assert_array_equal(first.scores, second.scores)
    np.testing.assert_array_equal(first.model.scores(Texts(AWKWARD)), second.model.scores(Texts(AWKWARD)))


def test_preparing_changes_nothing_but_the_wait(backend, tmp_path):
    problem, prepared = problem_of(), problem_of()
    backend.prepare(prepared.texts, 2)
    backend.prepare(Texts([]), 1)
    # Features of one text alone are summed up apart once they are prepared.
    np.testing.assert_allclose(
        backend.fit(problem, tmp_path).scores, backend.fit(prepared, tmp_path).scores, rtol=1e-5
    )


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_very_few_rows_are_enough(backend, tmp_path, rows):
    problem = problem_of(rows)
    fitted = backend.fit(problem, tmp_path)
    assert_scores(fitted.scores, len(fitted.rows))
    assert_scores(fitted.model.scores(Texts(AWKWARD)), len(AWKWARD))


@pytest.mark.parametrize("texts", [["abc", "xyz"], ["", ""], ["same", "same"], ["\0", "?"]])
def test_texts_that_have_nothing_in_common_or_nothing_at_all_can_be_fitted(backend, tmp_path, texts):
    targets = np.array([[True, False, False], [False, True, False]])
    problem = NodeProblem(CHILDREN, Texts(texts), targets, np.ones(2, dtype=bool))
    model, folder = saved(backend, tmp_path, problem)
    assert_scores(model.scores(Texts(AWKWARD)), len(AWKWARD))
    np.testing.assert_array_equal(backend.load(folder).scores(Texts(AWKWARD)), model.scores(Texts(AWKWARD)))


def test_one_child_is_a_group_too(backend, tmp_path):
    whole = problem_of()
    problem = NodeProblem(("late",), whole.texts, whole.targets[:, :1], whole.own)
    fitted = backend.fit(problem, tmp_path)
    assert_scores(fitted.model.scores(Texts(AWKWARD)), len(AWKWARD), 1)


def test_a_problem_is_left_as_it_was(backend, tmp_path):
    problem, same = problem_of(), problem_of()
    backend.fit(problem, tmp_path)
    assert list(problem.texts) == list(same.texts)
    np.testing.assert_array_equal(problem.targets, same.targets)
    np.testing.assert_array_equal(problem.own, same.own)


@pytest.mark.parametrize("name", ["linear", "linear, one penalty", "keyword"])
def test_a_trial_scores_the_rows_to_test(name):
    backend = MAKERS[name]()
    assert isinstance(backend, TrialBackend)
    problem = problem_of()
    train, test = np.arange(30, dtype=np.int64), np.array([40, 31], dtype=np.int64)
    assert_scores(backend.fit_and_score(problem, train, test), 2)
    assert_scores(backend.fit_and_score(problem, train, test[:0]), 0)
    assert_scores(backend.fit_and_score(problem, train[:0], test), 2)


class Opened:
    """What a stranger might put into a file: it makes another file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def damages(marker):
    """Ways to damage a file, each a function of its path."""

    def object_array(path):
        with path.open("wb") as out:
            np.lib.format.write_array(out, np.array([Opened(marker)], dtype=object), allow_pickle=True)

    def replaced_by_folder(path):
        path.unlink()
        path.mkdir()

    return {
        "missing": Path.unlink,
        "a folder": replaced_by_folder,
        "empty": lambda path: path.write_bytes(b""),
        "garbage": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\xff\xff garbage"),
        "text": lambda path: path.write_text("late, broken"),
        "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
        "cut short": lambda path: path.write_bytes(path.read_bytes()[:-2]),
        "too long": lambda path: path.write_bytes(path.read_bytes() + b"more"),
        "a pickle": lambda path: path.write_bytes(pickle.dumps(Opened(marker))),
        "an object array": object_array,
        "an archive": lambda path: np.savez(path.open("wb"), a=np.zeros(3)),
        "a scalar": lambda path: np.save(path.open("wb"), np.float32(1)),
        "json null": lambda path: path.write_text("null"),
        "json list": lambda path: path.write_text("[]"),
        "json object": lambda path: path.write_text("{}"),
        "deep json": lambda path: path.write_text("[" * 100_000),
    }


@pytest.mark.parametrize("damage", damages(None))
def test_a_damaged_file_is_a_model_error_that_names_it_and_runs_no_code(backend, tmp_path, damage):
    model, folder = saved(backend, tmp_path)
    marker = tmp_path / "code ran"
    for name, content in files(folder).items():
        path = folder / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            damages(marker)[damage](path)
        with pytest.raises(ModelError, match=name):
            backend.load(folder)
        assert not marker.exists()
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)
    np.testing.assert_array_equal(backend.load(folder).scores(Texts(["late"])), model.scores(Texts(["late"])))


def test_a_pickle_of_the_marker_would_have_made_it(tmp_path):
    """Else the test above could not fail."""
    marker = tmp_path / "code ran"
    pickle.loads(pickle.dumps(Opened(marker)))
    assert marker.exists()


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.5, np.inf])
def test_constant_scores_outside_of_zero_to_one_are_a_model_error(tmp_path, value):
    _, folder = saved(make_backend("constant"), tmp_path)
    np.save(folder / "values.npy", np.array([0.5, value, 0.5], dtype=np.float32))
    with pytest.raises(ModelError, match=r"values\.npy: expected values in \[0, 1\]"):
        make_backend("constant").load(folder)


def test_a_folder_that_does_not_exist_is_a_model_error(backend, tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        backend.load(tmp_path / "nowhere")


def test_changed_bytes_in_headers_end_in_a_model_error_or_a_model(backend, tmp_path):
    """A changed number cannot be noticed here (the manifest has a hash for that)."""
    _, folder = saved(backend, tmp_path)
    random, noticed = np.random.default_rng(0), 0
    for name, content in files(folder).items():
        for _ in range(60):
            damaged = bytearray(content)
            damaged[random.integers(0, min(len(content), 128))] = random.integers(0, 256)
            (folder / name).write_bytes(damaged)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = backend.load(folder)
            except ModelError:
                noticed += 1
            else:
                model.scores(Texts(["late"]))
        (folder / name).write_bytes(content)
    assert noticed > 10


# The table of kinds


def test_every_kind_can_be_made_of_what_it_cannot_do_without():
    for kind in KINDS:
        assert hasattr(make_backend(kind, {"base": "minilm"} if kind == "encoder" else {}), "fit")
    assert set(CHOOSABLE) <= set(KINDS)


def test_an_unknown_kind_is_a_backend_error_that_lists_the_known_ones():
    with pytest.raises(BackendError, match="unknown backend 'liner', expected one of: linear"):
        make_backend("liner")


def test_complaints_name_kind_option_and_what_was_expected():
    assert list(complaints("linear", {})) == []
    (unknown,) = complaints("liner", {})
    assert "Did you mean 'linear'?" in unknown
    (option,) = complaints("linear", {"c": 1})
    assert "has no option 'c'" in option
    assert "Did you mean 'C'?" in option


def test_what_only_fit_may_choose_cannot_be_named_in_a_taxonomy():
    (complaint,) = complaints("constant", {})
    assert "unknown backend 'constant'" in complaint
    assert BackendSpec("constant").kind in KINDS


@pytest.mark.parametrize(
    "value", [0, -1, True, "1", None, [], [1, "x"], {}, float("nan"), float("inf"), [0.1, 0]]
)
def test_a_penalty_must_be_a_number_above_zero_or_several(value):
    (complaint,) = complaints("linear", {"C": value})
    assert "expected a number above 0" in complaint


@pytest.mark.parametrize("value", [1, 0.3, [1.0], (3, 1, 0.1)])
def test_penalties_that_are_fine_make_a_backend(value):
    assert list(complaints("linear", {"C": value})) == []
    assert make_backend("linear", {"C": value})


# Fewer children


def test_the_most_frequent_children_are_kept_in_their_order():
    targets = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]], dtype=bool)
    problem = NodeProblem(
        ("a", "b", "c", "d"), Texts(list("xyz")), targets, np.array([True, False, True]), seed=4
    )
    fewer = most_frequent_children(problem, 3)
    assert fewer.children == ("a", "c", "d")  # of a and b, which are as frequent, the first
    np.testing.assert_array_equal(fewer.targets, targets[:, [0, 2, 3]])
    assert (list(fewer.texts), fewer.own.tolist(), fewer.seed) == (list("xyz"), [True, False, True], 4)
    assert most_frequent_children(problem, 4) is problem


# The keyword backend


def keyword_scores(texts, keywords, **settings):
    problem = NodeProblem(tuple(keywords), Texts([]), np.zeros((0, len(keywords)), bool), np.zeros(0, bool))
    backend = KeywordBackend({name: words for name, words in keywords.items() if words}, **settings)
    return backend.fit(problem, Path()).model.scores(Texts(texts)).tolist()


def test_a_keyword_is_found_as_whole_words_in_any_case():
    texts = ["It was LATE.", "chocolate", "too\n Slow!", "too very slow", ""]
    found = keyword_scores(texts, {"late": ["late", "too slow"]}, found=1, missing=0)
    assert found == [[1], [0], [1], [0], [0]]


def test_a_child_without_keywords_is_its_own_with_underscores_as_blanks():
    texts = ["never arrived", "never_arrived", "never", "arrived never"]
    assert keyword_scores(texts, {"never_arrived": None}, found=1, missing=0) == [[1], [1], [0], [0]]


def test_a_mark_can_be_a_keyword():
    assert keyword_scores(["why?", "why", "🐌"], {"asks": ["?"], "slow": ["🐌"]}, found=1, missing=0) == [
        [1, 0],
        [0, 0],
        [0, 1],
    ]


def test_a_child_with_an_empty_list_of_keywords_is_never_found():
    problem = NodeProblem(("a",), Texts(["a"]), np.ones((1, 1), bool), np.ones(1, bool))
    assert KeywordBackend({"a": []}, missing=0.25).fit(problem, Path()).scores.tolist() == [[0.25]]


@pytest.mark.parametrize(
    ("keywords", "settings", "message"),
    [
        ({"a": ["  "]}, {}, "a word or a mark in it, found '  '"),
        ({"a": "late"}, {}, "expected a list of keywords, found 'late'"),
        ({"a": [3]}, {}, "found 3"),
        ({}, {"found": 1.5}, r"'found' in \[0, 1\], found 1.5"),
        ({}, {"missing": float("nan")}, "'missing' in"),
        ({}, {"missing": True}, "'missing' in"),
    ],
)
def test_keywords_and_scores_that_make_no_sense_are_refused(keywords, settings, message):
    with pytest.raises(BackendError, match=message):
        KeywordBackend(keywords, **settings)


def test_a_child_whose_name_has_no_word_needs_a_keyword():
    with pytest.raises(BackendError, match="found '_'"):
        keyword_scores([], {"_": None})


def test_to_know_the_kinds_nothing_heavy_is_loaded():
    heavy = {"numba", "scipy", "openai", "pandas"}
    script = f"import sys, cascade.backends; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

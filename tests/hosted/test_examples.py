from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_problems import problem_of

from cascade.errors import BackendError
from cascade.hosted import tokens
from cascade.hosted.codecs import codec_of
from cascade.hosted.examples import FEWEST, LONGEST, Examples, fitting
from cascade.hosted.settings import Settings
from cascade.nodes.contract import NodeProblem
from cascade.text.texts import Texts

# Stratified folds are compiled once, which takes seconds.
patient = settings(deadline=None, derandomize=True, max_examples=40)


def examples_of(problem, seed=0, held_out=None, **options):
    given_ = Settings.of(options)
    codec = codec_of(problem.children, {}, "many", given_)
    return Examples.of(problem, codec, given_, seed, held_out)


def lines_of(content):
    return [json.loads(line) for line in content.decode("utf-8").split("\n")[:-1]]


def texts_of(content):
    return [line["messages"][1]["content"] for line in lines_of(content)]


def test_lines_are_texts_with_their_answers():
    problem = problem_of(100)
    examples = examples_of(problem)
    answers = [line["messages"][-1]["content"] for line in lines_of(examples.training)]
    assert texts_of(examples.training) == [problem.texts[row] for row in examples.rows]
    assert answers == [",".join(map(str, map(int, problem.targets[row]))) for row in examples.rows]
    assert examples.n_positives == tuple(problem.targets[examples.rows].sum(axis=0))
    assert examples.n_training == len(answers)
    assert examples.tokens == sum(map(tokens.of_example, lines_of(examples.training)))


def test_a_tenth_is_held_out_with_every_child():
    problem = problem_of(200, n_rare=20)
    examples = examples_of(problem)
    assert 18 <= len(examples.held_out) <= 22
    assert sorted([*examples.rows, *examples.held_out]) == list(range(200))
    share = problem.targets[examples.held_out].sum(axis=0) / problem.targets.sum(axis=0)
    assert (abs(share - 0.1) < 0.06).all()
    assert texts_of(examples.validation) == [problem.texts[row] for row in examples.held_out]


def test_nothing_nearly_equal_to_a_row_held_out_is_trained_on():
    prose = " ".join(f"word{number}" for number in range(60))
    texts = [f"{prose} {number % 40}" if number % 2 else f"row {number % 30}" for number in range(120)]
    problem = problem_of(80, 40, texts=texts)
    examples = examples_of(problem)
    unseen = {problem.texts[row] for row in examples.held_out}
    assert not unseen & set(texts_of(examples.training))
    long = [text for text in unseen if text.startswith(prose)]
    assert not long or not any(text.startswith(prose) for text in texts_of(examples.training))


def test_a_given_mask_is_used_instead():
    problem = problem_of(60, 20)
    held_out = np.arange(80) % 4 == 1
    examples = examples_of(problem, held_out=held_out)
    assert examples.held_out.tolist() == np.flatnonzero(held_out).tolist()
    assert examples.held_out.dtype == np.int64
    assert not held_out[examples.rows].any()
    assert examples.n_validation == (held_out & problem.own).sum()


def test_rare_children_keep_their_rows_under_a_cap():
    problem = problem_of(1000, n_rare=12)
    examples = examples_of(problem, max_examples=100)
    assert examples.n_training == 100
    in_training = problem.targets[:, 2].sum() - problem.targets[examples.held_out, 2].sum()
    assert examples.n_positives[2] == in_training
    assert min(examples.n_positives) >= 10
    assert examples.n_validation <= 10


def test_more_children_than_examples_fill_the_cap():
    targets = np.eye(40, dtype=bool).repeat(5, axis=0)
    names = tuple(f"c{number}" for number in range(40))
    problem = NodeProblem(
        names, Texts([f"row {number}" for number in range(200)]), targets, np.ones(200, bool)
    )
    examples = examples_of(problem, max_examples=20)
    assert examples.n_training == 20
    assert max(examples.n_positives) == 1


def test_a_few_other_rows_are_answered_with_none():
    problem = problem_of(90, 500)
    examples = examples_of(problem)
    others = [
        line["messages"][-1]["content"]
        for line, row in zip(lines_of(examples.training), examples.rows, strict=True)
        if row >= 90
    ]
    assert len(others) == examples.n_others
    assert set(others) == {"0,0,0"}
    assert 0 < examples.n_others <= examples.n_training / 10
    assert (examples.held_out < 90).all()


def test_targets_of_rows_that_do_not_reach_the_group_are_none():
    problem = problem_of(90, 500)
    problem.targets[90:] = True
    examples = examples_of(problem)
    assert examples.n_others > 0
    assert examples.n_positives == tuple(problem.targets[examples.rows[examples.rows < 90]].sum(axis=0))


@patient
@given(st.integers(0, 9) | st.integers(14, 120), st.integers(0, 120), st.integers(10, 60), st.integers(0, 3))
def test_every_size_gives_sound_files_or_says_what_to_do(n_own, n_others, most, seed):
    problem = problem_of(n_own, n_others, seed=seed)
    if n_own < FEWEST:
        with pytest.raises(BackendError, match="backend: linear"):
            examples_of(problem, seed, max_examples=most)
        return
    examples = examples_of(problem, seed, max_examples=most)
    assert FEWEST <= examples.n_training <= most
    assert examples.n_others * 10 <= examples.n_training
    assert not set(examples.rows) & set(examples.held_out)
    assert len(lines_of(examples.training)) == len(set(examples.rows)) == examples.n_training
    assert len(lines_of(examples.validation)) == examples.n_validation
    again = examples_of(problem, seed, max_examples=most)
    assert (again.training, again.validation) == (examples.training, examples.validation)
    assert sum(examples.counts.values()) > 0


def test_the_seed_settles_which_rows():
    one, other = (examples_of(problem_of(300), seed, max_examples=50).training for seed in (1, 2))
    assert one != other


def test_lines_are_shuffled():
    examples = examples_of(problem_of(100))
    assert sorted(examples.rows) != list(examples.rows)


def test_letters_stand_as_they_are_and_no_text_ends_a_line():
    texts = [f"Müller 日本 {number}\n\r\u2028\u2029\x85\x0c end" for number in range(30)]
    examples = examples_of(problem_of(30, texts=texts))
    assert "Müller 日本".encode() in examples.training
    assert len(examples.training.decode("utf-8").splitlines()) == examples.n_training
    assert set(texts_of(examples.training)) <= set(texts)


def test_some_services_want_a_byte_order_mark():
    problem = problem_of(50)
    plain = examples_of(problem)
    marked = examples_of(problem, provider="azure", base_url="https://example.com/openai/v1")
    assert marked.training == b"\xef\xbb\xbf" + plain.training
    assert marked.validation == b"\xef\xbb\xbf" + plain.validation


def test_no_validation_is_no_file():
    examples = examples_of(problem_of(20), held_out=np.zeros(20, dtype=bool), provider="azure")
    assert examples.validation == b""
    assert len(examples.held_out) == 0


def test_too_long_texts_are_cut_and_counted():
    texts = [f"row {number}" for number in range(30)]
    texts[3] = "word " * (LONGEST * 5)
    examples = examples_of(problem_of(30, texts=texts), held_out=np.zeros(30, dtype=bool))
    sizes = [tokens.of_example(line) for line in lines_of(examples.training)]
    assert examples.n_cut == 1
    assert LONGEST - 100 < max(sizes) <= LONGEST
    assert examples.tokens == sum(sizes)
    assert all(line["messages"][-1]["role"] == "assistant" for line in lines_of(examples.training))


def test_a_question_has_room_for_what_an_example_had():
    codec = codec_of(("a", "b"), {}, "many", Settings())
    assert fitting(codec, "short") == "short"
    long = "word " * (LONGEST * 5)
    asked = fitting(codec, long)
    assert long.startswith(asked)
    assert LONGEST - 100 < tokens.of_example(codec.example(asked, [True, False])) <= LONGEST
    assert tokens.of_request(codec.request(asked)) < LONGEST
    wide = "\N{GRINNING FACE}" * (LONGEST // 8)
    assert fitting(codec, wide) == wide


def test_too_few_rows_are_told_with_a_way_out():
    with pytest.raises(
        BackendError, match=r"'refund' and 2 more.*10 training examples.*found 9 .*Label more"
    ):
        examples_of(problem_of(10))


def test_the_old_format_has_prompts_and_completions():
    lines = lines_of(examples_of(problem_of(40), format="completion").training)
    assert all(set(line) == {"prompt", "completion"} for line in lines)

from __future__ import annotations

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cascade.errors import BackendError
from cascade.hosted import tokens
from cascade.hosted.answer_text import SEPARATOR, STOP
from cascade.hosted.codecs import MOST_CODES, Codec, codec_of
from cascade.hosted.logprobs import UnreadableAnswer
from cascade.hosted.settings import Settings

FORMATS = ["chat", "completion"]
KINDS = ["code", "indicator", "names"]
HARD_NAMES = [
    *(
        "none",
        "None",
        "'none'.",
        "None;",
        "a",
        "b",
        "a; b",
        ";",
        "a;",
        "\\",
        "\\;",
        "\\u000020",
        " ",
        "  ",
        " a",
        "A",
    ),
    *(
        "refund",
        "Refund",
        "REFUND",
        "refund.",
        "<|end|>",
        "0",
        "1",
        "1,0",
        "###",
        "THE END",
        "late\ndelivery",
        "ß",
        "ss",
    ),
]
names = st.one_of(st.sampled_from(HARD_NAMES), st.text(min_size=1, max_size=12))
few = settings(deadline=None, derandomize=True, max_examples=40)
children_ = st.lists(names, min_size=1, max_size=14, unique=True)


def make(children, kind="auto", format_="chat", choose=None, **given_):
    choose = choose or ("one" if kind == "code" else "many")
    return codec_of(children, {}, choose, Settings(answer=kind, format=format_), **given_)


def chat(*steps, text=None, finish="stop"):
    """A choice of the chat endpoint; a step is a token with the probabilities of what is listed for it."""
    content = [
        {
            "token": token,
            "logprob": logprob(listed.get(token, 0.0)),
            "bytes": None,
            "top_logprobs": [
                {"token": one, "logprob": logprob(value), "bytes": None} for one, value in listed.items()
            ],
        }
        for token, listed in steps
    ]
    text = "".join(token for token, _ in steps) if text is None else text
    message = {"role": "assistant", "content": text, "refusal": None}
    logprobs = {"content": content, "refusal": None} if content else None
    return {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}


def old(*steps, text=None, finish="stop"):
    """The same of the old completions endpoint."""
    logprobs = {
        "tokens": [token for token, _ in steps],
        "token_logprobs": [logprob(listed.get(token, 0.0)) for token, listed in steps],
        "top_logprobs": [{one: logprob(value) for one, value in listed.items()} for _, listed in steps],
        "text_offset": [0] * len(steps),
    }
    text = "".join(token for token, _ in steps) if text is None else text
    return {"index": 0, "text": text, "logprobs": logprobs if steps else None, "finish_reason": finish}


def logprob(probability):
    return math.log(probability) if probability > 0 else -9999.0


CHOICES = {"chat": chat, "completion": old}


def plain(codec, text):
    return CHOICES[codec.format](text=text)


def said(codec, line):
    """What a service would hand out of a training line that it has learnt by heart."""
    if codec.format == "chat":
        return line["messages"][-1]["content"]
    return line["completion"].partition(STOP)[0]


# Round trips


@few
@given(children_, st.data())
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taught_is_read_back(kind, format_, children, data):
    codec = make(children, kind, format_)
    target = data.draw(st.lists(st.booleans(), min_size=len(children), max_size=len(children)))
    if kind == "code":
        target = [mark and not any(target[:place]) for place, mark in enumerate(target)]
    line = json.loads(json.dumps(codec.example("some text", target)))
    choice = plain(codec, said(codec, line))
    assert codec.read(choice).tolist() == target
    assert not codec.has_probabilities(choice)
    assert codec.completion(target) == said(codec, line).strip()


@few
@given(children_, st.text(max_size=60))
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_question_is_asked_as_it_was_taught(kind, format_, children, text):
    codec = make(children, kind, format_)
    asked, taught = codec.request(text), codec.example(text, [False] * len(children))
    json.dumps([asked, codec.settings_key()], ensure_ascii=False).encode("utf-8")
    if format_ == "chat":
        assert taught["messages"][:-1] == asked["messages"]
        assert [one["role"] for one in asked["messages"]] == ["system", "user"]
        assert all("<|" not in one["content"] and one["content"] for one in taught["messages"])
    else:
        assert taught["prompt"] == asked["prompt"]
        assert asked["prompt"].index(SEPARATOR) == len(asked["prompt"]) - len(SEPARATOR)
        assert "<|" not in taught["prompt"] + taught["completion"]
        assert taught["completion"].count(STOP) == 1
    assert asked["temperature"] == 0


@few
@given(st.lists(st.sampled_from(["a", "\n", "\n\n", "###", "<", "|", ">", " "]), max_size=12).map("".join))
def test_no_text_ends_its_prompt_early(text):
    prompt = make(["a", "b"], "names", "completion").request(text)["prompt"]
    assert prompt.index(SEPARATOR) == len(prompt) - len(SEPARATOR)
    assert "<|" not in prompt


# Codes


def test_a_code_is_read_from_all_that_could_have_stood_there():
    codec = make(["a", "b", "c"], "code")
    listed = {"1": 0.6, " 1": 0.1, "2": 0.2, "Sure": 0.05}
    # 0 and none (3) are not listed: 0.05 is left for both, and neither may have more than 0.05.
    expected = np.array([0.025, 0.7, 0.2]) / 0.95
    for choice in (chat(("1", listed)), old(("1", listed))):
        assert codec.read(choice) == pytest.approx(expected, abs=1e-6)
        assert codec.has_probabilities(choice)
    assert codec.read(chat(("1", listed))).dtype == np.float32


def test_what_is_not_listed_is_bounded_by_the_least_that_is():
    codec = make(["a", "b", "c"], "code")
    scores = codec.read(chat(("0", {"0": 0.5, "1": 0.01})))
    assert scores == pytest.approx(np.array([0.5, 0.01, 0.01]) / 0.53, abs=1e-6)


def test_very_unlikely_is_not_listed_and_never_zero():
    codec = make(["a", "b"], "code")
    scores = codec.read(chat(("0", {"0": 0.9, "1": 0.0, "2": 0.06})))
    assert scores == pytest.approx(np.array([0.9, 0.04]) / 1.0, abs=1e-6)
    certain = codec.read(chat(("0", {"0": 1.0})))
    assert certain[0] > 0.999
    assert certain[1] > 0


@pytest.mark.parametrize("none", ["2", " 2", "none", "None", "002"])
def test_none_has_a_code_of_its_own_and_may_be_said_in_words(none):
    codec = make(["a", "b"], "code")
    assert codec.read(chat((none, {none: 0.97, "0": 0.02}))).sum() < 0.05
    assert codec.read(chat(text=none)).tolist() == [0.0, 0.0]


def test_a_missing_list_of_alternatives_leaves_the_written_token():
    codec = make(["a", "b"], "code")
    choice = chat(("1", {"1": 0.8}))
    choice["logprobs"]["content"][0]["top_logprobs"] = None
    assert codec.read(choice) == pytest.approx([0.1, 0.8], abs=1e-6)
    choice = old(("1", {"1": 0.8}))
    choice["logprobs"]["top_logprobs"] = None
    assert codec.read(choice) == pytest.approx([0.1, 0.8], abs=1e-6)


def test_codes_of_one_length_are_read_digit_by_digit_where_numbers_are_no_tokens():
    codec = make([f"c{number}" for number in range(12)], "code")
    choice = chat(("0", {"0": 0.6, "1": 0.4}), ("3", {"3": 0.75, "4": 0.25}))
    scores = codec.read(choice)
    assert scores[3] == pytest.approx(0.45, abs=1e-6)
    assert scores[4] == pytest.approx(0.15, abs=1e-6)
    # 10, 11 and none (12) share what begins with 1.
    assert scores[10:] == pytest.approx([0.4 / 3] * 2, abs=1e-6)
    assert scores[[0, 1, 2, 5, 6, 7, 8, 9]].max() < 1e-6


def test_a_number_without_its_zero_means_the_same_where_numbers_are_tokens():
    codec = make([f"c{number}" for number in range(12)], "code")
    scores = codec.read(chat(("03", {"03": 0.5, "3": 0.2, "1": 0.1, "11": 0.2})))
    assert scores[3] == pytest.approx(0.7, abs=1e-6)
    assert scores[1] == pytest.approx(0.1, abs=1e-6)
    assert scores[10] < 1e-6


@few
@given(st.integers(1, 30), st.integers(1, 20), st.randoms(use_true_random=False))
@pytest.mark.parametrize("format_", FORMATS)
def test_codes_keep_the_order_and_shares_of_what_is_listed(format_, n_children, most, random):
    codec = make([f"c{number}" for number in range(n_children)], "code", format_)
    weights = [random.random() + 1e-3 for _ in range(n_children + 1)]
    shares = sorted(((weight / sum(weights), number) for number, weight in enumerate(weights)), reverse=True)
    listed = {f"{number:0{len(str(n_children))}}": share for share, number in shares[:most]}
    scores = codec.read(CHOICES[format_]((next(iter(listed)), listed)))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert scores.sum() <= 1 + 1e-5
    seen = [number for _, number in shares[:most] if number < n_children]
    missing = [number for _, number in shares[most:] if number < n_children]
    assert all(scores[one] >= scores[other] - 1e-6 for one, other in pairwise(seen))
    if seen and missing:
        assert scores[missing].max() <= scores[seen].min() + 1e-6
        assert scores[missing].min() > 0
    if len(listed) == len(weights):
        exact = np.array([share for share, _ in sorted(shares, key=lambda pair: pair[1])])
        assert scores == pytest.approx(exact[:-1], abs=1e-5)


@pytest.mark.parametrize("text", ["3", "7", "-1", "1.5", "yes", "1 2", "", "  ", "٣", "9" * 400])
def test_what_is_no_code_is_unreadable(text):
    codec = make(["a", "b"], "code")
    with pytest.raises(UnreadableAnswer):
        codec.read(chat(text=text))
    with pytest.raises(UnreadableAnswer):
        codec.read(chat((text, {text: 0.999, "0": 0.001})))


def test_of_two_children_a_code_names_the_first():
    assert make(["a", "b", "c"], "code").completion([False, True, True]) == "1"


# Indicators


def test_an_indicator_has_the_share_of_one_at_each_place():
    codec = make(["a", "b", "c"], "indicator")
    steps = [
        ("1", {"1": 0.9, "0": 0.09, "2": 0.01}),
        (",", {",": 1.0}),
        ("0", {"0": 0.6, " 0": 0.2, "1": 0.1, " 1": 0.1}),
        (",", {",": 1.0}),
        ("1", {"1": 0.98}),
    ]
    # For the last one 0 is not listed: it has what is left.
    expected = [0.9 / 0.99, 0.2, 0.98]
    for choice in (chat(*steps), old(*steps)):
        assert codec.read(choice) == pytest.approx(expected, abs=1e-6)
        assert codec.has_probabilities(choice)


def test_a_comma_or_a_blank_may_be_part_of_a_digits_token():
    codec = make(["a", "b", "c"], "indicator")
    steps = [(" ", {" ": 1.0}), ("1,", {"1,": 0.7, "0,": 0.3}), (" 0", {" 0": 0.8, " 1": 0.2}), (",", {})]
    steps += [("1", {"1": 0.6, "0": 0.4})]
    assert codec.read(chat(*steps)) == pytest.approx([0.7, 0.2, 0.6], abs=1e-6)


@pytest.mark.parametrize(
    "blank", [[(" ", {" ": 1.0}), ("1", {"1": 0.7, "0": 0.3})], [(" 1", {" 1": 0.7, " 0": 0.3})]]
)
def test_a_text_without_its_first_blank_has_all_its_tokens(blank):
    codec = make(["a", "b"], "indicator")
    steps = [*blank, (",", {",": 1.0}), ("0", {"0": 0.9, "1": 0.1}), ("</s1>", {"</s1>": 1.0})]
    for text in ("1,0", " 1,0"):
        assert codec.read(chat(*steps, text=text)) == pytest.approx([0.7, 0.1], abs=1e-6)


def test_several_digits_in_one_token_are_read_one_after_the_other():
    codec = make(["a", "b"], "indicator")
    scores = codec.read(chat(("1,0", {"1,0": 0.6, "1,1": 0.2, "0,0": 0.2})))
    assert scores == pytest.approx([0.8, 0.25], abs=1e-6)


def test_marks_of_an_end_are_not_part_of_an_answer():
    codec = make(["a"], "indicator")
    choice = chat(("1", {"1": 0.7, "0": 0.3}), ("<|10|>", {"<|10|>": 1.0}), text="1")
    assert codec.read(choice) == pytest.approx([0.7], abs=1e-6)


@few
@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=40))
@pytest.mark.parametrize("format_", FORMATS)
def test_indicators_give_back_the_probabilities_of_their_digits(format_, shares):
    codec = make([f"c{number}" for number in range(len(shares))], "indicator", format_)
    steps = []
    for share in shares:
        steps += [("1" if share > 0.5 else "0", {"1": share, "0": 1 - share}), (",", {",": 1.0})]
    scores = codec.read(CHOICES[format_](*steps[:-1]))
    assert scores == pytest.approx(shares, abs=1e-5)


@pytest.mark.parametrize("text", ["1,0", "1,0,1,1", "1,2,0", "1,0,x", "", "none", "1,0,10"])
def test_an_indicator_needs_one_digit_a_child(text):
    codec = make(["a", "b", "c"], "indicator")
    with pytest.raises(UnreadableAnswer):
        codec.read(chat(text=text))
    with pytest.raises(UnreadableAnswer):
        codec.read(chat(*((one, {one: 0.9}) for one in text)))


def test_tokens_that_are_not_the_text_are_unreadable():
    with pytest.raises(UnreadableAnswer, match="not its text"):
        make(["a", "b"], "indicator").read(chat(("1", {"1": 0.9}), (",", {}), ("1", {"1": 0.9}), text="1,0"))


# Names


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("late; refund", [1, 0, 1]),
        ("refund; late", [1, 0, 1]),
        (" REFUND ;  late  delivery;", [1, 1, 0]),
        ("'Refund'.", [1, 0, 0]),
        ("money back", [1, 0, 0]),
        ("refund\nlate", [1, 0, 1]),
        ("refund; refund", [1, 0, 0]),
        ("none", [0, 0, 0]),
        (" None.", [0, 0, 0]),
    ],
)
def test_names_are_read_with_tolerance(text, expected):
    codec = make(["refund", "late delivery", "late"], "names", aliases={"refund": ["Money Back"]})
    assert codec.read(chat(text=text)).tolist() == expected
    assert "logprobs" not in codec.request("some text")


@pytest.mark.parametrize("text", ["returns", "refund; returns", "none; refund", ";", "refund late"])
def test_a_part_that_is_no_name_makes_the_whole_unreadable(text):
    with pytest.raises(UnreadableAnswer) as caught:
        make(["refund", "late"], "names").read(chat(text=text))
    assert "returns" not in str(caught.value)


def test_names_that_are_cut_short_are_unreadable():
    with pytest.raises(UnreadableAnswer, match="cut short"):
        make(["late", "late delivery"], "names").read(chat(text="late", finish="length"))


def test_names_that_differ_in_case_alone_have_to_be_exact():
    codec = make(["Polish", "polish", "german"], "names")
    assert codec.read(chat(text="polish; German")).tolist() == [0, 1, 1]
    with pytest.raises(UnreadableAnswer):
        codec.read(chat(text="POLISH"))


def test_an_alias_never_takes_the_name_of_another_child():
    codec = make(["refund", "late"], "names", aliases={"refund": ["late", "slow"], "late": ["slow", "tardy"]})
    assert codec.read(chat(text="late; tardy")).tolist() == [0, 1]
    with pytest.raises(UnreadableAnswer):
        codec.read(chat(text="slow"))


# Whatever a service sends

json_ = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.sampled_from(["1", "0", ",", "none"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["content", "tokens", "token", "logprob", "top_logprobs", "token_logprobs", "1"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@few
@given(
    st.fixed_dictionaries(
        {}, optional={"message": json_, "text": json_, "logprobs": json_, "finish_reason": json_}
    )
)
@pytest.mark.parametrize("kind", KINDS)
def test_any_choice_is_read_or_unreadable(kind, choice):
    codec = make(["a"], kind)
    try:
        scores = codec.read(choice)
    except UnreadableAnswer:
        return
    assert scores.shape == (1,)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_unreadable(kind):
    choice = chat(text=None)
    choice["message"] = {"content": None, "refusal": "I cannot help with that"}
    with pytest.raises(UnreadableAnswer, match="refused"):
        make(["a"], kind).read(choice)
    with pytest.raises(UnreadableAnswer, match="filter"):
        make(["a"], kind).read(chat(text="1", finish="content_filter"))


# Choosing and asking


@pytest.mark.parametrize(
    ("choose", "n_children", "kind"),
    [
        ("one", 2, "code"),
        ("one", MOST_CODES - 1, "code"),
        ("one", MOST_CODES, "names"),
        ("many", 40, "indicator"),
        ("many", 41, "names"),
    ],
)
def test_auto_takes_what_fits(choose, n_children, kind):
    children = [f"c{number}" for number in range(n_children)]
    assert make(children, choose=choose).kind == kind


def test_a_code_cannot_say_two_children_nor_too_many():
    with pytest.raises(BackendError, match=r"choose: many.*'indicator' or 'names'"):
        make(["a", "b"], "code", choose="many")
    with pytest.raises(BackendError, match="found 1000"):
        make([f"c{number}" for number in range(MOST_CODES)], "code")


@pytest.mark.parametrize("kind", KINDS)
def test_the_system_message_names_task_and_children_where_that_is_wanted(kind):
    def system(**options):
        return codec_of(
            ["refund", "late"],
            {"late": "Came\nafter " + "the day " * 20},
            "one" if kind == "code" else "many",
            Settings(answer=kind, **options),
            task="What customers say.",
        ).system

    task, reminder = system().splitlines()
    assert task == "What customers say."
    assert len(reminder) < 25
    task, _, refund, late = system(list_children=True).splitlines()
    assert task == "What customers say."
    assert refund.endswith("refund")
    assert "late: Came after the day" in late
    assert len(late) < 100


def test_many_children_are_not_listed_in_each_question():
    listing = Settings(answer="names", list_children=True)
    few, many = (
        codec_of([f"name{number}" for number in range(size)], {}, "many", listing) for size in (200, 201)
    )
    assert "name7" in few.system
    assert "name7" not in many.system


def test_endpoints_and_limits_of_both_formats():
    chat_, old_ = (make(["a", "b"], "code", format_).request("x") for format_ in FORMATS)
    assert make(["a"], format_="chat").endpoint == "/v1/chat/completions"
    assert make(["a"], format_="completion").endpoint == "/v1/completions"
    assert (chat_["logprobs"], chat_["top_logprobs"], chat_["max_completion_tokens"]) == (True, 20, 1)
    assert (old_["logprobs"], old_["max_tokens"], old_["stop"]) == (5, 1, [STOP])


def test_the_settings_key_tells_codecs_apart():
    keys = [
        json.dumps(make(children, kind, format_).settings_key(), sort_keys=True)
        for children in (["a", "b"], ["b", "a"])
        for kind in KINDS
        for format_ in FORMATS
    ]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_codec_comes_back_from_its_key(kind, format_):
    codec = make(["a", "b"], kind, format_, aliases={"b": ["c"]}, task="Letters.")
    key = json.loads(json.dumps(codec.settings_key()))
    assert Codec.of(key) == codec


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"kind": "guess"},
        {"kind": ["code"]},
        {"format": "audio"},
        {"children": "ab"},
        {"children": ["a", 1]},
        {"children": ["a", "a"]},
        {"children": []},
        {"system": None},
        {"alternatives": -1},
        {"alternatives": "5"},
        {"aliases": [["x"]]},
        {"aliases": [["x"], [1]]},
        {"aliases": None},
    ],
)
def test_a_key_of_no_codec_is_refused(change):
    key = make(["a", "b"], "indicator").settings_key()
    with pytest.raises(ValueError, match="codec"):
        Codec.of(key | change)
    with pytest.raises(ValueError, match="codec"):
        Codec.of({name: value for name, value in key.items() if name not in change})


def test_codecs_with_equal_settings_are_equal():
    assert make(["a", "b"]) == make(["a", "b"])
    assert len({make(["a", "b"]), make(["a", "b"]), make(["b", "a"])}) == 2


# Tokens


@pytest.fixture(scope="module")
def pieces():
    """Texts as their tokens."""
    encoding = pytest.importorskip("bpe_openai").get_encoding("o200k_base")
    return lambda text: [encoding.decode([token]) for token in encoding.encode_ordinary(text)]


@pytest.mark.parametrize("n_children", [9, 10, 99, 100, MOST_CODES - 1])
def test_a_code_is_one_token(pieces, n_children):
    codec = make([f"c{number}" for number in range(n_children)], "code")
    for place in {0, 1, 7, *range(9, n_children + 1, 10), n_children - 1, n_children}:
        code = codec.completion([number == place for number in range(n_children)])
        assert pieces(code) == [code]


@few
@given(st.lists(st.booleans(), min_size=1, max_size=60))
@pytest.mark.parametrize("format_", FORMATS)
def test_each_digit_of_an_indicator_is_a_token_of_its_own(pieces, format_, target):
    codec = make([f"c{number}" for number in range(len(target))], "indicator", format_)
    found = pieces(said(codec, codec.example("x", target)))
    assert found[::2] == ["1" if mark else "0" for mark in target]
    assert set(found[1::2]) <= {","}
    asked = codec.request("x")
    assert len(found) <= asked.get("max_completion_tokens", asked.get("max_tokens"))


@few
@given(st.lists(names, min_size=1, max_size=8, unique=True))
def test_an_answer_of_names_has_room(children):
    codec = make(children, "names")
    assume(sum(map(len, children)) < 200)
    answer = codec.completion([True] * len(children))
    assert tokens.count(answer) <= codec.request("x")["max_completion_tokens"] or not tokens.is_exact()


def test_tokens_are_counted_or_estimated():
    assert tokens.estimate("") == 0
    assert tokens.estimate("abcde") == 2
    body = {"messages": [{"role": "user", "content": "1,0,1"}]}
    if tokens.is_exact():
        assert tokens.count("1,0,1") == 5
        assert tokens.of_request(body) == 3 + 3 + 1 + 5
        assert tokens.of_example({"prompt": "1,0,1", "completion": "1\n"}) == 7


@few
@given(st.text(max_size=200), st.integers(0, 60))
def test_a_cut_text_is_a_beginning_with_no_more_tokens(text, most):
    whole = text.encode("utf-8", "replace").decode("utf-8")
    short = tokens.cut(text, most)
    assert whole.startswith(short)
    assert tokens.count(short) <= most + 1 or not tokens.is_exact()

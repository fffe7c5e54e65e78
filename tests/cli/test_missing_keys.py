"""A key that is missing is told before anything is read, trained or sent."""

from __future__ import annotations

import json

import pytest
import yaml
from hosted_runs import run

ADDRESS = "http://127.0.0.1:9/v1"
PROMPT = {
    "kind": "prompt",
    "provider": "compatible",
    "base_url": ADDRESS,
    "model": "m",
    "api_key_env": "MY_KEY",
}
TUNED = {"kind": "openai", "provider": "compatible", "base_url": ADDRESS, "api_key_env": "OTHER_KEY"}
LABELS = {
    "billing": ["refund", "invoice"],
    "delivery": ["late", "broken"],
    "account": ["password", "closing"],
}
NO_KEY = f"{ADDRESS}: no key: the environment variable MY_KEY is not set. Set it, or name another one"


def put(folder, default, **groups):
    told = {name: {"labels": labels, **groups.get(name, {})} for name, labels in LABELS.items()}
    described = {"name": "shop", "defaults": {"backend": default}, "groups": told}
    described |= {name: value for name, value in groups.items() if name not in LABELS}
    (folder / "shop.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    names = [name for labels in LABELS.values() for name in labels]
    rows = [{"text": f"about {names[row % 6]}, {row}", "labels": [names[row % 6]]} for row in range(60)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def place_of(folder, words):
    """Where in the file a mapping begins that stands below a line of these words."""
    lines = (folder / "shop.yaml").read_text("utf-8").splitlines()
    above = next(number for number, line in enumerate(lines) if line.strip() == words)
    below = lines[above + 1]
    return f"shop.yaml:{above + 2}:{len(below) - len(below.lstrip()) + 1}"


def refused(folder, *words, **keys):
    done = run(folder, *words, code=1, **{"MY_KEY": "", "OTHER_KEY": "", **keys})
    assert "fitted" not in done.stderr
    return done.stderr.splitlines()


FIT = ("fit", "shop.yaml", "--data", "train.jsonl")


@pytest.mark.parametrize("key", ["", "  "])
def test_fit_names_the_place_the_groups_and_the_variable_before_any_group_is_trained(tmp_path, key):
    folder = put(tmp_path, "linear", billing={"backend": PROMPT})
    told = refused(folder, *FIT, MY_KEY=key)
    assert len(told) == 1
    assert f"{place_of(folder, 'backend:')}: billing: {NO_KEY}" in told[0]
    assert not (folder / "models").exists()


def test_all_that_lack_a_key_are_told_at_once(tmp_path):
    verify = {"backend": {**PROMPT, "model": "another"}, "at_most": "10%"}
    folder = put(tmp_path, PROMPT, account={"backend": TUNED}, verify=verify)
    told = "\n".join(refused(folder, *FIT))
    assert f": top level, billing, delivery: {NO_KEY}" in told
    assert f": verify: {NO_KEY}" in told
    assert ": account: " in told
    assert "OTHER_KEY is not set" in told
    assert "MY_KEY" not in "\n".join(refused(folder, *FIT, MY_KEY="any"))


def test_the_second_pass_needs_a_key_though_no_group_does(tmp_path):
    folder = put(tmp_path, "linear", verify={"backend": PROMPT})
    assert f": verify: {NO_KEY}" in refused(folder, *FIT)[0]


def test_what_asks_nothing_needs_no_key(tmp_path):
    folder = put(tmp_path, "linear", billing={"backend": PROMPT})
    run(folder, *FIT, "--dry-run", MY_KEY="")
    put(tmp_path, "linear")
    run(folder, *FIT, MY_KEY="")
    run(folder, "predict", "train.jsonl", MY_KEY="")


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    """A folder with a model that asks, which was made without asking anything."""
    folder = put(tmp_path_factory.mktemp("asking"), PROMPT)
    run(folder, "fit", "shop.yaml", MY_KEY="")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "nowhere.jsonl"),
        ("evaluate", "nowhere.jsonl"),
        ("tune", "nowhere.jsonl"),
        ("label", "nowhere.jsonl", "--out", "rows.jsonl"),
        ("distil", "models/shop", "nowhere.jsonl", "--out", "student"),
    ],
    ids=lambda words: words[0],
)
def test_a_model_that_asks_tells_it_before_any_row_is_read(asking, words):
    told = refused(asking, *words)[-1]
    assert f"top level, billing, delivery and 1 more: {NO_KEY}" in told


def test_a_forecast_needs_no_key(asking):
    run(asking, "predict", "train.jsonl", "--dry-run", MY_KEY="")

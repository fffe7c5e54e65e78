"""`cascade distil` as a process: teachers of this machine and at a service on loopback."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time

import pytest
import yaml
from answering_service import Script, Service, said
from hosted_runs import environment, run
from shop import SHOP, shop_rows

from cascade.cli.distilling import most_asked
from cascade.fitted import Cascade
from cascade.predict.forecast import forecast
from cascade.rows.reading import read_all

SAYINGS = {
    "wifi": ["the wifi is slow", "wifi drops at night", "no wifi upstairs"],
    "price": ["a fair price", "the price is steep", "price and value"],
    "staff": ["kind staff", "staff were rude", "the staff helped us"],
}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def labelled(count, seed):
    return [{"text": text, "labels": names} for text, names in zip(*shop_rows(count, seed), strict=True)]


@pytest.fixture(scope="module")
def shop_folder(tmp_path_factory):
    """A folder with a model of 300 rows, 30 of them as rows of a student, 300 texts and 150 test rows."""
    folder = tmp_path_factory.mktemp("shop")
    written(folder / "train.jsonl", labelled(300, 1))
    written(folder / "few.jsonl", labelled(300, 1)[:30])
    written(folder / "test.jsonl", labelled(150, 2))
    texts = [{"text": f"{row['text']} {number}"} for number, row in enumerate(labelled(300, 3))]
    written(folder / "texts.jsonl", texts)
    (folder / "shop.yaml").write_text(yaml.safe_dump(SHOP, sort_keys=False), "utf-8")
    run(folder, "fit", "shop.yaml", "--data", "train.jsonl")
    return folder


DISTIL = ("distil", "models/shop", "texts.jsonl", "--data", "few.jsonl")


def test_a_student_nears_its_teacher_and_is_a_model_as_any_other(shop_folder):
    told = run(shop_folder, *DISTIL, "--out", "models/a", "--test", "test.jsonl", "--json")
    found = json.loads(told.stdout)
    teacher, without, taught = found["figures"].values()
    assert without["micro_f1"] < taught["micro_f1"] <= teacher["micro_f1"] + 0.01
    assert (taught["micro_f1"] - without["micro_f1"]) > (teacher["micro_f1"] - without["micro_f1"]) / 2
    assert (found["rows"], found["texts"], found["asked"], found["failed"]) == (30, 300, 300, 0)
    answers = run(shop_folder, "predict", "test.jsonl", "--model", "models/a").stdout
    assert len(answers.splitlines()) == 150
    evaluated = json.loads(run(shop_folder, "evaluate", "test.jsonl", "--model", "models/a", "--json").stdout)
    assert evaluated["micro_f1"] == taught["micro_f1"]


def test_the_same_command_asks_nothing_and_changes_nothing(shop_folder):
    run(shop_folder, *DISTIL, "--out", "models/b")
    before = (shop_folder / "models/b/manifest.json").read_bytes()
    again = run(shop_folder, *DISTIL, "--out", "models/b")
    assert "0 texts asked about, 300 answered before" in again.stderr
    assert (shop_folder / "models/b/manifest.json").read_bytes() == before


def test_out_of_fold_figures_are_kept_back_where_the_teacher_knew_the_rows(shop_folder):
    told = run(shop_folder, *DISTIL, "--out", "models/b", "--json")
    figures = json.loads(told.stdout)["figures"]
    assert figures["student with texts"] is None
    assert figures["student without texts"]["micro_f1"] > 0
    assert "name some with --test FILE" in run(shop_folder, *DISTIL, "--out", "models/b").stderr


def test_at_most_so_many_texts_are_asked_about(shop_folder):
    found = json.loads(run(shop_folder, *DISTIL, "--out", "models/c", "--most", "40", "--json").stdout)
    assert found["asked"] == 40
    more = json.loads(run(shop_folder, *DISTIL, "--out", "models/c", "--most", "60", "--json").stdout)
    assert (more["asked"], more["texts"]) == (20, 60)


def test_labelled_rows_among_the_texts_are_not_asked_about(shop_folder, tmp_path):
    texts = lines(shop_folder / "few.jsonl")[:10] + lines(shop_folder / "texts.jsonl")[:20]
    written(tmp_path / "mixed.jsonl", [{"text": row["text"].upper()} for row in texts])
    told = run(
        shop_folder,
        "distil",
        "models/shop",
        tmp_path / "mixed.jsonl",
        "--data",
        "few.jsonl",
        "--out",
        tmp_path / "m",
    )
    assert "20 texts asked about" in told.stderr
    assert "10 texts left out" in told.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--out", "texts.jsonl"), "a file; expected a folder"),
        (("--out", "models/d", "--student", "nobody"), "nobody"),
        (("--out", "models/d", "--data", "absent.jsonl"), "absent.jsonl"),
        (("--out", "models/d", "--test", "absent.jsonl"), "absent.jsonl"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_asked(shop_folder, words, why):
    told = run(shop_folder, "distil", "models/shop", "texts.jsonl", "--data", "few.jsonl", *words, code=1)
    assert why in told.stderr
    assert not (shop_folder / "models/d.answers.jsonl").exists()


def test_a_student_is_not_written_over_its_teacher(shop_folder):
    told = run(shop_folder, *DISTIL, "--out", "models/shop", code=2)
    assert "MODEL itself" in told.stderr


# At a service


def text_in(body):
    marked = [one["content"] for one in body["messages"] if "<text>" in one["content"]]
    return re.fullmatch(r"<text>\n(.*)\n</text>", marked[-1], re.DOTALL)[1]


def by_words(body):
    found = [{"label": name, "confidence": 90} for name in SAYINGS if name in text_in(body)]
    return said(json.dumps({"labels": found}))


def hotel_rows(count, seed):
    draw = random.Random(seed)
    made = []
    for number in range(count):
        names = draw.sample(list(SAYINGS), draw.choice([0, 1, 1, 2]))
        parts = [draw.choice(SAYINGS[name]) for name in names] or ["just a note"]
        made.append({"text": f"{', '.join(parts)} {number}", "labels": sorted(names)})
    return made


@pytest.fixture
def service():
    with Service(Script(choose=by_words)) as running:
        yield running


def hotel(folder, service, **backend):
    """A folder with a model that asks, of no row; one question a text."""
    told = {"kind": "prompt", "provider": "compatible", "base_url": service.base_url, "model": "m"}
    described = {
        "name": "hotel",
        "defaults": {"backend": {**told, "api_key_env": "SANDBOX_KEY", **backend}},
        "groups": {"topics": {"route": "always", "labels": list(SAYINGS)}},
    }
    (folder / "hotel.yaml").write_text(yaml.safe_dump(described), "utf-8")
    written(folder / "texts.jsonl", [{"text": row["text"]} for row in hotel_rows(150, 1)])
    written(folder / "test.jsonl", hotel_rows(60, 2))
    run(folder, "fit", "hotel.yaml")
    return folder


ASK = ("distil", "models/hotel", "texts.jsonl", "--out", "models/student")


def test_a_model_that_asks_is_kept_without_a_labelled_row_and_paid_once(tmp_path, service):
    folder = hotel(tmp_path, service)
    first = run(folder, *ASK, "--json")
    found = json.loads(first.stdout)
    assert (found["rows"], found["texts"], found["settled_by"]) == (0, 150, "teacher")
    assert set(service.texts.values()) == {1}
    asked = sum(service.texts.values())
    assert asked == 150
    # The service closes, and the student knows what it said; whose scores nobody settled.
    service.script.always["m"] = said("gone")
    run(folder, *ASK)
    answered = [json.loads(line) for line in run(folder, "predict", "test.jsonl").stdout.splitlines()]
    assert sum(service.texts.values()) == asked
    truth = [row["labels"] for row in lines(folder / "test.jsonl")]
    right = [sorted(one["labels"]) == names for one, names in zip(answered, truth, strict=True)]
    assert sum(right) > 50
    assert not answered[0]["calibrated"]


def test_a_run_that_is_killed_goes_on_and_pays_nothing_twice_but_what_was_in_flight(tmp_path, service):
    folder = hotel(tmp_path, service, concurrency=4)
    service.script.latency = 0.02
    command = [sys.executable, "-m", "cascade", *ASK]
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.DEVNULL) as process:
        while len(service.texts) < 90 and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert process.returncode != 0
    kept = lines(folder / "models/student.answers.jsonl")
    assert 64 <= len(kept) < 150
    service.script.latency = 0
    found = json.loads(run(folder, *ASK, "--json").stdout)
    assert (found["texts"], found["asked"]) == (150, 150 - len(kept))
    twice = [text for text, count in service.texts.items() if count > 1]
    assert len(twice) <= 64
    assert not {row["text"] for row in kept} & {re.sub(r"</?text>|\n", "", text) for text in twice}
    assert len(lines(folder / "models/student.answers.jsonl")) == 150


def test_texts_that_a_service_fails_on_are_told_and_asked_about_again(tmp_path, service):
    from answering_service import INVALID

    folder = hotel(tmp_path, service)
    marked = [f"<text>\n{row['text']}\n</text>" for row in lines(folder / "texts.jsonl")[:2]]
    service.script.always |= dict.fromkeys(marked, INVALID)
    told = run(folder, *ASK, code=3)
    assert "2 texts without an answer" in told.stderr
    service.script.always.clear()
    found = json.loads(run(folder, *ASK, "--json").stdout)
    assert (found["asked"], found["texts"], found["failed"]) == (2, 150, 0)


def test_a_budget_needs_prices(tmp_path, service):
    folder = hotel(tmp_path, service)
    told = run(folder, *ASK, "--budget", "1", code=1)
    assert "Say --most N instead of --budget" in told.stderr
    assert not service.texts


@pytest.fixture
def priced(tmp_path):
    """A folder with a model at a service whose prices are known, and that no test reaches."""
    described = {
        "name": "hotel",
        "defaults": {"backend": {"kind": "prompt", "model": "gpt-4.1", "api_key_env": "SANDBOX_KEY"}},
        "groups": {"topics": {"route": "always", "labels": list(SAYINGS)}},
    }
    (tmp_path / "hotel.yaml").write_text(yaml.safe_dump(described), "utf-8")
    written(tmp_path / "texts.jsonl", [{"text": row["text"]} for row in hotel_rows(20, 1)])
    run(tmp_path, "fit", "hotel.yaml")
    return tmp_path


def test_a_budget_below_one_text_sends_nothing(priced):
    told = run(priced, *ASK, "--budget", "0.00001", code=1)
    assert "more than --budget 1e-05. Nothing was sent" in told.stderr


def test_a_budget_is_enough_for_as_many_texts_as_it_pays(priced):
    teacher = Cascade.load(priced / "models/hotel")
    rows = read_all([priced / "texts.jsonl"]).rows
    usd = forecast(teacher.looks, [row.text for row in rows]).usd
    assert most_asked(teacher, rows, None, usd * 0.52) == 10
    assert most_asked(teacher, rows, 7, usd * 0.52) == 7
    assert most_asked(teacher, rows, None, usd * 3) >= len(rows)
    assert most_asked(teacher, rows, 5, None) == 5


def test_a_budget_says_nothing_of_a_teacher_of_this_machine(shop_folder):
    told = run(shop_folder, *DISTIL, "--out", "models/b", "--budget", "0")
    assert "--budget changes nothing" in told.stderr

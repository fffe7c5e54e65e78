"""``cascade encoders``, and fit and predict with one, as people use them."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from processes import command, environment
from shop import SHOP, shop_rows
from tiny_encoders import MEANINGS, gather, onnx_folder, rows_of, static_folder

from cascade.encoders import register, store
from cascade.taxonomy.definition import Taxonomy

TAXONOMY = """
name: tickets
data: {train: train.jsonl}
defaults: {backend: {kind: linear, encoder: tiny}}
groups:
  things: {labels: [money, post]}
  moods: {labels: [angry, sun]}
"""


def cascade(folder, *words, **changes):
    done = subprocess.run(
        command(*words), cwd=folder, capture_output=True, text=True, env=environment(**changes), check=False
    )
    assert "Traceback" not in done.stderr
    return done


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(path, texts, labels):
    rows = ({"text": text, "labels": own} for text, own in zip(texts, labels, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def place(home, tmp_path_factory):
    """A folder with a taxonomy, rows, an encoder in the store, and the model."""
    folder = tmp_path_factory.mktemp("tickets")
    onnx_folder(folder / "tiny")
    assert cascade(folder, "encoders", "add", "tiny").returncode == 0
    (folder / "tickets.yaml").write_text(TAXONOMY)
    write_rows(
        folder / "train.jsonl", *rows_of({name: own[:2] for name, own in MEANINGS.items()}, 150, seed=0)
    )
    write_rows(folder / "new.jsonl", *rows_of({name: own[2:] for name, own in MEANINGS.items()}, 60, seed=1))
    done = cascade(folder, "fit", "tickets.yaml", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "encoder = tiny" in done.stderr
    return folder


def test_encoders_are_added_listed_verified_and_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    static_folder(tmp_path / "Mine")
    added = cascade(tmp_path, "encoders", "add", "Mine")
    assert added.returncode == 0
    assert added.stdout.startswith("mine: 8 dims, ")
    assert "encoder: mine" in added.stderr
    told = json.loads(cascade(tmp_path, "encoders", "--json").stdout)
    assert [one["name"] for one in told["here"]] == ["mine"]
    assert "minilm" in [one["name"] for one in told["can_be_had"]]
    table = cascade(tmp_path, "encoders", "list").stdout
    assert "mine" in table
    assert "21 MB to fetch" in " ".join(table.split())
    whole = cascade(tmp_path, "encoders", "verify")
    assert whole.stdout.startswith("mine: whole, ")
    [folder] = [one for one in (tmp_path / "home" / "encoders").iterdir() if one.name != "names"]
    (folder / "model.safetensors").write_bytes(b"changed")
    damaged = cascade(tmp_path, "encoders", "verify")
    assert damaged.returncode == 1
    assert (
        "model.safetensors: changed since it was fetched. Run: cascade encoders remove mine" in damaged.stderr
    )
    assert cascade(tmp_path, "encoders", "remove", "mine").stdout == "mine: removed\n"
    assert cascade(tmp_path, "encoders", "remove", "mine").returncode == 1
    assert cascade(tmp_path, "encoders", "add", "nowhere").returncode == 1


def test_the_list_is_read_at_eighty_columns_and_breaks_no_word(place):
    shown = cascade(place, "encoders", "list", COLUMNS="80").stdout
    assert max(map(len, shown.splitlines())) <= 80
    words = shown.split()
    for name, entry in register.known().items():
        assert name in words
        assert {word.rstrip(";") for word in entry.about.split()} <= {word.rstrip(";") for word in words}


def test_kept_vectors_are_counted_and_dropped_and_made_again(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    nothing = cascade(tmp_path, "encoders", "clear-cache")
    assert nothing.stdout == f"{tmp_path}/home/vectors.sqlite: empty, 0 bytes freed\n"
    cascade(tmp_path, "encoders", "add", place / "tiny")
    answers = cascade(place, "predict", "new.jsonl").stdout
    told = json.loads(cascade(tmp_path, "encoders", "--json").stdout)
    assert told["vectors"] == len({row["text"] for row in lines(place / "new.jsonl")})
    assert told["vectors_file"] == str(tmp_path / "home" / "vectors.sqlite")
    assert (
        f"{told['vectors_file']}: vectors of {told['vectors']} texts, " in cascade(place, "encoders").stderr
    )
    dropped = json.loads(cascade(tmp_path, "encoders", "clear-cache", "--json").stdout)
    assert dropped["file"] == told["vectors_file"]
    assert json.loads(cascade(tmp_path, "encoders", "--json").stdout)["vectors"] == 0
    assert cascade(place, "predict", "new.jsonl").stdout == answers
    assert json.loads(cascade(tmp_path, "encoders", "--json").stdout)["vectors"] == told["vectors"]


def test_long_texts_are_read_in_windows_by_an_encoder_of_its_own_name(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    cascade(tmp_path, "encoders", "add", place / "tiny")
    added = cascade(tmp_path, "encoders", "add", place / "tiny", "--windows", "3")
    assert added.stdout.startswith("tiny.windows3: 8 dims, ")
    here = {one["name"]: one for one in json.loads(cascade(tmp_path, "encoders", "--json").stdout)["here"]}
    assert {name: one["windows"] for name, one in here.items()} == {"tiny": 1, "tiny.windows3": 3}
    assert here["tiny"]["sha256"] != here["tiny.windows3"]["sha256"]
    assert "48 tokens" in " ".join(cascade(tmp_path, "encoders").stdout.split())

    for name, words, count in (("train", slice(2), 150), ("new", slice(2, 4), 40)):
        texts, labels = rows_of({label: own[words] for label, own in MEANINGS.items()}, count, seed=count)
        write_rows(tmp_path / f"{name}.jsonl", ["please the my " * 8 + text for text in texts], labels)
    right = []
    for name in ("tiny", "tiny.windows3"):
        (tmp_path / "tickets.yaml").write_text(TAXONOMY.replace("encoder: tiny", f"encoder: {name}"))
        done = cascade(tmp_path, "fit", "tickets.yaml", "--out", name)
        assert done.returncode == 0, done.stderr
        assert ("it knows the beginning" in done.stderr) == (name == "tiny")
        cascade(tmp_path, "predict", "new.jsonl", "--model", name, "--out", "found.jsonl")
        pairs = zip(lines(tmp_path / "new.jsonl"), lines(tmp_path / "found.jsonl"), strict=True)
        right.append(sum(true["labels"] == found["labels"] for true, found in pairs))
    assert right[0] < 20
    assert right[1] > 34


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("add", "tables", "--windows", "2"),
            "windows: expected 1, as networks alone read in pieces, found 2",
        ),
        (("add", "tables", "--windows", "0"), "0 is not in the range 1<=x<=64"),
        (
            ("get", "minilm", "--windows", "2", "--to-train"),
            "--windows is for encoders that are used as they are",
        ),
    ],
)
def test_windows_that_mean_nothing_are_refused(tmp_path, words, told):
    static_folder(tmp_path / "tables")
    done = cascade(tmp_path, "encoders", *words, CASCADE_HOME=str(tmp_path / "home"))
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "tables" not in cascade(tmp_path, "encoders", CASCADE_HOME=str(tmp_path / "home")).stdout


def test_a_model_of_windows_is_told_how_to_get_its_encoder(tmp_path):
    write_rows(tmp_path / "train.jsonl", *rows_of(MEANINGS, 20, seed=0))
    (tmp_path / "tickets.yaml").write_text(TAXONOMY.replace("tiny", "minilm.windows4"))
    done = cascade(tmp_path, "fit", "tickets.yaml", CASCADE_HOME=str(tmp_path / "none"))
    assert done.stderr.endswith(
        "encoder 'minilm.windows4' is not on this machine. Run: cascade encoders get minilm --windows 4\n"
    )


def test_an_unknown_encoder_is_named_with_what_is_near(tmp_path):
    done = cascade(tmp_path, "encoders", "get", "minlm")
    assert done.returncode == 1
    assert "unknown encoder 'minlm'" in done.stderr
    assert "Did you mean 'minilm'?" in done.stderr


def test_fit_fetches_nothing_and_names_the_command_that_does(place, tmp_path):
    shutil.copytree(place, tmp_path / "copy", ignore=shutil.ignore_patterns("models"))
    done = cascade(tmp_path / "copy", "fit", "tickets.yaml", CASCADE_HOME=str(tmp_path / "none"))
    assert done.returncode == 1
    assert "unknown encoder 'tiny'" in done.stderr
    text = TAXONOMY.replace("tiny", "minilm")
    (tmp_path / "copy" / "tickets.yaml").write_text(text)
    done = cascade(tmp_path / "copy", "fit", "tickets.yaml", CASCADE_HOME=str(tmp_path / "none"))
    assert done.stderr.endswith(
        "error: encoder 'minilm' is not on this machine. Run: cascade encoders get minilm\n"
    )
    assert not (tmp_path / "copy" / "models" / "tickets" / "manifest.json").exists()
    done = cascade(tmp_path / "copy", "fit", "tickets.yaml", "--dry-run", CASCADE_HOME=str(tmp_path / "none"))
    assert done.returncode == 0
    assert "1 encoder is not on this machine: 'minilm'. Run: cascade encoders get NAME." in done.stderr


def test_a_name_that_cannot_be_one_is_a_fault_of_the_taxonomy(place, tmp_path):
    (tmp_path / "odd.yaml").write_text(TAXONOMY.replace("tiny", "../up"))
    done = cascade(tmp_path, "check", "odd.yaml")
    assert done.returncode == 1
    assert "odd.yaml:4:" in done.stderr + done.stdout
    assert "expected the name of an encoder" in done.stderr + done.stdout


def test_words_that_were_never_seen_get_their_labels(place, tmp_path):
    done = cascade(place, "predict", "new.jsonl", "--out", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    truth = [row["labels"] for row in lines(place / "new.jsonl")]
    found = [row["labels"] for row in lines(tmp_path / "out.jsonl")]
    assert sum(one == other for one, other in zip(truth, found, strict=True)) > 50


def test_explain_tells_what_meaning_did(place):
    done = cascade(place, "explain", "my cash again")
    assert "meaning (tiny) +" in done.stdout
    found = json.loads(cascade(place, "explain", "my cash again", "--json").stdout)
    [push] = [one for one in found["steps"][0]["pushes"] if one["word"] == "meaning (tiny)"]
    assert push["spans"] == []


def test_a_second_fit_reuses_all_and_another_encoder_of_the_name_reuses_nothing(place, tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "home"))
    shutil.copytree(place, tmp_path / "copy")
    cascade(tmp_path, "encoders", "add", place / "tiny")
    done = cascade(tmp_path / "copy", "fit", "tickets.yaml")
    assert "0 groups fitted, 3 reused" in done.stdout
    onnx_folder(tmp_path / "other", gather(seed=1))
    cascade(tmp_path, "encoders", "add", "other", "--name", "tiny")
    refused = cascade(tmp_path / "copy", "predict", "new.jsonl")
    assert refused.returncode == 0, refused.stderr  # the first is still here, under its hash
    done = cascade(tmp_path / "copy", "fit", "tickets.yaml")
    assert "3 groups fitted, 0 reused" in done.stdout


def test_a_model_answers_with_its_own_encoder_or_not_at_all(place, tmp_path):
    none = {"CASCADE_HOME": str(tmp_path / "none")}
    gone = cascade(place, "predict", "new.jsonl", **none)
    assert gone.returncode == 1
    assert "unknown encoder 'tiny'" in gone.stderr
    onnx_folder(tmp_path / "other", gather(seed=1))
    cascade(tmp_path, "encoders", "add", "other", "--name", "tiny", **none)
    other = cascade(place, "predict", "new.jsonl", **none)
    assert other.returncode == 1
    assert "this model was fitted with encoder 'tiny'" in other.stderr


def test_a_self_contained_model_answers_where_there_is_no_encoder(place, tmp_path):
    shutil.copytree(place, tmp_path / "copy")
    folder = tmp_path / "copy"
    done = cascade(folder, "fit", "tickets.yaml", "--self-contained")
    assert done.returncode == 0, done.stderr
    expected = cascade(place, "predict", "new.jsonl")
    found = cascade(folder, "predict", "new.jsonl", CASCADE_HOME=str(tmp_path / "none"))
    assert found.returncode == 0, found.stderr
    assert found.stdout == expected.stdout
    [encoder] = (folder / "models" / "tickets" / "encoders").iterdir()
    manifest = json.loads((folder / "models" / "tickets" / "manifest.json").read_bytes())
    assert set(manifest["encoders"][encoder.name]) == {"encoder.json", "model.onnx", "tokenizer.json"}
    (encoder / "model.onnx").write_bytes(b"changed")
    damaged = cascade(folder, "predict", "new.jsonl", CASCADE_HOME=str(tmp_path / "none"))
    assert damaged.returncode == 1
    assert "model.onnx: changed since it was written" in damaged.stderr
    cascade(folder, "fit", "tickets.yaml")
    assert list((folder / "models" / "tickets" / "encoders").iterdir()) == []


def test_a_self_contained_model_is_copied_whole(place, tmp_path, monkeypatch):
    from cascade import Cascade

    shutil.copytree(place, tmp_path / "copy")
    cascade(tmp_path / "copy", "fit", "tickets.yaml", "--self-contained")
    Cascade.load(tmp_path / "copy" / "models" / "tickets").save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "copy")
    monkeypatch.setenv("CASCADE_HOME", str(tmp_path / "none"))
    assert Cascade.load(tmp_path / "saved").predict(["my cash again"]) == [["money"]]


def test_the_same_rows_give_the_same_model_with_one_job_and_with_two(place, tmp_path):
    for jobs in ("1", "2"):
        cascade(place, "fit", "tickets.yaml", "--out", tmp_path / jobs, "--jobs", jobs)
    assert (tmp_path / "1" / "manifest.json").read_bytes() == (tmp_path / "2" / "manifest.json").read_bytes()


def test_fit_says_where_an_encoder_would_win_much_in_the_words_of_check(tmp_path):
    texts, labels = shop_rows(120, seed=0)
    others = [f"{chr(97 + i // 26)}{chr(97 + i % 26)} nothing of it" for i in range(500)]
    taxonomy = {**SHOP, "data": {"train": "train.jsonl"}}
    write_rows(tmp_path / "train.jsonl", [*texts, *others], [*labels, *([] for _ in others)])
    (tmp_path / "shop.json").write_text(json.dumps(taxonomy))
    report = json.loads(cascade(tmp_path, "check", "shop.json", "--json").stdout)
    [found] = [one["message"] for one in report["findings"] if one["rule"] == "encoder-wins"]
    assert found.startswith("half of the labels have ")
    told = cascade(tmp_path, "fit", "shop.json").stderr
    assert f"{found}: an encoder would win much, see `cascade check`" in told
    few = (tmp_path / "train.jsonl").read_text().splitlines(keepends=True)[:400]
    (tmp_path / "train.jsonl").write_text("".join(few))
    assert "an encoder would win" not in cascade(tmp_path, "fit", "shop.json").stderr


def test_init_puts_labels_together_that_mean_the_same(place, tmp_path):
    groups = {frozenset(own) for own in MEANINGS.values()}
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for own in MEANINGS.values() for name in own))
    done = cascade(tmp_path, "init", "names.txt", "--encoder", "tiny")
    assert done.returncode == 0, done.stderr
    assert "groups are proposed, by the words of names and what they mean" in done.stderr
    drafted = Taxonomy.load(tmp_path / "taxonomy.yaml")
    assert {frozenset(drafted.graph.children[name]) for name in drafted.graph.groups[1:]} == groups
    alone = cascade(tmp_path, "init", "names.txt", "--out", "words.yaml")
    assert "no groups" in alone.stderr


@pytest.mark.parametrize(("name", "told"), [("minilm", "get minilm"), ("tinny", "Did you mean 'tiny'?")])
def test_init_fetches_no_encoder_and_writes_nothing_without_it(place, tmp_path, name, told):
    done = cascade(tmp_path, "init", place / "train.jsonl", "--encoder", name)
    assert done.returncode == 1
    assert told in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_encoders_is_loaded_without_one(tmp_path):
    write_rows(tmp_path / "train.jsonl", *shop_rows(80, seed=0))
    (tmp_path / "shop.yaml").write_text(json.dumps({**SHOP, "data": {"train": "train.jsonl"}}))
    script = """
import sys
from cascade.cli import run
assert run(["fit", "shop.yaml", "--jobs", "1"]) == 0
assert run(["predict", "train.jsonl", "--model", "models/shop", "--out", "out.jsonl"]) == 0
heavy = {"onnxruntime", "tokenizers", "huggingface_hub"}
ours = {"cascade.encoders.store", "cascade.encoders.vectors"}
print(sorted((heavy | ours) & set(sys.modules)))
"""
    done = subprocess.run(
        [*command()[:1], "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
    manifest = json.loads((tmp_path / "models" / "shop" / "manifest.json").read_bytes())
    assert "encoders" not in manifest
    assert store.ENCODERS not in {one.name for one in (tmp_path / "models" / "shop").iterdir()}

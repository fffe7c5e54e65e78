from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cascade.errors import DataError
from cascade.fitted import Cascade
from cascade.hosted.fine_tuner import FineTuner
from cascade.learn.datasets import Dataset
from cascade.learn.events import silent
from cascade.learn.fit import _Fit, fit
from cascade.learn.plan import Planned, plan
from cascade.learn.truth import true_cells
from cascade.model.folder import MANIFEST, NODES, read_manifest
from cascade.model.walk import edges, walk
from cascade.taxonomy.definition import Taxonomy
from cascade.trunk.trainer import Trainer

LINEAR = {"backend": {"kind": "linear", "C": 1}, "negatives": "siblings"}


def tree(folder):
    """Every file of a folder with its bytes, the lock aside."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def events_of(taxonomy, texts, labels, out, **settings):
    """What a fit does with each group; the manifest is left in `out`."""
    events = []
    fit(taxonomy, texts, labels, out, report=events.append, **settings)
    return {event.group: event.kind for event in events if event.kind in ("fitted", "reused")}


# The same bytes


def test_the_same_data_and_seed_give_the_same_bytes(shop, shop_model, tmp_path):
    fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "again")
    assert tree(tmp_path / "again") == tree(shop_model)


def test_another_seed_is_written_down_and_may_give_another_model(shop, shop_model, tmp_path):
    manifest = fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "other", seed=1)
    assert manifest.seed == 1
    assert tree(tmp_path / "other") != tree(shop_model)


def test_a_tuned_fit_of_all_settings_gives_the_same_bytes_twice(shop, tmp_path):
    plain = {**shop.taxonomy.to_dict(), "defaults": {"back_off": True}, "combine": "noisy_or"}
    for name in ("one", "two"):
        fit(Taxonomy.from_dict(plain), shop.texts, shop.labels, tmp_path / name)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


SCRIPT = """
import json, sys
from pathlib import Path
from cascade.taxonomy.definition import Taxonomy
from cascade.learn.fit import fit

data = json.loads(Path(sys.argv[1]).read_text())
taxonomy, out, jobs = Taxonomy.from_dict(data["taxonomy"]), Path(sys.argv[2]), int(sys.argv[3])
fit(taxonomy, data["texts"], data["labels"], out, jobs=jobs)
"""


class Script:
    """A fit of a data set in a fresh Python process."""

    def __init__(self, folder, taxonomy, texts, labels):
        self.script, self.data = folder / "fits.py", folder / "data.json"
        self.script.write_text(SCRIPT)
        self.data.write_text(json.dumps({"taxonomy": taxonomy.to_dict(), "texts": texts, "labels": labels}))

    def start(self, out, jobs=1, **environment):
        return subprocess.Popen(
            [sys.executable, self.script, self.data, out, str(jobs)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        )

    def run(self, out, jobs=1, **environment):
        with self.start(out, jobs, **environment) as process:
            assert process.wait() == 0


def test_hash_seeds_and_thread_counts_do_not_change_a_byte(shop, shop_model, tmp_path):
    script = Script(tmp_path, shop.taxonomy, shop.texts, shop.labels)
    script.run(tmp_path / "one", PYTHONHASHSEED="1", OPENBLAS_NUM_THREADS="1")
    script.run(tmp_path / "two", PYTHONHASHSEED="2", LC_ALL="C")
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(shop_model)


def test_functions_compiled_just_now_fit_the_same_bytes_as_those_from_disk(shop, shop_model, tmp_path):
    script = Script(tmp_path, shop.taxonomy, shop.texts, shop.labels)
    for run in ("compiled", "loaded"):
        script.run(tmp_path / run, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert list((tmp_path / "cache").rglob("*.nbi"))
    assert tree(tmp_path / "compiled") == tree(tmp_path / "loaded") == tree(shop_model)


def wide_rows(n_texts):
    """A data set with a hundred labels in ten groups."""
    groups = {f"group {g}": {"labels": [f"label {g} {i}" for i in range(10)]} for g in range(10)}
    taxonomy = Taxonomy.from_dict({"name": "wide", "defaults": LINEAR, "groups": groups})
    draw = np.random.default_rng(0)
    labels = [
        list(draw.choice(taxonomy.graph.labels, draw.integers(0, 3), replace=False)) for _ in range(n_texts)
    ]
    texts = [" ".join([*names, *draw.choice(["the", "my", "a", "please", "hello"], 3)]) for names in labels]
    return taxonomy, texts, [[str(name) for name in names] for names in labels]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A script that fits the wide data set, and the folder where it did so undisturbed on one thread."""
    folder = tmp_path_factory.mktemp("wide")
    taxonomy, texts, labels = wide_rows(2000)
    script = Script(folder, taxonomy, texts, labels)
    script.run(folder / "one")
    return script, folder / "one"


@pytest.mark.parametrize("jobs", [2, 5])
def test_any_number_of_threads_gives_the_same_bytes(wide, tmp_path, jobs):
    script, one = wide
    script.run(tmp_path / "model", jobs=jobs)
    assert tree(tmp_path / "model") == tree(one)


def killed(script, out, nodes):
    """Kill a fit with two threads once it has begun on so many node folders; whether it had ended before."""
    with script.start(out, jobs=2) as process:
        while process.poll() is None and len(list((out / NODES).glob("*"))) < nodes:
            time.sleep(0.002)
        process.kill()
    return (out / MANIFEST).exists()


def test_a_killed_fit_with_two_threads_is_completed_to_the_byte(wide, tmp_path):
    script, one = wide
    assert not killed(script, tmp_path / "two", 4)
    script.run(tmp_path / "two", jobs=2)
    assert tree(tmp_path / "two") == tree(one)


@pytest.mark.slow
def test_a_fit_with_two_threads_killed_at_every_group_is_completed_to_the_byte(wide, tmp_path):
    script, one = wide
    for nodes in range(1, 12):
        assert not killed(script, tmp_path / str(nodes), nodes)
        script.run(tmp_path / str(nodes), jobs=2)
        assert tree(tmp_path / str(nodes)) == tree(one)


# What changes is fitted again, and nothing else


@pytest.fixture
def model(shop_model, tmp_path):
    return Path(shutil.copytree(shop_model, tmp_path / "model"))


def changed(shop, change):
    plain = shop.taxonomy.to_dict()
    change(plain)
    return Taxonomy.from_dict(plain)


def test_where_nothing_changed_everything_is_reused(shop, model, shop_model):
    assert events_of(shop.taxonomy, shop.texts, shop.labels, model) == dict.fromkeys(
        ["", "billing", "tax", "delivery", "product", "mood"], "reused"
    )
    assert tree(model) == tree(shop_model)


def test_a_changed_description_fits_nothing_again(shop, model):
    taxonomy = changed(shop, lambda plain: plain["groups"]["delivery"].update(description="Getting there."))
    assert set(events_of(taxonomy, shop.texts, shop.labels, model).values()) == {"reused"}
    assert read_manifest(model).taxonomy["groups"]["delivery"]["description"] == "Getting there."


def test_a_changed_threshold_or_route_fits_nothing_again(shop, model):
    taxonomy = changed(shop, lambda plain: plain["groups"]["delivery"].update(threshold=0.25))
    assert set(events_of(taxonomy, shop.texts, shop.labels, model).values()) == {"reused"}
    thresholds = read_manifest(model).thresholds
    assert thresholds["late"] == thresholds["broken"] == 0.25
    assert thresholds["faulty"] != 0.25


def test_a_changed_penalty_of_one_group_fits_that_one_again(shop, model):
    taxonomy = changed(
        shop, lambda plain: plain["groups"]["delivery"].update(backend={"kind": "linear", "C": 0.5})
    )
    events = events_of(taxonomy, shop.texts, shop.labels, model)
    assert events.pop("delivery") == "fitted"
    assert set(events.values()) == {"reused"}
    assert read_manifest(model).groups["delivery"].notes["C"] == 0.5
    assert Cascade.load(model).predict(["arrived slowly my order"]) == [["late"]]


def test_a_new_label_with_rows_fits_its_group_and_those_above_again(shop, model):
    taxonomy = changed(
        shop, lambda plain: plain["groups"]["billing"]["groups"]["tax"]["labels"].append("vat_number")
    )
    texts = shop.texts + [
        f"vat number {word}" for word in ["please", "my order", "today", "a b", "again"] * 6
    ]
    labels = shop.labels + [["vat_number"]] * 30
    events = events_of(taxonomy, texts, labels, model)
    # The mood of every text is asked for, that of the new ones too.
    assert {group for group, kind in events.items() if kind == "fitted"} == {"", "billing", "tax", "mood"}
    assert {group for group, kind in events.items() if kind == "reused"} == {"delivery", "product"}
    assert "vat_number" in Cascade.load(model).predict(["vat number please"])[0]
    assert len(list((model / NODES).iterdir())) == 6


def test_a_new_label_without_rows_fits_its_group_only(shop, model):
    taxonomy = changed(shop, lambda plain: plain["groups"]["product"]["labels"].append("recalled"))
    events = events_of(taxonomy, shop.texts, shop.labels, model)
    assert {group for group, kind in events.items() if kind == "fitted"} == {"product"}


def test_a_changed_text_fits_the_groups_that_it_belongs_to(shop, model):
    at = shop.labels.index(["late"])
    texts = [*shop.texts[:at], "it arrived ever so slowly", *shop.texts[at + 1 :]]
    events = events_of(shop.taxonomy, texts, shop.labels, model)
    assert {group for group, kind in events.items() if kind == "fitted"} == {"", "delivery", "mood"}


def test_another_label_of_the_same_group_fits_that_group_only(shop, model):
    at = shop.labels.index(["refund"])
    labels = [*shop.labels[:at], ["double_charge"], *shop.labels[at + 1 :]]
    events = events_of(shop.taxonomy, shop.texts, labels, model)
    assert {group for group, kind in events.items() if kind == "fitted"} == {"billing"}


def test_who_belongs_to_a_group_counts_where_all_rows_are_learned_from(tmp_path):
    facet = {"route": "always", "negatives": "all", "labels": ["happy", "angry"]}
    groups = {"reviews": {"labels": ["star", "text"], "groups": {"mood": facet}}}
    taxonomy = Taxonomy.from_dict({"name": "t", "defaults": LINEAR, "groups": groups})
    texts, labels = coloured(100, red=["happy"], blue=["angry"], green=["star"], grey=[])
    fit(taxonomy, texts, labels, tmp_path)
    at = labels.index(["star"])
    events = events_of(taxonomy, texts, [*labels[:at], [], *labels[at + 1 :]], tmp_path)
    assert events["mood"] == "fitted"


def coloured(n_texts, **labels_of):
    """Texts of one or two colours among other words, with the labels of each colour."""
    draw = random.Random(0)
    texts, labels = [], []
    for _ in range(n_texts):
        colours = draw.sample(sorted(labels_of), draw.choice([1, 1, 2]))
        texts.append(" ".join(colours + draw.choices(["here", "is", "my", "own", "thing", "today"], k=3)))
        labels.append([name for colour in colours for name in labels_of[colour]])
    return texts, labels


def test_groups_with_the_same_problem_share_a_node_folder(tmp_path):
    both = {"labels": ["x", "y"]}
    taxonomy = Taxonomy.from_dict({"name": "twins", "defaults": LINEAR, "groups": {"a": both, "b": both}})
    events = events_of(taxonomy, *coloured(100, red=["x"], blue=["y"], green=[]), tmp_path)
    assert Counter(events.values()) == {"fitted": 2, "reused": 1}
    groups = read_manifest(tmp_path).groups
    assert groups["a"].node == groups["b"].node != groups[""].node
    assert Cascade.load(tmp_path).predict(["red", "blue", "green"]) == [["x"], ["y"], []]


def test_progress_counts_up_to_all_groups(shop, tmp_path):
    events = []
    fit(shop.taxonomy, shop.texts, shop.labels, tmp_path, report=events.append)
    done = [event.done for event in events if event.kind == "fitted"]
    assert done == [1, 2, 3, 4, 5, 6]
    assert {event.total for event in events} == {6}
    assert events[-1].kind == "decided"
    assert "micro F1" in events[-1].detail
    assert any("C = 1" in event.detail for event in events)


# Rows that teach little


@pytest.mark.parametrize("labels", [[], [[]], [[], [], []]])
def test_rows_without_any_label_are_a_data_error(tmp_path, labels):
    taxonomy = Taxonomy.from_dict({"name": "t", "groups": {"g": {"labels": ["x", "y"]}}})
    with pytest.raises(DataError, match=f"{len(labels)} rows, none with a label: nothing to learn"):
        fit(taxonomy, ["text"] * len(labels), labels, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_texts_and_labels_of_other_lengths_are_a_data_error(shop, tmp_path):
    for texts, labels in ((shop.texts[:-1], shop.labels), (shop.texts, shop.labels[:-1])):
        with pytest.raises(DataError, match=f"{len(texts)} texts and {len(labels)} lists of labels"):
            fit(shop.taxonomy, texts, labels, tmp_path / "model")
        with pytest.raises(DataError, match=f"{len(texts)} texts and {len(labels)} lists of labels"):
            plan(shop.taxonomy, texts, labels)


def test_a_group_without_any_row_gives_a_model_that_never_answers_it(tmp_path):
    taxonomy = Taxonomy.from_dict(
        {"name": "t", "groups": {"seen": {"labels": ["x", "y"]}, "unseen": {"labels": ["u", "v"]}}}
    )
    manifest = fit(taxonomy, *coloured(100, red=["x"], blue=["y"], green=[]), tmp_path)
    assert manifest.groups["unseen"].rows == 0
    assert manifest.groups["unseen"].positives == (0, 0)
    assert manifest.groups["unseen"].backend == {"kind": "constant"}
    model = Cascade.load(tmp_path)
    everywhere = model.oracle(["red", "u", ""], true_cells(model.graph, [model.labels] * 3)).paths
    assert not (everywhere[:, [model.graph.column["u"], model.graph.column["v"]]] > 1.1e-6).any()
    answers = model.predict(["red", "blue", "red blue", "u", "v", "", "unseen"])
    assert [set(names) for names in answers[:3]] == [{"x"}, {"y"}, {"x", "y"}]
    assert all({"u", "v"}.isdisjoint(names) for names in answers)


def test_one_row_is_enough_to_fit(tmp_path):
    taxonomy = Taxonomy.from_dict({"name": "t", "groups": {"g": {"labels": ["x", "y"]}}})
    fit(taxonomy, ["red"], [["x"]], tmp_path)
    assert len(Cascade.load(tmp_path).predict(["red", "blue"])) == 2


def test_empty_and_equal_texts_can_be_learned_from(tmp_path):
    taxonomy = Taxonomy.from_dict(
        {"name": "t", "groups": {"g": {"labels": ["x", "y"]}, "h": {"labels": ["z"]}}}
    )
    fit(taxonomy, ["", " ", "same"] * 10, [["x"], ["y"], ["z"]] * 10, tmp_path)
    assert len(Cascade.load(tmp_path).predict(["", "same", "other"])) == 3


def test_rows_with_only_a_groups_name_teach_the_router_and_nothing_below(shop, tmp_path):
    words = ["parcel carrier", "carrier van", "parcel van"]
    texts = shop.texts + [f"{words[i % 3]} {i}" for i in range(60)]
    labels = shop.labels + [["delivery"]] * 60
    without = fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "without")
    manifest = fit(shop.taxonomy, texts, labels, tmp_path / "with")
    assert manifest.groups["delivery"].node == without.groups["delivery"].node
    assert manifest.groups[""].rows == len(texts)

    def router_score(name):
        scores = Cascade.load(tmp_path / name).walk(["parcel carrier van"]).conditionals
        return scores[0, edges(shop.taxonomy.graph).index(("", "delivery"))]

    assert router_score("without") < 0.5 < router_score("with")


# What would be trained


def test_a_plan_has_the_figures_counted_by_hand():
    taxonomy = Taxonomy.from_dict(
        {
            "name": "t",
            "defaults": {"negatives": "all"},
            "groups": {
                "a": {"labels": ["x", "shared"], "groups": {"deep": {"labels": ["d"]}}},
                "b": {"labels": ["y", "shared"], "negatives": "siblings"},
                "mood": {"route": "always", "choose": "one", "labels": ["good", "bad"]},
                "unseen": {"labels": ["u", "v"]},
            },
        }
    )
    labels = [["x"], ["x", "y"], ["shared"], ["d"], ["a"], ["good"], [], ["y", "bad"]]
    assert plan(taxonomy, ["text"] * len(labels), labels).groups == (
        # a: x, x y, shared, d and a itself; b: x y, shared, y bad
        Planned("", "linear", 8, ("a", "b", "unseen"), (5, 3, 0), "siblings"),
        # the row that says "a" only tells nothing of what is below; children: labels, then groups
        Planned("a", "linear", 4, ("x", "shared", "deep"), (2, 1, 1), "all"),
        Planned("deep", "constant", 1, ("d",), (1,), "all"),
        Planned("b", "linear", 3, ("y", "shared"), (2, 1), "siblings"),
        Planned("mood", "linear", 8, ("good", "bad"), (1, 1), "all"),
        Planned("unseen", "constant", 0, ("u", "v"), (0, 0), "all"),
    )
    assert all(one.cost_usd == 0 for one in plan(taxonomy, ["text"] * len(labels), labels).groups)


def test_a_plan_trains_nothing_and_fits_what_fit_does(shop, shop_model):
    planned = {one.group: one for one in plan(shop.taxonomy, shop.texts, shop.labels).groups}
    for group, record in read_manifest(shop_model).groups.items():
        assert planned[group].rows == record.rows
        assert planned[group].positives == record.positives
        assert planned[group].backend == record.backend["kind"]


# What the manifest says


def test_the_figures_of_the_manifest_are_those_of_the_data(shop, shop_model):
    metrics = read_manifest(shop_model).metrics
    assert metrics["rows"] == 300
    assert metrics["positives"] == Counter(name for names in shop.labels for name in names)
    assert set(metrics["f1"]) == set(shop.taxonomy.labels)
    assert metrics["macro_f1"] == pytest.approx(np.mean(list(metrics["f1"].values())))
    assert metrics["micro_f1"] > 0.95


def test_mislabelled_rows_are_named_as_suspicious(shop, tmp_path):
    labels = [list(names) for names in shop.labels]
    wrong = [row for row, names in enumerate(labels) if names == ["late"]][:2]
    for row in wrong:
        labels[row] = ["refund"]
    suspicious = fit(shop.taxonomy, shop.texts, labels, tmp_path).suspicious
    named = {(one["row"], one["label"], one["given"]) for one in suspicious}
    assert {(row + 1, "refund", True) for row in wrong} <= named
    assert all(0 <= one["probability"] <= 1 for one in suspicious)


def test_promised_precision_and_recall_hold_out_of_fold(shop, shop_model, tmp_path):
    def promise(plain):
        plain["groups"]["delivery"]["threshold"] = {"recall": 1.0}
        plain["groups"]["product"]["labels"][1] = {"name": "faulty", "threshold": {"precision": 1.0}}

    events = []
    manifest = fit(changed(shop, promise), shop.texts, shop.labels, tmp_path, report=events.append)
    assert 0 < manifest.thresholds["late"] < 1
    assert read_manifest(shop_model).thresholds["faulty"] <= manifest.thresholds["faulty"] <= 1
    assert manifest.metrics["f1"]["late"] > 0.5
    assert manifest.promises == {"faulty": {"precision": 1.0, "bound": None}}
    told = [event.detail for event in events if event.kind == "noted"]
    assert any("cannot be promised for 1 of 1 labels" in line for line in told)


def test_a_facet_that_no_text_gives_away_makes_no_label_suspicious(tmp_path):
    taxonomy = Taxonomy.from_dict(
        {"name": "moods", "groups": {"mood": {"choose": "one", "route": "always", "labels": ["glad", "sad"]}}}
    )
    draw = random.Random(3)
    words = [f"word{number}" for number in range(30)]
    texts = [" ".join(draw.choices(words, k=6)) for _ in range(120)]
    moods = [[draw.choice(["glad", "sad"])] for _ in texts]
    assert fit(taxonomy, texts, moods, tmp_path / "model").suspicious == ()


def test_a_label_on_the_wrong_row_is_the_most_suspicious(tmp_path):
    taxonomy = Taxonomy.from_dict({"name": "two", "labels": ["tea", "bread"]})
    texts = [
        f"a cup of tea number {row}" if row % 2 else f"a loaf of bread number {row}" for row in range(200)
    ]
    labels = [["tea"] if row % 2 else ["bread"] for row in range(200)]
    labels[40] = ["tea"]
    found = fit(taxonomy, texts, labels, tmp_path / "model").suspicious
    assert {(entry["row"], entry["label"], entry["given"]) for entry in found[:2]} == {
        (41, "tea", True),
        (41, "bread", False),
    }


def test_out_of_fold_a_group_that_learned_from_all_rows_answers_its_own_probability(tmp_path):
    groups = {"drink": {"labels": ["tea", "milk"]}, "food": {"labels": ["bread", "cake"]}}
    taxonomy = Taxonomy.from_dict({"name": "two", "defaults": {"negatives": "all"}, "groups": groups})
    draw = random.Random(5)
    filler = [f"word{number}" for number in range(40)]
    labels = [[draw.choice(["tea", "milk", "bread", "cake"])] for _ in range(160)]
    texts = [
        " ".join([*draw.choices(filler, k=5), *draw.choices([name, "spoon"], k=1)]) for (name,) in labels
    ]
    (tmp_path / "model").mkdir()
    dataset = Dataset.make(taxonomy, texts, labels)
    run = _Fit(dataset, tmp_path / "model", 0, 1, None, silent, FineTuner(), Trainer())
    inside = walk(taxonomy, len(texts), run.score, run.enter).blocks["drink"]
    fitted = run.fitted["drink"]
    answered = fitted.calibration.apply(fitted.held_out[np.searchsorted(fitted.rows, inside.rows)])
    np.testing.assert_allclose(inside.paths, np.minimum(answered, inside.above[:, None]), atol=1e-5)
    assert (inside.above < 0.9).any()

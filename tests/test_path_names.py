"""Names that are paths, from the file to every answer: two groups may have labels of one name."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
from collections import Counter

import numpy as np
import pytest
import yaml
from browsing import chromium, picture, watched
from hosted_runs import backend, sandbox
from hosted_runs import environment as hosted_environment
from path_names import with_paths
from processes import command, environment
from served import serving
from shop import SHOP

from cascade import CascadeClassifier
from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.measure.comparison import flat_taxonomy
from cascade.model.folder import read_manifest
from cascade.taxonomy.definition import Taxonomy

WORDS = {
    "money/refund": "refund return",
    "money/other": "payment card",
    "money/tax/missing": "vat lacking",
    "money/tax/other": "vat percentage",
    "goods/late": "slow delay",
    "goods/goods": "parcel arrived",
    "goods/other": "smashed pieces",
}
DESK = {
    "name": "desk",
    "names": "path",
    "data": {"train": "rows.jsonl"},
    "defaults": {"backend": {"kind": "linear", "C": 1}},
    "groups": {
        "money": {"labels": ["refund", "other"], "groups": {"tax": {"labels": ["missing", "other"]}}},
        "goods": {"labels": [{"name": "late", "description": "Too late."}, "goods", "other"]},
    },
}


def rows(count, seed):
    draw = random.Random(seed)
    made = []
    for number in range(count):
        names = draw.sample(list(WORDS), draw.choice([0, 1, 1, 2]))
        words = [
            *draw.choices(["please", "hello", "the", "my", "again", "today", "order"], k=4),
            f"no{number}",
        ]
        words += [word for name in names for word in WORDS[name].split()]
        made.append({"text": " ".join(draw.sample(words, len(words))), "labels": sorted(names)})
    return made


def write_lines(path, made):
    path.write_text("".join(json.dumps(row) + "\n" for row in made))


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with a taxonomy, rows, and a model of them that the commands find."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "desk.yaml").write_text(yaml.safe_dump(DESK, sort_keys=False))
    write_lines(folder / "rows.jsonl", rows(240, seed=1))
    write_lines(folder / "more.jsonl", rows(60, seed=2))
    run(folder, "fit", "desk.yaml")
    return folder


def run(folder, *words, code=0):
    done = subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


# One model


def test_names_that_are_paths_make_the_same_model(shop, tmp_path):
    groups = SHOP["groups"] | {"product": {"labels": ["faulty", "broken"]}}
    plain = Taxonomy.from_dict(SHOP | {"groups": groups})
    paths = Taxonomy.from_dict(with_paths(plain.to_dict()))
    for name, taxonomy in (("plain", plain), ("paths", paths)):
        fit(taxonomy, shop.texts, [list(map(taxonomy.resolve, one)) for one in shop.labels], tmp_path / name)
    one, other = (read_manifest(tmp_path / name) for name in ("plain", "paths"))
    path_of = {name: paths.resolve(name) for name in plain.graph.nodes} | {"": ""}
    assert len(set(path_of.values())) == len(path_of)
    assert [path_of[name] for name in one.nodes] == list(other.nodes)
    assert {path_of[name]: record for name, record in one.groups.items()} == dict(other.groups)
    assert {path_of[name]: cut for name, cut in one.thresholds.items()} == dict(other.thresholds)
    scores = [Cascade.load(tmp_path / name).predict_proba(shop.texts) for name in ("plain", "paths")]
    np.testing.assert_array_equal(*scores)


def test_a_fit_takes_over_the_models_of_plain_names(shop, shop_model, tmp_path):
    paths = Taxonomy.from_dict(with_paths(shop.taxonomy.to_dict()))
    done = []
    model = shutil.copytree(shop_model, tmp_path / "model")
    fit(paths, shop.texts, [list(map(paths.resolve, one)) for one in shop.labels], model, report=done.append)
    kinds = {event.group: event.kind for event in done if event.kind in ("fitted", "reused")}
    # A guest comes last in its group, so that the order of its children is another.
    assert kinds == dict.fromkeys(("", "billing", "billing/tax", "delivery", "mood"), "reused") | {
        "product": "fitted"
    }


# Every command


def test_each_label_has_its_own_rows(desk):
    found = json.loads(run(desk, "evaluate", "rows.jsonl", "--json").stdout)["per_label"]
    expected = Counter(name for row in rows(240, seed=1) for name in row["labels"])
    assert {name: one["rows"] for name, one in found.items()} == expected


def test_labels_of_one_name_are_told_apart(desk):
    found = json.loads(run(desk, "evaluate", "more.jsonl", "--json").stdout)
    assert found["micro_f1"] > 0.9
    assert all(found["per_label"][name]["f1"] > 0.8 for name in WORDS if name.endswith("other"))


def test_answers_and_traces_have_paths(desk):
    write_lines(desk / "in.jsonl", [{"text": WORDS[name]} for name in WORDS])
    answers = [
        json.loads(line)
        for line in run(desk, "predict", "in.jsonl", "--trace", "--top", 1).stdout.splitlines()
    ]
    assert [one["labels"] for one in answers] == [[name] for name in WORDS]
    entries = {(one["parent"], one["node"]) for answer in answers for one in answer["trace"]}
    assert {("", "goods"), ("goods", "goods/goods"), ("money/tax", "money/tax/other")} <= entries


def test_rows_may_have_last_names_that_are_clear(desk):
    named = {"late": "goods/late", "tax/other": "money/tax/other", "goods/other": "goods/other"}
    write_lines(
        desk / "short.jsonl", [{"text": WORDS[path], "labels": [name]} for name, path in named.items()]
    )
    found = json.loads(run(desk, "evaluate", "short.jsonl", "--json").stdout)
    assert {name for name, one in found["per_label"].items() if one["rows"]} == set(named.values())


def test_a_last_name_of_several_is_refused_with_their_paths(desk):
    write_lines(desk / "bad.jsonl", [{"text": "smashed", "labels": ["other"]}])
    told = run(desk, "fit", "desk.yaml", "--data", "bad.jsonl", "--out", "none", code=1).stderr
    paths = "'money/other', 'money/tax/other' or 'goods/other'"
    assert f"bad.jsonl row 1: unknown label 'other'. 'other' may be {paths}; write the path." in told


def test_columns_of_flags_have_paths_or_last_names(desk):
    columns = ["refund", "money/other", "missing", "tax/other", "late", "goods/goods", "goods/other"]
    with (desk / "flags.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *columns])
        for row in rows(240, seed=1):
            writer.writerow([row["text"], *(int(name in row["labels"]) for name in WORDS)])
    described = DESK | {"data": {"train": "flags.csv", "labels": columns}}
    (desk / "flags.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    run(desk, "fit", "flags.yaml", "--out", "flags")
    nodes = [read_manifest(desk / name).groups for name in ("flags", "models/desk")]
    assert {group: one.node for group, one in nodes[0].items()} == {
        group: one.node for group, one in nodes[1].items()
    }


def test_a_drawn_tree_has_last_names_and_json_has_both(desk):
    drawn = run(desk, "inspect-tree", "desk.yaml").stdout
    names = [line.lstrip("│├└─ ").split("  ")[0] for line in drawn.splitlines()[2:]]
    assert names == [
        "desk", "money", "refund", "other", "tax", "missing", "other", "goods", "late", "goods", "other"
    ]  # fmt: skip
    tree = json.loads(run(desk, "inspect-tree", "desk.yaml", "--format", "json").stdout)
    goods = tree["children"][1]["children"]
    assert [(one["name"], one["last_name"]) for one in goods] == [
        ("goods/late", "late"), ("goods/goods", "goods"), ("goods/other", "other")
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["mermaid", "dot"])
def test_a_diagram_has_a_node_for_each_of_one_name(desk, form):
    lines = run(desk, "inspect-tree", "desk.yaml", "--format", form).stdout.splitlines()
    assert sum('"other"' in line for line in lines) == 3
    assert sum("->" in line or "-->" in line for line in lines) == 10


def test_a_group_is_found_by_the_end_of_its_path(desk):
    shown = run(desk, "inspect-tree", "desk.yaml", "--group", "tax").stdout
    assert "\nmoney/tax\n" in shown
    told = run(desk, "inspect-tree", "desk.yaml", "--group", "goodies", code=1).stderr
    assert "has no group 'goodies'. Did you mean 'goods'?" in told


def test_completion_proposes_paths_of_groups(desk):
    asked = environment(
        _CASCADE_COMPLETE="bash_complete",
        COMP_WORDS="cascade inspect-tree desk.yaml --group m",
        COMP_CWORD="4",
    )
    done = subprocess.run(command(), cwd=desk, env=asked, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,money", "plain,money/tax"]


def test_a_model_with_paths_is_compared_with_one_of_plain_names(shop, shop_model, tmp_path):
    paths = Taxonomy.from_dict(with_paths(shop.taxonomy.to_dict()))
    Cascade.fit(paths, shop.texts, shop.labels).save(tmp_path / "paths")
    write_lines(
        tmp_path / "rows.jsonl",
        [{"text": text, "labels": names} for text, names in zip(shop.texts, shop.labels, strict=True)],
    )
    words = ("evaluate", "rows.jsonl", "--model", "paths", "--compare", shop_model, "--json")
    found = json.loads(run(tmp_path, *words).stdout)["comparison"]
    assert (found["labels"], found["left_out"]) == (9, [])
    assert {one["name"] for one in found["by_label"]} == set(paths.labels)
    assert all(one["this"] == pytest.approx(one["other"], abs=0.02) for one in found["by_label"])


def test_a_flat_model_beside_it_has_the_same_labels(desk):
    described = DESK | {
        "groups": DESK["groups"] | {"b2b": {"labels": [{"name": "late", "aliases": ["slow"]}]}}
    }
    described["groups"]["money"] = {"labels": [{"name": "refund", "aliases": ["slow", "back"]}]}
    flat = flat_taxonomy(Taxonomy.from_dict(described))
    assert {name: label.aliases for name, label in flat.labels.items() if label.aliases} == {
        "money/refund": ("back",)
    }
    words = ("evaluate", "more.jsonl", "--against", "flat", "--train", "rows.jsonl", "--json")
    found = json.loads(run(desk, *words).stdout)["comparison"]
    assert (found["labels"], found["left_out"]) == (len(WORDS), [])


def test_reasons_have_paths(desk):
    found = json.loads(run(desk, "explain", WORDS["goods/other"], "--json").stdout)
    assert [name for name, _ in found["labels"]] == ["goods/other"]


def test_training_files_have_last_names(desk):
    described = DESK | {
        "defaults": {"backend": backend("http://127.0.0.1:9", answer="names", list_children=True)}
    }
    (desk / "hosted.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    run(desk, "export", "hosted.yaml", "--out", "exported")
    folders = {
        one["group"]: desk / one["folder"]
        for one in json.loads((desk / "exported/manifest.json").read_text())["groups"]
    }
    assert set(folders) == {"", "money", "money/tax", "goods"}
    assert all("/" not in folder.relative_to(desk / "exported").as_posix() for folder in folders.values())
    lines = [json.loads(line) for line in (folders["money/tax"] / "training.jsonl").read_text().splitlines()]
    system, answers = lines[0]["messages"][0]["content"], {line["messages"][2]["content"] for line in lines}
    assert system.startswith("tax\n")
    assert answers <= {"missing", "other", "missing; other", "none"}


def test_hosted_models_answer_with_last_names(desk, tmp_path):
    described = DESK | {"defaults": {"backend": {"kind": "linear"}}}
    with sandbox(tmp_path / "service") as address:
        hosted = {"backend": backend(address, answer="names")}
        described["groups"] = DESK["groups"] | {"goods": DESK["groups"]["goods"] | hosted}
        (desk / "sandbox.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
        for words in (
            ("fit", "sandbox.yaml", "--out", "hosted", "--yes"),
            ("evaluate", "more.jsonl", "--model", "hosted", "--json"),
        ):
            done = subprocess.run(
                command(*words),
                cwd=desk,
                env=hosted_environment(),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["per_label"]
    assert all(found[name]["f1"] > 0.8 for name in ("goods/late", "goods/goods", "goods/other"))


def test_label_studio_takes_and_gives_paths(desk):
    config = run(desk, "label-studio", "config").stdout
    assert config.count('value="other"') == 3
    assert "money/" not in config
    run(desk, "label-studio", "export", "more.jsonl", "--out", "tasks.json")
    tasks = json.loads((desk / "tasks.json").read_text())
    paths = [
        tuple(one)
        for task in tasks
        for part in task["annotations"][0]["result"]
        for one in part["value"]["taxonomy"]
    ]
    assert {"/".join(path) for path in paths} == set(WORDS)
    chosen = [["money", "tax", "other"], ["goods", "other"], ["goods", "goods"]]
    tasks = [{"data": tasks[0]["data"], "annotations": [{"result": [
        {"from_name": "labels", "to_name": "text", "type": "taxonomy", "value": {"taxonomy": chosen}}
    ]}]}]  # fmt: skip
    (desk / "done.json").write_text(json.dumps(tasks))
    run(desk, "label-studio", "import", "done.json", "--out", "done.jsonl")
    [row] = [json.loads(line) for line in (desk / "done.jsonl").read_text().splitlines()]
    assert row["labels"] == ["money/tax/other", "goods/other", "goods/goods"]


def test_a_queue_for_review_has_paths(desk):
    run(desk, "review", "more.jsonl", "--rows", 10)
    queued = [json.loads(line) for line in (desk / "more.review.jsonl").read_text().splitlines()]
    assert len(queued) == 10
    assert {name for row in queued for name in row["scores"]} <= {"money", "money/tax", "goods", *WORDS}


def test_a_page_of_a_tree_has_last_names_and_finds_paths_and_a_report_is_drawn(desk):
    run(desk, "evaluate", "more.jsonl", "--report", "report.html")
    (desk / "tree.html").write_text(run(desk, "inspect-tree", "--format", "html").stdout)
    with chromium() as browser:
        with watched(browser, 1280, "file://") as page:
            page.goto((desk / "tree.html").as_uri())
            names = [
                "desk",
                "money",
                "refund",
                "other",
                "tax",
                "missing",
                "other",
                "goods",
                "late",
                "goods",
                "other",
            ]
            assert page.locator("main .name").all_text_contents() == names
            for wanted, count in {"tax/other": 1, "other": 3, "goods/": 3, "goods/late": 1}.items():
                page.fill("input", wanted)
                assert page.text_content("output") == f"{count} of 11 found"
        with watched(browser, 1280, "file://") as page:
            page.goto((desk / "report.html").as_uri())
            page.wait_for_selector("#treemap .slice")
            picture(page, desk, "report")


@pytest.fixture(scope="module")
def served(desk):
    run(desk, "review", "more.jsonl", "--rows", 20, "--out", "served.review.jsonl")
    with serving(desk / "models/desk", "--review", str(desk / "served.review.jsonl")) as (port, _):
        yield f"http://127.0.0.1:{port}"


def test_the_page_to_try_the_model_on_tells_labels_of_one_name_apart(served, desk):
    with chromium() as browser, watched(browser, 1280, served) as page:
        page.goto(served)
        page.fill("#texts", "smashed pieces")
        page.press("#texts", "Control+Enter")
        page.wait_for_selector("#answers .labels span")
        assert "goods/other" in page.text_content("#answers")
        assert page.locator("#tree .node.chosen .name").all_text_contents() == ["other"]
        picture(page, desk, "home")


def test_the_page_of_a_review_takes_paths(served, desk):
    with chromium() as browser, watched(browser, 1280, served) as page:
        page.goto(f"{served}/review")
        page.wait_for_selector("#choices input")
        assert (
            page.locator("#choices input")
            .evaluate_all("all => all.map((one) => one.value)")
            .count("goods/other")
            == 1
        )
        page.check("#choices input[value='money/tax/other']")
        assert "money/tax/other" in page.text_content("#chips")
        picture(page, desk, "review")


def test_the_estimator_takes_paths_and_last_names():
    made = rows(120, seed=3)
    texts, short = [row["text"] for row in made], {"money/refund": "refund", "goods/late": "late"}
    given = [[short.get(name, name) for name in row["labels"]] for row in made]
    classifier = CascadeClassifier({key: value for key, value in DESK.items() if key != "data"})
    classifier.fit(texts, given)
    assert list(classifier.classes_) == list(classifier.taxonomy_.graph.labels)
    assert set(classifier.classes_) == set(WORDS)
    assert classifier.score(texts, given) > 0.9

"""The benchmarks run and say what they should; nothing here is timed."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from cascade.fitted import Cascade
from cascade.learn.truth import true_cells

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "tests" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
DATA = ROOT.parent / "shared" / "data"
PEERS = ROOT / ".peers"
sys.path.append(str(BENCHMARKS))  # programs of their own, which import each other as neighbours

import evidence  # noqa: E402
import in_turn  # noqa: E402
import measure  # noqa: E402
import one_label  # noqa: E402
import ours  # noqa: E402
import page  # noqa: E402
import parts  # noqa: E402
import scored  # noqa: E402
import sets  # noqa: E402

needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA}")

# Peers that are right, silent, broken and always of one opinion.
SCRIPT = """
import json, time
import numpy as np

class Data:
    def __init__(self, folder):
        rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
        self.labels = sorted({label for row in rows for label in row["labels"]})
        self.truth = np.array([[label in row["labels"] for label in self.labels] for row in rows])

def answer(scores):
    time.sleep(0.3)
    yield
    time.sleep(0.02)
    yield scores

def flat(data, threads):
    yield from answer(data.truth * 0.9)

def pecos(data, threads):
    print("a library talks")
    yield from answer(data.truth * np.nan)

def omikuji(data, threads):
    raise ValueError("no luck today")
    yield

def hiclass(data, threads):
    yield from answer(np.ones(data.truth.shape))
"""
EARLIER = "figures of an earlier run"
TINY = ("--rows", "300", "--max-rows", "400", "--max-labels", "100", "--sets", "feedback")


def run(folder, *options):
    """A run on tiny data, and the page that it wrote."""
    into = folder / "page.md"
    begin, text = "<!-- fit: begin -->\n", PAGE.read_text("utf-8")
    into.write_text(text.replace(begin, f"{begin}{EARLIER}\n"), "utf-8")
    command = [sys.executable, BENCHMARKS / "run.py", *TINY, "--page", into, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, into.read_text("utf-8")


def stand_ins(folder):
    """An environment of peers whose Python is this one, and a script of peers."""
    python = folder / "peers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "utf-8")
    python.chmod(0o755)
    script = folder / "script.py"
    script.write_text(SCRIPT, "utf-8")
    return ["--peers", folder / "peers", "--script", script]


def few_data(folder):
    """The data that are mixed, and the first rows of US bills."""
    data = folder / "data"
    (data / "us_bills").mkdir(parents=True)
    for name in ("mix.py", "clinc150"):
        (data / name).symlink_to(DATA / name)
    for split, count in (("train", 100), ("test", 20)):
        with gzip.open(DATA / "us_bills" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as lines:
            few = "".join(itertools.islice(lines, count))
        (data / "us_bills" / f"{split}.jsonl").write_text(few, "utf-8")
    return data


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with stand-ins for the peers, and its page."""
    folder = tmp_path_factory.mktemp("whole")
    options = ["--only", "fit,growth,us_bills,start", "--data", few_data(folder), *stand_ins(folder)]
    return run(folder, *options)


def tables(text, part):
    """The tables between the markers of a part: rows of cells, the head first."""
    between = re.search(f"<!-- {part}: begin -->(.*)<!-- {part}: end -->", text, re.DOTALL)[1]
    found = []
    for is_table, lines in itertools.groupby(between.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            found.append([head, *rows])
    return found


def figures(table):
    """Name in the first column -> the other cells."""
    return {row[0]: row[1:] for row in table[1:]}


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


# Whole runs


@needs_data
def test_fit_shows_each_system_that_ran(whole):
    assert EARLIER not in whole[1]
    systems, _ = tables(whole[1], "fit")
    assert systems[0][0] == "mixed utterances: 300 rows, 150 labels"
    found = figures(systems)
    ours, peers = ["Cascade, one fit", "`cascade fit`, `predict`"], ["flat LinearSVC", "libpecos", "hiclass"]
    assert list(found) == [*ours, *peers]
    for cells in found.values():
        fit, predict, whole_run, peak = map(float, cells[:4])
        assert min(fit, predict) > 0
        assert whole_run >= fit + predict - 0.02
        assert 20 < peak < 2000
    assert all(0 < float(cell) < 1 for name in ours for cell in found[name][4:])
    assert [found[name][4] for name in peers[:2]] == ["1.000", "0.000"]
    assert 0 < float(found["hiclass"][4]) < 0.1


@needs_data
def test_ratios_are_those_of_the_figures(whole):
    systems, ratios = (figures(table) for table in tables(whole[1], "fit"))
    fit_seconds = {name: float(cells[0]) for name, cells in systems.items()}
    micro = {name: float(cells[4]) for name, cells in systems.items()}
    fits = float(ratios["libpecos's fit / one fit of Cascade"][0])
    assert fits == pytest.approx(fit_seconds["libpecos"] / fit_seconds["Cascade, one fit"], rel=0.3, abs=0.02)
    best = float(ratios["micro F1 of `cascade` - of the best peer"][0])
    assert best == pytest.approx(micro["`cascade fit`, `predict`"] - 1, abs=0.002)


@needs_data
def test_what_fails_is_told_and_the_rest_goes_on(whole):
    done, written = whole
    assert done.returncode == 1
    assert "omikuji: exit code 1: ValueError: no luck today." in written
    assert done.stderr.splitlines()[-2:] == ["failed:", "omikuji: exit code 1: ValueError: no luck today"]
    assert tables(written, "start")


@needs_data
def test_kernels_are_compiled_first_and_a_model_is_fitted_once(whole):
    commands = [line for line in whole[0].stderr.splitlines() if line.startswith("$")]
    assert "taxonomies/feedback.yaml" in commands[0]
    assert len([line for line in commands if re.search(r"cascade fit \S+/mix-300/", line)]) == 1
    assert len([line for line in commands if re.search(r"cascade predict \S+/short-1\.jsonl", line)]) == 5


@needs_data
def test_growth_has_a_row_for_each_size_and_exponents(whole):
    rows, labels, exponents = tables(whole[1], "growth")
    assert [row[:2] for row in rows[1:]] == [[str(size), "150"] for size in (4, 12, 40, 120, 400)]
    assert [row[:2] for row in labels[1:]] == [["20", str(size)] for size in (1, 3, 10, 30, 100)]
    assert len(figures(exponents)) == 4
    assert all(abs(float(cells[0])) < 3 for cells in figures(exponents).values())


@needs_data
def test_us_bills_is_compared_with_one_flat_model(whole):
    systems, ratios = tables(whole[1], "us_bills")
    assert systems[0][0].startswith("us_bills: 100 rows, ")
    assert list(figures(systems)) == ["`cascade fit`, `predict`", "flat LinearSVC"]
    assert [cells[1] for cells in figures(ratios).values()] == ["5 or more", "0.672 or more", "0.555 or more"]
    assert all(float(cells[0]) > 0 for cells in figures(ratios).values())


@needs_data
def test_start_is_one_figure(whole):
    ((_, (what, seconds, aim)),) = tables(whole[1], "start")
    assert (what, aim) == ("seconds for one row, least of 5 runs", "1 or less")
    assert float(seconds) > 0


@needs_data
def test_what_was_not_run_keeps_its_place_on_the_page(whole):
    assert tables(whole[1], "sets") == tables(PAGE.read_text("utf-8"), "sets")
    assert "## Other data" in whole[1]


def test_what_is_not_there_is_skipped_with_the_reason(tmp_path):
    absent = ["--peers", tmp_path / "absent", "--data", tmp_path / "nothing"]
    there = [*stand_ins(tmp_path), *absent]  # of what is given twice the last counts: the script is there
    done, written = run(tmp_path, "--only", "fit,us_bills,sets", *there)
    assert done.returncode == 0, done.stderr
    assert f"fit: skipped, there is no {tmp_path / 'nothing' / 'clinc150'}." in done.stdout
    assert f"us_bills: skipped, there is no {tmp_path / 'nothing' / 'us_bills'}." in done.stdout
    assert f"flat LinearSVC: skipped, there is no {tmp_path / 'absent' / 'bin' / 'python'}." in written
    assert EARLIER in written
    systems, ratios = tables(written, "sets")
    assert systems[0][0] == "feedback: 2,790 rows, 120 labels"
    assert list(figures(systems)) == ["`cascade fit`, `predict`"]
    assert {cells[0] for cells in figures(ratios).values()} == {"not measured"}


@needs_data
@pytest.mark.skipif(not PEERS.exists(), reason=f"there is no {PEERS}: `make bench` makes it")
def test_predict_shows_cascade_and_libpecos(tmp_path):
    done, written = run(tmp_path, "--only", "predict", "--rows", "3000")
    assert done.returncode == 0, done.stderr
    systems, ratios = tables(written, "predict")
    assert [row[:2] for row in systems[1:]] == [
        [f"`cascade predict --jobs {os.cpu_count()}`", "400"],
        ["`cascade predict --jobs 1`", "400"],
        ["`cascade predict --jobs 1`", "4"],
        ["libpecos, prediction only", "400"],
        ["libpecos, as trained", "400"],
    ]
    rates = [float(row[2].replace(",", "")) for row in systems[1:]]
    both = figures(ratios)["`cascade predict` / libpecos for prediction only, both as processes"]
    assert float(both[0]) == pytest.approx(rates[0] / rates[3], abs=0.02)
    assert all(float(cells[0]) >= 0 for cells in figures(ratios).values())


def test_an_unknown_part_is_refused(tmp_path):
    done, _ = run(tmp_path, "--only", "fit,dance")
    assert done.returncode == 2
    assert "unknown: dance; expected some of fit,predict,growth,labels,pages,us_bills,sets" in done.stderr


# Data

# The script that joins utterances leaves files for the interpreter to close.
joins = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


@needs_data
@joins
def test_labels_are_split_finer_and_texts_stay_the_same(tmp_path):
    made = sets.Sets(DATA, tmp_path)
    few, many = (rows_of(made.split(size, 900).train) for size in (50, 1500))
    assert [row["text"] for row in few] == [row["text"] for row in many]
    names = [{label for row in rows for label in row["labels"]} for rows in (few, many)]
    assert len(names[0]) == 50
    assert len(names[1]) > 600
    parts_of: dict[str, set[str]] = {}
    for coarse, fine in zip(few, many, strict=True):
        if len(coarse["labels"]) == len(fine["labels"]) == 1:
            parts_of.setdefault(fine["labels"][0], set()).update(coarse["labels"])
    assert all(len(of) == 1 for of in parts_of.values())


@needs_data
@joins
@pytest.mark.parametrize(("n_labels", "n_groups"), [(50, 7), (150, 12), (500, 22), (5000, 71)])
def test_labels_stand_in_groups_of_about_their_root(tmp_path, n_labels, n_groups):
    taxonomy = json.loads(sets.Sets(DATA, tmp_path).split(n_labels, 10).taxonomy.read_text())
    sizes = [len(group["labels"]) for group in taxonomy["groups"].values()]
    assert sum(sizes) == n_labels
    assert abs(len(sizes) - n_groups) <= 1
    assert max(sizes) - 1 <= n_labels / (n_groups - 1)


def test_valid_is_added_to_train_and_test_is_not(tmp_path):
    folder = tmp_path / "nlupp"
    folder.mkdir()
    lines = {
        split: json.dumps({"text": split, "labels": [split]}) + "\n" for split in ("train", "valid", "test")
    }
    with gzip.open(folder / "train.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write(lines["train"])
    for split in ("valid", "test"):
        (folder / f"{split}.jsonl").write_text(lines[split], "utf-8")
    (tmp_path / "made").mkdir()
    made = sets.Sets(tmp_path, tmp_path / "made").named("nlupp")
    assert made.train.read_text("utf-8") == lines["train"] + lines["valid"]
    assert made.test.read_text("utf-8") == lines["test"]
    assert made.taxonomy == ROOT / "taxonomies" / "nlupp.yaml"
    assert (made.n_rows, made.n_labels) == (2, 2)
    known = json.loads((made.folder / "taxonomy.yaml").read_text("utf-8"))
    assert known["groups"] == {"all labels": {"labels": ["train", "valid"]}}


def test_a_data_set_without_test_rows_is_skipped(tmp_path):
    (tmp_path / "nlupp").mkdir()
    (tmp_path / "nlupp" / "train.jsonl").touch()
    with pytest.raises(measure.NotMeasuredError, match=r"no test.jsonl, plain or gzipped, in .*nlupp"):
        sets.Sets(tmp_path, tmp_path).named("nlupp")


def test_a_data_set_without_a_taxonomy_of_ours_has_that_beside_its_rows(tmp_path):
    folder = tmp_path / "titles"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text(json.dumps({"text": "x", "labels": ["a"]}) + "\n", "utf-8")
    (tmp_path / "made").mkdir()
    made = sets.Sets(tmp_path, tmp_path / "made").named("titles")
    assert made.taxonomy == folder / "taxonomy.yaml"


# One label a row


def test_a_part_has_rows_of_one_of_its_labels_and_groups_of_these(tmp_path):
    groups = yaml.safe_load((ROOT / "taxonomies" / "clinc150.yaml").read_text("utf-8"))["groups"]
    labels = [label for group in groups.values() for label in group["labels"]]
    carried = [[label] for label in labels * 10] + [labels[:2], []]
    rows = [{"text": f"{number}", "labels": own} for number, own in enumerate(carried)]
    (tmp_path / "clinc150").mkdir()
    for split in ("train", "test"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "clinc150" / f"{split}.jsonl").write_text(lines, "utf-8")
    (tmp_path / "made").mkdir()
    made = sets.Sets(tmp_path, tmp_path / "made")
    whole = one_label.one_label(made, "75 labels, one a row")
    known = yaml.safe_load(whole.taxonomy.read_text("utf-8"))
    assert known["groups"] == dict(list(groups.items())[:5])
    own = Counter(json.loads(line)["labels"][0] for line in whole.test.read_text("utf-8").splitlines())
    assert own == dict.fromkeys(labels[:75], 10)
    assert (whole.n_rows, whole.n_labels) == (750, 75)
    few = one_label.one_label(made, "90 others, one a row, uneven, few")
    assert few.n_labels == 90
    assert few.n_rows < 90 * 2.5


def test_fewer_rows_are_kept_of_each_further_label_and_those_of_train_and_test_go_together():
    labels = [f"label {at}" for at in range(20)]
    rows = [{"labels": [label]} for label in labels * 100]
    part = one_label.Part(range(1), 0.5, 0.9)
    counts = Counter(row["labels"][0] for row in one_label.thinned(rows, labels, part))
    assert sorted(counts.values(), reverse=True) == [round(50 * 0.9**at) for at in range(20)]
    fewer = Counter(row["labels"][0] for row in one_label.thinned(rows[:400], labels, part))
    assert [name for name, _ in fewer.most_common(3)] == [name for name, _ in counts.most_common(3)]


# Folds in turn


def test_each_row_is_tested_on_once_by_a_model_of_other_folds():
    rows = [{"id": f"{domain}-{fold}-{at}"} for fold in range(20) for domain in "ab" for at in range(3)]
    tested = []
    for train, test in in_turn.turns(rows):
        folds = [{row["id"].split("-")[1] for row in part} for part in (train, test)]
        assert (len(folds[0]), len(folds[1])) == (18, 2)
        assert not folds[0] & folds[1]
        tested += test
    assert len(tested) == len(rows)
    assert {row["id"] for row in tested} == {row["id"] for row in rows}


def test_the_calibration_error_is_that_of_all_answers_together():
    answers = [{"scores": {"a": 0.75, "b": 0.25}}] * 4
    rows = [{"labels": ["a"]}, {"labels": ["a"]}, {"labels": ["a", "b"]}, {"labels": ["unseen"]}]
    found = in_turn.calibration(rows, answers)
    assert found["calibration_error"] == pytest.approx(0)
    assert found["calibration_error_by_chance"] == pytest.approx(2 * (4 * 0.1875 * 2 / np.pi) ** 0.5 / 8)
    assert in_turn.calibration(rows[:2], answers[:2])["calibration_error"] == pytest.approx(0.25)


# One fit


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_fit_gives_path_scores_of_all_labels(shop, jobs):
    scores = ours.fit_once(shop.taxonomy, shop.texts, shop.labels, jobs)(shop.texts)
    graph = shop.taxonomy.graph
    truth = true_cells(graph, shop.labels).dense()[:, -len(graph.labels) :]
    assert scores.shape == truth.shape
    assert not ((scores < 0) | (scores > 1)).any()
    assert f1_score(truth, scores > 0.5, average="micro") > 0.95


# Figures


@st.composite
def scored_rows(draw):
    n_rows, n_labels = draw(st.integers(1, 8)), draw(st.integers(2, 4))
    cells = st.lists(
        st.tuples(st.booleans(), st.integers(0, 100)), min_size=n_rows * n_labels, max_size=n_rows * n_labels
    )
    drawn = np.array(draw(cells)).reshape(n_rows, n_labels, 2)
    return drawn[:, :, 0].astype(bool), drawn[:, :, 1] / 100


@settings(deadline=None, derandomize=True, max_examples=50)
@given(scored_rows())
def test_best_f1_is_that_of_the_cut_with_the_best_micro_f1(tmp_path_factory, drawn):
    truth, scores = drawn
    folder = tmp_path_factory.mktemp("scored")
    names = [f"label {column}" for column in range(truth.shape[1])]
    rows = [{"labels": [names[column] for column in np.flatnonzero(row)]} for row in truth]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored.write(folder / "out.jsonl", names, scored.of_matrix(scores))
    occurring = truth.any(axis=0)

    def f1(cut):
        micro = f1_score(truth, scores > cut, average="micro", zero_division=0)
        each = f1_score(truth, scores > cut, average=None, zero_division=0)[occurring]
        return micro, each.mean() if len(each) else 0

    best = max(map(f1, scored.CUTS))
    assert scored.best_f1(folder / "test.jsonl", folder / "out.jsonl") == pytest.approx(best)


def test_f1_of_answers_counts_what_was_chosen(tmp_path):
    test, answers = tmp_path / "test.jsonl", tmp_path / "answers.jsonl"
    test.write_text('{"labels": ["a", "b"]}\n{"labels": []}\n{"labels": ["a"]}\n')
    answers.write_text('{"labels": ["a"]}\n{"labels": ["c"]}\n{"labels": ["a"]}\n')
    micro, macro = scored.f1_of_answers(test, answers)
    assert micro == pytest.approx(4 / 6)
    assert macro == pytest.approx((1 + 0) / 2)


def test_answers_to_other_rows_are_no_figure(tmp_path):
    test, answers = tmp_path / "test.jsonl", tmp_path / "answers.jsonl"
    test.write_text('{"labels": ["a"]}\n{"labels": []}\n')
    answers.write_text('{"labels": ["a"]}\n')
    with pytest.raises(ValueError, match="shorter"):
        scored.f1_of_answers(test, answers)


def test_rows_without_a_score_above_the_least_cut_are_written_empty(tmp_path):
    scored.write(tmp_path / "out.jsonl", ["a", "b"], scored.of_matrix(np.array([[np.nan, 0.05], [0.06, 1]])))
    assert rows_of(tmp_path / "out.jsonl") == [
        {"id": 1, "scores": {}},
        {"id": 2, "scores": {"a": 0.06, "b": 1.0}},
    ]


@settings(deadline=None, derandomize=True)
@given(st.floats(-2, 3), st.floats(0.01, 100), st.sets(st.integers(1, 10**6), min_size=2, max_size=6))
def test_exponent_of_a_power_is_found(power, factor, sizes):
    seconds = {size: factor * size**power for size in sizes}
    assert parts.exponent(seconds) == pytest.approx(power, abs=1e-6)


def test_exponent_without_the_smallest_sizes_does_not_see_them():
    seconds = {1: 50.0, 10: 50.0, 100: 100.0, 1000: 1000.0, 10000: 10000.0}
    assert parts.exponent(seconds, skipped=2) == pytest.approx(1)
    with pytest.raises(ValueError, match="two"):
        parts.exponent(seconds, skipped=4)


# Evidence


def test_labels_are_lost_with_their_evidence_and_not_with_words_by_chance(shop, shop_model):
    model, texts = Cascade.load(shop_model), shop.texts[:60]
    found = model.evidence(texts)
    deleted = list(evidence.deletions(texts, found, random.Random(0)))
    assert [one.label for one in deleted] == [one.label for own in found for one in own]
    assert all(0 < one.share < 0.9 for one in deleted)
    assert all(len(one.without.split()) == len(one.by_chance.split()) for one in deleted)
    lost, by_chance = evidence.lost_shares(model, deleted)
    assert lost > 0.9
    assert by_chance < 0.6


# The page


def test_a_new_run_replaces_its_tables_and_nothing_else(tmp_path):
    into = tmp_path / "page.md"
    start = "<!-- start: begin -->\nkept\n<!-- start: end -->\n"
    around = "# Title\n<!-- fit: begin -->\n{}<!-- fit: end -->\nprose \\1\n" + start
    into.write_text(around.format(""))
    for figure in ("1.00", "\\g<0>"):
        table = page.Table(("system", "fit"), [("ours", figure)], ["a note"])
        page.write(into, page.Section("fit", [table]), "a machine")
    body = "| system |   fit |\n| ------ | ----: |\n| ours   | \\g<0> |\n\na note\n\na machine\n\n"
    assert into.read_text() == around.format(f"\n{body}")


def test_the_page_has_a_place_for_each_part():
    text = PAGE.read_text("utf-8")
    places = re.findall(r"^<!-- (\w+): begin -->$.*?^<!-- \1: end -->$", text, re.DOTALL | re.MULTILINE)
    assert places == list(parts.PARTS)


def test_a_page_without_the_markers_is_refused(tmp_path):
    into = tmp_path / "page.md"
    into.write_text("# Title\n")
    with pytest.raises(SystemExit, match=r"page.md: expected the lines '<!-- fit: begin -->'"):
        page.write(into, page.Section("fit", []), "a machine")
    assert into.read_text() == "# Title\n"


# What a command takes


def peak_mib(*words):
    return measure.measured([sys.executable, *words], 60).peak_mib


def test_memory_of_the_parent_is_not_the_commands():
    held = bytearray(300 << 20)
    assert peak_mib("-c", "pass") < 100
    assert len(held) == 300 << 20


def test_memory_is_that_of_all_processes_together():
    hold = "import time; held = bytearray(150 << 20); time.sleep(1)"
    two = "import subprocess, sys; [p.wait() for p in [subprocess.Popen(sys.argv[1:]) for _ in 'ab']]"
    assert 150 < peak_mib("-c", hold) < 200
    if measure.PROC.exists():
        assert 300 < peak_mib("-c", two, sys.executable, "-c", hold) < 400


def test_memory_of_a_short_moment_is_seen():
    assert 150 < peak_mib("-c", "bytearray(150 << 20)") < 200


def test_a_command_that_takes_too_long_is_stopped_with_its_children(tmp_path):
    late = tmp_path / "late"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(late)!r}).touch()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(measure.NotMeasuredError, match=r"not done after 0\.5 s"):
        measure.measured([sys.executable, "-c", code], 0.5)
    subprocess.run([sys.executable, "-c", "import time; time.sleep(2)"], check=True)
    assert not late.exists()


def test_a_command_that_fails_is_quoted():
    with pytest.raises(measure.FailedError, match="exit code 3: oh no"):
        measure.measured(
            [sys.executable, "-c", "import sys; print('oh  no', file=sys.stderr); sys.exit(3)"], 60
        )


def test_timings_stand_on_the_last_line():
    done = measure.measured([sys.executable, "-c", "print('chatter'); print('{\"fit_s\": 2.5}')"], 60)
    assert done.timings == {"fit_s": 2.5}

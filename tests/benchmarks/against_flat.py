"""Cascade against one flat model, in the same run: quality, time and memory as ratios.

    python tests/benchmarks/against_flat.py [--data FOLDER_OF_SETS] [--only clinc150,nlupp] [--jobs 2]

Ours runs as a user runs it: `cascade fit` and `cascade evaluate` as processes, reading, folds, calibration,
thresholds and saving included. The peer is a process as well: TF-IDF of words and word pairs and one linear
SVM a label over all rows (scikit-learn), whose one threshold is the best on the test rows themselves, which
flatters it. Each data set is a folder with train, test and perhaps valid (JSONL, plain or gzipped) that a
taxonomy of the same name describes; our own feedback data are always among them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
SETS = ("feedback", "nlupp", "clinc150", "goemotions", "us_bills")
TABLE = "{:<11} {:>8} {:>7}  {:>17}  {:>17}  {:>9} {:>9}"


@dataclass(frozen=True)
class Files:
    """Where one data set lies."""

    name: str
    taxonomy: Path
    train: list[Path]
    test: list[Path]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="a folder of data sets"
    )
    cli.add_argument("--only", default=",".join(SETS))
    cli.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    cli.add_argument(
        "--flat", type=Path, nargs=3, metavar=("TRAIN", "TEST", "LABELS"), help=argparse.SUPPRESS
    )
    asked = cli.parse_args()
    if asked.flat:
        print(json.dumps(_flat(*asked.flat)))
        return
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {asked.jobs} jobs"
    )
    print(
        TABLE.format(
            "data", "rows", "labels", "cascade micro/mac", "flat micro/macro", "time of", "memory of"
        )
    )
    print(TABLE.format("", "", "", "", "(best on test)", "flat's", "flat's"))
    for name in asked.only.split(","):
        files = _files(name, asked.data)
        print(
            _row(files, asked.jobs)
            if files
            else f"{name:<11} skipped: no train and test rows in {asked.data / name}",
            flush=True,
        )


def _files(name: str, data: Path) -> Files | None:
    """The files of a data set, or None where they are not there."""
    taxonomy = ROOT / "taxonomies" / f"{name}.yaml"
    if name == "feedback":
        rows = ROOT / "training_data"
        return Files(name, taxonomy, [rows / "feedback.jsonl"], [rows / "feedback_test.jsonl"])
    found = {
        split: [
            path for ending in ("jsonl", "jsonl.gz") if (path := data / name / f"{split}.{ending}").exists()
        ]
        for split in ("train", "valid", "test")
    }
    return (
        Files(name, taxonomy, found["train"] + found["valid"], found["test"])
        if found["train"] and found["test"]
        else None
    )


def _row(files: Files, jobs: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model")
        train = [word for path in files.train for word in ("--data", str(path))]
        fit = [
            sys.executable,
            "-m",
            "cascade",
            "fit",
            str(files.taxonomy),
            "--out",
            str(model),
            "--jobs",
            str(jobs),
            "--json",
            *train,
        ]
        ours_seconds, ours_mib, _ = _measured(fit, folder)
        evaluate = [
            sys.executable,
            "-m",
            "cascade",
            "evaluate",
            *map(str, files.test),
            "--model",
            str(model),
            "--json",
        ]
        _, _, answer = _measured(evaluate, folder)
        ours = json.loads(answer)
        joined = [
            _joined(paths, Path(folder, name))
            for name, paths in (("train", files.train), ("test", files.test))
        ]
        labels = Path(folder, "labels.json")
        labels.write_text(json.dumps(sorted(ours["per_label"])))
        flat_seconds, flat_mib, answer = _measured(
            [sys.executable, str(HERE), "--flat", *map(str, joined), str(labels)], folder
        )
        flat = json.loads(answer)
    return TABLE.format(
        files.name,
        flat["rows"],
        ours["labels"],
        f"{ours['micro_f1']:.3f} / {ours['macro_f1']:.3f}",
        f"{flat['micro_f1']:.3f} / {flat['macro_f1']:.3f}",
        f"{ours_seconds / flat_seconds:.2f}",
        f"{ours_mib / flat_mib:.2f}",
    )


def _measured(command: list[str], folder: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MiB of the largest process, and standard output of a command."""
    watch = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE, check=True)\n"
        "open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
        "sys.stdout.buffer.write(done.stdout)"
    )
    peak = Path(folder, "peak")
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", watch, str(peak), *command],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - start, int(peak.read_text()) / 1024, done.stdout


def _joined(paths: list[Path], out: Path) -> Path:
    """The rows of several files as texts and labels in one JSON file."""
    from cascade.records import Columns, read_all
    from cascade.taxonomy import Taxonomy

    taxonomy = Taxonomy.load(ROOT / "taxonomies" / f"{_set_of(paths)}.yaml")
    rows, _ = read_all(paths, Columns(), taxonomy)
    out.write_text(json.dumps([[row.text for row in rows], [list(row.labels) for row in rows]]))
    return out


def _set_of(paths: list[Path]) -> str:
    return "feedback" if paths[0].name.startswith("feedback") else paths[0].parent.name


def _flat(train: Path, test: Path, labels: Path) -> dict[str, float]:
    """The peer: one LinearSVC a label over all rows, and its best single threshold on the test rows."""
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer
    from sklearn.svm import LinearSVC

    (texts, names), (test_texts, test_names) = json.loads(train.read_text()), json.loads(test.read_text())
    binarize = MultiLabelBinarizer(classes=json.loads(labels.read_text()))
    targets, truth = binarize.fit_transform(names), binarize.fit_transform(test_names)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    X, Z = vectorizer.fit_transform(texts), vectorizer.transform(test_texts)
    margins = np.full(truth.shape, -9.0)
    for column in np.flatnonzero(targets.any(axis=0) & ~targets.all(axis=0)):
        margins[:, column] = LinearSVC(random_state=0).fit(X, targets[:, column]).decision_function(Z)
    occurring = truth.any(axis=0)

    def figures(cut: float) -> tuple[float, float]:
        micro = f1_score(truth, margins >= cut, average="micro", zero_division=0)
        macro = f1_score(truth[:, occurring], margins[:, occurring] >= cut, average="macro", zero_division=0)
        return micro, macro

    micro, macro = max((figures(cut) for cut in np.linspace(-0.9, 0.1, 21)), key=sum)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": len(texts), "micro_f1": micro, "macro_f1": macro, "peak_mib": peak}


if __name__ == "__main__":
    main()

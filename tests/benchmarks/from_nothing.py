"""What a model knows that began with no row: asked, then of labelled rows, and of answers of a person.

A sandbox is started, and its model ``reader`` asked about the texts of our feedback data through ``cascade
label``, by the descriptions of the taxonomy alone; an embedded model learns from the rows. Then the first
texts of the queue get their true labels, as if a person had said them, and a model learns from both, and one
from these alone. Printed are F1s on the test rows. The figures are the sandbox's, which compares words.
Run as ``python tests/benchmarks/from_nothing.py [--sure 30%] [--reviewed 100,200,400]``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ROOT / "training_data"


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--sure", default="30%", help="as for cascade label")
    cli.add_argument("--reviewed", default="100,200,400", help="how many answers of a person")
    asked = cli.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured(Path(folder), asked.sure, [int(number) for number in asked.reviewed.split(",")])


def measured(folder, sure, reviewed):
    service = subprocess.Popen(
        command("sandbox", "--port", "0", "--folder", folder / "sandbox"),
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        asked = put(folder, service.stdout.readline().strip())
        run(folder, "fit", asked, "--out", "asked")
        told("asked, no row", figures(folder, "asked"))
        run(
            folder,
            "label",
            ROWS / "feedback.jsonl",
            "--model",
            "asked",
            "--out",
            "rows.jsonl",
            "--sure",
            sure,
        )
    finally:
        service.send_signal(signal.SIGINT)
        service.wait()
    n_rows = len((folder / "rows.jsonl").read_text("utf-8").splitlines())
    told(f"embedded, {n_rows} labelled rows", learned(folder, ["rows.jsonl"]))
    for number in reviewed:
        answers(folder, number)
        told(f"{n_rows} labelled, {number} reviewed", learned(folder, ["rows.jsonl", "rows.reviewed.jsonl"]))
        told(f"{number} reviewed alone", learned(folder, ["rows.reviewed.jsonl"]))
    told("all rows with their true labels", learned(folder, [ROWS / "feedback.jsonl"]))


def put(folder, address):
    """The taxonomy of the data without their rows: one that asks, one that learns."""
    plain = re.sub(
        r"^data:\n(  .*\n)+", "", (ROOT / "taxonomies" / "feedback.yaml").read_text("utf-8"), flags=re.M
    )
    service = f"provider: compatible, base_url: {json.dumps(address)}, api_key_env: KEY, model: reader"
    backend = f"{{kind: prompt, {service}}}"
    (folder / "learns.yaml").write_text(plain, "utf-8")
    (folder / "asks.yaml").write_text(plain.replace("backend: linear", f"backend: {backend}"), "utf-8")
    return "asks.yaml"


def answers(folder, number):
    """The first rows of the queue with what is true of them."""
    rows = map(json.loads, (ROWS / "feedback.jsonl").read_text("utf-8").splitlines())
    true = {row["id"]: row for row in rows}
    queue = (folder / "rows.review.jsonl").read_text("utf-8").splitlines()[:number]
    said = [true[json.loads(line)["id"]] for line in queue]
    lines = (json.dumps({key: row[key] for key in ("id", "text", "labels")}) + "\n" for row in said)
    (folder / "rows.reviewed.jsonl").write_text("".join(lines), "utf-8")


def learned(folder, files):
    data = [word for file in files for word in ("--data", file)]
    run(folder, "fit", "learns.yaml", "--out", "learned", *data)
    return figures(folder, "learned")


def figures(folder, model):
    done = run(folder, "evaluate", ROWS / "feedback_test.jsonl", "--model", model, "--json")
    return json.loads(done.stdout)


def told(what, found):
    shown = " / ".join(f"{found[name]:.3f}" for name in ("micro_f1", "macro_f1", "precision_at_1"))
    print(f"{what}: {shown} (micro F1, macro F1, p@1)", flush=True)


def command(*words):
    return [sys.executable, "-m", "cascade", *map(str, words)]


def environment(folder):
    return os.environ | {"PYTHONPATH": str(ROOT), "KEY": "any", "CASCADE_HOME": str(folder / "home")}


def run(folder, *words):
    return subprocess.run(
        command(*words), cwd=folder, env=environment(folder), check=True, capture_output=True, text=True
    )


if __name__ == "__main__":
    main()

"""Rows a second of each kind of file, beside the standard library's own reading of the same rows.

    python tests/benchmarks/reading.py [--rows N] [--rounds N]

The peer takes a row apart (`csv`, `json`) and splits its labels, and checks nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path

from cascade.rows.reading import read_rows
from cascade.taxonomy.definition import Taxonomy

ROOT = Path(__file__).parents[2]
FEEDBACK = ROOT / "training_data" / "feedback.jsonl"


def write_files(folder, n_rows):
    """The feedback rows, again and again, as files of several kinds; the path of each."""
    taxonomy = Taxonomy.load(ROOT / "taxonomies" / "feedback.yaml")
    rows = [json.loads(line) for line in FEEDBACK.read_text("utf-8").splitlines()]
    rows = [rows[number % len(rows)] for number in range(n_rows)]
    written = {
        "plain.jsonl": lambda row: json.dumps(row, ensure_ascii=False),
        "chat.jsonl": lambda row: json.dumps(
            {
                "messages": [
                    {"role": "user", "content": row["text"]},
                    {"role": "assistant", "content": ", ".join(row["labels"])},
                ]
            }
        ),
    }
    for name, line in written.items():
        (folder / name).write_text("".join(f"{line(row)}\n" for row in rows), "utf-8")
    paths = {name: " > ".join(taxonomy.path_to(name)) for name in taxonomy.labels}
    cells = {
        "plain.csv": ("labels", ";".join),
        "hash.csv": ("topic", lambda names: "#".join(name.upper() for name in names) or "NONE"),
        "paths.csv": ("topic", lambda names: ";".join(paths.get(name, name) for name in names)),
        "lists.csv": ("topic", str),
    }
    for name, (column, cell) in cells.items():
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["id", "text", column])
            table.writerows([row.get("id", ""), row["text"], cell(row["labels"])] for row in rows)
    return taxonomy, sorted(folder.iterdir())


def peer_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        if path.suffix == ".csv":
            return sum(1 for row in csv.DictReader(file) if (row.popitem()[1].split(";"),))
        return sum(1 for line in file if json.loads(line))


def best_of(rounds, work):
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        taxonomy, paths = write_files(Path(folder), asked.rows)
        print(f"{'file':<14}{'rows/s':>10}{'peer':>10}{'ratio':>8}  read as")
        for path in paths:
            ours = best_of(asked.rounds, lambda path=path: sum(1 for _ in read_rows(path, None, taxonomy)))
            peer = best_of(asked.rounds, lambda path=path: peer_rows(path))
            words = read_rows(path, None, taxonomy).reading.reading.describe()
            speeds = f"{asked.rows / ours:>10,.0f}{asked.rows / peer:>10,.0f}{peer / ours:>8.2f}"
            print(f"{path.name:<14}{speeds}  {words}")


if __name__ == "__main__":
    main()

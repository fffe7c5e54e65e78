"""One of the peers of a script, end to end: JSONL in, scored JSONL out. Runs in the peers' environment.

    .peers/bin/python peer.py SCRIPT NAME FOLDER OUT --threads 2

SCRIPT has a class `Data`, made from FOLDER (train.jsonl, test.jsonl, taxonomy.yaml), and a generator NAME
that fits up to its first `yield` and gives the scores of the test rows, (n_texts, n_labels), with its second.
The seconds of both, without reading and writing, are one JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import runpy
import time
from pathlib import Path

import scored


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("script", type=Path)
    cli.add_argument("name")
    cli.add_argument("folder", type=Path)
    cli.add_argument("out", type=Path)
    cli.add_argument("--threads", type=int, required=True)
    asked = cli.parse_args()
    peers = runpy.run_path(str(asked.script))
    data = peers["Data"](asked.folder)
    steps = peers[asked.name](data, asked.threads)
    start = time.perf_counter()
    next(steps)
    fitted = time.perf_counter()
    scores = next(steps)
    done = time.perf_counter()
    scored.write(asked.out, data.labels, scored.of_matrix(scores))
    print(json.dumps({"fit_s": fitted - start, "predict_s": done - fitted}))


if __name__ == "__main__":
    main()

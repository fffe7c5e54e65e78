"""libpecos over a file of any length, in its best form. Runs in the peers' environment.

    .peers/bin/python libpecos.py fit FOLDER MODEL --threads 2
    .peers/bin/python libpecos.py predict ROWS MODEL OUT --threads 2 [--as-trained]

Fitted with the settings of its documentation (as the peers' script does too), on TF-IDF of words and word
pairs by its own vectoriser. `predict` takes `BATCH` rows at a time, which was a little faster than all at
once, and a model that is loaded for prediction only, as its own command `pecos.xmc.xlinear.predict` does, in
the fastest of its three layouts; or, with `--as-trained`, the model as it is after a fit, and as
`XLinearModel.load` gives it unasked. The seconds of vectorising and scoring, without reading, loading and
writing, are one JSON object on standard output.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import chain
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import scored
from pecos.utils.featurization.text.vectorizers import Vectorizer
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel

BATCH = 5_000
PREDICT_ONLY = {"is_predict_only": True, "weight_matrix_type": "HASH_CHUNKED"}


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = cli.add_subparsers(required=True)
    fit_ = commands.add_parser("fit")
    fit_.add_argument("folder", type=Path)
    fit_.add_argument("model", type=Path)
    fit_.set_defaults(run=fit)
    predict_ = commands.add_parser("predict")
    predict_.add_argument("rows", type=Path)
    predict_.add_argument("model", type=Path)
    predict_.add_argument("out", type=Path)
    predict_.add_argument("--as-trained", action="store_true")
    predict_.set_defaults(run=predict)
    for one in (fit_, predict_):
        one.add_argument("--threads", type=int, required=True)
    asked = cli.parse_args()
    asked.run(asked)


def fit(asked: argparse.Namespace) -> None:
    texts, names = _read(asked.folder / "train.jsonl")
    labels = sorted({name for of_row in names for name in of_row})
    column = {name: place for place, name in enumerate(labels)}
    cells = [(row, column[name]) for row, of_row in enumerate(names) for name in of_row]
    ones = np.ones(len(cells), dtype=np.float32)
    Y = sp.csr_matrix((ones, tuple(zip(*cells, strict=True))), shape=(len(texts), len(labels)))
    kwargs = {"ngram_range": (1, 2), "sublinear_tf": True, "threads": asked.threads}
    vectorizer = Vectorizer.train(texts, {"type": "tfidf", "kwargs": kwargs}, dtype=np.float32)
    X = vectorizer.predict(texts, threads=asked.threads)
    embedding = LabelEmbeddingFactory.create(Y, X, method="pifa")
    tree = Indexer.gen(embedding, indexer_type="hierarchicalkmeans", nr_splits=16)
    model = XLinearModel.train(X, Y, C=tree, threads=asked.threads)
    model.save(str(asked.model))
    vectorizer.save(str(asked.model / "vectorizer"))
    (asked.model / "labels.json").write_text(json.dumps(labels))


def predict(asked: argparse.Namespace) -> None:
    texts, _ = _read(asked.rows)
    vectorizer = Vectorizer.load(str(asked.model / "vectorizer"))
    model = XLinearModel.load(str(asked.model), **({} if asked.as_trained else PREDICT_ONLY))
    start = time.perf_counter()
    scores = []
    for first in range(0, len(texts), BATCH):
        X = vectorizer.predict(texts[first : first + BATCH], threads=asked.threads)
        scores.append(model.predict(X, beam_size=10, only_topk=10, threads=asked.threads))
    seconds = time.perf_counter() - start
    labels = json.loads((asked.model / "labels.json").read_text())
    scored.write(asked.out, labels, chain.from_iterable(map(scored.of_sparse, scores)))
    print(json.dumps({"predict_s": seconds}))


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["text"] for row in rows], [row["labels"] for row in rows]


if __name__ == "__main__":
    main()

"""What a second pass wins, by how often its answers are right and of how many texts it may ask.

A stand-in answers with a stated sureness of .9; whether it is right is drawn once for each text and label.
No language model is asked, so that this is what answers of such a quality would do, and no more. Each line
is a second pass that was settled on the training rows' out-of-fold scores, by 400 questions at most, and
used on the test rows.
Run as ``python tests/benchmarks/second_pass.py [TAXONOMY]``; by default on our feedback data.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascade.fitted import Cascade
from cascade.hosted.questions import Answer
from cascade.learn.datasets import Dataset
from cascade.learn.fit import fit_out_of_fold
from cascade.learn.verifying import settle_verification
from cascade.predict.look import Looks
from cascade.predict.verifying import Verifier
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.settings import BackendSpec, VerifySpec

SHARES, RIGHT = (0.05, 0.1, 0.2, 0.3), (0.6, 0.7, 0.8, 0.9, 0.97)
SURENESS = 0.9
NOBODY = {"provider": "compatible", "base_url": "http://127.0.0.1:9/v1", "model": "a stand-in"}


class StandIn:
    """Knows the truth, and tells it so often."""

    def __init__(self, truth, right):
        self.truth, self.right, self.asked = truth, right, 0

    def ask(self, questions):
        self.asked += len(questions)
        return [Answer(np.array([self.yes(one)], dtype=np.float32)) for one in questions]

    def yes(self, question):
        label = question.codec.form.children[0]
        drawn = int(hashlib.sha256(f"{question.text} {label}".encode()).hexdigest()[:8], 16) / 2**32
        true = label in self.truth.get(question.text, ())
        return SURENESS if true == (drawn < self.right) else 1 - SURENESS


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("taxonomy", nargs="?", type=Path, default=Path("taxonomies/feedback.yaml"))
    taxonomy = Taxonomy.load(cli.parse_args().taxonomy)
    train, test = (
        read_all(list(taxonomy.data.files(which)), Columns.of(taxonomy.data), taxonomy).rows
        for which in ("train", "test")
    )
    truth = {row.text: set(map(taxonomy.last_name, row.labels)) for row in (*train, *test)}
    dataset = Dataset.make(taxonomy, [row.text for row in train], [row.labels for row in train])
    with tempfile.TemporaryDirectory() as folder:
        found = fit_out_of_fold(dataset, Path(folder))
        model = Cascade.load(folder)
        texts, labels = [row.text for row in test], [row.labels for row in test]
        plain = model.evaluate(texts, labels)
        print(f"{len(train)} training and {len(test)} test rows; answers are a stand-in's")
        print(f"{'at most':>8} {'right':>6} {'questions':>10} {'micro F1':>9} {'macro F1':>9} {'p@1':>6}")
        line(None, None, 0, plain)
        for share in SHARES:
            for right in RIGHT:
                answers = StandIn(truth, right)
                spec = VerifySpec(BackendSpec("prompt", NOBODY), share)
                asking = replace(dataset, taxonomy=replace(taxonomy, verify=spec))
                settled = settle_verification(asking, found.rows, found.walked, found.manifest, asker=answers)
                if not settled.is_used:
                    print(f"{share:8.0%} {right:6.2f}  not used: {settled.notes['why']}")
                    continue
                answers.asked = 0
                verifier = Verifier(model.taxonomy, found.manifest, settled, answers)
                model.looks = Looks(model.looks.looks, (), verifier)
                line(share, right, answers, model.evaluate(texts, labels))
                model.looks = Looks(model.looks.looks)


def line(share, right, answers, figures):
    asked = f"{answers.asked:10}" if answers else f"{0:10}"
    told = f"{share:8.0%} {right:6.2f}" if share else f"{'-':>8} {'-':>6}"
    print(
        f"{told} {asked} {figures.micro_f1:9.3f} {figures.macro_f1:9.3f} {figures.precision_at_1:6.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

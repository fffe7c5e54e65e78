"""What a fine-tune of one's own wins where rows are few, and whether pairs of rows teach it more.

Rows are drawn until each label has so many of them, and those without a label as many; a row of several
labels counts for each. Every way is a whole fit of them, measured on the same test rows:

* ``words``, ``frozen``: words alone, and words beside an encoder that is used as it is;
* ``tuned``: the fine-tune as it is;
* ``before``: pairs teach the trunk first, by the supervised contrastive loss (Khosla et al., "Supervised
  Contrastive Learning", NeurIPS 2020, equation 2): the two rows of each of 32 labels against all others of
  the batch, rows that share a label being alike; then all goes on as it is;
* ``heads``: as before, but heads alone are taught after it (as in Tunstall et al., "Efficient Few-Shot
  Learning Without Prompts", 2022, whose pairs are of the cosine);
* ``beside``: that loss of other batches, of 16 labels, beside the walk's own at each step.

Run as ``.venv-train/bin/python tests/benchmarks/contrastive.py TAXONOMY TRAIN... --test TEST --rows 4``, with
minilm and its weights on this machine (`cascade encoders get minilm`, and `--to-train`).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.settings import BackendSpec
from cascade.trunk.network import Network
from cascade.trunk.trainer import Trainer
from cascade.trunk.training import DECAY, RISING, Training, device_of

WAYS = ("words", "frozen", "tuned", "before", "heads", "beside")
BACKENDS = {
    "words": BackendSpec("linear", {}),
    "frozen": BackendSpec("linear", {"encoder": "minilm"}),
    "tuned": BackendSpec("encoder", {"base": "minilm"}),
}
TEMPERATURE, RATE, EPOCHS = 0.1, 1e-4, 5
LABELS_BEFORE, LABELS_BESIDE = 32, 16
# Rows of like lengths are read together, as padding is read as well.
AT_ONCE = 16


class Pairs(Training):
    """A training that knows which rows are alike."""

    def __init__(self, course, network, labels, way):
        super().__init__(course, network)
        names = sorted({name for row in course.rows.tolist() for name in labels[row]})
        self.marks = np.array([[name in own for name in names] for own in labels], dtype=np.float32)
        self.of_label = [course.rows[self.marks[course.rows, column] > 0] for column in range(len(names))]
        self.way = way

    def run(self, checkpoints, listener):
        """Pairs first, or beside; then, or meanwhile, all else."""
        if self.way != "beside":
            self.taught_pairs()
        if self.way == "heads":
            self._rates[0] = 0.0
        return super().run(checkpoints, listener)

    def taught_pairs(self):
        """Teach the trunk alone."""
        steps = EPOCHS * max(len(self.course.rows) // (2 * LABELS_BEFORE), 1)
        optimizer = torch.optim.AdamW(self.network.tuned(), lr=RATE, weight_decay=DECAY, fused=True)
        rising = max(int(RISING * steps), 1)
        self.network.trunk.train()
        for step in range(steps):
            torch.manual_seed(step)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min((step + 1) / rising, (steps - step) / max(steps - rising, 1))
            optimizer.zero_grad(set_to_none=True)
            self.loss_of_pairs(step, LABELS_BEFORE).backward()
            optimizer.step()

    def _learned(self, batch):
        if self.way != "beside":
            return super()._learned(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch) / len(batch)
        loss.backward()
        self.loss_of_pairs(self.step, LABELS_BESIDE).backward()
        self.optimizer.step()
        return loss.item()

    def loss_of_pairs(self, step, count):
        """That of two rows of each of so many labels."""
        random = np.random.default_rng([self.course.seed, step, count])
        chosen = random.permutation(len(self.of_label))[:count]
        found = [random.choice(self.of_label[one], 2, replace=len(self.of_label[one]) < 2) for one in chosen]
        rows = np.concatenate(found)
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        ids = [self.course.ids[row] for row in rows.tolist()]
        vectors = torch.cat(
            [self.network.vectors(ids[at : at + AT_ONCE]) for at in range(0, len(ids), AT_ONCE)]
        )
        marks = torch.from_numpy(self.marks[rows]).to(vectors.device)
        itself = torch.eye(len(rows), dtype=torch.bool, device=vectors.device)
        alike = (marks @ marks.T > 0) & ~itself
        nearness = (vectors @ vectors.T / TEMPERATURE).masked_fill(itself, -torch.inf)
        sure = (nearness - torch.logsumexp(nearness, dim=1, keepdim=True)).masked_fill(~alike, 0.0)
        return -(sure.sum(dim=1) / alike.sum(dim=1).clamp(min=1))[alike.any(dim=1)].mean()


@dataclass(frozen=True)
class PairsTrainer(Trainer):
    """Trains with pairs of rows, too."""

    labels: Sequence[Sequence[str]] = ()
    way: str = "before"

    def _run(self, course, checkpoints):
        network = Network(course.folder, course.base, course.lessons, device_of(self.device))
        training = Pairs(course, network, self.labels, self.way)
        return network, training.run(checkpoints, lambda _: None)


def drawn(labels, count, draw):
    """Rows until each label, and none of them, has so many."""
    kept, counts = [], {}
    for row in np.random.default_rng([17, draw]).permutation(len(labels)).tolist():
        own = labels[row] or [""]
        if any(counts.get(name, 0) < count for name in own):
            kept.append(row)
            counts |= {name: counts.get(name, 0) + 1 for name in own}
    return sorted(kept)


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("taxonomy", type=Path)
    cli.add_argument("train", nargs="+", type=Path)
    cli.add_argument("--test", type=Path, required=True)
    cli.add_argument("--rows", type=int, nargs="+", default=[4], help="of each label")
    cli.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    cli.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    cli.add_argument("--most-tested", type=int, default=1500, help="test rows with a label, drawn once")
    asked = cli.parse_args()
    tree = Taxonomy.load(asked.taxonomy)
    train, test = (
        read_all(list(map(str, files)), Columns.of(tree.data), tree).rows
        for files in (asked.train, [asked.test])
    )
    some = np.random.default_rng(0).permutation([row for row, one in enumerate(test) if one.labels])
    test = [test[row] for row in some[: asked.most_tested]]
    labels = [one.labels for one in train]
    print(f"{'rows':>5} {'draw':>5} {'way':>7} {'p@1':>6} {'micro F1':>9} {'macro F1':>9} {'seconds':>8}")
    for count in asked.rows:
        for draw in asked.draws:
            rows = drawn(labels, count, draw)
            for way in asked.ways:
                texts, own = [train[row].text for row in rows], [labels[row] for row in rows]
                line(count, draw, way, *measured(tree, texts, own, test, way))


def measured(tree, texts, labels, test, way):
    """The figures of a whole fit, and the seconds that it took."""
    backend = BACKENDS.get(way, BACKENDS["tuned"])
    groups = {name: replace(group, backend=backend) for name, group in tree.groups.items()}
    trainer = PairsTrainer(labels=labels, way=way) if way not in BACKENDS else None
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        fit(replace(tree, groups=groups), texts, labels, Path(folder) / "model", trainer=trainer)
        seconds = time.monotonic() - began
        model = Cascade.load(Path(folder) / "model")
        return model.evaluate([one.text for one in test], [one.labels for one in test]), seconds


def line(count, draw, way, figures, seconds):
    print(
        f"{count:5} {draw:5} {way:>7} {figures.precision_at_1:6.3f} {figures.micro_f1:9.3f} "
        f"{figures.macro_f1:9.3f} {seconds:8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

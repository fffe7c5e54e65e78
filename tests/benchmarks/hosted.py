"""The parts of the benchmarks about models at services: tokens of questions, and how fast these are asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import asking as speed
import numpy as np
from bench import Bench
from page import Aim, Section, Table, compare
from sets import Set

from cascade.hosted import tokens as counting
from cascade.hosted.codecs import codec_of
from cascade.hosted.settings import Settings
from cascade.learn.datasets import Dataset
from cascade.learn.groups import trained_groups
from cascade.taxonomy.definition import Taxonomy

MOST_TEXTS = 1000
SETS_OF_TOKENS = ("clinc150", "us_bills")


class Asked(NamedTuple):
    """What is asked about one text, on average."""

    questions: float
    text: float
    cascade: float
    flat: float


TOKENS_AIMS = tuple(
    Aim(
        f"tokens of all questions / tokens of one that lists all labels, {name}",
        lambda of, name=name: of[name].cascade / of[name].flat,
        "0.2 or less",
    )
    for name in SETS_OF_TOKENS
)


def tokens(bench: Bench) -> Section:
    """Prompt tokens of a text in a hosted cascade, beside one flat prompt that lists all labels."""
    table = Table(
        ("data", "labels", "questions a text", "tokens of the text", "of all questions", "of one prompt")
    )
    found: dict[str, Asked] = {}
    for name in SETS_OF_TOKENS:
        with bench.noting(table.notes, name):
            data = bench.sets.named(name)
            found[name] = one = _asked_of(data)
            figures = (one.text, one.cascade, one.flat)
            table.add(
                name, f"{data.n_labels}", f"{one.questions:.2f}", *(f"{value:.0f}" for value in figures)
            )
    return Section("tokens", [table, compare(TOKENS_AIMS, found)])


def _asked_of(data: Set) -> Asked:
    taxonomy = Taxonomy.load(data.taxonomy)
    lines = data.test.read_text("utf-8").splitlines()[:MOST_TEXTS]
    rows = [json.loads(line) for line in lines]
    texts, labels = [row["text"] for row in rows], [row["labels"] for row in rows]
    dataset = Dataset.make(taxonomy, texts, labels)
    sizes = np.array([counting.count(text) for text in texts])
    reached = {group: dataset.reaching(group) for group in trained_groups(taxonomy)}
    total = sum(reaching * (sizes + _around(dataset, group)) for group, reaching in reached.items())
    return Asked(
        questions=sum(reaching.mean() for reaching in reached.values()),
        text=sizes.mean(),
        cascade=np.mean(total),
        flat=sizes.mean() + _flat(taxonomy.graph.labels),
    )


def _around(dataset: Dataset, group: str) -> int:
    """Tokens of a group's question without its text."""
    problem = dataset.problem(group, dataset.rows(group, "all"), 0)
    description = problem.description
    codec = codec_of(
        problem.children,
        description.descriptions,
        description.choose,
        Settings(),
        description.aliases,
        description.task,
    )
    return counting.of_request(codec.request(" ")) - counting.count("(empty)")


def _flat(labels: Sequence[str]) -> int:
    """Tokens of a prompt that asks for names out of all labels, without the text."""
    codec = codec_of(labels, {}, "many", Settings(answer="names"))
    system = "\n".join([codec.instruction("many"), *codec.listed()])
    messages = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    return counting.of_request({"messages": messages})


# Speed

SECONDS = 75.0
Found = Mapping[str, speed.Measured]
ASKING_AIMS = (
    Aim(
        "the least rate over its bound, of answers after 300 ms",
        lambda of: min(map(_reached, _far(of))),
        "0.95 or more",
        ".3f",
    ),
    Aim(
        "the most processor time a question, ms, where 1,000 a minute or more are asked",
        lambda of: max(map(_spent, _busy(of))),
        "2 or less",
    ),
    Aim("requests refused after the first minute", lambda of: sum(one.late for one in of.values()), "0", "d"),
)


def _far(of: Found) -> list[speed.Measured]:
    return [one for case, one in of.items() if "300 ms" in case]


def _busy(of: Found) -> list[speed.Measured]:
    return [one for one in of.values() if one.bound * 60 >= 1000]


def _reached(one: speed.Measured) -> float:
    return one.reached


def _spent(one: speed.Measured) -> float:
    return one.spent


def asking(bench: Bench) -> Section:
    """Questions to a service on this machine that takes its time, and allows only so many a minute."""
    table = Table(("the service", "rate over its bound", "bound, a second", "processor time, ms", "refused"))
    found: dict[str, speed.Measured] = {}
    for case in speed.CASES:
        with bench.noting(table.notes, str(case)):
            found[str(case)] = one = speed.measured(case, SECONDS)
            table.add(
                str(case), f"{one.reached:.3f}", f"{one.bound:.0f}", f"{one.spent:.2f}", f"{one.refused}"
            )
    return Section("asking", [table, compare(ASKING_AIMS, found)])

"""Rows whose labels are pairs of a topic and an issue, and taxonomies of them with a known fault."""

from __future__ import annotations

import random

from cascade.taxonomy.definition import Taxonomy

TOPICS = {"phone": "phone screen call", "train": "train seat station", "hotel": "room bed lobby"}
ISSUES = {
    "price": "price dear cost",
    "delay": "late delay wait",
    "noise": "loud noise bang",
    "dirt": "dirty stain mud",
}
DEFAULTS = {"backend": {"kind": "linear", "C": 1}, "negatives": "siblings"}
FILLERS = ["the", "a", "my", "was", "and", "so", "it", "again", "today", "very", "quite", "they", "said"]
LABELS = {f"{topic}_{issue}": (topic, issue) for topic in TOPICS for issue in ISSUES}


def planted_rows(n_texts=240, seed=0, topic_words=1):
    """Texts in which a topic and an issue stand as words of three each, and the label of both."""
    random_ = random.Random(seed)
    texts, labels = [], []
    for number in range(n_texts):
        name = list(LABELS)[number % len(LABELS)]
        topic, issue = LABELS[name]
        words = random_.choices(TOPICS[topic].split(), k=topic_words)
        words.append(random_.choice(ISSUES[issue].split()))
        if random_.random() < 0.25:  # a word that misleads
            words[random_.randrange(len(words))] = random_.choice(FILLERS)
        words += random_.choices(FILLERS, k=5)
        random_.shuffle(words)
        texts.append(" ".join(words))
        labels.append([name])
    return texts, labels


def planted_taxonomy(**moved):
    """A group for each topic, but for labels that stand in another one."""
    groups = {topic: {"labels": []} for topic in TOPICS}
    for name, (topic, _) in LABELS.items():
        groups[moved.get(name, topic)]["labels"].append(name)
    return Taxonomy.from_dict({"name": "planted", "defaults": DEFAULTS, "groups": groups})

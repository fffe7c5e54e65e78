"""A model that scores by keyword, and rows of which some are damaged."""

from __future__ import annotations

import json
import os
import time
import zlib

import numpy as np
from places import HELPERS, ROOT

from cascade.model.decide import decide
from cascade.model.folder import GroupRecord, Manifest, digest_of_file
from cascade.model.walk import walk
from cascade.predict.look import Part
from cascade.taxonomy.definition import Taxonomy

FEEDBACK = {
    "name": "feedback",
    "groups": {
        "billing": {"labels": ["refund", "double_charge"], "groups": {"tax": {"labels": ["vat", "shared"]}}},
        "delivery": {"labels": ["late", "broken", "shared"]},
        "mood": {"route": "always", "choose": "one", "labels": ["happy", "angry"]},
    },
}


class OneLook:
    """What stands in for a model has one look: itself."""

    # Of a model that decides by itself, nothing else is read of it.
    manifest = Manifest({}, (), {}, {}, {}, (), 0, {})

    @property
    def graph(self):
        return self.taxonomy.graph

    def parts(self, walked):
        return [Part(np.arange(len(walked)), self, walked)]


class KeywordModel(OneLook):
    """A stand-in that knows a name when it stands in the text, and guesses by checksum where none does.

    Its folder holds one file: the taxonomy, the thresholds, and how long each batch takes.
    """

    is_hosted = asks_services = False

    def __init__(self, folder, taxonomy, thresholds, routes, seconds):
        self.folder, self.taxonomy, self.seconds = folder, taxonomy, seconds
        self.digest = digest_of_file(folder / "model.json")
        groups = {name: _record(routes.get(name, 0.0)) for name in taxonomy.graph.groups}
        self.manifest = Manifest({}, taxonomy.graph.nodes, groups, thresholds, {}, (), 0, {})

    @classmethod
    def make(cls, folder, taxonomy=FEEDBACK, threshold=0.5, routes=None, seconds=0.0, **thresholds):
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "taxonomy": taxonomy,
            "threshold": threshold,
            "thresholds": thresholds,
            "routes": {"billing": 0.25, "delivery": 0.25, "tax": 0.25} if routes is None else routes,
            "seconds": seconds,
        }
        (folder / "model.json").write_text(json.dumps(settings))
        return cls.load(folder)

    @classmethod
    def load(cls, folder):
        stored = json.loads((folder / "model.json").read_text())
        taxonomy = Taxonomy.from_dict(stored["taxonomy"])
        thresholds = dict.fromkeys(taxonomy.graph.nodes, stored["threshold"]) | stored["thresholds"]
        return cls(folder, taxonomy, thresholds, stored["routes"], stored["seconds"])

    def walk(self, texts):
        time.sleep(self.seconds)
        assert all(isinstance(text, str) for text in texts)

        def score(asked):
            return {group: self._scores(group, [texts[row] for row in rows]) for group, rows in asked.items()}

        def enter(group, _, path):
            return path >= np.float32(self.manifest.groups[group].route_threshold)

        return walk(self.taxonomy, len(texts), score, enter)

    def _scores(self, group, texts):
        children = [child for child in self.taxonomy.graph.children[group] if child != "mood"]
        return np.array([[_score(text, child) for child in children] for text in texts], dtype=np.float32)

    def decide(self, walked):
        return decide(self.taxonomy, self.manifest.thresholds, walked.paths)


def _record(route):
    return GroupRecord({"kind": "keyword"}, "", {}, "siblings", (), (), route, 0, ())


def _score(text, child):
    return 0.9 if child in text else zlib.crc32((text + child).encode()) % 1000 / 1000


def texts(n):
    return [{"id": f"r{number}", "text": f"complaint {number}"} for number in range(n)]


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


DAMAGES = (
    "not json",
    '{"id": 1, "text": "cut of',
    '{"id": 2}',
    '{"id": 3, "text": null}',
    '{"id": 4, "text": 7}',
    '{"id": 5, "text": ["a"]}',
    "[1, 2]",
    "null",
    '{"text": "half a pair \\ud800"}',
    '{"id": "\\udc00", "text": "x"}',
)


def damaged_rows(n):
    """Every tenth row damaged, in ten ways."""
    rows = [json.dumps(row) for row in texts(n)]
    for place in range(5, n, 10):
        rows[place] = DAMAGES[place // 10 % len(DAMAGES)]
    return rows


PYTHON_PATH = os.pathsep.join(str(folder) for folder in (HELPERS, ROOT))

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled_files import KINDS

from cascade.changes.migration import migrate
from cascade.rows.reading import read_all
from cascade.rows.readings import Columns
from cascade.taxonomy.definition import Taxonomy

GROUPS = ("money", "goods", "staff")
LABELS = ("refund", "card", "late", "broken", "rude", "kind")
HOME = dict(zip(LABELS, ("money", "money", "goods", "goods", "staff", "staff"), strict=True))


def taxonomy(groups, **more):
    return Taxonomy.from_dict({"name": "shop", "groups": groups, **more})


OLD = taxonomy({group: {"labels": [one for one in LABELS if HOME[one] == group]} for group in GROUPS})


class Edited:
    """A new taxonomy, the decisions that go with it, and what they say of each old label."""

    def __init__(self, edits):
        groups = {group: {f"more_{group}": []} for group in GROUPS}
        self.decisions, self.sure, self.open = {}, {}, {}
        lasting = [label for label, edit in edits.items() if edit in ("keep", "move")]
        for label, wanted in edits.items():
            edit = "keep" if wanted == "merge" and not lasting else wanted
            getattr(self, edit)(label, groups[HOME[label]], groups, lasting)
        self.new = taxonomy(
            {
                name: {"labels": [{"name": one, "aliases": aliases} for one, aliases in members.items()]}
                for name, members in groups.items()
            }
        )

    def keep(self, label, group, groups, lasting):
        group.setdefault(label, [])
        self.sure[label] = {label}

    def rename(self, label, group, groups, lasting):
        group[f"{label}_now"] = [label]
        self.sure[label] = {f"{label}_now"}

    def gone_and_decided(self, label, group, groups, lasting):
        group[f"other word for {label}"] = []
        self.decisions[label] = f"other word for {label}"
        self.sure[label] = {f"other word for {label}"}

    def merge(self, label, group, groups, lasting):
        self.decisions[label] = lasting[0]
        self.sure[label] = {lasting[0]}

    def move(self, label, group, groups, lasting):
        groups[GROUPS[(GROUPS.index(HOME[label]) + 1) % 3]].setdefault(label, [])
        self.sure[label] = {label}

    def delete(self, label, group, groups, lasting):
        self.decisions[label] = None
        self.sure[label] = set()

    def split(self, label, group, groups, lasting):
        group[f"{label}_a"] = group[f"{label}_b"] = []
        self.decisions[label] = [f"{label}_a", f"{label}_b"]
        self.sure[label] = set()
        self.open[label] = HOME[label]

    def labels(self, labels):
        """What a row with these labels is to have."""
        sure = set().union(*(self.sure[one] for one in labels))
        said = {group for one in sure for group in self.new.graph.ancestors(one)}
        return sure | {self.open[one] for one in labels if one in self.open and self.open[one] not in said}


EDITS = ("keep", "rename", "gone_and_decided", "merge", "move", "delete", "split")
edits = st.fixed_dictionaries({label: st.sampled_from(EDITS) for label in LABELS})
texts = st.text(st.sampled_from("abc dé,;\"'|ü"), min_size=1, max_size=20).map(
    lambda one: f"x{one.strip()}y z"
)
labelled = st.lists(st.sampled_from(LABELS), max_size=3, unique=True)
files = st.lists(st.tuples(texts, labelled), min_size=3, max_size=12)
ENOUGH = [
    ("all of it", ["refund", "late", "rude"]),
    ("more, of it", ["card"]),
    ("none of it", []),
    ("b", ["broken", "kind"]),
]


def labels_in(path, names, columns=None):
    found = read_all([path], columns or Columns(), names)
    assert found.refused == []
    return [(row.text, set(row.labels)) for row in found.rows]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=edits, rows=files)
def test_every_row_of_every_kind_of_file_has_the_labels_that_the_decisions_say(kind, edits, rows):
    edited, rows = Edited(edits), [*ENOUGH, *rows]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        source = place / kind
        KINDS[kind](source, rows, list(LABELS))
        before = source.read_bytes()
        read = [(row.text, set(row.labels)) for row in read_all([source], Columns(), OLD).rows]
        report = migrate(OLD, edited.new, [source], place / "out", edited.decisions)
        assert report.refused == ()
        assert source.read_bytes() == before
        [one] = report.files
        told = [note for note in one.notes if "is read only if" in note]
        columns = (
            Columns.of(Taxonomy.from_dict({**edited.new.to_dict(), "data": data_of(told[0])}).data)
            if told
            else None
        )
        found = labels_in(place / "out" / kind, edited.new, columns)
        assert found == [(text, edited.labels(labels)) for text, labels in read]
        assert one.rows == len(rows)
        assert sum(one.labels.values()) == sum(len(labels) for _, labels in read)
        again = migrate(OLD, edited.new, [source], place / "out", edited.decisions)
        assert again == report
        settled = {"data": data_of(told[0])} if told else {}
        new = Taxonomy.from_dict({**edited.new.to_dict(), **settled})
        twice = migrate(new, new, [place / "out" / kind], place / "twice")
        assert [one.changed for one in twice.files] == [0]
        assert (place / "twice" / kind).read_bytes() == (place / "out" / kind).read_bytes()


def data_of(note):
    """The lines of YAML in a note, as the taxonomy would have them."""
    lines = note.split("data:\n")[1].splitlines()
    return {key.strip(): json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}

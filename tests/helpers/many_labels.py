"""A taxonomy of 5,000 labels in 250 groups in 20 sections, with rows for a few; other groups are constant."""

from __future__ import annotations

import json

LABELS, GROUPS, SECTIONS = 5000, 250, 20
TAUGHT = (4242, 4243, 17, 18)
"""Labels that rows have; the first two stand in one group, the others in another section."""


def group_of(label):
    return label * GROUPS // LABELS


def section_of(label):
    return group_of(label) * SECTIONS // GROUPS


def many_labels():
    """The taxonomy as plain values; a label says in words what it is about."""
    sections = {f"section_{number}": {"groups": {}} for number in range(SECTIONS)}
    for label in range(LABELS):
        groups = sections[f"section_{section_of(label)}"]["groups"]
        labels = groups.setdefault(f"group_{group_of(label)}", {"labels": []})["labels"]
        in_letters = "".join("abcdefghij"[int(digit)] for digit in str(label))
        labels.append({"name": f"topic_{label}", "description": f"Letters about matter {in_letters}."})
    return {"name": "many", "groups": sections}


def rows():
    """120 rows: 30 of each label that is taught."""
    for number in range(120):
        label = TAUGHT[number % 4]
        yield {
            "id": number,
            "text": f"dear all, about word{label} and group{group_of(label)} {number}",
            "labels": [f"topic_{label}"],
        }


def write_many_labels(folder):
    """`taxonomy.yaml` and `rows.jsonl`, which it names for training and tests."""
    taxonomy = many_labels() | {"data": {"train": "rows.jsonl", "test": "rows.jsonl"}}
    (folder / "taxonomy.yaml").write_text(json.dumps(taxonomy), "utf-8")  # JSON is YAML
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")

"""To Label Studio and back: its labelling configuration, its tasks, and the rows of what it exports.

A label is a path from the top of its ``Taxonomy`` control. One that stands below several groups has several
paths; the first is proposed, and any of them means the label. The form of tasks is that of Label Studio's
guide, "Import pre-annotated data" and "Label Studio JSON format of annotated tasks".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

from cascade.errors import DataError
from cascade.rows.readings import Columns
from cascade.rows.row import BadRow, Row
from cascade.rows.writing import labelled_row
from cascade.system.files import read_at_most
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.taxonomy.names import SEPARATOR
from cascade.teach.queue import QueuedRow

CONTROL, TEXT, NOTE = "labels", "text", "note"
ID = "cascade_id"
"""Where a task has the id of its row; `id` would be lost to Label Studio's own in JSON-MIN."""

_SEPARATOR = " / "
MOST_BYTES = 1 << 30
"""Of an export, which is one JSON array and has to be held whole."""
_VERSION = 16
TaxonomyPath = tuple[str, ...]


def labelling_config(taxonomy: Taxonomy) -> str:
    """The labelling configuration, XML: the text, a tree of all groups and labels, and a note.

    Groups can be chosen as well, as a row may name a group of which no more is known.
    """
    view = ET.Element("View")
    ET.SubElement(view, "Text", name=TEXT, value=f"${TEXT}")
    settings = {"showFullPath": "true", "pathSeparator": _SEPARATOR, "placeholder": "Choose labels"}
    control = ET.SubElement(view, "Taxonomy", {"name": CONTROL, "toName": TEXT, **settings})
    _add_choices(taxonomy, ROOT, control)
    note = {"rows": "2", "maxSubmissions": "1", "editable": "true", "placeholder": "Note"}
    ET.SubElement(view, "TextArea", {"name": NOTE, "toName": TEXT, **note})
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


def _add_choices(taxonomy: Taxonomy, group: str, above: ET.Element) -> None:
    for name in taxonomy.graph.children[group]:
        node = taxonomy.node(name)
        hint = {"hint": node.description} if node.description else {}
        choice = ET.SubElement(above, "Choice", {"value": node.last_name, **hint})
        if name in taxonomy.groups:
            _add_choices(taxonomy, name, choice)


# Tasks


def queued_task(taxonomy: Taxonomy, queued_row: QueuedRow) -> dict[str, Any]:
    """A row of a queue as a task, with what is proposed as its prediction.

    Its score is 1 where nothing is in doubt and 0 where all is: Label Studio can ask for the lowest first.
    """
    score = 1 - max((doubt.size for doubt in queued_row.doubts), default=0)
    prediction = {
        "model_version": queued_row.model[:_VERSION],
        "score": round(score, 4),
        "result": _result(taxonomy, queued_row.proposed),
    }
    return {"data": {ID: queued_row.id, TEXT: queued_row.text}, "predictions": [prediction]}


def labelled_task(taxonomy: Taxonomy, row: Row) -> dict[str, Any]:
    """A labelled row as a task with an annotation."""
    annotation = {"result": _result(taxonomy, row.labels)}
    return {"data": {ID: row.id, TEXT: row.text}, "annotations": [annotation]}


def _result(taxonomy: Taxonomy, names: Sequence[str]) -> list[dict[str, Any]]:
    if not names:
        return []
    chosen = {"taxonomy": [list(taxonomy.path_to(name)) for name in names]}
    return [{"from_name": CONTROL, "to_name": TEXT, "type": "taxonomy", "value": chosen}]


# Answers


@dataclass(frozen=True, slots=True)
class Imported:
    """What was found in an export.

    Attributes
    ----------
    rows
        Labelled rows, to be written.
    refused
        Tasks that cannot be made out, numbered from 1 as they stand in the file.
    left_out
        How many tasks nobody has answered, or were skipped.
    disagreeing
        Ids of tasks with several answers that are not the same; the newest counts, or a ground truth.
    """

    rows: list[dict[str, Any]]
    refused: list[BadRow]
    left_out: int
    disagreeing: list[str | int]


class _Annotation(NamedTuple):
    """What somebody said of a task; `proposed` is None where that is not told."""

    paths: list[TaxonomyPath]
    note: str
    at: str
    proposed: list[TaxonomyPath] | None


class _TaskError(Exception):
    """A task that cannot be made out; the message says why."""


def read_export(path: Path, taxonomy: Taxonomy, columns: Columns) -> Imported:
    """The rows of a file that Label Studio exported as JSON or JSON-MIN.

    Raises
    ------
    DataError
        The file cannot be read, or is no such export.
    """
    found = Imported([], [], 0, [])
    left_out = 0
    for number, task in enumerate(_merge_json_min(_load_entries(path)), 1):
        try:
            identity, text = _row_id(task, number), _text(task)
            answer, disagree = _answer(task)
            if answer is None:
                left_out += 1
                continue
            found.rows.append(_row(taxonomy, columns, identity, text, answer))
        except (_TaskError, DataError) as error:
            raw = json.dumps(task, ensure_ascii=False)
            found.refused.append(BadRow(number, None, str(error), raw, str(path)))
        else:
            found.disagreeing.extend([identity] if disagree else [])
    return Imported(found.rows, found.refused, left_out, found.disagreeing)


def _load_entries(path: Path) -> list[Any]:
    try:
        content = read_at_most(path, MOST_BYTES)
        if content is None:
            raise DataError(f"{path}: more than {MOST_BYTES >> 20} MiB. Export in parts, such as by filters")
        tasks = json.loads(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}. Export as JSON or JSON-MIN from Label Studio") from error
    if not isinstance(tasks, list):
        raise DataError(f"{path}: no list of tasks. Export as JSON or JSON-MIN from Label Studio")
    return tasks


def _data(task: Any) -> Mapping[str, Any]:
    """What a task was made of."""
    data = task.get("data") if isinstance(task, dict) else None
    if not isinstance(data, dict):
        raise _TaskError("no task: expected a JSON object with data")
    return data


def _row_id(task: Any, number: int) -> str | int:
    data = _data(task)
    value = data.get(ID, task.get("id", number))
    return value if isinstance(value, str | int) and not isinstance(value, bool) else number


def _text(task: Any) -> str:
    text = _data(task).get(TEXT)
    if not isinstance(text, str):
        raise _TaskError(f"no text under {TEXT!r} of its data: was it exported from `cascade label-studio`?")
    return text


def _answer(task: Mapping[str, Any]) -> tuple[_Annotation | None, bool]:
    """The answer that counts, and whether others differ; None where there is none."""
    given = [one for one in _objects(task.get("annotations") or []) if not one.get("was_cancelled")]
    if not given:
        return None, False
    counting = max(given, key=lambda one: (bool(one.get("ground_truth")), _time(one)))
    answer = _Annotation(_chosen_paths(counting), _note(counting), _time(counting), _proposed(counting))
    return answer, any(set(_chosen_paths(one)) != set(answer.paths) for one in given)


def _proposed(annotation: Mapping[str, Any]) -> list[TaxonomyPath] | None:
    """What the person saw proposed; None where that is not told."""
    seen = annotation.get("prediction")
    return _chosen_paths(seen) if isinstance(seen, dict) and "result" in seen else None


def _merge_json_min(entries: Sequence[Any]) -> list[Any]:
    """Tasks with all of their answers: JSON-MIN has an entry for each answer, or one without."""
    found: dict[Any, Any] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "data" in entry or "annotations" in entry:
            found[number, None] = entry
            continue
        task = found.setdefault(("task", str(entry.get("id", number))), {"data": entry, "annotations": []})
        if entry.get("annotation_id") is not None:
            task["annotations"].append(_json_min_annotation(entry))
    return list(found.values())


def _json_min_annotation(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An answer of JSON-MIN as JSON has it."""
    note, chosen = entry.get(NOTE) or [], entry.get(CONTROL) or []
    values = chosen if all(isinstance(one, dict) for one in chosen) else [{"taxonomy": chosen}]
    parts = [{"from_name": CONTROL, "value": value} for value in values]
    told = {"from_name": NOTE, "value": {"text": note if isinstance(note, list) else [note]}}
    return {**entry, "result": [*parts, told]}


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _TaskError("its annotations are no list of objects: export again, with whole annotations")
    return value


def _time(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _chosen_paths(annotation: Mapping[str, Any]) -> list[TaxonomyPath]:
    parts = _objects(annotation.get("result") or [])
    ours = (one.get("value") for one in parts if one.get("from_name") == CONTROL)
    return [
        found for value in ours if isinstance(value, dict) for found in _parse_paths(value.get("taxonomy"))
    ]


def _note(annotation: Mapping[str, Any]) -> str:
    parts = _objects(annotation.get("result") or [])
    values = [
        one["value"] for one in parts if one.get("from_name") == NOTE and isinstance(one.get("value"), dict)
    ]
    return "\n".join(str(line) for value in values for line in value.get("text") or [])


def _parse_paths(value: Any) -> list[TaxonomyPath]:
    if value and isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = [value]  # a single path may come without its brackets
    is_list = isinstance(value, list) and all(isinstance(one, list) and one for one in value)
    if not is_list:
        raise _TaskError(f"no paths through the taxonomy under {CONTROL!r}: found {json.dumps(value)[:80]}")
    return [tuple(map(str, one)) for one in value]


def _row(
    taxonomy: Taxonomy, columns: Columns, identity: str | int, text: str, answer: _Annotation
) -> dict[str, Any]:
    labels = _resolve_paths(taxonomy, answer.paths)
    about: dict[str, Any] = {"note": answer.note, "at": answer.at}
    if answer.proposed is not None:
        proposed = [
            name for one in answer.proposed if (name := taxonomy.resolve(_written(taxonomy, one))) is not None
        ]
        verdict = "accepted" if set(proposed) == set(labels) else "corrected"
        about |= {"verdict": verdict, "proposed": proposed}
    return {"review": about} | labelled_row(columns, taxonomy, identity, text, labels)


def _written(taxonomy: Taxonomy, path: TaxonomyPath) -> str:
    """A path as a name: a plain name means the same wherever it stands."""
    return path[-1] if taxonomy.names == "plain" else SEPARATOR.join(path)


def _resolve_paths(taxonomy: Taxonomy, paths: Sequence[TaxonomyPath]) -> list[str]:
    """The name at the end of each path, without those of groups of which more is known."""
    names = []
    for one in paths:
        written = _written(taxonomy, one)
        name = taxonomy.resolve(written)
        if name is None:
            raise _TaskError(f"unknown label {written!r}.{taxonomy.suggest(written)}")
        if not any(other[: len(one)] == one for other in paths if len(other) > len(one)):
            names.append(name)
    return list(dict.fromkeys(names))

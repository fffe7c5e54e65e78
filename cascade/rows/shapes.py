"""Rows that are more than columns: fine-tune files of services, and what annotation tools export.

Each becomes columns, those of the row with ``text`` and ``labels`` among them, and is then read as any other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cascade.rows.row import RefusedError, quoted
from cascade.taxonomy.data import RowFormat

Fields = Mapping[str, Any]

_TITLE = re.compile(
    r"\s*(?:labels?|topics?|categor(?:y|ies)|tags?|intents?|class(?:es)?|answer|output)\s*:\s*", re.IGNORECASE
)
"""What answers of language models begin with before the labels."""
_MARK = re.compile(r"\s|[^\w\s]")


def format_of(rows: Sequence[Fields]) -> RowFormat:
    """What the rows are by their keys; ``plain`` where not all are the same."""
    for name, (is_one, _) in _FORMATS.items():
        if rows and all(is_one(fields) for fields in rows):
            return name
    return "plain"


def as_columns(fields: Fields, name: RowFormat, prompt_end: str = "", completion_end: str = "") -> Fields:
    """The columns of a row of that format; of one that is not of that format, its own.

    Raises
    ------
    RefusedError
        An annotator skipped or rejected the row, so that it says nothing.
    """
    if name == "plain" or not _FORMATS[name][0](fields):
        return fields
    found = {**fields, **_FORMATS[name][1](fields)}
    if name == "prompt":
        found["text"] = without_end(found["text"], prompt_end)
        found["labels"] = without_end(found["labels"], completion_end)
    return found


def without_end(value: Any, end: str) -> Any:
    if not isinstance(value, str):
        return value
    bare = end.strip()
    stripped = value.rstrip()
    if bare and stripped.endswith(bare):
        return stripped[: -len(bare)].strip()
    return value.strip()


def common_end(texts: Iterable[Any]) -> str:
    """What all texts end with, from a blank or a mark on; empty where there are fewer than two."""
    found = [text for text in texts if isinstance(text, str)]
    if len(set(found)) < 2:
        return ""
    first, last = min(found, key=_reversed), max(found, key=_reversed)
    same = itertools.takewhile(
        lambda pair: pair[0] == pair[1], zip(reversed(first), reversed(last), strict=False)
    )
    end = "".join(one for one, _ in same)[::-1]
    start = _MARK.search(end)
    if start is None:
        return ""
    end = end[start.start() :]
    # A full stop at the end of each sentence is part of it; a separator stands apart or is made of marks.
    return end if re.search(r"[\n#<>|=:-]|\s\S", end) else ""


def _reversed(text: str) -> str:
    return text[::-1]


def possible_ends(texts: Sequence[Any]) -> list[str]:
    """Ends that may follow all completions: the common one, and shorter ones if all end in one name."""
    end = common_end(texts)
    starts = [mark.start() for mark in _MARK.finditer(end)]
    return list(dict.fromkeys([*(end[start:] for start in starts if end[start:].strip()), ""]))


def _is_chat(fields: Fields) -> bool:
    messages = fields.get("messages", fields.get("conversations"))
    return isinstance(messages, list) and bool(messages) and all(isinstance(one, dict) for one in messages)


def _of_chat(fields: Fields) -> Fields:
    said: dict[str, list[str]] = {}
    for one in fields.get("messages", fields.get("conversations")):
        role = one.get("role", one.get("from"))
        role = {"human": "user", "gpt": "assistant"}.get(str(role), role)
        said.setdefault(str(role), []).append(_content(one.get("content", one.get("value"))))
    if "user" not in said:
        raise RefusedError("a chat without a message of the user")
    return {"text": "\n".join(said["user"]), "labels": _without_title(said.get("assistant", [None])[-1])}


def _content(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, list):
        parts = [one.get("text", "") if isinstance(one, dict) else str(one) for one in content]
        return "".join(map(str, parts))
    return content if isinstance(content, str) else ""


def _is_prompt(fields: Fields) -> bool:
    return isinstance(fields.get("prompt"), str) and isinstance(fields.get("completion", ""), str)


def _of_prompt(fields: Fields) -> Fields:
    return {"text": fields["prompt"], "labels": _without_title(fields.get("completion"))}


def _without_title(answer: Any) -> Any:
    title = _TITLE.match(answer) if isinstance(answer, str) else None
    return answer[title.end() :] if title and title.end() < len(answer) else answer


def _is_label_studio(fields: Fields) -> bool:
    return isinstance(fields.get("data"), dict) and isinstance(
        fields.get("annotations", fields.get("completions")), list
    )


def _of_label_studio(fields: Fields) -> Fields:
    given = [one for one in fields.get("annotations", fields.get("completions")) if isinstance(one, dict)]
    given = [one for one in given if not one.get("was_cancelled") and not one.get("skipped")]
    if not given:
        raise RefusedError("nobody has answered this task")
    counting = max(given, key=lambda one: (bool(one.get("ground_truth")), _when(one)))
    labels: list[Any] = []
    for part in counting.get("result") or []:
        value = part.get("value") if isinstance(part, dict) else None
        if isinstance(value, dict):
            labels += [*(value.get("choices") or []), *(value.get("taxonomy") or [])]
    return {**fields["data"], "labels": labels}


def _when(annotation: Fields) -> str:
    return str(annotation.get("updated_at") or annotation.get("created_at") or "")


def _is_prodigy(fields: Fields) -> bool:
    return fields.get("answer") in ("accept", "reject", "ignore") and isinstance(fields.get("text"), str)


def _of_prodigy(fields: Fields) -> Fields:
    if fields["answer"] != "accept":
        raise RefusedError(f"the answer is {quoted(fields['answer'])}: it says of no label that it holds")
    return {"labels": fields.get("accept", fields.get("label", fields.get("cats")))}


def _is_argilla(fields: Fields) -> bool:
    if isinstance(fields.get("fields"), dict):
        return isinstance(fields.get("responses"), dict | list | type(None))
    return "annotation" in fields and isinstance(fields.get("text", fields.get("inputs")), str | dict)


def _of_argilla(fields: Fields) -> Fields:
    if "annotation" in fields:
        inputs = fields.get("inputs")
        texts = inputs if isinstance(inputs, dict) else {"text": fields.get("text", inputs)}
        return {**texts, "labels": fields["annotation"]}
    return {**fields["fields"], "labels": _argilla_values(fields.get("responses"))}


def _argilla_values(responses: Any) -> list[Any]:
    """The values that were submitted: under the names of questions, or in a list of answers."""
    given: list[Any] = []
    questions = responses.values() if isinstance(responses, dict) else responses or []
    for answers in questions:
        for one in answers if isinstance(answers, list) else [answers]:
            if isinstance(one, dict) and one.get("status") in ("submitted", None):
                value = one.get("value", one.get("values"))
                given += value if isinstance(value, list) else [] if value is None else [value]
    if not given:
        raise RefusedError("nobody has answered this record")
    return list(dict.fromkeys(map(str, given)))


_FORMATS: Mapping[RowFormat, tuple[Callable[[Fields], bool], Callable[[Fields], Fields]]] = {
    "chat": (_is_chat, _of_chat),
    "prompt": (_is_prompt, _of_prompt),
    "label_studio": (_is_label_studio, _of_label_studio),
    "prodigy": (_is_prodigy, _of_prodigy),
    "argilla": (_is_argilla, _of_argilla),
}

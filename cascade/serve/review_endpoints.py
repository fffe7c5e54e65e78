"""The rows of a queue, one at a time, and the answers to them, over HTTP.

Whoever answers sends the revision of what they saw, so that two people, or two tabs, do not overwrite each
other without a word. A row that is shown somewhere is not handed out a second time while there are others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from cascade.errors import DataError
from cascade.serve.problems import MEDIA_TYPE, HTTPProblem, shown
from cascade.serve.request_body import check_text, parse_object, wrong_kind
from cascade.teach.queue import QueuedRow
from cascade.teach.review import ConflictError, Review, ReviewAnswer

HELD_SECONDS = 600.0
"""For so long a row belongs to the tab that shows it."""

MOST_LABELS = 10_000
_BEGINNING = 120
_JSON = "application/json"


class ReviewEndpoints:
    """Hands out rows and takes answers in; all methods are called on the event loop.

    Parameters
    ----------
    review
        The queue and its answers.
    clock
        Gives seconds.
    """

    def __init__(self, review: Review, clock: Callable[[], float] = time.monotonic) -> None:
        self._review, self._clock = review, clock
        self._turn = asyncio.Lock()
        self._held: dict[str, tuple[str, float]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What answers are made of: labels, and groups of which no more is known."""
        return self._review.names

    async def overview(self) -> Response:
        """All rows of the queue with their beginnings, and what was said of each."""
        return await self._in_turn(self._overview)

    async def next(self, body: bytes) -> Response:
        """The first row without an answer that no other tab shows; null for none."""
        asked = parse_object(body, "a JSON object with tab, and after if you like", ("tab", "after"))
        tab, after = check_text(asked.get("tab"), "tab"), check_text(asked.get("after", ""), "after")
        return await self._in_turn(lambda: self._next(tab[:64], after))

    async def row(self, key: str) -> Response:
        """One row, and what was said of it."""
        return await self._in_turn(lambda: {"row": self._row(self._known(key))})

    async def put(self, key: str, body: bytes) -> Response:
        """Take in an answer; it is on the disk when this is answered."""
        asked = parse_object(body, "a JSON object with labels, or skip, and seen", _ANSWER)
        labels = _labels(asked)
        note, seen = check_text(asked.get("note", ""), "note"), check_text(asked.get("seen", ""), "seen")

        def taken() -> dict[str, Any]:
            self._known(key)
            if labels is None:
                self._review.skip(key, note, seen)
            else:
                self._review.answer(key, labels, note, seen)
            return self._after(key)

        return await self._in_turn(taken)

    async def undo(self, key: str, seen: str) -> Response:
        """Have nothing said of a row."""

        def undone() -> dict[str, Any]:
            self._known(key)
            self._review.undo(key, seen)
            return self._after(key)

        return await self._in_turn(undone)

    async def _in_turn(self, act: Callable[[], dict[str, Any]]) -> Response:
        """What `act` tells, which is done in a thread: it waits for the disk."""
        async with self._turn:
            try:
                told, status, kind = await asyncio.to_thread(act), 200, _JSON
            except ConflictError as conflict:
                told, status, kind = _conflict_json(conflict), 409, MEDIA_TYPE
            except DataError as error:
                raise HTTPProblem(422, str(error)) from error
        return Response(json.dumps(told, ensure_ascii=False).encode(), status, media_type=kind)

    def _known(self, key: str) -> QueuedRow:
        queued_row = self._review.queued.get(key)
        if queued_row is None:
            expected = "the key of a row of the queue; load the page anew"
            raise HTTPProblem(404, "There is no such row.", "path", shown(key), expected)
        return queued_row

    def _overview(self) -> dict[str, Any]:
        answers = self._review.answers()
        rows = [
            {
                "key": key,
                "id": queued_row.id,
                "beginning": queued_row.text[:_BEGINNING],
                "verdict": answers[key].verdict if key in answers else None,
            }
            for key, queued_row in self._review.queued.items()
        ]
        return {"answers": str(self._review.path), "counts": self._counts(), "rows": rows}

    def _next(self, tab: str, after: str) -> dict[str, Any]:
        """Those behind `after` first: what was passed over comes again at the end."""
        self._held = {key: held for key, held in self._held.items() if held[0] != tab}
        keys = list(self._review.queued)
        start = keys.index(after) + 1 if after in self._review.queued else 0
        answers = self._review.answers()
        left = [key for key in [*keys[start:], *keys[:start]] if key not in answers]
        free = [key for key in left if not self._is_held(key)]
        found = next(iter([*free, *left]), None)
        if found is None:
            return {"row": None, "counts": self._counts()}
        self._held[found] = (tab, self._clock() + HELD_SECONDS)
        return {"row": self._row(self._review.queued[found]), "counts": self._counts()}

    def _is_held(self, key: str) -> bool:
        return key in self._held and self._held[key][1] > self._clock()

    def _after(self, key: str) -> dict[str, Any]:
        return {"row": self._row(self._review.queued[key]), "counts": self._counts()}

    def _row(self, queued_row: QueuedRow) -> dict[str, Any]:
        answer = self._review.answers().get(queued_row.key)
        place = list(self._review.queued).index(queued_row.key) + 1
        return {"key": queued_row.key, "place": place, **queued_row.row(), "said": _answer_json(answer)}

    def _counts(self) -> dict[str, int]:
        answers = self._review.answers()
        counts = Counter(answers[key].verdict if key in answers else "left" for key in self._review.queued)
        return {name: counts[name] for name in ("accepted", "corrected", "skipped", "left")}


_ANSWER = ("labels", "skip", "note", "seen")


def _labels(asked: dict[str, Any]) -> list[str] | None:
    """The names that were chosen, None where the row was skipped."""
    skip = asked.get("skip", False)
    if type(skip) is not bool:
        raise wrong_kind("skip", skip, "true or false")
    if skip == ("labels" in asked):
        raise HTTPProblem(
            422, "Labels, or skip?", found="both" if skip else "neither", expected="one of them"
        )
    if skip:
        return None
    labels = asked["labels"]
    if type(labels) is not list or len(labels) > MOST_LABELS:
        raise wrong_kind("labels", labels, f"a list of names, at most {MOST_LABELS:,}")
    return [check_text(name, f"labels[{place}]") for place, name in enumerate(labels)]


def _answer_json(answer: ReviewAnswer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "verdict": answer.verdict,
        "labels": list(answer.labels),
        "note": answer.note,
        "at": answer.at,
        "revision": answer.revision,
    }


def _conflict_json(conflict: ConflictError) -> dict[str, Any]:
    expected = "the revision of what stands there as seen"
    problem = HTTPProblem(409, "Somebody else has answered this row meanwhile.", "seen", expected=expected)
    return {**problem.body(), "said": _answer_json(conflict.found)}

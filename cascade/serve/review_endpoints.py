"""The rows of a queue, one at a time, and the answers to them, over HTTP.

Whoever answers sends the revision of what they saw, so that two people, or two tabs, do not overwrite each
other without a word. A row that is shown somewhere is not handed out a second time while there are others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from cascade.errors import CascadeError, DataError
from cascade.predict.answers import Model
from cascade.serve.problems import MEDIA_TYPE, HTTPProblem, shown
from cascade.serve.request_body import check_text, parse_object, wrong_kind
from cascade.teach.queue import QueuedRow, proposed_by
from cascade.teach.review import ConflictError, Review, ReviewAnswer

HELD_SECONDS = 600.0
"""For so long a row belongs to the tab that shows it."""

MOST_LABELS = 10_000
MOST_NAME = 1_000
MOST_NOTE = 10_000
"""Characters of a name and of a note."""

_BEGINNING = 120
_JSON = "application/json"
_LOG = logging.getLogger("cascade.serve")


class ReviewEndpoints:
    """Hands out rows and takes answers in; all methods are called on the event loop.

    What is proposed, and which names there are, follows the model that answers: a row that another model
    queued is shown with the proposals of this one.

    Parameters
    ----------
    review
        The queue and its answers.
    current_model
        Gives the model that answers now.
    clock
        Gives seconds.
    """

    def __init__(
        self, review: Review, current_model: Callable[[], Model], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._review, self._current_model, self._clock = review, current_model, clock
        self._turn = asyncio.Lock()
        self._held: dict[str, tuple[str, float]] = {}
        self._model = current_model()
        # By key, as this model and the one before it propose: a page may still show what that one did.
        self._proposals: dict[str, QueuedRow] = {}
        self._earlier: dict[str, QueuedRow] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """What answers are made of: labels, and groups of which no more is known."""
        return self._review.names_in(self._current_model().taxonomy)

    async def overview(self) -> Response:
        """All rows of the queue with their beginnings, and what was said of each."""
        return await self._in_turn(self._overview)

    async def next(self, body: bytes) -> Response:
        """The first row without an answer that no other tab shows; null for none."""
        asked = parse_object(body, "a JSON object with tab, and after if you like", ("tab", "after"))
        tab, after = _tab(asked), check_text(asked.get("after", ""), "after")
        return await self._in_turn(lambda: self._next(tab, after))

    async def release(self, body: bytes) -> Response:
        """Have the row that a tab shows handed out again: the tab was closed."""
        tab = _tab(parse_object(body, "a JSON object with tab", ("tab",)))

        def released() -> dict[str, Any]:
            self._release(tab)
            return {"counts": self._counts()}

        return await self._in_turn(released)

    async def row(self, key: str) -> Response:
        """One row, and what was said of it."""
        return await self._in_turn(lambda: self._shown(self._known(key).key))

    async def put(self, key: str, body: bytes) -> Response:
        """Take in an answer; it is on the disk when this is answered."""
        asked = parse_object(body, "a JSON object with labels, or skip, and seen", _ANSWER)
        labels, note = _labels(asked), check_text(asked.get("note", ""), "note", MOST_NOTE)
        seen, model = check_text(asked.get("seen", ""), "seen"), check_text(asked.get("model", ""), "model")

        def taken() -> dict[str, Any]:
            proposal = self._proposal_of(self._known(key), model)
            if labels is None:
                self._review.skip(key, note, seen, proposal)
            else:
                self._review.answer(key, labels, note, seen, proposal)
            return self._shown(key)

        return await self._in_turn(taken)

    async def undo(self, key: str, seen: str) -> Response:
        """Have nothing said of a row."""

        def undone() -> dict[str, Any]:
            self._known(key)
            self._review.undo(key, seen)
            return self._shown(key)

        return await self._in_turn(undone)

    async def _in_turn(self, act: Callable[[], dict[str, Any]]) -> Response:
        """What `act` tells, which is done in a thread: it waits for the disk."""

        def acted() -> dict[str, Any]:
            self._follow_model()
            return act()

        async with self._turn:
            try:
                told, status, kind = await asyncio.to_thread(acted), 200, _JSON
            except ConflictError as conflict:
                told, status, kind = _conflict_json(conflict), 409, MEDIA_TYPE
            except DataError as error:
                raise HTTPProblem(422, str(error)) from error
        return Response(json.dumps(told, ensure_ascii=False).encode(), status, media_type=kind)

    def _follow_model(self) -> None:
        """Take names and proposals from the model that answers, if that is another one by now."""
        model = self._current_model()
        if model.digest == self._model.digest:
            return
        self._model, self._earlier, self._proposals = model, self._proposals, {}
        for line in self._review.use(model.taxonomy):
            _LOG.error("%s\nThese answers have names that model %s lacks", line, model.digest[:12])

    def _proposal(self, queued_row: QueuedRow) -> QueuedRow:
        """The row with what the model that answers proposes; as it was queued where a service fails."""
        if queued_row.model == self._model.digest:
            return queued_row
        key = queued_row.key
        if key not in self._proposals:
            try:
                self._proposals[key] = proposed_by(self._model, queued_row)
            except CascadeError as error:
                _LOG.error("row %r: no new proposal: %s", queued_row.id, error)
                return queued_row
        return self._proposals[key]

    def _proposal_of(self, queued_row: QueuedRow, model: str) -> QueuedRow:
        """The row as the model of that digest proposes, which somebody saw; as of now where it is unknown."""
        key = queued_row.key
        seen = (queued_row, self._proposals.get(key), self._earlier.get(key))
        return next((one for one in seen if one and one.model == model), None) or self._proposal(queued_row)

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
        self._release(tab)
        keys = list(self._review.queued)
        start = keys.index(after) + 1 if after in self._review.queued else 0
        answers = self._review.answers()
        left = [key for key in [*keys[start:], *keys[:start]] if key not in answers]
        free = [key for key in left if not self._is_held(key)]
        found = next(iter([*free, *left]), None)
        if found is None:
            return {"row": None, "counts": self._counts()}
        self._held[found] = (tab, self._clock() + HELD_SECONDS)
        return self._shown(found)

    def _release(self, tab: str) -> None:
        self._held = {key: held for key, held in self._held.items() if held[0] != tab}

    def _is_held(self, key: str) -> bool:
        return key in self._held and self._held[key][1] > self._clock()

    def _shown(self, key: str) -> dict[str, Any]:
        row = self._row(self._proposal(self._review.queued[key]))
        return {"row": row, "counts": self._counts(), "model": self._model.digest}

    def _row(self, queued_row: QueuedRow) -> dict[str, Any]:
        answer = self._review.answers().get(queued_row.key)
        place = list(self._review.queued).index(queued_row.key) + 1
        return {"key": queued_row.key, "place": place, **queued_row.row(), "said": _answer_json(answer)}

    def _counts(self) -> dict[str, int]:
        answers = self._review.answers()
        counts = Counter(answers[key].verdict if key in answers else "left" for key in self._review.queued)
        return {name: counts[name] for name in ("accepted", "corrected", "skipped", "left")}


_ANSWER = ("labels", "skip", "note", "seen", "model")


def _tab(asked: dict[str, Any]) -> str:
    return check_text(asked.get("tab"), "tab")[:64]


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
    return [check_text(name, f"labels[{place}]", MOST_NAME) for place, name in enumerate(labels)]


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

"""JSON by a schema, piece by piece: what names in it mean is answered, all else gets the least value."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cascade.sandbox.answer_shapes import Segment
from cascade.sandbox.reader import schemas, writing
from cascade.sandbox.reader.prompts import Choice, Prompt
from cascade.sandbox.reader.schemas import Schema
from cascade.sandbox.reader.scoring import Verdict, chances_of_names
from cascade.sandbox.responses import json_text

# What is less probable is not listed at all.
LEAST_LISTED = 0.3
_CONFIDENCE = ("confiden", "probab", "score", "certain", "percent")
_QUOTE = ("quot", "evidence", "span", "excerpt")
_OTHER_NAMES = ("alias", "synonym", "also", "keyword", "name")
_YES = ("1", "yes", "true")
_NO = ("0", "no", "false")


@dataclass
class Pieces:
    """An answer that grows; `luck` draws where it is not the likeliest that is wanted."""

    luck: random.Random | None = None
    temperature: float = 0.0
    found: list[Segment] = field(default_factory=list)

    def text(self, text: str) -> None:
        """Add what could not be otherwise."""
        if self.found and len(self.found[-1].chances) == 1:
            text = self.found.pop().taken + text
        if text:
            self.found.append(Segment(text, {text: 1.0}))

    def json(self, value: Any) -> None:
        self.text(json_text(value))

    def pick(self, chances: Mapping[str, float]) -> str:
        """Add one of several texts, and return it."""
        taken = max(chances, key=lambda one: chances[one])
        if self.luck is not None and self.temperature > 0:
            raised = [chance ** (1 / self.temperature) for chance in chances.values()]
            taken = self.luck.choices(list(chances), raised)[0]
        self.found.append(Segment(taken, chances))
        return taken


@dataclass(frozen=True)
class Place:
    """Where in a schema we are.

    Attributes
    ----------
    key
        The property that is being filled.
    choice
        The number of the choice that the value is about; None for none.
    phrase
        What a text is to say; None where it is found out.
    at
        Which of several values it is that must all differ.
    depth
        How many objects and arrays this lies in.
    """

    key: str = ""
    choice: int | None = None
    phrase: str | None = None
    at: int = 0
    depth: int = 0

    def below(self, **more: Any) -> Place:
        return replace(self, depth=self.depth + 1, **more)


class Filler:
    """Fills a schema for one prompt.

    Raises
    ------
    ApiError
        From `fill`: no value is allowed by the schema, as far as can be seen.
    """

    def __init__(self, prompt: Prompt, verdict: Verdict, schema: Schema, pieces: Pieces) -> None:
        self.prompt, self.verdict, self.pieces, self._root = prompt, verdict, pieces, schema
        self._places = {choice.name: at for at, choice in enumerate(prompt.choices)}
        self._denied: set[int] = set()
        self._places |= {choice.number: at for at, choice in enumerate(prompt.choices) if choice.number}

    def fill(self) -> None:
        """Add the whole answer to the pieces."""
        alone = 0 if len(self.prompt.choices) == 1 else None
        try:
            self._value(self._root, Place(choice=alone))
        except (AttributeError, TypeError, ValueError) as error:
            raise schemas.impossible("a key of it has a value of the wrong kind") from error

    def meant(self, text: Any) -> int | None:
        """The place of the choice that has this number or name."""
        return self._places.get(text) if isinstance(text, str) else None

    def _value(self, schema: Any, place: Place) -> None:
        if place.depth > 2 * schemas.DEEPEST:
            raise schemas.impossible("it goes deeper than can be answered")
        schema = schemas.resolved(schema, self._root)
        if "const" in schema:
            self.pieces.json(schema["const"])
        elif "enum" in schema:
            self._enum(schemas.values_of(schema), place)
        else:
            self._of_kind(schemas.kind_of(schema), schema, place)

    def _of_kind(self, kind: str, schema: Schema, place: Place) -> None:
        if kind == "object":
            self._object(schema, place)
        elif kind == "array":
            self._array(schema, place)
        elif kind == "string":
            self.pieces.json(self._string(schema, place))
        elif kind == "boolean":
            self._enum([False, True], place)
        elif kind in ("integer", "number"):
            self.pieces.json(schemas.number(kind, schema, self._share(place), place.at))
        else:
            self.pieces.text("null")

    # Objects and arrays

    def _object(self, schema: Schema, place: Place) -> None:
        properties, required = schema.get("properties") or {}, schema.get("required") or []
        names = [name for name in properties if place.depth < schemas.DEEPEST or name in required]
        names += [name for name in required if name not in properties]
        self.pieces.text("{")
        for at, name in enumerate(names):
            self.pieces.text(f"{',' if at else ''}{json_text(name)}:")
            choice = self.meant(name)
            inner = place.below(key=name, choice=place.choice if choice is None else choice)
            self._value(properties.get(name, schema.get("additionalProperties", True)), inner)
        self.pieces.text("}")

    def _array(self, schema: Schema, place: Place) -> None:
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        items = schemas.resolved(schema.get("items", True), self._root) if least or most != 0 else {}
        unique = bool(schema.get("uniqueItems"))
        inner = self._items(items, place, [place.below(at=at if unique else 0) for at in range(least)])
        self.pieces.text("[")
        for at, one in enumerate(inner if most is None else inner[: int(most)]):
            self.pieces.text("," if at else "")
            self._value(items, one)
        self.pieces.text("]")

    def _items(self, items: Schema, place: Place, least: Sequence[Place]) -> Sequence[Place]:
        """What the items of an array are about, no fewer than the least."""
        choices = self._choices_named(items)
        if choices:
            listed = choices if self._is_written(items) else self._selected(choices, len(least))
            found = [place.below(choice=at) for at in listed]
        elif schemas.kind_of(items) == "string" and not {"enum", "const"} & items.keys():
            found = [place.below(phrase=word) for word in self._phrases(place)]
        else:
            found = []
        return [*found, *least[len(found) :]]

    def _choices_named(self, items: Schema) -> list[int]:
        """The choices among the values of items, or of one property of items."""
        parts = [items, *(items.get("properties") or {}).values()]
        for part in parts:
            schema = schemas.resolved(part, self._root)
            listed = schemas.values_of(schema) if "enum" in schema else ()
            found = [at for value in listed if (at := self.meant(value)) is not None]
            if found:
                return found
        return []

    def _is_written(self, items: Schema) -> bool:
        """Whether items tell something of each choice, other than that the text has it."""
        parts = {
            key: schemas.resolved(part, self._root) for key, part in (items.get("properties") or {}).items()
        }
        return any(
            schemas.kind_of(part) == "string" and "enum" not in part and not _is_like(key, _QUOTE)
            for key, part in parts.items()
        )

    def _selected(self, choices: Sequence[int], least: int) -> list[int]:
        """The choices to list, the likeliest first."""
        chance = self.verdict.apart
        if self.pieces.luck is not None and self.pieces.temperature > 0:
            luck = self.pieces.luck
            drawn = {at: chance[at] * float(luck.random() < chance[at]) for at in choices}
        else:
            drawn = {at: chance[at] for at in choices}
        ranked = sorted(choices, key=lambda at: -drawn[at])
        named = [at for at in ranked if not self.prompt.choices[at].is_nothing or len(ranked) == 1]
        passed = [at for at in named if drawn[at] >= LEAST_LISTED]
        return passed if len(passed) >= least else ranked[:least]

    # Single values

    def _enum(self, values: Sequence[Any], place: Place) -> None:
        """One of some values: yes or no of a choice, a choice, or the value whose words fit."""
        told = {json_text(value): value for value in values}
        signs = {text: _sign(text) for text in told}
        if place.choice is not None and set(signs.values()) == {False, True} and len(told) == 2:
            chance = self.verdict.apart[place.choice]
            taken = self.pieces.pick({text: chance if sign else 1 - chance for text, sign in signs.items()})
            (self._denied.discard if signs[taken] else self._denied.add)(place.choice)
            return
        own = [text for text, value in told.items() if place.choice == self.meant(value) is not None]
        if own:
            self.pieces.text(own[0])
        else:
            self._pick(self._chances(told), place.at)

    def _pick(self, chances: Mapping[str, float], at: int) -> None:
        """The likeliest, or the one that is `at` places behind it."""
        if at:
            ranked = sorted(chances, key=lambda text: -chances[text])
            self.pieces.text(ranked[at % len(ranked)])
        else:
            self.pieces.pick(chances)

    def _chances(self, told: Mapping[str, Any]) -> dict[str, float]:
        meant = {text: self.meant(value) for text, value in told.items()}
        if any(at is not None for at in meant.values()):
            raw = {text: 1e-6 if at is None else self.verdict.one[at] for text, at in meant.items()}
            return {text: chance / sum(raw.values()) for text, chance in raw.items()}
        if all(isinstance(value, str) for value in told.values()):
            return dict(zip(told, chances_of_names(list(told.values()), self.prompt.text), strict=True))
        return {text: float(not at) for at, text in enumerate(told)}

    def _share(self, place: Place) -> float | None:
        """How sure we are of what was said of a choice, where that is asked; None where it is not."""
        if place.choice is None:
            return None
        asked = self.meant(place.key) is not None or _is_like(place.key, _CONFIDENCE)
        chance = self.verdict.apart[place.choice]
        return (1 - chance if place.choice in self._denied else chance) if asked else None

    def _string(self, schema: Schema, place: Place) -> str:
        choice = None if place.choice is None else self.prompt.choices[place.choice]
        if place.phrase is not None:
            text = place.phrase
        elif _is_like(place.key, _QUOTE):
            text = writing.quotation(self.prompt, choice or Choice("", ""))
        else:
            text = writing.description(self.prompt, choice)
        return schemas.fitted(text, schema, place.at)

    def _phrases(self, place: Place) -> Sequence[str]:
        """What a list of texts says: other names of a choice, if that is what its name wants."""
        if place.choice is None or not _is_like(place.key, _OTHER_NAMES):
            return ()
        return writing.telling(self.prompt, self.prompt.choices[place.choice])[:3]


def _sign(text: str) -> bool | None:
    bare = text.strip('"').casefold()
    return True if bare in _YES else False if bare in _NO else None


def _is_like(key: str, known: Sequence[str]) -> bool:
    return any(part in key.casefold() for part in known)

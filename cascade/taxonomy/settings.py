"""The settings that a group has or inherits, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from yaml.nodes import MappingNode, Node, ScalarNode

from cascade.errors import Place, suggestion
from cascade.system.shapes import FLAG, OFF, OFF_WORDS, Key, Shape, either, one_of
from cascade.taxonomy.reader import Reader
from cascade.taxonomy.yaml_nodes import NUMBER, in_words, number_of

Choose = Literal["many", "one"]
Route = Literal["model", "always"]
Negatives = Literal["auto", "siblings", "all", "both"]
Combine = Literal["max", "noisy_or"]
ThresholdKind = Literal["auto", "value", "precision", "recall"]

TIERS = ("words", "encoder", "prompt", "openai")
"""What looks at a text know, the cheapest first; the last of a taxonomy is the groups' own backend."""
TIERS_OPTION = "escalate"
"""What the tiers before a backend stand under, among its options."""
TIERS_SHAPE: Shape = {"type": "array", "items": one_of(TIERS), "minItems": 2, "uniqueItems": True}
INHERITED_KEYS = ("threshold", "negatives", "back_off", "backend", "escalate")
SETTINGS: Mapping[str, Key] = {
    "choose": Key(
        "many: any number of its children is answered; one: the best at most.", one_of(get_args(Choose))
    ),
    "route": Key(
        "model: the router decides whether it is visited; always: every text of its parent visits it.",
        one_of(get_args(Route)),
    ),
    "threshold": Key(
        "The least probability of an answer: auto, a number, {precision: 0.9} or {recall: 0.95}.",
        {"$ref": "#/$defs/threshold"},
    ),
    "negatives": Key("Which rows of other groups its model learns from.", one_of(get_args(Negatives))),
    "back_off": Key(
        "Whether the group itself is answered where it is sure and nothing below it was chosen.", FLAG
    ),
    "backend": Key("The kind of node model, with its options.", {"$ref": "#/$defs/backend"}),
    "escalate": Key(
        "What answers at this group, the cheapest first, the last being its backend: each hands on what it "
        "doubts; or off.",
        either(TIERS_SHAPE, OFF),
    ),
}
SETTING_KEYS = tuple(SETTINGS)
AT_MOST = 0.1
"""The share of the texts that labels are asked about again of, where `verify` does not say."""
FIRST_LOOK = 0.002
"""The micro F1 that answers by words alone may lose, where a taxonomy does not say."""


@dataclass(frozen=True)
class BackendSpec:
    """Which kind of node model a group has, and its options as Python values."""

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    place: Place = field(default=Place(""), compare=False)


@dataclass(frozen=True)
class VerifySpec:
    """What asks about doubtful labels again, and of which share of the texts at most, in (0, 1]."""

    backend: BackendSpec
    at_most: float = AT_MOST


VERIFY: Mapping[str, Key] = {
    "backend": Key(
        "What is asked: a backend of kind prompt.",
        {
            "allOf": [
                {"$ref": "#/$defs/backend"},
                {"type": "object", "properties": {"kind": {"const": "prompt"}}},
            ]
        },
    ),
    "at_most": Key(
        "The share of the texts of which labels are asked about again, such as 10%.",
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                {"type": "string", "pattern": r"^(?=.*[1-9])(100(\.0+)?|\d{1,2}(\.\d+)?) ?%$"},
            ]
        },
    ),
}
_ASKED_AGAIN = "for instance {kind: prompt, model: gpt-4.1-mini}"
_PERCENT = re.compile(r"\d+(\.\d+)? ?%")


@dataclass(frozen=True)
class Threshold:
    """How the least score of a chosen label is found; `value` is None for ``auto`` only."""

    kind: ThresholdKind = "auto"
    value: float | None = None


@dataclass(frozen=True)
class Settings:
    """What a group does where it says nothing else."""

    choose: Choose = "many"
    route: Route = "model"
    threshold: Threshold = Threshold()
    negatives: Negatives = "auto"
    back_off: bool = False
    backend: BackendSpec = BackendSpec("linear")
    escalate: tuple[str, ...] = ()


@dataclass
class SettingsReader(Reader):
    """Reads settings as well; `backends` are those that were named, each place once."""

    backends: list[BackendSpec] = field(default_factory=list)

    def settings(self, given: Mapping[str, Node], of: str) -> dict[str, Any]:
        """The settings that a section gives, by the names of `Settings`; faulty ones are left out."""
        readers: dict[str, Callable[[Node, str], Any]] = {
            "choose": lambda node, what: self.choice(node, what, get_args(Choose)),
            "route": lambda node, what: self.choice(node, what, get_args(Route)),
            "threshold": self.threshold,
            "negatives": lambda node, what: self.choice(node, what, get_args(Negatives)),
            "back_off": self.flag,
            "backend": self.backend,
            "escalate": self.tiers,
        }
        found = {key: read(given[key], f"{key} of {of}") for key, read in readers.items() if key in given}
        if "backend" in given:  # tiers end with the backend that they were named for
            found = {"escalate": (), **found}
        return {key: value for key, value in found.items() if value is not None}

    def threshold(self, node: Node, what: str) -> Threshold | None:
        if isinstance(node, MappingNode):
            return self._tuned_threshold(node, what)
        if isinstance(node, ScalarNode) and node.value == "auto":
            return Threshold()
        value = number_of(node)
        if value is None:
            expected = "'auto', a number from 0 to 1, {precision: 0.9} or {recall: 0.95}"
            self.complain(node, f"{what} is {in_words(node)}; expected {expected}.{self._auto_hint(node)}")
        elif not 0 <= value <= 1:
            self.complain(node, f"{what} is {node.value}; expected a number from 0 to 1")
        else:
            return Threshold("value", float(value))
        return None

    @staticmethod
    def _auto_hint(node: Node) -> str:
        if not isinstance(node, ScalarNode):
            return ""
        return (
            " Take it out of the quotes."
            if NUMBER.fullmatch(node.value)
            else suggestion(node.value, ["auto"])
        )

    def _tuned_threshold(self, node: MappingNode, what: str) -> Threshold | None:
        kinds: tuple[Literal["precision", "recall"], ...] = ("precision", "recall")
        before = self.faults
        given = self.section(node, what, kinds)
        if len(given) != 1:
            if self.faults == before:
                found = "both" if given else "an empty mapping"
                self.complain(node, f"{what} is {found}; expected {{precision: 0.9}} or {{recall: 0.95}}")
            return None
        kind = next(kind for kind in kinds if kind in given)
        value = number_of(given[kind])
        if value is None or not 0 < value <= 1:
            expected = "expected a number above 0, at most 1"
            self.complain(given[kind], f"{kind} of {what} is {in_words(given[kind])}; {expected}")
            return None
        return Threshold(kind, float(value))

    def first_look(self, node: Node, what: str) -> float | None:
        """The micro F1 that answers by words alone may lose; None where there is to be no such answer."""
        value = number_of(node)
        if value is not None and 0 <= value < 1:
            return float(value)
        if isinstance(node, ScalarNode) and node.value in OFF_WORDS:
            return None
        if value is None:
            hint = suggestion(node.value, ["off"]) if isinstance(node, ScalarNode) else ""
            self.complain(node, f"{what} is {in_words(node)}; expected a number such as 0.002, or off.{hint}")
        else:
            self.complain(node, f"{what} is {value}; expected a number from 0 to less than 1, or off")
        return FIRST_LOOK

    def escalate(self, node: Node, what: str) -> tuple[str, ...]:
        """Which looks a text gets, the cheapest first; empty after a complaint."""
        named = self.names(node, what)
        found = tuple(one.name for one in named)
        wrong = [one for one in named if one.name not in TIERS]
        if wrong:
            hint = suggestion(wrong[0].name, TIERS)
            self.complain(node, f"{what} has {wrong[0].name!r}; expected some of {', '.join(TIERS)}.{hint}")
            return ()
        if list(found) != sorted(set(found), key=TIERS.index) or len(found) < 2:
            self.complain(
                node,
                f"{what} is {', '.join(found) or 'empty'}; expected two or more, in the order "
                f"{', '.join(TIERS)}",
            )
            return ()
        return found

    def verify(self, node: Node, what: str) -> VerifySpec | None:
        """``{backend: {kind: prompt, ...}, at_most: 10%}``; None after a complaint."""
        before = self.faults
        given = self.section(node, what, tuple(VERIFY))
        at_most = self.share(given["at_most"], f"at_most of {what}") if "at_most" in given else AT_MOST
        if "backend" not in given:
            if self.faults == before:
                self.complain(node, f"{what} has no key 'backend'; expected {_ASKED_AGAIN}")
            return None
        backend = self.backend(given["backend"], f"backend of {what}")
        if backend is None:
            return None
        if backend.kind != "prompt":
            found = f"backend of {what} is of kind {backend.kind!r}"
            self.complain(given["backend"], f"{found}; expected one that is asked: {_ASKED_AGAIN}")
            return None
        return VerifySpec(backend, at_most)

    def share(self, node: Node, what: str) -> float:
        """A share of texts: ``10%``, or a number above 0, at most 1."""
        value = number_of(node)
        if value is None and isinstance(node, ScalarNode) and _PERCENT.fullmatch(node.value):
            value = float(node.value.rstrip("% ")) / 100
        if value is not None and 0 < value <= 1:
            return float(value)
        self.complain(node, f"{what} is {in_words(node)}; expected a share of the texts such as 10%")
        return AT_MOST

    def tiers(self, node: Node, what: str) -> tuple[str, ...]:
        """What answers at a group, the cheapest first; empty for nothing but its backend."""
        if isinstance(node, ScalarNode) and node.value in OFF_WORDS:
            return ()
        return self.escalate(node, what)

    def backend(self, node: Node, what: str) -> BackendSpec | None:
        """``linear``, or ``{kind: linear, C: 1}``; which kinds and options exist is for others to say."""
        if not isinstance(node, MappingNode):
            kind = self.name(node, what)
            return self._backend(kind.name, {}, node) if kind else None
        entries = self.entries(node, what)
        if "kind" not in entries:
            self.complain(node, f"{what} has no key 'kind'; expected for instance {{kind: linear, C: 1}}")
            return None
        kind = self.name(entries["kind"][1], f"kind of {what}")
        options = {
            key: self.value(pair[1], f"{key} of {what}") for key, pair in entries.items() if key != "kind"
        }
        return self._backend(kind.name, options, node) if kind else None

    def _backend(self, kind: str, options: dict[str, Any], node: Node) -> BackendSpec:
        spec = BackendSpec(kind, options, self.place(node))
        if not any(spec == other and spec.place == other.place for other in self.backends):
            self.backends.append(spec)
        return spec

    def hint(self, key: str, known: Sequence[str]) -> str:
        """What may have been meant by an unknown key, which may be one of `defaults`."""
        if key == "also_in" and "aliases" in known:
            return (
                " Labels have `also_in` only with `names: path` at the top; a plain name is repeated in each "
                "of its groups."
            )
        at_top = key in SETTING_KEYS and "defaults" in known
        return " Write it under `defaults:`." if at_top else super().hint(key, known)

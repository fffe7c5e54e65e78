"""Words for children that have none, written by a language model: what is asked for, and what of it is taken.

What a model writes goes into a file that people keep, so that all of it is checked first: texts that say
nothing, or too much, names that are none, and other names that mean two things are left out, with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from cascade.hosted.answer_text import folded, on_one_line, unambiguous
from cascade.hosted.logprobs import UnreadableAnswer
from cascade.hosted.questions import Question, Written
from cascade.nodes.contract import GroupDescription
from cascade.prompt.answers import held_to_schema, object_in, object_schema, whole_text
from cascade.prompt.settings import Hold, PromptSettings
from cascade.prompt.wording import choice_line, conversation, filled, instructions, shortened, text_of

MOST_CHILDREN = 20
"""Of more children in a group some are asked about at a time: an answer about all of them would be cut."""
LONGEST_DESCRIPTION = 400
"""As much of a description as stands in questions."""
MOST_ALIASES, LONGEST_ALIAS = 5, 60
EXAMPLES, LONGEST_EXAMPLE = 5, 240
"""So many texts of a child are shown, and so many characters of each."""
NOT_AN_ALIAS = re.compile(r"[^\w .'&+-]")
"""What no other name has in it: rows have marks between names."""
NO_TEXTS = "There are no such texts yet."
# A sentence or two, and some names; what is longer is cut, and no answer.
_TOKENS_OF_CHILD, _TOKENS_BESIDE = 200, 60
TOKENS_WRITTEN = 70
"""What is reckoned with for the answer about a child."""


@dataclass(frozen=True)
class Lacking:
    """A child of a group, by its last name, and what it has none of."""

    name: str
    description: bool
    aliases: bool


@dataclass(frozen=True)
class Words:
    """What was written of a child; empty where nothing was wanted, or nothing could be taken."""

    description: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """Something that was written and is not taken.

    Attributes
    ----------
    name
        The child that it is about; empty where it is about none.
    text
        What was written.
    why
        The reason, for people.
    """

    name: str
    text: str
    why: str


@dataclass(frozen=True)
class WordsAsked:
    """How some children of a group are asked about: what `cascade.hosted.questions.Question` calls a codec.

    Attributes
    ----------
    lacking
        The children.
    system
        What is told before the texts.
    hold
        By which means the service holds an answer to its form.
    extra
        What else a request has.
    again
        Why the answer before could not be used; empty for the first.
    """

    lacking: tuple[Lacking, ...]
    system: str
    hold: Hold
    extra: Mapping[str, Any] = field(default_factory=dict)
    again: str = ""

    endpoint: ClassVar[str] = "/v1/chat/completions"

    def request(self, text: str) -> dict[str, Any]:
        """The body of the question with these example texts, without its ``model``."""
        asked = {
            "messages": conversation(self.system, (), text, self.again),
            "temperature": 0.0,
            "max_completion_tokens": _TOKENS_BESIDE + _TOKENS_OF_CHILD * len(self.lacking),
        }
        return {**asked, **held_to_schema(self._schema(), self.hold), **self.extra}

    def read(self, choice: Mapping[str, Any]) -> Written:
        """What was written; UnreadableAnswer where it is refused, cut short or of another form."""
        found = object_in(whole_text(choice))
        if not isinstance(found.get("choices"), list):
            raise UnreadableAnswer("expected a list of choices, found something else")
        return Written(found)

    def _schema(self) -> dict[str, Any]:
        entry = {
            "name": {"type": "string", "enum": [on_one_line(one.name) for one in self.lacking]},
            "description": {"type": "string"},
            "boundary": {"type": "string"},
            "aliases": {"type": "array", "items": {"type": "string"}},
        }
        return object_schema({"choices": {"type": "array", "items": object_schema(entry)}})


def questions(
    settings: PromptSettings,
    children: Sequence[str],
    description: GroupDescription,
    lacking: Sequence[Lacking],
    examples: Mapping[str, Sequence[str]],
) -> list[Question]:
    """What is asked about the children of a group that lack words: one question, or several of many children.

    Parameters
    ----------
    children, description
        All children of the group, which stand in each question, and what is told of them.
    examples
        Texts of children that are asked about, by name.
    """
    width = len(str(len(children)))
    lines = [f"{place:0{width}} {choice_line(name, description)}" for place, name in enumerate(children)]
    # What such a service does not know it says, and is asked once more without.
    hold: Hold = "plain" if settings.hold == "plain" else "schema"
    found = []
    for start in range(0, len(lacking), MOST_CHILDREN):
        some = tuple(lacking[start : start + MOST_CHILDREN])
        wanted = ", ".join(on_one_line(one.name) for one in some)
        how = filled(text_of("enrich/how"), {"wanted": wanted, "most": str(MOST_ALIASES)})
        system = instructions(text_of("enrich/group"), description, lines, how)
        asked = WordsAsked(some, system, hold, settings.extra_of_requests())
        found.append(Question(settings.model, settings.service, asked, _shown(some, examples)))
    return found


def lacking_of(question: Question) -> tuple[Lacking, ...]:
    """The children that a question of `questions` is about."""
    return _codec_of(question).lacking


def asked_again(question: Question, why: str, *, is_unreadable: bool) -> Question:
    """The question once more: with what was wrong with its answer, or without the form that was refused."""
    codec = _codec_of(question)
    changed = replace(codec, again=why) if is_unreadable else replace(codec, hold="plain")
    return replace(question, codec=changed)


def _codec_of(question: Question) -> WordsAsked:
    if not isinstance(question.codec, WordsAsked):
        raise TypeError(type(question.codec).__name__)
    return question.codec


def _shown(lacking: Sequence[Lacking], examples: Mapping[str, Sequence[str]]) -> str:
    """The texts of each child, each on a line; the names of children stand on lines of their own."""
    parts = [
        "\n".join(
            [on_one_line(one.name), *(f"- {shortened(text, LONGEST_EXAMPLE)}" for text in examples[one.name])]
        )
        for one in lacking
        if examples.get(one.name)
    ]
    return "\n\n".join(parts) or NO_TEXTS


# What is taken of an answer


def taken(written: Written, lacking: Sequence[Lacking]) -> tuple[dict[str, Words], list[LeftOut]]:
    """What is taken of an answer, by child, and what is not.

    Of two entries about the same child the first counts.
    """
    by_name = {one.name: one for one in lacking}
    names = unambiguous((folded(one.name), place) for place, one in enumerate(lacking))
    found: dict[str, Words] = {}
    left_out: list[LeftOut] = []
    for entry in written.values["choices"]:
        told = entry if isinstance(entry, dict) else {}
        name = _name_meant(told.get("name"), lacking, names)
        if name is None:
            left_out.append(LeftOut("", _as_text(told.get("name", entry)), "none of the names asked about"))
        elif name in found:
            left_out.append(LeftOut(name, _as_text(told.get("description")), "said before"))
        else:
            found[name], more = _words(told, by_name[name])
            left_out += more
    silent = [one.name for one in lacking if one.name not in found]
    return found, [*left_out, *(LeftOut(name, "", "nothing was written") for name in silent)]


def _name_meant(name: Any, lacking: Sequence[Lacking], names: Mapping[str, int]) -> str | None:
    if not isinstance(name, str):
        return None
    exact = next((one.name for one in lacking if name in (one.name, on_one_line(one.name))), None)
    bare = name.partition(" ")[2] if name[:1].isdigit() else name
    places = [names[folded(one)] for one in (name, bare) if folded(one) in names]
    return exact or (lacking[places[0]].name if places else None)


def _words(told: Mapping[str, Any], lacking: Lacking) -> tuple[Words, list[LeftOut]]:
    left_out: list[LeftOut] = []
    description, aliases = "", list[str]()
    if lacking.description:
        description, why = _description(told, lacking.name)
        left_out += [LeftOut(lacking.name, text, reason) for text, reason in why]
    given = told.get("aliases") if lacking.aliases else ()
    for alias in given if isinstance(given, list) else ():
        text, reason = _as_text(alias), alias_fault(alias, lacking.name)
        if not reason and (len(aliases) >= MOST_ALIASES or folded(text) in map(folded, aliases)):
            reason = f"more than {MOST_ALIASES} names" if len(aliases) >= MOST_ALIASES else "said before"
        if reason:
            left_out.append(LeftOut(lacking.name, text, reason))
        else:
            aliases.append(text)
    return Words(description, tuple(aliases)), left_out


def _description(told: Mapping[str, Any], name: str) -> tuple[str, list[tuple[str, str]]]:
    """A description with its boundary, and what is wrong with what is not in it."""
    first, boundary = (told.get(key) for key in ("description", "boundary"))
    text = _as_text(first)
    if fault := description_fault(first, name):
        return "", [(text, fault)]
    if boundary is None or boundary == "" or _bare(_as_text(boundary)) == _bare(text):
        return text, []
    ended = text if text[-1] in ".!?…。" else f"{text}."
    both = f"{ended} {_as_text(boundary)}"
    fault = description_fault(boundary, name) or description_fault(both, name)
    return (text, [(_as_text(boundary), fault)]) if fault else (both, [])


def description_fault(value: Any, name: str) -> str:
    """Why something is no description of a child, or an empty string."""
    return _fault(value, name, LONGEST_DESCRIPTION)


def alias_fault(value: Any, name: str) -> str:
    """Why something is no other name of a child, or an empty string."""
    if fault := _fault(value, name, LONGEST_ALIAS):
        return fault
    mark = NOT_AN_ALIAS.search(on_one_line(value))
    return f"a name with {mark[0]!r} in it" if mark else ""


def _fault(value: Any, name: str, longest: int) -> str:
    """Why something says nothing of a child, or more than there is room for; else an empty string."""
    if not isinstance(value, str):
        return "no text"
    text = on_one_line(value)
    if not _bare(text):
        return "empty"
    if _bare(text) == _bare(name):
        return "nothing but the name"
    return f"longer than {longest} characters" if len(text) > longest else _mark_fault(text)


def _mark_fault(text: str) -> str:
    """Marks of questions, and characters that nobody sees, have no place in words about a child."""
    if not text.isprintable():
        return "characters that cannot be seen"
    return "marks of a question in it" if re.search(r"</?\s*text\b|<\|", text, re.IGNORECASE) else ""


def _bare(text: str) -> str:
    """Letters and digits alone: ``double_charge.`` and ``Double charge`` are the same."""
    return " ".join(re.findall(r"[^\W_]+", folded(text)))


def _as_text(value: Any) -> str:
    return on_one_line(value if isinstance(value, str) else "" if value is None else str(value))

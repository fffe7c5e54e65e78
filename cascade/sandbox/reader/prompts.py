"""What stands in the messages of a prompt: the choices, examples with their answers, and the text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_OPEN, _CLOSE = "<text>", "</text>"
_LINE = re.compile(r"[ \t]*(\d+)[.):]?[ \t]+(\S.*)")
_TAIL = re.compile(
    r" \((?:includes: (?P<below>[^()]*?)(?:; (?=also: )|(?=\)\s*$)))?(?:also: (?P<also>.*))?\)\s*$"
)
_HEADS = ("group", "about", "choice", "not")
_SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Choice:
    """An answer that may be given; texts are empty where nothing is told."""

    number: str
    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: str, number: str = "", names: Sequence[str] = ()) -> Choice:
        """``NAME``, ``NAME: DESCRIPTION``, either with ``(includes: A; also: B, C)``, or half of it.

        What a choice includes is part of its description.
        A name may hold a colon: of `names`, where these are known, the longest that fits is meant.
        """
        tail = _TAIL.search(line)
        tail = tail if tail and (tail["below"] or tail["also"]) else None
        aliases = tuple(tail["also"].split(", ")) if tail and tail["also"] else ()
        below = f"includes: {tail['below']}" if tail and tail["below"] else ""
        told = line[: tail.start()] if tail else line.rstrip()
        known = [one for one in names if told == one or told.startswith(f"{one}: ")]
        name = max(known, key=len) if known else told.partition(": ")[0]
        about = told[len(name) :].removeprefix(": ").strip()
        return cls(number, name, f"{about} ({below})" if about and below else about or below, aliases)

    @property
    def is_nothing(self) -> bool:
        """Whether it is the answer for texts that no other answer fits."""
        return self.name.strip().casefold() in ("none of these", "none of the above", "none")


@dataclass(frozen=True)
class Prompt:
    """A prompt that was taken apart.

    Attributes
    ----------
    group, about
        Where the question stands, and what that is about.
    choices
        The answers, as the prompt has them.
    opposite
        The answer that is meant by ``Not:``.
    instructions
        The system message without the lines above.
    examples
        Texts and their answers, as they stand there.
    text
        What is asked about.
    whole
        All that the system and the users say.
    """

    group: str
    about: str
    choices: tuple[Choice, ...]
    opposite: Choice | None
    instructions: str
    examples: tuple[tuple[str, str], ...]
    text: str
    whole: str = ""


def read_prompt(messages: Sequence[Mapping[str, str]], names: Sequence[str] = ()) -> Prompt:
    """Messages of a role and a content each, taken apart; `names` are names of choices known otherwise."""
    system = "\n".join(one["content"] for one in messages if one["role"] in _SYSTEM)
    heads, choices, instructions = _parts(system, names)
    if "choice" in heads and not choices:
        choices = [Choice.parse(heads["choice"], "", names)]
    opposite = Choice.parse(heads["not"], "", names) if "not" in heads else None
    talk = [one for one in messages if one["role"] not in _SYSTEM]
    examples, text = _examples_and_text(talk)
    return Prompt(
        heads.get("group", ""),
        heads.get("about", ""),
        tuple(choices),
        opposite,
        instructions,
        examples,
        text,
        "\n".join(one["content"] for one in messages if one["role"] != "assistant"),
    )


def _parts(system: str, names: Sequence[str]) -> tuple[dict[str, str], list[Choice], str]:
    """The lines that begin with one of the heads, the choices, and all other lines."""
    heads: dict[str, str] = {}
    choices: list[Choice] = []
    rest = []
    listing = False
    for line in system.splitlines():
        found = _LINE.fullmatch(line) if listing else None
        head, colon, value = line.partition(":")
        name = head.strip().casefold()
        if found:
            choices.append(Choice.parse(found[2], found[1], names))
        elif name == "choices" and not value.strip() and not choices:
            listing = True
        elif colon and name in _HEADS and name not in heads:
            heads[name] = value.strip()
        else:
            listing = listing and not line.strip() and not choices
            rest.append(line)
    return heads, choices, "\n".join(rest)


def _examples_and_text(talk: Sequence[Mapping[str, str]]) -> tuple[tuple[tuple[str, str], ...], str]:
    """Each user's message and the answer that follows it, and the last one that has marks, or the last."""
    asked = [at for at, one in enumerate(talk) if one["role"] == "user"]
    marked = [at for at in asked if _between(talk[at]["content"]) is not None]
    places = marked or asked[-1:]
    if not places:
        return (), ""
    examples = tuple(
        (_bare(talk[at]["content"]), talk[at + 1]["content"])
        for at in asked
        if at < places[-1] and talk[at + 1]["role"] == "assistant"
    )
    return examples, _bare(talk[places[-1]]["content"])


def _bare(content: str) -> str:
    """What stands between the marks, all of it where there are none."""
    found = _between(content)
    return (content if found is None else found).strip()


def _between(content: str) -> str | None:
    start, end = content.find(_OPEN), content.rfind(_CLOSE)
    return content[start + len(_OPEN) : end] if 0 <= start < end else None

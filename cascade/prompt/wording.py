"""The words of a question: texts of the package, or of a taxonomy, filled with what a group is about.

They are files that people can read. What is asked in other words is another question, so that answers that
were kept for the old ones are not taken for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from cascade.hosted.answer_text import harmless, on_one_line
from cascade.nodes.contract import GroupDescription

FOLDER = Path(__file__).with_name("prompts")
PLACES = ("path", "about", "choices", "how")
"""What may stand in braces in the text of a question."""
NONE = "none of these"
_PLACE = re.compile(r"\{(\w+)\}")
_MOST_DESCRIPTION = 400
_MOST_ALIASES, _MOST_BELOW = 12, 24


@cache
def text_of(name: str) -> str:
    """A text of the package, by its name."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip()


def digest() -> str:
    """The hash of all texts of the package, in hex: another one asks in other words."""
    made_of = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.txt")):
        made_of.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return made_of.hexdigest()


def complaint(value: Any) -> str:
    """What is wrong with a text that a taxonomy has in the place of the package's, or an empty string."""
    if not isinstance(value, str) or not value.strip():
        return f"expected the text of a question, found {value!r}"
    named = _PLACE.findall(value)
    unknown = [name for name in named if name not in PLACES]
    if unknown:
        return f"unknown place {{{unknown[0]}}}; there are {', '.join(f'{{{one}}}' for one in PLACES)}"
    missing = [name for name in ("choices", "how") if name not in named]
    return f"the place {{{missing[0]}}} is missing: without it nothing can be answered" if missing else ""


def filled(text: str, places: Mapping[str, str]) -> str:
    """A text with what belongs into its places, without the lines whose only place stays empty."""
    kept = [line for line in text.splitlines() if not _is_left_out(line, places)]
    return _PLACE.sub(lambda found: places.get(found[1], found[0]), "\n".join(kept))


def _is_left_out(line: str, places: Mapping[str, str]) -> bool:
    named = _PLACE.findall(line)
    return len(named) == 1 and places.get(named[0]) == ""


def instructions(template: str, description: GroupDescription, choices: Iterable[str], how: str) -> str:
    """What a model is told before it sees a text."""
    path = on_one_line(description.path) or "top level"
    places = {
        "path": path,
        "about": on_one_line(description.about),
        "choices": "\n".join(choices),
        "how": how,
    }
    return harmless(filled(template, places))


def choice_line(name: str, description: GroupDescription) -> str:
    """What is told of a child, on one line: its name, what it is and holds, and what else it is called."""
    about = shortened(description.descriptions.get(name, ""), _MOST_DESCRIPTION)
    also = _few(description.aliases.get(name, ()), _MOST_ALIASES)
    below = _few(description.includes.get(name, ()), _MOST_BELOW)
    told = [f"{word}: {', '.join(names)}" for word, names in (("includes", below), ("also", also)) if names]
    if told:
        about = about.rstrip(".")
    line = on_one_line(name) + (f": {about}" if about else "")
    return line + (f" ({'; '.join(told)})" if told else "")


def _few(names: Sequence[str], most: int) -> list[str]:
    shown = [on_one_line(name) for name in names[:most]]
    return shown if len(names) <= most else [*shown, "..."]


def shortened(text: str, most: int) -> str:
    """A text on one line, of so many characters at most."""
    line = on_one_line(text)
    return line if len(line) <= most else line[: most - 3].rstrip() + "..."


def marked(text: str) -> str:
    """A text between its marks; what looks like the end of it inside is none."""
    bare = re.sub(r"</(?=\s*text\b)", "< /", harmless(text), flags=re.IGNORECASE)
    return f"<text>\n{bare}\n</text>"


def conversation(
    system: str, examples: Sequence[tuple[str, str]], text: str, again: str = ""
) -> list[dict[str, str]]:
    """The messages of a question: what all texts share first, and the text last.

    Parameters
    ----------
    examples
        Texts with their answers.
    again
        Why the answer to the same question could not be used; empty where it is asked first.
    """
    shown = [
        message
        for example, answer in examples
        for message in (
            {"role": "user", "content": marked(example)},
            {"role": "assistant", "content": answer},
        )
    ]
    asked = [{"role": "system", "content": system}, *shown, {"role": "user", "content": marked(text)}]
    if again:
        asked.append({"role": "user", "content": filled(text_of("again"), {"why": again})})
    return asked

"""The labelling configuration of Label Studio: its Taxonomy and its Choices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from xml.parsers import expat

from cascade.draft.concepts import Concept, Outline, clean_name
from cascade.errors import DataError

CONTROLS = ("Taxonomy", "Choices")


class _Reader:
    """Builds concepts while the text is read; nothing but elements and attributes is understood."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.controls: list[tuple[str, Mapping[str, str], list[Concept]]] = []
        self._open: list[Concept | None] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in CONTROLS:
            self.controls.append((tag, attributes, []))
            self._open = []
        elif tag == "Choice" and self.controls:
            self._choice(attributes)

    def _choice(self, attributes: Mapping[str, str]) -> None:
        name = clean_name(attributes.get("value", ""))
        if not name:
            raise DataError(f"{self.source}: a <Choice> without a value; expected <Choice value='refund'/>")
        alias = clean_name(attributes.get("alias", ""))
        said = clean_name(attributes.get("hint", ""))
        concept = Concept(name, said, (alias,) if alias and alias != name else ())
        above = self._open[-1] if self._open else None
        (above.children if above else self.controls[-1][2]).append(concept)
        self._open.append(concept)

    def end(self, tag: str) -> None:
        if tag == "Choice" and self._open:
            self._open.pop()


def read_label_studio(text: str, source: str) -> Outline:
    """The choices of a labelling configuration.

    One Taxonomy or Choices gives its own names; of several, each is a group of its name, with ``choose:
    one`` where one answer is asked for. An ``alias`` is what exports carry, and becomes an alias.

    Raises
    ------
    DataError
        The text is not XML, declares entities, or has no choices.
    """
    reader = _Reader(source)
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = _refuse_doctype(source)
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        found = expat.errors.messages[error.code]
        raise DataError(f"{source}:{error.lineno}:{error.offset + 1}: not valid XML: {found}") from error
    controls = [control for control in reader.controls if control[2]]
    if not controls:
        raise DataError(f"{source}: no <Taxonomy> or <Choices> with a <Choice> in it")
    if len(controls) == 1:
        return Outline(controls[0][2])
    return Outline(list(_groups(controls)))


def _groups(controls: list[tuple[str, Mapping[str, str], list[Concept]]]) -> Iterator[Concept]:
    for number, (tag, attributes, choices) in enumerate(controls, start=1):
        name = clean_name(attributes.get("name", "")) or f"{tag.lower()} {number}"
        # Label Studio's default for Choices is one answer; a Taxonomy takes many.
        one = tag == "Choices" and attributes.get("choice", "single").startswith("single")
        yield Concept(name, children=choices, settings={"choose": "one"} if one else {})


def _refuse_doctype(source: str) -> Callable[..., None]:
    def refuse(*_: object) -> None:
        raise DataError(
            f"{source}: declares a document type, which may hold entities; take <!DOCTYPE ...> out"
        )

    return refuse

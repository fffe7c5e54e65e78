"""What a source says: names within names, whatever it was written in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cascade.errors import DataError

DEEPEST = 40
"""A taxonomy file holds some more levels; below these it is no taxonomy but a slip."""
Path = tuple[str, ...]


@dataclass(eq=False)
class Concept:
    """A name with those below it: a label where there are none, else a group.

    One that stands in several places is one object; two of one name are two things. `rows` counts the rows
    that carry it.
    """

    name: str
    description: str = ""
    aliases: tuple[str, ...] = ()
    children: list[Concept] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    rows: int | None = None

    @property
    def is_group(self) -> bool:
        return bool(self.children)


@dataclass
class Outline:
    """All that a source says of a taxonomy; `told` are sentences about how it was understood."""

    top: list[Concept]
    name: str = ""
    description: str = ""
    told: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PathEntry:
    """A path as it stands in a source, and what is said there of its last name; `place` is for complaints."""

    path: Path
    place: str
    description: str = ""
    aliases: tuple[str, ...] = ()


def tree_of(entries: Iterable[PathEntry]) -> list[Concept]:
    """The concepts of paths, in the order in which they first occur.

    Raises
    ------
    DataError
        A path has an empty part, or is deeper than `DEEPEST`; with its place.
    """
    top: list[Concept] = []
    known: dict[Path, Concept] = {}
    for entry in entries:
        _check(entry)
        concept = _at(entry.path, known, top)
        concept.description = concept.description or entry.description
        concept.aliases = tuple(dict.fromkeys((*concept.aliases, *entry.aliases)))
    return top


def _check(entry: PathEntry) -> None:
    if not all(entry.path):
        shown = " > ".join(part or "..." for part in entry.path)
        raise DataError(f"{entry.place}: a path with an empty part, {shown!r}; expected a name at each level")
    if len(entry.path) > DEEPEST:
        raise DataError(f"{entry.place}: {len(entry.path)} levels; expected {DEEPEST} or fewer")


def _at(path: Path, known: dict[Path, Concept], top: list[Concept]) -> Concept:
    for depth in range(1, len(path) + 1):
        if path[:depth] not in known:
            concept = known[path[:depth]] = Concept(path[depth - 1])
            (known[path[: depth - 1]].children if depth > 1 else top).append(concept)
    return known[path]


@dataclass(frozen=True)
class Edge:
    """A name directly below another; `place` is for complaints."""

    parent: str
    child: str
    place: str


def graph_of(edges: Sequence[Edge], concepts: dict[str, Concept], source: str) -> list[Concept]:
    """The concepts that are below no other, after each was given those below it.

    Parameters
    ----------
    concepts
        Key of each -> the concept, which may have any number of parents.

    Raises
    ------
    DataError
        They form a cycle, which is named.
    """
    below: dict[str, list[str]] = defaultdict(list)
    has_parent = set()
    for edge in dict.fromkeys((edge.parent, edge.child) for edge in edges):
        below[edge[0]].append(edge[1])
        has_parent.add(edge[1])
    _refuse_cycle(below, concepts, source)
    for key, children in below.items():
        concepts[key].children = [concepts[child] for child in children]
    return [concept for key, concept in concepts.items() if key not in has_parent]


def _refuse_cycle(below: dict[str, list[str]], concepts: dict[str, Concept], source: str) -> None:
    """Raises for a path that leads back to where it began; goes down without Python's stack."""
    done: set[str] = set()
    for start in list(below):
        path: list[str] = []
        steps: list[Iterator[str]] = [iter((start,))]
        while steps:
            key = next(steps[-1], None)
            if key is None:
                steps.pop()
                if path:
                    done.add(path.pop())
            elif key in path:
                cycle = " > ".join(concepts[one].name for one in [*path[path.index(key) :], key])
                raise DataError(f"{source}: a cycle: {cycle}. Take one of these steps out.")
            elif key not in done:
                path.append(key)
                steps.append(iter(below.get(key, ())))


def walk(top: Sequence[Concept]) -> Iterator[tuple[Path, Concept]]:
    """Each place with the concept that stands there, from the top down, a group before what is in it.

    What is below a concept of several places comes once: there may be more ways to it than anyone can go.
    """
    todo: list[tuple[Path, Concept]] = [((concept.name,), concept) for concept in reversed(top)]
    met: set[int] = set()
    while todo:
        path, concept = todo.pop()
        if len(path) > DEEPEST:
            raise DataError(f"{' > '.join(path[:3])} ...: more than {DEEPEST} levels; expected fewer")
        yield path, concept
        if id(concept) not in met:
            met.add(id(concept))
            todo += [((*path, child.name), child) for child in reversed(concept.children)]


def needs_paths(top: Sequence[Concept]) -> bool:
    """Whether two different things have one name, so that only their paths tell them apart."""
    named: dict[str, Concept] = {}
    return any(named.setdefault(path[-1], concept) is not concept for path, concept in walk(top))


def merge_twins(top: list[Concept]) -> list[str]:
    """Make one of concepts of one name in one place; the names of those that were several."""
    merged: list[str] = []
    todo, met = [top], {id(top)}
    while todo:
        concepts = todo.pop()
        merged += _merged(concepts)
        below = [one.children for one in concepts if id(one.children) not in met]
        met.update(map(id, below))
        todo += below
    return merged


def _merged(concepts: list[Concept]) -> list[str]:
    """The names that several of these concepts had; of each the first is left, with what the others said."""
    first: dict[str, Concept] = {}
    again = [one for one in concepts if first.setdefault(one.name, one) is not one]
    for concept in again:
        twin = first[concept.name]
        twin.children += [child for child in concept.children if child not in twin.children]
        twin.aliases = tuple(dict.fromkeys((*twin.aliases, *concept.aliases)))
        twin.description = twin.description or concept.description
    concepts[:] = first.values()
    return [concept.name for concept in again]


def settle_aliases(top: Sequence[Concept]) -> list[str]:
    """Take out aliases that mean another thing as well, and say which."""
    concepts = {id(concept): concept for _, concept in walk(top)}
    names = {concept.name for concept in concepts.values()}
    owners = Counter(alias for concept in concepts.values() for alias in dict.fromkeys(concept.aliases))
    taken: dict[str, None] = {}
    for concept in concepts.values():
        unclear = [alias for alias in concept.aliases if alias in names or owners[alias] > 1]
        taken.update(dict.fromkeys(alias for alias in unclear if alias != concept.name))
        concept.aliases = tuple(alias for alias in concept.aliases if alias not in unclear)
    if not taken:
        return []
    shown = ", ".join(repr(alias) for alias in list(taken)[:5])
    return [f"aliases that mean more than one thing are left out: {shown}{' ...' if len(taken) > 5 else ''}"]


def clean_name(text: object) -> str:
    """A name as a taxonomy may have it: without blanks around, and with single ones inside."""
    return " ".join(str(text).replace("\u00a0", " ").split())


def refuse_empty(outline: Outline, source: str) -> Outline:
    """The outline, unless there is nothing in it."""
    if not outline.top:
        raise DataError(f"{source}: no labels found; expected names of labels, or rows that carry them")
    return outline

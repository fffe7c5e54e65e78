"""SKOS vocabularies: concepts, their labels in one language, and what is broader than what."""

from __future__ import annotations

import json
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cascade.draft.concepts import Concept, Edge, Outline, clean_name, graph_of, merge_twins
from cascade.errors import DataError

FORMATS = {
    ".ttl": "turtle",
    ".turtle": "turtle",
    ".n3": "n3",
    ".nt": "nt",
    ".rdf": "xml",
    ".owl": "xml",
    ".xml": "xml",
    ".skos": "xml",
    ".jsonld": "json-ld",
    ".json": "json-ld",
}
_MOST_SAID = 200
Node = Any  # rdflib ships no types that we read


def read_skos(path: Path, language: str) -> Outline:
    """The concepts of a vocabulary, with several parents where they have several.

    ``prefLabel`` in `language` is the name, where there is none that without a language or that of the
    first other language; ``altLabel`` and ``hiddenLabel`` are aliases; ``definition`` or ``scopeNote`` is
    the description (SKOS Reference, W3C 2009). ``broader`` and ``narrower`` say the same from either side.
    Several schemes become groups at the top. Nothing is fetched: a context that lies elsewhere is refused.

    Raises
    ------
    DataError
        rdflib is missing, the file is damaged or has no concepts, or they form a cycle, which is named.
    """
    vocabulary = _Vocabulary(_graph(path), language, str(path))
    return vocabulary.outline()


def _graph(path: Path) -> Any:
    try:
        import rdflib
    except ImportError as error:
        raise DataError(
            f"{path}: reading SKOS takes rdflib; install it with: pip install 'cascade-classifier[skos]'"
        ) from error
    kind = FORMATS.get(path.suffix.lower(), "turtle")
    data = path.read_bytes()
    if kind == "json-ld":
        _refuse_remote_contexts(data, str(path))
    graph = rdflib.Graph()
    try:
        with warnings.catch_warnings():
            # Its reader of JSON-LD uses what rdflib itself calls old.
            warnings.simplefilter("ignore", DeprecationWarning)
            graph.parse(data=data, format=kind, publicID=path.absolute().as_uri())
    except Exception as error:  # parsers of rdflib raise what they like
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: not valid {kind}: {said[:_MOST_SAID]}") from error
    return graph


def _refuse_remote_contexts(data: bytes, source: str) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: not valid JSON: {error}") from error
    for context in _contexts(value):
        if isinstance(context, str):
            raise DataError(
                f"{source}: names a context that lies elsewhere, {context!r}, and nothing is fetched; put "
                "the context itself into the file"
            )


def _contexts(value: Any) -> Iterator[Any]:
    """What stands under each ``@context``, and what that imports."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one
        elif isinstance(one, dict):
            todo += one.values()
            context = one.get("@context")
            yield from context if isinstance(context, list) else [context]
            if isinstance(one.get("@import"), str):
                yield one["@import"]


class _Vocabulary:
    def __init__(self, graph: Any, language: str, source: str) -> None:
        from rdflib.namespace import SKOS

        self.graph, self.skos, self.source = graph, SKOS, source
        self.language = language.casefold()
        self.elsewhere = 0

    def outline(self) -> Outline:
        keys = sorted(self._concepts(), key=str)
        if not keys:
            raise DataError(f"{self.source}: no skos:Concept in it; expected concepts with a prefLabel")
        concepts = {str(key): self._concept(key) for key in keys}
        ordered = dict(sorted(concepts.items(), key=lambda pair: (pair[1].name.casefold(), pair[0])))
        edges = sorted(self._edges(), key=lambda edge: (ordered[edge.child].name.casefold(), edge.child))
        top = graph_of(edges, ordered, self.source)
        outline = self._in_schemes(top, {id(concept): key for key, concept in ordered.items()})
        merged = merge_twins(outline.top)
        if self.elsewhere:
            outline.told.append(
                f"{self.elsewhere:,} of {len(keys):,} concepts have no prefLabel in {self.language!r}: one "
                "in another language is taken (--language names another)"
            )
        if merged:
            outline.told.append(
                f"concepts of one name in one place are taken as one: {', '.join(merged[:5])}"
            )
        return outline

    def _concepts(self) -> set[Node]:
        from rdflib.namespace import RDF

        found = set(self.graph.subjects(RDF.type, self.skos.Concept))
        for one, other in self._broader():
            found |= {one, other}
        return found

    def _broader(self) -> Iterator[tuple[Node, Node]]:
        """(narrower, broader) pairs."""
        yield from self.graph.subject_objects(self.skos.broader)
        for broader, narrower in self.graph.subject_objects(self.skos.narrower):
            yield narrower, broader

    def _edges(self) -> set[Edge]:
        return {Edge(str(broader), str(narrower), self.source) for narrower, broader in self._broader()}

    def _concept(self, key: Node) -> Concept:
        name = self._label(key)
        aliases = {
            clean_name(label)
            for kind in (self.skos.altLabel, self.skos.hiddenLabel)
            for label in self._in_language(self.graph.objects(key, kind))
        }
        said = [
            clean_name(text)
            for kind in (self.skos.definition, self.skos.scopeNote)
            for text in self._in_language(self.graph.objects(key, kind))
        ]
        return Concept(name, min(said, key=len) if said else "", tuple(sorted(aliases - {name, ""})))

    def _label(self, key: Node) -> str:
        labels = list(self.graph.objects(key, self.skos.prefLabel))
        own = self._in_language(labels)
        if own:
            return clean_name(min(own))
        self.elsewhere += bool(labels)
        others = sorted(labels, key=lambda label: (label.language or "", str(label)))
        return clean_name(others[0]) if others else self._plain_name(key)

    def _plain_name(self, key: Node) -> str:
        """The rdfs:label or title of a thing, else the end of its address."""
        from rdflib.namespace import DC, DCTERMS, RDFS

        for kind in (RDFS.label, DCTERMS.title, DC.title):
            found = self._in_language(self.graph.objects(key, kind))
            if found:
                return clean_name(min(found))
        return clean_name(str(key).rstrip("/#").replace("#", "/").rsplit("/", 1)[-1]) or str(key)

    def _in_language(self, literals: Iterable[Any]) -> list[Any]:
        """Those in the language or, where there are none, those of no language; ``en`` takes ``en-GB``."""
        found: dict[bool, list[Any]] = defaultdict(list)
        for literal in literals:
            tag = (getattr(literal, "language", None) or "").casefold()
            if not tag or tag.split("-")[0] == self.language or tag == self.language:
                found[bool(tag)].append(literal)
        return sorted(found[True] or found[False])

    def _in_schemes(self, top: list[Concept], keys: dict[int, str]) -> Outline:
        from rdflib.namespace import RDF

        schemes = sorted(self.graph.subjects(RDF.type, self.skos.ConceptScheme), key=str)
        members = {scheme: self._tops_of(scheme) for scheme in schemes}
        used = [scheme for scheme in schemes if any(keys[id(one)] in members[scheme] for one in top)]
        if len(used) < 2:
            return Outline(top, name=self._scheme_name(used[0]) if used else "")
        groups = [
            Concept(
                self._scheme_name(scheme), children=[one for one in top if keys[id(one)] in members[scheme]]
            )
            for scheme in used
        ]
        placed = {id(child) for group in groups for child in group.children}
        return Outline([*groups, *(one for one in top if id(one) not in placed)])

    def _scheme_name(self, scheme: Node) -> str:
        labels = self._in_language(self.graph.objects(scheme, self.skos.prefLabel))
        return clean_name(min(labels)) if labels else self._plain_name(scheme)

    def _tops_of(self, scheme: Node) -> set[str]:
        skos = self.skos
        found = {str(one) for one in self.graph.objects(scheme, skos.hasTopConcept)}
        for kind in (skos.topConceptOf, skos.inScheme):
            found |= {str(one) for one in self.graph.subjects(kind, scheme)}
        return found

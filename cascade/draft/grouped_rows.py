"""The outline of labelled rows: by the paths of their labels, or with groups proposed for flat ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cascade.draft.concepts import Concept, Outline, PathEntry, tree_of, walk
from cascade.draft.concepts import Path as LabelPath
from cascade.errors import DataError
from cascade.grouping.meaning import Encode
from cascade.grouping.proposal import propose_groups


def outline_of_rows(
    flat: Outline | None,
    texts: Sequence[str],
    paths: Sequence[Sequence[LabelPath]],
    n_groups: int | None,
    source: str = "",
    others: Sequence[Sequence[LabelPath]] = (),
    encode: Encode | None = None,
) -> Outline:
    """The labels of rows in groups, each with the number of rows that carry it.

    Parameters
    ----------
    flat
        Labels in no group, of which there need be no rows.
    n_groups
        How many groups are to be proposed; labels with paths have theirs.
    others
        Labels of rows for tests, which count no rows here and whose texts are not looked at.
    encode
        An encoder that helps to propose groups.

    Raises
    ------
    DataError
        There are no labels, or a path has an empty part.
    """
    counts = Counter(path for own in paths for path in own)
    if not counts and flat is None:
        raise DataError(f"{source}: no labels found: no row carries one")
    counts.update({path: 0 for own in others for path in own if path not in counts})
    if any(len(path) > 1 for path in counts):
        return _of_paths(counts, source)
    known = flat or Outline([Concept(path[0]) for path in counts])
    return _proposed(known, texts, [[path[0] for path in own] for own in paths], n_groups, encode)


def _of_paths(counts: Counter[LabelPath], source: str) -> Outline:
    """Groups as the paths have them; a row may carry a group alone."""
    top = tree_of(PathEntry(path, source) for path in sorted(counts))
    below: Counter[LabelPath] = Counter()
    for path, count in counts.items():
        below.update({path[:depth]: count for depth in range(1, len(path) + 1)})
    for path, concept in walk(top):
        concept.rows = below[path]
    outline = Outline(top, told=["groups are those of the paths"])
    alone = [path[-1] for path, concept in walk(top) if concept.is_group and counts[path]]
    if alone:
        shown = ", ".join(alone[:5]) + (" ..." if len(alone) > 5 else "")
        outline.told.append(f"some rows carry a group alone, which teaches the router only: {shown}")
    return outline


def _proposed(
    flat: Outline,
    texts: Sequence[str],
    labels: Sequence[Sequence[str]],
    n_groups: int | None,
    encode: Encode | None,
) -> Outline:
    known = {concept.name: concept for concept in flat.top}
    proposal = propose_groups(texts, labels, n_groups=n_groups, more_labels=known, encode=encode)
    if texts:
        counts = Counter(name for own in labels for name in own)
        for name, concept in known.items():
            concept.rows = counts[name]
    groups = [
        Concept(name, children=[known[label] for label in own]) for name, own in proposal.groups.items()
    ]
    by = _by_what(has_texts=bool(texts), has_meaning=encode is not None)
    told = [*flat.told, _how(len(proposal.groups), len(proposal.alone), by)]
    return Outline([*groups, *(known[name] for name in proposal.alone)], flat.name, flat.description, told)


def _by_what(*, has_texts: bool, has_meaning: bool) -> str:
    meaning = "what they mean"
    if not has_texts:
        return f"the words of names and {meaning}" if has_meaning else "the words of names"
    words = "what texts and names have in common"
    return (
        f"{words}, {meaning} and which labels go together"
        if has_meaning
        else f"{words} and which labels go together"
    )


def _how(n_groups: int, n_alone: int, by: str) -> str:
    if not n_groups:
        return "no groups: there are too few labels, or they have nothing in common"
    one = "1 label is like no other and stands"
    lonely = one if n_alone == 1 else f"{n_alone:,} labels are like no others and stand"
    rest = f"; {lonely} at the top level" if n_alone else ""
    return f"groups are proposed, by {by}; --groups N asks for another number{rest}"

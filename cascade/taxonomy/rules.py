"""Rules for the groups and labels of a file together, a function for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from cascade.errors import Place, Problem, suggestion
from cascade.taxonomy.graph import find_cycles
from cascade.taxonomy.groups import GroupDraft, GroupReader
from cascade.taxonomy.reader import PlacedName, listed, on_line


def _check_labels_are_no_groups(found: GroupReader) -> None:
    for name, occurrences in found.occurrences.items():
        if name not in found.drafts:
            continue
        label, group = occurrences[0].place, found.drafts[name].place
        if label < group:
            message = f"group {name!r} has the name of a label{on_line(label)}"
        else:
            message = f"label {name!r} has the name of a group{on_line(group)}"
        found.reader.complain(max(label, group), f"{message}; rename one of them")


def _check_labels_agree(found: GroupReader) -> None:
    """A label that says different things in two groups is likely two labels by accident."""
    for name, occurrences in found.occurrences.items():
        for key in ("description", "threshold"):
            told = [each for each in occurrences if getattr(each, key) not in ("", None)]
            for each in told[1:]:
                if getattr(each, key) != getattr(told[0], key):
                    other = (
                        f"another {key} than in {found.drafts[told[0].group].title}{on_line(told[0].place)}"
                    )
                    found.reader.complain(
                        each.place, f"label {name!r} has {other}; keep one, or rename a label"
                    )


def _check_aliases(found: GroupReader) -> None:
    """An alias means one thing only, and never something that has that name itself."""
    owners: dict[str, tuple[str, Place]] = {}
    for owner, alias in _aliases(found):
        named = _place_of(found, alias.name)
        first, place = owners.setdefault(alias.name, (owner, alias.place))
        if named is not None and alias.name != owner:
            kind = "group" if alias.name in found.drafts else "label"
            clash = f"is also the name of a {kind}{on_line(named)}"
        elif first != owner:
            clash = f"is also an alias of {first!r}{on_line(place)}"
        else:
            continue
        found.reader.complain(alias.place, f"alias {alias.name!r} of {owner!r} {clash}; expected one meaning")


def _aliases(found: GroupReader) -> Iterator[tuple[str, PlacedName]]:
    for draft in found.drafts.values():
        yield from ((draft.name, alias) for alias in draft.aliases)
    for name, occurrences in found.occurrences.items():
        yield from ((name, alias) for each in occurrences for alias in each.aliases)


def _place_of(found: GroupReader, name: str) -> Place | None:
    if name in found.drafts:
        return found.drafts[name].place
    return found.occurrences[name][0].place if name in found.occurrences else None


def _join_also_in(found: GroupReader) -> None:
    """Makes each group a child of the groups that it is also in, and complains of names that are none."""
    for draft in found.drafts.values():
        for named in draft.also_in:
            parent = found.drafts.get(named.name)
            if parent is None:
                _complain_of_unknown_group(found, draft, named)
            elif draft.name in parent.children:
                message = (
                    f"also_in of {draft.title} names {named.name!r}, which it is in already; take it out"
                )
                found.reader.complain(named.place, message)
            else:
                parent.children.append(draft.name)


def _complain_of_unknown_group(found: GroupReader, draft: GroupDraft, named: PlacedName) -> None:
    if named.name in found.occurrences:
        why = "which is a label; expected a group."
    else:
        hint = suggestion(named.name, [name for name in found.drafts if name])
        why = f"which is not defined; expected a group.{hint}"
    found.reader.complain(named.place, f"also_in of {draft.title} names {named.name!r}, {why}")


def _check_cycles(found: GroupReader) -> None:
    for cycle in find_cycles(_group_edges(found)):
        # Nesting alone makes no cycle, so that at least one of its edges is an also_in.
        steps = itertools.pairwise(cycle)
        guilty = (at for above, below in steps for at in found.drafts[below].also_in if at.name == above)
        path = " -> ".join(cycle)
        found.reader.complain(next(guilty).place, f"groups form a cycle: {path}; take out this also_in")


def _group_edges(found: GroupReader) -> dict[str, list[str]]:
    """Group -> groups in it; names that are also those of labels do not confuse it."""
    edges: dict[str, list[str]] = {name: [] for name in found.drafts}
    for draft in found.drafts.values():
        for above in dict.fromkeys([draft.within, *(named.name for named in draft.also_in)]):
            if above in edges:
                edges[above].append(draft.name)
    return edges


def _check_groups_have_children(found: GroupReader) -> None:
    for draft in found.drafts.values():
        if draft.sound and not draft.children:
            what = f"{draft.title} has no labels and no groups"
            found.reader.complain(draft.place, f"{what}; expected for instance labels: [refund]")


def several_parents(found: GroupReader) -> Iterator[Problem]:
    for name, occurrences in found.occurrences.items():
        if len(occurrences) > 1:
            groups = [f"{each.group or 'the top level'}{on_line(each.place)}" for each in occurrences]
            count = "two" if len(occurrences) == 2 else str(len(occurrences))
            message = f"label {name!r} stands in groups {listed(groups)}: one label with {count} parents"
            yield Problem(occurrences[-1].place, message)


def check_whole(found: GroupReader) -> None:
    _check_labels_are_no_groups(found)
    _check_labels_agree(found)
    _check_aliases(found)
    _join_also_in(found)
    _check_cycles(found)
    _check_groups_have_children(found)

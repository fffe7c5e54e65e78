"""Rules for the groups and labels of a file together, a function for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

from cascade.errors import Place, Problem, suggestion
from cascade.taxonomy.graph import find_cycles
from cascade.taxonomy.groups import GroupDraft, GroupReader, Occurrence, two_by_path
from cascade.taxonomy.names import any_of
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
        others = two_by_path(_are_told_apart(found, [each.group for each in occurrences], name))
        found.reader.complain(max(label, group), f"{message}; rename one of them{others}")


def _are_told_apart(found: GroupReader, parents: Iterable[str], *others: str) -> bool:
    """Whether plain names of which one is in `parents` would differ from `others` if they were paths."""
    above = set().union(*(found.parents_of(other) for other in others))
    return found.names == "plain" and above.isdisjoint(parents)


def _check_labels_agree(found: GroupReader) -> None:
    """A label that says different things in two groups is likely two labels by accident."""
    for occurrences in found.occurrences.values():
        for key in ("description", "threshold"):
            told = [each for each in occurrences if getattr(each, key) not in ("", None)]
            for each in told[1:]:
                if getattr(each, key) != getattr(told[0], key):
                    other = (
                        f"another {key} than in {found.drafts[told[0].group].title}{on_line(told[0].place)}"
                    )
                    way_out = f"keep one, or rename a label{two_by_path(found.names == 'plain')}"
                    found.reader.complain(each.place, f"{each.title} has {other}; {way_out}")


def _check_aliases(found: GroupReader) -> None:
    """An alias means one thing only, and never something that has that name itself.

    Where names are paths this holds for what stands in one group.
    """
    names = {path: name for name in found.all_names for path in found.called(name, found.last_name(name))}
    owners: dict[str, tuple[str, Place]] = {}
    for owner, alias in _aliases(found):
        for path in found.called(owner, alias.name):
            first, place = owners.setdefault(path, (owner, alias.place))
            named = names.get(path, owner)
            if named != owner:
                kind = "group" if named in found.drafts else "label"
                _complain_of_alias(found, owner, alias, named, f"the name of a {kind}", found.place_of(named))
            elif first != owner:
                _complain_of_alias(found, owner, alias, first, f"an alias of {first!r}", place)


def _complain_of_alias(
    found: GroupReader, owner: str, alias: PlacedName, other: str, clash: str, place: Place
) -> None:
    way_out = f"expected one meaning{two_by_path(_are_told_apart(found, found.parents_of(owner), other))}"
    message = f"alias {alias.name!r} of {owner!r} is also {clash}{on_line(place)}"
    found.reader.complain(alias.place, f"{message}; {way_out}")


def _aliases(found: GroupReader) -> Iterator[tuple[str, PlacedName]]:
    return ((member.name, alias) for member in found.members for alias in member.aliases)


def _join_also_in(found: GroupReader) -> None:
    """Makes each group and label a child of the groups that it is also in.

    Complains of names that are none, and of a name that such a group has already.
    """
    for member in found.members:
        for named in member.also_in:
            parent = found.group_meant(named.name)
            if parent is None:
                _complain_of_unknown_group(found, member, named)
            elif fault := _reason_not_to_join(found, member, parent):
                message = f"also_in of {member.title} names {named.name!r}, which {fault}"
                found.reader.complain(named.place, message)
            else:
                parent.children.append(member.name)


def _reason_not_to_join(found: GroupReader, member: GroupDraft | Occurrence, parent: GroupDraft) -> str:
    if member.name in parent.children:
        return "it is in already; take it out"
    called_so = (child for child in parent.children if found.last_name(child) == member.last_name)
    twin = next(called_so, None) if found.names == "path" else None
    if twin is None:
        return ""
    return f"has another {member.last_name!r}{on_line(found.place_of(twin))}; rename one of them"


def _complain_of_unknown_group(
    found: GroupReader, member: GroupDraft | Occurrence, named: PlacedName
) -> None:
    if named.name in found.occurrences:
        why = "which is a label; expected a group."
    elif found.names == "path" and (meant := found.group_paths.candidates(named.name)):
        why = f"which may be {any_of(meant)}; write the path."
    else:
        hint = (
            suggestion(named.name, [name for name in found.drafts if name])
            if found.names == "plain"
            else found.group_paths.suggest(named.name)
        )
        why = f"which is not defined; expected a group.{hint}"
    found.reader.complain(named.place, f"also_in of {member.title} names {named.name!r}, {why}")


def _check_cycles(found: GroupReader) -> None:
    for cycle in find_cycles(_group_edges(found)):
        # Nesting alone makes no cycle, so that at least one of its edges is an also_in.
        steps = itertools.pairwise(cycle)
        guilty = (
            at
            for above, below in steps
            for at in found.drafts[below].also_in
            if found.group_meant(at.name) is found.drafts[above]
        )
        path = " -> ".join(cycle)
        found.reader.complain(next(guilty).place, f"groups form a cycle: {path}; take out this also_in")


def _group_edges(found: GroupReader) -> dict[str, list[str]]:
    """Group -> groups in it; names that are also those of labels do not confuse it."""
    edges: dict[str, list[str]] = {name: [] for name in found.drafts}
    for name in found.drafts:
        for above in found.parents_of(name) if name else ():
            edges[above].append(name)
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


def check_tiers(found: GroupReader, looks: Sequence[str]) -> None:
    """Whole rows are handed on from look to look, or those of groups from tier to tier: not both."""
    for draft in found.drafts.values():
        above = found.drafts.get(draft.within) if draft.within is not None else None
        is_own = above is None or draft.settings.escalate != above.settings.escalate
        if looks and draft.settings.escalate and is_own:
            whose = "`defaults`" if above is None else draft.title
            found.reader.complain(
                draft.place,
                f"{whose} has `escalate`, and so has the top level, where whole rows are handed on; "
                "keep one of them",
            )


def check_whole(found: GroupReader) -> None:
    _check_labels_are_no_groups(found)
    _check_labels_agree(found)
    _check_aliases(found)
    _join_also_in(found)
    _check_cycles(found)
    _check_groups_have_children(found)

"""Rules for the shape of the taxonomy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

from cascade.backends import KINDS, base_of, encoder_of
from cascade.checks.findings import SHOWN_NAMES, SHOWN_ROWS, Finding, Severity, counted, first_few, listed
from cascade.checks.subject import Subject, labels_of, line_of, one_line, quoted
from cascade.hosted.codecs import MOST_INDICATORS
from cascade.hosted.prices import Prices
from cascade.hosted.shutdowns import Shutdown, shutdowns_of
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.members import Group

_UNBALANCED_SHARE = 0.8
_UNBALANCED_LEAST_ROWS = 20
_LARGE_GROUP = 60
_SOON_DAYS = 90


def several_parents(subject: Subject) -> Iterator[Finding]:
    """Labels that stand in several groups, which may be an accident."""
    notes = subject.taxonomy.notes
    yield from listed(
        "several-parents",
        "advice",
        notes,
        f"{counted(len(notes), 'label stands', 'labels stand')} in several groups",
        lambda note: f"{line_of(note.place)}: {one_line(note.message)}",
        "Right if it is one label that belongs to both; else give each its own name, or write `names: path`.",
    )


def absent_encoder(subject: Subject) -> Iterator[Finding]:
    """Encoders that are not on this machine, so that nothing can be fitted."""
    from cascade.encoders import store  # who has words alone needs none of it
    from cascade.encoders.settings import TO_TRAIN

    options = [group.backend.options for group in subject.taxonomy.groups.values()]
    here = store.names()
    absent = sorted({name for one in options if (name := encoder_of(one)) is not None and name not in here})
    yield from listed(
        "absent-encoder",
        "error",
        absent,
        f"{counted(len(absent), 'encoder is', 'encoders are')} not on this machine",
        quoted,
        "Run: cascade encoders get NAME. `cascade encoders` lists those that can be had.",
    )
    bases = sorted(
        {name for one in options if (name := base_of(one)) is not None and name + TO_TRAIN not in here}
    )
    yield from listed(
        "absent-encoder",
        "error",
        bases,
        f"the weights of {counted(len(bases), 'encoder', 'encoders')} to train are not on this machine",
        quoted,
        "Run: cascade encoders get NAME --to-train.",
    )


def large_group(subject: Subject) -> Iterator[Finding]:
    """Groups with more than sixty children."""
    large = [group for group in _sized(subject) if len(group.children) > _LARGE_GROUP]
    yield from listed(
        "large-group",
        "advice",
        large,
        f"{counted(len(large), 'group has', 'groups have')} more than {_LARGE_GROUP} children",
        lambda group: f"{subject.named(group.name)}: {counted(len(group.children), 'child', 'children')}",
        "Split them into groups of what belongs together: faster, and often better.",
    )


def large_hosted_group(subject: Subject) -> Iterator[Finding]:
    """Hosted groups with so many children that their model has to write names instead of a digit for each."""
    large = [
        group
        for group in _sized(subject)
        if group.name in subject.hosted and not KINDS[group.backend.kind].prompted
        if group.choose == "many" and len(group.children) > MOST_INDICATORS
    ]
    yield from listed(
        "large-hosted-group",
        "advice",
        large,
        f"{counted(len(large), 'hosted group has', 'hosted groups have')} more than {MOST_INDICATORS} "
        "children: their models answer with names, without a probability for each child",
        lambda group: f"{subject.named(group.name)}: {counted(len(group.children), 'child', 'children')}",
        "Split them into groups of what belongs together.",
    )


def model_ends(subject: Subject) -> Iterator[Finding]:
    """Hosted models that can be tuned or asked for ninety more days at most."""
    prices, last = Prices.load(), subject.today + timedelta(days=_SOON_DAYS)
    users: dict[Shutdown, list[str]] = defaultdict(list)
    for name, settings in subject.hosted.items():
        for ending in shutdowns_of(settings, prices, subject.told):
            if ending.day <= last:
                users[ending].append(name)
    if users:
        yield Finding(
            "model-ends",
            "warning",
            f"{counted(len({ending.model for ending in users}), 'hosted model')} will end within "
            f"{_SOON_DAYS} days, or {'has' if len(users) == 1 else 'have'} ended",
            len(users),
            tuple(first_few([_shutdown_of(subject, *one) for one in users.items()], len(users))),
            "Use a service that goes on, by `base_url`; or the embedded model, `backend: linear`.",
        )


def _shutdown_of(subject: Subject, ending: Shutdown, groups: Sequence[str]) -> str:
    what = {"training": "no new fine-tunes", "answers": "no answers"}[ending.what]
    names = ", ".join(first_few([subject.named(name) for name in groups[:SHOWN_NAMES]], len(groups)))
    return f"{ending.model} at {ending.address}: {what} after {ending.day}; for {names}"


def _sized(subject: Subject) -> list[Group]:
    return sorted(subject.taxonomy.groups.values(), key=lambda group: -len(group.children))


def single_child(subject: Subject) -> Iterator[Finding]:
    """Groups with one child, which decide nothing."""
    single = [group for group in subject.taxonomy.groups.values() if len(group.children) == 1]
    yield from listed(
        "single-child",
        "advice",
        single,
        f"{counted(len(single), 'group has', 'groups have')} one child only",
        lambda group: f"{subject.named(group.name)}: only {quoted(group.children[0])}",
        "Put the child in place of the group unless more will join it: such a group decides nothing.",
    )


def unbalanced_group(subject: Subject) -> Iterator[Finding]:
    """Routers, and groups that choose one child, of which one child has nearly all rows."""
    routers: list[str] = []
    facets: list[str] = []
    for group in subject.taxonomy.groups.values():
        if lopsided := _lopsided(subject, group):
            (routers if _is_router(subject, group) else facets).append(lopsided)
    if routers:
        kind = counted(len(routers), "router has", "routers have")
        advice = "Split the large child, or join the small ones: such a router decides little."
        yield _unbalanced("warning", kind, routers, advice)
    if facets:
        kind = counted(len(facets), "group that chooses one child has", "groups that choose one child have")
        advice = "Look at macro F1 of the others: always giving the same answer would seem good."
        yield _unbalanced("advice", kind, facets, advice)


def _unbalanced(severity: Severity, groups: str, shown: Sequence[str], advice: str) -> Finding:
    message = f"{groups} over {_UNBALANCED_SHARE:.0%} of the rows in one child"
    examples = tuple(first_few(shown, len(shown)))
    return Finding("unbalanced-group", severity, message, len(shown), examples, advice)


def _is_router(subject: Subject, group: Group) -> bool:
    return any(child in subject.taxonomy.groups for child in group.children)


def _lopsided(subject: Subject, group: Group) -> str:
    """What is wrong with a router or facet, an empty string where nothing is."""
    routed = [child for child in group.children if not _is_always_asked(subject, child)]
    if len(routed) < 2 or not (_is_router(subject, group) or group.choose == "one"):
        return ""
    among = frozenset(routed)
    reached = sum(
        len(rows)
        for names, rows in subject.by_labels.items()
        if not among.isdisjoint(subject.taxonomy.graph.closure(names))
    )
    top = max(routed, key=lambda child: subject.rows_with.get(child, 0))
    taken = subject.rows_with.get(top, 0)
    if reached < _UNBALANCED_LEAST_ROWS or taken <= _UNBALANCED_SHARE * reached:
        return ""
    return f"{subject.named(group.name)}: {quoted(top)} has {taken:,} of {counted(reached, 'row')}"


def _is_always_asked(subject: Subject, child: str) -> bool:
    group = subject.taxonomy.groups.get(child)
    return group is not None and group.route == "always"


def several_of_one(subject: Subject) -> Iterator[Finding]:
    """Rows that carry several children of a group that chooses one, one finding for each such group."""
    for group in subject.taxonomy.groups.values():
        if group.choose != "one":
            continue
        torn = [
            row
            for names, rows in subject.by_labels.items()
            if _needs_several(subject.taxonomy, group.name, names)
            for row in rows
        ]
        if torn:
            shown = [f"{subject.at(row)}: {labels_of(row.labels)}" for row in torn[:SHOWN_ROWS]]
            yield Finding(
                "several-of-one",
                "warning",
                f"{counted(len(torn), 'training row carries', 'training rows carry')} several children of"
                f" {subject.named(group.name)}, which chooses one",
                len(torn),
                tuple(first_few(shown, len(torn), SHOWN_ROWS)),
                "Correct the rows, or write `choose: many` at the group.",
            )


def _needs_several(taxonomy: Taxonomy, group: str, names: Sequence[str]) -> bool:
    """Whether no single child of the group accounts for all names that stand in it."""
    if len(names) < 2:
        return False
    children = frozenset(taxonomy.groups[group].children)
    reached = [children & taxonomy.graph.closure([name]) for name in names]
    inside = [some for some in reached if some]
    return bool(inside) and not frozenset.intersection(*inside)

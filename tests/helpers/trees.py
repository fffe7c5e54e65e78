"""Taxonomies and manifests for the tests of what is drawn of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import strategies as st

from cascade.model.folder import GroupRecord, Manifest
from cascade.taxonomy.definition import Taxonomy

SHOP = {
    "name": "shop",
    "description": "What customers say.",
    "labels": ["spam"],
    "groups": {
        "billing": {
            "description": "Money.",
            "threshold": {"precision": 0.9},
            "labels": [{"name": "refund", "description": "Money\nback."}, "vat"],
        },
        "delivery": {
            "labels": ["late", {"name": "broken", "threshold": 0.4}, "refund"],
            "groups": {"courier": {"also_in": ["billing"], "negatives": "all", "labels": ["rude", "kind"]}},
        },
        "mood": {"choose": "one", "route": "always", "labels": ["happy", "angry"]},
    },
}


def a_shop():
    return Taxonomy.from_dict(SHOP)


def manifest_of(taxonomy, **changes):
    """A manifest in which the n-th label has 5 n rows and an F1 of n / 10."""
    labels = taxonomy.graph.labels
    rows = {label: 5 * place for place, label in enumerate(labels)}
    groups = {}
    for group in taxonomy.graph.groups:
        children = taxonomy.scored_children(group)
        groups[group] = GroupRecord(
            backend={"kind": "linear", "C": 1.0},
            node="0" * 64,
            files={},
            negatives="siblings",
            slopes=(1.0,) * len(children),
            offsets=(0.0,) * len(children),
            route_threshold=0.0125,
            rows=1234,
            positives=tuple(rows.get(child, 600) for child in children),
        )
    manifest = Manifest(
        taxonomy=taxonomy.to_dict(),
        nodes=taxonomy.graph.nodes,
        groups=groups,
        thresholds=dict.fromkeys(labels, 0.25),
        metrics={"f1": {label: place / 10 for place, label in enumerate(labels)}},
        suspicious=(),
        seed=0,
        versions={},
    )
    return replace(manifest, **changes)


HOSTILE = (
    "end", "graph", "subgraph", "digraph", "node", "strict", "click", "default", "1. list", "- item",
    '"', '"quoted"', "it's", "`md`", "[b](c){d}", "a --> b", "a -> b;", "%% c", "%%{init: {}}%%",
    "back\\slash", "\\",
    "\\N", "\\n", "<b>bold</b>", "</script><script>alert(1)</script>", "<!--", "]]>", "&lt;", "&amp;quot;",
    "#35;",
    "#quot;", "日本語", "😀 smile", "e\u0301", "\u202eright", "a  b",
    "@{shape: x}", "$$x$$", "${name}", "$title",
)  # fmt: skip
HOSTILE_NAMES = st.sampled_from(HOSTILE)


@st.composite
def taxonomies(draw, names=HOSTILE_NAMES):
    """Taxonomies of up to six groups, any of which may have several parents, and of up to twelve labels."""
    n_groups, n_labels = draw(st.integers(1, 6)), draw(st.integers(0, 6))
    called = draw(
        st.lists(names, min_size=2 * n_groups + n_labels, max_size=2 * n_groups + n_labels, unique=True)
    )
    groups, own, shared = called[:n_groups], called[n_groups : 2 * n_groups], called[2 * n_groups :]
    bodies = {group: {"labels": [label], "groups": {}} for group, label in zip(groups, own, strict=True)}
    top = {"name": draw(st.sampled_from(["top", *filter(str.isalnum, groups)])), "labels": [], "groups": {}}
    for place, group in enumerate(groups):
        above = draw(st.lists(st.sampled_from(["", *groups[:place]]), min_size=1, max_size=3, unique=True))
        (bodies[above[0]] if above[0] else top)["groups"][group] = bodies[group]
        if others := [one for one in above[1:] if one]:
            bodies[group]["also_in"] = others
    for label in shared:
        for group in draw(st.lists(st.sampled_from(["", *groups]), min_size=1, max_size=3, unique=True)):
            (bodies[group] if group else top)["labels"].append(label)
    return Taxonomy.from_dict(_without_empty(top))


def expected_edges(taxonomy):
    """Each edge of the graph once, by names; the root has that of the taxonomy."""
    graph = taxonomy.graph
    return Counter(
        (group or taxonomy.name, child) for group in graph.groups for child in graph.children[group]
    )


def expected_nodes(taxonomy):
    """Each name as often as it has parents."""
    graph = taxonomy.graph
    return Counter([taxonomy.name, *(name for name in graph.nodes for _ in graph.parents[name])])


def _without_empty(body):
    plain = {key: value for key, value in body.items() if value}
    if "groups" in plain:
        plain["groups"] = {name: _without_empty(one) for name, one in plain["groups"].items()}
    return plain

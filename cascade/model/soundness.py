"""Whether a manifest makes sense, and what its numbers stand for."""

from __future__ import annotations

import numpy as np

from cascade.model.contests import contest_of
from cascade.model.folder import GroupRecord, Manifest, SecondModel
from cascade.model.looks import NO_DOUBT, manifest_of_first
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.graph import ROOT
from cascade.validation.calibration import Calibration
from cascade.validation.combination import Combination

# Beyond the slope and offset of any calibration.
STEEPEST = 1e6


def calibration_of(record: GroupRecord | SecondModel) -> Calibration:
    """The calibration of a node model."""
    return Calibration(np.array(record.slopes, dtype=float), np.array(record.offsets, dtype=float))


def combination_of(manifest: Manifest) -> Combination:
    """How its probabilities are combined; ValueError, TypeError or KeyError where that makes no sense."""
    found = manifest.combination
    return Combination.product() if found is None else Combination.from_dict(found)


def check_against(taxonomy: Taxonomy, manifest: Manifest) -> None:
    """ValueError where manifest and taxonomy do not agree."""
    graph = taxonomy.graph
    if manifest.nodes != graph.nodes:
        raise ValueError("its nodes are not those of its taxonomy")
    needed = {group for group in graph.groups if taxonomy.scored_children(group)}
    if set(manifest.groups) != needed:
        raise ValueError("its groups are not those of its taxonomy")
    backing = [group for group in graph.groups if group != ROOT and taxonomy.groups[group].back_off]
    for name in (*graph.labels, *backing):
        _check_within(0, manifest.thresholds[name], 1)
    _check_within(0, manifest.least_known or 0, 1)
    for group, record in manifest.groups.items():
        _check_record(group, record, taxonomy)
    combination_of(manifest)
    if not set(manifest.exclusive) <= set(contest_of(taxonomy).values()):
        raise ValueError("its contests are not those of its taxonomy")


def check_verification(taxonomy: Taxonomy, manifest: Manifest) -> None:
    """ValueError where a second pass is not that of the taxonomy."""
    found, spec = manifest.verification, taxonomy.verify
    if found is None:
        return
    if spec is None or found.backend != {"kind": spec.backend.kind, **spec.backend.options}:
        raise ValueError("what it asks about doubtful labels is not what its taxonomy says")
    pairs = (*((one, other) for one, other, _ in found.confused), *found.apart)
    named = {*found.label_weights, *(label for pair in pairs for label in pair)}
    if not named <= set(taxonomy.graph.labels):
        raise ValueError("it doubts labels that are not in its taxonomy")
    for weight in (*found.weights, *found.label_weights.values()):
        _check_within(-STEEPEST, weight, STEEPEST)
    _check_within(0, found.least_doubt, 1)


def check_first_look(cheaper: Taxonomy | None, manifest: Manifest) -> None:
    """ValueError where a first look and the taxonomy of its tier do not agree; None has no such tier."""
    first, look = manifest_of_first(manifest), manifest.first_look
    if first is None or look is None:
        return
    if cheaper is None:
        raise ValueError(f"it has a look by {look.tier} alone, and nothing dearer that would be a second one")
    check_against(cheaper, first)
    if look.doubt != NO_DOUBT:
        _check_within(0, look.doubt, len(manifest.nodes))
    _check_within(0, look.share, 1)


def _check_record(group: str, record: GroupRecord, taxonomy: Taxonomy) -> None:
    spec = taxonomy.backend_of(group)
    if record.backend not in ({"kind": "constant"}, {"kind": spec.kind, **spec.options}):
        raise ValueError(f"group {group!r} has another backend than in its taxonomy")
    n_children = len(taxonomy.scored_children(group))
    _check_within(0, record.route_threshold, 1)
    models: list[GroupRecord | SecondModel] = [record]
    if record.second is not None:
        models.append(record.second)
    lengths = {len(record.positives), *(len(each) for one in models for each in (one.slopes, one.offsets))}
    if lengths != {n_children}:
        raise ValueError(f"group {group!r} has {n_children} children and other numbers of calibrations")
    for one in models:
        for slope, offset in zip(one.slopes, one.offsets, strict=True):
            _check_within(0, slope, STEEPEST)
            _check_within(-STEEPEST, offset, STEEPEST)


def _check_within(least: float, value: float, most: float) -> None:
    if not least <= value <= most:  # nor does NaN pass
        raise ValueError(f"expected a number from {least:g} to {most:g}, found {value!r}")

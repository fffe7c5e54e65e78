"""Which tier of each group answered a text, where groups have several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cascade.errors import ModelError
from cascade.model.folder import Manifest
from cascade.model.walk import Walked
from cascade.nodes.contract import Escalating, NodeModel
from cascade.predict.look import Look
from cascade.taxonomy.settings import TIERS_OPTION
from cascade.text.texts import Texts

DOUBT = "doubt"
"""Among the notes of a group: up to where its tier before the last answers, if not as it was fitted."""


def as_tuned(nodes: Mapping[str, NodeModel], manifest: Manifest) -> dict[str, NodeModel]:
    """The models of groups, which hand on as the notes in a manifest say; ModelError where that cannot be."""
    found = dict(nodes)
    for group, record in manifest.groups.items():
        if DOUBT not in record.notes:
            continue
        node, doubt = nodes[group], record.notes[DOUBT]
        is_number = isinstance(doubt, int | float) and not isinstance(doubt, bool)
        if not isinstance(node, Escalating) or len(node.tiers) == 1 or not is_number:
            raise ModelError(
                f"group {group!r}: expected tiers, and a number for {DOUBT}, found {doubt!r}. Run "
                "`cascade fit` again."
            )
        found[group] = node.with_doubt(float(doubt))
    return found


def tiers_of(look: Look, texts: Texts, walked: Walked) -> dict[str, dict[int, str]]:
    """For each group with several tiers the one that answered each text that entered it, by position.

    The cheaper ones look at these texts once more; no service is asked.
    """
    found: dict[str, dict[int, str]] = {}
    for group, block in walked.blocks.items():
        record = look.manifest.groups.get(group)
        if record is None or TIERS_OPTION not in record.backend:
            continue
        node = look.node(group)
        if isinstance(node, Escalating) and len(node.tiers) > 1:
            answered_by = node.answered_by(texts.take(block.rows)).tolist()
            names = [node.tiers[place] for place in answered_by]
            found[group] = dict(zip(block.rows.tolist(), names, strict=True))
    return found


def handed_on(node: Escalating, texts: Texts) -> int:
    """How many of the texts get to the last tier."""
    return int(np.count_nonzero(node.answered_by(texts) == len(node.tiers) - 1))


def last_of(node: NodeModel) -> NodeModel:
    """The model of the last tier, or the model itself."""
    return node.last if isinstance(node, Escalating) else node

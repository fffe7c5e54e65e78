"""What handing on more or fewer questions of groups with tiers wins, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cascade.errors import DataError, ModelError
from cascade.learn.truth import Cells
from cascade.measure.tuning import A_THOUSAND, SHARES, Curve, Floats, Point, bound_of, f1_of
from cascade.model.folder import Manifest, locked, read_manifest, write_manifest
from cascade.model.looks import NO_DOUBT
from cascade.model.walk import Walked
from cascade.nodes.contract import Escalating, NodeModel, RowsError
from cascade.predict.forecast import forecast
from cascade.predict.look import Look, Looks
from cascade.predict.tiers import DOUBT
from cascade.system.array_types import FloatArray
from cascade.text.texts import Texts


@dataclass(frozen=True)
class GroupPoint(Point):
    """What comes of handing on some of the questions of groups with tiers to their last one.

    `share` is that of all these questions, and `doubt` has no meaning.

    Attributes
    ----------
    doubts
        Of each group the greatest doubt at which the answer of the tier before the last stands.
    tiers
        Of each group the share of the texts that entered it that each tier answers, by its name.
    """

    doubts: Mapping[str, float] = field(default_factory=dict)
    tiers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def tiered_groups(look: Look) -> dict[str, Escalating]:
    """The models of the groups that have several tiers."""
    found = {}
    for group in look.manifest.groups:
        node = look.node(group)
        if isinstance(node, Escalating) and len(node.tiers) > 1:
            found[group] = node
    return found


def group_tuning_curve(
    look: Look, texts: Sequence[str], truth: Cells, clock: Callable[[], float] = time.perf_counter
) -> Curve:
    """What handing on wins and takes, by rows with their labels; its points are `GroupPoint`s.

    Of the texts that enter a group the same share is handed on at each. Each is answered by the last tier
    once, for all points, and that is timed; what services answered before takes hardly any time, and is
    priced as if it had to be asked.

    Parameters
    ----------
    truth
        A column for each of `Graph.labels`.

    Raises
    ------
    DataError
        There are no rows.
    """
    if not len(texts):
        raise DataError("no rows: nothing tells what handing on would win")
    batch, trial = Texts(list(texts)), _Trial(look, tiered_groups(look))
    started = clock()
    walked = trial.with_doubts(dict.fromkeys(trial.nodes, NO_DOUBT)).walk(batch)
    dear = clock() - started
    doubts = trial.doubts(walked, batch)
    found = []
    for share in SHARES:
        bounds = {
            group: bound_of(one, np.argsort(-one, kind="stable"), share)[0] for group, one in doubts.items()
        }
        changed = trial.with_doubts(bounds)
        started = clock()
        walked = changed.walk(batch)
        chosen = changed.decide(walked)
        seconds = clock() - started
        micro, macro = f1_of(chosen[:, -truth.n_columns :], truth.dense())
        tiers, handed_on = _tiers(changed, walked, batch)
        usd = forecast(Looks([trial.asking(bounds)]), texts).usd if look.asks_services else 0.0
        found.append((seconds, GroupPoint(handed_on, NO_DOUBT, micro, macro, 0.0, usd, bounds, tiers)))
    cheap = found[0][0]
    points = {
        point.share: replace(
            point,
            seconds=(cheap + max(dear - cheap, 0.0) * point.share) / len(texts) * A_THOUSAND,
            usd=None if point.usd is None else point.usd / len(texts) * A_THOUSAND,
        )
        for _, point in found
    }
    ordered = sorted(points.values(), key=lambda point: point.share)
    as_it_is = trial.with_doubts({})
    return Curve(tuple(ordered), len(texts), _tiers(as_it_is, as_it_is.walk(batch), batch)[1])


def set_group_doubts(folder: Path, manifest: Manifest, point: GroupPoint) -> Manifest:
    """Have the groups of a model folder hand on as at a point; the manifest that it has then.

    Raises
    ------
    ModelError
        Another model stands there by now, or a fit is writing to it.
    """
    with locked(folder):
        if read_manifest(folder) != manifest:
            raise ModelError(f"{folder}: another model was written here meanwhile. Run the command again")
        groups = dict(manifest.groups)
        for group, doubt in point.doubts.items():
            # What was lost is no longer what the fit found.
            notes = {name: one for name, one in groups[group].notes.items() if name != "lost"}
            notes["tiers"] = {**notes.get("tiers", {}), **point.tiers.get(group, {})}
            groups[group] = replace(groups[group], notes={**notes, DOUBT: doubt})
        found = replace(manifest, groups=groups)
        write_manifest(folder, found)
        return found


class _Trial:
    """A look whose groups hand on at doubts that are tried, and ask about no text twice."""

    def __init__(self, look: Look, nodes: Mapping[str, Escalating]) -> None:
        self.nodes = nodes
        self._look = look
        self._asked_once = {group: node.with_last(AskedOnce(node.last)) for group, node in nodes.items()}

    def with_doubts(self, bounds: Mapping[str, float]) -> Look:
        """The look with these bounds, and the others as they are."""
        changed = {
            group: node.with_doubt(bounds[group])
            for group, node in self._asked_once.items()
            if group in bounds
        }
        return self._look.with_nodes({**self._asked_once, **changed})

    def asking(self, bounds: Mapping[str, float]) -> Look:
        """The same as it would ask."""
        return self._look.with_nodes(
            {group: self.nodes[group].with_doubt(one) for group, one in bounds.items()}
        )

    def doubts(self, walked: Walked, batch: Texts) -> dict[str, Floats]:
        """How much each group doubts the texts that entered it, where there are some."""
        entered = {group: walked.blocks[group].rows for group in self.nodes if group in walked.blocks}
        return {
            group: self.nodes[group].doubts(batch.take(rows)) for group, rows in entered.items() if len(rows)
        }


class AskedOnce:
    """Asks a model about each text once; a text without an answer has NaN."""

    def __init__(self, model: NodeModel) -> None:
        self._model = model
        self._known: dict[str, FloatArray] = {}

    def scores(self, texts: Texts) -> FloatArray:
        """As those of the model, float32, shape (n_texts, n_children)."""
        if not len(texts):
            return self._model.scores(texts)
        new = {text: row for row, text in enumerate(texts) if text not in self._known}
        if new:
            rows = np.array(list(new.values()))
            try:
                answers = self._model.scores(texts.apart(rows))
            except RowsError as error:
                answers = error.scores
            self._known |= dict(zip(new, answers, strict=True))
        return np.stack([self._known[text] for text in texts])

    def save(self, folder: Path) -> None:
        """As the model."""
        self._model.save(folder)


def _tiers(look: Look, walked: Walked, batch: Texts) -> tuple[dict[str, dict[str, float]], float]:
    """Of each group which share of its texts each tier answers, and the share of all that are handed on."""
    shares, last, total = {}, 0, 0
    for group, node in tiered_groups(look).items():
        rows = walked.blocks[group].rows if group in walked.blocks else np.empty(0, dtype=np.int64)
        if not len(rows):
            continue
        counts = np.bincount(node.answered_by(batch.take(rows)), minlength=len(node.tiers))
        shares[group] = {
            name: round(float(count / len(rows)), 4) for name, count in zip(node.tiers, counts, strict=True)
        }
        last, total = last + int(counts[-1]), total + len(rows)
    return shares, last / total if total else 0.0

"""What asking services about the texts of a file would take and cost, before any is asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.hosted.backend import HostedModel
from cascade.hosted.prices import Prices
from cascade.hosted.tokens import of_answer, of_request
from cascade.model.folder import GroupRecord, Manifest
from cascade.model.verification import IN_DOUBT
from cascade.model.walk import Walked
from cascade.nodes.contract import Escalating, GroupDescription, NodeModel, sampled
from cascade.predict.look import Look, Looks
from cascade.predict.tiers import handed_on, last_of
from cascade.predict.verifying import Verifier
from cascade.prompt.model import PromptModel
from cascade.prompt.pricing import QuestionPrice, price_of
from cascade.system.array_types import FloatArray
from cascade.taxonomy.definition import Taxonomy
from cascade.text.texts import Texts

# So many texts tell where embedded models lead the others, and so many what a question takes.
MOST_WALKED, _MOST_PRICED = 2_000, 100
ENTERED = 1.5
"""Where no row tells how many children a text has at a group, so many are reckoned with."""


@dataclass(frozen=True)
class AskedGroup:
    """What is asked at a group.

    Attributes
    ----------
    group
        Its name.
    share
        Of the texts those that are asked about there, as far as can be told before; in [0, 1].
    is_counted
        Whether embedded models above it say so; if not, rows that it was fitted with do, or nothing does.
    price
        What a text takes there.
    """

    group: str
    share: float
    is_counted: bool
    price: QuestionPrice


@dataclass(frozen=True)
class Forecast:
    """What a file would take.

    Attributes
    ----------
    rows
        How many texts it has.
    groups
        Those that are asked about at a service.
    flat
        One question about all labels at once, to compare with; None where no group is asked as it is.
    in_doubt
        The labels that are asked about again, its `share` being how many of a text on average; None where
        nothing is.
    """

    rows: int
    groups: tuple[AskedGroup, ...]
    flat: QuestionPrice | None
    in_doubt: AskedGroup | None = None

    @property
    def all(self) -> tuple[AskedGroup, ...]:
        """All that is asked."""
        return self.groups if self.in_doubt is None else (*self.groups, self.in_doubt)

    @property
    def questions(self) -> float:
        """How many questions there are about a text, on average."""
        return sum(one.share * one.price.questions for one in self.all)

    @property
    def tokens(self) -> tuple[float, float]:
        """Tokens in and out of a text at all groups, on average."""
        shares = [(one.share, one.price) for one in self.all]
        return (
            sum(share * price.tokens_in for share, price in shares),
            sum(share * price.tokens_out for share, price in shares),
        )

    @property
    def usd(self) -> float | None:
        """Of all texts; None where a price is not known."""
        return self._sum((one.price.usd, one.share) for one in self.all)

    @property
    def usd_cached(self) -> float | None:
        """The same if what texts share is always at hand at the service."""
        return self._sum((one.price.usd_cached, one.share) for one in self.all)

    def _sum(self, each: Iterable[tuple[float | None, float]]) -> float | None:
        found = list(each)
        known = [usd * share for usd, share in found if usd is not None]
        return sum(known) * self.rows if len(known) == len(found) else None


def forecast(looks: Looks, texts: Sequence[str], rows: int | None = None) -> Forecast:
    """What a walk of texts by the last look would ask, and cost; embedded models are asked, services are not.

    Parameters
    ----------
    texts
        Those of the file, or some of them.
    rows
        How many the file has; None for as many as there are texts.
    """
    look = looks.last
    some = sampled(np.arange(len(texts)), MOST_WALKED, look.manifest.seed)
    batch = Texts([texts[int(row)] for row in some])
    counted, silent, walked = _walked(look, batch)
    shares = _shares(look.taxonomy, look.manifest, counted, silent)
    priced = Texts(list(batch)[:_MOST_PRICED])
    groups = [
        AskedGroup(group, share, group in counted, _price(last_of(node), priced))
        for group, node in silent.items()
        if (share := shares[group]) > 0
    ]
    asked = map(last_of, silent.values())
    prompted = [node for node in asked if isinstance(node, PromptModel)]
    flat = price_of(flat_model(look.taxonomy, prompted[0]), priced) if prompted else None
    in_doubt = None if looks.verifier is None else _in_doubt(looks.verifier, look, batch, walked, silent)
    return Forecast(len(texts) if rows is None else rows, tuple(groups), flat, in_doubt)


def _in_doubt(
    verifier: Verifier, look: Look, texts: Texts, walked: Walked, silent: Mapping[str, NodeModel]
) -> AskedGroup:
    """What is asked about again: counted where embedded models say it all, else as the fit counted it."""
    asked = verifier.asked(walked, look.decide)
    counted = len(asked) / max(len(texts), 1)
    told = float(verifier.verification.notes.get("questions", 0.0))
    return AskedGroup(IN_DOUBT, told if silent else counted, not silent, verifier.price(asked, texts))


class _Unasked:
    """In the place of a model at a service: it does not answer, so that nothing below it is entered.

    Of one with cheaper tiers before it these tell what they would hand on.
    """

    def __init__(self, node: NodeModel, n_children: int) -> None:
        self._node, self._n_children = node, n_children
        self.asked = 0

    def scores(self, texts: Texts) -> FloatArray:
        self.asked += handed_on(self._node, texts) if isinstance(self._node, Escalating) else len(texts)
        return np.full((len(texts), self._n_children), np.nan, dtype=np.float32)


def _walked(look: Look, texts: Texts) -> tuple[dict[str, float], dict[str, NodeModel], Walked]:
    """The share of texts that embedded models lead to groups at services, their models, and the walk."""
    nodes = {group: look.node(group) for group in look.manifest.groups}
    silent = {
        group: node for group, node in nodes.items() if isinstance(last_of(node), PromptModel | HostedModel)
    }
    unasked = {
        group: _Unasked(node, len(look.taxonomy.scored_children(group))) for group, node in silent.items()
    }
    if not silent:
        return {}, {}, look.walk(texts)
    manifest = replace(look.manifest, least_known=None)
    stand_in = Look(look.taxonomy, manifest, {**nodes, **unasked}, {})  # type: ignore[dict-item]  # never saved
    walked = stand_in.walk(texts)
    total = max(len(texts), 1)
    return {group: one.asked / total for group, one in unasked.items() if one.asked}, dict(silent), walked


def _shares(
    taxonomy: Taxonomy, manifest: Manifest, counted: Mapping[str, float], silent: Mapping[str, NodeModel]
) -> dict[str, float]:
    """The share of texts that are asked about at each group.

    What was counted here; else what the fit counted among the rows that it asked about, if there were some.
    """
    shares = {group: counted.get(group, 0.0) for group in taxonomy.graph.groups}
    for group in taxonomy.graph.groups:
        record = manifest.groups.get(group)
        if group not in counted and record is not None and _is_told(record):
            shares[group] = float(record.notes["entered"]) * _share_of_last(record)
        children = [child for child in taxonomy.graph.children[group] if child in taxonomy.groups]
        follows = group in silent or group not in manifest.groups
        for child in children if follows else ():
            share = shares[group] * _share_below(taxonomy, manifest.groups.get(group), group, child)
            if child not in counted and not _is_told(manifest.groups.get(child)):
                shares[child] = min(shares[child] + share, 1.0)
    return shares


def _share_of_last(record: GroupRecord) -> float:
    """Of the rows of a group the share that gets to the last of its tiers."""
    return float(list(record.notes.get("tiers", {"": 1.0}).values())[-1])


def _is_told(record: GroupRecord | None) -> bool:
    return record is not None and "entered" in record.notes


def _share_below(taxonomy: Taxonomy, record: GroupRecord | None, group: str, child: str) -> float:
    """Of the texts of a group those that go on to a child."""
    scored = taxonomy.scored_children(group)
    if child not in scored or record is None:
        return 1.0
    if record.rows:
        return record.positives[scored.index(child)] / record.rows
    return min(ENTERED / len(scored), 1.0)


def _price(node: NodeModel, texts: Texts) -> QuestionPrice:
    if isinstance(node, PromptModel):
        return price_of(node, texts)
    if not isinstance(node, HostedModel):
        raise TypeError(type(node).__name__)
    codec, settings, prices = node.codec, node.settings, Prices.load()
    asked = [of_request(codec.request(text)) for text in texts] or [of_request(codec.request(""))]
    one = [column == 0 for column in range(len(codec.children))]
    n_in, n_out = float(np.mean(asked)), float(of_answer(codec.completion(one)))
    known = settings.address == prices.service
    usd = prices.answer_usd(node.model, n_in, n_out, 0, settings.batch) if known else None
    return QuestionPrice(settings.provider, node.model, codec.kind, 1, n_in, n_out, 0.0, usd, usd)


def flat_model(taxonomy: Taxonomy, beside: PromptModel) -> PromptModel:
    """One question about all labels at once, of the same model in the same words."""
    labels = [taxonomy.node(label) for label in taxonomy.graph.labels]
    description = GroupDescription(
        about=taxonomy.description or "",
        descriptions={one.name: one.description for one in labels if one.description},
        aliases={one.name: one.aliases for one in labels if one.aliases},
    )
    settings = replace(beside.settings, answer="auto", examples=0)
    return PromptModel(settings, [one.name for one in labels], description)

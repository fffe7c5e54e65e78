"""Descriptions and other names for the groups and labels of a taxonomy that have none, by a language model.

Each group is one question about its children. What people wrote is never touched: who has a description
keeps it, and who has other names gets no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cascade.errors import DataError, TaxonomyError
from cascade.hosted import tokens
from cascade.hosted.answer_text import folded
from cascade.hosted.asker import Asker
from cascade.hosted.prices import Prices
from cascade.hosted.questions import Answer, Question
from cascade.nodes.contract import GroupDescription
from cascade.prompt import enriching
from cascade.prompt.enriching import EXAMPLES, Lacking, LeftOut, Words
from cascade.prompt.settings import PromptSettings
from cascade.taxonomy.definition import Taxonomy
from cascade.taxonomy.edit_text import edited_text
from cascade.taxonomy.edits import Describe, edited
from cascade.taxonomy.graph import ROOT


@dataclass(frozen=True)
class GroupAsked:
    """A question about some children of a group; `names` has the name of each by its last name."""

    group: str
    names: Mapping[str, str]
    question: Question


@dataclass(frozen=True)
class Cost:
    """What questions take: tokens in and, as far as can be told before, out; USD where prices are known."""

    questions: int
    tokens_in: int
    tokens_out: int
    usd: float | None


@dataclass(frozen=True)
class Enrichment:
    """What came of the questions.

    Attributes
    ----------
    edits
        Words for groups and labels, in the order of the taxonomy.
    left_out
        What was written and not taken, by the names of groups and labels.
    failed
        Groups of which nothing was answered, and why.
    """

    edits: tuple[Describe, ...]
    left_out: tuple[LeftOut, ...]
    failed: Mapping[str, str]


@dataclass(frozen=True)
class Enricher:
    """Asks about the children of each group of a taxonomy that lack words.

    Attributes
    ----------
    settings
        Who is asked, and where.
    examples
        Texts of groups and labels, by name; see `examples_of`.
    with_aliases
        Whether other names are wanted beside descriptions.
    """

    taxonomy: Taxonomy
    settings: PromptSettings
    examples: Mapping[str, Sequence[str]]
    with_aliases: bool = True

    @cached_property
    def asked(self) -> tuple[GroupAsked, ...]:
        """The questions, group by group from the top; none where nothing lacks words."""
        return tuple(one for group in self.taxonomy.graph.groups for one in self._about(group))

    def cost(self) -> Cost:
        """What the questions take, before any is sent."""
        questions = [one.question for one in self.asked]
        n_in = sum(tokens.of_request(one.codec.request(one.text)) for one in questions)
        n_children = sum(len(enriching.lacking_of(one)) for one in questions)
        n_out, service, prices = n_children * enriching.TOKENS_WRITTEN, self.settings.service, Prices.load()
        known = service.address == prices.service
        usd = prices.answer_usd(self.settings.model, n_in, n_out, 0, service.batch) if known else None
        return Cost(len(questions), n_in, n_out, usd)

    def enriched(self, asker: Asker) -> Enrichment:
        """What the model writes, as far as it can be taken.

        An answer that cannot be used is asked for once more.

        Raises
        ------
        ServiceError
            The service answers nothing at all.
        """
        answers = self._answers(asker)
        words: dict[str, Words] = {}
        left_out: list[LeftOut] = []
        failed: dict[str, str] = {}
        for one, answer in zip(self.asked, answers, strict=True):
            if answer.written is None:
                failed[one.group] = answer.why
                continue
            found, more = enriching.taken(answer.written, enriching.lacking_of(one.question))
            words |= {one.names[name]: own for name, own in found.items()}
            left_out += [replace(own, name=one.names.get(own.name, "")) for own in more]
        kept, clashes = self._without_clashes(words)
        nodes = self.taxonomy.graph.nodes
        edits = [Describe(name, kept[name].description, kept[name].aliases) for name in nodes if name in kept]
        told = tuple(one for one in edits if one.description or one.aliases)
        return Enrichment(told, (*left_out, *clashes), failed)

    def _answers(self, asker: Asker) -> list[Answer]:
        questions = [one.question for one in self.asked]
        answers = asker.ask(questions)
        places = [place for place, answer in enumerate(answers) if answer.written is None]
        again = [
            enriching.asked_again(
                questions[place], answers[place].why, is_unreadable=answers[place].is_unreadable
            )
            for place in places
        ]
        for place, answer in zip(places, asker.ask(again) if again else (), strict=True):
            answers[place] = answer
        return answers

    def _about(self, group: str) -> list[GroupAsked]:
        taxonomy = self.taxonomy
        children = [taxonomy.node(name) for name in taxonomy.graph.children[group]]
        # What stands in several groups is asked about in the first.
        own = [one for one in children if taxonomy.graph.parents[one.name][0] == group]
        lacking = [
            Lacking(one.last_name, not one.description, self.with_aliases and not one.aliases)
            for one in own
            if not one.description or (self.with_aliases and not one.aliases)
        ]
        names = {one.last_name: one.name for one in children}
        shown = {last_name: self.examples.get(name, ()) for last_name, name in names.items()}
        asked = enriching.questions(self.settings, list(names), self._described(group), lacking, shown)
        return [GroupAsked(group, names, question) for question in asked]

    def _described(self, group: str) -> GroupDescription:
        taxonomy = self.taxonomy
        children = [taxonomy.node(name) for name in taxonomy.graph.children[group]]
        about = taxonomy.groups[group].description or (taxonomy.description if group == ROOT else "")
        below = {
            one.last_name: tuple(map(taxonomy.last_name, taxonomy.graph.descendant_labels(one.name)))
            for one in children
            if one.name in taxonomy.groups
        }
        return GroupDescription(
            path=" > ".join(taxonomy.path_to(group)),
            about=about,
            descriptions={one.last_name: one.description for one in children if one.description},
            aliases={one.last_name: one.aliases for one in children if one.aliases},
            includes=below,
        )

    def _without_clashes(self, words: Mapping[str, Words]) -> tuple[dict[str, Words], list[LeftOut]]:
        """The words without other names that mean something else already, or two things by now."""
        known: dict[str, set[str]] = {}
        for name in self.taxonomy.graph.nodes:
            node = self.taxonomy.node(name)
            for called in (name, node.last_name, *node.aliases):
                known.setdefault(folded(called), set()).add(name)
        new: dict[str, set[str]] = {}
        for name, own in words.items():
            for alias in own.aliases:
                new.setdefault(folded(alias), set()).add(name)
        kept, left_out = {}, []
        for name, own in words.items():
            aliases = []
            for alias in own.aliases:
                if others := known.get(folded(alias), set()) - {name}:
                    left_out.append(LeftOut(name, alias, f"means {min(others)!r} already"))
                elif others := new[folded(alias)] - {name}:
                    left_out.append(LeftOut(name, alias, f"was written of {min(others)!r}, too"))
                else:
                    aliases.append(alias)
            kept[name] = replace(own, aliases=tuple(aliases))
        return kept, left_out


def examples_of(
    taxonomy: Taxonomy, texts: Sequence[str], labels: Sequence[Sequence[str]], most: int = EXAMPLES
) -> dict[str, list[str]]:
    """Texts of each group and label, at most so many, those with the fewest labels first.

    Parameters
    ----------
    texts, labels
        Rows, with names of labels or groups as the taxonomy has them.
    """
    found: dict[str, dict[str, None]] = {}
    for row in sorted(range(len(texts)), key=lambda row: len(labels[row])):
        for name in taxonomy.graph.closure(labels[row]):
            own = found.setdefault(name, {})
            if len(own) < most:
                own[texts[row]] = None
    return {name: list(own) for name, own in found.items()}


def enriched_text(text: str, source: str, taxonomy: Taxonomy, edits: Sequence[Describe]) -> str:
    """The text of a taxonomy file with more words; what is not concerned stays as it was.

    Parameters
    ----------
    text, source
        The file's text, and its name for complaints.
    taxonomy
        What the text says, without the words.

    Raises
    ------
    DataError
        The file is written so that it has to be changed by hand.
    """
    try:
        changed = edited_text(text, edits, taxonomy.names)
        if Taxonomy.of_text(changed, source, base=taxonomy.data.base) == edited(taxonomy, edits):
            return changed
        why = ""
    except (KeyError, TaxonomyError) as error:
        why = f" ({error})"
    raise DataError(
        f"{source}: cannot be changed here, as where anchors (&name) are used{why}. `--json` shows "
        "the words: put them in by hand"
    )

"""Rules for how many rows there are of what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cascade.checks.findings import SHOWN_NAMES, Finding, counted, first_few, listed
from cascade.checks.subject import Subject
from cascade.taxonomy.definition import Taxonomy

# Below ten rows a label has about three in each of three folds, and its threshold is a guess.
_FEW_ROWS = 10
# With fewer rows a label an encoder won 4 to 14 points of accuracy on CLINC150, and 5 of micro F1 on the
# feedback data. That was measured from about as many rows on.
_ROWS_WITHOUT_ENCODER, _ENOUGH_ROWS = 50, 500


def no_data(subject: Subject) -> Iterator[Finding]:
    """No training row at all."""
    if not subject.train:
        yield Finding(
            "no-data",
            "error",
            "there are no training rows" + (" that can be used" if subject.bad_rows else ""),
            0,
            (),
            "Name files with labelled rows under `data: train:` in the taxonomy.",
        )


def no_test_data(subject: Subject) -> Iterator[Finding]:
    """No test row, so quality can only be estimated on training rows."""
    if subject.train and not subject.test:
        yield Finding(
            "no-test-data",
            "advice",
            "there are no test rows",
            0,
            (),
            "Keep a tenth or a fifth of the rows out of training and name them under `data: test:`.",
        )


def no_rows(subject: Subject) -> Iterator[Finding]:
    """Labels that no training row carries."""
    if not subject.train:
        return
    without = [label for label in subject.taxonomy.labels if not subject.rows_with.get(label)]
    yield from listed(
        "no-rows",
        "error",
        without,
        f"{counted(len(without), 'label has', 'labels have')} no training row",
        subject.named,
        "Add rows for them, or take them out of the taxonomy: what has no example cannot be learnt.",
    )


def few_rows(subject: Subject) -> Iterator[Finding]:
    """Labels with fewer than ten training rows, the poorest first."""
    counts = {label: subject.rows_with.get(label, 0) for label in subject.taxonomy.labels}
    poor = sorted((label for label in counts if 0 < counts[label] < _FEW_ROWS), key=counts.__getitem__)
    yield from listed(
        "few-rows",
        "warning",
        poor,
        f"{counted(len(poor), 'label has', 'labels have')} fewer than {_FEW_ROWS} training rows",
        lambda label: f"{subject.named(label)}: {counted(counts[label], 'row')}",
        "Add rows for them, or join them with a neighbour; until then expect misses.",
    )


def encoder_wins(subject: Subject) -> Iterator[Finding]:
    """So few rows a label, that what words mean has to come from elsewhere."""
    if knows_words_alone(subject.taxonomy):
        poor = poor_in_rows(subject.taxonomy.labels, subject.rows_with, len(subject.by_text))
        if poor:
            yield Finding(
                "encoder-wins",
                "advice",
                poor,
                0,
                (),
                "An encoder, which knows what words mean, wins much here: `cascade encoders get minilm`, "
                "then `backend: {kind: linear, encoder: minilm}` under `defaults:` (minilm is for English).",
            )


def knows_words_alone(taxonomy: Taxonomy) -> bool:
    """Whether all models are embedded ones without an encoder, as they are by default."""
    backends = [group.backend for group in taxonomy.groups.values()]
    return all(one.kind == "linear" and not one.options.get("encoder") for one in backends)


def poor_in_rows(labels: Iterable[str], rows_with: Mapping[str, int], n_texts: int) -> str:
    """That models of words alone have few rows a label to learn from, in words; empty where not so.

    Parameters
    ----------
    rows_with
        How many training rows carry each label; one that is not among them has none.
    n_texts
        How many different texts there are, blank ones left out.
    """
    counts = sorted(rows_with.get(label, 0) for label in labels)
    if not counts or n_texts < _ENOUGH_ROWS or counts[len(counts) // 2] >= _ROWS_WITHOUT_ENCODER:
        return ""
    middle = counted(counts[len(counts) // 2], "row")
    return f"half of the labels have {middle} or fewer, and the models know words alone"


def no_none_rows(subject: Subject) -> Iterator[Finding]:
    """No training row without labels, so that nothing teaches when to answer none."""
    if subject.train and () not in subject.by_labels:
        yield Finding(
            "no-none-rows",
            "advice",
            "every training row has a label: when to answer none of them is never taught",
            0,
            (),
            "If texts will come that fit no label, add such texts with an empty list of labels.",
        )


def only_inner_names(subject: Subject) -> Iterator[Finding]:
    """Rows of which only the group is known."""
    stops: Counter[str] = Counter()
    stopped = 0
    for names, rows in subject.by_labels.items():
        groups = _stopping_groups(subject.taxonomy, names)
        stops.update(dict.fromkeys(groups, len(rows)))
        stopped += len(rows) if groups else 0
    if stopped:
        shown = [
            f"{subject.named(name)}: {counted(count, 'row')}"
            for name, count in stops.most_common(SHOWN_NAMES)
        ]
        yield Finding(
            "only-inner-names",
            "advice",
            f"{counted(stopped, 'training row names', 'training rows name')} a group and nothing in it",
            stopped,
            tuple(first_few(shown, len(stops))),
            "They teach the group and nothing below it; name the labels where they are known.",
        )


def _stopping_groups(taxonomy: Taxonomy, names: Sequence[str]) -> list[str]:
    groups = [name for name in names if name in taxonomy.groups]
    if not groups:
        return []
    passed = {above for name in names for above in taxonomy.graph.ancestors(name)}
    return [name for name in groups if name not in passed]

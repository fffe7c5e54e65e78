"""What notebooks show: trees as on their page, and why a text got its labels; nothing is loaded for it.

Pages stand in a frame of their own, so that neither their styles nor their scripts touch the notebook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from cascade.show.explain import Explanation, Step, worth_showing
from cascade.show.tree import tree_of_model, tree_of_taxonomy
from cascade.show.tree_html import render_html

if TYPE_CHECKING:
    from cascade.model.folder import Manifest
    from cascade.taxonomy.definition import Taxonomy

_HEIGHT = 420
_FOR, _AGAINST = "38, 120, 180", "200, 90, 30"
_MOST_OTHERS = 3


def taxonomy_html(taxonomy: Taxonomy) -> str:
    """The groups and labels of a taxonomy, to be opened and searched."""
    return framed(render_html(tree_of_taxonomy(taxonomy)))


def model_html(taxonomy: Taxonomy, manifest: Manifest) -> str:
    """The same with the training rows and the out-of-fold figures of a model."""
    return framed(render_html(tree_of_model(taxonomy, manifest)))


def framed(page: str, height: int = _HEIGHT) -> str:
    """A whole page as a part of another."""
    style = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:4px"
    return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{escape(page, quote=True)}"></iframe>'


def explanation_html(found: Explanation) -> str:
    """The labels, the text with the words that spoke for them and against them, and the way down."""
    labels = ", ".join(f"<b>{escape(name)}</b>&nbsp;{path:.2f}" for name, path in found.labels) or "no label"
    if found.nothing_known:
        labels = escape(found.summary)
    steps = "".join(_items(found.steps))
    silent = "".join(
        f"<p>{escape(group or 'top level')}: {escape(why)}</p>" for group, why in found.silent.items()
    )
    return (
        f'<div class="cascade-explanation"><p>{labels}</p><p style="line-height:1.9">{_marked(found)}</p>'
        f'<ul style="list-style:none;padding-left:0">{steps}</ul>{silent}</div>'
    )


def _marked(found: Explanation) -> str:
    """The text, its words the stronger the more they pushed what was chosen."""
    pushes = _pushes(found)
    most = max((abs(push) for push in pushes.values()), default=1.0) or 1.0
    parts, done = [], 0
    for (start, stop), push in sorted(pushes.items()):
        if start < done:
            continue
        color, strength = (_FOR if push > 0 else _AGAINST), 0.15 + 0.5 * abs(push) / most
        mark = f'<mark style="background:rgba({color}, {strength:.2f});color:inherit" title="{push:+.2f}">'
        parts += [escape(found.text[done:start]), mark, escape(found.text[start:stop]), "</mark>"]
        done = stop
    return "".join([*parts, escape(found.text[done:])])


def _pushes(found: Explanation) -> Mapping[tuple[int, int], float]:
    """Where words stand -> what each pushed the chosen labels by, in all."""
    pushes: dict[tuple[int, int], float] = {}
    for _, step in found.walk():
        for word in step.pushes if step.verdict in ("chosen", "backed off") else ():
            for span in word.spans:
                pushes[span] = pushes.get(span, 0.0) + word.push
    return pushes


def _items(steps: Sequence[Step]) -> Iterator[str]:
    shown = worth_showing(steps, _MOST_OTHERS)
    for step in shown:
        words = ", ".join(f"{escape(one.word)}&nbsp;{one.push:+.2f}" for one in step.pushes)
        below = "".join(_items(step.steps))
        weight = "bold" if step.leads else "normal"
        yield (
            f'<li><span style="font-weight:{weight}">{escape(step.node)}</span> '
            f'<meter min="0" max="1" value="{step.probability:.4f}" style="width:6em"></meter> '
            f"{step.probability:.3f} "
            f'<span style="opacity:.7">{escape(step.why)}</span>'
            f"{f'<br><i>{words}</i>' if words else ''}"
            f"{f'<ul style=list-style:none>{below}</ul>' if below else ''}</li>"
        )
    if len(shown) < len(steps):
        yield f'<li style="opacity:.7">{len(steps) - len(shown)} more without an answer</li>'

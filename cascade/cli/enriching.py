"""``cascade enrich``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cascade.cli.completion import files
from cascade.cli.file_changes import agreed_change, show_change
from cascade.cli.hosted import keep_answers, usage_line
from cascade.cli.inputs import columns_of, labelled_rows, load_taxonomy
from cascade.cli.shell import (
    DONE,
    REFUSED,
    TOP_LEVEL,
    cascade,
    counted,
    debug_option,
    json_option,
    note,
    number,
    print_json,
    progress,
    usd,
)
from cascade.errors import DataError

if TYPE_CHECKING:
    from cascade.changes.enrichment import Enricher, Enrichment
    from cascade.prompt.settings import PromptSettings
    from cascade.rows.row import BadRow
    from cascade.taxonomy.definition import Taxonomy

_MOST_EXAMPLES = 20
_MOST_TOLD = 20


@cascade.command(short_help="Have a language model describe what has no description.")
@click.argument("taxonomy", metavar="TAXONOMY", shell_complete=files)
@click.argument("rows", metavar="[ROWS]...", nargs=-1, shell_complete=files)
@click.option("--provider", metavar="NAME", help="Who is asked, if not as the taxonomy's backend says.")
@click.option("--base-url", metavar="URL", help="Where the service is.")
@click.option("--model", metavar="NAME", help="What is asked, as the service calls it.")
@click.option("--api-key-env", metavar="NAME", help="The environment variable that has the key.")
@click.option(
    "--examples",
    type=click.IntRange(0, _MOST_EXAMPLES),
    default=5,
    show_default=True,
    metavar="N",
    help="Rows of each label that are shown to the model.",
)
@click.option("--no-aliases", is_flag=True, help="Have descriptions written, and no other names.")
@click.option("--apply", "is_applied", is_flag=True, help="Write the words into the file.")
@click.option("--yes", is_flag=True, help="With --apply: change the file without a question.")
@click.option("--dry-run", is_flag=True, help="Tell what would be asked and what it costs, and ask nothing.")
@click.option("--no-cache", is_flag=True, help="Ask anew, and keep no answers.")
@click.option("--debug-http", is_flag=True, help="Show what is sent and what comes, texts included.")
@json_option
@debug_option
def enrich(
    taxonomy: str,
    rows: tuple[str, ...],
    *,
    examples: int,
    no_aliases: bool,
    is_applied: bool,
    yes: bool,
    dry_run: bool,
    no_cache: bool,
    debug_http: bool,
    as_json: bool,
    **service: str | None,
) -> int:
    """Have a language model write descriptions and other names for groups and labels that have none.

    TAXONOMY is the YAML file. ROWS are files with labels: some rows of each label are shown to the model,
    which else goes by names alone. The model is that of `backend: {kind: prompt}` in the taxonomy, or the one
    that is named here. What is written is shown as a diff; nothing is changed without --apply, and what
    people wrote never is.
    """
    from cascade.changes.enrichment import Enricher, examples_of

    tree = load_taxonomy(taxonomy)
    settings = _settings(tree, taxonomy, {name: value for name, value in service.items() if value})
    refused: Sequence[BadRow] = ()
    shown: dict[str, list[str]] = {}
    if rows:
        read = labelled_rows(rows, columns_of(tree.data, is_other=True), tree)
        refused = read.refused
        labels = [row.labels for row in read.rows]
        shown = examples_of(tree, [row.text for row in read.rows], labels, examples)
    enricher = Enricher(tree, settings, shown, with_aliases=not no_aliases)
    if not enricher.asked:
        return _nothing_lacking(taxonomy, as_json=as_json)
    if dry_run:
        return _forecast(enricher, as_json=as_json)
    keep_answers(Path(taxonomy).parent, forget=no_cache, show=debug_http)
    found = _enriched(enricher)
    _tell(found)
    _write(found, tree, Path(taxonomy), is_applied=is_applied, yes=yes, as_json=as_json)
    return REFUSED if refused or found.failed else DONE


def _settings(tree: Taxonomy, file: str, named: dict[str, str]) -> PromptSettings:
    """How the model is asked: as the taxonomy says of its groups, and as was said on the command line."""
    from cascade.backends import complaints
    from cascade.prompt.settings import PromptSettings

    specs = (group.backend for group in tree.groups.values())
    own = next((dict(spec.options) for spec in specs if spec.kind == "prompt"), {})
    options = own | named
    if "model" not in options:
        raise DataError(
            f"{file}: no model to ask. Name one with --model (and --provider or --base-url, where it is not "
            "OpenAI's), or write `backend: {kind: prompt, model: ...}` under `defaults:`"
        )
    if faults := list(complaints("prompt", options)):
        raise DataError(f"{file}: {'; '.join(faults)}")
    return PromptSettings.of(options)


def _nothing_lacking(file: str, *, as_json: bool) -> int:
    if as_json:
        print_json({"changes": [], "left_out": [], "failed": {}, "written": False})
    note(f"{file}: all groups and labels have a description and other names: nothing to ask")
    return DONE


def _forecast(enricher: Enricher, *, as_json: bool) -> int:
    cost = enricher.cost()
    if as_json:
        told = {"tokens_in": cost.tokens_in, "tokens_out": cost.tokens_out, "cost_usd": cost.usd}
        print_json({"questions": cost.questions, **told})
    else:
        click.echo(
            f"{counted(cost.questions, 'question')}, {number(cost.tokens_in)} tokens in, about "
            f"{number(cost.tokens_out)} out, {usd(cost.usd)}"
        )
    note("dry run: nothing was sent or written")
    return DONE


def _enriched(enricher: Enricher) -> Enrichment:
    from cascade.hosted.asker import shared_asker
    from cascade.hosted.prices import Prices

    asker = shared_asker()
    with progress("asking"):
        found = enricher.enriched(asker)
    service, prices = enricher.settings.service, Prices.load()
    for model, used in asker.usage().items():
        known = service.address == prices.service
        note(f"{model}: {usage_line(used, prices.used_usd(model, used) if known else None)}")
    return found


def _tell(found: Enrichment) -> None:
    """What was not answered, and what was not taken of the answers."""
    for group, why in found.failed.items():
        note(f"{group or TOP_LEVEL}: no answer: {why}")
    lines = list(_left_out(found))
    for line in lines[:_MOST_TOLD]:
        note(line)
    if len(lines) > _MOST_TOLD:
        note(f"... and {number(len(lines) - _MOST_TOLD)} more left out; --json tells all")


def _left_out(found: Enrichment) -> Iterator[str]:
    from cascade.rows.row import quoted

    for one in found.left_out:
        what = f" {quoted(one.text)}" if one.text else ""
        yield f"left out{f' of {one.name}' if one.name else ''}:{what} ({one.why})"


def _write(
    found: Enrichment, tree: Taxonomy, file: Path, *, is_applied: bool, yes: bool, as_json: bool
) -> None:
    """Show the words, and put them into the file if that is wanted."""
    from cascade.changes.enrichment import enriched_text
    from cascade.taxonomy.yaml_nodes import read_text

    is_written = False
    if not found.edits:
        note("nothing to change")
    elif as_json and not is_applied:
        pass
    else:
        before = read_text(str(file))
        after = enriched_text(before, str(file), tree, found.edits)
        if is_applied:
            is_written = agreed_change(file, before, after, yes=yes, as_json=as_json)
        else:
            show_change(file, before, after, as_json=as_json)
    if as_json:
        print_json(_summary(found, is_written=is_written))
    if is_written:
        note(f"{file} was changed. Next: cascade fit {shlex.quote(str(file))}")
    elif found.edits and not is_applied:
        note("nothing was changed: --apply writes it")


def _summary(found: Enrichment, *, is_written: bool) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "changes": [asdict(one) for one in found.edits],
        "left_out": [asdict(one) for one in found.left_out],
        "failed": dict(found.failed),
        "written": is_written,
    }

"""What README and docs show, run in a fresh copy; what exists, looked up in them.

Blocks marked `sh` and `python` are run in the order of their page. A block with a title is written to that
file first. The model of the demo is fitted once, and each page begins with a copy of it.
"""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import textwrap
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import click
import grimp
import networkx as nx
import pytest
from hosted_runs import sandbox

import cascade
from cascade import __version__
from cascade.cli import cascade as commands
from cascade.taxonomy.data import DATA_KEYS
from cascade.taxonomy.groups import GROUP_KEYS, PATH_LABEL_KEYS
from cascade.taxonomy.names import Names
from cascade.taxonomy.parser import TOP_KEYS
from cascade.taxonomy.settings import Choose, Combine, Negatives, Route

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
NEEDED = ("taxonomies", "training_data", "Makefile", "pyproject.toml")
# Those of a command, and of all that it is a group of.
PARAMETERS = {
    name: [one for part in (command, *getattr(command, "commands", {}).values()) for one in part.params]
    for name, command in commands.commands.items()
}

# These install, change the checkout, or take minutes: that make and the file know them is enough.
NOT_RUN = re.compile(
    r"make (install|test|test-slow|lint|format|bench|clean|clinc150|goemotions|nlupp|us_bills)\b"
    r"|pip install|python3? -m (pip|venv)"
)
# Pages that ask a service ask a sandbox, which is started for them somewhere.
SERVICE = "http://127.0.0.1:8642/v1"
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
TITLE = re.compile(r'title="([^"]+)"')
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    body: str
    line: int


def blocks_of(page):
    text = page.read_text("utf-8")
    for found in FENCE.finditer(text):
        language, _, rest = found["info"].strip().partition(" ")
        title = TITLE.search(rest)
        body = textwrap.dedent(found["body"])
        yield Block(language, title and title[1], body, text.count("\n", 0, found.start()) + 1)


def prose_of(page):
    """The page without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def docs(name):
    return (DOCS / f"{name}.md").read_text("utf-8")


def section(text, heading):
    """What stands between a heading that begins so and the next one as high."""
    level = heading.split()[0]
    start = text.index(heading)
    end = re.search(rf"^#{{1,{len(level)}}} ", text[start + len(heading) :], re.MULTILINE)
    return text[start : start + len(heading) + end.start()] if end else text[start:]


# A place to run things in


def environment(folder):
    """That of this process, with a `cascade` on the path, and without what would steer it."""
    steering = ("CASCADE_MODEL", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    plain = {name: value for name, value in os.environ.items() if name not in steering}
    code = os.pathsep.join(filter(None, [str(Path(cascade.__file__).parents[1]), plain.get("PYTHONPATH")]))
    path = os.pathsep.join([str(folder / ".venv" / "bin"), plain.get("PATH", os.defpath)])
    return plain | {"PATH": path, "PYTHONPATH": code, "SANDBOX_KEY": "any word"}


def run(folder, script):
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copied(needed, folder):
    for one in needed:
        if one.is_dir():
            shutil.copytree(one, folder / one.name)
        else:
            shutil.copy2(one, folder / one.name)


def installed(folder):
    """A `.venv` that make takes for a whole one."""
    program = folder / ".venv" / "bin" / "cascade"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cascade "$@"\n', "utf-8")
    program.chmod(0o755)
    (folder / ".venv" / ".cascade-installed").touch()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A copy of the repository with the model of the demo in it."""
    folder = tmp_path_factory.mktemp("fitted")
    copied([ROOT / name for name in NEEDED], folder)
    installed(folder)
    done = run(folder, "cascade fit taxonomies/feedback.yaml --jobs 2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(fitted, tmp_path):
    """A fresh copy of that, for one page."""
    folder = tmp_path / "cascade"
    shutil.copytree(fitted, folder)
    return folder


# What the pages show


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_code_of_a_page_run(page, place, monkeypatch):
    monkeypatch.chdir(place)
    namespace = {"__name__": "page"}
    blocks = list(blocks_of(page))
    asks = any(SERVICE in block.body for block in blocks if block.title or block.language == "sh")
    with sandbox(place / "sandbox") if asks else nullcontext(SERVICE) as address:
        run_blocks(page, place, blocks, address, namespace)


def run_blocks(page, place, blocks, address, namespace):
    for block in blocks:
        where, body = f"{name_of(page)}:{block.line}", block.body.replace(SERVICE, address)
        if block.title:
            (place / block.title).write_text(body, "utf-8")
        elif block.language == "sh":
            run_shown(place, body, where)
        elif block.language == "python":
            code = compile("\n" * block.line + block.body, str(page), "exec")
            exec(code, namespace)


def run_shown(folder, script, where):
    """Run a block, but only ask make whether it knows what must not be run."""
    lines = []
    for line in script.splitlines():
        if not NOT_RUN.match(line):
            lines.append(line)
        elif line.startswith("make"):
            lines.append(line.replace("make", "make --dry-run", 1))
    done = run(folder, "\n".join(lines))
    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{script}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_blocks_of_a_page_have_a_language_that_says_whether_they_run(page):
    known = {"sh", "python", "console", "text", "yaml", "csv", "json", "jsonl", "mermaid"}
    odd = [f"{name_of(page)}:{block.line}" for block in blocks_of(page) if block.language not in known]
    assert odd == []
    left_open = re.findall(r"^ *```.*", prose_of(page), re.MULTILINE)
    assert left_open == []


def test_the_first_result_in_the_readme_is_what_the_model_answers(place):
    console = next(block for block in blocks_of(ROOT / "README.md") if block.language == "console")
    shown, excerpt, asked = {}, [], []
    for line in console.body.splitlines():
        if line.startswith("$ "):
            asked.append(line[2:])
        elif line.startswith("{"):
            shown = json.loads(line)
        else:
            excerpt.append(line)
    assert "\n".join(excerpt) in (ROOT / "taxonomies" / "feedback.yaml").read_text("utf-8")

    printed = run(place, "\n".join(asked))
    assert printed.returncode == 0, printed.stderr
    *first, last = printed.stdout.splitlines()
    answer = json.loads(last)
    assert first == excerpt
    assert answer["labels"] == shown["labels"]
    # Other versions of scikit-learn may give slightly other figures.
    assert answer["scores"] == pytest.approx(shown["scores"], abs=0.05)


def test_the_readme_counts_the_rows_of_the_demo():
    readme = (ROOT / "README.md").read_text("utf-8")
    counts = {
        name: len((ROOT / "training_data" / name).read_text("utf-8").splitlines())
        for name in ("feedback.jsonl", "feedback_test.jsonl", "new_messages.jsonl")
    }
    assert f"trains on the {counts['feedback.jsonl']:,} messages" in readme
    assert f"measures on {counts['feedback_test.jsonl']} others" in readme
    assert f"labels {counts['new_messages.jsonl']} new ones" in readme


# What exists is told, and what is told exists


def options_of(command):
    return [option for one in PARAMETERS[command] for option in one.opts if option.startswith("--")]


@pytest.mark.parametrize("command", PARAMETERS)
def test_every_option_of_a_command_is_told_in_its_section(command):
    text = docs("commands")
    told = section(text, f"## `cascade {command}")
    common = section(text, "# Commands").split("## Which model")[0]
    missing = [
        option
        for option in options_of(command)
        if not re.search(rf"`{option}\b", told if option != "--debug" else common)
    ]
    assert missing == []


@pytest.mark.parametrize("command", PARAMETERS)
def test_every_choice_of_an_option_is_told(command):
    told = section(docs("commands"), f"## `cascade {command}")
    choices = [
        f"{one.opts[0]} {choice}"
        for one in PARAMETERS[command]
        if isinstance(one.type, click.Choice)
        for choice in one.type.choices
    ]
    assert [choice for choice in choices if f"`{choice}`" not in told] == []


def test_every_command_stands_in_the_readme():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [name for name in PARAMETERS if f"`cascade {name}" not in readme] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_no_page_tells_of_an_option_that_no_command_has(page):
    known = {option for command in PARAMETERS for option in options_of(command)} | {"--help", "--version"}
    foreign = {"--strict", "--silent"}  # of mypy and make
    text = re.sub(r"^(dask|ray) .*", "", page.read_text("utf-8"), flags=re.MULTILINE)
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert told - known - foreign == set()


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_no_page_tells_of_a_command_that_does_not_exist(page):
    text = "\n".join(
        [*(block.body for block in blocks_of(page)), *re.findall(r"`([^`\n]+)`", prose_of(page))]
    )
    told = set(re.findall(r"(?:^|\| |\$ |&& )cascade ([a-z][a-z-]*)", text, re.MULTILINE))
    assert told - set(PARAMETERS) == set()


def test_every_rule_of_check_is_told_once_and_no_other():
    from cascade.checks.check import RULES

    told = re.findall(r"^\| `([a-z-]+)` \|", docs("check"), re.MULTILINE)
    assert sorted(told) == sorted(rule.__name__.replace("_", "-") for rule in RULES)


SEVERAL_FAULTS = {
    "name": "faulty",
    "groups": {
        "billing": {"labels": ["refund", "refunds", "never_used"]},
        "delivery": {"labels": ["late", "refund"]},
        "mood": {"choose": "one", "labels": ["happy", "angry"]},
        "lonely": {"labels": ["only_child"]},
    },
}
FAULTY_ROWS = [
    {"text": "late", "labels": ["late"]},
    {"text": "late", "labels": ["late"]},
    {"text": "late", "labels": ["refund"]},
    {"text": "", "labels": ["refunds"]},
    {"text": "the cafÃ© sent it", "labels": ["only_child"]},
    {"text": "write to somebody@example.org", "labels": ["billing"]},
    {"text": "glad and cross", "labels": ["happy", "angry"]},
    {"text": "long " * 5000, "labels": ["late"]},
    {"text": "a prompt ->", "labels": ["late"]},
    {"text": "what", "labels": ["unheard_of"]},
    {"text": 7, "labels": []},
]


def test_rules_are_told_under_the_severity_that_they_have(tmp_path):
    from cascade.checks.check import check
    from cascade.rows.reading import read_all
    from cascade.rows.readings import Columns

    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in FAULTY_ROWS), "utf-8")
    taxonomy = cascade.Taxonomy.from_dict(SEVERAL_FAULTS)
    train, refused, _ = read_all([rows], Columns(), taxonomy)
    found = {finding.rule: finding.severity for finding in check(taxonomy, train, (), refused).findings}
    assert len(found) >= 15

    headings = {"error": "## Errors", "warning": "## Warnings", "advice": "## Advice"}
    told = {rule: f"| `{rule}` |" in section(docs("check"), headings[found[rule]]) for rule in found}
    assert [rule for rule in told if not told[rule]] == []


def test_every_key_of_a_taxonomy_is_told_in_its_section():
    text = docs("taxonomy")
    sections = {
        "## At the top": TOP_KEYS,
        "## `data`": DATA_KEYS,
        "## A group": GROUP_KEYS,
        "## Labels": PATH_LABEL_KEYS,
    }
    missing = [
        f"{heading}: {key}"
        for heading, keys in sections.items()
        for key in keys
        if f"`{key}`" not in section(text, heading)
    ]
    assert missing == []


def test_every_value_that_a_key_can_have_is_told():
    text = docs("taxonomy")
    values = [value for kind in (Choose, Route, Negatives, Combine, Names) for value in get_args(kind)]
    assert [value for value in values if f"`{value}`" not in text] == []


def test_every_backend_and_its_options_are_told():
    from cascade.backends import CHOOSABLE, KINDS

    told = section(docs("taxonomy"), "## Backends")
    names = [name for kind in CHOOSABLE for name in (kind, *KINDS[kind].options)]
    assert [name for name in names if f"`{name}`" not in told] == []


def test_every_figure_of_evaluate_is_told():
    from cascade.measure.error_causes import ErrorCounts
    from cascade.measure.evaluate import Evaluation, GroupFigures, LabelFigures

    text = docs("evaluate")
    names = {
        one.name for kind in (Evaluation, LabelFigures, GroupFigures, ErrorCounts) for one in fields(kind)
    }
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_key_of_the_manifest_is_told():
    from cascade.model.folder import GroupRecord, Manifest

    told = section(docs("model-folder"), "## `manifest.json`")
    names = {one.name for kind in (Manifest, GroupRecord) for one in fields(kind)} | {"sha256"}
    assert [name for name in sorted(names) if f"`{name}`" not in told] == []


def test_every_key_of_a_trace_is_told(fitted):
    done = run(fitted, """echo '{"text": "refund"}' | cascade predict - --model models/feedback --trace""")
    keys = {key for entry in json.loads(done.stdout)["trace"] for key in entry}
    told = section(docs("how-it-decides"), "## A trace")
    assert keys >= {"node", "entered", "chosen"}
    assert [key for key in sorted(keys) if f"| `{key}` |" not in told] == []


def test_every_public_name_is_told():
    text = docs("python")
    assert [name for name in cascade.__all__ if f"`{name}" not in text] == []


def folder_of(module):
    return module.split(".")[1] if "." in module else "cascade"


def drawn_by_imports():
    """An arrow for each import between folders that no others imply."""
    graph = grimp.build_graph("cascade", exclude_type_checking_imports=True)
    edges = {
        (folder_of(module), folder_of(imported))
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
    }
    between = nx.DiGraph((one, other) for one, other in edges if other not in (one, "cascade"))
    return {(one, other) for one, other in nx.transitive_reduction(between).edges if other != "errors"}


def test_the_picture_of_the_folders_is_the_one_that_imports_draw():
    assert set(re.findall(r"^  (\w+) --> (\w+)$", docs("developing"), re.MULTILINE)) == drawn_by_imports()


def test_every_folder_has_a_paragraph_and_says_what_it_holds_and_may_import():
    folders = [path.parent for path in (ROOT / "cascade").glob("*/__init__.py")]
    assert len(folders) > 10
    told = re.findall(r"^\*\*(\w+)\*\*", docs("developing"), re.MULTILINE)
    assert sorted([*(folder.name for folder in folders), "backends"]) == sorted(told)
    for folder in folders:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8")))
        assert 2 <= len(said.splitlines()) <= 12, folder
        assert "Imports" in said or "imports" in said, folder


def test_few_modules_lie_beside_the_folders_and_no_file_is_long():
    beside = [path.stem for path in (ROOT / "cascade").glob("*.py") if not path.stem.startswith("__")]
    assert len(beside) <= 8
    longest = max(
        (ROOT / "cascade").rglob("*.py"), key=lambda path: len(path.read_text("utf-8").splitlines())
    )
    assert len(longest.read_text("utf-8").splitlines()) <= 600, longest


def test_whatever_the_way_of_a_row_names_is_there():
    travels = section(docs("developing"), "## How one row travels")
    names = re.findall(r"`((?:[a-z_]+\.)+\w+)`", travels)
    assert len(names) > 30
    for name in {name for name in names if not name.endswith((".yaml", ".jsonl", ".json"))}:
        assert pkgutil.resolve_name(f"cascade.{name}"), name


def test_files_that_developers_are_sent_to_are_there():
    text = docs("developing")
    paths = re.findall(r"`(?:cascade/)?((?:[a-z_]+/)+[a-z_0-9]*(?:\.\w+)?)`", text)
    assert len(paths) > 20
    assert [
        path for path in paths if not ((ROOT / "cascade" / path).exists() or (ROOT / path).exists())
    ] == []


def test_every_target_of_the_makefile_is_told():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE)
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert {"demo", "test", "predict-all"} <= set(targets)
    assert [target for target in targets if not re.search(rf"\bmake {target}\b", text)] == []


def test_no_page_tells_of_a_make_target_that_does_not_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"[a-z0-9-]+", re.search(r"\.PHONY:((?:.*\\\n)*.*)", makefile)[1]))
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    assert set(re.findall(r"`make ([a-z][a-z0-9-]*)", text)) - targets == set()


# Links, and the changelog


def anchors_of(page):
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=name_of)
def test_relative_links_lead_somewhere(page):
    broken = []
    for found in LINK.finditer(prose_of(page)):
        if re.match(r"[a-z]+:", found["target"]):
            continue
        file, _, anchor = found["target"].partition("#")
        target = page.parent / file if file else page
        if not target.is_file() or (anchor and anchor not in anchors_of(target)):
            broken.append(found["target"])
    assert broken == []


def test_the_readme_links_to_every_page():
    linked = {found["target"] for found in LINK.finditer((ROOT / "README.md").read_text("utf-8"))}
    assert {f"docs/{page.name}" for page in DOCS.glob("*.md")} - linked == set()


def test_the_newest_version_in_the_changelog_is_that_of_the_package():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## (\S+) \(\d{4}-\d\d-\d\d\)$", changelog, re.MULTILINE)
    assert versions[0] == __version__


def test_the_changelog_counts_the_rules_of_check():
    from cascade.checks.check import RULES

    assert f"{len(RULES)} rules" in (ROOT / "CHANGELOG.md").read_text("utf-8")

"""What real shells propose when the tab key is pressed, on terminals of their own where they need one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import environment

TAXONOMY = {"name": "shop", "groups": {"billing": {"labels": ["refund"]}, "birds": {"labels": ["owl"]}}}


@pytest.fixture
def home(tmp_path):
    """A folder with a taxonomy, two folders that look like models and one that does not."""
    more = TAXONOMY["groups"] | {"bonus": {"labels": ["tip"]}}
    (tmp_path / "shop.yaml").write_text(json.dumps(TAXONOMY | {"groups": more}), "utf-8")
    for name in ("one", "two"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"taxonomy": TAXONOMY}), "utf-8")
    (tmp_path / "models" / "other").mkdir()
    (tmp_path / "models" / ".last").write_text("two\n", "utf-8")
    return tmp_path


@pytest.fixture
def variables(tmp_path):
    """The environment, in which `cascade` is the one under test."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = commands / "cascade"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cascade "$@"\n', "utf-8")
    script.chmod(0o755)
    found = environment(PATH=f"{commands}{os.pathsep}{os.environ['PATH']}", HOME=str(tmp_path), TERM="dumb")
    return {name: value for name, value in found.items() if name != "CASCADE_MODEL"}


def installed(shell):
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


def by_bash(home, variables, line):
    """What bash would propose: it fills COMPREPLY by the function that the line of the docs defines."""
    words = line.split(" ")
    script = (
        'eval "$(_CASCADE_COMPLETE=bash_source cascade)"\n'
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}\n"
        '_cascade_completion cascade; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = [installed("bash"), "--norc", "-c", script]
    done = subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("cascade inspect", ["inspect-tree"]),
        ("cascade inspect-tree --de", ["--depth", "--debug"]),
        ("cascade inspect-tree --sort ", ["f1", "rows", "name"]),
        ("cascade init --from s", ["sheet", "skos"]),
        ("cascade inspect-tree --model ", ["models/one", "models/two"]),
        ("cascade serve --model models/t", ["models/two"]),
        ("cascade evaluate rows.jsonl --compare models/o", ["models/one"]),
        ("cascade inspect-tree shop.yaml --group b", ["billing", "birds", "bonus"]),
        ("cascade inspect-tree --model models/one --group bil", ["billing"]),
        ("cascade inspect-tree --group BIR", ["birds"]),
        ("cascade inspect-tree none.yaml --group b", [""]),
    ],
)
def test_bash_is_told_what_may_come(home, variables, line, proposed):
    found = by_bash(home, variables, line)
    assert sorted(found) == sorted(proposed)


def typed(command, home, variables, keys, until):
    """What a terminal shows after keys were typed into a shell, until a pattern is in it."""
    terminal, end_of_shell = pty.openpty()
    shell = subprocess.Popen(
        [installed("setsid"), "--ctty", *command],
        cwd=home,
        env=variables,
        stdin=end_of_shell,
        stdout=end_of_shell,
        stderr=end_of_shell,
    )
    os.close(end_of_shell)
    shown, end = "", time.monotonic() + 30
    try:
        for after, key in keys:
            shown = read_terminal(terminal, shown, after, end)
            os.write(terminal, key.encode())
        return read_terminal(terminal, shown, until, end)
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def read_terminal(terminal, shown, until, end):
    while not re.search(until, shown):
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


def test_bash_completes_a_file(home, variables):
    (home / ".bashrc").write_text('eval "$(_CASCADE_COMPLETE=bash_source cascade)"\nPS1="ready> "\n', "utf-8")
    keys = [("ready> ", "cascade check sh\t")]
    assert typed([installed("bash"), "-i"], home, variables, keys, "check shop.yaml")


def test_zsh_completes_a_group(home, variables):
    (home / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u\n"
        'eval "$(_CASCADE_COMPLETE=zsh_source cascade)"\nPS1="ready> "\nunsetopt zle_bracketed_paste\n',
        "utf-8",
    )
    keys = [("ready> ", "cascade inspect-tree shop.yaml --group bil\t")]
    assert typed([installed("zsh"), "-i"], home, variables, keys, "--group billing")


def test_fish_completes_a_model_folder(home, variables):
    folder = home / ".config" / "fish" / "completions"
    folder.mkdir(parents=True)
    (folder / "cascade.fish").write_text("_CASCADE_COMPLETE=fish_source cascade | source\n", "utf-8")
    asked = "complete -C 'cascade serve --model models/t'"
    done = subprocess.run(
        [installed("fish"), "-c", asked], cwd=home, env=variables, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["models/two"]


def test_no_heavy_package_is_imported_for_a_completion(home, variables):
    words = {"COMP_WORDS": "cascade inspect-tree shop.yaml --group b", "COMP_CWORD": "4"}
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(sorted({'numpy', 'pandas', 'scipy', 'sklearn'} & set(sys.modules))))\n"
        "sys.argv = ['cascade']\nfrom cascade.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env=variables | words | {"_CASCADE_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["plain,billing", "plain,birds", "plain,bonus", "[]"], done.stderr


def test_the_lines_of_the_docs_are_those_that_are_tried(home):
    told = Path(__file__).parents[2].joinpath("docs", "commands.md").read_text("utf-8")
    for shell in ("bash", "zsh", "fish"):
        assert f"_CASCADE_COMPLETE={shell}_source cascade" in told

from __future__ import annotations

import json
import os
import pty
import select
import subprocess

import pytest
from processes import command, environment

OLD = """\
name: shop
data: {train: rows.csv}
groups:
  money: {labels: [refund, card]}
  goods: {labels: [late, broken]}
"""
NEW = """\
name: shop
data: {train: rows.csv}
groups:
  money: {labels: [{name: money_back, aliases: [refund]}, card]}
  goods: {labels: [delivery_late, cracked, leaking]}
"""
ROWS = "text,labels\nwhere is it,late\nin pieces,broken;card\nmy money,refund\nhello,\nagain,late\n"
DECISIONS = "late: delivery_late\nbroken: [cracked, leaking]\n"


@pytest.fixture
def place(tmp_path):
    for name, text in (
        ("old.yaml", OLD),
        ("new.yaml", NEW),
        ("rows.csv", ROWS),
        ("decisions.yaml", DECISIONS),
    ):
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def ran(place, *arguments):
    return subprocess.run(
        command("migrate", *arguments),
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_what_is_open_is_asked_by_an_error_that_is_the_file_to_fill_in(place):
    found = ran(place, "old.yaml", "new.yaml", "--out", "out")
    assert (found.returncode, found.stdout) == (1, "")
    assert not (place / "out").exists()
    yaml = found.stderr.split("\n\n", 1)[1]
    assert [line.split() for line in yaml.splitlines() if not line.startswith("#")] == [
        ["late:", "delivery_late", "#", "2", "rows;", "it", "is", "gone"],
        ["broken:", "[cracked,", "leaking]", "#", "1", "row;", "it", "is", "gone"],
    ]
    (place / "told.yaml").write_text(yaml, "utf-8")
    assert ran(place, "old.yaml", "new.yaml", "--out", "out", "--decisions", "told.yaml").returncode == 0


def test_the_file_of_decisions_is_written_and_used(place):
    found = ran(place, "old.yaml", "new.yaml", "--out", "out", "--write-decisions", "told.yaml")
    assert (found.returncode, found.stdout) == (0, "")
    assert not (place / "out").exists()
    told = (place / "told.yaml").read_text("utf-8")
    assert (
        ran(place, "old.yaml", "new.yaml", "--out", "out", "--write-decisions", "told.yaml").returncode == 1
    )
    assert (place / "told.yaml").read_text("utf-8") == told
    done = ran(place, "old.yaml", "new.yaml", "--out", "out", "--decisions", "told.yaml")
    assert done.returncode == 0
    assert "delivery_late" in (place / "out/rows.csv").read_text("utf-8")


def test_the_report_counts_all(place):
    found = ran(place, "old.yaml", "new.yaml", "--out", "out", "--decisions", "decisions.yaml", "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert (told["rows"], told["changed"], told["queued"], told["refused"]) == (5, 4, 1, 0)
    assert told["labels"] == {"kept": 1, "renamed": 3, "open": 1}
    assert told["queue"] == "out/migration.review.jsonl"
    assert (place / "out/rows.csv").read_text("utf-8") == (
        "text,labels\nwhere is it,delivery_late\nin pieces,goods;card\nmy money,money_back\nhello,\n"
        "again,delivery_late\n"
    )
    assert sorted(one.name for one in (place / "out").iterdir()) == ["migration.review.jsonl", "rows.csv"]


def test_the_same_command_again_changes_nothing_and_another_result_is_not_overwritten(place):
    arguments = ("old.yaml", "new.yaml", "--out", "out", "--decisions", "decisions.yaml")
    first = ran(place, *arguments)
    assert "next: cascade serve --review out/migration.review.jsonl" in first.stdout
    before = {one.name: one.read_bytes() for one in (place / "out").iterdir()}
    assert ran(place, *arguments).returncode == 0
    (place / "decisions.yaml").write_text(DECISIONS.replace("delivery_late", "none"), "utf-8")
    found = ran(place, *arguments)
    assert found.returncode == 1
    assert "--force" in found.stderr
    assert {one.name: one.read_bytes() for one in (place / "out").iterdir()} == before
    assert ran(place, *arguments, "--force").returncode == 0
    assert "hello,\nagain,\n" in (place / "out/rows.csv").read_text("utf-8")


def test_rows_that_cannot_be_used_are_listed_with_exit_code_3(place):
    (place / "rows.csv").write_text(ROWS + "what,nobody knows\n", "utf-8")
    found = ran(place, "old.yaml", "new.yaml", "rows.csv", "--out", "out", "--decisions", "decisions.yaml")
    assert found.returncode == 3
    assert "rows.csv row 6: unknown label 'nobody knows'" in found.stderr
    assert (place / "out/rows.csv").read_text("utf-8").endswith("what,nobody knows\n")


def test_faults_in_decisions_are_told_at_once_with_their_places(place):
    (place / "decisions.yaml").write_text("lates: card\nlate: carde\nbroken: [cracked\n", "utf-8")
    found = ran(place, "old.yaml", "new.yaml", "--out", "out", "--decisions", "decisions.yaml")
    assert found.returncode == 1
    assert "decisions.yaml:4:1" in found.stderr
    (place / "decisions.yaml").write_text("lates: card\nlate: carde\n", "utf-8")
    found = ran(place, "old.yaml", "new.yaml", "--out", "out", "--decisions", "decisions.yaml")
    assert (
        "decisions.yaml:1:1: 'lates' is no label and no group of the old taxonomy. Did you mean 'late'?"
        in found.stderr
    )
    assert (
        "decisions.yaml:2:7: 'carde' is no label and no group of the new taxonomy. Did you mean 'card'?"
        in found.stderr
    )


def test_at_a_terminal_each_question_is_asked_and_asked_again_after_a_fault(place):
    mine, its = pty.openpty()
    done = subprocess.Popen(
        command("migrate", "old.yaml", "new.yaml", "--out", "out"),
        cwd=place,
        env=environment(TERM="dumb"),
        stdin=its,
        stderr=its,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(its)
    said = b""
    for answer in ("\n", "lost\n", "none\n"):
        said += until(mine, b"]: ")
        os.write(mine, answer.encode())
    out, _ = done.communicate(timeout=60)
    os.close(mine)
    assert done.returncode == 0, said
    assert "  late: delivery_late\n  broken: none\n" in out
    assert (place / "out/decisions.yaml").read_text("utf-8") == "late: delivery_late\nbroken: none\n"
    assert (place / "out/rows.csv").read_text("utf-8").splitlines()[2] == "in pieces,card"


def until(terminal, mark):
    """What is said up to a mark."""
    said = b""
    while mark not in said:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, said
        said += os.read(terminal, 4096)
    return said

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from processes import command, environment

from cascade import __version__
from cascade.cli import Commands, run
from cascade.model.folder import read_manifest

COMMANDS = (
    "init",
    "check",
    "fit",
    "predict",
    "evaluate",
    "explain",
    "inspect-tree",
    "jobs",
    "export",
    "sandbox",
    "serve",
)
HEAVY = ("pandas", "numpy", "scipy", "sklearn", "networkx", "rich", "pyarrow", "yaml", "joblib")
TAXONOMY = """\
name: shop
data: {train: train.jsonl, test: test.jsonl}
groups:
  billing:
    labels: [refund, double_charge]
    groups: {tax: {labels: [no_vat, wrong_vat]}}
  delivery:
    labels: [late, broken, refund]
  mood: {choose: one, route: always, labels: [happy, angry]}
"""
SAYINGS = {
    "refund": ("give me my money back", "where is the refund"),
    "double_charge": ("charged twice", "two payments were taken"),
    "no_vat": ("no vat number on the invoice", "the tax is not shown"),
    "wrong_vat": ("the vat rate is of another country", "wrong tax rate"),
    "late": ("it came too late", "a week after the date"),
    "broken": ("it was in pieces", "arrived broken"),
    "happy": ("thank you so much", "love this shop"),
    "angry": ("this is a disgrace", "I am furious"),
}
MOODS = ("happy", "angry")


def labelled_rows(count, seed=0):
    """Rows whose texts say their labels, some of them none."""
    chance = random.Random(seed)
    topics = [label for label in SAYINGS if label not in MOODS]
    rows = []
    for number in range(count):
        labels = chance.sample(topics, chance.choice([0, 1, 1, 2])) + chance.choice(
            [[], *([one] for one in MOODS)]
        )
        said = " and ".join(chance.choice(SAYINGS[label]) for label in labels) or "a question about sizes"
        rows.append({"id": f"r{number}", "text": f"{said} order {number}", "labels": labels})
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def heed_interrupts():
    """Undo what a shell does to the jobs that it starts in the background, tests among them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def cascade(*arguments, cwd, given="", **variables):
    """A finished process: `returncode`, `stdout` and `stderr`, none of it with a traceback."""
    done = subprocess.run(
        command(*arguments),
        cwd=cwd,
        input=given.encode(),
        capture_output=True,
        env=environment(**variables),
        timeout=120,
        check=False,
    )
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    if "--debug" not in arguments:
        assert "Traceback" not in done.stdout + done.stderr, done
    return done


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """A folder with a taxonomy, rows and the model that was fitted on them, and the process that did it."""
    folder = tmp_path_factory.mktemp("fitted")
    (folder / "shop.yaml").write_text(TAXONOMY)
    write_rows(folder / "train.jsonl", labelled_rows(90))
    write_rows(folder / "test.jsonl", labelled_rows(30, seed=1))
    return folder, cascade("fit", "shop.yaml", cwd=folder)


@pytest.fixture
def shop(fitted):
    """The folder of `fitted`, which tests only read."""
    return fitted[0]


@pytest.fixture
def inside(shop, monkeypatch):
    """A function that runs a command in this process, in the folder of `shop`."""
    monkeypatch.chdir(shop)
    monkeypatch.delenv("CASCADE_MODEL", raising=False)
    return lambda *arguments: run([str(one) for one in arguments])


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder with the taxonomy and rows, for commands run in this process too."""
    (tmp_path / "shop.yaml").write_text(TAXONOMY)
    write_rows(tmp_path / "train.jsonl", labelled_rows(90))
    write_rows(tmp_path / "test.jsonl", labelled_rows(30, seed=1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CASCADE_MODEL", raising=False)
    return tmp_path


# Help and usage


def test_help_needs_nothing_heavy():
    code = (
        "import sys; from cascade.cli import run\n"
        f"for command in {COMMANDS}: assert run([command, '--help']) == 0\n"
        "assert run(['--help']) == 0\n"
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_fit_and_predict_need_no_linear_algebra_of_scipy(place):
    told = [
        ["fit", "shop.yaml", "--data", "train.jsonl", "--out", "m"],
        ["predict", "test.jsonl", "--model", "m"],
    ]
    seldom = ["numba.np.arraymath", "numba.np.linalg", "scipy.linalg", "scipy.optimize", "scipy.sparse"]
    for words in told:
        code = (
            "import sys; from cascade.cli import run\n"
            f"assert run({words}) == 0\n"
            f"print(sorted(set({seldom}) & set(sys.modules)))"
        )
        # Twice, as a kernel that is compiled just now has the whole compiler loaded.
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
            )
        assert done.stdout.splitlines()[-1] == "[]"


def test_check_needs_no_compiler(place):
    code = (
        "import sys; from cascade.cli import run\n"
        "assert run(['check', 'shop.yaml', '--data', 'train.jsonl']) == 0\n"
        "print('numba' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_cascade_alone_prints_help(tmp_path):
    done = cascade(cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_for_itself_and_each_option(name, capsys):
    assert run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"cascade {name}" in shown
    for parameter in click.Context(_command(name)).command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help
            assert parameter.opts[0] in shown


def _command(name):
    from cascade.cli import cascade as group

    return group.commands[name]


def test_version_is_that_of_the_package(tmp_path):
    assert cascade("--version", cwd=tmp_path).stdout == f"cascade {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [("fit",), ("fit", "a", "b"), ("bogus",), ("predict", "x", "--top", "0"), ("evaluate",)]
)
def test_wrong_usage_is_told_on_stderr_with_exit_code_2(arguments, capsys):
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Usage: cascade" in shown.err


# Errors


class _Fault:
    """A command that fails in a way that no command of ours should."""

    def __init__(self, error):
        self.error = error

    def run(self, *arguments):
        group = Commands("cascade", commands={"boom": click.Command("boom", callback=self.boom)})
        return group.main([*arguments, "boom"], standalone_mode=False)

    def boom(self):
        raise self.error


def test_an_unexpected_error_is_one_line_and_exit_code_1(capsys):
    assert _Fault(ValueError("shapes (2,)\nand (3,)")).run() == 1
    shown = capsys.readouterr()
    assert shown.err == "unexpected error: ValueError: shapes (2,) and (3,); run again with --debug\n"
    assert shown.out == ""


def test_an_interrupt_in_compiled_code_is_an_interrupt(capsys):
    inner, error = (SystemError("CPUDispatcher(_hash) returned a result with an exception set") for _ in "ab")
    error.__cause__, inner.__cause__ = inner, KeyboardInterrupt()  # as the interpreter sets them
    assert _Fault(error).run() == 130
    assert capsys.readouterr().err.startswith("interrupted.")


def test_an_error_of_the_system_names_the_file(capsys):
    assert _Fault(PermissionError(13, "Permission denied", "/x/y")).run() == 1
    assert capsys.readouterr().err == "error: /x/y: Permission denied\n"


@pytest.mark.parametrize("arguments", [["--debug", "predict", "x"], ["predict", "x", "--debug"]])
def test_debug_shows_the_traceback_wherever_it_stands(arguments, place, capsys):
    assert run([*arguments, "--model", "nowhere"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.splitlines()[-1].startswith("error: nowhere: no model here")


def test_a_full_disk_behind_stdout_is_told(place):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("check", "shop.yaml"), stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode == 1
    assert done.stderr.decode() == "error: No space left on device\n"


def test_a_taxonomy_that_is_not_there_is_looked_for_nearby(place, capsys):
    (place / "taxonomies").mkdir()
    (place / "taxonomies" / "feedback.yaml").write_text(TAXONOMY)
    assert run(["fit", "shpo.yaml"]) == 1
    assert capsys.readouterr().err == "error: shpo.yaml: no such file. Did you mean 'shop.yaml'?\n"
    assert run(["check", "feedback"]) == 1
    assert "Did you mean 'taxonomies/feedback.yaml'?" in capsys.readouterr().err
    assert run(["inspect-tree", "qqq"]) == 1
    assert "Found nearby: shop.yaml, taxonomies/feedback.yaml." in capsys.readouterr().err


# check


def test_check_reports_on_stdout_and_passes_without_errors(shop):
    done = cascade("check", "shop.yaml", cwd=shop)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "advice several-parents" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 errors")


def test_check_finds_bad_rows_in_train_and_test_files(place, capsys):
    with (place / "train.jsonl").open("a") as file:
        file.write('{"text": "x", "labels": ["lat"]}\n')
    with (place / "test.jsonl").open("a") as file:
        file.write('{"text": 1}\n')
    assert run(["check", "shop.yaml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is False
    assert [one["rule"] for one in found["findings"] if one["severity"] == "error"] == [
        "bad-row",
        "unknown-label",
    ]
    assert found["rows"] == 90


def test_check_tells_all_faults_of_a_taxonomy(place, capsys):
    (place / "bad.yaml").write_text(
        "name: n\ngroups:\n  a: {labels: [x], chose: one}\n  b: {backend: linar, labels: [y]}\n"
    )
    assert run(["check", "bad.yaml"]) == 1
    shown = capsys.readouterr()
    assert "bad.yaml:3:20: unknown key 'chose'" in shown.err
    assert "bad.yaml:4:16: unknown backend 'linar'" in shown.err
    assert "Did you mean 'linear'?" in shown.err
    assert shown.err.splitlines()[-1] == "error: 2 faults in the taxonomy"
    assert shown.out == ""


def test_check_tells_faults_of_a_taxonomy_as_json_too(place, capsys):
    (place / "bad.yaml").write_text("name: n\nlabels: [x, x]\n")
    assert run(["check", "bad.yaml", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["rule"] == "taxonomy"
    assert finding["message"].startswith("bad.yaml:2:13: label 'x' stands twice")


def test_check_of_a_taxonomy_without_data_only_advises(place, capsys):
    (place / "bare.yaml").write_text("name: n\nlabels: [x, y]\n")
    assert run(["check", "bare.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "advice no-data" in shown
    assert "0 errors" in shown


def test_check_of_other_files_than_those_of_the_taxonomy(place, capsys):
    write_rows(place / "few.jsonl", labelled_rows(3))
    write_rows(place / "more.jsonl", labelled_rows(4))
    run(["check", "shop.yaml", "--data", "few.jsonl", "--data", "more.jsonl", "--json"])
    assert json.loads(capsys.readouterr().out)["rows"] == 7


def test_check_without_any_usable_row_of_named_files_fails(place, capsys):
    (place / "none.jsonl").write_text("")
    assert run(["check", "shop.yaml", "--data", "none.jsonl"]) == 1
    assert "error no-data" in capsys.readouterr().out


# fit


def test_fit_logs_on_stderr_and_sums_up_on_stdout(fitted):
    _, done = fitted
    assert done.returncode == 0, done
    logged = done.stderr.splitlines()
    for group in ("top level", "billing", "tax", "delivery", "mood"):
        assert any(line.startswith(f"fitted {group} (") for line in logged)
    assert any(line.startswith("fitted delivery (") and " rows, 3 children, " in line for line in logged)
    assert logged[-1] == "next: cascade predict INPUT --out predictions.jsonl"
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{Path('models/shop')}: 8 labels, 90 rows, 5 groups fitted, 0 reused, ")
    assert re.fullmatch(r"out of fold: micro F1 [01]\.\d{3}, macro F1 [01]\.\d{3}", second)
    assert "\x1b" not in done.stdout + done.stderr


def test_a_second_fit_reuses_every_group_and_says_so(fitted, tmp_path):
    folder, _ = fitted
    done = cascade("fit", "shop.yaml", "--json", "--seed", "0", "--jobs", "1", cwd=folder)
    assert done.returncode == 0
    assert "reused delivery (" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["fitted"], summary["reused"], summary["rows"], summary["refused"]) == (0, 5, 90, 0)
    assert summary["model"] == str(Path("models/shop"))
    assert 0 < summary["micro_f1"] <= 1
    assert 0 < summary["macro_f1"] <= 1
    assert summary["seconds"] > 0


def test_fit_of_an_empty_file_names_it(place, capsys):
    write_rows(place / "empty.jsonl", [])
    assert run(["fit", "shop.yaml", "--data", "empty.jsonl"]) == 1
    assert "error: empty.jsonl: no rows, so there is nothing to learn." in capsys.readouterr().err


def test_fit_lists_bad_rows_and_stops(place, capsys):
    with (place / "train.jsonl").open("a") as file:
        file.write('{"text": "x", "labels": ["lat"]}\n' * 23)
    assert run(["fit", "shop.yaml"]) == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert lines[0].endswith("train.jsonl row 91: unknown label 'lat'. Did you mean 'late'?")
    assert len(lines) == 20 + 1 + 1
    assert lines[-2] == "... and 3 more"
    assert (
        lines[-1] == "error: 23 bad rows. Mend what is listed above, or learn without with --skip-bad-rows."
    )
    assert shown.out == ""
    assert not (place / "models").exists()


def test_fit_that_skips_bad_rows_ends_with_exit_code_3(place, capsys):
    with (place / "train.jsonl").open("a") as file:
        file.write("nope\n")
    assert run(["fit", "shop.yaml", "--skip-bad-rows", "--json", "--jobs", "1"]) == 3
    shown = capsys.readouterr()
    assert "train.jsonl row 91: not JSON" in shown.err
    assert "1 bad row left out" in shown.err
    assert json.loads(shown.out)["refused"] == 1
    assert json.loads(shown.out)["rows"] == 90


def test_a_dry_run_shows_every_group_and_writes_nothing(place, capsys):
    assert run(["fit", "shop.yaml", "--dry-run"]) == 0
    shown = capsys.readouterr()
    rows = {line.split("  ")[0]: line.split() for line in shown.out.splitlines()}
    assert {"top level", "billing", "tax", "delivery", "mood"} <= rows.keys()
    assert rows["delivery"][3] == "3"
    assert rows["delivery"][-1] == "nothing"
    assert "nothing was trained" in shown.err
    assert not (place / "models").exists()


def test_a_dry_run_as_json(place, capsys):
    assert run(["fit", "shop.yaml", "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["cost_usd"] == 0
    assert {one["group"] for one in planned["groups"]} == {"", "billing", "delivery", "mood", "tax"}


def test_fit_without_training_rows_says_how_to_name_them(place, capsys):
    (place / "bare.yaml").write_text("name: n\nlabels: [x, y]\n")
    assert run(["fit", "bare.yaml"]) == 1
    assert "Add files under `data: train:`, or give --data FILE." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "complaint"), [(".", "not a model folder, it holds"), ("shop.yaml", "a file")]
)
def test_fit_does_not_write_into_what_is_no_model_folder(place, capsys, out, complaint):
    assert run(["fit", "shop.yaml", "--out", out]) == 1
    shown = capsys.readouterr().err
    assert complaint in shown
    assert "--out" in shown


def test_an_interrupted_fit_goes_on_and_ends_with_the_same_model(tmp_path, monkeypatch):
    (tmp_path / "shop.yaml").write_text(TAXONOMY)
    write_rows(tmp_path / "train.jsonl", labelled_rows(1000))
    write_rows(tmp_path / "test.jsonl", [])
    with subprocess.Popen(
        command("fit", "shop.yaml", "--jobs", "2"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:
        told = (line for line in process.stderr if not line.startswith("Compiling "))
        assert next(told).startswith("fitted top level (")
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    # CPython ends by the signal itself where it caught code in `exec`; a shell shows 130 for that as well.
    assert process.returncode in {130, -signal.SIGINT}
    assert err.splitlines()[-1] == "interrupted. What is fitted is kept: the same command goes on from there."
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "models" / "shop" / "manifest.json").exists()

    resumed = cascade("fit", "shop.yaml", "--jobs", "2", cwd=tmp_path)
    assert "reused top level (" in resumed.stderr
    assert "fitted " in resumed.stderr
    monkeypatch.chdir(tmp_path)
    assert run(["fit", "shop.yaml", "--jobs", "1", "--out", "models/undisturbed"]) == 0
    assert read_manifest(tmp_path / "models" / "shop") == read_manifest(tmp_path / "models" / "undisturbed")


# Which model


def test_the_last_fitted_model_is_used_and_named(inside, capsys):
    assert inside("inspect-tree") == 0
    told = f"model: {Path('models/shop')} (the last that fit wrote)"
    assert told in capsys.readouterr().err.splitlines()  # beside what may have to be compiled


def test_the_environment_comes_before_the_last_model_and_the_option_before_both(
    inside, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CASCADE_MODEL", str(tmp_path))
    assert inside("inspect-tree") == 1
    told = f"model: {tmp_path} (from $CASCADE_MODEL)\nerror: {tmp_path}: no model here"
    assert capsys.readouterr().err.startswith(told)
    assert inside("inspect-tree", "--model", "models/shop") == 0
    assert capsys.readouterr().err == ""


def test_a_model_written_elsewhere_is_not_the_last_and_the_next_command_names_it(place, capsys):
    assert run(["fit", "shop.yaml", "--out", "else where", "--jobs", "1"]) == 0
    assert "cascade predict INPUT --model 'else where' --out" in capsys.readouterr().err
    assert not (place / "models").exists()
    assert run(["predict", "test.jsonl"]) == 1
    shown = capsys.readouterr().err
    assert "no model to use" in shown
    assert "cascade fit TAXONOMY" in shown


def test_the_last_of_two_models_is_the_last(inside, tmp_path, monkeypatch, shop, capsys):
    for name in ("shop.yaml", "train.jsonl"):
        shutil.copy(shop / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        shutil.copytree(shop / "models" / "shop", tmp_path / "models" / name)
        assert inside("fit", "shop.yaml", "--out", f"models/{name}", "--jobs", "1") == 0
    capsys.readouterr()
    assert inside("inspect-tree") == 0
    assert str(Path("models/two")) in capsys.readouterr().err


def test_a_last_model_that_was_removed_is_told(place, capsys):
    (place / "models").mkdir()
    (place / "models" / ".last").write_text("gone\n")
    assert run(["predict", "test.jsonl"]) == 1
    assert f"error: {Path('models/gone')}: no model here" in capsys.readouterr().err


def test_a_damaged_model_is_one_clear_error(inside, shop, tmp_path, capsys):
    shutil.copytree(shop / "models" / "shop", tmp_path / "damaged")
    victim = max((tmp_path / "damaged" / "nodes").rglob("*.npy"), key=lambda path: path.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-1] + b"!")
    for arguments in (("predict", "test.jsonl"), ("evaluate", "test.jsonl"), ("inspect-tree",)):
        assert inside(*arguments, "--model", tmp_path / "damaged") == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith(f"error: {tmp_path / 'damaged'}")
        assert "changed since it was written" in shown.err
        assert len(shown.err.splitlines()) == 1


def test_an_unknown_model_is_one_clear_error(shop):
    done = cascade("predict", "test.jsonl", "--model", "nowhere", cwd=shop)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: nowhere: no model here")


# predict


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_predict_writes_json_lines_to_stdout_in_the_order_of_the_rows(shop):
    done = cascade("predict", "test.jsonl", cwd=shop)
    assert done.returncode == 0
    rows = rows_of(done.stdout)
    assert [row["id"] for row in rows] == [f"r{number}" for number in range(30)]
    assert all(set(row) == {"id", "labels", "scores"} for row in rows)
    assert any(row["labels"] for row in rows)
    assert all(list(row["scores"]) == row["labels"] for row in rows)
    assert done.stderr == f"model: {Path('models/shop')} (the last that fit wrote)\n"


def test_predict_reads_standard_input_and_numbers_rows_without_an_id(shop):
    given = '{"text": "charged twice"}\n{"text": "it was in pieces"}\n'
    done = cascade("predict", "-", "--top", "2", cwd=shop, given=given)
    rows = rows_of(done.stdout)
    assert [row["id"] for row in rows] == [1, 2]
    assert [len(row["labels"]) for row in rows] == [2, 2]


def test_predict_tells_refused_rows_on_stderr_with_exit_code_3(shop):
    done = cascade("predict", "-", cwd=shop, given='{"text": "charged twice"}\n{"text": 7}\nnope\n')
    assert done.returncode == 3
    assert [row["id"] for row in rows_of(done.stdout)] == [1]
    lines = done.stderr.splitlines()[1:]
    assert [json.loads(line)["row"] for line in lines[:2]] == [2, 3]
    assert lines[2] == "2 rows were refused: see above"


def test_predict_writes_refused_rows_beside_the_output(inside, tmp_path, capsys):
    given, out = tmp_path / "given.jsonl", tmp_path / "out" / "answers.jsonl"
    given.write_text('{"text": "charged twice"}\nnope\n')
    assert inside("predict", given, "--out", out) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(rows_of(out.read_text())) == 1
    assert [row["row"] for row in rows_of((tmp_path / "out" / "answers.errors.jsonl").read_text())] == [2]
    refused = tmp_path / "out" / "answers.errors.jsonl"
    assert shown.err.endswith(f"{out}: 1 row\n1 row was refused: see {refused}\n")


def test_predict_takes_the_file_for_refused_rows(inside, tmp_path, capsys):
    (tmp_path / "given.jsonl").write_text("nope\n")
    assert inside("predict", tmp_path / "given.jsonl", "--errors", tmp_path / "no.jsonl") == 3
    assert [row["raw"] for row in rows_of((tmp_path / "no.jsonl").read_text())] == ["nope"]
    assert f"see {tmp_path / 'no.jsonl'}" in capsys.readouterr().err


def test_predict_takes_the_columns_of_text_and_id(inside, tmp_path, capsys):
    (tmp_path / "given.csv").write_text("nr,says\n007,charged twice\n")
    assert inside("predict", tmp_path / "given.csv", "--text-column", "says", "--id-column", "nr") == 0
    assert rows_of(capsys.readouterr().out)[0]["id"] == "007"


def test_predict_tells_the_columns_that_there_are(inside, tmp_path, capsys):
    (tmp_path / "given.csv").write_text("nr,says,adds\n7,charged twice,quite often\n")
    assert inside("predict", tmp_path / "given.csv") == 1
    assert "says" in capsys.readouterr().err


def test_predict_with_all_scores_and_a_trace(inside, tmp_path, capsys):
    (tmp_path / "given.jsonl").write_text('{"text": "charged twice"}\n')
    assert inside("predict", tmp_path / "given.jsonl", "--scores", "all", "--trace") == 0
    (row,) = rows_of(capsys.readouterr().out)
    assert {"happy", "angry"} <= set(row["scores"])  # their group is always visited
    assert {step["node"] for step in row["trace"]} >= {"billing", "delivery", "mood", "happy", "angry"}
    assert {"conditional", "path", "threshold"} <= set(row["trace"][0])


def test_predict_into_head_ends_quietly(shop, tmp_path):
    many = write_rows(tmp_path / "many.jsonl", labelled_rows(6000))
    with subprocess.Popen(
        command("predict", many, "--jobs", "1"),
        cwd=shop,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        assert json.loads(process.stdout.readline())["id"] == "r0"
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 0
    assert err.splitlines() == [f"model: {Path('models/shop')} (the last that fit wrote)"]


def test_an_interrupted_predict_goes_on_where_it_stopped(inside, shop, tmp_path, capsys):
    many = write_rows(tmp_path / "many.jsonl", labelled_rows(60_000))
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    with subprocess.Popen(
        command("predict", many, "--out", out, "--jobs", "1"),
        cwd=shop,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=heed_interrupts,
    ) as process:
        while not list(tmp_path.glob("out.jsonl.part/*/_work/0*.json")) and process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode in {130, -signal.SIGINT}, err
    assert err.splitlines()[-1] == "interrupted. With --out, the same command goes on from where it stopped."
    assert not out.exists()

    assert inside("predict", many, "--out", out, "--jobs", "1") == 0
    assert len(capsys.readouterr().err.splitlines()) == 3  # the model, that it goes on, how many rows
    assert inside("predict", many, "--out", whole, "--jobs", "1") == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_terminal_gets_a_progress_bar_and_a_pipe_none(shop):
    import pty

    def errors_of(*, to_terminal):
        ours, theirs = pty.openpty() if to_terminal else os.pipe()
        with subprocess.Popen(
            command("check", "shop.yaml", "--json"),
            cwd=shop,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env=environment(TERM="xterm"),
        ) as process:
            os.close(theirs)
            json.loads(process.stdout.read())
            said = b""
            with contextlib.suppress(OSError):  # how a terminal ends
                while chunk := os.read(ours, 1024):
                    said += chunk
        os.close(ours)
        return said

    assert b"checking" in errors_of(to_terminal=True)
    assert b"checking" not in errors_of(to_terminal=False)


# evaluate


def test_evaluate_prints_one_json_object(shop):
    done = cascade("evaluate", "test.jsonl", "--json", cwd=shop)
    assert done.returncode == 0
    figures = json.loads(done.stdout)
    wanted = {
        "rows", "labels", "micro_f1", "macro_f1", "precision_at_1", "none_recall", "hierarchical_f1",
        "router_recall", "oracle_router_micro_f1", "errors", "per_label", "per_group",
    }  # fmt: skip
    assert wanted <= set(figures)
    assert (figures["rows"], figures["labels"]) == (30, 8)
    assert set(figures["errors"]) == {"router", "leaf", "threshold"}
    assert figures["micro_f1"] > 0.5


def test_evaluate_prints_a_summary_for_people(inside, capsys):
    assert inside("evaluate", "test.jsonl") == 0
    shown = capsys.readouterr().out
    assert "micro F1" in shown
    assert "router recall" in shown
    assert "\x1b" not in shown


def test_evaluate_takes_several_files_and_leaves_out_bad_rows(inside, tmp_path, capsys):
    more = tmp_path / "more.jsonl"
    more.write_text('{"text": "charged twice", "labels": ["refund"]}\n{"text": "x", "labels": ["lat"]}\n')
    assert inside("evaluate", "test.jsonl", more, "--json") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["rows"] == 31
    assert "more.jsonl row 2: unknown label 'lat'. Did you mean 'late'?" in shown.err


def test_evaluate_counts_group_visits_and_not_only_their_scores(inside, capsys):
    """A group is scored for every text, and entered for some."""
    assert inside("evaluate", "test.jsonl", "--json") == 0
    groups = json.loads(capsys.readouterr().out)["per_group"]
    assert groups["billing"]["visited"] < 30
    assert groups["mood"]["visited"] == 30


def test_evaluate_without_rows_says_so(inside, tmp_path, capsys):
    (tmp_path / "none.jsonl").write_text("\n")
    assert inside("evaluate", tmp_path / "none.jsonl") == 1
    assert "no rows to compare with" in capsys.readouterr().err


# inspect-tree


def test_inspect_tree_of_a_taxonomy_needs_no_model(place, capsys):
    assert run(["inspect-tree", "shop.yaml"]) == 0
    shown = capsys.readouterr()
    assert "mood  choose one, route always" in shown.out
    assert "unless another is said: linear, choose many, route model" in shown.out
    assert shown.err == ""


def test_inspect_tree_of_a_model_shows_rows_and_figures(inside, capsys):
    assert inside("inspect-tree", "models/shop") == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines()[0] == "4 groups, 8 labels, 90 training rows"
    assert "threshold" in shown.out.splitlines()[3]
    assert shown.err == ""


def test_inspect_tree_as_json_down_to_a_depth(place, capsys):
    assert run(["inspect-tree", "shop.yaml", "--format", "json", "--depth", "1"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [child["name"] for child in tree["children"]] == ["billing", "delivery", "mood"]
    assert [child["labels_below"] for child in tree["children"]] == [4, 3, 2]
    assert all(child["children"] == [] for child in tree["children"])


def test_inspect_tree_of_one_group(place, capsys):
    assert run(["inspect-tree", "shop.yaml", "--group", "tax"]) == 0
    shown = capsys.readouterr().out
    assert "no_vat" in shown
    assert "late" not in shown
    assert run(["inspect-tree", "shop.yaml", "--group", "taxx"]) == 1
    assert "has no group 'taxx'. Did you mean 'tax'?" in capsys.readouterr().err


def test_inspect_tree_in_the_order_of_f1(inside, capsys):
    assert inside("inspect-tree", "models/shop", "--format", "json", "--sort", "f1") == 0
    tree = json.loads(capsys.readouterr().out)
    figures = [child["f1"] for child in tree["children"]]
    assert figures == sorted(figures)


@pytest.mark.parametrize(
    ("form", "begin", "end"),
    [
        ("mermaid", "flowchart LR\n", "\n"),
        ("dot", "digraph {\n", "}\n"),
        ("html", "<!doctype html>", "</html>\n"),
    ],
)
def test_inspect_tree_writes_what_other_programs_draw(form, begin, end, shop):
    for what in ("shop.yaml", "models/shop"):
        done = cascade("inspect-tree", what, "--format", form, cwd=shop, PYTHONIOENCODING="ascii")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(begin)
        assert done.stdout.endswith(end)


def test_a_flowchart_that_mermaid_will_not_draw_is_told_of(place, capfd):
    labels = ", ".join(f"l{number}" for number in range(501))
    (place / "wide.yaml").write_text(f"name: n\nlabels: [{labels}]\n")
    assert run(["inspect-tree", "wide.yaml", "--format", "mermaid"]) == 0
    assert "show less with --depth or --group" in capfd.readouterr().err


def test_inspect_tree_tells_what_a_changed_taxonomy_would_train(shop, tmp_path):
    after = tmp_path / "after.yaml"
    after.write_text(TAXONOMY.replace("[late, broken, refund]", "[late, broken, lost, refund]"))
    done = cascade("inspect-tree", "models/shop", "--diff", after, cwd=shop)
    assert (done.returncode, done.stderr) == (0, "")
    assert "+ label lost  in delivery" in done.stdout
    assert "fit trains 1 of 5 groups\n  * delivery: children came: 'lost'" in done.stdout
    done = cascade("inspect-tree", "models/shop", "--diff", "models/shop", "--format", "json", cwd=shop)
    found = json.loads(done.stdout)
    assert (found["retrained"], found["kept"], found["rows_known"]) == ([], 5, True)
    assert cascade("inspect-tree", "--diff", "shop.yaml", cwd=shop).stderr.startswith("model: models/shop")


@pytest.mark.parametrize(
    "option", [("--format", "html"), ("--depth", "1"), ("--group", "tax"), ("--sort", "name")]
)
def test_a_difference_is_of_the_whole_and_no_picture(option, place, capsys):
    assert run(["inspect-tree", "shop.yaml", "--diff", "shop.yaml", *option]) == 2
    assert "--diff" in capsys.readouterr().err


def test_inspect_tree_takes_one_thing_only(place, capsys):
    assert run(["inspect-tree", "shop.yaml", "--model", "models/shop"]) == 2
    assert "expected WHAT or --model, found both" in capsys.readouterr().err


def test_json_is_utf8_whatever_the_terminal_can_show(place):
    (place / "odd.yaml").write_text("name: n\nlabels: [Größe, 日本]\n", "utf-8")
    done = cascade("inspect-tree", "odd.yaml", "--format", "json", cwd=place, PYTHONIOENCODING="ascii")
    assert [child["name"] for child in json.loads(done.stdout)["children"]] == ["Größe", "日本"]
    text = subprocess.run(
        command("inspect-tree", "odd.yaml"),
        capture_output=True,
        env=environment(PYTHONIOENCODING="latin-1"),
        check=True,
    )
    assert "Größe".encode("latin-1") in text.stdout
    assert rb"\u65e5\u672c" in text.stdout

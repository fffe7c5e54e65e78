"""Runs that are killed without warning, at a service that keeps its answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from urllib.request import urlopen

import pytest
import yaml
from hosted_runs import environment, run, sandbox

GROUPS = {"billing": ["refund", "invoice", "overcharged"], "delivery": ["late", "broken", "lost"]}
N_ROWS, IN_FLIGHT = 14, 4
PREDICT = ("predict", "rows.jsonl", "--model", "models/shop", "--out", "out.jsonl")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox"), "--latency", "0.6") as found:
        yield found


def put(folder, address, **options):
    told = {"kind": "prompt", "provider": "compatible", "base_url": address, "api_key_env": "SANDBOX_KEY"}
    backend = {**told, "model": "reader", "concurrency": IN_FLIGHT, **options}
    groups = {name: {"labels": labels} for name, labels in GROUPS.items()}
    described = {"name": "shop", "defaults": {"backend": backend}, "groups": groups}
    folder.mkdir()
    (folder / "shop.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    names = [name for labels in GROUPS.values() for name in labels]
    rows = [{"id": row, "text": f"{folder} {row} {names[row % len(names)]}"} for row in range(N_ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    run(folder, "fit", "shop.yaml")
    return folder


def seen(address):
    with urlopen(f"{address.removesuffix('/v1')}/sandbox/requests") as answer:
        return json.load(answer)


def arrived(address):
    return seen(address)["requests"].get("POST /v1/chat/completions", 0)


def answered(address):
    """How many answers the service has given, and counts as paid for, once it is at rest."""
    while arrived(address) > (found := seen(address)["usage"].get("reader", {}).get("requests", 0)):
        time.sleep(0.05)
    return found


def killed(folder, address, home):
    """A run that is killed when all that it may have on its way has arrived at the service."""
    before = arrived(address)
    command, quiet = [sys.executable, "-m", "cascade", *PREDICT], {"stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=folder, env=environment(CASCADE_HOME=home), **quiet) as process:
        last, since = before, time.monotonic()
        while last < before + 2 * IN_FLIGHT or time.monotonic() - since < 0.3:
            assert process.poll() is None
            time.sleep(0.02)
            if (now := arrived(address)) != last:
                last, since = now, time.monotonic()
        process.kill()


def questions_of_a_whole_run(folder, address, tmp_path):
    before = answered(address)
    run(folder, *PREDICT[:-1], "whole.jsonl", CASCADE_HOME=str(tmp_path / "another home"))
    return answered(address) - before


@pytest.mark.parametrize("store", [True, False])
def test_a_run_that_is_killed_twice_pays_for_no_answer_twice_where_the_service_keeps_them(
    tmp_path, address, store
):
    home, folder = str(tmp_path / "home"), put(tmp_path / "shop", address, store=store)
    needed = questions_of_a_whole_run(folder, address, tmp_path)
    before = answered(address)
    killed(folder, address, home)
    killed(folder, address, home)
    done = run(folder, *PREDICT, CASCADE_HOME=home)
    paid = answered(address) - before
    rows = [json.loads(line) for line in (folder / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == list(range(N_ROWS))
    assert (folder / "out.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    if store:
        assert paid == needed
        assert re.search(r"\d answers? found again at the service", done.stderr)
    else:
        assert needed < paid <= needed + 2 * IN_FLIGHT
        assert "found again" not in done.stderr

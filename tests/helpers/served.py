"""A running service."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cascade as package
from cascade.model.folder import MANIFEST

TOKEN = "a-token-for-tests-0123456789"


def environment(**changes):
    root = str(Path(package.__file__).parents[1])
    found = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": found} | changes


@contextlib.contextmanager
def serving(model, *options, **changes):
    """A service that listens: its port and its process; it has to end well."""
    command = [sys.executable, "-m", "cascade", "serve", "--model", str(model), "--port", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**changes)
    )
    try:
        url = process.stdout.readline()
        assert url, process.stderr.read()
        yield int(url.rsplit(":", 1)[1]), process
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in errors


def ask(port, body, path="/v1/predict", method="POST", **headers):
    """Status, headers and body of the answer; a dict is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    content = json.dumps(body).encode() if isinstance(body, dict | list) else body
    given_ = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    with contextlib.closing(connection):
        connection.request(method, path, content, given_)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def get(port, path, **headers):
    return ask(port, None, path, "GET", **headers)


def run(*arguments, **changes):
    command = [sys.executable, "-m", "cascade", "serve", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(**changes), timeout=60, check=False
    )
    return done.returncode, done.stderr


def put_in_place(folder, other):
    """The model of another folder takes the place of that in `folder`, as `fit` would have it."""
    shutil.copytree(other, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    shutil.copy(other / MANIFEST, folder / "manifest.new")
    (folder / "manifest.new").replace(folder / MANIFEST)


def wait_until(holds, seconds=20):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def wait_for_model(port, digest):
    wait_until(lambda: json.loads(get(port, "/v1/taxonomy")[2])["model"] == digest)


def check_by_schemathesis(port, folder):
    """What the description says is so, whatever is asked."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    options = ["--max-examples", "20", "--seed", "1", "--phases", "examples,coverage,fuzzing", "--no-color"]
    url = f"http://127.0.0.1:{port}/openapi.json"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", url, *options],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]

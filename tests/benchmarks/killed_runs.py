"""Whether killed runs of ``cascade predict`` at a service lose a row, or pay for an answer twice.

Each run predicts some rows by a prompted model at a sandbox with chaos. It is stopped at a random moment,
twice, and then given once more, to its end: without warning (``--by KILL``), or told to (``--by TERM``).
Counted are rows that stand neither in the output nor among the refused ones, or in both, and answers of the
service to a request that had been answered before. What it has answered and a killed process has not read
cannot be had again, at most as many answers a kill as are in flight, unless the service was told to keep its
answers (``--store``), and lists them.
Run as ``python tests/benchmarks/killed_runs.py [--runs 100] [--by KILL] [--store] [--seed 0]``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ROWS, KILLS, IN_FLIGHT, LATENCY = 60, 2, 8, 0.05
CHAOS = "kinds=outside+refused+cut+endless+obeys+slow,rate=0.15"
TAXONOMY = """
name: shop
defaults: {{backend: {{kind: prompt, provider: compatible, base_url: "{address}", api_key_env: SANDBOX_KEY,
                       model: reader, concurrency: {in_flight}, store: {store}}}}}
groups:
  billing: {{labels: [refund, invoice, overcharged]}}
  delivery: {{labels: [late, broken, lost]}}
  account: {{labels: [password, closing, address]}}
"""
LABELS = ["refund", "invoice", "overcharged", "late", "broken", "lost", "password", "closing", "address"]
WORDS = [*LABELS, "hello", "thanks", "again"]


class Counting(ThreadingHTTPServer):
    """Hands requests on to a service, and counts the answers to each."""

    daemon_threads = True

    def __init__(self, behind: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.answers, self.lock = behind, Counter[str](), threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        # Who asked was killed, and its connections with it.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.hand_on(body)

    def do_GET(self):
        self.hand_on(None)

    def hand_on(self, body):
        headers = {
            name: self.headers[name] for name in ("content-type", "authorization") if self.headers[name]
        }
        asked = Request(self.server.behind + self.path.removeprefix("/v1"), body, headers)
        try:
            with urlopen(asked, timeout=60) as found:
                status, answer = found.status, found.read()
        except HTTPError as error:
            status, answer = error.code, error.read()
        except OSError:
            self.close_connection = True
            return
        if status == 200 and body is not None:
            with self.server.lock:
                self.server.answers[hashlib.sha256(body).hexdigest()] += 1
        try:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)
        except OSError:  # who asked was killed
            self.close_connection = True

    def log_message(self, *_):
        pass


def main():
    cli = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    cli.add_argument("--runs", type=int, default=100)
    cli.add_argument("--by", choices=("KILL", "TERM", "INT"), default="KILL")
    cli.add_argument("--store", action="store_true", help="have the service keep its answers")
    cli.add_argument("--seed", type=int, default=0)
    asked = cli.parse_args()
    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.environ.update(CASCADE_HOME=str(folder / "home"), SANDBOX_KEY="any")
        command = [sys.executable, "-m", "cascade", "sandbox", "--port", "0", "--folder", str(folder / "s")]
        command += ["--latency", str(LATENCY), "--chaos", f"seed={asked.seed},{CHAOS}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sandbox:
            server = Counting(sandbox.stdout.readline().strip())
            threading.Thread(target=server.serve_forever, daemon=True).start()
            store = str(asked.store).lower()
            told = TAXONOMY.format(address=server.address, in_flight=IN_FLIGHT, store=store)
            (folder / "shop.yaml").write_text(told, encoding="utf-8")
            cascade(folder, "fit", "shop.yaml").wait()
            found = [
                stopped_run(folder, number, draw, signal.Signals[f"SIG{asked.by}"])
                for number in range(asked.runs)
            ]
            sandbox.terminate()
    lost, refused, kills = (sum(column) for column in zip(*found, strict=True))
    answers, again = server.answers.total(), server.answers.total() - len(server.answers)
    print(
        f"{asked.runs} runs of {ROWS} rows, {kills} times stopped by {asked.by}: "
        f"{lost} rows lost or told twice, {refused} refused"
    )
    print(
        f"{answers} answers, {again} of them to a request that had been answered before: "
        f"{again / max(kills, 1):.1f} a time, with {IN_FLIGHT} in flight"
    )


def stopped_run(folder: Path, number: int, draw: random.Random, by: signal.Signals) -> tuple[int, int, int]:
    """Rows lost or told twice, rows refused, and kills that came before the end."""
    rows = folder / f"rows{number}.jsonl"
    texts = [" ".join(draw.choices(WORDS, k=5)) + f" {number} {row}" for row in range(ROWS)]
    rows.write_text("".join(json.dumps({"id": row, "text": text}) + "\n" for row, text in enumerate(texts)))
    out, kills = folder / f"out{number}.jsonl", 0
    for _ in range(KILLS):
        process = cascade(folder, "predict", rows.name, "--out", out.name)
        time.sleep(draw.uniform(0.8, 4.0))
        if process.poll() is None:
            process.send_signal(by)
            kills += 1
        process.wait()
    cascade(folder, "predict", rows.name, "--out", out.name).wait()
    refused = folder / f"out{number}.errors.jsonl"
    answered, bad = ids_in(out), ids_in(refused)
    seen = Counter(answered + bad)
    shutil.rmtree(folder / f"out{number}.jsonl.part", ignore_errors=True)
    return sum(seen[row] != 1 for row in range(ROWS)), len(bad), kills


def ids_in(path: Path) -> list[int]:
    if not path.exists():
        return []
    return [int(json.loads(line)["id"]) for line in path.read_text("utf-8").splitlines()]


def cascade(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cascade", *words]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()

"""How many texts a second `cascade serve` answers, and how long each waits.

Starts the service as a process and drives it from this one, over connections that are kept open. Each sends
its next text when the last was answered. Run as ``python tests/benchmarks/serving.py MODEL TEXTS``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Connection(asyncio.Protocol):
    """Sends request after request; `answered` gets the seconds that each took."""

    def __init__(self, requests, answered, until):
        self.requests, self.answered, self.until = requests, answered, until
        self.buffer, self.left, self.failures = b"", None, 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.sent = time.perf_counter()
        if self.sent > self.until:
            self.transport.close()
            return
        self.transport.write(next(self.requests))

    def data_received(self, data):
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if not mark or len(body) < self.length(head):
            return
        self.failures += not head.startswith(b"HTTP/1.1 200")
        self.buffer = b""
        self.answered.append(time.perf_counter() - self.sent)
        self.send()

    def length(self, head):
        at = head.index(b"content-length: ") + 16
        return int(head[at : head.find(b"\r", at) if b"\r" in head[at:] else None])

    def connection_lost(self, error):
        self.closed.set_result(None)


def endless(texts, start):
    requests = []
    for text in texts:
        body = json.dumps({"text": text}).encode()
        head = (
            f"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    place = start
    while True:
        yield requests[place % len(requests)]
        place += 1


async def drive(port, texts, connections, seconds):
    """Seconds of all answers, and how many were none."""
    loop, answered = asyncio.get_running_loop(), []
    until = time.perf_counter() + seconds
    made = [
        await loop.create_connection(
            lambda start=start: Connection(endless(texts, start * 37), answered, until), "127.0.0.1", port
        )
        for start in range(connections)
    ]
    await asyncio.gather(*(protocol.closed for _, protocol in made))
    return answered, sum(protocol.failures for _, protocol in made)


@contextlib.contextmanager
def served(model, *options):
    """The port of a service that listens."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "cascade", "serve", "--model", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path})
    try:
        yield int(process.stdout.readline().rsplit(b":", 1)[1]), process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


JSON_HEAD = b"POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


def hostile(chance):
    """Bytes to send, whether to cut the connection without waiting, and seconds to pause in the middle."""
    kind = chance.choice(("json", "type", "huge", "many", "slow", "cut", "http", "host", "surrogate", "nul"))
    bodies = {
        "json": b'{"text": ' + chance.randbytes(20).hex().encode(),
        "type": json.dumps({"texts": [chance.choice([None, 1, {}, []])]}).encode(),
        "huge": b'{"text": "' + b"x" * (3 << 20) + b'"}',
        "many": json.dumps({"texts": ["late"] * 1001}).encode(),
        "surrogate": b'{"text": "\\ud800"}',
        "nul": b'{"text": "\\u0000 late"}',
    }
    if kind == "http":
        return chance.randbytes(200) + b"\r\n\r\n", False, 0
    if kind == "host":
        return b"GET /v1/taxonomy HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n", False, 0
    body = bodies.get(kind, b'{"text": "late again"}')
    whole = JSON_HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    if kind == "huge" and chance.random() < 0.9:
        kind = "cut"  # three megabytes each time would measure the network
    return (
        (whole[: chance.randrange(len(whole))], True, 0) if kind == "cut" else (whole, False, kind == "slow")
    )


async def attack(port, seed, count, statuses):
    """Send hostile requests, each over a connection of its own, and note the status of each answer."""
    chance = random.Random(seed)
    for _ in range(count):
        sent, cut, pause = hostile(chance)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            middle = len(sent) // 2 if pause else len(sent)
            writer.write(sent[:middle])
            await writer.drain()
            await asyncio.sleep(0.2 * pause)
            writer.write(sent[middle:])
            found = b"" if cut else await reader.read(100)
            statuses[found[9:12].decode() or "cut"] += 1
        writer.transport.abort() if cut else writer.close()


async def besiege(port, texts, count):
    """Statuses of hostile requests among two ordinary ones for each, and how many of those failed."""
    statuses = Counter()
    attackers = asyncio.gather(*(attack(port, seed, count // 48, statuses) for seed in range(16)))
    ordinary, failures = [], 0
    while not attackers.done() or len(ordinary) < count * 2 // 3:
        answered, failed = await drive(port, texts, 32, 2)
        ordinary += answered
        failures += failed
    await attackers
    return statuses, len(ordinary), failures


def memory(pid):
    """Resident memory in MiB, 0 where nobody tells."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) // 1024
    return 0


def measure(port, process, texts, given):
    asyncio.run(drive(port, texts, given.connections, 1))
    before = memory(process.pid)
    started = time.perf_counter()
    answered, failures = asyncio.run(drive(port, texts, given.connections, given.seconds))
    taken = time.perf_counter() - started
    answered.sort()
    waits = {share: 1000 * answered[int(len(answered) * share / 100)] for share in (50, 95, 99)}
    print(f"{len(answered)} texts in {taken:.1f} s, {given.connections} connections, {failures} not answered")
    print(f"{len(answered) / taken:.0f} texts a second")
    print(", ".join(f"p{share} {wait:.1f} ms" for share, wait in waits.items()))
    print(f"memory {before} MiB before, {memory(process.pid)} MiB after")
    return failures == 0


def endure(port, process, texts, count):
    asyncio.run(besiege(port, texts, count // 10))
    before = memory(process.pid)
    statuses, ordinary, failures = asyncio.run(besiege(port, texts, count))
    print(f"{ordinary} ordinary requests, {failures} not answered")
    print("hostile: " + ", ".join(f"{status} {times}" for status, times in sorted(statuses.items())))
    print(f"memory {before} MiB before, {memory(process.pid)} MiB after")
    return failures == 0 and not any(status[0] == "5" and status != "503" for status in statuses)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, help="JSON lines with text")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--hostile", type=int, metavar="N", help="send N requests, every third a bad one")
    given = parser.parse_args()
    texts = [json.loads(line)["text"] for line in given.texts.open(encoding="utf-8")]
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    with served(given.model) as (port, process):
        if given.hostile:
            return 0 if endure(port, process, texts, given.hostile) else 1
        return 0 if measure(port, process, texts, given) else 1


if __name__ == "__main__":
    sys.exit(main())

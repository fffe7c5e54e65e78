"""Whole commands against a sandbox."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import yaml

import cascade

KEY = "sk-not-a-real-key"


GROUPS = {
    "billing": ["refund", "invoice", "overcharged"],
    "delivery": ["late", "broken", "lost"],
    "account": ["password", "closing", "address"],
}


FILLER = [
    "please",
    "hello",
    "the",
    "my",
    "again",
    "today",
    "still",
    "about",
    "what",
    "we",
    "it",
    "was",
    "order",
    "thanks",
]


def environment(**changes):
    """That of this process, with the data folder of its tests."""
    steering = ("CASCADE_MODEL", "COLUMNS")
    plain = {name: value for name, value in os.environ.items() if name not in steering}
    root = str(Path(cascade.__file__).parents[1])
    return plain | {"PYTHONPATH": root, "SANDBOX_KEY": KEY} | changes


def rows(count, seed):
    """Texts whose words give their labels away."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        group = draw.choice(list(GROUPS))
        names = draw.sample(GROUPS[group], draw.choice([0, 1, 1, 2]))
        if names and draw.random() < 0.2:
            names.append(draw.choice(GROUPS[draw.choice(list(GROUPS))]))
        words = [*draw.choices(FILLER, k=6), *(f"{name}word" for name in names), f"no{number}"]
        made.append({"text": " ".join(draw.sample(words, len(words))), "labels": sorted(set(names))})
    return made


def backend(address, **options):
    return {
        "kind": "openai",
        "provider": "compatible",
        "base_url": address,
        "api_key_env": "SANDBOX_KEY",
        **options,
    }


def taxonomy(address, **settings):
    groups = {name: {"labels": labels, **settings.get(name, {})} for name, labels in GROUPS.items()}
    return {"name": "shop", "defaults": {"backend": backend(address)}, "groups": groups}


def run(folder, *words, code=0, **changes):
    done = subprocess.run(
        [sys.executable, "-m", "cascade", *map(str, words)],
        cwd=folder,
        env=environment(**changes),
        capture_output=True,
        text=True,
        check=False,
    )
    assert code in (None, done.returncode), done.stderr
    return done


@contextmanager
def sandbox(folder, *options):
    """The address of a sandbox that runs beside."""
    command = [sys.executable, "-m", "cascade", "sandbox", "--port", "0", "--folder", str(folder), *options]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=20)


def put(folder, described):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "shop.yaml").write_text(yaml.safe_dump(described, sort_keys=False), "utf-8")
    for name, (count, seed) in {"train": (360, 1), "test": (120, 2)}.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows(count, seed))
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")
    return folder


FIT = ("fit", "shop.yaml", "--data", "train.jsonl", "--yes")


PREDICT = ("predict", "test.jsonl", "--model", "models/shop")

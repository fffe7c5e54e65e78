from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.errors import ModelError
from cascade.fitted import Cascade
from cascade.learn.fit import fit
from cascade.model.folder import (
    MANIFEST,
    NODES,
    digest_of,
    digest_of_file,
    locked,
    node_files,
    read_manifest,
    whole_node,
    write_manifest,
    write_node,
)
from cascade.system.serialization import checksummed
from cascade.taxonomy.definition import Taxonomy

PROBES = ["charged twice, smashed glass", "furious complaint about vat percentage", "", "lovely thanks"]


def tree(folder):
    """Every file of a folder with its bytes, and every folder in it; the lock aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def files(folder):
    return [name for name, content in tree(folder).items() if content is not None]


@pytest.fixture
def model(shop_model, tmp_path):
    """A copy of the shop's model that a test may damage."""
    return Path(shutil.copytree(shop_model, tmp_path / "model"))


def refused(folder, match=None):
    """Loading says what is wrong, in one ModelError that names the folder and a way out; the message."""
    with pytest.raises(ModelError, match=match) as caught:
        Cascade.load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "fit" in message
    assert "\n" not in message
    return message


def forge(folder, change):
    """Change the manifest as somebody who knows how it is sealed."""
    value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    del value["sha256"]
    changed = change(value) or value
    (folder / MANIFEST).write_bytes(checksummed(changed))


def forge_file(folder, group, name, content):
    """Change a file of a node, and its sha256 in the manifest."""

    def change(value):
        record = value["groups"][group]
        path = folder / NODES / record["node"] / name
        path.write_bytes(content)
        record["files"][name] = digest_of_file(path)

    forge(folder, change)


# What is damaged


def test_an_undamaged_copy_loads_and_answers_like_the_original(model, shop_model):
    copy, original = Cascade.load(model), Cascade.load(shop_model)
    assert copy.digest == original.digest == digest_of_file(model / MANIFEST) == digest_of(copy.manifest)
    assert copy.predict(PROBES) == original.predict(PROBES)
    assert any(copy.predict(PROBES))


def test_no_one_byte_of_any_file_can_change_unnoticed(model):
    names = files(model)

    @settings(deadline=None, derandomize=True, max_examples=250)
    @given(name=st.sampled_from(names), place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
    def check(name, place, flip):
        path = model / name
        content = path.read_bytes()
        at = int(place * len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :])
        try:
            refused(model)
        finally:
            path.write_bytes(content)

    check()
    assert Cascade.load(model).predict(PROBES)


@pytest.mark.parametrize("blank", [b" ", b"\n", b"\t"])
def test_white_space_in_the_manifest_counts_too(model, blank):
    content = (model / MANIFEST).read_bytes()
    for at in (0, 1, len(content) // 2, len(content)):
        (model / MANIFEST).write_bytes(content[:at] + blank + content[at:])
        refused(model, "expected JSON|changed since it was written")
    (model / MANIFEST).write_bytes(content.rstrip())
    refused(model, "changed since it was written")


DAMAGES = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte more": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "another file": lambda path: path.write_bytes(Path(__file__).read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damaged_file_is_named(model, damage):
    for name in files(model):
        path = model / name
        content = path.read_bytes()
        DAMAGES[damage](path)
        assert str(path) in refused(model) or (name == MANIFEST and "no model here" in refused(model))
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.write_bytes(content)
    assert Cascade.load(model)


def test_swapped_node_folders_are_noticed(model):
    names = sorted(path.name for path in (model / NODES).iterdir())
    for one, other in pairwise(names):
        for a, b in ((one, "aside"), (other, one), ("aside", other)):
            (model / NODES / a).rename(model / NODES / b)
        refused(model, "changed since it was written")
        for a, b in ((one, "aside"), (other, one), ("aside", other)):
            (model / NODES / a).rename(model / NODES / b)
    assert Cascade.load(model)


@pytest.mark.parametrize("what", ["no folder", "empty folder", "file"])
def test_where_no_model_is_the_message_says_what_to_do(tmp_path, what):
    place = tmp_path / "models"
    if what == "empty folder":
        place.mkdir()
    elif what == "file":
        place.write_text("no model")
    refused(place, "no model here .no manifest.json.. Run `cascade fit TAXONOMY`")


def test_strangers_files_in_the_folder_do_no_harm(model, shop):
    (model / ".DS_Store").write_bytes(b"\0")
    (model / "README.md").write_text("Our model.")
    (model / NODES / "notes").mkdir()
    (model / NODES / "notes" / "mine.txt").write_text("Keep me.")
    assert Cascade.load(model).predict(PROBES)
    fit(shop.taxonomy, shop.texts, shop.labels, model)
    assert (model / "README.md").read_text() == "Our model."
    assert (model / NODES / "notes" / "mine.txt").read_text() == "Keep me."


# What is forged: the sha256 of everything fits


class MakesFolder:
    """Leaves a folder behind when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def node_of(folder, kind):
    """A group whose model is of this kind, and its node folder."""
    records = read_manifest(folder).groups.items()
    return next((group, folder / NODES / one.node) for group, one in records if one.backend["kind"] == kind)


def test_a_pickle_in_place_of_any_array_runs_no_code(model, tmp_path):
    group, node = node_of(model, "linear")
    marker = tmp_path / "marker"
    for name in ("weights.npy", "biases.npy", "columns.npy", "idf.npy"):
        content = (node / name).read_bytes()
        forge_file(model, group, name, pickle.dumps(MakesFolder(marker)))
        assert name in refused(model, "expected a NumPy array")
        with (tmp_path / "array").open("wb") as out:
            np.lib.format.write_array(out, np.array([MakesFolder(marker)], dtype=object), allow_pickle=True)
        forge_file(model, group, name, (tmp_path / "array").read_bytes())
        assert name in refused(model, "expected a NumPy array")
        forge_file(model, group, name, content)
    assert not marker.exists()
    assert Cascade.load(model), "forging as such is not what was refused"


def test_a_huge_claimed_shape_is_refused_without_allocating(model):
    group, node = node_of(model, "linear")
    for name in ("weights.npy", "biases.npy", "columns.npy", "idf.npy"):
        content = (node / name).read_bytes()
        header = (
            content[:128].replace(b"'shape': (", b"'shape': (9999999999, ").replace(b"          \n", b"\n")
        )
        forge_file(model, group, name, header + content[128:])
        tracemalloc.start()
        try:
            refused(model, f"{name}: expected a NumPy array")
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()
        forge_file(model, group, name, content)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["weights", "biases", "idf"])
def test_numbers_that_are_none_are_refused(model, tmp_path, name, bad):
    group, node = node_of(model, "linear")
    array = np.load(node / f"{name}.npy")
    array.flat[-1] = bad
    np.save(tmp_path / "array.npy", array)
    forge_file(model, group, f"{name}.npy", (tmp_path / "array.npy").read_bytes())
    refused(model, f"{name}.npy: expected")


def test_a_node_model_of_another_group_does_not_pass(model):
    def swap(value):
        one, other = value["groups"][""], value["groups"]["tax"]
        for key in ("node", "files"):
            one[key], other[key] = other[key], one[key]

    assert len(read_manifest(model).groups[""].slopes) != 2
    forge(model, swap)
    refused(model, "scores of shape")


@pytest.mark.parametrize(
    "name", ["../../secret", "..", "/etc", "", ".", "a" * 64 + "/..", "A" * 64, "a" * 63, "a" * 65]
)
def test_a_manifest_cannot_name_a_node_folder_elsewhere(model, name):
    (model.parent / "secret").mkdir()

    def change(value):
        value["groups"]["tax"]["node"] = name

    forge(model, change)
    refused(model, "is no name of a node folder")


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "..", ".", "", "a/b", "a\\b", "a\0b", ".hidden", "a\n"]
)
def test_a_manifest_cannot_name_files_elsewhere(model, name):
    def change(value):
        value["groups"]["tax"]["files"][name] = "0" * 64

    forge(model, change)
    message = refused(model, "is no file name of ours")
    assert repr(name) in message


@pytest.mark.parametrize("schema", [0, 2, "1", None, [1], 1e300])
def test_a_manifest_of_another_schema_is_refused(model, schema):
    forge(model, lambda value: value.update(schema=schema))
    refused(model, "expected schema 1, found")


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-0.5", "1.5", '"0.5"', "null", "[0.5]", "1e999", "9" * 400]
)
@pytest.mark.parametrize("where", ["threshold", "route", "slope", "offset"])
def test_impossible_numbers_are_refused(model, where, value):
    marker = 0.123456789

    def change(manifest):
        record = manifest["groups"]["billing"]
        if where == "threshold":
            manifest["thresholds"]["late"] = marker
        elif where == "route":
            record["route_threshold"] = marker
        else:
            record[f"{where}s"][0] = marker

    forge(model, change)
    raw = (model / MANIFEST).read_text(encoding="utf-8")
    assert raw.count(str(marker)) == 1
    if where == "slope" and value == "1.5":
        value = "-1.5"
    elif where == "offset" and value in ("-0.5", "1.5"):
        value = "1e30"
    forged = json.loads(raw.replace(str(marker), value), parse_constant=float)
    del forged["sha256"]
    try:
        (model / MANIFEST).write_bytes(checksummed(forged))
    except ValueError:  # NaN, which only somebody else's JSON writer lets pass
        (model / MANIFEST).write_text(raw.replace(str(marker), value), encoding="utf-8")
    refused(model)


def test_every_threshold_must_be_there_those_of_groups_too(shop, tmp_path):
    backing = {
        **shop.taxonomy.to_dict(),
        "defaults": {"backend": {"kind": "linear", "C": 1}, "back_off": True},
    }
    fit(Taxonomy.from_dict(backing), shop.texts, shop.labels, tmp_path / "model")
    for name in ("late", "tax"):
        copy = Path(shutil.copytree(tmp_path / "model", tmp_path / name))
        forge(copy, lambda value, name=name: value["thresholds"].pop(name) and None)
        refused(copy, name)
        copy = Path(shutil.copytree(tmp_path / "model", tmp_path / f"{name} 7"))
        forge(copy, lambda value, name=name: value["thresholds"].update({name: 7}))
        refused(copy, "expected a number from 0 to 1, found 7")


@pytest.mark.parametrize(
    "backend",
    [{}, {"kind": "pickle"}, {"kind": ["linear"]}, {"kind": "linear", "C": 7}, {"kind": "os", "path": "/"}],
)
def test_a_backend_other_than_the_taxonomys_is_refused(model, backend):
    forge(model, lambda value: value["groups"]["tax"].update(backend=backend))
    refused(model, "group 'tax' has another backend than in its taxonomy")


def test_a_taxonomy_that_does_not_fit_the_rest_is_refused(model):
    forge(model, lambda value: value["taxonomy"]["groups"].pop("delivery") and None)
    refused(model, "its nodes are not those of its taxonomy")


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, 1, -1, 0.5, 10**30, 10**400, 1e308, -1e308, "", "x", "../..", "linear", "constant", "auto"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "C", "a"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value, here=()):
    """Every place in a JSON value, as the keys that lead to it."""
    found = [here] if here else []
    if isinstance(value, dict):
        return found + [place for key in value for place in places(value[key], (*here, key))]
    if isinstance(value, list):
        return found + [place for key in range(len(value)) for place in places(value[key], (*here, key))]
    return found


def test_a_forged_manifest_is_a_model_error_or_a_model_that_answers(model):
    original = (model / MANIFEST).read_text(encoding="utf-8")
    everywhere = [place for place in places(json.loads(original)) if place != ("sha256",)]
    outcomes = Counter()

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(place=st.sampled_from(everywhere), odd=ODD, drop=st.booleans())
    def check(place, odd, drop):
        value = json.loads(original)
        del value["sha256"]
        inside = value
        for key in place[:-1]:
            inside = inside[key]
        if drop:
            del inside[place[-1]]
        else:
            inside[place[-1]] = odd
        (model / MANIFEST).write_bytes(checksummed(value))
        try:
            loaded = Cascade.load(model)
        except ModelError:
            outcomes["refused"] += 1
            return
        outcomes["loaded"] += 1
        assert len(loaded.predict(PROBES)) == len(PROBES)

    check()
    assert min(outcomes["refused"], outcomes["loaded"]) > 20


# What a fit mends


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_next_fit_mends_a_damaged_folder_to_the_byte(model, shop_model, shop, damage):
    for name in random.Random(damage).sample(files(model), 4):
        DAMAGES[damage](model / name)
        if name == MANIFEST and (model / name).is_dir():
            (model / name).rmdir()  # not ours to remove
    fit(shop.taxonomy, shop.texts, shop.labels, model)
    assert tree(model) == tree(shop_model)


def test_changed_notes_of_a_node_are_not_taken_for_what_it_noted(model, shop_model, shop):
    for node in (model / NODES).iterdir():
        content = (node / "node.json").read_bytes()
        assert content.count(b'"C": 1') == 1
        (node / "node.json").write_bytes(content.replace(b'"C": 1', b'"C": 7'))
        assert whole_node(model, node.name) is None
    fit(shop.taxonomy, shop.texts, shop.labels, model)
    assert tree(model) == tree(shop_model)


def test_a_file_where_a_node_folder_belongs_is_replaced(model, shop_model, shop):
    node = next((model / NODES).iterdir())
    shutil.rmtree(node)
    node.write_text("no folder")
    refused(model, "missing")
    fit(shop.taxonomy, shop.texts, shop.labels, model)
    assert tree(model) == tree(shop_model)


def test_a_node_folder_appears_whole_or_not_at_all(tmp_path):
    def fails(folder):
        (folder / "a.json").write_text("{}")
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        write_node(tmp_path, "ab" * 32, fails)
    assert files(tmp_path) == []
    assert whole_node(tmp_path, "ab" * 32) is None
    write_node(tmp_path, "ab" * 32, lambda folder: (folder / "a.json").write_text("{}") and {"C": 1.0})
    assert whole_node(tmp_path, "ab" * 32) == {"C": 1.0}
    assert sorted(node_files(tmp_path, "ab" * 32)) == ["a.json", "node.json"]
    (tmp_path / NODES / ("ab" * 32) / "stray").write_text("")
    assert whole_node(tmp_path, "ab" * 32) is None


def test_of_two_who_make_one_node_folder_the_first_is_kept(tmp_path):
    key = "ab" * 32

    def write(folder):
        (folder / "a.json").write_text("{}")
        return {}

    def overtaken(folder):
        write_node(tmp_path, key, write)
        first.append((tmp_path / NODES / key).stat().st_ino)
        return write(folder)

    first = []
    write_node(tmp_path, key, overtaken)
    assert first == [(tmp_path / NODES / key).stat().st_ino]
    assert [path.name for path in (tmp_path / NODES).iterdir()] == [key]


# Locks


def test_a_folder_is_locked_for_one_at_a_time(tmp_path):
    refusal = pytest.raises(ModelError, match=r"new: another `cascade fit` is writing here\. Wait for it, or")
    with locked(tmp_path / "new"):
        with refusal, locked(tmp_path / "new"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "new"):
        pass


def test_an_error_under_the_lock_passes_through_and_frees_it(tmp_path):
    with pytest.raises(BlockingIOError, match="busy"), locked(tmp_path):
        raise BlockingIOError("busy")
    with locked(tmp_path):
        pass


# Fits in processes of their own, which may be killed

WORKER = """
import json, os, signal, sys, tempfile, time
from pathlib import Path
from cascade.taxonomy.definition import Taxonomy
from cascade.learn.fit import fit

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}

def watch(kill_at):
    count = 0
    def hook(event, arguments):
        nonlocal count
        flags = arguments[2] if event == "open" else 0
        if event in CHANGES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    return lambda: count

def run(job):
    steps = watch(job.get("kill_at"))
    taxonomy = Taxonomy.from_dict(job["taxonomy"])
    def report(event):
        if job.get("wait_for") == event.group and event.kind == "fitted":
            print("waiting", flush=True)
            time.sleep(60)
    started = time.perf_counter()
    try:
        fit(taxonomy, job["texts"], job["labels"], Path(job["out"]), seed=job.get("seed", 0), report=report)
        answer = {"steps": steps(), "seconds": time.perf_counter() - started}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)

with tempfile.TemporaryDirectory() as warm:  # so that children need not import anything
    two = {"name": "two", "groups": {"a": {"labels": ["x", "y"]}, "b": {"labels": ["z"]}}}
    fit(Taxonomy.from_dict(two), ["red", "blue", "green"] * 20, [["x"], ["y"], ["z"]] * 20, Path(warm))

for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        run(job)
        os._exit(0)
    print(child, flush=True)
    status = os.waitpid(child, 0)[1]
    print(json.dumps({"killed": os.WIFSIGNALED(status)}), flush=True)
"""


class Fits:
    """A process that has everything imported and forks one process for each fit."""

    def __init__(self, script):
        script.write_text(WORKER)
        self.process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"},
        )

    def say(self, data, out, **settings):
        job = {"taxonomy": data[0], "texts": data[1], "labels": data[2], "out": str(out), **settings}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def hear(self):
        return json.loads(self.process.stdout.readline())

    def run(self, data, out, **settings):
        """The answer of one fit, or None if it was killed."""
        self.say(data, out, **settings)
        self.hear()
        return self.rest()

    def kill(self, child):
        """Kill a fit; its answer if it had ended before, else None."""
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        return self.rest()

    def rest(self):
        answer = self.hear()
        return None if answer == {"killed": True} else answer | self.hear()

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and SIGKILL")
    runner = Fits(tmp_path_factory.mktemp("worker") / "fits.py")
    yield runner
    runner.close()


def small(shop):
    """A third of the shop, in two groups below the root: (taxonomy, texts, labels), JSON-able."""
    kept = {"billing", "refund", "double_charge", "delivery", "late", "broken"}
    plain = {
        "name": "small",
        "defaults": {"backend": {"kind": "linear", "C": 1}, "negatives": "siblings"},
        "groups": {
            "billing": {"labels": ["refund", "double_charge"]},
            "delivery": {"labels": ["late", "broken"]},
        },
    }
    labels = [[name for name in names if name in kept] for names in shop.labels[:100]]
    return plain, shop.texts[:100], labels


def is_whole(folder, finished):
    """Whether those node folders of a finished model that exist in `folder` are whole."""
    names = [path.name for path in (finished / NODES).iterdir() if (folder / NODES / path.name).exists()]
    return all(whole_node(folder, name) is not None for name in names)


def mended(fits, data, out, **settings):
    answer = fits.run(data, out, **settings)
    assert answer is not None
    assert "error" not in answer
    return tree(out)


def check_killed_at_every(step, fits, shop, tmp_path):
    """Kill a fit over an old model before each `step`-th change that it makes on disk; how many there are."""
    data = small(shop)
    fits.run(data, tmp_path / "old", seed=1)
    fits.run(data, tmp_path / "new")
    old, new = tree(tmp_path / "old"), tree(tmp_path / "new")
    shutil.copytree(tmp_path / "old", tmp_path / "counted")
    steps = fits.run(data, tmp_path / "counted")["steps"]
    assert old != new == tree(tmp_path / "counted")
    digests = {digest_of_file(tmp_path / name / MANIFEST) for name in ("old", "new")}
    seen = set()
    for at in range(1, steps + 1, step):
        out = Path(shutil.copytree(tmp_path / "old", tmp_path / str(at)))
        assert fits.run(data, out, kill_at=at) is None
        assert is_whole(out, tmp_path / "new")
        loaded = Cascade.load(out)
        seen.add(loaded.digest)
        assert any(loaded.predict(["charged twice"]))
        assert mended(fits, data, out) == new
        shutil.rmtree(out)
    assert seen == digests
    return steps


def test_a_fit_killed_before_any_change_on_disk_leaves_the_old_model_and_resumes(fits, shop, tmp_path):
    assert check_killed_at_every(5, fits, shop, tmp_path) > 60


@pytest.mark.slow
def test_a_fit_killed_before_each_single_change_on_disk_leaves_the_old_model_and_resumes(
    fits, shop, tmp_path
):
    check_killed_at_every(1, fits, shop, tmp_path)


def test_a_first_fit_killed_at_any_time_leaves_no_model_and_resumes(fits, shop, tmp_path):
    data = (shop.taxonomy.to_dict(), shop.texts, shop.labels)
    whole = mended(fits, data, tmp_path / "whole")
    seconds = min(fits.run(data, tmp_path / name)["seconds"] for name in ("again", "and again"))
    killed = 0
    for moment in range(15):
        out = tmp_path / str(moment)
        fits.say(data, out)
        child = fits.hear()
        time.sleep(seconds * (moment + 0.5) / 16)
        ended = fits.kill(child)
        killed += ended is None
        assert is_whole(out, tmp_path / "whole")
        if ended is None and not (out / MANIFEST).exists():
            refused(out, "no model here")
        assert mended(fits, data, out) == whole
    assert killed >= 5


def test_a_resumed_fit_keeps_what_was_fitted(fits, shop, tmp_path):
    data = (shop.taxonomy.to_dict(), shop.texts, shop.labels)
    with paused(fits, data, tmp_path / "model", "delivery"):
        pass
    events = []
    fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "model", report=events.append)
    kinds = {event.group: event.kind for event in events if event.kind != "decided"}
    assert kinds[""] == kinds["delivery"] == "reused"
    assert "fitted" in kinds.values()


@contextmanager
def paused(fits, data, out, group):
    """A fit in a process of its own that stands still once `group` is fitted, and is killed in the end."""
    fits.say(data, out, wait_for=group)
    child = fits.hear()
    assert fits.process.stdout.readline() == "waiting\n"
    try:
        yield
    finally:
        fits.kill(child)


def test_a_second_fit_to_one_folder_is_refused_and_a_killed_one_leaves_no_lock(
    fits, shop, shop_model, tmp_path
):
    data = (shop.taxonomy.to_dict(), shop.texts, shop.labels)
    with paused(fits, data, tmp_path / "model", ""):
        before = tree(tmp_path / "model")
        with pytest.raises(ModelError, match=r"model: another `cascade fit` is writing here\. Wait for it"):
            fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "model")
        assert tree(tmp_path / "model") == before
    fit(shop.taxonomy, shop.texts, shop.labels, tmp_path / "model")
    assert tree(tmp_path / "model") == tree(shop_model)


def test_what_a_killed_fit_left_lying_about_is_gone_after_the_next(fits, shop, shop_model, tmp_path):
    out = tmp_path / "model"
    data = (shop.taxonomy.to_dict(), shop.texts, shop.labels)
    steps = mended(fits, data, tmp_path / "counted") and fits.run(data, tmp_path / "counted 2")["steps"]
    left = set()
    for at in (steps // 3, steps // 2):
        assert fits.run(data, out, kill_at=at) is None
        left |= {name for name in tree(out) if "/." in name}
    (out / ".manifest.json.12345").write_text("half")
    assert left
    assert mended(fits, data, out) == tree(shop_model)


def test_whoever_reads_the_old_manifest_reads_it_to_the_end(model, shop):
    content = (model / MANIFEST).read_bytes()
    with (model / MANIFEST).open("rb", buffering=0) as reader:
        begun = reader.read(100)
        fit(shop.taxonomy, shop.texts, shop.labels, model, seed=1)
        assert begun + reader.read() == content
    assert (model / MANIFEST).read_bytes() != content


def test_a_load_that_a_new_model_overtakes_gives_the_new_one(model):
    manifest = read_manifest(model)

    def replaced(number):
        """The same model in node folders of other names."""
        keys = {group: f"face{number:02d}{one.node[6:]}" for group, one in manifest.groups.items()}
        groups = {group: replace(one, node=keys[group]) for group, one in manifest.groups.items()}
        return replace(manifest, seed=number, groups=groups)

    originals = Path(shutil.copytree(model / NODES, model.parent / "originals"))

    def replace_often():
        for number in range(40):
            newer = replaced(number)
            for group, record in newer.groups.items():
                shutil.copytree(originals / manifest.groups[group].node, model / NODES / record.node)
            write_manifest(model, newer)

    writer = threading.Thread(target=replace_often)
    writer.start()
    seeds = []
    while writer.is_alive():
        seeds.append(Cascade.load(model).manifest.seed)
    writer.join()
    assert seeds == sorted(seeds)
    assert Cascade.load(model).manifest.seed == 39


def test_a_model_can_be_loaded_at_any_time_while_fits_replace_it(fits, shop, tmp_path):
    data, out = small(shop), tmp_path / "model"
    fits.run(data, out)
    digests = set()
    for seed in range(1, 7):
        fits.say(data, out, seed=seed)
        fits.hear()
        while True:
            loaded = Cascade.load(out)
            digests.add(loaded.digest)
            if loaded.manifest.seed == seed:
                break
        assert "error" not in fits.rest()
    assert len(digests) == 7


def test_what_a_folder_holds_is_read_without_the_compiler():
    code = "import sys, cascade.model.folder; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

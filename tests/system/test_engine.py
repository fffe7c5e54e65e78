from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace
from tempfile import TemporaryDirectory

import joblib
import pytest
from prediction_rows import PYTHON_PATH, KeywordModel, damaged_rows, names_in

from cascade.errors import CascadeError, DataError
from cascade.learn.fit import fit
from cascade.predict import slices
from cascade.predict.files import predict_file
from cascade.predict.request import Request
from cascade.rows.readings import Reading
from cascade.rows.slices import ByteSlice
from cascade.system import engine
from cascade.taxonomy.definition import Taxonomy

ENVIRONMENT = os.environ | {"PYTHONPATH": PYTHON_PATH, "RAY_USAGE_STATS_ENABLED": "0"}


class MortalModel(KeywordModel):
    """Notes each text it begins with; where a file ``kill`` lies in its folder, it dies of that, once."""

    @classmethod
    def make(cls, folder, **settings):
        (folder / "begun").mkdir(parents=True)
        return super().make(folder, **settings)

    def walk(self, texts):
        (self.folder / "begun" / f"{texts[0].split()[-1]}-{uuid.uuid4().hex}").touch()
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "kill").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().walk(texts)

    def begun(self):
        """How often each slice was begun, by its first text."""
        return Counter(path.name.split("-")[0] for path in (self.folder / "begun").iterdir())


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise TimeoutError(f"nothing listens on port {port}")


@contextlib.contextmanager
def started(*commands):
    """Processes that end with the block, and all that they started as well."""
    processes = []
    try:
        for command in commands:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", *command], env=ENVIRONMENT, start_new_session=True, **quiet
                )
            )
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def dask_cluster(nanny):
    port = free_port()
    address = f"127.0.0.1:{port}"
    scheduler = ["distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = ["distributed.cli.dask_worker", f"tcp://{address}", "--nthreads", "1", nanny]
    no_page = ["--no-dashboard"]
    with started(scheduler + no_page, worker + no_page, worker + no_page):
        wait_for(port)
        yield f"dask://{address}"


@pytest.fixture(scope="module")
def dask():
    pytest.importorskip("distributed", reason="Dask is not installed")
    with dask_cluster("--no-nanny") as address:
        yield address


@pytest.fixture
def model(tmp_path):
    return MortalModel.make(tmp_path / "model")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f"{row}\n" for row in damaged_rows(200)))
    return path


def run(model, source, out, **options):
    return predict_file(model, Request(str(source), out, slice_rows=8, **options), io.BytesIO())


def check_same_as_here(model, source, out):
    """Output and refused rows are those of a run in this process."""
    whole = out.parent.parent / "whole" / out.name
    outcome = run(model, source, whole)
    for name in (out.name, outcome.errors.name):
        assert (out.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert names_in(out.parent) == names_in(whole.parent)


def check_killed_worker_costs_its_slice(model, source, out, **options):
    (model.folder / "kill").touch()
    outcome = run(model, source, out, **options)
    assert not (model.folder / "kill").exists()
    assert (outcome.rows, outcome.refused, outcome.resumed_from) == (180, 20, 0)
    assert sorted(model.begun().values()) == [1] * 24 + [2]
    check_same_as_here(model, source, out)


# Addresses


@pytest.mark.parametrize("address", ["", "here", "dask://host", "spark://host:1", "dask://host:port", "ray:"])
def test_unknown_kind_of_address_is_refused(model, source, tmp_path, address):
    with pytest.raises(CascadeError, match=r"unknown engine; expected one of local, dask://host:port.*ray"):
        run(model, source, tmp_path / "p.jsonl", engine=address)
    assert not (tmp_path / "p.jsonl.part").exists()


@pytest.mark.parametrize("kind", ["dask", "tcp", "ray"])
def test_cluster_that_does_not_answer_is_told_at_once(kind):
    address = f"{kind}://127.0.0.1:{free_port()}"
    pytest.importorskip("ray" if kind == "ray" else "distributed")
    started_at = time.monotonic()
    told = pytest.raises(CascadeError, match=f"{address}: no cluster answers there: .*Check the address")
    with told, engine.connected(address, None):
        pass
    assert time.monotonic() - started_at < 10


@pytest.mark.parametrize(
    ("address", "package"), [("dask://127.0.0.1:1", "distributed"), ("ray://127.0.0.1:1", "ray")]
)
def test_missing_package_is_told_with_the_extra_to_install(address, package):
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from cascade.system import engine\n"
        f"with engine.connected({address!r}, None): pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    extra = address.partition(":")[0]
    assert f"'{package}' is not installed" in done.stderr
    assert f"pip install 'cascade-classifier[{extra}]'" in done.stderr


def test_standard_output_is_not_for_other_machines(model, source):
    with pytest.raises(DataError, match="name one with --out"):
        run(model, source, None, engine="dask://127.0.0.1:1")


# What machines have to agree on


@pytest.mark.parametrize("lost", ["model", "in.jsonl"])
def test_worker_that_does_not_see_a_file_says_so(model, source, tmp_path, lost):
    task = slices.SliceTask.of(model, Request(str(source)), Reading(), None)
    (tmp_path / lost).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{lost}: is not there, as .* sees it.*that all machines share"):
        slices.answered_elsewhere(task, 0, ByteSlice(1, 0, 10))


def test_worker_that_sees_another_file_says_so(model, source):
    task = slices.SliceTask.of(model, Request(str(source)), Reading(), None)
    size = source.stat().st_size
    source.write_text("another")
    with pytest.raises(DataError, match=rf"in\.jsonl: has 7 bytes; expected {size}, as .* sees it"):
        slices.answered_elsewhere(task, 0, ByteSlice(1, 0, 10))


def test_worker_of_another_version_says_so():
    with pytest.raises(CascadeError, match=r"has Cascade .* started with 0\.0\.0\. Install the same version"):
        engine._run_checked("0.0.0", len, ("abc",))


# joblib's own backends


def test_backend_that_the_caller_has_set_is_used(model, source, tmp_path):
    out = tmp_path / "out" / "p.jsonl"
    with joblib.parallel_config("threading", n_jobs=2):
        run(model, source, out)
    check_same_as_here(model, source, out)


def test_fewer_than_three_slices_need_no_cluster(model, tmp_path):
    source = tmp_path / "few.jsonl"
    source.write_text("".join(f"{row}\n" for row in damaged_rows(16)))
    run(model, source, tmp_path / "out" / "p.jsonl", engine=f"dask://127.0.0.1:{free_port()}")
    check_same_as_here(model, source, tmp_path / "out" / "p.jsonl")


def test_one_slice_loads_nothing_that_takes_time_to_load(model, source, tmp_path):
    code = (
        "import sys, io\n"
        "from pathlib import Path\n"
        "from cascade.predict.files import predict_file\nfrom cascade.predict.request import Request\n"
        "from prediction_rows import KeywordModel\n"
        "heavy = {'joblib', 'pyarrow', 'distributed', 'ray'}\n"
        "for name in [one for one in sys.modules if one.partition('.')[0] in heavy]: del sys.modules[name]\n"
        "request = Request(sys.argv[2], Path(sys.argv[3]), jobs=None)\n"
        "print(predict_file(KeywordModel.load(Path(sys.argv[1])), request, io.BytesIO()).rows)\n"
        "print(heavy & set(sys.modules))\n"
    )
    arguments = map(str, (model.folder, source, tmp_path / "p.jsonl"))
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["180", "set()"]


# Dask


def test_dask_gives_the_same_bytes(model, source, tmp_path, dask):
    out = tmp_path / "out" / "p.csv"
    outcome = run(model, source, out, engine=dask, trace=False)
    assert (outcome.rows, outcome.refused) == (180, 20)
    check_same_as_here(model, source, out)


def test_dask_leaves_parts_in_a_folder(model, source, tmp_path, dask):
    out = tmp_path / "out" / "p"
    run(model, source, f"{out}/", engine=dask)
    run(model, source, tmp_path / "p.jsonl")
    parts = b"".join(path.read_bytes() for path in sorted(out.glob("part-*.jsonl")))
    assert parts == (tmp_path / "p.jsonl").read_bytes()
    assert names_in(out)[0] == "_SUCCESS"


def test_rows_of_a_stream_are_handed_to_dask(model, source, tmp_path, dask):
    packed = tmp_path / "in.jsonl.gz"
    packed.write_bytes(gzip.compress(source.read_bytes()))
    out = tmp_path / "out" / "p.jsonl"
    run(model, packed, out, engine=dask)
    check_same_as_here(model, packed, out)


def test_dask_that_the_caller_has_set_is_used(model, source, tmp_path, dask):
    from distributed import Client

    out = tmp_path / "out" / "p.jsonl"
    client = Client(dask.replace("dask", "tcp"), set_as_default=False)
    with client, joblib.parallel_config("dask", client=client):
        run(model, source, out)
    assert set(model.begun().values()) == {1}
    check_same_as_here(model, source, out)


def test_error_of_a_task_comes_through_dask(tmp_path, source, dask):
    model = KeywordModel.make(tmp_path / "model")
    KeywordModel.make(tmp_path / "model", threshold=0.75)
    with pytest.raises(CascadeError, match="the model was replaced"):
        run(model, source, tmp_path / "out" / "p.jsonl", engine=dask)


@pytest.mark.parametrize("nanny", ["--no-nanny", "--nanny"])
def test_worker_of_dask_that_is_killed_costs_its_slice_once_more(model, source, tmp_path, nanny):
    pytest.importorskip("distributed", reason="Dask is not installed")
    with dask_cluster(nanny) as address:
        check_killed_worker_costs_its_slice(model, source, tmp_path / "out" / "p.jsonl", engine=address)


def test_scheduler_of_dask_that_is_killed_is_told_and_what_is_done_is_kept(model, source, tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    request = Request(str(source), tmp_path / "out" / "p.jsonl", slice_rows=8)
    with dask_cluster("--no-nanny") as address:
        with distributed.Client(address.replace("dask", "tcp"), set_as_default=False) as client:
            scheduler = client.run_on_scheduler(os.getpid)

        def kill(progress):
            with contextlib.suppress(ProcessLookupError):
                os.kill(scheduler, signal.SIGKILL)

        with pytest.raises(CascadeError, match=r"the cluster answers no more.*what is done already is kept"):
            predict_file(model, replace(request, engine=address), io.BytesIO(), report=kill)
    outcome = predict_file(model, request, io.BytesIO())
    assert outcome.resumed_from > 0
    check_same_as_here(model, source, tmp_path / "out" / "p.jsonl")


def grocery():
    """Rows of three groups, each with labels that words give away."""
    groups = {
        group: {"labels": [f"{group}{number}" for number in range(4)]} for group in ("tea", "bread", "cheese")
    }
    draw = random.Random(1)
    labels = [[draw.choice(groups[draw.choice(list(groups))]["labels"])] for _ in range(400)]
    texts = [" ".join([*draw.choices(FILLER, k=5), name]) for (name,) in labels]
    return Taxonomy.from_dict({"name": "grocery", "groups": groups}), texts, labels


FILLER = [f"word{number}" for number in range(60)]


def bytes_in(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_fit_on_dask_gives_the_same_bytes_though_a_worker_is_killed(tmp_path):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    fit(*grocery(), tmp_path / "here")
    with dask_cluster("--no-nanny") as address:
        with distributed.Client(address.replace("dask", "tcp"), set_as_default=False) as client:
            client.wait_for_workers(2, timeout=30)
            living = list(client.run(os.getpid).values())

        def kill_one(event):
            if event.kind == "settled" and living:
                os.kill(living.pop(), signal.SIGKILL)
                living.clear()

        fit(*grocery(), tmp_path / "there", engine=address, report=kill_one)
    assert not living
    assert bytes_in(tmp_path / "there") == bytes_in(tmp_path / "here")


def test_a_fit_under_the_callers_own_backend_uses_it(tmp_path, dask):
    from distributed import Client

    fit(*grocery(), tmp_path / "here")
    client = Client(dask.replace("dask", "tcp"), set_as_default=False)
    with client, joblib.parallel_config("dask", client=client):
        fit(*grocery(), tmp_path / "there")
    assert bytes_in(tmp_path / "there") == bytes_in(tmp_path / "here")


# Ray


def test_worker_of_ray_that_is_killed_costs_its_slice_once_more(model, source, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    port = free_port()
    head = ["ray.scripts.scripts", "start", "--head", "--block", "--port", str(port), "--num-cpus", "2"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats", "--temp-dir"]
    code = (
        "import sys, test_engine as t\n"
        "from pathlib import Path\n"
        "model, source, out = map(Path, sys.argv[1:])\n"
        "t.check_killed_worker_costs_its_slice(t.MortalModel.load(model), source, out, engine='ray')\n"
    )
    # Names of sockets must be short, shorter than those of pytest's folders.
    with TemporaryDirectory(prefix="ray") as folder, started([*head, *quiet, folder]):
        wait_for(port)
        # In a process of its own: what Ray leaves behind in this one are warnings, which are errors here.
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, (model.folder, source, tmp_path / "out" / "p.jsonl"))],
            check=False,
            env=ENVIRONMENT | {"RAY_ADDRESS": f"127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr

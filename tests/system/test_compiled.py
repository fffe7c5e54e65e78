from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

import cascade
from cascade.system.compiled import announce, kernel

ROOT = Path(cascade.__file__).parent.parent
TINY = """
from cascade.system.compiled import announce, kernel

announce(lambda sentence: print("said"))

@kernel
def doubled(number):
    return 2 * number

print(doubled(21), doubled(1.5))
"""
COMPILED, LOADED = ["said", "42 3.0"], ["42 3.0"]
NOWHERE = "/dev/null/home"


class Install:
    """A module with a kernel, in a folder of its own, and a user with a home."""

    def __init__(self, folder: Path) -> None:
        self.package, self.home = folder / "package", folder / "home"
        self.package.mkdir()
        (self.package / "tiny.py").write_text(TINY)

    def run(self, home=None, preexec_fn=None, **environment):
        """The lines that a new process prints when it imports the module."""
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", "import tiny"],
            check=False,
            env={
                **bare,
                "PYTHONPATH": f"{self.package}{os.pathsep}{ROOT}",
                "HOME": str(home or self.home),
                **environment,
            },
            preexec_fn=preexec_fn,
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout.split("\n")[:-1]

    def make_read_only(self):
        """As an install folder that is not the user's; permissions would not keep root from writing."""
        (self.package / "__pycache__").write_text("no folder")

    def kept(self, pattern, below=None):
        return sorted((below or self.package).rglob(pattern))


@pytest.fixture
def install(tmp_path):
    return Install(tmp_path)


# What is kept on disk


def test_code_is_compiled_once_and_then_loaded(install):
    assert install.run() == COMPILED
    assert install.run() == LOADED
    assert install.kept("__pycache__/*.nbi")


def test_a_change_of_the_file_compiles_anew(install):
    install.run()
    (install.package / "tiny.py").write_text(TINY.replace("2 * number", "3 * number"))
    assert install.run() == ["said", "63 4.5"]


ZEROS = """
import sys
import numpy as np

@kernel
def zeros(count):
    return np.zeros(count)

print(zeros(2).tolist(), "numba.np.arraymath" in sys.modules)
"""


def test_code_on_disk_is_loaded_without_all_that_the_compiler_knows(install):
    (install.package / "tiny.py").write_text(TINY + ZEROS)
    assert install.run() == [*COMPILED, "[0.0, 0.0] True"]
    assert install.run() == [*LOADED, "[0.0, 0.0] False"]


FACTORS = """
from cascade.system.compiled import kernel

FACTOR = 2

@kernel
def times(number):
    return FACTOR * number
"""


@pytest.mark.parametrize(
    ("how", "before", "after"),
    [
        ("times(number)", "FACTOR = 2", "FACTOR = 3"),
        ("FACTOR * number", "FACTOR = 2", "FACTOR = 3"),
        ("times(number)", "FACTOR * number", "FACTOR * number + number"),
    ],
)
def test_a_change_of_what_it_reads_elsewhere_compiles_anew(install, how, before, after):
    factors = install.package / "factors.py"
    factors.write_text(FACTORS)
    (install.package / "tiny.py").write_text(
        "from factors import FACTOR, times\n" + TINY.replace("2 * number", how)
    )
    assert install.run() == COMPILED
    assert install.run() == LOADED
    factors.write_text(FACTORS.replace(before, after))
    assert install.run() == ["said", "63 4.5"]


def test_what_was_loaded_is_called_by_what_is_compiled_after_it(install):
    (install.package / "factors.py").write_text(FACTORS)
    tiny = "from factors import times\nprint(times(2))\n" + TINY
    for how, printed in (("times(number)", "42 3.0"), ("times(number) + number", "63 4.5")):
        (install.package / "tiny.py").write_text(tiny.replace("2 * number", how))
        assert install.run() == ["4", "said", printed]
        assert install.run() == ["4", printed]


def test_bounds_are_checked_where_the_environment_asks_for_it(install):
    beyond = "\nimport numpy as np\n\n@kernel\ndef beyond(values):\n    return values[len(values)]\n"
    (install.package / "tiny.py").write_text(
        TINY + beyond + "\ntry:\n    beyond(np.zeros(1))\nexcept IndexError:\n    print('checked')\n"
    )
    assert install.run() == COMPILED
    assert install.run(NUMBA_BOUNDSCHECK="1") == [*COMPILED, "checked"]


def test_a_read_only_install_folder_keeps_code_in_the_users_cache(install):
    install.make_read_only()
    assert install.run() == COMPILED
    assert install.run() == LOADED
    assert install.kept("*.nbi", install.home)


def test_the_environment_can_name_the_folder(install, tmp_path):
    install.make_read_only()
    elsewhere = str(tmp_path / "elsewhere")
    assert install.run(NOWHERE, NUMBA_CACHE_DIR=elsewhere) == COMPILED
    assert install.run(NOWHERE, NUMBA_CACHE_DIR=elsewhere) == LOADED


def test_without_any_folder_each_run_compiles(install):
    install.make_read_only()
    assert install.run(NOWHERE) == COMPILED
    assert install.run(NOWHERE) == COMPILED


def test_a_full_disk_does_not_stop_a_run(install):
    resource = pytest.importorskip("resource")

    def leave_no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

    assert install.run(preexec_fn=leave_no_room) == COMPILED
    assert install.run() == COMPILED
    assert install.run() == LOADED


@pytest.mark.parametrize(("pattern", "left"), [("*.nbi", 0), ("*.nbc", 0.5)])
def test_a_damaged_file_is_written_anew(install, pattern, left):
    install.run()
    for path in install.kept(pattern):
        os.truncate(path, int(left * path.stat().st_size))
    assert install.run() == COMPILED
    assert install.run() == LOADED


def test_code_for_other_types_is_not_run(install):
    install.run()
    one, two = install.kept("*.nbc")
    one_code, two_code = one.read_bytes(), two.read_bytes()
    one.write_bytes(two_code)
    two.write_bytes(one_code)
    assert install.run() == COMPILED
    assert install.run() == LOADED


def test_without_compiler_the_function_runs_as_it_is(install):
    assert install.run(NUMBA_DISABLE_JIT="1") == LOADED
    assert not install.kept("*.nbi")


# What is announced


@pytest.fixture
def fresh(tmp_path):
    """A maker of modules that nobody has compiled yet."""

    def make(source):
        path = tmp_path / f"fresh_{len(list(tmp_path.iterdir()))}.py"
        path.write_text("import numba\nfrom cascade.system.compiled import kernel\n" + source)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # numba looks for it there
        spec.loader.exec_module(module)
        return module

    before = set(sys.modules)
    yield make
    announce(lambda sentence: None)
    for name in set(sys.modules) - before:
        if name.startswith("fresh_"):
            del sys.modules[name]


TWO = """
@kernel
def one(number):
    return number + 1

@kernel
def two(number):
    return one(number) + 1
"""


def test_compiling_is_announced_once_for_all_kernels(fresh):
    said = []
    announce(said.append)
    module = fresh(TWO)
    assert not said
    assert (module.two(1), module.two(1.5), module.one(True)) == (3, 3.5, 2)
    assert said == ["Compiling for this machine: some seconds, once."]


def test_compiling_is_announced_once_by_threads(fresh):
    said = []
    announce(said.append)
    modules = [fresh(TWO) for _ in range(4)]
    start = Barrier(4)

    def use(module):
        start.wait()
        return module.two(1)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, modules)) == [3] * 4
    assert len(said) == 1


def test_a_later_announcement_replaces_an_earlier_one(fresh):
    earlier, later = [], []
    announce(earlier.append)
    announce(later.append)
    fresh(TWO).two(1)
    assert (len(earlier), len(later)) == (0, 1)


def test_numba_functions_of_the_caller_are_not_announced(fresh):
    said = []
    announce(said.append)
    assert fresh("@numba.njit\ndef theirs(number):\n    return number + 1\n").theirs(1) == 2
    assert not said
    fresh(TWO).one(1)
    assert said


# What a kernel is


@kernel
def _sum_and_difference(large, small):
    """Some sentence."""
    return (large + small) - large


@kernel
def _quotient(values):
    return values[0] / values[1]


@kernel
def _rounds_until(flag, rounds, most):
    while flag[0] == 0 and rounds[0] < most:
        rounds[0] += 1


def test_a_kernel_keeps_name_and_documentation():
    assert _sum_and_difference.__name__ == "_sum_and_difference"
    assert _sum_and_difference.__doc__ == "Some sentence."


def test_floats_are_added_in_the_written_order():
    assert _sum_and_difference(1e20, 1.0) == 0


def test_division_by_zero_is_infinite():
    assert _quotient(np.array([1.0, 0.0])) == np.inf


def test_python_goes_on_beside_a_kernel():
    flag, rounds, most = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), 10**10
    _rounds_until(flag, rounds, 0)
    thread = Thread(target=_rounds_until, args=(flag, rounds, most))
    thread.start()
    while not rounds[0]:
        pass
    flag[0] = 1
    thread.join()
    assert rounds[0] < most

from __future__ import annotations

import json
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascade.errors import ModelError
from cascade.system.serialization import (
    checksummed,
    read_array,
    read_checksummed,
    read_json,
    write_array,
    write_json,
)


class MakesFolder:
    """Leaves a folder behind when somebody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def npy(header, values=b"", version=b"\x01\x00"):
    """The bytes of a `.npy` file with any header at all."""
    return (
        b"\x93NUMPY"
        + version
        + struct.pack("<H", len(header) + 1)
        + header.encode("latin-1")
        + b"\n"
        + values
    )


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8])
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 4), (2, 3, 4), (0,), (0, 5), (5, 0)])
def test_an_array_comes_back_equal_and_read_only(tmp_path, dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    write_array(tmp_path / "a.npy", array)
    back = read_array(tmp_path / "a.npy", dtype, shape)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)
    with pytest.raises(ValueError, match="read-only"):
        back[...] = 0


def test_what_is_written_is_plain_npy_that_numpy_reads(tmp_path):
    array = np.array([[1.5, -2.0]], dtype=np.float32)
    write_array(tmp_path / "a.npy", array)
    assert np.array_equal(np.load(tmp_path / "a.npy", allow_pickle=False), array)


def test_arrays_of_other_memory_layouts_come_back_equal(tmp_path):
    array = np.arange(24, dtype=np.int64).reshape(4, 6)
    for name, view in {
        "columns": np.asfortranarray(array),
        "strided": array[::2, ::3],
        "turned": array.T,
    }.items():
        write_array(tmp_path / name, view)
        assert np.array_equal(read_array(tmp_path / name, np.int64, (None, None)), view)


def test_an_array_outlives_its_file(tmp_path):
    path = tmp_path / "a.npy"
    write_array(path, np.arange(1_000_000, dtype=np.float32))
    back = read_array(path, np.float32, (None,))
    os.truncate(path, 10)
    assert back.sum(dtype=np.float64) == 999_999 * 500_000
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 1


def test_object_arrays_are_refused_when_written(tmp_path):
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        write_array(tmp_path / "a.npy", np.array([{}], dtype=object))


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.float64, (3, 4), r"expected float64 of shape \(3, 4\), found float32 of shape \(3, 4\)"),
        (np.int32, (3, 4), "expected int32"),
        (np.float32, (4, 3), r"expected float32 of shape \(4, 3\), found float32 of shape \(3, 4\)"),
        (np.float32, (12,), r"of shape \(12\), found"),
        (np.float32, (None,), r"of shape \(any\), found"),
        (np.float32, (None, 5), r"of shape \(any, 5\), found"),
        (np.float32, (3, 4, 1), "expected float32"),
    ],
)
def test_another_type_or_shape_is_refused(tmp_path, dtype, shape, message):
    write_array(tmp_path / "a.npy", np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(ModelError, match=message):
        read_array(tmp_path / "a.npy", dtype, shape)


def test_a_pickle_in_place_of_an_array_is_refused_and_runs_nothing(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "a.npy"
    path.write_bytes(pickle.dumps(MakesFolder(marker)))
    with pytest.raises(ModelError, match="expected a NumPy array"):
        read_array(path, np.float32, (None,))
    with path.open("wb") as out:
        np.lib.format.write_array(out, np.array([MakesFolder(marker)], dtype=object), allow_pickle=True)
    for dtype in (np.float32, object):
        with pytest.raises(ModelError, match=r"expected a NumPy array, found values of type '\|O'"):
            read_array(path, dtype, (None,))
    assert not marker.exists()
    np.load(path, allow_pickle=True)
    assert marker.exists(), "the trap works for those who step into it"


@pytest.mark.parametrize("shape", ["(99999999999,)", "(400000, 400000)", "(4294967296, 4294967296, 16)"])
def test_a_huge_claimed_shape_allocates_nothing(tmp_path, shape):
    (tmp_path / "a.npy").write_bytes(npy(PLAIN % shape, b"\0" * 64))
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"claims \d+ bytes where there are 64"):
            read_array(tmp_path / "a.npy", np.float32, (None,) * (shape.count(",") + 1 - shape.count(",)")))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUM",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\xff\xff",
        npy(PLAIN % "(2,)", b"1234567"),
        npy(PLAIN % "(2,)", b"123456789"),
        npy(PLAIN % "(2,)", b"12345678", version=b"\x02\x00"),
        npy(PLAIN % "(-2,)", b"12345678"),
        npy(PLAIN % "(-1, -2)", b"12345678"),
        npy(PLAIN % "(2L,)", b"12345678"),
        npy(PLAIN % "(True, 2)", b"12345678"),
        npy(PLAIN % "(2.0,)", b"12345678"),
        npy(PLAIN % ("9" * 5000), b"12345678"),
        npy(PLAIN % "(0, 99999999999999999999999999)"),
        npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }", b"12345678"),
        npy("{'descr': '<U1', 'fortran_order': False, 'shape': (2,), }", b"12345678"),
        npy("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", b"12345678"),
        npy("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", b"12345678"),
        npy("{'descr': [('a', '<f4', (2,))], 'fortran_order': False, 'shape': (1,), }", b"12345678"),
        npy("{'descr': '("),
        npy("(" * 9000),
        npy("-" * 9000 + "1"),
        npy("__import__('os').system('true')"),
    ],
)
def test_other_headers_are_one_clear_error(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    for shape in [(None,), (None, None), ()]:
        with pytest.raises(ModelError, match=r"a\.npy: expected .*, found .*run `cascade fit` again"):
            read_array(tmp_path / "a.npy", np.float32, shape)


def test_no_file_a_folder_or_no_permission_is_one_clear_error(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        read_array(tmp_path / "a.npy", np.float32, (None,))
    (tmp_path / "b.npy").mkdir()
    with pytest.raises(ModelError, match="expected a NumPy array"):
        read_array(tmp_path / "b.npy", np.float32, (None,))
    for name in ("none.json", "b.npy"):
        with pytest.raises(ModelError, match=f"{name}: expected JSON, found"):
            read_json(tmp_path / name)


@settings(deadline=None, derandomize=True, max_examples=500)
@given(
    at=st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 200),
)
@example(at=[(60, 0x9)], cut=0)
@example(at=[(10, ord("("))], cut=0)
def test_any_damage_to_a_header_is_a_model_error_or_changes_nothing(tmp_path_factory, at, cut):
    path = tmp_path_factory.mktemp("header") / "a.npy"
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_array(path, array)
    content = bytearray(path.read_bytes())
    for place, value in at:
        content[place] = value
    path.write_bytes(content[: len(content) - cut])
    try:
        back = read_array(path, np.float32, (None, None))
    except ModelError:
        return
    assert np.array_equal(np.asarray(back).ravel(), array.ravel())


def test_equal_values_give_equal_json(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": [0.1, "é", None]})
    write_json(tmp_path / "b", {"a": [0.1, "é", None], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"a": [0.1, "é", None], "b": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", float("nan"))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True)
@given(value=st.dictionaries(st.sampled_from("abcde"), json_values))
def test_a_sealed_value_comes_back_with_its_order(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("sealed") / "a.json"
    value = {**value, "schema": 7}
    path.write_bytes(checksummed(value))
    back = read_checksummed(path, 7)
    assert back == value
    assert json.dumps(back) == json.dumps(value)


def test_every_changed_byte_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "a.json"
    content = checksummed({"schema": 1, "taxonomy": {"b": [1.5, True], "a": "é"}, "none": None})
    for place in range(len(content)):
        for value in {content[place] ^ 1, content[place] ^ 32, ord(" "), ord("0")} - {content[place]}:
            path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
            with pytest.raises(ModelError, match=r"a\.json: expected|a\.json: changed since it was written"):
                read_checksummed(path, 1)
    path.write_bytes(content)
    assert read_checksummed(path, 1)["none"] is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"[]", "expected schema 1, found None"),
        (b"{}", "expected schema 1, found None"),
        (b'{"schema": 2}', "expected schema 1, found 2"),
        (b'{"schema": 1}', "changed since it was written"),
        (b'{"schema": 1, "sha256": null}', "changed since it was written"),
        (b'{"schema": 1, "a": NaN}', "expected plain JSON"),
        (b'{"schema": 1, "a": 1e999}', "expected plain JSON"),
        (b'{"schema": 1, "a": "\\ud800"}', "expected plain JSON"),
        (b'{"schema": 1, "a": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_what_is_no_sealed_value_is_one_clear_error(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ModelError, match=message):
        read_checksummed(tmp_path / "a.json", 1)


def test_json_of_gigabytes_is_refused_without_being_held(tmp_path):
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(ModelError, match=r"a\.json: expected JSON, found more than 1024 MiB"):
        read_json(path)

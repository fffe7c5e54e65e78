from __future__ import annotations

from cascade.system.files import read_at_most


def test_just_the_largest_file_is_read(tmp_path):
    path = tmp_path / "a"
    for most in (0, 10, 1 << 20, (1 << 20) + 1):
        path.write_bytes(b"x" * most)
        assert read_at_most(path, most) == b"x" * most
        path.write_bytes(b"x" * (most + 1))
        assert read_at_most(path, most) is None

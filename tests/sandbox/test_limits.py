"""What a sandbox takes in has a largest size."""

from __future__ import annotations

import json
import select
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import openai
import pytest
from sandbox_helpers import client_of, sandbox

MIB = 2**20
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
)
PATHS = {
    "/v1/chat/completions": b"{",
    "/v1/fine_tuning/jobs": b"{",
    "/v1/batches": b"{",
    "/v1/files": FORM,
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")
    with sandbox(folder, max_body_bytes=MIB, max_file_bytes=2 * MIB) as process:
        process.folder = folder
        yield process


def sent(address, path, headers, parts):
    """The answer to a request of which parts are sent until it comes, and how much was sent."""
    where = urlsplit(address)
    head = f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nAuthorization: Bearer x\r\n{headers}\r\n\r\n"
    count = 0
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        answer = b""
        with suppress(OSError):  # the service hangs up on what it does not read
            connection.sendall(head.encode())
            for part in parts:
                if select.select([connection], [], [], 0)[0]:
                    break
                connection.sendall(part)
                count += len(part)
        with suppress(OSError):
            while part := connection.recv(65_536):
                answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), count


def chunks(first):
    """A body that never ends."""
    for part in (first, *[b"a" * 65_536] * 10_000):
        yield f"{len(part):x}\r\n".encode() + part + b"\r\n"


@pytest.mark.parametrize(("path", "first"), PATHS.items(), ids=PATHS)
def test_a_body_that_never_ends_is_refused_and_not_held(running, path, first):
    headers = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked"
    status, told, count = sent(running.address, path, headers, chunks(first))
    assert status == 413
    assert told["error"]["code"] == "request_too_large"
    assert told["error"]["type"] == "invalid_request_error"
    assert "larger than" in told["error"]["message"]
    assert count < 40 * MIB


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_says_that_it_is_too_large_is_not_waited_for(running, path):
    status, told, _ = sent(running.address, path, f"Content-Length: {10**12}", [])
    assert (status, told["error"]["code"]) == (413, "request_too_large")


def test_a_refused_file_leaves_nothing_behind_and_a_smaller_one_is_taken(running):
    with client_of(running.address) as client:
        with pytest.raises(openai.APIError):
            client.files.create(file=("a", b"a" * 3 * MIB), purpose="fine-tune")
        assert list((running.folder / "files").iterdir()) == []
        taken = client.files.create(file=("a", b"a" * 2 * MIB), purpose="fine-tune")
        assert client.files.content(taken.id).content == b"a" * 2 * MIB

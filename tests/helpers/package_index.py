"""A package index and a hub on loopback: what pip and huggingface_hub ask, with files of one's own."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


def wheel(name, version, files):
    """The bytes of a wheel with these files, whose code would end any process that runs it."""
    content = io.BytesIO()
    about = f"{name}-{version}.dist-info"
    told = {
        f"{about}/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: no-such-thing\n"
        ),
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}/__init__.py": "import os; os._exit(9)\n",
        f"{about}/RECORD": "",
    }
    with zipfile.ZipFile(content, "w") as archive:
        for path, data in {**told, **files}.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return content.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        place = self.server.place
        place.asked.append((self.command, self.path, self.headers.get("Range")))
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[0] == "simple":
            self.package(place, parts[-1])
        elif parts[0] == "wheels" and parts[1] in place.wheels:
            self.answer(200, place.wheels[parts[1]], Content_Type="application/octet-stream")
        elif parts[:2] == ["api", "models"] and "/".join(parts[2:4]) in place.repositories:
            self.model(place.repositories["/".join(parts[2:4])], "/".join(parts[2:4]), place)
        elif len(parts) > 4 and parts[2] == "resolve" and "/".join(parts[:2]) in place.repositories:
            self.file(place.repositories["/".join(parts[:2])], "/".join(parts[4:]), place)
        else:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")

    def package(self, place, name):
        links = (
            f'<a href="/wheels/{one}">{one}</a>'
            for one in place.wheels
            if one.replace("_", "-").startswith(name)
        )
        self.answer(
            200,
            f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode(),
            Content_Type="text/html",
        )

    def model(self, files, name, place):
        siblings = [
            {
                "rfilename": path,
                "size": len(data),
                "blobId": hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
                **({"lfs": self.large(data)} if path in place.large else {}),
            }
            for path, data in files.items()
        ]
        told = {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "tags": [],
        }
        self.answer(200, json.dumps(told).encode(), Content_Type="application/json")

    @staticmethod
    def large(data):
        return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 100}

    def file(self, files, path, place):
        if path not in files:
            self.answer(404, b"", X_Error_Code="EntryNotFound")
            return
        data = place.lies.get(path, files[path])
        headers = {"ETag": f'"{hashlib.sha256(files[path]).hexdigest()}"', "X_Repo_Commit": COMMIT}
        first = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        if first:
            headers["Content_Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        rest = data[first:]
        if self.command == "GET" and place.breaks.get(path, 0) > 0:
            place.breaks[path] -= 1
            self.send_response(206 if first else 200)
            for name, value in {"Content-Length": str(len(rest)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(rest[: len(rest) // 2])
            self.wfile.flush()
            self.connection.close()
            return
        self.answer(206 if first else 200, rest, **headers)


class Place:
    """What the server has.

    `wheels` by file name; `repositories`: their files by path; `large` files are told of as the hub tells of
    what it keeps apart; `lies`: other bytes than were promised; `breaks`: how often it ends half way.
    """

    def __init__(self):
        self.wheels, self.repositories, self.large = {}, {}, set()
        self.lies, self.breaks, self.asked = {}, {}, []
        self.address = ""


@contextmanager
def served():
    """A server with a `Place`, until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.place = place = Place()
    place.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield place
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

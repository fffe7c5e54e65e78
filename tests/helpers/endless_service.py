"""A service on loopback whose answers never end."""

from __future__ import annotations

import threading
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PART = b'"x": "' + b"a" * 65_530


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients hang up in the middle."""


@contextmanager
def endless(status=200, *, is_packed=False, length=None):
    """A running service; `.url` is where, and `.sent` how many bytes of bodies went out.

    `is_packed` sends zeros in gzip, of which little is sent; `length` announces so many bytes and sends none.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.close_connection = True
            if is_packed:
                self.send_header("content-encoding", "gzip")
            self.send_header(*(("content-length", str(length)) if length else ("connection", "close")))
            self.end_headers()
            packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
            with suppress(OSError):
                while not length:
                    part = packer.compress(bytes(2**20)) if is_packed else PART
                    self.wfile.write(part)
                    server.sent += len(part)

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the names of the library

        def log_message(self, *_):
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    server.sent, server.url = 0, f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

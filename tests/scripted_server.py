"""Small HTTP and HTTPS servers on loopback, for what only a real socket shows."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme


class Quiet(BaseHTTPRequestHandler):
    """Answers every POST with its body reversed."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.answer(200, self.body()[::-1])

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", "0")))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size + 2)[:-2])
        self.rfile.readline()
        return b"".join(chunks)

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread, so that one slow handshake stops no other connection.
        wrapped = self._tls.wrap_socket(request, server_side=True) if self._tls else request
        with wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that hangs up in a handshake is what some tests are about


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler] = Quiet, certificate: trustme.LeafCert | None = None
) -> Iterator[int]:
    """The port of a server that runs as long as the context; TLS with this certificate, plain HTTP without one."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(tls)
    with _Server(handler, tls) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()

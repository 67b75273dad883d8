"""Small servers in the standard library, whose clients cost them a bounded number of threads and a
bounded time."""

import ipaddress
import socket
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Timer
from typing import Any

BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"


class BoundedServer(ThreadingHTTPServer):
    """A server that answers so many ``connections`` at a time, and 503 beyond; one whose request
    does not arrive within ``seconds`` is closed."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        handler: type["QuietHandler"],
        *,
        connections: int,
        seconds: float,
    ) -> None:
        self.seconds = seconds
        self._free = BoundedSemaphore(connections)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, if one is free; a client may ask again after a 503."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with suppress(OSError):
            request.settimeout(1.0)
            request.sendall(BUSY)
            # Bytes that nobody has read would reset the connection, and take the answer with them.
            request.setblocking(False)
            request.recv(1 << 16)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer the connection in its thread, which is free again afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def serve_until_stopped(self, line: str = "") -> None:
        """Print ``line`` and serve until Ctrl-C, which ends the process in one line with exit code
        130.

        A listener beyond this machine is told of, too: there is no password.
        """
        host = str(self.server_address[0])
        try:
            if line:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            if not ipaddress.ip_address(host).is_loopback:
                sys.stderr.write(
                    f"note: {host} is no address of this machine alone: whoever reaches it can "
                    f"ask, there is no password\n"
                )
            self.serve_forever()
        except KeyboardInterrupt:
            sys.stderr.write("stopped\n")
            raise SystemExit(130) from None


class QuietHandler(BaseHTTPRequestHandler):
    """One connection to a :class:`BoundedServer`: one request and its answer, and no log."""

    server: BoundedServer

    def setup(self) -> None:
        # A socket's own timeout begins anew with each byte of a client that trickles.
        self.late = Timer(self.server.seconds, self._hang_up)
        self.late.daemon = True
        self.late.start()
        super().setup()

    def finish(self) -> None:
        self.late.cancel()
        super().finish()

    def answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Send a whole answer of a content type; ``headers`` with _ in the place of -."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing: clients ask once a second."""

"""The viewer's server: loopback only, and no other site or user can read it.

- It listens on 127.0.0.1. A name that another site makes point there (DNS rebinding) is refused by
  the ``Host`` header.
- Requests that another site's page sends are refused by ``Origin`` and ``Sec-Fetch-Site``; no
  answer carries a CORS header.
- Data needs a random token in a header of our own, so that other users of the machine read nothing.
  The link has it behind ``#``, which browsers send to nobody.
- Files come from a fixed list and runs from what was found: no path of a request is opened.
- The content security policy lets the page run its own files alone, and no text becomes markup
  (trusted types).
"""

import hmac
import json
import secrets
import socket
import sys
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files as package_files
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from olmeval.errors import UserError
from olmeval.reports.view.app import App

HOST = "127.0.0.1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "X-Olmeval-Token"
FILES = {
    "/": ("view.html", "text/html"),
    "/view.css": ("view.css", "text/css"),
    "/dom.js": ("dom.js", "text/javascript"),
    "/state.js": ("state.js", "text/javascript"),
    "/list.js": ("list.js", "text/javascript"),
    "/detail.js": ("detail.js", "text/javascript"),
    "/text.js": ("text.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves ``app`` on a port of this machine; 0 takes any free one.

    Raises :class:`UserError` when the port cannot be had.
    """

    # Threads that live on when the interpreter ends would hold DuckDB's objects.
    daemon_threads = False

    def __init__(self, app: App, port: int = 0):
        self.app = app
        self.token = secrets.token_urlsafe(24)
        self.connections: set[socket.socket] = set()
        folder = package_files("olmeval.reports.view") / "static"
        self.files = {
            path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()
        }
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot listen on port {port} ({reason}); pass --port 0 for any free one"
            ) from None

    @property
    def link(self) -> str:
        """The page's address with its token."""
        return f"http://{HOST}:{self.server_port}/#token={self.token}"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends connections that browsers keep open, and waits for what is being answered."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that went away."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET``; see the module."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "olmeval"
    sys_version = ""
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if refusal := self._refusal(url.path):
            self._send(403, {"error": refusal})
        elif url.path in self.server.files:
            body, kind = self.server.files[url.path]
            self._send(200, body, kind)
        elif not url.path.startswith("/api/") or not self.server.app.knows(url.path[5:]):
            self._send(404, {"error": "there is nothing of this name here"})
        elif not hmac.compare_digest(
            self.headers.get(TOKEN, "").encode(), self.server.token.encode()
        ):
            self._send(
                401,
                {"error": "open the link that `olmeval view` printed: this one lacks its token"},
            )
        else:
            self._answer(url.path[5:], dict(parse_qsl(url.query)))

    def _answer(self, name: str, query: dict[str, str]) -> None:
        try:
            self._send(200, self.server.app.answer(name, query))
        except UserError as error:
            self._send(400, {"error": str(error)})
        except ConnectionError:
            raise
        except Exception:
            traceback.print_exc()
            self._send(500, {"error": "the viewer failed; its terminal says where"})

    def _refusal(self, path: str) -> str | None:
        """Why a request is not answered, if it is not."""
        host = self.headers.get("Host", "")
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            name = None
        if name not in LOOPBACK:
            return "this server answers to the name of this machine alone"
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return "another site's page asked"
        site = self.headers.get("Sec-Fetch-Site", "none")
        # Following a link from elsewhere opens the page, which holds no data itself.
        followed = path == "/" and self.headers.get("Sec-Fetch-Dest") == "document"
        if site not in ("none", "same-origin") and not followed:
            return "another site's page asked"
        return None

    def _send(self, status: int, value: Any, kind: str = "application/json") -> None:
        body = value if isinstance(value, bytes) else _json(value)
        self.send_response(status)
        for name, text in HEADERS.items():
            self.send_header(name, text)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of each request."""


def _json(value: Any) -> bytes:
    # ASCII, since a stored text may hold half of a surrogate pair, which UTF-8 has not.
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()

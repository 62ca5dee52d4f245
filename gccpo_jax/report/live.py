"""The page while the run goes on, for this machine alone.

The server is bound to 127.0.0.1, answers no request that names another host (a page elsewhere
could point its own name at this address), and changes nothing. `/state` says whether there is
more to see; the page asks for it and takes in what is new.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import pathlib
from collections.abc import Sequence

from gccpo_jax.errors import UserError
from gccpo_jax.report.document import page_policy
from gccpo_jax.report.sources import page_of

ADDRESS = "127.0.0.1"
SEEN = ("metrics.jsonl", "summary.json", "rollouts/*.jsonl.gz", "trajectories.jsonl")


def server(
    workdirs: Sequence[str | pathlib.Path], port: int = 0
) -> http.server.ThreadingHTTPServer:
    """A server of the runs' page; `port` 0: any that is free. `serve_forever()` starts it.

    Raises:
      UserError: the port is taken.
    """
    handler = functools.partial(Page, tuple(map(pathlib.Path, workdirs)))
    try:
        return http.server.ThreadingHTTPServer((ADDRESS, port), handler)
    except OSError as error:
        raise UserError(f"--live {port}: {error.strerror}; choose another port") from error


def state(workdirs: Sequence[pathlib.Path]) -> str:
    """What changes whenever a run has written something that the page shows."""
    files = [file for run in workdirs for name in SEEN for file in sorted(run.glob(name))]
    seen = [
        (str(file), found.st_mtime_ns, found.st_size) for file in files for found in [file.stat()]
    ]
    return hashlib.sha256(repr(seen).encode()).hexdigest()


@functools.lru_cache(maxsize=1)
def page_at(workdirs: tuple[pathlib.Path, ...], _state: str) -> bytes:
    """The page, rendered once per state."""
    return page_of(workdirs, live=True).text.encode()


class Page(http.server.BaseHTTPRequestHandler):
    """Answers `/` and `/state`."""

    def __init__(self, workdirs: tuple[pathlib.Path, ...], *given) -> None:
        self.workdirs = workdirs
        super().__init__(*given)

    def do_GET(self) -> None:
        port = self.server.server_address[1]
        if self.headers.get("Host") not in (f"{ADDRESS}:{port}", f"localhost:{port}"):
            return self._answer(403, b"asked for under another name", "text/plain")
        now = state(self.workdirs)
        match self.path:
            case "/":
                return self._answer(200, page_at(self.workdirs, now), "text/html")
            case "/state":
                return self._answer(200, now.encode(), "text/plain")
            case "/favicon.ico":
                return self._answer(204, b"", "image/x-icon")
        return self._answer(404, b"nothing here", "text/plain")

    def _answer(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", page_policy(live=True))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a request every few seconds is no news."""

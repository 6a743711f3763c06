"""Who may read the viewer: this machine, this user, this page."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from olmeval.errors import UserError
from olmeval.reports.view import browser
from olmeval.reports.view.serve import started
from olmeval.reports.view.server import FILES, Server
from tests.reports.view_runs import make_run

OWN = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("runs")
    make_run(root / "only", docs=20)
    with started([root]) as server:
        yield server


def get(
    server: Server, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def ask(server: Server, **headers: str) -> int:
    """The status of a question with the token and further headers."""
    return get(server, "/api/runs", {"X-Olmeval-Token": server.token} | OWN | headers)[0]


def test_own_page_is_answered(server: Server) -> None:
    status, headers, body = get(server, "/api/runs", {"X-Olmeval-Token": server.token} | OWN)
    assert status == 200 and [r["id"] for r in json.loads(body)["runs"]] == ["only"]
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    port = str(server.server_port)
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "localhost:9999"):
        assert ask(server, Host=host) == 200, host  # 9999: the near end of an ssh tunnel


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", server.server_port)) != 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "evil.example@127.0.0.1.evil.example"},
        {"Host": "[::1"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://{host}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"},
    ],
    ids=str,
)
def test_other_sites_are_refused(server: Server, headers: dict[str, str]) -> None:
    headers = {k: v.format(host=f"127.0.0.1:{server.server_port}") for k, v in headers.items()}
    token = {"X-Olmeval-Token": server.token}
    for path in ("/api/runs", "/view.js", "/nothing"):
        status, given, body = get(server, path, token | OWN | headers)
        assert status == 403 and b"runs" not in body
        assert not any(name.lower().startswith("access-control") for name in given)


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(server: Server) -> None:
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert get(server, "/", followed)[0] == 200
    assert get(server, "/", {**followed, "Sec-Fetch-Dest": "iframe"})[0] == 403
    assert get(server, "/view.js", followed)[0] == 403


def test_data_needs_the_token(server: Server) -> None:
    for token in ("", "x" * len(server.token), server.token[:-1], server.token + "x", "é"):
        headers = {"X-Olmeval-Token": token.encode("utf-8").decode("latin-1")} if token else {}
        status, _, body = get(server, "/api/runs", headers)
        assert status == 401 and b"lacks its token" in body
    assert get(server, f"/api/runs?token={server.token}")[0] == 401
    assert server.token in server.link.split("#")[1] and len(server.token) >= 32
    for path in FILES:  # what anyone may read has no data in it
        assert server.token.encode() not in get(server, path)[2]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_only_get_is_answered(server: Server, method: str) -> None:
    status, headers, _ = get(server, "/api/runs", {"X-Olmeval-Token": server.token}, method)
    assert status == 501 and "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "path",
    ["/../run.json", "/%2e%2e/run.json", "/view.html", "/static/view.js", "//etc/passwd", "/api/",
     "/api/../runs", "/api/_runs", "/api/close", "/favicon.ico", "/api/runs/x"],
)  # fmt: skip
def test_no_path_is_opened(server: Server, path: str) -> None:
    assert get(server, path, {"X-Olmeval-Token": server.token})[0] == 404


def test_headers_of_every_answer(server: Server) -> None:
    token = {"X-Olmeval-Token": server.token}
    for path in ("/", "/view.js", "/api/runs", "/api/instances?run=none", "/nothing"):
        _, headers, _ = get(server, path, token)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy and "trusted-types 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"


def test_the_page_is_free_of_inline_code() -> None:
    folder = files("olmeval.reports.view") / "static"
    page = (folder / "view.html").read_text(encoding="utf-8")
    assert "style=" not in page and "onclick" not in page and page.count("<script") == 1
    for name, kind in FILES.values():
        text = (folder / name).read_text(encoding="utf-8")
        if kind == "text/javascript":
            for markup in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval("):
                assert markup not in text, (name, markup)
        assert "https://" not in text and "http://" not in text


def test_mistakes_are_sentences(server: Server) -> None:
    token = {"X-Olmeval-Token": server.token}
    status, _, body = get(server, "/api/instances?run=only&task=none", token)
    assert status == 400 and json.loads(body) == {"error": "run 'only' has no task 'none'"}


def test_a_mistake_of_ours_is_told_without_its_traceback(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(name: str, query: object) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(server.app, "answer", fails)
    status, _, body = get(server, "/api/runs", {"X-Olmeval-Token": server.token})
    assert status == 500 and b"secret" not in body
    assert "inner secret" in capsys.readouterr().err


def test_a_taken_port(server: Server, tmp_path: Path) -> None:
    make_run(tmp_path / "run", docs=10)
    sentence = f"cannot listen on port {server.server_port} .*pass --port 0"
    with pytest.raises(UserError, match=sentence), started([tmp_path], port=server.server_port):
        pass
    with (
        pytest.raises(UserError, match="cannot listen on port 99999"),
        started([tmp_path], port=99999),
    ):
        pass


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is in or below"), started([tmp_path]):
        pass
    with pytest.raises(UserError, match="does not exist"), started([tmp_path / "gone"]):
        pass


def test_the_browser_learns_the_token_from_a_private_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(browser.webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setattr(browser.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not browser.open_page("http://127.0.0.1:1/#token=abc", tmp_path) and not opened
    monkeypatch.setenv("DISPLAY", ":0")
    assert browser.open_page("http://127.0.0.1:1/#token=abc", tmp_path)
    assert "abc" not in opened[0] and opened[0].startswith("file://")
    assert "0; url=http://127.0.0.1:1/#token=abc" in (tmp_path / "open.html").read_text()


def test_the_folder_of_a_server_is_private_and_goes_with_it(tmp_path: Path) -> None:
    make_run(tmp_path / "run", docs=10)
    with started([tmp_path]) as server:
        folder = server.app.folder
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command(tmp_path: Path, number: signal.Signals) -> None:
    """It prints the link, serves, and ends cleanly."""
    make_run(tmp_path / "run", docs=10)
    command = [sys.executable, "-m", "olmeval.cli.main", "view", str(tmp_path), "--port", "0",
               "--no-browser"]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("1 run: http://127.0.0.1:"), line
        port, token = line.split("127.0.0.1:")[1].strip().split("/#token=")
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("GET", "/api/runs", headers={"X-Olmeval-Token": token})
        assert connection.getresponse().status == 200  # and the connection stays open
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert time.monotonic() - begun < 10
        assert process.stderr.read() == "Ctrl-C ends it.\n"

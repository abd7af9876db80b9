"""The trap: a request that is sent twice where once was meant, or waits for ever, or to the wrong host.

What may be repeated is (RFC 9110, 9.2.2: GET and PUT; else only where the caller says so), Retry-After is
honoured up to a limit, and a certificate is verified, by a file of the person's own authority too.
"""

from __future__ import annotations

import email.utils
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from detection_pack.model.findings import PackError
from detection_pack.platforms import http_api
from detection_pack.platforms.http_api import HttpApi, Refused, Unanswered, Words, address_of, basic, verified
from support.product_servers import Answer, ProductServer, Request, hanging, once, serving

WORDS = Words("--url", "a product", "https://host")


class Echo(ProductServer):
    authorization = "Bearer s3cret"

    def answer(self, request: Request) -> Answer:
        return Answer(200, {"method": request.method})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr("time.sleep", found.append)
    return found


@pytest.fixture
def server() -> Iterator[tuple[Echo, HttpApi]]:
    echo = Echo()
    with serving(echo) as url:
        yield echo, HttpApi(address_of(url, WORDS), WORDS, authorization=echo.authorization)


@pytest.mark.parametrize(
    ("method", "again", "times"),
    [("GET", None, 4), ("PUT", None, 4), ("POST", None, 1), ("PATCH", None, 1), ("DELETE", None, 1),
     ("POST", True, 4), ("GET", False, 1)],
)  # fmt: skip
def test_what_may_be_repeated(
    server: tuple[Echo, HttpApi], slept: list[float], method: str, again: bool | None, times: int
) -> None:
    echo, api = server
    echo.faults = once(method, "/x", *[Answer(503, b"later")] * 9)
    with pytest.raises(Refused, match="answered 503: later"):
        api.json(method, "/x", again=again)
    assert len(echo.asked) == times and slept == list(http_api.WAITS)[: times - 1]
    echo.asked.clear()
    echo.faults = once(method, "/x", Answer(500, b"broken"))
    with pytest.raises(Refused, match="answered 500: broken"):
        api.json(method, "/x", again=again)
    assert len(echo.asked) == 1


def test_retry_after_is_honoured_up_to_a_limit(
    server: tuple[Echo, HttpApi], slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    echo, api = server
    soon = email.utils.formatdate(time.time() + 20, usegmt=True)
    past = email.utils.formatdate(time.time() - 20, usegmt=True)
    for value, least, most in (("5", 5, 5), ("0", 0, 0), (soon, 15, 20), (past, 0, 0), ("soon", 1, 1)):
        slept.clear()
        echo.faults = once("GET", "/x", Answer(429, b"", {"Retry-After": value}))
        assert api.json("GET", "/x") == {"method": "GET"}
        assert len(slept) == 1 and least <= slept[0] <= most, value
    slept.clear()
    echo.faults = once("GET", "/x", Answer(429, b"busy", {"Retry-After": "86400"}))
    with pytest.raises(Refused, match="429: busy"):
        api.json("GET", "/x")
    assert slept == []


def test_a_timeout_is_repeated_for_what_may_be(
    server: tuple[Echo, HttpApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_api, "WAITS", (0.0,))
    monkeypatch.setattr(http_api, "TIMEOUT_SECONDS", 0.2)
    echo, api = server
    echo.faults = [hanging("GET", "/x", 0.4, echo, done=False)]
    assert api.json("GET", "/x") == {"method": "GET"}
    echo.faults = [hanging("POST", "/x", 0.4, echo, done=False)]
    with pytest.raises(Unanswered, match=r"no answer within 0\.2 seconds") as refusal:
        api.json("POST", "/x")
    assert refusal.value.lost and [one.method for one in echo.asked] == ["GET", "GET", "POST"]


def test_a_secret_in_an_answer_is_not_told() -> None:
    echo = Echo()
    with serving(echo) as url:
        api = HttpApi(
            address_of(url, WORDS), WORDS, authorization=basic("user", "hunter2"), secrets=("hunter2",)
        )
        sent = basic("user", "hunter2")
        echo.faults = once("GET", "/x", Answer(400, f"{sent} {sent[6:]} hunter2 kept".encode()))
        with pytest.raises(Refused) as refusal:
            api.json("GET", "/x")
        assert "answered 400: *** *** *** kept" in str(refusal.value)


def test_an_answer_without_end_is_not_read(
    server: tuple[Echo, HttpApi], monkeypatch: pytest.MonkeyPatch
) -> None:
    echo, api = server
    monkeypatch.setattr(http_api, "_ANSWER_BYTES", 100)
    echo.faults = once("GET", "/x", Answer(200, b"x" * 101))
    with pytest.raises(PackError, match="answers with more than"):
        api.content("GET", "/x")


def test_certificates_are_verified_by_a_file_of_ones_own(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        address = address_of(f"https://127.0.0.1:{httpd.server_address[1]}", WORDS)
        with pytest.raises(
            Unanswered, match=r"its certificate is not trusted \(.*\); name your CA's"
        ) as refusal:
            HttpApi(address, WORDS).json("GET", "/")
        assert not refusal.value.lost
        assert HttpApi(address, WORDS, ca_file=tmp_path / "cert").json("GET", "/") == {}
        # A certificate of another host is none.
        other = address_of(address.url.replace("127.0.0.1", "localhost"), WORDS)
        with pytest.raises(Unanswered, match="certificate is not trusted"):
            HttpApi(other, WORDS, ca_file=tmp_path / "cert").json("GET", "/")
        (tmp_path / "empty").write_text("nothing", encoding="utf-8")
        with pytest.raises(PackError, match="holds no certificate in PEM"):
            HttpApi(address, WORDS, ca_file=tmp_path / "empty")
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@pytest.mark.parametrize("url", ["https://a..b:1", f"https://{'a' * 64}.example", "https://.example"])
def test_a_host_that_nobody_can_resolve_is_no_url(url: str) -> None:
    with pytest.raises(PackError, match="not a URL of"):
        address_of(url, WORDS)


def test_a_file_of_authorities_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"nope\.pem:1: cannot be read"):
        verified(tmp_path / "nope.pem")

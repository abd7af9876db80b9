"""The trap: a replay that leaves something behind on somebody's cluster, takes away what is not its own, or
tells a secret.

`replay --elasticsearch` runs on a node of real Elasticsearch here: its hits are those of the pack's model,
its indices are gone afterwards, however it ends, and nothing else on the cluster changes. What a node of the
tests does not have (credentials, TLS, ES|QL, overload) is played by a small server.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.build.dist import rule_entries
from detection_pack.cli import main
from detection_pack.model.event import Event
from detection_pack.model.findings import PackError
from detection_pack.platforms import http_api
from detection_pack.platforms.elastic.cluster import Cluster, Refused
from detection_pack.platforms.elastic.cluster_session import Leave, Session, open_session
from detection_pack.platforms.elastic.cluster_store import PREFIX, ClusterStore, leftovers, remove
from detection_pack.platforms.elastic.store import Store
from detection_pack.replay.verdict import clock_for
from judges import elasticsearch_judge, require
from support import generator
from support.engines import SOUND_ONLY, run_elastic
from support.sources import M365, PROCESS

BULK = "bulk_cross_mailbox_access"
SECRET = "c3VwZXI6c2VjcmV0"
SEED = 7


@pytest.fixture(scope="module")
def node() -> elasticsearch_judge.Node:
    require(elasticsearch_judge.available())
    major = next(m for m in elasticsearch_judge.RELEASES if elasticsearch_judge.available(m) is None)
    return elasticsearch_judge.node(major)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return [event for event in generator.generate(400, SEED) if event.source is M365]


@pytest.fixture(scope="module")
def log(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    path.write_text("".join(json.dumps(dict(event.record)) + "\n" for event in events), encoding="utf-8")
    return path


def indices(cluster: Cluster) -> set[str]:
    return {one["index"] for one in cluster.request("GET", "/_cat/indices?format=json&expand_wildcards=all")}


def replay_on(node: elasticsearch_judge.Node, *arguments: object) -> int:
    return main(["--root", str(ROOT), "replay", "--elasticsearch", node.url, *map(str, arguments)])


def hits_of(printed: str) -> list[dict[str, Any]]:
    hits: list[dict[str, Any]] = json.loads(printed)["hits"]
    return hits


# ---- created, compared, removed --------------------------------------------------------------------------


def test_hits_are_those_of_the_model_and_nothing_stays(
    node: elasticsearch_judge.Node, events: list[Event], log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = indices(node.cluster)
    assert replay_on(node, log, "--yes", "--format", "json") == 0
    found = capsys.readouterr()
    assert indices(node.cluster) == before
    assert "no ES|QL: a correlation is judged by its threshold rule" in found.err
    assert main(["--root", str(ROOT), "replay", str(log), "--platform", "elastic", "--format", "json"]) == 0
    modelled = [hit for hit in hits_of(capsys.readouterr().out) if hit["events"]]
    plain = [(hit["rule"], event) for hit in hits_of(found.out) if "events" in hit for event in hit["events"]]
    assert sorted(plain) == sorted((hit["rule"], *hit["events"]) for hit in modelled) and plain
    groups = [hit for hit in hits_of(found.out) if "group" in hit]
    bulk = [entry for entry in rule_entries(DIST) if entry.name == BULK]
    threshold = [
        hit.as_json()
        for hit in run_elastic(DIST, bulk, events, clock_for(events))
        if hit.artefact.endswith(SOUND_ONLY)
    ]
    assert groups == threshold and groups


def test_the_packs_own_events_are_judged(
    node: elasticsearch_judge.Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without logs the rules' own cases run, out of their files and out of Kibana's import file."""
    assert replay_on(node, "--yes", "--rule", "suspicious_ews_client") == 0
    assert "ok 38/38, 40/40 (2)" in capsys.readouterr().out


def test_a_wrong_query_is_found(
    node: elasticsearch_judge.Node, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("manifest.json", "elastic"):
        source, target = DIST / name, tmp_path / name
        subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    (query,) = tmp_path.glob("elastic/queries/suspicious_ews_client.lucene")
    query.write_text("event.code:nothing\n", encoding="utf-8")
    assert replay_on(node, "--yes", "--rule", "suspicious_ews_client", "--dist", tmp_path) == 1
    assert "was missed" in capsys.readouterr().err
    query.write_text("event.code:(\n", encoding="utf-8")
    assert replay_on(node, "--yes", "--rule", "suspicious_ews_client", "--dist", tmp_path) == 2
    assert "Failed to parse query" in capsys.readouterr().err
    assert not [name for name in indices(node.cluster) if name.startswith(PREFIX)]


# ---- however it ends -------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(node: elasticsearch_judge.Node, log: Path) -> Iterator[subprocess.Popen[str]]:
    """A replay in a process of its own, from the moment at which its index is there."""
    command = [sys.executable, "-m", "detection_pack.cli", "--root", str(ROOT), "replay", str(log), "--yes"]
    process = subprocess.Popen(
        [*command, "--elasticsearch", node.url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "scripts")},
    )
    try:
        end = time.monotonic() + 240
        while not any(name.startswith(PREFIX) for name in indices(node.cluster)):
            assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_killed_run_is_swept_by_the_next(
    node: elasticsearch_judge.Node, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(node, log) as process:
        assert leftovers(node.cluster) == []  # it is at work
        process.send_signal(signal.SIGKILL)
        process.wait()
    (left,) = leftovers(node.cluster)
    assert left.host == socket.gethostname()
    assert replay_on(node, log, "--yes", "--format", "json") == 0
    captured = capsys.readouterr()
    assert left.name in captured.err and hits_of(captured.out)
    assert not [name for name in indices(node.cluster) if name.startswith(PREFIX)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_removes_its_indices(
    number: int, code: int, node: elasticsearch_judge.Node, log: Path
) -> None:
    with running(node, log) as process:
        process.send_signal(number)
        _, errors = process.communicate(timeout=240)
    assert process.returncode == code and "Traceback" not in errors
    assert not [name for name in indices(node.cluster) if name.startswith(PREFIX)]


def test_a_run_of_another_host_is_left_alone_for_a_day(
    node: elasticsearch_judge.Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, ClusterStore(node.cluster, SOME_EVENTS) as store:
        patched.setattr(socket, "gethostname", lambda: "elsewhere")
        assert leftovers(node.cluster) == []
        now = time.time()
        patched.setattr(time, "time", lambda: now + 25 * 3600)
        assert [one.name for one in leftovers(node.cluster)] == list(store.names)


SOME_EVENTS = [Event("a", M365, {"Id": "a", "RecordType": 1, "CreationTime": "2026-03-10T09:00:00"})]


# ---- leave, and what is not ours -------------------------------------------------------------------------


def test_without_leave_nothing_is_done(
    node: elasticsearch_judge.Node, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = indices(node.cluster)
    assert replay_on(node, log) == 2
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if not line.startswith(("read: ", "other "))]
    assert captured.out == "" and len(said) == 1
    assert captured.err.endswith("; say so with --yes\n") and "no leave to create indices" in captured.err
    assert indices(node.cluster) == before


@pytest.mark.parametrize(
    ("answer", "given"), [("y", True), ("YES ", True), ("", False), ("n", False), ("j", False)]
)
def test_on_a_terminal_they_are_asked(
    answer: str,
    given: bool,
    node: elasticsearch_judge.Node,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    leave = Leave(False, lambda _: answer)
    if given:
        open_session(node.cluster, leave, 3)
    else:
        with pytest.raises(PackError, match="nothing was created"):
            open_session(node.cluster, leave, 3)
    assert "for 3 records, and remove them at the end? [y/N]" in capsys.readouterr().err


def test_what_is_not_ours_is_never_touched(
    node: elasticsearch_judge.Node, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Similar names without the mark, the mark under other names, and an alias with one of our names."""
    run = "0123456789ab"
    mark = {"made_by": "detection-pack replay", "run": run, "machine": socket.gethostname(), "pid": 2**22 + 1}
    marked = {"mappings": {"_meta": {"detection_pack": mark}}}
    foreign: dict[str, Mapping[str, Any]] = {
        f"{PREFIX}mine": {},
        f"{PREFIX}{run}-logs": {},
        f"{PREFIX}{run}-text": {"mappings": {"_meta": {"detection_pack": "detection-pack replay"}}},
        f"{PREFIX}ffffffffffff-other-run": marked,
        f"{PREFIX}{run}": marked,
        f"my-{PREFIX}{run}-logs": marked,
        "production": {**marked, "aliases": {f"{PREFIX}{run}-alias": {}}},
    }
    cluster = node.cluster
    try:
        for name, body in foreign.items():
            cluster.request("PUT", f"/{name}", body)
        cluster.request("PUT", f"/{PREFIX}{run}-really", marked)
        assert [one.name for one in leftovers(cluster)] == [f"{PREFIX}{run}-really"]
        assert replay_on(node, log, "--yes") == 0
        assert {name for name in indices(cluster) if PREFIX in name or name == "production"} == set(foreign)
        for name in (
            "production",
            "*",
            f"{PREFIX}*",
            f"{PREFIX}{run}-*",
            f"{PREFIX}{run}-a,production",
            "_all",
        ):
            with pytest.raises(ValueError, match="not an index of ours"):
                remove(cluster, [name])
    finally:
        for name in foreign:
            cluster.request("DELETE", f"/{name}")
    capsys.readouterr()


def test_an_index_that_cannot_be_removed_is_named(node: elasticsearch_judge.Node) -> None:
    store = ClusterStore(node.cluster, SOME_EVENTS)
    with (
        pytest.raises(
            PackError, match=rf"{PREFIX}\w+-logs-o365.audit-default is still there: .*; the next run"
        ),
        store,
    ):
        (name,) = store.names
        node.cluster.request("PUT", f"/{name}/_block/metadata")
        node.cluster.request("PUT", f"/{name}/_settings", {"index.blocks.read_only": True})
    node.cluster.request(
        "PUT", f"/{name}/_settings", {"index.blocks.read_only": False, "index.blocks.metadata": False}
    )
    remove(node.cluster, [name])


# ---- played by a small server ----------------------------------------------------------------------------

Answer = tuple[int, Any, Mapping[str, str]]
Asked = tuple[str, str, Mapping[str, str], bytes]


@contextlib.contextmanager
def played(answer: Callable[[Asked], Answer]) -> Iterator[tuple[str, list[Asked]]]:
    """A server that answers as told, and what it was asked."""
    asked: list[Asked] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, dict(self.headers), body))
            status, content, headers = answer(asked[-1])
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _any

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def always(status: int, content: Any, **headers: str) -> Callable[[Asked], Answer]:
    return lambda _: (status, content, headers)


def test_credentials_are_sent_and_never_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text(f"{SECRET}\n", encoding="utf-8")
    refusal = {"error": {"reason": "missing authentication credentials"}, "status": 401}
    with played(always(401, refusal)) as (url, asked):
        withuser = url.replace("//", "//user:p%40ss@")
        for arguments, sent in (
            ([url, "--api-key-file", str(key)], f"ApiKey {SECRET}"),
            ([withuser], "Basic dXNlcjpwQHNz"),
        ):
            assert main(["--root", str(ROOT), "replay", "--yes", "--elasticsearch", *arguments]) == 2
            printed = capsys.readouterr()
            assert asked[-1][2]["Authorization"] == sent
            assert (
                f"{url} answered 401: missing authentication credentials; give --api-key-file" in printed.err
            )
            assert not any(
                secret in printed.err + printed.out for secret in (SECRET, "p%40ss", "p@ss", "dXNl")
            )
        cluster = Cluster(url, environment={"ELASTICSEARCH_API_KEY": "id:key"})
        with pytest.raises(Refused):
            cluster.request("GET", "/")
        assert asked[-1][2]["Authorization"] == "ApiKey aWQ6a2V5"
        with pytest.raises(PackError, match="two sets of credentials"):
            Cluster(withuser, api_key_file=key)
        key.write_text("a\nb\n", encoding="utf-8")
        with pytest.raises(PackError, match="does not hold one API key"):
            Cluster(url, api_key_file=key)


def test_a_redirect_is_not_followed() -> None:
    with played(always(200, {})) as (elsewhere, reached):
        with (
            played(always(302, b"", Location=elsewhere)) as (url, _),
            pytest.raises(Refused, match="answered 302"),
        ):
            Cluster(url, environment={"ELASTICSEARCH_API_KEY": SECRET}).request("GET", "/")
        assert reached == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://es.contoso.example:9200",
            "http://es.contoso.example:9200 is not encrypted; use https, or --allow-http",
        ),
        ("http://user:pass@192.0.2.7", "http://192.0.2.7:80 is not encrypted; use https"),
        ("es.contoso.example:9200", "is not a URL of Elasticsearch; write https://host:9200"),
        ("file:///etc/passwd", "is not a URL of Elasticsearch"),
        ("ftp://user:pass@host/", "is not a URL of Elasticsearch"),
        ("https://host:port", "is not a URL of Elasticsearch"),
        ("https://host:9200/?pretty", "is not a URL of Elasticsearch"),
        ("https://ho st:9200", "is not a URL of Elasticsearch"),
        ("https://host:9200\r\nX: y", "is not a URL of Elasticsearch"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: Connection refused; check the URL"),
    ],
)
def test_a_cluster_that_cannot_be_asked(url: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "replay", "--yes", "--elasticsearch", url]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: --elasticsearch {message}") and printed.count("\n") == 1
    assert "pass@" not in printed


def test_http_is_for_this_machine_or_by_their_word() -> None:
    for url in ("http://localhost:9200", "http://127.0.0.9:9200", "http://[::1]:9200"):
        assert Cluster(url).url == url
    assert Cluster("http://192.0.2.7:9200", allow_http=True).url == "http://192.0.2.7:9200"


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (
            200,
            b"<html>Kibana</html>",
            "answers, but not in JSON; give the URL of Elasticsearch, not of Kibana",
        ),
        (
            200,
            {"cluster_name": "x", "nodes": {"a": {"version": "7.17.5"}}},
            "is not Elasticsearch 8 or newer (7.17.5)",
        ),
        (
            200,
            {"cluster_name": "x", "nodes": {"a": {"version": "2.11.0"}}},
            "is not Elasticsearch 8 or newer (2.11.0)",
        ),
        (200, {"hello": 1}, "is not Elasticsearch 8 or newer (no version)"),
        (
            403,
            {"error": {"reason": "unauthorized"}},
            "answered 403: unauthorized; use credentials that may create",
        ),
        (500, b"\x1b[31mbroken\nX", "answered 500: \\x1b[31mbroken\\nX; see the cluster's log"),
    ],
)
def test_what_is_not_a_cluster_for_us(
    status: int, content: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with played(always(status, content)) as (url, asked):
        assert main(["--root", str(ROOT), "replay", "--yes", "--elasticsearch", url]) == 2
        printed = capsys.readouterr().err
        assert printed == f"error: --elasticsearch {url} {printed.split(f'{url} ')[1]}" and message in printed
        assert printed.count("\n") == 1 and {command for command, *_ in asked} == {"GET"}


def test_a_busy_cluster_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api, "WAITS", (0.0, 0.0))
    answers: Iterator[Answer] = iter([(429, {}, {}), (503, {}, {}), (200, {"ok": 1}, {})])
    with played(lambda _: next(answers)) as (url, asked):
        assert Cluster(url).request("GET", "/") == {"ok": 1} and len(asked) == 3
    with played(always(429, {"error": {"reason": "full"}})) as (url, asked):
        with pytest.raises(Refused, match="429: full"):
            Cluster(url).request("GET", "/")
        assert len(asked) == 3


def test_certificates_are_verified(tmp_path: Path) -> None:
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    files = [
        "-keyout",
        str(tmp_path / "key"),
        "-out",
        str(tmp_path / "cert"),
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ]
    try:
        subprocess.run([*made, *files], check=True, capture_output=True)
    except FileNotFoundError:
        require("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"ok": 1}')

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            url = f"https://127.0.0.1:{server.server_address[1]}"
            with pytest.raises(
                PackError, match=r"its certificate is not trusted .*; name your CA's certificate"
            ):
                Cluster(url).request("GET", "/")
            assert Cluster(url, ca_file=tmp_path / "cert").request("GET", "/") == {"ok": 1}
        finally:
            server.shutdown()
            thread.join()
    with pytest.raises(PackError, match="holds no certificate in PEM"):
        Cluster(url, ca_file=tmp_path / "key")


def test_a_part_of_an_answer_is_an_error() -> None:
    failed = {
        "_shards": {"failed": 1, "failures": [{"reason": {"reason": "shard lost"}}]},
        "hits": {"hits": []},
    }
    with played(lambda asked: (200, _as_cluster(asked, failed), {})) as (url, _):
        store = ClusterStore(Cluster(url), SOME_EVENTS)
        with store, pytest.raises(PackError, match="the answer is a part: shard lost"):
            store.lucene("*:*")


def _as_cluster(asked: Asked, searched: Any) -> Any:
    if "_bulk" in asked[1]:
        return {"items": [{"index": {"_id": "0", "status": 201}}]}
    return {"id": "pit"} if "_pit" in asked[1] else searched if "_search" in asked[1] else {}


# ---- ES|QL, played in front of the node ------------------------------------------------------------------


def test_esql_runs_where_the_cluster_has_it(node: elasticsearch_judge.Node, events: list[Event]) -> None:
    """The node of the tests has no ES|QL, so the model answers in its place, in the shape of the API's
    answers; what is tested is what is asked and how the answer is read."""
    unknown = {"error": {"reason": "Found 1 problem\nline 4:7: Unknown column [o365.audit.SessionId]"}}

    def answer(asked: Asked) -> Answer:
        method, path, _, body = asked
        if path != "/_query":
            return _forwarded(node, method, path, body)
        request = json.loads(body)
        if request["query"] == "ROW known = true":
            return 200, {"columns": [{"name": "known", "type": "boolean"}], "values": [[True]]}, {}
        source = next(line for line in request["query"].split("\n") if line.startswith("FROM "))
        assert source.startswith(f"FROM {PREFIX}") and request["query"].endswith("\n| LIMIT 10000")
        assert request["filter"]["bool"]["filter"][0]["range"]["@timestamp"].keys() == {"gt", "lte"}
        index = source.removeprefix("FROM ")
        mapped = node.cluster.request("GET", f"/{index}/_mapping")[index]["mappings"]["properties"]
        if "SessionId" not in mapped["o365"]["properties"]["audit"]["properties"]:
            return 400, unknown, {}
        text = request["query"].replace(source, "FROM logs-o365.audit-*").rpartition("\n| LIMIT")[0]
        with Store(events) as model:
            rows = model.esql(text)
        kinds = {
            name: "date" if hasattr(value, "isoformat") else "keyword" for name, value in rows[0].items()
        }
        values = [[v.isoformat() if hasattr(v, "isoformat") else v for v in row.values()] for row in rows]
        return 200, {"columns": [{"name": n, "type": k} for n, k in kinds.items()], "values": values}, {}

    bulk = [entry for entry in rule_entries(DIST) if entry.name == BULK]
    with played(answer) as (url, _):
        session = open_session(Cluster(url), Leave(True), len(events))
        assert session.has_esql and list(session.notes()) == []
        found = run_elastic(DIST, bulk, events, clock_for(events), opened=session.opened, esql=True)
    expected = run_elastic(DIST, bulk, events, clock_for(events))
    assert sorted(map(_told, found)) == sorted(map(_told, expected)) and len(found) > 5


def _told(hit: Any) -> str:
    return str((hit.artefact, hit.group, hit.window, hit.value, hit.rows))


def _forwarded(node: elasticsearch_judge.Node, method: str, path: str, body: bytes) -> Answer:
    kind = "application/x-ndjson" if path == "/_bulk" else "application/json"
    request = urllib.request.Request(
        node.url + path, data=body or None, method=method, headers={"Content-Type": kind}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return 200, response.read(), {}


def test_documents_that_the_cluster_refuses_are_told(node: elasticsearch_judge.Node) -> None:
    long = Event("p", PROCESS, {"CommandLine": "x" * 40_000, "UtcTime": "2026-03-10 09:00:00"})
    session = Session(node.cluster, has_esql=True)
    with session.opened([*SOME_EVENTS, long]) as store:
        assert store.lucene("*:*") == {"a"}
    (note,) = session.notes()
    assert note.startswith("1 records refused by the cluster; the first, p: ") and "immense term" in note

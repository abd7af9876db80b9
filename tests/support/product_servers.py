"""Servers that speak the documented protocols of the products that rules are deployed to, on loopback.

Each holds what was put there, adds what the product adds, and answers as its documentation says; ``faults``
come first, one a request. They know nothing of the program: written from Kibana's OpenAPI and its own tests
of the routes, Splunk's REST API Reference Manual, Azure's specifications and Microsoft Graph's reference.
"""

from __future__ import annotations

import copy
import email
import email.policy
import http.server
import io
import json
import re
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        assert self.headers["Content-Type"] == "application/x-www-form-urlencoded"
        return dict(urllib.parse.parse_qsl(self.body.decode(), strict_parsing=True))

    def file(self) -> list[dict[str, Any]]:
        """The lines of an uploaded NDJSON file."""
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.message_from_bytes(head + self.body, policy=email.policy.HTTP)
        [part] = message.iter_parts()
        assert part.get_param("name", header="content-disposition") == "file"
        assert str(part.get_filename()).endswith(".ndjson")
        return [
            json.loads(line)
            for line in bytes(part.get_payload(decode=True)).decode().split("\n")
            if line.strip()
        ]


@dataclass(frozen=True)
class Answer:
    status: int
    content: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def bytes(self) -> bytes:
        if isinstance(self.content, bytes):
            return self.content
        return b"" if self.content is None else json.dumps(self.content).encode()


#: A fault answers in the product's place, or has a say and lets it answer (None).
Fault = Callable[[Request], Answer | None]


class ProductServer:
    """A product. ``authorization`` is the header that it wants."""

    authorization = ""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.faults: list[Fault] = []

    def writes(self) -> list[Request]:
        return [one for one in self.asked if one.method != "GET" and not self.reads(one)]

    def reads(self, request: Request) -> bool:
        return False

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    def unauthorized(self, request: Request) -> Answer:
        return Answer(401, {"message": f"no to {request.headers.get('Authorization')}"})

    def handled(self, request: Request) -> Answer:
        self.asked.append(request)
        for number, fault in enumerate(self.faults):
            if (said := fault(request)) is not None:
                del self.faults[number]
                return said
        if request.headers.get("Authorization") != self.authorization:
            return self.unauthorized(request)
        return self.answer(request)


def once(method: str, path: str, *answers: Answer) -> list[Fault]:
    """Faults that answer such a request, one after the other."""

    def fault(answer: Answer) -> Fault:
        return lambda request: answer if (request.method, request.path) == (method, path) else None

    return [fault(answer) for answer in answers]


def hanging(method: str, path: str, seconds: float, server: ProductServer, done: bool) -> Fault:
    """A request that gets no answer in time; ``done``: it is carried out all the same."""

    hung: list[Request] = []

    def fault(request: Request) -> Answer | None:
        if (request.method, request.path) != (method, path) or hung:
            return None
        hung.append(request)
        if done:
            server.answer(request)
        time.sleep(seconds)
        return Answer(200, {})

    return fault


@contextmanager
def serving(server: ProductServer) -> Iterator[str]:
    """The URL at which the product answers."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _any(self) -> None:
            parts = urllib.parse.urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = dict(urllib.parse.parse_qsl(parts.query))
            headers = {name.title(): value for name, value in self.headers.items()}
            said = server.handled(
                Request(self.command, urllib.parse.unquote(parts.path), query, headers, body)
            )
            content = said.bytes()
            try:
                self.send_response(said.status)
                for name, value in said.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # The client has given up, as a test of timeouts wants it to.

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


class Kibana(ProductServer):
    """Detection rules and saved objects. ``refuses``: why it refuses a rule of an import, by rule_id."""

    authorization = "ApiKey S2liYW5hLWtleQ=="

    def __init__(self) -> None:
        super().__init__()
        self.rules: dict[str, dict[str, Any]] = {}
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.refuses: dict[str, str] = {}

    def reads(self, request: Request) -> bool:
        return request.path == "/api/saved_objects/_export"

    def unauthorized(self, request: Request) -> Answer:
        said = f"[security_exception]: {request.headers.get('Authorization')} was sent"
        return Answer(401, {"statusCode": 401, "error": "Unauthorized", "message": said})

    def answer(self, request: Request) -> Answer:
        if request.method != "GET" and request.headers.get("Kbn-Xsrf") is None:
            text = "Request must contain a kbn-xsrf header."
            return Answer(400, {"statusCode": 400, "error": "Bad Request", "message": text})
        match (request.method, request.path):
            case ("GET", "/api/detection_engine/rules/_find"):
                return Answer(200, {"page": 1, "perPage": 1, "total": len(self.rules), "data": []})
            case ("GET", "/api/detection_engine/rules"):
                return self._rule(request.query["rule_id"])
            case ("PATCH", "/api/detection_engine/rules"):
                return self._patched(request.json())
            case ("POST", "/api/detection_engine/rules/_import"):
                return self._imported(request)
            case ("POST", "/api/saved_objects/_export"):
                return self._export(request.json())
            case ("POST", "/api/saved_objects/_import"):
                return self._import_objects(request)
        return Answer(404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"})

    def _rule(self, identity: str) -> Answer:
        if identity not in self.rules:
            return Answer(404, {"message": f'rule_id: "{identity}" not found', "status_code": 404})
        return Answer(200, self.rules[identity])

    def _stored(self, rule: Mapping[str, Any]) -> dict[str, Any]:
        """As the API gives a rule: with what Kibana adds, and lists that it fills up."""
        required = [{**one, "ecs": one["name"].count(".") == 1} for one in rule.get("required_fields", [])]
        return {
            "id": f"saved-object-of-{rule['rule_id']}",
            "created_by": "elastic",
            "updated_by": "elastic",
            "revision": 0,
            "rule_source": {"type": "internal"},
            "output_index": "",
            "risk_score_mapping": [],
            "exceptions_list": [],
            "actions": [],
            **copy.deepcopy(dict(rule)),
            "required_fields": required,
            "immutable": False,
        }

    def _patched(self, body: Mapping[str, Any]) -> Answer:
        if body["rule_id"] not in self.rules:
            return self._rule(body["rule_id"])
        rule = self.rules[body["rule_id"]]
        assert body["type"] == rule["type"]
        self.rules[body["rule_id"]] = self._stored({**rule, **body}) | {"revision": rule["revision"] + 1}
        return self._rule(body["rule_id"])

    def _imported(self, request: Request) -> Answer:
        errors, sent = [], [one for one in request.file() if "rule_id" in one]
        for rule in sent:
            identity = rule["rule_id"]
            if why := self.refuses.get(identity):
                errors.append({"rule_id": identity, "error": {"status_code": 400, "message": why}})
            elif identity in self.rules and request.query.get("overwrite") != "true":
                text = f'rule_id: "{identity}" already exists'
                errors.append({"rule_id": identity, "error": {"status_code": 409, "message": text}})
            else:
                self.rules[identity] = self._stored(rule)
        count = len(sent) - len(errors)
        return Answer(
            200,
            {"success": not errors, "success_count": count, "rules_count": len(sent), "errors": errors,
             "exceptions_success": True, "exceptions_success_count": 0, "exceptions_errors": [],
             "action_connectors_success": True, "action_connectors_errors": []},
        )  # fmt: skip

    def _export(self, body: Mapping[str, Any]) -> Answer:
        wanted = [(one["type"], one["id"]) for one in body["objects"]]
        missing = [
            {"id": identity, "type": kind, "error": {"statusCode": 404, "error": "Not Found", "message": ""}}
            for kind, identity in wanted
            if (kind, identity) not in self.objects
        ]
        if missing:
            text = "Error fetching objects to export"
            return Answer(
                400,
                {
                    "statusCode": 400,
                    "error": "Bad Request",
                    "message": text,
                    "attributes": {"objects": missing},
                },
            )
        lines = [
            json.dumps(self.objects[one] | {"created_at": "now", "version": "WzEsMV0="}) for one in wanted
        ]
        return Answer(200, "\n".join(lines).encode())

    def _import_objects(self, request: Request) -> Answer:
        errors, done = [], []
        for one in request.file():
            if "type" not in one:
                continue
            key = (one["type"], one["id"])
            if key in self.objects and request.query.get("overwrite") != "true":
                errors.append({"id": one["id"], "type": one["type"], "error": {"type": "conflict"}})
                continue
            stored = copy.deepcopy(one)
            source = stored["attributes"].get("kibanaSavedObjectMeta")
            if source:  # Kibana writes the JSON its own way.
                text = json.dumps(
                    json.loads(source["searchSourceJSON"]), separators=(",", ":"), sort_keys=True
                )
                source["searchSourceJSON"] = text
            self.objects[key] = stored
            done.append({"id": one["id"], "type": one["type"]})
        body = {"success": not errors, "successCount": len(done), "successResults": done}
        return Answer(200, body | ({"errors": errors} if errors else {}))


class Splunkd(ProductServer):
    """The management port. ``apps``: the files of each app; ``local``: settings that somebody has changed in
    the app of searches, ``lookup`` the rows of its allow-list."""

    authorization = "Bearer splunk-token"
    app = "remote_email_collection"

    def __init__(self) -> None:
        super().__init__()
        self.apps: dict[str, dict[str, str]] = {}
        self.local: dict[tuple[str, str, str], str] = {}
        self.lookup: list[dict[str, str]] = []

    @property
    def installed(self) -> dict[str, str]:
        return self.apps.get(self.app, {})

    def reads(self, request: Request) -> bool:
        return request.path.endswith("/search/jobs")

    def unauthorized(self, request: Request) -> Answer:
        said = f"call not properly authenticated: {request.headers.get('Authorization')}"
        return Answer(401, {"messages": [{"type": "WARN", "text": said}]})

    def answer(self, request: Request) -> Answer:
        own = f"/servicesNS/nobody/{self.app}"
        match (request.method, request.path):
            case ("GET", path) if path.startswith("/services/apps/local/"):
                return self._app(path.rpartition("/")[2])
            case ("POST", "/services/apps/local"):
                return self._install(request.form())
            case ("POST", path) if path == f"{own}/search/jobs":
                assert request.form()["exec_mode"] == "oneshot"
                if request.form()["search"] != f"| inputlookup {self.app}_allowlist":
                    return self._error(400, "Error in 'SearchParser'")
                return Answer(200, {"preview": False, "results": self.lookup})
            case ("GET", path) if found := re.fullmatch(r"/servicesNS/nobody/(\w+)/configs/conf-(\w+)", path):
                app, name = found.groups()
                assert request.query["search"] == f"eai:acl.app={app}"
                return self._entries(self._conf(name, app), app)
        return self._error(404, "Not Found")

    def _app(self, app: str) -> Answer:
        if app not in self.apps:
            return self._error(404, f"Could not find object id={app}")
        version = self._conf("app", app)["launcher"]["version"]
        return self._entries({app: {"version": version, "disabled": False, "visible": False}}, app)

    def _error(self, status: int, text: str) -> Answer:
        return Answer(status, {"messages": [{"type": "ERROR", "text": text}]})

    def _entries(self, found: Mapping[str, Mapping[str, Any]], app: str) -> Answer:
        acl = {"app": app, "owner": "nobody"}
        entry = [
            {"name": name, "acl": acl, "content": {**content, "eai:acl": None}}
            for name, content in found.items()
        ]
        return Answer(200, {"entry": entry, "paging": {"total": len(entry)}, "messages": []})

    def _conf(self, name: str, app: str = app) -> dict[str, dict[str, Any]]:
        """default/ with local/ over it; "disabled" as JSON's own."""
        found: dict[str, dict[str, Any]] = {}
        text = self.apps.get(app, {}).get(f"default/{name}.conf", "").replace("\\\n", "\0")
        for line in filter(None, text.split("\n")):
            if line.startswith("["):
                stanza = found.setdefault(line[1:-1], {})
            else:
                key, _, value = line.partition(" = ")
                value = value.replace("\0", "\n")
                stanza[key] = value == "1" if key == "disabled" else value
        for (conf, stanza_name, key), value in self.local.items():
            if (conf, app) == (name, self.app):
                found.setdefault(stanza_name, {})[key] = value
        return found

    def _install(self, form: Mapping[str, str]) -> Answer:
        assert form["filename"] == "true"
        app = form["explicit_appname"]
        if app in self.apps and form.get("update") != "true":
            return self._error(409, f'App "{app}" already exists')
        if not Path(form["name"]).is_file():
            return self._error(400, f"Cannot open {form['name']}")
        files = self.apps.setdefault(app, {})
        with tarfile.open(fileobj=io.BytesIO(Path(form["name"]).read_bytes())) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member)
                if file is not None:
                    assert member.name.startswith(f"{app}/")
                    files[member.name.removeprefix(f"{app}/")] = file.read().decode()
        if app == self.app:
            self.lookup = []  # The archive's own, which has no rows.
        return self._app(app)


class Azure(ProductServer):
    """One workspace in Azure Resource Manager. ``no_table``: words of queries whose table is missing."""

    authorization = "Bearer azure-token"
    workspace = (
        "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/soc"
        "/providers/Microsoft.OperationalInsights/workspaces/logs-eu"
    )

    def __init__(self) -> None:
        super().__init__()
        self.resources: dict[str, dict[str, Any]] = {}
        self.no_table = ""
        self._etag = 0

    def unauthorized(self, request: Request) -> Answer:
        said = f"The access token is invalid: {request.headers.get('Authorization')}"
        return Answer(401, {"error": {"code": "InvalidAuthenticationToken", "message": said}})

    def answer(self, request: Request) -> Answer:
        assert request.query["api-version"]
        if request.path == self.workspace and request.method == "GET":
            return Answer(200, {"name": "logs-eu", "properties": {}})
        if not request.path.startswith(f"{self.workspace}/"):
            return Answer(404, {"error": {"code": "ResourceNotFound", "message": "no such workspace"}})
        if request.method == "GET":
            if request.path not in self.resources:
                return Answer(404, {"error": {"code": "NotFound", "message": "Alert rule was not found"}})
            return Answer(200, self.resources[request.path])
        assert request.method == "PUT"
        return self._put(request)

    def _put(self, request: Request) -> Answer:
        body, there = request.json(), self.resources.get(request.path)
        rule = "/alertRules/" in request.path
        assert (body.get("kind") == "Scheduled") is rule
        if there is not None and body.get("etag", "*") not in (there["etag"], "*"):
            return Answer(409, {"error": {"code": "Conflict", "message": "Newer instance exists"}})
        if self.no_table and self.no_table in body["properties"]["query"]:
            text = f"'where' operator: Failed to resolve table '{self.no_table}'"
            return Answer(400, {"error": {"code": "BadRequest", "message": text}})
        self._etag += 1
        kept = {key: value for key, value in body["properties"].items() if value is not None}
        if isinstance(kept.get("query"), str):
            kept["query"] = kept["query"].replace("\n", "\r\n")
        if rule:
            kept["lastModifiedUtc"] = "2026-11-26T12:00:00Z"
        stored = {"id": request.path, "etag": f'"{self._etag}"', "properties": kept}
        self.resources[request.path] = stored
        return Answer(200 if there else 201, stored)


class Graph(ProductServer):
    """The custom detections of a tenant."""

    authorization = "Bearer graph-token"
    rules_path = "/security/rules/detectionRules"

    def __init__(self) -> None:
        super().__init__()
        self.rules: dict[str, dict[str, Any]] = {}

    def unauthorized(self, request: Request) -> Answer:
        said = f"Access token validation failure: {request.headers.get('Authorization')}"
        return Answer(401, {"error": {"code": "InvalidAuthenticationToken", "message": said}})

    def answer(self, request: Request) -> Answer:
        identity = request.path.removeprefix(f"{self.rules_path}/")
        match request.method:
            case "GET" if request.path == self.rules_path:
                return Answer(200, {"value": list(self.rules.values())[:1]})
            case "POST" if request.path == self.rules_path:
                body = request.json()
                titles = {rule["displayName"] for rule in self.rules.values()}
                if body["id"] in self.rules or body["displayName"] in titles:
                    return Answer(409, {"error": {"code": "Conflict", "message": "the rule exists"}})
                self.rules[body["id"]] = {
                    **body,
                    "createdBy": "somebody",
                    "detectorId": "x",
                    "lastRunDetails": None,
                }
                return Answer(201, self.rules[body["id"]])
            case "GET" | "PATCH" if identity not in self.rules:
                return Answer(404, {"error": {"code": "NotFound", "message": "no such rule"}})
            case "PATCH":
                self.rules[identity] = _merged(self.rules[identity], request.json())
                return Answer(200, self.rules[identity])
            case "GET":
                return Answer(200, self.rules[identity])
        return Answer(404, {"error": {"code": "NotFound", "message": "no such path"}})


def _merged(there: Any, sent: Any) -> Any:
    """Microsoft Graph's PATCH: properties of properties that are not named stay."""
    if isinstance(there, dict) and isinstance(sent, dict):
        return {**there, **{key: _merged(there.get(key), value) for key, value in sent.items()}}
    return sent

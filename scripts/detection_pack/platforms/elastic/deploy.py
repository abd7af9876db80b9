"""Kibana over its API: the rules of rules.ndjson and the Discover sessions of hunts.ndjson, put there.

What is new goes through Kibana's own imports, without ``overwrite``: they cannot touch what is there. What is
there already and differs is changed by PATCH, which changes the fields that it names and keeps the rest:
``enabled``, exception lists and actions stay. (An import with ``overwrite=true`` replaces the whole rule.)
Sources: Kibana's OpenAPI of the detection engine (import_rules_route, patch_rule_route, read_rule_route,
version 2023-10-31) and of saved objects (``_import``, ``_export``), and Kibana's own tests of the answers.
"""

from __future__ import annotations

import json
import secrets
import shlex
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.platforms.deploy_target import (
    Deployable,
    DeployRequest,
    DeployTarget,
    Environment,
    refused_file,
    secret,
)
from detection_pack.platforms.elastic.cluster import api_key
from detection_pack.platforms.elastic.hunts import HUNTS
from detection_pack.platforms.elastic.imports import NAME_TAG, PATH, name_of
from detection_pack.platforms.http_api import Address, HttpApi, Refused, Words, basic, guarded_address

KEY, USER, PASSWORD = "KIBANA_API_KEY", "KIBANA_USERNAME", "KIBANA_PASSWORD"
_WORDS = Words(
    "--url",
    "Kibana",
    "https://host:5601, or https://host:5601/s/SPACE",
    {
        401: f"set {KEY}, or {USER} and {PASSWORD}",
        403: "use an account that may change rules in this space (docs/import/elastic.md)",
        404: "give the URL of Kibana, with /s/SPACE for a space",
    },
    "give the URL of Kibana, not of Elasticsearch",
    log="see Kibana's log",
)
#: The version of the public API, which a serverless project wants named; and Kibana's guard against forms.
_HEADERS = {"kbn-xsrf": "true", "Elastic-Api-Version": "2023-10-31"}
_RULES = "/api/detection_engine/rules"
#: What an import decides by itself, and what is no content of a rule.
_NOT_COMPARED = ("version", "immutable")
_OF_HUNTS = ("index-pattern", "search")
_SOURCE = "kibanaSavedObjectMeta"


def opened(asked: DeployRequest) -> list[DeployTarget]:
    """The rules and the sessions, on the Kibana that is asked for. Raises `PackError`."""
    if asked.url is None:
        raise PackError.at("--url", 1, "is missing", f"write {_WORDS.example}")
    address = _address(asked.url)
    authorization, hidden = _authorization(asked.environment)
    api = HttpApi(
        address,
        _WORDS,
        authorization=authorization,
        secrets=hidden,
        headers=_HEADERS,
        ca_file=asked.ca_file,
        reason=_reason,
    )
    return [KibanaRules(api, asked.files.get(PATH, b"")), KibanaHunts(api, asked.files.get(HUNTS, b""))]


def _address(url: str) -> Address:
    return guarded_address(url, _WORDS, f"set {KEY}, or {USER} and {PASSWORD}")


def steps(asked: DeployRequest) -> list[str]:
    """The same imports with curl, in bash: the key is in no command line. What is there is refused. Raises
    `PackError` for a URL that `opened` refuses."""
    url = shlex.quote(_address(asked.url).url) if asked.url else '"$KIBANA_URL"'
    start = f"curl --fail-with-body -H @<(printf 'Authorization: ApiKey %s' \"${KEY}\") -H 'kbn-xsrf: true'"
    return [
        "# Without overwrite: a rule that is there already stays as it is, and the answer names it.",
        *(
            f"{start} -F {_curl_file(str(asked.dist / path))} {url}{api}"
            for path, api in ((PATH, f"{_RULES}/_import"), (HUNTS, "/api/saved_objects/_import"))
            if path in asked.files
        ),
    ]


def _curl_file(path: str) -> str:
    """A file for curl's form, which reads quotes of its own."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return shlex.quote(f'file=@"{escaped}"')


def _authorization(environment: Environment) -> tuple[str, tuple[str, ...]]:
    key, user, password = (secret(environment, name) for name in (KEY, USER, PASSWORD))
    if key is not None:
        return api_key(KEY, key), (key,)
    if user is None or password is None:
        raise PackError.at(KEY, 1, "is not set", f"set it in the environment, or {USER} and {PASSWORD}")
    return basic(user, password), (password,)


def _reason(answer: bytes) -> str:
    stated = json.loads(answer)
    return str(stated["message"])


class KibanaRules(DeployTarget):
    """The detection rules."""

    theirs = frozenset({"enabled", "exceptions_list", "actions", "rule_id", *_NOT_COMPARED})

    def __init__(self, api: HttpApi, content: bytes) -> None:
        self._api = api
        self._items = [
            Deployable(name_of(rule), f"{rule['type']} rule", rule["rule_id"], rule)
            for rule in _own_rules(content)
        ]

    def items(self) -> Sequence[Deployable]:
        # Whether this is a Kibana with detection rules at all: without it each rule would seem to be new.
        found = self._api.json("GET", f"{_RULES}/_find?per_page=1")
        if not isinstance(found, dict) or "total" not in found:
            raise PackError.at(
                "--url", 1, f"{self._api.url} is no Kibana with detection rules", _WORDS.no_json
            )
        return self._items

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        try:
            found = self._api.json("GET", f"{_RULES}?rule_id={urllib.parse.quote(item.id, safe='')}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        return _mapping(found, self._api)

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        lines = [*(item.body for item in items), {"exported_count": len(items)}]
        answer = _import(self._api, f"{_RULES}/_import", lines)
        return {
            str(one.get("rule_id")): str((one.get("error") or {}).get("message"))
            for one in _listed(answer, "errors")
        }

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        # A PATCH wants the type of the rule to know its fields; it sets values, so it may be repeated.
        changed = {key: item.body[key] for key in differs}
        body = {"rule_id": item.id, "type": item.body["type"], **changed}
        self._api.json("PATCH", _RULES, body, again=True)

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        named = {"exceptions_list": "exception lists", "actions": "actions"}
        kept = [f"{len(there[key])} {words}" for key, words in named.items() if there.get(key)]
        return ["switched on", *kept] if there.get("enabled") else kept


class KibanaHunts(DeployTarget):
    """The Discover sessions, and the data views that they are on."""

    def __init__(self, api: HttpApi, content: bytes) -> None:
        self._api = api
        self._objects = list(_own_hunts(content))
        self._there: dict[str, Mapping[str, Any]] | None = None

    def items(self) -> Sequence[Deployable]:
        self._there = None
        return [
            Deployable(_hunt_name(one), _kind(one), one["id"], _compared(one["attributes"]))
            for one in self._objects
        ]

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        if self._there is None:
            self._there = {one["id"]: _compared(_session(one["attributes"])) for one in self._exported()}
        return self._there.get(item.id)

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        return self._imported({item.id for item in items}, overwrite=False)

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        failed = self._imported({item.id}, overwrite=True)
        if failed:
            raise PackError.at("--url", 1, "; ".join(failed.values()), _WORDS.log)

    def _imported(self, chosen: set[str], overwrite: bool) -> dict[str, str]:
        self._there = None
        lines = [one for one in self._objects if one["id"] in chosen]
        answer = _import(self._api, f"/api/saved_objects/_import?overwrite={str(overwrite).lower()}", lines)
        return {str(one.get("id")): _why_not(one.get("error")) for one in _listed(answer, "errors")}

    def _exported(self) -> list[Mapping[str, Any]]:
        """What Kibana has of our objects. An export with one that is missing fails and names it."""
        wanted = [{"type": one["type"], "id": one["id"]} for one in self._objects]
        for _ in range(2):
            if not wanted:
                return []
            body = {"objects": wanted, "excludeExportDetails": True}
            try:
                # It reads alone: it may be repeated.
                text = self._api.content("POST", "/api/saved_objects/_export", body, again=True)
                return [one for one in _ndjson_objects(text, self._api) if one.get("type") in _OF_HUNTS]
            except Refused as error:
                missing = _missing(error)
                if not missing:
                    raise
                wanted = [one for one in wanted if one["id"] not in missing]
        raise PackError.at("--url", 1, f"{self._api.url} changes while it is read", "try again")


def _own_rules(content: bytes) -> Iterator[dict[str, Any]]:
    """The rules of the file. A folder from elsewhere may hold anything: what would do more than lie there
    switched off is refused."""
    for rule in _lines_of(PATH, content):
        if "exported_count" in rule and "rule_id" not in rule:
            continue
        tags, identity = rule.get("tags"), rule.get("rule_id")
        own = isinstance(tags, list) and any(str(tag).startswith(NAME_TAG) for tag in tags)
        if not (own and isinstance(identity, str) and identity and isinstance(rule.get("type"), str)):
            raise refused_file(PATH, "holds what is no rule of a pack")
        if rule.get("enabled") is not False or rule.get("actions") or rule.get("exceptions_list"):
            raise refused_file(PATH, f"{identity} is switched on, or has actions or exceptions")
        if rule.get("response_actions"):
            raise refused_file(PATH, f"{identity} has response actions")
        yield rule | {"required_fields": _as_asked(rule.get("required_fields") or [])}


def _as_asked(fields: Any) -> list[dict[str, Any]]:
    """Required fields as the API takes them: whether one is of ECS Kibana finds out by itself."""
    try:
        return [{"name": str(one["name"]), "type": str(one["type"])} for one in fields]
    except (KeyError, TypeError) as error:
        raise refused_file(PATH, "has required fields without a name or a type") from error


def _own_hunts(content: bytes) -> Iterator[dict[str, Any]]:
    for one in _lines_of(HUNTS, content):
        if "exportedCount" in one and "type" not in one:
            continue
        typed = one.get("type") in _OF_HUNTS and isinstance(one.get("id"), str)
        if not (typed and isinstance(one.get("attributes"), dict)):
            raise refused_file(HUNTS, "holds what is neither a session nor a data view")
        yield one


def _lines_of(path: str, content: bytes) -> Iterator[dict[str, Any]]:
    try:
        for line in filter(None, content.decode("utf-8").split("\n")):
            one = json.loads(line)
            if not isinstance(one, dict):
                raise ValueError("a line is no object")
            yield one
    except (ValueError, RecursionError) as error:
        raise refused_file(path, f"is not NDJSON ({error})") from error


def _import(api: HttpApi, path: str, lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """An import's answer. It is sent once: whether one that got no answer was carried out is read back."""
    boundary = f"detection-pack-{secrets.token_hex(16)}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="import.ndjson"\r\n'
        "Content-Type: application/ndjson\r\n\r\n"
    )
    file = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    body = f"{head}{file}\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    return _mapping(api.json("POST", path, body, kind=kind), api)


def _mapping(answer: Any, api: HttpApi) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise PackError.at("--url", 1, f"{api.url} answers something else than Kibana", _WORDS.no_json)
    return answer


def _listed(answer: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = answer.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _why_not(error: Any) -> str:
    """Kibana's reason for one object of an import."""
    if not isinstance(error, dict):
        return "no reason given"
    if error.get("type") == "conflict":
        return "came to be there meanwhile"
    missing = error.get("references")
    named = ", ".join(f"{one.get('type')} {one.get('id')}" for one in missing) if missing else ""
    return " ".join(filter(None, [str(error.get("type")), str(error.get("message") or ""), named]))


def _missing(error: Refused) -> set[str]:
    """The objects that an export did not find; none where it failed for another reason."""
    try:
        listed = json.loads(error.answer)["attributes"]["objects"]
        if error.status != 400 or any(one["error"]["statusCode"] != 404 for one in listed):
            return set()
        return {one["id"] for one in listed}
    except (ValueError, KeyError, TypeError, RecursionError):
        return set()


def _ndjson_objects(text: bytes, api: HttpApi) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in text.decode("utf-8").split("\n") if line.strip()]
        return [one for one in lines if isinstance(one["id"], str) and isinstance(one["attributes"], dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PackError.at("--url", 1, f"{api.url} exports something else than objects", _WORDS.log) from None


def _session(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The attributes of a session, which Kibana from 9.2 on keeps in the first of its tabs."""
    tabs = attributes.get("tabs")
    first = (
        tabs[0].get("attributes") if isinstance(tabs, list) and tabs and isinstance(tabs[0], dict) else None
    )
    return {**attributes, **first} if isinstance(first, dict) else attributes


def _compared(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes whose text of JSON is read, because Kibana writes it its own way."""
    found, source = dict(attributes), attributes.get(_SOURCE)
    text = source.get("searchSourceJSON") if isinstance(source, dict) else None
    if isinstance(text, str):
        try:
            found[_SOURCE] = json.loads(text)
        except (ValueError, RecursionError):
            found[_SOURCE] = text
    return found


def _kind(one: Mapping[str, Any]) -> str:
    return "data view" if one["type"] == "index-pattern" else "Discover session"


def _hunt_name(one: Mapping[str, Any]) -> str:
    last = str(one["attributes"].get("description", "")).rpartition("\n")[2]
    if last.startswith(NAME_TAG):
        return last.removeprefix(NAME_TAG)
    return str(one["attributes"].get("title", one["id"]))

"""Analytics rules and hunting queries over Azure Resource Manager, and the ``az`` commands for the templates.

A deployment of a template puts every rule as the template has it, so it also switches off what somebody has
switched on. Here each rule is read, compared and put on its own (PUT, with the ``etag`` of what was read, so
that nobody's change in between is lost) and ``enabled`` is left as it is. Sources: Azure's specifications,
securityinsights/AlertRules.json (AlertRules_Get, AlertRules_CreateOrUpdate) and
operationalinsights/SavedSearches.json; Azure CLI, "az deployment group".
"""

from __future__ import annotations

import json
import re
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detection_pack.model.findings import PackError
from detection_pack.platforms.deploy_target import (
    Deployable,
    DeployRequest,
    DeployTarget,
    refused_file,
    secret,
)
from detection_pack.platforms.http_api import HttpApi, Refused, Words, guarded_address
from detection_pack.platforms.kusto.watchlist_file import WATCHLISTS
from detection_pack.platforms.sentinel.arm import TEMPLATES, unescaped
from detection_pack.platforms.sentinel.watchlist_template import TYPE as WATCHLIST_TYPE

TOKEN = "AZURE_ACCESS_TOKEN"
SUBSCRIPTION, GROUP, WORKSPACE = "subscription", "resource-group", "workspace"
URL = "https://management.azure.com"
_TOKEN_COMMAND = f"export {TOKEN}=$(az account get-access-token --query accessToken --output tsv)"
_WORDS = Words(
    "--url",
    "Azure Resource Manager",
    URL,
    {
        401: f"{TOKEN} has expired or is for something else: {_TOKEN_COMMAND}",
        403: "use an account with the role Microsoft Sentinel Contributor on the workspace",
        404: "check --subscription, --resource-group and --workspace",
        409: "somebody changed it meanwhile; run it again",
        412: "somebody changed it meanwhile; run it again",
    },
    log="see the workspace's activity log",
)
#: A list of the site: made where it is missing, and never touched again.
WATCHLIST = "watchlist"
_HUNTING = "sentinel/hunting/azuredeploy.json"
_PROVIDER = "Microsoft.OperationalInsights/workspaces"
#: The type of a resource to its path below the workspace, and what it is for people.
_TYPES = {
    f"{_PROVIDER}/providers/alertRules": (
        "providers/Microsoft.SecurityInsights/alertRules",
        "analytics rule",
    ),
    f"{_PROVIDER}/savedSearches": ("savedSearches", "hunting query"),
    WATCHLIST_TYPE: ("providers/Microsoft.SecurityInsights/watchlists", WATCHLIST),
}
_IDENTITY = re.compile(
    r"\[concat\(parameters\('workspace'\),'/(?:Microsoft\.SecurityInsights/)?([0-9a-f-]{36}|[a-z0-9_]{3,64})'\)\]"
)
_VERSION = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}(-preview)?")
#: What Azure takes: a subscription is a UUID; names of groups and workspaces.
_NAMES = {
    GROUP: re.compile(r"[\w.()-]{1,90}"),
    WORKSPACE: re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{2,61}[A-Za-z0-9]"),
}


def opened(asked: DeployRequest) -> list[DeployTarget]:
    """The rules and queries, in the workspace that is asked for. Raises `PackError`."""
    address = guarded_address(asked.url or URL, _WORDS, f"set {TOKEN}")
    token = secret(asked.environment, TOKEN)
    if token is None:
        raise PackError.at(TOKEN, 1, "is not set", f"{_TOKEN_COMMAND}, or see the commands with --print")
    api = HttpApi(address, _WORDS, authorization=f"Bearer {token}", ca_file=asked.ca_file, reason=_reason)
    return [WorkspaceRules(api, _workspace(asked), list(_resources(asked)))]


def steps(asked: DeployRequest) -> list[str]:
    """The commands that show and make the same by templates. ``az`` has its own sign-in."""
    group, workspace = (shlex.quote(asked.options.get(name) or f"<{name}>") for name in (GROUP, WORKSPACE))
    chosen = asked.options.get(SUBSCRIPTION)
    where = f"--subscription {shlex.quote(chosen)} " if chosen else ""
    lines = [
        "# Each of these puts every rule of its template as it is there: switched off, without your changes.",
        "# Where rules are in use, prefer detection-pack deploy sentinel --apply, which leaves them on.",
    ]
    if WATCHLISTS in asked.files:
        lines += [
            "# The lists of the site, before the rules that name them. Leave out of the parameter what is",
            "# there already, as the first command shows it: a template would put its rows into it again.",
            f"az sentinel watchlist list {where}--resource-group {group} --workspace-name {workspace}",
            f"az deployment group create {where}--resource-group {group}"
            f" --template-file {shlex.quote(str(asked.dist / WATCHLISTS))} --parameters workspace={workspace}"
            f" create={shlex.quote(json.dumps(_aliases(asked)))}",
        ]
    for path in _templates(asked):
        rest = (
            f"{where}--resource-group {group} --template-file {shlex.quote(str(asked.dist / path))} "
            f"--parameters workspace={workspace}"
        )
        lines += [f"az deployment group what-if {rest}", f"az deployment group create {rest}"]
    return lines


def _workspace(asked: DeployRequest) -> str:
    """The path of the workspace. Raises `PackError` for a name that Azure would not take."""
    values = {name: asked.options.get(name) or "" for name in (SUBSCRIPTION, GROUP, WORKSPACE)}
    for name, value in values.items():
        if not value:
            raise PackError.at(f"--{name}", 1, "is missing", "name where the workspace is")
    try:
        subscription = str(uuid.UUID(values[SUBSCRIPTION]))
    except ValueError:
        raise PackError.at("--subscription", 1, "is not a UUID", "az account show --query id") from None
    for name, pattern in _NAMES.items():
        if not pattern.fullmatch(values[name]) or not values[name].isascii() or values[name].endswith("."):
            raise PackError.at(f"--{name}", 1, "is no name that Azure takes", "write its name, not its path")
    return (
        f"/subscriptions/{subscription}/resourceGroups/{values[GROUP]}"
        f"/providers/{_PROVIDER}/{values[WORKSPACE]}"
    )


def _templates(asked: DeployRequest) -> list[str]:
    return sorted(
        path
        for path in asked.files
        if path == _HUNTING or (path.startswith(f"{TEMPLATES}/") and path.endswith(".json"))
    )


def _aliases(asked: DeployRequest) -> list[str]:
    return [item.id for _, _, item in _resources(asked) if item.kind == WATCHLIST]


def _resources(asked: DeployRequest) -> Iterator[tuple[str, str, Deployable]]:
    """Path below the workspace, version of the API, and the resource itself; the lists first, because a rule
    that names a missing one is refused. Raises `PackError` for what a build of ours does not write: a folder
    from elsewhere may hold any resource and any expression."""
    lists = [WATCHLISTS] if WATCHLISTS in asked.files else []
    for path in [*lists, *_templates(asked)]:
        try:
            for found in json.loads(asked.files[path])["resources"]:
                below, kind = _TYPES[found["type"]]
                named, version = _IDENTITY.fullmatch(found["name"]), found["apiVersion"]
                if named is None or not _VERSION.fullmatch(version):
                    raise ValueError("a name or a version of the API that is not ours")
                body = unescaped(found["properties"])
                if body.get("enabled"):
                    raise ValueError("a rule that is switched on")
                name = asked.names.get(named[1]) or str(body["displayName"])
                yield below, version, Deployable(name, kind, named[1], body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise refused_file(path, f"is not a template of a pack ({error})") from error


def _reason(answer: bytes) -> str:
    stated = json.loads(answer)["error"]
    return f"{stated['code']}: {stated['message']}"


class WorkspaceRules(DeployTarget):
    """What the templates hold, each resource on its own."""

    theirs = frozenset({"enabled", "etag"})

    def __init__(
        self, api: HttpApi, workspace: str, resources: Sequence[tuple[str, str, Deployable]]
    ) -> None:
        self._api = api
        self._items = [item for _, _, item in resources]
        self._paths = {
            item.id: f"{workspace}/{below}/{item.id}?api-version={version}"
            for below, version, item in resources
        }
        self._workspace = workspace
        self._etags: dict[str, str] = {}

    def items(self) -> Sequence[Deployable]:
        # A workspace that is not there answers 404 like a rule that is not.
        self._found(f"{self._workspace}?api-version=2022-10-01")
        return self._items

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        try:
            found = self._found(self._paths[item.id])
        except Refused as error:
            if error.status == 404:
                return None
            raise
        if item.kind == WATCHLIST:
            # What is in it is the site's, whatever this build would put into it.
            return item.body
        self._etags[item.id] = str(found.get("etag") or "")
        properties: dict[str, Any] = found["properties"]
        return properties

    def _found(self, path: str) -> dict[str, Any]:
        found = self._api.json("GET", path)
        if not isinstance(found, dict) or not isinstance(found.get("properties"), dict):
            what = f"{self._api.url} answers something else than Azure"
            raise PackError.at("--url", 1, what, "check the URL")
        return found

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        failed = {}
        for item in items:
            try:
                self._put(item, item.body, "")
            except Refused as error:
                failed[item.id] = f"{error.status}: {error.reason}"
        return failed

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        # A PUT replaces the whole: what is not ours is sent back as it was read.
        kept = {key: value for key, value in there.items() if key != "lastModifiedUtc"}
        self._put(item, kept | {key: item.body[key] for key in differs}, self._etags.get(item.id, ""))

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        if item.kind == WATCHLIST:
            return ["whatever is in it"]
        return ["switched on"] if there.get("enabled") else []

    def _put(self, item: Deployable, properties: Mapping[str, Any], etag: str) -> None:
        body: dict[str, Any] = {"properties": {k: v for k, v in properties.items() if k != "etag"}}
        if etag:
            body["etag"] = etag
        if "enabled" in item.body:
            body["kind"] = "Scheduled"
        self._api.json("PUT", self._paths[item.id], body)

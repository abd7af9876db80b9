"""Custom detections over Microsoft Graph, one rule a request, and the same as commands.

What is new is a POST with an id of ours; what is there and differs a PATCH, which changes the properties that
it names: ``status`` is never one of them, so a rule that somebody has switched on or off stays so, and
response actions that somebody has added are not named either. Sources: Microsoft Graph, detectionRule
(create, get, update), beta.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
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

TOKEN = "GRAPH_ACCESS_TOKEN"
URL = "https://graph.microsoft.com/beta"
_TOKEN_COMMAND = (
    f"export {TOKEN}=$(az account get-access-token --resource-type ms-graph --query accessToken --output tsv)"
)
_WORDS = Words(
    "--url",
    "Microsoft Graph",
    URL,
    {
        401: f"{TOKEN} has expired or is for something else: {_TOKEN_COMMAND}",
        403: "use an application with CustomDetection.ReadWrite.All (docs/import/defender.md)",
    },
    log="see docs/import/defender.md",
)
_RULES = "/security/rules/detectionRules"
_FOLDER = "defender/detections/"
_IDENTITY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


def opened(asked: DeployRequest) -> list[DeployTarget]:
    """The detections, in the tenant that the token is for. Raises `PackError`."""
    address = guarded_address(asked.url or URL, _WORDS, f"set {TOKEN}")
    token = secret(asked.environment, TOKEN)
    if token is None:
        raise PackError.at(TOKEN, 1, "is not set", "set it in the environment, or see --print")
    api = HttpApi(address, _WORDS, authorization=f"Bearer {token}", ca_file=asked.ca_file, reason=_reason)
    return [CustomDetections(api, own_detections(asked))]


def steps(asked: DeployRequest) -> list[str]:
    """The same with Microsoft Graph PowerShell. (``az rest`` is refused: its application lacks the right.)"""
    own_detections(asked)
    paths = sorted(path for path in asked.files if path.startswith(_FOLDER))
    return [
        "# PowerShell, signed in with CustomDetection.ReadWrite.All. A rule that is there is refused.",
        "Connect-MgGraph -Scopes CustomDetection.ReadWrite.All",
        *(
            f"Invoke-MgGraphRequest -Method POST -Uri {URL}{_RULES} -ContentType application/json "
            f"-Body (Get-Content -Raw -LiteralPath {_powershell(str(asked.dist / path))})"
            for path in paths
        ),
        "",
        "# Or sign in as an application that has the right, and let this program compare and report:",
        "az login --service-principal --username <application> --tenant <tenant> --certificate <file>",
        _TOKEN_COMMAND,
        f"detection-pack deploy defender --dist {shlex.quote(str(asked.dist))}",
    ]


def own_detections(asked: DeployRequest) -> list[Deployable]:
    """The files of detections/. Raises `PackError` for one that would do more than lie there switched off."""
    found = []
    for path in sorted(path for path in asked.files if path.startswith(_FOLDER) and path.endswith(".json")):
        try:
            body = json.loads(asked.files[path])
            action = body["detectionAction"]
            if not _IDENTITY.fullmatch(body["id"]):
                raise ValueError("an id that the service would refuse")
            if body["status"] != "disabled" or set(action) - {"alertTemplate"}:
                raise ValueError("a rule that is switched on, or acts")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise refused_file(path, f"is not a detection of a pack ({error})") from error
        found.append(Deployable(PurePosixPath(path).stem, "custom detection", body["id"], body))
    return found


def _powershell(text: str) -> str:
    """A literal of PowerShell, which takes typographic quotes for quotes, too."""
    return "'" + re.sub("(['\u2018-\u201b])", r"\1\1", text) + "'"


def _reason(answer: bytes) -> str:
    stated = json.loads(answer)["error"]
    return f"{stated['code']}: {stated['message']}"


class CustomDetections(DeployTarget):
    """The custom detections of a tenant."""

    theirs = frozenset({"status", "id"})

    def __init__(self, api: HttpApi, items: Sequence[Deployable]) -> None:
        self._api, self._items = api, items

    def items(self) -> Sequence[Deployable]:
        # Whether the token may read rules at all.
        found = self._api.json("GET", f"{_RULES}?$top=1")
        if not isinstance(found, dict) or not isinstance(found.get("value"), list):
            raise PackError.at(
                "--url", 1, f"{self._api.url} answers something else than Graph", "check the URL"
            )
        return self._items

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        try:
            found = self._api.json("GET", f"{_RULES}/{item.id}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        if not isinstance(found, dict):
            raise PackError.at(
                "--url", 1, f"{self._api.url} answers something else than Graph", "check the URL"
            )
        return found

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        failed = {}
        for item in items:
            try:
                self._api.json("POST", _RULES, item.body)
            except Refused as error:
                failed[item.id] = f"{error.status}: {error.reason}"
        return failed

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        # It sets values, so it may be repeated.
        body = {key: item.body[key] for key in differs}
        self._api.json("PATCH", f"{_RULES}/{item.id}", body, again=True)

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        action = there.get("detectionAction")
        named = [
            key
            for key in ("responseActions", "automatedActions")
            if isinstance(action, dict) and action.get(key)
        ]
        status = there.get("status")
        return [f"status {status}", *named] if status not in (None, "disabled") else named

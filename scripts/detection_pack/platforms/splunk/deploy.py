"""The app over Splunk's management API, and the steps where there is none for it.

``POST /services/apps/local`` installs an archive that the *server* can read, by path or by URL: the API takes
no upload. An update puts the archive's files over the app's and leaves ``local/`` as it is, so what people
change in Splunk stays; a lookup file of the archive does replace the one that is there. Sources: REST API
Reference Manual, "apps/local" (name, filename, explicit_appname, update), "configs/conf-{file}" and
"search/jobs" (exec_mode=oneshot); Admin Config Service Manual, "Manage private apps".
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import tarfile
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detection_pack.languages.conf import Stanzas, read_conf
from detection_pack.model.findings import PackError
from detection_pack.platforms.deploy_target import (
    Deployable,
    DeployRequest,
    DeployTarget,
    Environment,
    refused_file,
    same,
    secret,
)
from detection_pack.platforms.http_api import HttpApi, Refused, Words, basic, guarded_address
from detection_pack.platforms.splunk.app import ALLOWLIST_HEADER, APP, allowlist, read_archive
from detection_pack.platforms.splunk.lists import LISTS_APP

TOKEN, USER, PASSWORD = "SPLUNK_TOKEN", "SPLUNK_USERNAME", "SPLUNK_PASSWORD"
#: Where Splunk's server finds the archive, and where the rows of the allow-list are kept.
LOCATION, SAVE = "location", "save-allow-list"
_WORDS = Words(
    "--url",
    "Splunk's management port",
    "https://host:8089",
    {
        401: f"set {TOKEN}, or {USER} and {PASSWORD}",
        403: "use an account with the capabilities install_apps and edit_local_apps",
    },
    "give the URL of the management port (8089), not of Splunk Web",
    log="see splunkd.log",
)
_ARCHIVE = re.compile(rf"splunk/{APP}-[0-9A-Za-z.+-]+\.tgz")
_CONFS = ("savedsearches", "macros")
#: What an app may hold: nothing that Splunk would run.
_FILES = re.compile(
    r"README\.md|app\.manifest|default/(app|macros|savedsearches|transforms)\.conf"
    r"|lookups/[a-z0-9_]+\.csv|metadata/default\.meta"
)


def opened(asked: DeployRequest) -> list[DeployTarget]:
    """The app, on the Splunk that is asked for. Raises `PackError`."""
    if asked.url is None:
        raise PackError.at("--url", 1, "is missing", f"write {_WORDS.example}")
    address = guarded_address(asked.url, _WORDS, f"set {TOKEN}, or {USER} and {PASSWORD}")
    authorization, hidden = _authorization(asked.environment)
    api = HttpApi(
        address, _WORDS, authorization=authorization, secrets=hidden, ca_file=asked.ca_file, reason=_reason
    )
    path, content = archive_of(asked)
    location = asked.options.get(LOCATION) or str((asked.dist / path).resolve())
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", location) and not location.startswith("https://"):
        raise PackError.at("--location", 1, "is a URL that is not encrypted", "use https, or a path")
    save = asked.options.get(SAVE)
    return [SplunkApp(api, path, content, location, Path(save) if save else None)]


def steps(asked: DeployRequest) -> list[str]:
    """What a person does in Splunk Cloud, and on Splunk Enterprise without the management API."""
    path, _ = archive_of(asked)
    archive = shlex.quote(str(asked.dist / path))
    return [
        "# Splunk Cloud, with the Admin Config Service's command line. It signs in by STACK_USERNAME and",
        "# STACK_PASSWORD or STACK_TOKEN, and to AppInspect by SPLUNK_USERNAME and SPLUNK_PASSWORD, all of",
        "# the environment. Without it: Apps > Manage Apps > Uploaded Apps > Upload App, as sc_admin.",
        'acs config add-stack "$STACK" && acs config use-stack "$STACK"',
        f"acs apps install private --app-package {archive} --acs-legal-ack=Y",
        "",
        *_lists_steps(asked),
        "# Before an upgrade save the allow-list, because the app brings an empty one:",
        f"#   | inputlookup {allowlist()}",
        "# A search head cluster takes the app from its deployer:",
        f'tar -xzf {archive} -C "$SPLUNK_HOME/etc/shcluster/apps"',
        '"$SPLUNK_HOME/bin/splunk" apply shcluster-bundle -target "$CAPTAIN"',
        "",
        "# One search head, by its own command line:",
        f'"$SPLUNK_HOME/bin/splunk" install app {archive} -update 1',
    ]


def _lists_steps(asked: DeployRequest) -> list[str]:
    """How the app of lists comes to Splunk, where a build has one: once, because it brings its rows again."""
    return [
        line
        for path in asked.files
        if re.fullmatch(rf"splunk/{LISTS_APP}-[0-9A-Za-z.+-]+\.tgz", path)
        for line in (
            "# First the lists of the site, once: installed again, the app would put its rows over those",
            "# that people have put in. Where Apps > Manage Apps shows it, leave it as it is.",
            f"acs apps install private --app-package {shlex.quote(str(asked.dist / path))} --acs-legal-ack=Y",
            f'"$SPLUNK_HOME/bin/splunk" install app {shlex.quote(str(asked.dist / path))}',
            "",
        )
    ]


def archive_of(asked: DeployRequest) -> tuple[str, bytes]:
    """The one app of the folder. Raises `PackError`."""
    found = [path for path in asked.files if _ARCHIVE.fullmatch(path)]
    if len(found) != 1:
        raise refused_file("splunk", "does not hold one app")
    return found[0], asked.files[found[0]]


def _authorization(environment: Environment) -> tuple[str, tuple[str, ...]]:
    token, user, password = (secret(environment, name) for name in (TOKEN, USER, PASSWORD))
    if token is not None:
        return f"Bearer {token}", (token,)
    if user is None or password is None:
        raise PackError.at(TOKEN, 1, "is not set", f"set it in the environment, or {USER} and {PASSWORD}")
    return basic(user, password), (password,)


def _reason(answer: bytes) -> str:
    return "; ".join(str(one["text"]) for one in json.loads(answer)["messages"])


class SplunkApp(DeployTarget):
    """The app as one thing: Splunk installs it whole."""

    def __init__(self, api: HttpApi, path: str, content: bytes, location: str, save: Path | None) -> None:
        self._api, self._location, self._save = api, location, save
        self._files = _own_files(path, content)
        conf = _conf(path, self._files, "app")
        try:
            body = {"version": conf["launcher"]["version"], "build": conf["install"]["build"]}
        except KeyError as error:
            raise refused_file(path, f"says no {error} in app.conf") from error
        self._item = Deployable(APP, "app", APP, body)
        self._confs: dict[str, Stanzas] = {name: _conf(path, self._files, name) for name in _CONFS}

    def items(self) -> Sequence[Deployable]:
        return [self._item]

    def there(self, item: Deployable) -> Mapping[str, Any] | None:
        try:
            [app] = self._entries(f"/services/apps/local/{APP}")
        except Refused as error:
            if error.status == 404:
                return None
            raise
        except ValueError:
            raise self._odd() from None
        stanzas = self._conf_there("app")
        build = stanzas.get("install", {}).get("build")
        return {
            "version": str(app.get("content", {}).get("version")),
            "build": None if build is None else str(build),
        }

    def create(self, items: Sequence[Deployable]) -> dict[str, str]:
        self._install(update=False)
        return {}

    def update(self, item: Deployable, there: Mapping[str, Any], differs: Sequence[str]) -> None:
        rows = self._allowed()
        if rows and self._save is None:
            raise PackError.at(
                "--save-allow-list",
                1,
                f"is missing: the allow-list has {len(rows)} rows, and the app brings an empty one",
                "name a new file for them",
            )
        if rows and self._save is not None:
            _write_rows(self._save, rows)
        self._install(update=True)

    def kept(self, item: Deployable, there: Mapping[str, Any]) -> list[str]:
        """Settings that somebody has changed there, which stay in ``local/``; and the allow-list."""
        try:
            rows = self._allowed()
            said = [f"allow-list of {len(rows)} rows"] if rows else []
        except Refused:
            said = ["an allow-list that cannot be read"]
        if there == item.body:
            changed = sum(
                not same(value, _text(found.get(key)))
                for name, stanzas in self._confs.items()
                for found, settings in _pairs(stanzas, self._conf_there(name))
                for key, value in settings.items()
            )
            said += [f"{changed} settings of yours"] if changed else []
        return said

    def _install(self, update: bool) -> None:
        form = {"name": self._location, "filename": "true", "explicit_appname": APP, "output_mode": "json"}
        if update:
            form["update"] = "true"
        self._form("/services/apps/local", form, again=update)

    def _allowed(self) -> list[Mapping[str, Any]]:
        """The rows of the allow-list, empty ones left out."""
        form = {
            "search": f"| inputlookup {allowlist()}",
            "exec_mode": "oneshot",
            "output_mode": "json",
            "count": "0",
        }
        found = self._form(f"/servicesNS/nobody/{APP}/search/jobs", form, again=True)
        rows = found.get("results") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise self._odd()
        columns = ALLOWLIST_HEADER.strip().split(",")
        return [row for row in rows if isinstance(row, dict) and any(row.get(name) for name in columns)]

    def _conf_there(self, name: str) -> dict[str, Mapping[str, Any]]:
        """The settings in force, ``local/`` over ``default/``, by stanza."""
        path = f"/servicesNS/nobody/{APP}/configs/conf-{name}?count=0&search=eai%3Aacl.app%3D{APP}"
        return {
            str(one.get("name")): one["content"]
            for one in self._entries(path)
            if isinstance(one.get("content"), dict)
        }

    def _entries(self, path: str) -> list[Mapping[str, Any]]:
        found = self._api.json("GET", f"{path}{'&' if '?' in path else '?'}output_mode=json")
        entries = found.get("entry") if isinstance(found, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise self._odd()
        return entries

    def _form(self, path: str, form: Mapping[str, str], again: bool) -> Any:
        body = urllib.parse.urlencode(form).encode()
        return self._api.json("POST", path, body, kind="application/x-www-form-urlencoded", again=again)

    def _odd(self) -> PackError:
        return PackError.at(
            "--url", 1, f"{self._api.url} answers something else than splunkd", _WORDS.no_json
        )


def _text(value: Any) -> str:
    """A setting as it stands in a .conf file; the API gives some as JSON's true and false."""
    return str(int(value)) if isinstance(value, bool) else "" if value is None else str(value)


def _pairs(
    ours: Stanzas, there: Mapping[str, Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, str]]]:
    return [(there.get(name, {}), settings) for name, settings in ours.items()]


def _own_files(path: str, content: bytes) -> Mapping[str, str]:
    """The files of the archive. One from elsewhere that holds what Splunk could run is refused."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            members = archive.getmembers()
        odd = [
            member.name
            for member in members
            if not (
                member.isdir() or (member.isfile() and _FILES.fullmatch(member.name.removeprefix(f"{APP}/")))
            )
            or member.name.split("/")[0] != APP
        ]
        if odd:
            raise refused_file(path, f"holds {odd[0]}, which no app of a pack has")
        return read_archive(content)
    except (tarfile.TarError, OSError, EOFError, UnicodeDecodeError) as error:
        raise refused_file(path, "is not an app of a pack") from error


def _conf(path: str, files: Mapping[str, str], name: str) -> Stanzas:
    try:
        return read_conf(files[f"default/{name}.conf"])
    except (KeyError, ValueError) as error:
        raise refused_file(path, f"has no {name}.conf") from error


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows as CSV, in a new file that its owner alone reads."""
    columns = ALLOWLIST_HEADER.strip().split(",")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row.get(name, "") for name in columns} for row in rows)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise PackError.at(path, 1, "is there already", "name a new file for the allow-list") from error
    with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())

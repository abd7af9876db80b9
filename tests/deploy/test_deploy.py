"""The trap: a deployment that says "done" where half of it failed, or that undoes what people have set up.

Every product is played by a server of ours that speaks its documented protocol (support/product_servers.py),
and the pack itself is deployed to it, by the command line. For each: a dry run writes nothing; what was
deployed is there as dist/ has it; a second time changes nothing; what people switch on, add or edit is kept,
or is said; one thing that fails does not hide the others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import DIST, ROOT
from detection_pack.cli import main
from detection_pack.deploy.deployment import STATES
from detection_pack.platforms import http_api
from support.product_servers import (
    Answer,
    Azure,
    Graph,
    Kibana,
    ProductServer,
    hanging,
    once,
    serving,
)

RULE = "suspicious_ews_client"
SECRETS = {
    "KIBANA_API_KEY": "S2liYW5hLWtleQ==",
    "SPLUNK_TOKEN": "splunk-token",
    "AZURE_ACCESS_TOKEN": "azure-token",
    "GRAPH_ACCESS_TOKEN": "graph-token",
}
WORKSPACE = [
    "--subscription", "11111111-2222-3333-4444-555555555555",
    "--resource-group", "soc", "--workspace", "logs-eu",
]  # fmt: skip


def manifest_id(name: str) -> str:
    rules = json.loads((DIST / "manifest.json").read_text(encoding="utf-8"))["rules"]
    return str(next(rule["id"] for rule in rules if rule["name"] == name))


def kibana_rule(server: Kibana) -> dict[str, Any]:
    return server.rules[manifest_id(RULE)]


def azure_rule(server: Azure) -> dict[str, Any]:
    path = f"{server.workspace}/providers/Microsoft.SecurityInsights/alertRules/{manifest_id(RULE)}"
    found: dict[str, Any] = server.resources[path]["properties"]
    return found


def graph_rule(server: Graph) -> dict[str, Any]:
    return server.rules[f"r-{manifest_id(RULE)}"]


def _kibana_people(server: Kibana) -> None:
    lists = [{"id": "x", "list_id": "noise", "type": "detection", "namespace_type": "single"}]
    kibana_rule(server).update(enabled=True, exceptions_list=lists, actions=[{"id": "mail"}])


def _azure_people(server: Azure) -> None:
    azure_rule(server).update(enabled=True)


def _graph_people(server: Graph) -> None:
    graph_rule(server).update(status="enabled")
    graph_rule(server)["detectionAction"]["responseActions"] = [{"@odata.type": "isolate"}]


def _kibana_edit(server: Kibana) -> None:
    kibana_rule(server).update(query="edited", interval="1m")


def _azure_edit(server: Azure) -> None:
    azure_rule(server).update(query="edited", queryFrequency="PT5M")


def _graph_edit(server: Graph) -> None:
    graph_rule(server)["queryCondition"]["queryText"] = "edited"
    graph_rule(server)["schedule"]["frequency"] = "PT12H"


@dataclass(frozen=True)
class Case:
    """A product: what people do in it, and where that is."""

    name: str
    server: type[ProductServer]
    more: tuple[str, ...]
    rule: Callable[[Any], dict[str, Any]]
    people: Callable[[Any], None]
    keeps: str
    edit: Callable[[Any], None]
    differs: str


CASES = [
    Case("elastic", Kibana, (), kibana_rule, _kibana_people,
         "keeps switched on, 1 exception lists, 1 actions", _kibana_edit, "interval, query"),
    Case("sentinel", Azure, tuple(WORKSPACE), azure_rule, _azure_people, "keeps switched on",
         _azure_edit, "query, queryFrequency"),
    Case("defender", Graph, (), graph_rule, _graph_people, "keeps status enabled, responseActions",
         _graph_edit, "queryCondition, schedule"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(http_api, "WAITS", (0.0, 0.0))


@pytest.fixture(params=CASES, ids=[case.name for case in CASES])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@dataclass
class Played:
    """A product that runs, and the command line on it."""

    server: Any
    url: str
    case_name: str
    more: tuple[str, ...]
    capsys: pytest.CaptureFixture[str]

    def deploy(self, *arguments: str) -> tuple[int, str]:
        code = main(
            ["--root", str(ROOT), "deploy", self.case_name, "--url", self.url, *self.more, *arguments]
        )
        printed = self.capsys.readouterr()
        text = printed.out + printed.err
        assert not any(secret in text for secret in SECRETS.values()), "a secret is told"
        return code, text


@pytest.fixture
def played(case: Case, capsys: pytest.CaptureFixture[str]) -> Iterator[Played]:
    server = case.server()
    with serving(server) as url:
        yield Played(server, url, case.name, case.more, capsys)


def states(text: str) -> Counter[str]:
    return Counter(line.partition(":")[0] for line in text.split("\n") if line.partition(": ")[0] in STATES)


# -- once, and a second time ---------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing(played: Played) -> None:
    code, text = played.deploy()
    assert code == 0 and played.server.writes() == []
    assert set(states(text)) == {"would create"} and text.endswith("nothing was written; --apply does it\n")
    assert f"would create: {RULE} (" in text


def test_deploying_twice_changes_nothing_the_second_time(played: Played) -> None:
    code, text = played.deploy("--apply")
    assert code == 0 and set(states(text)) == {"created"}, text
    count = states(text)["created"]
    wrote = len(played.server.writes())
    assert wrote
    for arguments in (["--apply"], ["--apply", "--overwrite"], []):
        code, text = played.deploy(*arguments)
        assert code == 0 and states(text) == {"unchanged": count}, text
        assert len(played.server.writes()) == wrote


def test_what_is_there_is_what_dist_has(played: Played, case: Case) -> None:
    played.deploy("--apply")
    rule = case.rule(played.server)
    if case.name == "elastic":
        lines = (DIST / "elastic" / "rules.ndjson").read_text(encoding="utf-8").splitlines()
        ours = next(one for one in map(json.loads, lines) if one.get("rule_id") == manifest_id(RULE))
        assert rule["query"] == ours["query"] and rule["enabled"] is False
        assert len(played.server.rules) == len(lines) - 1
        hunts = (DIST / "elastic" / "hunting" / "hunts.ndjson").read_text(encoding="utf-8").splitlines()
        assert len(played.server.objects) == len(hunts) - 1
    elif case.name == "sentinel":
        templates = [
            *(DIST / "sentinel" / "azuredeploy").glob("*.json"),
            DIST / "sentinel/hunting/azuredeploy.json",
        ]
        resources = [one for path in templates for one in json.loads(path.read_text("utf-8"))["resources"]]
        assert len(played.server.resources) == len(resources)
        ours = next(one for one in resources if manifest_id(RULE) in one["name"])
        assert rule["query"].replace("\r\n", "\n") == ours["properties"]["query"] and rule["enabled"] is False
    else:
        files = list((DIST / "defender" / "detections").glob("*.json"))
        assert len(played.server.rules) == len(files)
        ours = json.loads((DIST / "defender" / "detections" / f"{RULE}.json").read_text("utf-8"))
        assert rule["queryCondition"] == ours["queryCondition"] and rule["status"] == "disabled"


def test_one_rule_is_deployed_alone(played: Played) -> None:
    code, text = played.deploy("--apply", "--rule", RULE)
    assert code == 0 and states(text) == {"created": 1} and RULE in text
    code, text = played.deploy("--rule", "nonsense")
    assert (
        code == 2
        and text == 'error: --rule names no rule of the build: "nonsense"; use a name of the manifest\n'
    )


# -- what people do there ------------------------------------------------------------------------------------


def test_what_people_switch_on_or_add_stays_and_is_said(played: Played, case: Case) -> None:
    played.deploy("--apply")
    case.people(played.server)
    before = json.dumps(case.rule(played.server), sort_keys=True)
    code, text = played.deploy("--apply", "--overwrite")
    assert code == 0 and set(states(text)) == {"unchanged"} and case.keeps in text
    assert json.dumps(case.rule(played.server), sort_keys=True) == before


def test_an_edited_rule_is_left_and_said_until_asked(played: Played, case: Case) -> None:
    played.deploy("--apply")
    ours = json.dumps(case.rule(played.server), sort_keys=True)
    case.people(played.server)
    theirs = json.loads(json.dumps(case.rule(played.server)))
    case.edit(played.server)
    edited = json.dumps(case.rule(played.server), sort_keys=True)
    for arguments in ([], ["--apply"]):
        code, text = played.deploy(*arguments)
        assert code == 1 and states(text)["differs"] == 1
        assert f"differs: {RULE} (" in text and f"): {case.differs}; {case.keeps}\n" in text
        assert json.dumps(case.rule(played.server), sort_keys=True) == edited
    code, text = played.deploy("--overwrite")
    assert code == 0 and states(text)["would update"] == 1
    assert json.dumps(case.rule(played.server), sort_keys=True) == edited
    code, text = played.deploy("--apply", "--overwrite")
    assert code == 0 and states(text)["updated"] == 1 and case.keeps in text
    after = case.rule(played.server)
    # Its content is ours again, and what people have set up is what it was.
    for key in theirs:
        if key not in ("revision", "query", "lastModifiedUtc"):
            assert after[key] == theirs[key], key
    assert "edited" in edited and "edited" not in json.dumps(after) and "edited" not in ours
    assert set(states(played.deploy("--apply")[1])) == {"unchanged"}


# -- failures ------------------------------------------------------------------------------------------------


def _refusing(server: Any) -> str:
    if isinstance(server, Kibana):
        server.refuses[manifest_id(RULE)] = "[request body]: \x1b[31mquery is\nnot valid"
        return "[request body]: \\x1b[31mquery is\\nnot valid"
    if isinstance(server, Azure):
        server.no_table = "MicrosoftGraphActivityLogs"
        return "400: BadRequest: 'where' operator: Failed to resolve table 'MicrosoftGraphActivityLogs'"
    error = Answer(400, {"error": {"code": "BadRequest", "message": "Improper \x1b[31mquery"}})
    server.faults += once("POST", server.rules_path, error)
    return "400: BadRequest: Improper \\x1b[31mquery"


def test_what_fails_is_named_and_the_rest_is_there(played: Played) -> None:
    why = _refusing(played.server)
    code, text = played.deploy("--apply")
    found = states(text)
    assert code == 1 and found["failed"] >= 1 and found["created"] > found["failed"]
    assert text.count(why) == found["failed"] and "\x1b" not in text
    played.server.refuses = {}
    played.server.no_table = ""
    code, text = played.deploy("--apply")
    assert code == 0 and states(text) == {"created": found["failed"], "unchanged": found["created"]}


def _write(server: Any) -> tuple[str, str]:
    """The first request that creates."""
    if isinstance(server, Kibana):
        return "POST", "/api/detection_engine/rules/_import"
    if isinstance(server, Azure):
        return (
            "PUT",
            f"{server.workspace}/providers/Microsoft.SecurityInsights/alertRules/{manifest_id(RULE)}",
        )
    return "POST", server.rules_path


@pytest.mark.parametrize("done", [True, False], ids=["done", "lost"])
def test_a_write_without_an_answer_is_read_back(
    played: Played, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    """Created all the same: it says so. Lost: it says that. A second POST is never sent; a PUT is."""
    monkeypatch.setattr(http_api, "TIMEOUT_SECONDS", 0.3)
    method, path = _write(played.server)
    played.server.faults.append(hanging(method, path, 0.6, played.server, done))
    code, text = played.deploy("--apply", "--rule", RULE)
    sent = [one for one in played.server.asked if (one.method, one.path) == (method, path)]
    if method == "PUT":
        assert code == 0 and states(text) == {"created": 1} and len(sent) == 2, text
    elif done:
        assert code == 0 and states(text) == {"created": 1} and len(sent) == 1, text
    else:
        assert code == 1 and "no answer within 0.3 seconds" in text and len(sent) == 1, text
    code, text = played.deploy("--apply", "--rule", RULE)
    assert code == 0 and len(states(text)) == 1


def test_a_busy_product_is_asked_again_but_never_written_to_twice(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    [read] = [one for one in [_probe(played.server)] if one]
    busy = Answer(429, {"message": "busy"}, {"Retry-After": "7"})
    played.server.faults += once("GET", read, busy, Answer(503, b"", {}))
    code, text = played.deploy()
    assert code == 0 and slept == [7.0, 0.0], text
    method, path = _write(played.server)
    if method == "POST":
        played.server.faults += once(method, path, busy)
        code, text = played.deploy("--apply", "--rule", RULE)
        assert code == 1 and len(played.server.writes()) == 1 and "429" in text


def _probe(server: Any) -> str:
    if isinstance(server, Kibana):
        return "/api/detection_engine/rules/_find"
    return server.workspace if isinstance(server, Azure) else str(server.rules_path)


def test_nothing_is_written_where_nothing_can_be_read(played: Played) -> None:
    for answer, said in (
        (Answer(200, b"<html>login</html>"), "answers, but not in JSON"),
        (Answer(200, ["other"]), ""),
        (Answer(403, {"message": "no", "error": {"code": "x", "message": "no"}}), "answered 403: "),
        (Answer(302, b"", {"Location": "https://192.0.2.1/"}), "answered 302"),
    ):
        played.server.faults = once("GET", _probe(played.server), answer)
        code, text = played.deploy("--apply")
        assert code == 2 and said in text and text.count("\n") == 1, text
        assert played.server.writes() == []


# -- credentials ---------------------------------------------------------------------------------------------


def test_a_secret_that_the_server_sends_back_is_not_told(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, f"other-{value}")
    code, text = played.deploy("--apply")
    assert code == 2 and "answered 401" in text and "***" in text and "other-" not in text


def test_a_redirect_takes_no_credentials_along(played: Played, case: Case) -> None:
    elsewhere = case.server()
    with serving(elsewhere) as other:
        probe = _probe(played.server)
        for status in (301, 302, 303, 307, 308):
            played.server.faults = once("GET", probe, Answer(status, b"", {"Location": f"{other}{probe}"}))
            code, text = played.deploy("--apply")
            assert code == 2 and f"answered {status}" in text
        assert elsewhere.asked == []


def test_without_credentials_nobody_is_asked(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name)
    code, text = played.deploy("--apply")
    assert code == 2 and "is not set" in text and text.count("\n") == 1 and played.server.asked == []


def test_no_option_takes_a_secret_and_no_file_keeps_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in the environment alone: nothing is written, and no program is started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    with serving(Kibana()) as url:
        assert main(["--root", str(ROOT), "deploy", "elastic", "--url", url, "--apply", "--rule", RULE]) == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    capsys.readouterr()
    for name in ("elastic", "splunk", "sentinel", "defender"):
        with pytest.raises(SystemExit):
            main(["deploy", name, "--help"])
        options = re.findall(r"--[a-z-]+", capsys.readouterr().out)
        assert not {"--password", "--token", "--api-key", "--user"} & {*options}


@pytest.mark.parametrize("name", ["elastic", "splunk", "sentinel", "defender"])
@pytest.mark.parametrize(
    "url",
    ["http://siem.contoso.example:9", "http://192.0.2.7", "https://user:hunter2@siem.contoso.example",
     "ftp://siem.contoso.example", "siem.contoso.example", "https://siem\r\nX: y", "http://localhost.contoso.example"],
)  # fmt: skip
def test_what_is_not_encrypted_or_odd_is_refused(
    name: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("somebody was asked")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", reached)
    more = WORKSPACE if name == "sentinel" else []
    assert main(["--root", str(ROOT), "deploy", name, "--url", url, "--apply", *more]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --url ") and said.count("\n") == 1 and "hunter2" not in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["elastic"], "--url is missing; write https://"),
        (["splunk"], "--url is missing; write https://"),
        (["sentinel", *WORKSPACE], "AZURE_ACCESS_TOKEN is not set; "),
        (["defender"], "GRAPH_ACCESS_TOKEN is not set; "),
        (["elastic", "--url", "https://kibana.contoso.example"], "KIBANA_API_KEY is not set; "),
        (["elastic", "--url", "kibana"], "--url is not a URL of Kibana; write https://"),
        (["elastic", "--rule", "a\x1bb"], '--rule names no rule of the build: "a\\x1bb"; '),
    ],
)
def test_a_usage_error_is_a_sentence(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    try:
        code: object = main(["--root", str(ROOT), "deploy", *arguments])
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr().err
    assert code == 2 and printed.startswith(f"error: {said}") and printed.count("\n") == 1


def test_what_names_the_workspace_is_asked_for_by_its_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--root", str(ROOT), "deploy", "sentinel", "--workspace", "w"]) == 2
    said = "error: --subscription is missing; name where the workspace is\n"
    assert capsys.readouterr().err == said


# -- by hand -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("elastic", ["curl --fail-with-body", "/api/detection_engine/rules/_import"]),
        ("splunk", ["acs apps install private --app-package", 'splunk" install app']),
        ("sentinel", ["az deployment group what-if", "--parameters workspace=logs-eu"]),
        ("defender", ["Invoke-MgGraphRequest -Method POST", "/security/rules/detectionRules"]),
    ],
)
def test_the_commands_are_printed(
    name: str, lines: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for secret in SECRETS:
        monkeypatch.delenv(secret)
    more = WORKSPACE if name == "sentinel" else []
    assert main(["--root", str(ROOT), "deploy", name, "--print", *more]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in lines)


@pytest.mark.parametrize("url", ["https://u:hunter2@k.example", "http://k.example"])
def test_no_command_is_printed_that_shows_credentials_or_sends_them_in_clear(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(ROOT), "deploy", "elastic", "--print", "--url", url]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: --url ") and "hunter2" not in printed.err


def test_printed_commands_hold_what_was_given_as_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder or a name with quotes, blanks and commands in it stays one word: a shell that runs the lines
    passes it on."""
    odd = tmp_path / "a b';touch x;'$(touch x)"
    odd.symlink_to(DIST)
    names = ["--workspace", "w;touch x", "--resource-group", "$(touch x)"]
    assert main(["--root", str(ROOT), "deploy", "sentinel", "--print", "--dist", str(odd), *names]) == 0
    lines = [line for line in capsys.readouterr().out.split("\n") if line.startswith("az ")]
    script = "az() { printf '%s\\n' \"$@\"; }\n" + "\n".join(lines)
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "workspace=w;touch x" in run.stdout and "$(touch x)\n" in run.stdout
    assert f"{odd}/sentinel/azuredeploy/Office365.json" in run.stdout
    assert not (tmp_path / "x").exists()


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    server = Graph()
    with serving(server) as url:
        command = [
            "--root",
            str(ROOT),
            "deploy",
            "defender",
            "--url",
            url,
            "--rule",
            RULE,
            "--format",
            "json",
        ]
        assert main(command) == 0
    assert json.loads(capsys.readouterr().out) == {
        "results": [
            {"rule": RULE, "kind": "custom detection", "state": "would create", "detail": "", "kept": []}
        ]
    }


# -- Kibana, Azure and Graph on their own --------------------------------------------------------------------


def on(server: ProductServer, capsys: pytest.CaptureFixture[str], name: str, *more: str) -> Iterator[Played]:
    with serving(server) as url:
        yield Played(server, url, name, more, capsys)


@pytest.fixture
def kibana(capsys: pytest.CaptureFixture[str]) -> Iterator[Played]:
    yield from on(Kibana(), capsys, "elastic")


@pytest.fixture
def azure(capsys: pytest.CaptureFixture[str]) -> Iterator[Played]:
    yield from on(Azure(), capsys, "sentinel", *WORKSPACE)


def test_an_import_never_asks_to_overwrite(kibana: Played) -> None:
    kibana.deploy("--apply")
    imports = [one for one in kibana.server.asked if one.path.endswith("_import")]
    assert {one.path: one.query.get("overwrite", "false") for one in imports} == {
        "/api/detection_engine/rules/_import": "false",
        "/api/saved_objects/_import": "false",
    }


def test_a_rule_that_came_to_be_there_meanwhile_is_not_replaced(kibana: Played) -> None:
    """Between the comparison and the import somebody else makes the rule, and switches it on."""

    def meanwhile(request: Any) -> Answer | None:
        if request.path == "/api/detection_engine/rules/_import" and not kibana.server.rules:
            mine = {"rule_id": manifest_id(RULE), "type": "query", "query": "mine", "enabled": True}
            kibana.server.rules[manifest_id(RULE)] = mine
        return None

    kibana.server.faults.append(meanwhile)
    code, text = kibana.deploy("--apply")
    assert code == 1 and states(text)["failed"] == 1 and "already exists" in text
    assert kibana_rule(kibana.server)["query"] == "mine" and kibana_rule(kibana.server)["enabled"] is True


def test_a_rule_that_the_answer_does_not_name_is_found_missing(kibana: Played) -> None:
    """HTTP 200, "success", and one rule less than was sent."""
    answered = kibana.server.answer

    def one_less(request: Any) -> Answer:
        said = answered(request)
        if request.path == "/api/detection_engine/rules/_import":
            del kibana.server.rules[manifest_id(RULE)]
        return said  # type: ignore[no-any-return]

    kibana.server.answer = one_less
    code, text = kibana.deploy("--apply")
    assert code == 1 and f"failed: {RULE} (query rule): the product does not have it" in text
    assert states(text)["failed"] == 1 and states(text)["created"] > 40


def test_what_a_product_alters_is_said(kibana: Played) -> None:
    answered = kibana.server.answer

    def altering(request: Any) -> Answer:
        said = answered(request)
        for rule in kibana.server.rules.values():
            rule["max_signals"] = 7
        return said  # type: ignore[no-any-return]

    kibana.server.answer = altering
    code, text = kibana.deploy("--apply", "--rule", RULE)
    said = f"altered: {RULE} (query rule): created, and the product has it otherwise in max_signals"
    assert code == 1 and said in text


def test_a_session_that_somebody_has_edited(kibana: Played) -> None:
    kibana.deploy("--apply")
    found = [one for (kind, _), one in kibana.server.objects.items() if kind == "search"]
    session = next(one for one in found if not one["attributes"]["isTextBasedQuery"])
    before = json.dumps(session, sort_keys=True)
    session["attributes"]["columns"] = ["mine"]
    source = session["attributes"]["kibanaSavedObjectMeta"]
    source["searchSourceJSON"] = source["searchSourceJSON"].replace("lucene", "kuery")
    code, text = kibana.deploy("--apply")
    assert code == 1 and "(Discover session): columns, kibanaSavedObjectMeta\n" in text
    assert session["attributes"]["columns"] == ["mine"]
    code, text = kibana.deploy("--apply", "--overwrite")
    assert code == 0 and states(text)["updated"] == 1
    after = kibana.server.objects["search", session["id"]]
    assert json.dumps(after, sort_keys=True) == before


def test_a_session_in_tabs_is_the_session(kibana: Played) -> None:
    """From 9.2 on Kibana keeps a session's attributes in the first of its tabs."""
    kibana.deploy("--apply")
    for (kind, _), one in kibana.server.objects.items():
        if kind == "search":
            about = one["attributes"]
            kept = {key: about.pop(key) for key in [*about] if key not in ("title", "description")}
            one["attributes"] = about | {"tabs": [{"id": "a", "label": "Untitled", "attributes": kept}]}
    code, text = kibana.deploy("--apply")
    assert code == 0 and set(states(text)) == {"unchanged"}


def test_a_name_and_a_password_will_do(kibana: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KIBANA_API_KEY")
    monkeypatch.setenv("KIBANA_USERNAME", "deployer")
    monkeypatch.setenv("KIBANA_PASSWORD", "hunter2:ä".replace("ä", "a"))
    kibana.server.authorization = "Basic ZGVwbG95ZXI6aHVudGVyMjph"
    assert kibana.deploy("--rule", RULE)[0] == 0
    monkeypatch.setenv("KIBANA_PASSWORD", "hunter2\r\nX: y")
    code, text = kibana.deploy("--rule", RULE)
    assert code == 2 and text.startswith("error: KIBANA_PASSWORD holds a character") and "hunter2" not in text


def test_a_change_between_reading_and_writing_is_not_lost(azure: Played) -> None:
    azure.deploy("--apply", "--rule", RULE)
    _azure_edit(azure.server)

    def meanwhile(request: Any) -> Answer | None:
        if request.method == "PUT":
            azure.server.resources[request.path]["etag"] = '"newer"'
            azure.server.resources[request.path]["properties"]["severity"] = "Low"
        return None

    azure.server.faults.append(meanwhile)
    code, text = azure.deploy("--apply", "--overwrite", "--rule", RULE)
    assert (
        code == 1 and f"failed: {RULE} (analytics rule): " in text and "somebody changed it meanwhile" in text
    )
    assert azure_rule(azure.server)["query"] == "edited" and azure_rule(azure.server)["severity"] == "Low"


def test_ctrl_c_ends_it_with_a_line(kibana: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("urllib.request.OpenerDirector.open", interrupted)
    assert kibana.deploy() == (
        130,
        "detection-pack:1: interrupted; run it again: it says what is there by now\n",
    )


def test_the_options_name_what_the_platforms_read() -> None:
    """They stand apart, so that no other command loads a platform's engine for them."""
    from detection_pack.deploy.products import PRODUCTS
    from detection_pack.platforms.defender import deploy as defender
    from detection_pack.platforms.elastic import deploy as elastic
    from detection_pack.platforms.sentinel import deploy as sentinel
    from detection_pack.platforms.splunk import deploy as splunk

    read = {
        "elastic": ((elastic.KEY, elastic.USER, elastic.PASSWORD), ()),
        "splunk": (
            (splunk.TOKEN, splunk.USER, splunk.PASSWORD),
            (splunk.LOCATION, splunk.LISTS_LOCATION, splunk.SAVE),
        ),
        "sentinel": ((sentinel.TOKEN,), (sentinel.SUBSCRIPTION, sentinel.GROUP, sentinel.WORKSPACE)),
        "defender": ((defender.TOKEN,), ()),
    }
    for name, (variables, options) in read.items():
        product = PRODUCTS[name]
        assert set(re.findall(r"[A-Z_]{6,}", " ".join(product.variables))) == set(variables)
        assert tuple(product.options) == options


def test_a_list_comes_before_the_rules_and_is_never_laid_over_one(
    azure: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, out = tmp_path / "site.yml", tmp_path / "dist"
    build = ["--root", str(ROOT), "build", "--site", str(site), "--lists", "--out", str(out)]
    site.write_text("delegates: []\nprovisioning: [{account: a@x.example}]\n", encoding="utf-8")
    assert main(build) == 0
    assert azure.deploy("--dist", str(out), "--apply")[0] == 0
    puts = [one.path.rpartition("/")[0].rpartition("/")[2] for one in azure.server.writes()]
    assert puts[:3] == ["watchlists"] * 3 and "watchlists" not in puts[3:]
    [path] = [one for one in azure.server.resources if one.endswith("_provisioning")]
    assert "a@x.example" in azure.server.resources[path]["properties"].pop("rawContent")
    before = dict(azure.server.resources)
    site.write_text("delegates: []\nprovisioning: [{account: b@x.example}]\n", encoding="utf-8")
    assert main(build) == 0
    azure.server.asked.clear()
    code, text = azure.deploy("--dist", str(out), "--apply", "--overwrite")
    assert (code, azure.server.writes()) == (0, []) and "whatever is in it" in text
    assert azure.server.resources == before
    capsys.readouterr()
    assert main(["--root", str(ROOT), "deploy", "sentinel", "--print", "--dist", str(out), *WORKSPACE]) == 0
    lines = capsys.readouterr().out.splitlines()
    [made] = [line for line in lines if "watchlists/azuredeploy.json" in line]
    assert "az deployment group create" in made and "remote_email_collection_provisioning" in made
    assert lines.index(made) < min(n for n, line in enumerate(lines) if "sentinel/azuredeploy/" in line)

"""The trap: a reusable workflow that lets a rule of a pull request write, or comments anew at every push.

Its steps are run here as they stand, in bash, in a repository of made-up rules with a base and a head,
against a server of ours that speaks GitHub's documented calls for the comments of an issue ("REST API
endpoints for issue comments").
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from detection_pack.cli import main
from diff.test_diff import commit, git
from house.test_workflow import PINNED, README, faults, loaded, workflow_commands
from judges.zizmor_judge import judged
from languages.test_markdown import MENTION, displayed, rendered
from support import rule_folders
from support.product_servers import Answer, ProductServer, Request, serving
from support.rule_recordings import evtx_dump

RULES = ROOT / ".github" / "workflows" / "rules.yml"
WORKFLOW = loaded(RULES)
STEPS: dict[str, dict[str, Any]] = {
    step["name"]: step for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
}
#: What a rule's title may try: the shell, the runner's commands, Markdown, a mention.
HOSTILE = "'::error::x ##[error]x $(touch x) `touch x` @octocat </details> <img src=x> | ```'"
WHOAMI, NET = rule_folders.WHOAMI, rule_folders.NET
RECORD = {
    "UtcTime": "2026-03-10 09:15:00",
    "Computer": "ws01.contoso.example",
    "Image": "C:\\Windows\\System32\\whoami.exe",
    "CommandLine": "whoami",
}


class Comments(ProductServer):
    """The comments of pull request 7: a token of the workflow writes as github-actions[bot]."""

    authorization = "Bearer hunter2"

    def __init__(self, before: int = 0) -> None:
        super().__init__()
        # Somebody else's comment that begins like ours, and one of an account that is gone.
        stolen = "<!-- detection-pack diff: rules -->\nmine"
        self.comments: list[dict[str, Any]] = [
            {"id": 1, "user": {"login": "octocat"}, "body": stolen},
            {"id": 2, "user": None, "body": ""},
        ]
        bot = {"login": "github-actions[bot]"}
        self.comments += [{"id": 3 + n, "user": bot, "body": "else"} for n in range(before)]

    def answer(self, request: Request) -> Answer:
        place = request.path.removeprefix("/repos/contoso/detections/issues/")
        assert request.headers["Accept"] == "application/vnd.github+json"
        if (request.method, place) == ("GET", "7/comments"):
            size, page = int(request.query["per_page"]), int(request.query["page"])
            return Answer(200, self.comments[size * (page - 1) : size * page])
        body = request.json()["body"]
        assert len(body) <= 65536
        if (request.method, place) == ("POST", "7/comments"):
            made = {"id": len(self.comments) + 1, "user": {"login": "github-actions[bot]"}, "body": body}
            self.comments.append(made)
            return Answer(201, made)
        identifier = int(place.removeprefix("comments/"))
        assert request.method == "PATCH"
        [found] = [one for one in self.comments if one["id"] == identifier]
        found["body"] = body
        return Answer(200, found)


@dataclass
class Runner:
    """What GitHub's runner does with a step: its variables, its folder, its shell. ``told`` has the value of
    each expression."""

    folder: Path
    told: dict[str, str] = field(default_factory=dict)
    api: str = "http://127.0.0.1:9"

    def run(self, name: str) -> tuple[int, str]:
        """A step's exit code and what it printed."""
        step = STEPS[name]
        given = {
            k: re.sub(r"\$\{\{ (.+?) \}\}", lambda m: self.told[m[1]], v) for k, v in step["env"].items()
        }
        (self.folder / "temp").mkdir(exist_ok=True)
        given |= {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "scripts"),
            "RUNNER_TEMP": str(self.folder / "temp"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "GITHUB_API_URL": self.api,
            "GITHUB_REPOSITORY": "contoso/detections",
            "DETECTION_PACK_CACHE": "",
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env=given, cwd=self.folder / step.get("working-directory", ""),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def comment(self, server: Comments) -> tuple[int, str]:
        """The step of the other job, which has the artifact of this one and nothing else."""
        with serving(server) as self.api:
            place = self.folder / "other"
            place.mkdir(exist_ok=True)
            shutil.copy(self.folder / "temp" / "comment.md", place)
            here, self.folder = self.folder, place
            try:
                return self.run("write or update the comment")
            finally:
                self.folder = here

    def summary(self) -> str:
        return (self.folder / "summary").read_text(encoding="utf-8")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    """A repository whose base has one rule, and whose head has another, hostile one and a changed first."""
    program = tmp_path / "pack" / ".venv" / "bin" / "detection-pack"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m detection_pack.cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    for name in ("pipelines", "sigma", "pyproject.toml", "sigma-check.yml", "response"):
        (tmp_path / "pack" / name).symlink_to(ROOT / name)
    repository = tmp_path / "repository"
    rule_folders.write(repository, {"rules/whoami.yml": WHOAMI, "README.md": "# Ours\n"})
    git(repository, "init", "-q")
    commit(repository)
    base = git(repository, "rev-parse", "HEAD")
    rule_folders.write(
        repository,
        {
            "rules/whoami.yml": WHOAMI.replace("whoami.exe", "who.exe"),
            "rules/net.yml": NET.replace("title: Net", f"title: {HOSTILE}"),
            "recordings/whoami.json": evtx_dump(RECORD | {"Image": "C:\\who.exe"}, 1),
        },
    )
    told = {
        "inputs.name": "rules",
        "inputs.rules": "rules",
        "inputs.recordings": "recordings",
        "inputs.platforms": "splunk",
        "inputs.strict": "false",
        "inputs.allow-refused": "false",
        "job.workflow_repository": "contoso/pack",
        "job.workflow_sha": "0" * 40,
        "github.event.pull_request.base.sha": base,
        "github.event.pull_request.head.repo.full_name != github.repository": "false",
        "github.event.pull_request.number": "7",
        "github.token": "hunter2",
    }
    return Runner(tmp_path, told)


def test_the_steps_pass_a_sound_change_and_one_comment_tells_it(runner: Runner) -> None:
    for name in (
        "what is asked for",
        "detection-pack validate",
        "detection-pack build",
        "detection-pack replay",
    ):
        code, said = runner.run(name)
        assert code == 0, said
        if name.startswith("detection-pack"):
            _commands_are_off(said)
    assert (runner.folder / "temp" / "dist" / "splunk" / "queries" / "net.spl").is_file()
    assert not (runner.folder / "temp" / "dist" / "sentinel").exists()
    assert runner.run("detection-pack diff")[0] == 0
    server = Comments(before=120)
    assert runner.comment(server)[0] == 0
    first = server.comments[-1]["body"]
    assert [one.method for one in server.asked] == ["GET", "GET", "POST"]
    assert first.startswith("<!-- detection-pack diff: rules -->\n## What changes for users")
    assert "rules 1 added, 1 changed" in first and 'process_name="who.exe"' in first
    _shows_text_alone(first)
    assert runner.summary().strip() in first
    # Another push: the same comment says what is now.
    (runner.folder / "repository" / "rules" / "net.yml").unlink()
    assert runner.run("detection-pack diff")[0] == 0 and runner.comment(server)[0] == 0
    assert len(server.comments) == 123 and server.asked[-1].method == "PATCH"
    assert "rules 1 changed" in server.comments[-1]["body"] and "octocat" not in server.comments[-1]["body"]
    assert server.comments[0]["body"].endswith("mine")
    assert not list(runner.folder.rglob("x"))


def _commands_are_off(printed: str) -> None:
    """The runner takes no command between these lines, whose word nobody can guess."""
    lines = printed.splitlines()
    opened = re.fullmatch(r"::stop-commands::([0-9a-f]{64})", lines[0])
    assert opened is not None
    assert lines[-1] == f"::{opened[1]}::" and lines.count(lines[-1]) == 1


def _shows_text_alone(markdown: str) -> None:
    body = markdown.partition("\n")[2]
    kinds = {token.type for token in rendered(body)}
    assert not kinds & {"html_inline", "html_block", "image", "link_open"}
    unfenced = re.sub(r"(?sm)^(`{3,}).*?^\1$", "", body)
    assert "octocat" in unfenced and not MENTION.search(displayed(unfenced))


@pytest.mark.campaign
def test_each_step_fails_where_its_command_does(runner: Runner) -> None:
    rules = runner.folder / "repository" / "rules"
    (rules / "whoami.yml").write_text(WHOAMI.replace("endswith", "endswiht"), encoding="utf-8")
    for name in ("detection-pack validate", "detection-pack build"):
        code, said = runner.run(name)
        assert code == 1 and "rules/whoami.yml:" in said, name
        _commands_are_off(said)
    # What is refused is left out, and may be.
    runner.told["inputs.allow-refused"] = "true"
    assert runner.run("detection-pack build")[0] == 0
    runner.told["inputs.platforms"] = "nonsense"
    assert runner.run("detection-pack build")[0] == 2
    runner.told["inputs.platforms"] = "splunk"
    # The report is made all the same, and says it.
    assert runner.run("detection-pack diff")[0] == 0
    assert "### Refused since\n\n- `rules/whoami.yml:" in runner.summary()
    # A rule that no longer finds its recording.
    (rules / "whoami.yml").write_text(WHOAMI, encoding="utf-8")
    code, said = runner.run("detection-pack replay")
    assert code == 1 and "whoami" in said


def test_nothing_that_is_given_reaches_the_shell(runner: Runner) -> None:
    for step, name, value in (
        ("detection-pack validate", "inputs.rules", "$(touch x)"),
        ("detection-pack build", "inputs.platforms", "* `touch x`"),
        ("detection-pack diff", "github.event.pull_request.base.sha", "--output=x"),
    ):
        code, said = Runner(runner.folder, runner.told | {name: value}).run(step)
        assert code == 2 and "error: " in said and not list(runner.folder.rglob("x")), value
    for name, value in (("inputs.name", "x -->"), ("job.workflow_sha", ""), ("job.workflow_repository", "")):
        assert Runner(runner.folder, runner.told | {name: value}).run("what is asked for")[0] == 2


@pytest.mark.campaign
def test_a_report_that_is_too_long_for_a_comment_is_cut_and_whole_in_the_summary(runner: Runner) -> None:
    more = {f"rules/r{n:03}.yml": rule_folders.rule(f"R {n}", f"p{n}", number=100 + n) for n in range(40)}
    rule_folders.write(runner.folder / "repository", more)
    runner.told["inputs.platforms"] = "splunk"
    runner.told["github.event.pull_request.head.repo.full_name != github.repository"] = "true"
    assert runner.run("detection-pack diff")[0] == 0
    short = (runner.folder / "temp" / "comment.md").read_text(encoding="utf-8")
    assert len(short) <= 60001 < len(runner.summary())
    assert re.search(r"\n\n\d+ of \d+ blocks are left out: the report is too long\.\n$", short)
    assert short.count("```") % 2 == 0 and "### `r039`: added" in runner.summary()
    assert runner.summary().endswith("a pull request from a fork may only read.\n")


def test_a_refusal_of_the_comment_is_said(runner: Runner) -> None:
    (runner.folder / "temp").mkdir()
    (runner.folder / "temp" / "comment.md").write_text("## What changes\n", encoding="utf-8")
    for status, ends in ((403, 0), (500, 1)):
        server = Comments()
        server.faults.append(lambda _, status=status: Answer(status, {"message": "no"}))  # type: ignore[misc]
        code, said = runner.comment(server)
        assert code == ends and str(status) in said and len(server.comments) == 2 and "hunter2" not in said


def test_who_may_write_runs_nothing_of_the_pull_request() -> None:
    assert set(WORKFLOW[True]) == {"workflow_call"} and set(WORKFLOW["jobs"]) == {"rules", "comment"}
    assert sorted(set(faults(WORKFLOW))) == [
        "comment may write",
        "comment may write and runs commands",
        "rules checks out what the event does not name",
    ]
    job = WORKFLOW["jobs"]["comment"]
    assert job["permissions"] == {"pull-requests": "write"} and "permissions" not in WORKFLOW["jobs"]["rules"]
    assert [step.get("uses", "run").partition("@")[0] for step in job["steps"]] == [
        "actions/download-artifact", "run",
    ]  # fmt: skip
    assert "head.repo.full_name == github.repository" in job["if"] and "inputs.comment" in job["if"]
    assert {name for name, one in WORKFLOW["jobs"].items() if "github.token" in json.dumps(one)} == {
        "comment"
    }
    # The one thing that is fetched beside the pull request is this repository at the commit of the workflow.
    named = [
        {k: step["with"][k] for k in ("repository", "ref") if k in step["with"]}
        for step in WORKFLOW["jobs"]["rules"]["steps"] if "checkout" in step.get("uses", "")
    ]  # fmt: skip
    own = {"repository": "${{ job.workflow_repository }}", "ref": "${{ job.workflow_sha }}"}
    assert named == [own, {}]
    for step in STEPS.values():
        assert step.get("shell") or WORKFLOW["jobs"]["rules"]["defaults"]["run"]["shell"] == "bash"


def test_its_actions_and_its_installation_are_those_of_the_gate() -> None:
    text = RULES.read_text(encoding="utf-8")
    gate = set(PINNED.findall((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")))
    pins = PINNED.findall(text)
    assert set(pins) <= gate and len(pins) == len(re.findall(r"^\s+(?:- )?uses: \w", text, re.MULTILINE))
    [command] = re.findall(r"^(python3 -m venv .*) && \.venv/bin/detection-pack build", README, re.MULTILINE)
    assert [run for run in workflow_commands(WORKFLOW) if "pip install" in run] == [command]


def test_zizmor_finds_nothing_in_it() -> None:
    code, said = judged(RULES)
    assert code == 0, said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rules", "r", "--check"], "error: --check goes without --rules; "),
        (["--rules", "r", "--limit", "5000", "--format", "json"], "error: --limit goes without --format "),
        (["--limit", "5000"], "error: --limit requires --rules DIR; "),
        (["--rules", "no_such_folder"], "error: no_such_folder is not a folder; "),
    ],
)  # fmt: skip
def test_options_of_diff_that_do_not_go_together(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--root", str(ROOT), "diff", "HEAD", *options])
    assert ended.value.code == 2 and capsys.readouterr().err.startswith(said)

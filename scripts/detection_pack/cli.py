"""Arguments in, exit code out: 0 fine, 1 findings, 2 wrong use or unreadable input.

The engines are imported by the commands that run them: a build needs none, and DuckDB alone takes longer to
load than the whole build.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from detection_pack.build import dist as build
from detection_pack.build import outcomes
from detection_pack.build.folders import Folder, stale_file, write_file
from detection_pack.model.attack import using
from detection_pack.model.attack_bundle import load_attack
from detection_pack.model.collection import PACK, Collection, is_collection_name, of_folder
from detection_pack.model.event import Event, Hit
from detection_pack.model.findings import Finding, PackError, printable
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.pack import Pack, load_pack, pack_version
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.record_time import parse_time
from detection_pack.model.rule import INVESTIGATION, TIERS
from detection_pack.model.site_lists import Site, load_list_filters, load_site, with_site
from detection_pack.pages import coverage, rule_pages
from detection_pack.pages.guide_pages import guide_pages

FINE, FINDINGS, UNUSABLE = 0, 1, 2
#: Whoever read the output has closed it: the code of a program that SIGPIPE ends. What was found is not known
#: to anybody then, so it is not 0.
READER_GONE = 141
#: Ctrl-C: the code of a program that SIGINT ends.
INTERRUPTED = 130
#: Where a wheel has the pack's data; a checkout has them around scripts/.
_PACKAGED = Path(__file__).resolve().parent / "_pack"
_CHECKOUT = Path(__file__).resolve().parents[2]
Result = TypeVar("Result")
_OF_SITE = "leave out what a site lists for the filters of sigma/filters/"
_OWN_ATTACK = "know ATT&CK by this STIX bundle, enterprise-attack.json, instead of the pack's own data"


class _Ended(SystemExit):
    """A signal to end, which unwinds the program."""


def main(argv: Sequence[str] | None = None) -> int:
    try:
        try:
            with _ended_by_signals() as came:
                return _run(argv, came)
        except _Ended as ended:
            print("detection-pack: interrupted", file=sys.stderr)
            sys.stderr.flush()
            # All is unwound but the threads of a pool whose processes have gone, which Python would wait for.
            os._exit(int(ended.code or 0))
        finally:
            # What is still buffered would fail at the interpreter's end, with a traceback.
            sys.stdout.flush()
            sys.stderr.flush()
    except BrokenPipeError:
        _discard_output()
        return READER_GONE


@contextmanager
def _ended_by_signals() -> Iterator[Sequence[int]]:
    """Exit code 130 for Ctrl-C and 143 for a signal to end, with one line and no traceback. Gives the signals
    that came: DuckDB puts an error of its own in place of what is raised while it runs a query."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came  # signals are the main thread's
        return

    def end(number: int, _: object) -> None:
        came.append(number)
        raise _Ended(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(argv: Sequence[str] | None, came: Sequence[int]) -> int:
    arguments = _parser().parse_args(argv)
    try:
        with _attack(arguments):
            code: int = arguments.run(arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        if not came:
            return _told(error)
    if came:  # and somebody may have taken it for a fault of a rule, a file or a query
        raise _Ended(128 + came[0])
    return code


def _told(error: Exception) -> int:
    """Say what stopped a command; its exit code."""
    if isinstance(error, PackError):
        _report(error.findings)
        return FINDINGS
    if isinstance(error, RecursionError):
        print("detection-pack:1: the input is nested too deeply; flatten it", file=sys.stderr)
        return UNUSABLE
    if isinstance(error, OSError):
        what = error.strerror or type(error).__name__
        _report([Finding(str(error.filename or "detection-pack"), 1, what, "check the path")])
        return UNUSABLE
    # A fault of ours must not show users a traceback.
    what = f"internal error, {type(error).__name__}: {error}"
    _report([Finding("detection-pack", 1, what, "please report it with the input")])
    return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="detection-pack", description="Build, replay and validate the detection pack.")
    parser.add_argument(
        "--root", type=Path, default=None, help="the pack's folder (default: found from here)"
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the pack's version")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="write dist/ and docs/rules/")
    command.add_argument("--check", action="store_true", help="write nothing; exit 1 if they are stale")
    command.add_argument("--rules", type=Path, metavar="DIR", help="build this folder of Sigma rules instead")
    command.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: dist/)")
    command.add_argument("--name", metavar="NAME", help="with --rules: names the app (default: the folder)")
    command.add_argument("--title", metavar="TEXT", help="with --rules: the same for people")
    command.add_argument("--pipelines", type=Path, metavar="DIR", help="with --out: a site's own pipelines")
    command.add_argument("--platform", action="append", choices=PLATFORMS, help="with --rules: only this one")
    command.add_argument(
        "--jobs", type=_jobs, metavar="N", help="with --rules: processes (default: all cores)"
    )
    command.add_argument("--keep-going", action="store_true", help="report refused rules and build the rest")
    command.add_argument("--package", type=Path, metavar="DIR", help="make a release there instead")
    command.add_argument("--site", type=Path, metavar="FILE", help=f"with --out: {_OF_SITE}")
    command.add_argument(
        "--lists", action="store_true", help="with --site: as lists that are edited on the platforms"
    )
    command.add_argument("--attack", type=Path, metavar="FILE", help=_OWN_ATTACK)
    command.add_argument("--format", choices=("text", "json"), default="text", help="how its end is printed")
    command.set_defaults(run=_build)

    _replay_options(commands.add_parser("replay", help="execute dist/ on tests/events or on logs"))

    _add_investigate(commands)

    _explain_arguments(
        commands.add_parser(
            "explain",
            help="show why a rule fires on an event on each platform, or does not",
            description="For each platform: what its ingest makes of the record, what it answers to every "
            "condition of the rule and on which value, and for a correlation group, window and count.",
        )
    )

    _add_tune(commands)

    command = commands.add_parser(
        "validate",
        help="check rules, pipelines and events files",
        description="Check the pack, or a rule (the pack's or anybody's), an events file, a pipeline, a "
        "folder. Every finding is reported. Exit code 0: none, or warnings alone without --strict; "
        "1: findings; 2: wrong use.",
    )
    command.add_argument("paths", nargs="*", type=Path, metavar="PATH")
    command.add_argument("--format", choices=("text", "json", "sarif"), default="text")
    command.add_argument("--strict", action="store_true", help="exit 1 for warnings, too")
    command.add_argument("--no-replay", action="store_true", help="do not execute rules on their events")
    command.add_argument("--attack", type=Path, metavar="FILE", help=_OWN_ATTACK)
    command.add_argument(
        "--explain", metavar="CODE", help="check nothing; say what a code means, why, and how to mend it"
    )
    command.set_defaults(run=_validate)

    command = commands.add_parser("new", help="write a new rule with its events, placeholders marked")
    command.add_argument("name", metavar="NAME")
    source = command.add_mutually_exclusive_group(required=True)
    source.add_argument("--like", metavar="RULE", help="a rule of the pack to start from")
    source.add_argument(
        "--logsource", metavar="KEY=VALUE,…", help="a Sigma log source, such as product=x,service=y"
    )
    source.add_argument(
        "--from-events",
        action="append",
        type=Path,
        default=[],
        metavar="LOG",
        help="an export with the records that it is to find, to start from what they share",
    )
    command.add_argument(
        "--baseline", action="append", type=Path, metavar="LOG", help="show what such a rule would hit here"
    )
    command.add_argument("--tier", choices=TIERS, default="extended")
    command.add_argument(
        "--value", action="append", default=[], metavar="TEXT", help="a plain text that the rule looks for"
    )
    command.set_defaults(run=_new)
    _add_diff(commands)
    _add_simulate(commands)
    _add_deploy(commands)
    return parser


def _add_diff(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser(
        "diff",
        help="show what changes for users since a git revision",
        description="Compare the pack with the dist/ that BASE has committed, or with --rules what is built "
        "of a folder of Sigma rules today with what is built of it as it was at BASE.",
    )
    command.add_argument("base", metavar="BASE", help="a commit, branch or tag")
    command.add_argument(
        "--rules", type=Path, metavar="DIR", help="compare this folder of Sigma rules instead"
    )
    command.add_argument("--platform", action="append", choices=PLATFORMS, help="with --rules: only this one")
    command.add_argument(
        "--jobs", type=_jobs, metavar="N", help="with --rules: processes (default: all cores)"
    )
    command.add_argument(
        "--limit", type=_characters, metavar="N", help="with --rules: print no more characters than this"
    )
    command.add_argument("--format", choices=("text", "json", "markdown"), default="text")
    command.add_argument("--check", action="store_true", help="exit 1 if version or changelog lag behind")
    command.set_defaults(run=_diff)


def _add_deploy(commands: argparse._SubParsersAction[_Parser]) -> None:
    from detection_pack.deploy.products import PRODUCTS

    command = commands.add_parser(
        "deploy",
        help="put dist/ into a product: a dry run unless --apply",
        description="Compare with what is there, report each rule, and with --apply put what is new there. "
        "Credentials come from the environment alone. Exit code 0: fine; 1: something differs and is left, "
        "or failed; 2: wrong use, or the product cannot be asked.",
    )
    products = command.add_subparsers(required=True, metavar="PRODUCT")
    for name, product in PRODUCTS.items():
        one = products.add_parser(name, help=product.about, description=product.about)
        one.add_argument("--url", metavar="URL", help="where it is")
        one.add_argument("--dist", type=Path, metavar="DIR", help="the build to deploy (default: dist/)")
        one.add_argument("--apply", action="store_true", help="write; without it nothing is written")
        one.add_argument("--overwrite", action="store_true", help="replace what is there and differs, too")
        one.add_argument("--print", action="store_true", help="print the commands instead, and ask nobody")
        one.add_argument("--ca-file", type=Path, metavar="FILE", help="the certificate of the server's CA")
        one.add_argument("--format", choices=("text", "json"), default="text")
        if not product.whole:
            one.add_argument("--rule", action="append", metavar="NAME", help="only this one")
        for option, about in product.options.items():
            one.add_argument(f"--{option}", metavar=option.rpartition("-")[2].upper(), help=about)
        one.set_defaults(run=_deploy, product=name, rule=None)


def _replay_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "logs",
        nargs="*",
        type=Path,
        metavar="LOG",
        help="exports to read: files, folders, archives, - for standard input",
    )
    command.add_argument("--dist", type=Path, metavar="DIR", help="the build to execute (default: dist/)")
    command.add_argument("--platform", action="append", choices=PLATFORMS)
    command.add_argument("--rule", action="append", metavar="NAME")
    command.add_argument("--tier", action="append", choices=TIERS, help="only the rules of this tier")
    command.add_argument("--format", choices=("table", "json", "csv"), default="table")
    command.add_argument("--out", type=Path, metavar="DIR", help="with LOG: write the answer there as files")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="RULE.PARAMETER=VALUE",
        help="with LOG: try threshold, window or exclude (FIELD:VALUE) of a rule, and show both",
    )
    command.add_argument("--site", type=Path, metavar="FILE", help=f"with LOG: {_OF_SITE}, and show both")
    command.add_argument("--report", type=Path, metavar="FILE.html", help="with LOG: write it as one page")
    command.add_argument("--expect", type=Path, metavar="FILE", help="with LOG: exit 1 where it is not met")
    command.add_argument("--junit", type=Path, metavar="FILE", help="with --expect: write it as JUnit XML")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.add_argument(
        "--strict", action="store_true", help="exit 2 at the first record that cannot be read"
    )
    command.add_argument("--verbose", action="store_true", help="name every record that is skipped")
    command.add_argument("--elasticsearch", metavar="URL", help="run Elastic's rules on this cluster instead")
    command.add_argument("--api-key-file", type=Path, metavar="FILE", help="the cluster's API key")
    command.add_argument("--ca-file", type=Path, metavar="FILE", help="the certificate of the cluster's CA")
    command.add_argument("--allow-http", action="store_true", help="let logs travel unencrypted")
    command.add_argument("--yes", action="store_true", help="give leave to create and remove indices")
    command.add_argument(
        "--rules", type=Path, metavar="DIR", help="with --recordings: a folder of Sigma rules"
    )
    command.add_argument(
        "--recordings", type=Path, metavar="DIR", help="exit 1 where a rule of --rules does not find its own"
    )
    command.set_defaults(run=_replay)


def _add_investigate(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser(
        "investigate",
        help="answer the first questions after an alert from an export",
        description="With LOG: what one account did, in which mailboxes, with which clients, from which "
        "addresses, which permissions and rules it changed, and what is missing. With --queries: the queries "
        "of sigma/investigation with your value in them, for your platform.",
    )
    command.add_argument("logs", nargs="*", type=Path, metavar="LOG", help="exports to read, as replay does")
    command.add_argument("--user", metavar="ACCOUNT", help="the account, as the log has it")
    command.add_argument("--queries", action="store_true", help="print the queries instead")
    for name in ("mailbox", "application", "address"):
        command.add_argument(f"--{name}", metavar="VALUE", help=f"with --queries: the {name}")
    command.add_argument(
        "--platform", action="append", choices=PLATFORMS, help="with --queries: only this one"
    )
    command.add_argument("--format", choices=("table", "json"), default="table")
    command.add_argument(
        "--report", type=Path, metavar="FILE.html", help="replay the rules, too; write one page"
    )
    command.add_argument("--strict", action="store_true", help="exit 2 at the first unreadable record")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.set_defaults(run=_investigate)


def _explain_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("rule", metavar="RULE", help="a rule of the pack, or the file of any")
    command.add_argument(
        "event", metavar="EVENT", help="the id of an event in tests/events, or with --log an id or FILE:LINE"
    )
    command.add_argument("--log", nargs="+", type=Path, metavar="FILE", help="the export with the record")
    command.add_argument("--platform", action="append", choices=PLATFORMS, help="only this one")
    command.add_argument("--format", choices=("text", "json"), default="text")
    command.set_defaults(run=_explain)


def _add_simulate(commands: argparse._SubParsersAction[_Parser]) -> None:
    command = commands.add_parser(
        "simulate",
        help="write records of the atomic tests for today, to send through a pipeline",
        description="Write raw records of tests/atomics as JSON lines, as if they had been logged within the "
        "last hour: new identifiers, the same distances, marked as simulated in a field that no rule reads. "
        "Print which rules must fire on them.",
    )
    command.add_argument("--out", type=Path, metavar="FILE", required=True, help="where to write them")
    command.add_argument(
        "--rule", action="append", default=[], metavar="RULE", help="only what this rule fires on"
    )
    command.add_argument(
        "--at", type=_moment, metavar="TIME", help="in place of now, such as 2026-03-10T09:15:00Z"
    )
    command.set_defaults(run=_simulate)


def _moment(text: str) -> datetime:
    if (moment := parse_time(text)) is None:
        raise argparse.ArgumentTypeError(f"{text!r} must be a time such as 2026-03-10T09:15:00Z")
    return moment


def _add_tune(commands: Any) -> None:
    command = commands.add_parser(
        "tune",
        help="propose the smallest exclusion of hits that are false",
        description="Finds what the hits that are named have in common and no other hit of the rule has, as "
        "rows of a list of sigma/filters/ or as a Sigma filter, and proves on the log and on the rule's own "
        "events, on every platform, that all others still fire. Exit code 1: they cannot be told apart.",
    )
    command.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="exports to read, as replay does")
    command.add_argument("--rule", required=True, metavar="NAME")
    command.add_argument(
        "--benign",
        action="append",
        required=True,
        metavar="ID",
        help="a hit that is false: the id of its record, of a correlation a value of its group",
    )
    command.add_argument("--platform", action="append", choices=PLATFORMS, help="only this one")
    command.add_argument("--dist", type=Path, metavar="DIR", help="the build to execute (default: dist/)")
    command.add_argument("--quiet", action="store_true", help="show no progress")
    command.set_defaults(run=_tune)


def _jobs(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 to 256")
    return int(text)


def _characters(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1000 <= int(text) <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1000 to 10000000")
    return int(text)


@contextmanager
def _attack(arguments: argparse.Namespace) -> Iterator[None]:
    """The version of ATT&CK that the arguments ask for."""
    path: Path | None = getattr(arguments, "attack", None)
    if path is None:
        yield
        return
    try:
        asked = load_attack(path)
    except PackError as error:
        _report(error.findings)
        raise SystemExit(UNUSABLE) from error
    with using(asked):
        yield


def _check_build(arguments: argparse.Namespace, root: Path, out: Path) -> None:
    """Refuse options of a build that do not go together."""
    if arguments.package is not None and (arguments.rules or arguments.out or arguments.check):
        raise _Unusable("--package", "stands alone", "leave out --rules, --out and --check")
    if arguments.pipelines is not None and arguments.out is None:
        raise _Unusable("--pipelines", "requires --out DIR", "name the folder to write")
    if arguments.pipelines is not None and not arguments.pipelines.is_dir():
        raise _Unusable(str(arguments.pipelines), "is not a folder", "name the folder of the pipelines")
    if arguments.rules is not None and arguments.out is None:
        raise _Unusable("--rules", "requires --out DIR", "name the folder to write")
    if arguments.rules is not None and not arguments.rules.is_dir():
        raise _Unusable(str(arguments.rules), "is not a folder", "name the folder that holds the rules")
    if root == _PACKAGED and arguments.out is None and arguments.package is None and not arguments.check:
        raise _Unusable("--out", "is missing, and the installed pack is not written to", "name a folder")
    if arguments.rules is not None and build.overlap(arguments.rules, out):
        raise _Unusable(str(out), "and the rules lie in one another", "name a folder apart for --out")
    _check_site(arguments)
    if arguments.platform and arguments.rules is None:
        raise _Unusable("--platform", "requires --rules DIR", "leave it out: the pack has all platforms")
    if arguments.format == "json" and (arguments.check or arguments.package is not None):
        raise _Unusable("--format", "is of a build that is written", "leave out --check and --package")


def _build(arguments: argparse.Namespace) -> int:
    root = _root(arguments)
    out = arguments.out or root / "dist"
    _check_build(arguments, root, out)
    named = _collection(arguments)
    faults: list[Finding] = []
    pages: list[Folder] = []
    singles: dict[Path, bytes] = {}
    if arguments.rules is not None:
        built = build.make_folder(
            root,
            arguments.rules,
            True,
            [p for p in PLATFORMS if p in (arguments.platform or PLATFORMS)],
            arguments.jobs or outcomes.processors(),
            arguments.pipelines,
            named,
        )
    else:
        pack = load_pack(
            root, findings=faults if arguments.keep_going else None, pipelines_dir=arguments.pipelines
        )
        site = _site(pack, arguments.site) if arguments.lists else None
        if arguments.site is not None and site is None:
            pack = _with_site(pack, arguments.site)
        built = build.make(pack, arguments.keep_going, site)
        own = arguments.out is None and arguments.package is None
        if own:
            pages = [rule_pages.folder(pack, built)]
            singles = guide_pages(pack)
            if not built.refused and (overview := coverage.page(root, built)) is not None:
                singles[coverage.PAGE] = overview
    refused = [*faults, *built.refused]
    if arguments.rules is not None and refused and not arguments.keep_going:
        _report(refused)
        if not arguments.check:
            _print_build(arguments, built, None)
        return FINDINGS
    # A value of a site's list is what it says, whatever a value of a rule would mean.
    _report([*refused, *(one for one in built.warnings if one.path != str(arguments.site))])
    if arguments.check:
        findings = build.stale(built, out, *pages)
        for path, content in singles.items():
            findings += stale_file(root / path, content, path.as_posix())
        _report(findings)
        return FINDINGS if findings or refused else FINE
    if arguments.package is not None:
        from detection_pack.build.release import write_release

        names = _written(lambda: write_release(pack, built, arguments.package))
        print("\n".join(str(arguments.package / name) for name in names))
        return FINDINGS if refused else FINE
    _written(lambda: build.write(built, out, *pages))
    for path, content in singles.items():
        _written(partial(write_file, root / path, content))
    _print_build(arguments, built, out)
    return FINDINGS if refused else FINE


def _check_site(arguments: argparse.Namespace) -> None:
    if arguments.site is not None and (arguments.rules is not None or arguments.out is None):
        raise _Unusable(
            "--site", "requires --out DIR, and goes with the pack's own rules", "name the folder to write"
        )
    if arguments.lists and arguments.site is None:
        raise _Unusable("--lists", "requires --site FILE", "name the file of the site's lists")


def _site(pack: Pack, path: Path) -> Site:
    """A site's lists. One that cannot be read is wrong use."""
    try:
        return load_site(path, load_list_filters(pack.root))
    except PackError as error:
        _report(error.findings)
        raise SystemExit(UNUSABLE) from error


def _print_build(arguments: argparse.Namespace, built: build.Built, out: Path | None) -> None:
    """The end of a build: ``out`` is what was written, None where a refusal stopped it."""
    if arguments.format == "json":
        print(json.dumps(build.summary(built, out), indent=1))
        return
    if out is None:
        print("nothing was written; --keep-going builds what is not refused")
    else:
        print(f"{printable(str(out))}: {built.rules} rules, {len(built.files)} files")
    print(built.tally.text())


def _with_site(pack: Pack, path: Path) -> Pack:
    """The pack without what a site lists. A list that cannot be read is wrong use."""
    try:
        return with_site(pack, _site(pack, path))
    except PackError as error:
        _report(error.findings)
        raise SystemExit(UNUSABLE) from error


def _collection(arguments: argparse.Namespace) -> Collection:
    """What the rules are called together."""
    for option in ("name", "title"):
        if getattr(arguments, option) is not None and arguments.rules is None:
            raise _Unusable(
                f"--{option}", "requires --rules DIR", "leave it out: the pack has names of its own"
            )
    if arguments.rules is None:
        return PACK
    if arguments.name is not None and not is_collection_name(arguments.name):
        todo = f"use 3 to 64 of a-z, 0-9 and _, a letter first, and not {PACK.name}"
        raise _Unusable("--name", f'"{arguments.name}" cannot name an app', todo)
    return of_folder(arguments.rules.resolve().name, arguments.name, arguments.title)


def _written(write: Callable[[], Result]) -> Result:
    """A folder that cannot be written is wrong use, not a finding."""
    try:
        return write()
    except PackError as error:
        _report(error.findings)
        raise SystemExit(UNUSABLE) from error


#: Options of `replay` that say something of a log alone.
_OF_LOGS = ("out", "report", "set", "site", "expect", "junit")


def _replay(arguments: argparse.Namespace) -> int:
    from detection_pack.replay import verdict as replay

    root = _root(arguments)
    if arguments.rules is not None or arguments.recordings is not None:
        return _replay_recordings(arguments, root)
    dist = arguments.dist or root / "dist"
    platforms = arguments.platform or list(PLATFORMS)
    if arguments.elasticsearch is not None and arguments.platform not in (None, ["elastic"]):
        raise _Unusable("--platform", "is elastic with --elasticsearch", "leave it out")
    for option in _OF_LOGS:
        if getattr(arguments, option) and (not arguments.logs or arguments.elasticsearch is not None):
            raise _Unusable(f"--{option}", "goes with a log, and not with --elasticsearch", "leave it out")
    if arguments.report is not None and (arguments.report.is_dir() or not arguments.report.parent.is_dir()):
        raise _Unusable(str(arguments.report), "cannot be written", "name a file in a folder that is there")
    if arguments.junit is not None and arguments.expect is None:
        raise _Unusable("--junit", "requires --expect FILE", "name the expectations")
    if arguments.format == "csv" and not arguments.logs:
        raise _Unusable("--format", "is csv for a log alone", "use table or json")
    try:
        entries = build.rule_entries(dist)
        replay.selected(entries, arguments.rule)
        pack = load_pack(root)
        names = _chosen(arguments, pack, [entry.name for entry in entries])
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    if arguments.logs and arguments.elasticsearch is None:
        return _replay_logs(arguments, pack, dist, platforms, names)
    if arguments.elasticsearch is not None:
        return _replay_on_cluster(arguments, root, dist, names)
    rules = [rule for rule in pack.rules if rule.name in names]
    cases = replay.all_cases(root, rules, pack.sources)
    executed = replay.execute(dist, cases, platforms, pack.sources.values())
    verdicts = replay.judge(dist, cases, executed)
    if arguments.format == "json":
        _print_hits([hit for hits in executed.values() for hit in hits])
    else:
        print(replay.table(verdicts))
    wrong = [finding for verdict in verdicts for finding in verdict.wrong]
    _report(wrong)
    return FINDINGS if wrong else FINE


def _replay_recordings(arguments: argparse.Namespace, root: Path) -> int:
    from detection_pack.replay.progress import progress
    from detection_pack.replay.recordings import judged

    for option in ("rules", "recordings"):
        folder: Path | None = getattr(arguments, option)
        if folder is None:
            raise _Unusable(f"--{option}", "is missing", "give --rules DIR and --recordings DIR together")
        if not folder.is_dir():
            raise _Unusable(str(folder), "is not a folder", f"name the folder for --{option}")
    for option in (*_OF_LOGS, "logs", "dist", "rule", "tier", "elasticsearch", "strict"):
        if getattr(arguments, option):
            name = "LOG" if option == "logs" else f"--{option}"
            raise _Unusable(name, "does not go with --recordings", "leave it out")
    if arguments.format == "csv":
        raise _Unusable("--format", "is csv for a log alone", "use table or json")
    names = [name for name in PLATFORMS if name in (arguments.platform or PLATFORMS)]
    try:
        with (
            tempfile.TemporaryDirectory(prefix="detection-pack-") as scratch,
            progress(arguments.quiet) as told,
        ):
            found = judged(
                root, arguments.rules, arguments.recordings, Path(scratch), names, outcomes.processors(), told
            )
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    _report([*found.faults, *found.unread])
    print(json.dumps(found.as_json(), indent=1) if arguments.format == "json" else found.text())
    if not found.judgements:
        _report([Finding(str(arguments.recordings), 1, "has no recording of a rule", "look at its names")])
        return UNUSABLE
    return FINDINGS if found.failed or found.faults else FINE


def _chosen(arguments: argparse.Namespace, pack: Pack, known: Sequence[str]) -> list[str]:
    """The names of the rules that --rule and --tier leave, in the order of dist/."""
    tiers = {rule.name: rule.tier for rule in pack.rules}
    # An investigation query asks for a value: a log is asked for it by its name or tier alone.
    finding = [tier for tier in TIERS if tier != INVESTIGATION]
    usual = finding if arguments.logs and not arguments.rule else TIERS
    wanted, of = set(arguments.rule or known), set(arguments.tier or usual)
    found = [name for name in known if name in wanted and tiers.get(name, TIERS[0]) in of]
    if not found:
        raise PackError.at("--tier", 1, "leaves no rule", f"use {', '.join(sorted(set(tiers.values())))}")
    return found


def _replay_logs(
    arguments: argparse.Namespace, pack: Pack, dist: Path, platforms: Sequence[str], names: Sequence[str]
) -> int:
    from detection_pack.replay import answer_files, answer_text, expectations, log_replay, report_page, trial
    from detection_pack.replay.progress import progress
    from detection_pack.replay.read_report import lines

    with tempfile.TemporaryDirectory(prefix="detection-pack-") as scratch:
        try:
            expected = expectations.load_expectations(arguments.expect, names) if arguments.expect else []
            changes = trial.changes(arguments.set)
            site = None
            if arguments.site is not None:
                site = load_site(arguments.site, load_list_filters(pack.root))
            asked = log_replay.Asked(
                dist, platforms, names, changes, arguments.strict, arguments.verbose, site
            )
            with progress(arguments.quiet) as told:
                reading, tried = log_replay.opened(asked, pack, arguments.logs, Path(scratch), told)
                with reading:
                    said = list(lines(reading))
                    answer = log_replay.answered(asked, pack, reading, tried, told)
            for line in said:
                print(line, file=sys.stderr)
            shown = answer.as_json()
            if arguments.out is not None:
                answer_files.write_folder(shown, arguments.out)
            if arguments.report is not None:
                report_page.write_report(arguments.report, shown, dist, pack.version)
            hits = {rule.about.name: rule.counts for rule in answer.rules}
            if arguments.junit is not None:
                write_file(arguments.junit, expectations.junit(expected, hits).encode())
        except PackError as error:
            _report(error.findings)
            return UNUSABLE
    if arguments.format == "json":
        print(answer_files.json_text(shown), end="")
    elif arguments.format == "csv":
        sys.stdout.write(answer_files.csv_text(shown))
    else:
        print(answer_text.answer_text(shown))
    failed = expectations.failures(expected, hits)
    _report(failed)
    if not any(hits.values()):
        _report([Finding(str(dist), 1, "has no rule that could be run", "look at the reasons above")])
        return UNUSABLE
    return FINDINGS if failed else FINE


def _investigate(arguments: argparse.Namespace) -> int:
    from detection_pack.investigate import command

    given = {name: getattr(arguments, name) for name in ("mailbox", "application", "address")}
    values = {"account": arguments.user, **given}
    values = {name: value for name, value in values.items() if value is not None}
    report: Path | None = arguments.report
    if arguments.queries:
        for name, there in (("LOG", arguments.logs), ("--report", report)):
            if there:
                raise _Unusable("--queries", f"goes without {name}", f"leave out --queries or {name}")
        if not values:
            what = "requires --user, --mailbox, --application or --address"
            raise _Unusable("--queries", what, "give the value to look for")
    else:
        for name in (*given, "platform"):
            if getattr(arguments, name) is not None:
                raise _Unusable(f"--{name}", "requires --queries", "add it, or leave this out")
        if not arguments.logs:
            place = "investigate" if arguments.user is None else "--user"
            raise _Unusable(place, "requires LOG or --queries", "name an export, or ask for the queries")
        if arguments.user is None:
            raise _Unusable("LOG", "requires --user ACCOUNT", "name the account, as the log has it")
    if report is not None and (report.is_dir() or not report.parent.is_dir()):
        what, todo = f"{report} cannot be written", "name a file in a folder that is there"
        raise _Unusable("--report", what, todo)
    root = _root(arguments)
    try:
        pack = load_pack(root)
        if arguments.queries:
            names = [p for p in PLATFORMS if p in (arguments.platform or PLATFORMS)]
            print(command.queries(pack, values, names, arguments.format))
            return FINE
        asked = command.Asked(arguments.logs, arguments.user, arguments.strict, arguments.quiet, report)
        said, shown = command.investigate(pack, root / "dist", asked, arguments.format)
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    for line in said:
        print(line, file=sys.stderr)
    print(shown)
    return FINE


def _replay_on_cluster(arguments: argparse.Namespace, root: Path, dist: Path, names: Sequence[str]) -> int:
    from detection_pack.replay import cluster_replay
    from detection_pack.replay import verdict as replay
    from detection_pack.replay.read_report import lines
    from detection_pack.replay.reading import read

    sources = load_log_sources(root)
    rules = [rule for rule in load_pack(root).rules if rule.name in names]
    cases = {} if arguments.logs else replay.all_cases(root, rules, sources)
    events: list[Event] = []
    if arguments.logs:
        try:
            # A cluster gets the whole records, an engine of ours what the rules read.
            with read(arguments.logs, sources, strict=arguments.strict, verbose=arguments.verbose) as reading:
                events = reading.events()
                for line in lines(reading):
                    print(line, file=sys.stderr)
        except PackError as error:
            _report(error.findings)
            return UNUSABLE
    records = len(events) or sum(len(case.events) for listed in cases.values() for case in listed)
    code = FINE
    try:
        with cluster_replay.ended_by_signals():
            session = cluster_replay.opened_session(
                arguments.elasticsearch,
                arguments.yes,
                records,
                api_key_file=arguments.api_key_file,
                ca_file=arguments.ca_file,
                allow_http=arguments.allow_http,
                environment=os.environ,
            )
            if arguments.logs:
                hits = cluster_replay.on_cluster(session, dist, events, names, sources.values())
                shown = replay.hits_as_table(hits)
            else:
                hits, shown, wrong = cluster_replay.judged_on_cluster(session, dist, cases, sources.values())
                _report(wrong)
                code = FINDINGS if wrong else FINE
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    for note in session.notes():
        print(note, file=sys.stderr)
    print(
        json.dumps({"hits": [h.as_json() for h in hits]}, indent=1) if arguments.format == "json" else shown
    )
    return code


def _print_hits(hits: Sequence[Hit]) -> None:
    from detection_pack.replay import verdict as replay

    found = [hit.as_json() for hit in replay.exact(hits)]
    # In ASCII: a value out of a log may hold half of a surrogate pair, or what steers a terminal.
    print(json.dumps({"hits": found}, indent=1))


def _explain(arguments: argparse.Namespace) -> int:
    from detection_pack.replay import explain_event as events
    from detection_pack.replay.explain import explain
    from detection_pack.replay.explain_text import explanation_json, explanation_text

    pack = load_pack(_root(arguments))
    try:
        rule = events.asked_rule(pack, arguments.rule)
        if arguments.log is None:
            found = events.case_event(pack, rule, arguments.event)
        else:
            found = events.log_event(rule, pack.sources, arguments.log, arguments.event)
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    wanted = [p for p in PLATFORMS if p in (arguments.platform or PLATFORMS)]
    told = explain(pack, rule, found.event, found.origin, found.context, wanted)
    if arguments.format == "json":
        print(json.dumps(explanation_json(told), indent=1))
    else:
        print(explanation_text(told))
    return FINE


def _tune(arguments: argparse.Namespace) -> int:
    from detection_pack.replay.progress import progress
    from detection_pack.replay.reading import read
    from detection_pack.replay.verdict import selected
    from detection_pack.tune.tuning import NotTold, Wanted, tuned

    root = _root(arguments)
    dist = arguments.dist or root / "dist"
    try:
        pack = load_pack(root)
        [entry] = selected(build.rule_entries(dist), [arguments.rule])
        wanted = Wanted(pack.rule(entry.name), arguments.platform or list(PLATFORMS), arguments.benign)
        with progress(arguments.quiet) as told:
            reading = read(
                arguments.logs, pack.sources, progress=lambda label, number: told(label, number, 0)
            )
        scratch = tempfile.TemporaryDirectory(prefix="detection-pack-")
        with scratch as folder, reading, progress(arguments.quiet) as told:
            proposal = tuned(pack, dist, wanted, reading, Path(folder), told)
    except PackError as error:
        _report(error.findings)
        return FINDINGS if isinstance(error, NotTold) else UNUSABLE
    print(proposal.text(), end="")
    return FINE


def _validate(arguments: argparse.Namespace) -> int:
    from detection_pack.checks import reporters, validate

    if arguments.explain is not None:
        return _explain_code(arguments.explain, arguments.paths, _root(arguments))
    for path in arguments.paths:
        if not path.exists():
            raise _Unusable(str(path), "does not exist", "name a rule, a pipeline or an events file")
    root = _root(arguments)
    findings = validate.validate(root, arguments.paths, not arguments.no_replay)
    report = reporters.Report(findings, root, pack_version(root), validate.all_checks())
    shown = reporters.REPORTERS[arguments.format](report)
    print(shown, end="", file=sys.stderr if arguments.format == "text" else sys.stdout)
    found = validate.count(findings)
    if arguments.format == "text":
        print("valid" if not findings else ", ".join(f"{kind}: {n}" for kind, n in found.items()))
    return FINDINGS if found["errors"] or (arguments.strict and findings) else FINE


def _explain_code(code: str, paths: Sequence[Path], root: Path) -> int:
    from detection_pack.checks import explanation

    if paths:
        raise _Unusable("--explain", "checks no file", "leave the paths out, or --explain")
    explained = explanation.explained(code, root)
    if explained is None:
        raise _Unusable("--explain", f'"{code}" is no code of a finding', explanation.nearest(code))
    print(explained, end="")
    return FINE


def _new(arguments: argparse.Namespace) -> int:
    from detection_pack.new.draft import draft, next_steps
    from detection_pack.new.files import write

    root, name = _root(arguments), arguments.name
    if root == _PACKAGED:
        raise _Unusable("--root", "is missing, and the installed pack is not written to", "name a checkout")
    if arguments.baseline and not arguments.from_events:
        raise _Unusable(
            "--baseline", "requires --from-events LOG", "name the records that the rule is to find"
        )
    if arguments.value and arguments.from_events:
        raise _Unusable("--value", "does not go with --from-events", "the values are those of the records")
    shown = ""
    if arguments.from_events:
        from detection_pack.new.draft_hits import draft_of_events

        logs, baseline = arguments.from_events, arguments.baseline or []
        for path in (path for path in (*logs, *baseline) if not path.exists()):
            raise _Unusable(str(path), "does not exist", "name an export")
        made = _written(lambda: draft_of_events(root, name, arguments.tier, logs, baseline))
        files, shown = made.files, made.text
    else:
        stated = (name, arguments.like, arguments.logsource, arguments.tier, arguments.value)
        files = _written(lambda: draft(root, *stated))
    written = _written(lambda: write(root, files))
    print("\n".join(map(str, written)))
    if shown:
        print(shown)
    print(next_steps(name))
    return FINE


def _diff(arguments: argparse.Namespace) -> int:
    from detection_pack.diff.changelog import release_findings
    from detection_pack.diff.comparison import compare
    from detection_pack.diff.diff_text import render
    from detection_pack.diff.revision import UnknownRevision

    root = _root(arguments)
    if arguments.rules is not None:
        return _diff_folder(arguments, root)
    for option in ("platform", "jobs", "limit"):
        if getattr(arguments, option) is not None:
            raise _Unusable(f"--{option}", "requires --rules DIR", "leave it out")
    try:
        report = compare(root, arguments.base)
    except UnknownRevision as error:
        _report(error.findings)
        return UNUSABLE
    print(render(report, arguments.format))
    findings = release_findings(root, report) if arguments.check else []
    _report(findings)
    return FINDINGS if findings else FINE


def _diff_folder(arguments: argparse.Namespace, root: Path) -> int:
    from detection_pack.diff.diff_text import render_folder
    from detection_pack.diff.folder_comparison import compare_folder

    if arguments.check:
        raise _Unusable("--check", "goes without --rules", "leave it out: a folder states no version")
    if arguments.limit is not None and arguments.format == "json":
        raise _Unusable("--limit", "goes without --format json", "leave it out, or print text or Markdown")
    if not arguments.rules.is_dir():
        raise _Unusable(str(arguments.rules), "is not a folder", "name the folder that holds the rules")
    names = [name for name in PLATFORMS if name in (arguments.platform or PLATFORMS)]
    jobs = arguments.jobs or outcomes.processors()
    try:
        report = compare_folder(root, arguments.rules, arguments.base, names, jobs)
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    print(render_folder(report, arguments.format, arguments.limit))
    return FINE


def _simulate(arguments: argparse.Namespace) -> int:
    from detection_pack.simulate.record_sets import load_record_sets
    from detection_pack.simulate.simulation import chosen, simulated

    root = _root(arguments)
    if arguments.out.is_dir() or not arguments.out.parent.is_dir():
        raise _Unusable(str(arguments.out), "cannot be written", "name a file in a folder that is there")
    at = arguments.at or datetime.now(UTC).replace(microsecond=0)
    try:
        sets = chosen(load_record_sets(root, load_log_sources(root)), arguments.rule)
        made = simulated(sets, at, arguments.rule)
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    _written(lambda: write_file(arguments.out, made.lines()))
    print(
        f"{arguments.out}: {len(made.records)} records, {made.first:%Y-%m-%dT%H:%M:%SZ} to "
        f"{made.last:%Y-%m-%dT%H:%M:%SZ}"
    )
    print(f"fires: {', '.join(made.fires)}")
    if made.beside:
        print(f"not asked for, and fires on the same records: {', '.join(made.beside)}")
    return FINE


def _deploy(arguments: argparse.Namespace) -> int:
    from detection_pack.deploy import deployment
    from detection_pack.deploy.products import PRODUCTS, asked_for

    product = PRODUCTS[arguments.product]
    options = {name: getattr(arguments, name.replace("-", "_")) for name in product.options}
    try:
        dist = arguments.dist or _root(arguments) / "dist"
        asked = asked_for(arguments.product, dist, os.environ, arguments.url, arguments.ca_file, options)
        names = frozenset(asked.names.values())
        unknown = sorted({*(arguments.rule or ())} - names)
        if unknown:
            what = f'names no rule of the build: "{unknown[0]}"'
            raise PackError.at("--rule", 1, what, "use a name of the manifest")
        if arguments.print:
            print("\n".join(map(printable, product.steps(asked))))
            return FINE
        rules = None if arguments.rule is None else frozenset(arguments.rule)
        wish = deployment.Wish(arguments.apply, arguments.overwrite, rules)
        results = deployment.deploy(product.opened(asked), wish, names)
    except PackError as error:
        _report(error.findings)
        return UNUSABLE
    except KeyboardInterrupt:
        _report([Finding("detection-pack", 1, "interrupted", "run it again: it says what is there by now")])
        return INTERRUPTED
    if arguments.format == "json":
        print(json.dumps({"results": [result.as_json() for result in results]}, indent=1))
    else:
        print(deployment.text(results, wish))
    return FINE if deployment.fine(results) else FINDINGS


def _root(arguments: argparse.Namespace) -> Path:
    """The folder that holds pipelines/ and sigma/: the given one, this one or above, the checkout's, the
    wheel's."""
    marks = ["pipelines", "pyproject.toml"]
    if arguments.root is not None:
        candidates = [arguments.root]
    else:
        here = Path.cwd()
        candidates = [here, *here.parents, _CHECKOUT, _PACKAGED]
        marks.append("sigma")  # Others have pipelines and a pyproject.toml, too.
    for folder in candidates:
        if all((folder / name).exists() for name in marks):
            return Path(folder)
    raise _Unusable(
        str(candidates[0]), "is not a detection pack", "run it in the pack's folder or give --root"
    )


def _discard_output() -> None:
    """Let what is still buffered go nowhere: the interpreter flushes both streams once more at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Version(argparse.Action):
    """Prints the version of the pack that this program belongs to, whatever folder it is run in."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        own = _CHECKOUT if (_CHECKOUT / "pyproject.toml").is_file() else _PACKAGED
        print(f"{parser.prog} {pack_version(own)}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """One whose usage errors read as all others do; its subcommands are of the same class."""

    def error(self, message: str) -> NoReturn:
        what = re.sub(r"^argument (?=\S)", "", message)
        self.exit(UNUSABLE, f"error: {printable(what)}; see {self.prog} --help\n")


class _Unusable(SystemExit):
    """A usage error: ``error: what is wrong; what to do`` on one line of standard error, and exit code 2.

    ``place`` is the option or the path at fault; with ``what`` it makes a sentence.
    """

    def __init__(self, place: str, what: str, todo: str) -> None:
        print(_usage_error(Finding(place, 1, what, todo)), file=sys.stderr)
        super().__init__(UNUSABLE)


def _usage_error(finding: Finding) -> str:
    place = f"{finding.path}:{finding.line}: "
    return f"error: {printable(finding.path)} {str(finding).removeprefix(printable(place))}"


def _report(findings: Sequence[Finding]) -> None:
    """Print findings. An error on an option, an argument or a variable of the environment is a usage error,
    wherever it was found."""
    for finding in findings:
        place = finding.path
        named = place.startswith("--") or (place.isidentifier() and place.isupper())
        wrong_use = named and finding.severity == "error"
        print(_usage_error(finding) if wrong_use else finding, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

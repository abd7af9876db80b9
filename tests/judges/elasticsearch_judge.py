"""A node of real Elasticsearch for the tests, through `elasticsearch/ElasticsearchJudge.java`.

Needs Maven and a JDK: Elasticsearch 8.18 with JDK 17 to 20, 9.x with JDK 21 or newer; where both are
installed, both judge. The first build takes the jars from Maven's repositories, later ones need no network.
What the node is and what it lacks is told in ElasticsearchJudge.java.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detection_pack.platforms.elastic.cluster import Cluster

FOLDER = Path(__file__).parent / "elasticsearch"
BUILT = FOLDER / "target"
MAIN = "org.elasticsearch.node.ElasticsearchJudge"
_SOURCES = ("pom.xml", "ElasticsearchJudge.java")
#: The first build fetches about 60 MB.
BUILD_SECONDS = 600
#: A start takes 3 seconds, and on a busy machine ten times that.
START_SECONDS = 180
#: The profiles of pom.xml: the first Java release of each, and the first that is beyond it.
RELEASES = {"8": (17, 21), "9": (21, 1000)}


@dataclass(frozen=True)
class Jdk:
    """An installed JDK. ``release`` is Java's, such as 17."""

    home: Path
    release: int


@dataclass(frozen=True)
class Node:
    """A running node. ``version`` is Elasticsearch's, such as 8.18.8."""

    version: str
    url: str

    @functools.cached_property
    def cluster(self) -> Cluster:
        return Cluster(self.url)


def available(major: str | None = None) -> str | None:
    """None when this major version of Elasticsearch can be started (any, without one), else the reason."""
    if shutil.which("mvn") is None:
        return "Maven is not installed"
    if not any(jdk(one) for one in ([major] if major else RELEASES)):
        if major is None:
            return "a JDK of release 17 or newer is not installed"
        first, beyond = RELEASES[major]
        wanted = f"{first} or newer" if beyond == 1000 else f"{first} to {beyond - 1}"
        return f"Elasticsearch {major} needs a JDK of release {wanted}, and none is installed"
    return None


@functools.cache
def jdk(major: str) -> Jdk | None:
    """The JDK to run this major version on: the oldest that it takes."""
    first, beyond = RELEASES[major]
    found = [one for one in _jdks() if first <= one.release < beyond]
    return min(found, key=lambda one: (one.release, str(one.home)), default=None)


@functools.cache
def node(major: str) -> Node:
    """The node of this major version that serves the whole process; it ends with the process."""
    manager = started(major)
    running = manager.__enter__()
    atexit.register(manager.__exit__, None, None, None)
    return running


@contextmanager
def started(major: str) -> Iterator[Node]:
    """A node of its own, with its data in a temporary folder, until the end of the block."""
    chosen = jdk(major)
    if chosen is None:
        raise ValueError(available(major))
    classes = _built(chosen)
    with tempfile.TemporaryDirectory(prefix="elasticsearch-judge-") as folder:
        log = Path(folder, "log")
        command = [
            str(chosen.home / "bin" / "java"),
            *_options(chosen),
            "-cp",
            classes,
            MAIN,
            f"{folder}/home",
        ]
        with (
            log.open("wb") as errors,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="ascii"
            ) as process,
        ):
            try:
                yield _announced(process, log)
            finally:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def _options(chosen: Jdk) -> list[str]:
    """A small heap and the quick compiler alone: a node that lives a minute would spend it on compiling."""
    options = ["-Xms256m", "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8"]
    return options + (["--enable-native-access=ALL-UNNAMED"] if chosen.release > 21 else [])


def _announced(process: subprocess.Popen[str], log: Path) -> Node:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not re.fullmatch(r"[0-9.]+ http://127\.0\.0\.1:[0-9]+\n", line):
        process.kill()
        raise RuntimeError(f"Elasticsearch did not start: {log.read_text(errors='replace')[-2000:]}")
    version, url = line.split()
    return Node(version, url)


def _built(chosen: Jdk) -> str:
    """The class path. Maven runs where the sources have changed since; one process at a time."""
    major = next(m for m, (first, beyond) in RELEASES.items() if first <= chosen.release < beyond)
    number = version(major)
    target = BUILT / number
    stamp, lists = target / "stamp", target / "classpath"
    key = hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in _SOURCES)).hexdigest()
    with _alone():
        if not _is_built(stamp, lists, key):
            _maven(chosen, offline=True) or _maven(chosen, offline=False)
            stamp.write_text(key)
    return f"{target / 'classes'}{os.pathsep}{lists.read_text()}"


def _is_built(stamp: Path, lists: Path, key: str) -> bool:
    if not (stamp.is_file() and lists.is_file() and stamp.read_text() == key):
        return False
    return all(Path(jar).is_file() for jar in lists.read_text().strip().split(os.pathsep))


def version(major: str) -> str:
    """The Elasticsearch that pom.xml names for this major version."""
    found: list[str] = re.findall(r"<elasticsearch\.version>([0-9.]+)<", (FOLDER / "pom.xml").read_text())
    return next(number for number in found if number.startswith(f"{major}."))


def _maven(chosen: Jdk, offline: bool) -> bool:
    """Whether the build went through. Without the network first: it is faster, and enough but once."""
    done = subprocess.run(
        ["mvn", "-B", "-q", *(["-o"] if offline else []), "compile"],
        cwd=FOLDER,
        env={**os.environ, "JAVA_HOME": str(chosen.home)},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=BUILD_SECONDS,
        check=False,
    )
    if done.returncode != 0 and not offline:
        raise RuntimeError(f"Maven could not build {FOLDER}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


@contextmanager
def _alone() -> Iterator[None]:
    """A folder can be made by one only; it is taken for left behind when it is older than any build."""
    lock = BUILT / "lock"
    BUILT.mkdir(exist_ok=True)
    while True:
        try:
            lock.mkdir()
            break
        except FileExistsError:
            try:
                if time.time() - lock.stat().st_mtime > BUILD_SECONDS:
                    lock.rmdir()
            except FileNotFoundError:
                continue
            time.sleep(0.2)
    try:
        yield
    finally:
        lock.rmdir()


@functools.cache
def _jdks() -> tuple[Jdk, ...]:
    """The JDKs of JAVA_HOME, of the path, of CI's variables (JAVA_HOME_21_X64) and of the usual folder."""
    homes = [Path(v) for k, v in sorted(os.environ.items()) if k == "JAVA_HOME" or k.startswith("JAVA_HOME_")]
    if (javac := shutil.which("javac")) is not None:
        homes.append(Path(javac).resolve().parents[1])
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    found = {home.resolve(): _release(home) for home in homes if (home / "bin" / "javac").is_file()}
    return tuple(Jdk(home, release) for home, release in found.items() if release)


def _release(home: Path) -> int:
    """Java's release out of the file that every JDK has; 0 where it cannot be read."""
    try:
        stated = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(stated[1]) if stated else 0

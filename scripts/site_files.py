"""What pages of docs/ link to outside of docs/, for mkdocs: files of the pack become files of the site.

On GitHub a page links to ``../../dist/…`` as it stands in the repository. A site holds docs/ alone; here each
file that a page names, and each page that such a page names, is taken along below ``pack/``, and the link is
written anew. A link to a folder shows its name alone. Source: mkdocs.org, "Developing plugins", on_files and
on_page_markdown.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

#: Where the files of the pack stand in the site.
PREFIX = "pack/"
#: A link of Markdown: its text or the end of it, the target, an anchor.
_LINK = re.compile(r"(\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^()\s#]+)(#[^()\s]*)?\)")
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add what the pages name, to the end of all links."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    waiting = [(docs / file.src_uri).relative_to(root) for file in files.documentation_pages()]
    taken: set[Path] = set(waiting)
    while waiting:
        page = waiting.pop()
        for target, _ in outside(root, page, (root / page).read_text(encoding="utf-8")):
            if target in taken or not (root / target).is_file():
                continue
            taken.add(target)
            uri = _uri(target)
            if target.suffix == ".md":
                text = (root / target).read_text(encoding="utf-8")
                files.append(File.generated(config, uri, content=text))
                waiting.append(target)
            else:
                files.append(File.generated(config, uri, abs_src_path=str(root / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """The page with its links to what stands outside of docs/ written anew."""
    root, docs = Path(config.config_file_path).parent, Path(config.docs_dir)
    uri: str = page.file.src_uri
    inside = not uri.startswith(PREFIX)
    own = (docs / uri).relative_to(root) if inside else Path(uri.removeprefix(PREFIX))

    def written(found: re.Match[str]) -> str:
        target = _target(root, own, found[2])
        if target is None:
            return found[0]
        if (root / target).is_dir():
            return found[1][1:-1]
        try:
            there = target.relative_to(docs.relative_to(root)).as_posix()
        except ValueError:
            there = _uri(target)
        if not inside or there.startswith(PREFIX):
            return f"{found[1]}({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{found[3] or ''})"
        return found[0]

    return "".join(part if fenced else _LINK.sub(written, part) for part, fenced in _parts(markdown))


def outside(root: Path, page: Path, markdown: str) -> Iterator[tuple[Path, str]]:
    """The targets of a page's links that are there, with the text of the link."""
    for part, fenced in _parts(markdown):
        for found in () if fenced else _LINK.finditer(part):
            target = _target(root, page, found[2])
            if target is not None and target.parts[:1] != ("docs",):
                yield target, found[1]


def _uri(target: Path) -> str:
    """Where a file of the pack stands in the site, which leaves out what begins with a dot."""
    return PREFIX + "/".join(part.removeprefix(".") for part in target.parts)


def _target(root: Path, page: Path, link: str) -> Path | None:
    """What a link of a page names, from ``root``; None for what is not there or not of the pack."""
    if ":" in link or link.startswith("/"):
        return None
    path = Path(posixpath.normpath((page.parent / link).as_posix()))
    return path if path.parts[:1] != ("..",) and (root / path).exists() else None


def _parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and of each whether it stands in a fence."""
    at, fenced = 0, False
    for mark in _FENCE.finditer(markdown):
        yield markdown[at : mark.start()], fenced
        at, fenced = mark.start(), not fenced
    yield markdown[at:], fenced

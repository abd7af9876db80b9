"""A platform's field and value mapping: plain pySigma, merged from the folders of the log sources.

pySigma's objects are made here (`Pipeline.processing`) and used by the backends of the platforms; nothing
else sees them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml
from sigma.correlations import SigmaCorrelationRule
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from detection_pack.model import pipeline_document
from detection_pack.model.documents import Document, read_text
from detection_pack.model.findings import Finding, PackError
from detection_pack.model.log_source import FILE as SOURCE
from detection_pack.model.log_source import AlertDefaults, LogSource, tables_of
from detection_pack.model.log_source_reader import load_log_sources
from detection_pack.model.merged_pipeline import Scope, merged, scopes
from detection_pack.model.pipeline_shapes import check_shapes
from detection_pack.model.platform_names import PLATFORMS
from detection_pack.model.rule import Rule
from detection_pack.model.source_mapping import SourceMapping, may_apply, source_mapping
from detection_pack.model.source_pipeline import COMMON, SourceFile, source_file


# libyaml is part of every published wheel of PyYAML, but not of every build of it.
class _PlainDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a value out wherever it stands: the pack reads no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class FieldTraits:
    """What a pipeline knows of a canonical field: whether it maps it, and whether it maps its values one by
    one."""

    known: bool
    enumerated: bool


@dataclass(frozen=True)
class Pipeline:
    """A plain pySigma processing pipeline of one platform.

    ``path`` is its file, or the first of those that it is merged from; then ``scopes`` has the log sources.
    ``tables``: the platform's tables, from column to type. ``absent``: the log sources whose records the
    platform does not have, each with the reason. ``alerts``: the alert view of each log source.
    """

    platform: str
    path: Path
    document: Document
    scopes: Mapping[str, Scope] = field(default_factory=dict, repr=False)
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    absent: tuple[tuple[Scope, str], ...] = field(default=(), repr=False)
    alerts: tuple[tuple[Scope, AlertDefaults], ...] = field(default=(), repr=False)

    def alert_defaults(self, rule: Rule) -> AlertDefaults:
        """The alert view of the rule's log source, for a rule that states none."""
        pairs = {"category": None, "product": None, "service": None, **rule.logsource}
        return next((view for scope, view in self.alerts if scope.serves(pairs)), AlertDefaults())

    def absence(self, rule: Rule) -> str | None:
        """Why the platform is not given this rule, as the rule or its log source states; None where it is."""
        if (stated := rule.absent.get(self.platform)) is not None:
            return stated
        pairs = {"category": None, "product": None, "service": None, **rule.logsource}
        return next((why for scope, why in self.absent if scope.serves(pairs)), None)

    def processing(self) -> ProcessingPipeline:
        """The pySigma pipeline. It empties its state before each rule, so one serves all rules in turn.

        Its items write into the pipeline that was last made of them. A backend of pySigma's own makes another
        one of those it is given; then they are linked anew here.
        """
        linked = self._linked
        if any(item._pipeline is not linked for item in linked.items[:1]):
            linked = self.__dict__["_linked"] = ProcessingPipeline() + self._parsed
        return linked

    @cached_property
    def _linked(self) -> ProcessingPipeline:
        return ProcessingPipeline() + self._parsed

    @cached_property
    def _parsed(self) -> ProcessingPipeline:
        try:
            return ProcessingPipeline.from_dict(copy.deepcopy(self.document.data))
        except Exception as error:  # pySigma raises Python's own errors for values of unexpected types
            what = str(error).split("\n")[0]
            todo = "see pySigma's documentation of pipelines"
            raise PackError.at(self.path, 1, what, todo, pipeline_document.PIPELINE) from error

    def known_fields(self, rule: SigmaRule | SigmaCorrelationRule) -> frozenset[str]:
        """The canonical fields that the pipeline maps for the log source of this rule."""
        return self.mapping_of(rule).fields

    def enumerations(self, rule: SigmaRule | SigmaCorrelationRule) -> Mapping[str, frozenset[str]]:
        """``{canonical field: values}`` of every field whose values the pipeline maps one by one."""
        return self.mapping_of(rule).enumerations

    def mapping_of(self, rule: SigmaRule | SigmaCorrelationRule) -> SourceMapping:
        """What the pipeline says of the log source of this rule."""
        source = rule.logsource if isinstance(rule, SigmaRule) else None
        found = self._mapping_by_source.get(source)
        if found is None:
            items = [item for item in self._parsed.items if may_apply(item, rule)]
            found = self._mapping_by_source[source] = source_mapping(items)
        return found

    @cached_property
    def _mapping_by_source(self) -> dict[Any, SourceMapping]:
        return {}

    def map_field(self, rule: Rule, field: str) -> str:
        """The platform's name for a canonical field, in the context of the rule that has the detection."""
        return self._mapped(rule, field)[0]

    def traits(self, rule: Rule, field: str) -> FieldTraits:
        """What the pipeline knows of a canonical field, in the context of the rule that has the detection."""
        plain = next(r for r in rule.sigma().rules if isinstance(r, SigmaRule))
        return FieldTraits(
            known=self.mapping_of(plain).knows(field),
            enumerated=field in self.enumerations(plain),
        )

    def _mapped(self, rule: Rule, field: str) -> tuple[str, Mapping[str, Any]]:
        """A field's name here, and the state that the pipeline reaches on the rule."""
        plain = next(r for r in rule.sigma().rules if isinstance(r, SigmaRule))
        plain.fields = [field]
        processing = self.processing()
        processing.apply(plain)
        return str(plain.fields[0]) if plain.fields else field, processing.state

    def shown(self, rule: SigmaRule) -> str:
        """The file that maps the log source of this rule, as messages name it."""
        if not self.scopes:
            return f"pipelines/{self.path.name}"
        stated = rule.logsource
        pairs = {"category": stated.category, "product": stated.product, "service": stated.service}
        serving = (name for name, scope in self.scopes.items() if scope.serves(pairs))
        return f"pipelines/{next(serving, '*')}/{self.platform}.yml"

    def text(self) -> str:
        """The pipeline as a file, for ``sigma convert -p``."""
        return self._text

    @cached_property
    def _text(self) -> str:
        written = yaml.dump(
            self.document.data, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=110
        )
        return str(written)


def load_pipelines(
    root: Path,
    findings: list[Finding] | None = None,
    sources: Mapping[str, LogSource] | None = None,
    folder: Path | None = None,
) -> dict[str, Pipeline]:
    """The pipeline of each platform: what the log sources in ``folder`` (default: pipelines/ of ``root``) say
    of it, merged.

    ``sources``: those log sources, where somebody has them already; without any there is no pipeline.
    All that is wrong with any file is raised in one `PackError`; with ``findings`` it is reported there, and
    a platform with a faulty file is left out.
    """
    found: list[Finding] = []
    merged_pipelines: dict[str, Pipeline] = {}
    if sources is None:
        try:
            sources = load_log_sources(root, folder)
        except PackError as error:
            sources, found = {}, list(error.findings)
        if not sources and not found:
            what, todo = "holds no log source", "write pipelines/<source>/source.yml"
            found.append(
                Finding(str(folder or root / "pipelines"), 1, what, todo, pipeline_document.PIPELINE)
            )
    found += _misplaced(folder or root / "pipelines")
    platforms = {path.stem for source in sources.values() for path in pipeline_files(source.folder)}
    for platform in sorted({*PLATFORMS, *platforms} - {COMMON}) if sources else ():
        try:
            merged_pipelines[platform] = _merged(platform, sources)
        except PackError as error:
            found += error.findings
    found = list(dict.fromkeys(found))
    if found and findings is None:
        raise PackError(found)
    if findings is not None:
        findings += found
    return merged_pipelines


def pipeline_files(folder: Path) -> list[Path]:
    """The pySigma files of a log source's folder."""
    return sorted(path for path in folder.glob("*.yml") if path.name != SOURCE)


def _misplaced(folder: Path) -> list[Finding]:
    """A pipeline beside the folders would be left out without a word."""
    what, todo = "stands in the folder of no log source", "move it to pipelines/<source>/<platform>.yml"
    files = [*folder.glob("*.yml"), *(p for p in folder.glob("*/*.yml") if not (p.parent / SOURCE).is_file())]
    return [Finding(str(path), 1, what, todo, pipeline_document.PIPELINE) for path in sorted(files)]


def _merged(platform: str, sources: Mapping[str, LogSource]) -> Pipeline:
    """A platform's pipeline. Raises `PackError` with the faults of all its files."""
    findings: list[Finding] = []
    tables: Mapping[str, Mapping[str, str]] = {}
    try:
        tables = tables_of(sources.values(), platform)
    except PackError as error:
        findings += error.findings
    paths: dict[str, Path] = {}
    files: dict[str, list[SourceFile]] = {}
    for name, source in sorted(sources.items()):
        own = source.folder / f"{platform}.yml"
        if not own.is_file():
            continue
        paths[name] = own
        for path in (source.folder / f"{COMMON}.yml", own):
            if path.is_file():
                try:
                    files.setdefault(name, []).append(source_file(source, path, read_text(path)))
                except PackError as error:
                    findings += error.findings
    if not paths:
        folder = next(iter(sources.values())).folder.parent
        what, todo = f'no log source has a file for "{platform}"', f"write pipelines/<source>/{platform}.yml"
        findings.append(Finding(str(folder), 1, what, todo, pipeline_document.PIPELINE))
    if findings:
        raise PackError(findings)
    every = scopes(sources)
    data = merged(platform, sources, files)
    served = {name: every[name] for name in paths}
    path = next(iter(paths.values()))
    absent = tuple((every[n], one.absent[platform]) for n, one in sources.items() if platform in one.absent)
    alerts = tuple((every[name], sources[name].alert) for name in paths)
    return _of_data(Pipeline(platform, path, Document(path, data, {}), served, tables, absent, alerts))


_made: dict[str, Pipeline] = {}


def _of_data(new: Pipeline) -> Pipeline:
    """One object for one content: pySigma takes a tenth of a second to read a pipeline."""
    stated = (new.document.data, new.scopes, new.tables, new.absent, new.alerts)
    key = repr((new.platform, str(new.path), *stated))
    made = _made.get(key)
    if made is None:
        new.processing()
        if len(_made) > 32:
            _made.clear()
        made = _made[key] = new
    return made


def load_pipeline(platform: str, path: Path) -> Pipeline:
    """A pipeline file that stands alone. Raises `PackError` with every fault.

    The document is judged before pySigma reads it: reading a hostile one must not reach for anything.
    """
    return _pipeline(platform, path, read_text(path))


@lru_cache(maxsize=32)
def _pipeline(platform: str, path: Path, text: str) -> Pipeline:
    document = pipeline_document.only(path, text)
    if faults := pipeline_document.faults(document):
        raise PackError(faults)
    pipeline = Pipeline(platform, path, document)
    pipeline.processing()
    check_shapes(document)
    return pipeline

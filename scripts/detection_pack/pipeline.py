"""A platform's field and value mapping: plain pySigma, read from its YAML.

pySigma's objects are made here (`Pipeline.processing`) and used by the backends of the platforms; nothing
else sees them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from sigma.correlations import SigmaCorrelationRule
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule

from detection_pack import pipeline_document
from detection_pack.documents import Document, load_documents, read_text
from detection_pack.findings import Finding, PackError
from detection_pack.pipeline_shapes import check_shapes
from detection_pack.rule import Rule
from detection_pack.source_mapping import SourceMapping, source_mapping

PLATFORMS = ("sentinel", "splunk", "elastic")


@dataclass(frozen=True)
class FieldTraits:
    """What a pipeline knows of a canonical field: whether it maps it, whether it maps its values one by one,
    and whether a plain ``|contains`` on it finds whole terms."""

    known: bool
    enumerated: bool
    whole_term: bool


@dataclass(frozen=True)
class Pipeline:
    """A plain pySigma processing pipeline of one platform."""

    platform: str
    path: Path
    document: Document

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
            items = [item for item in self._parsed.items if self._log_source_matches(item, rule)]
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
        name, state = self._mapped(rule, field)
        return FieldTraits(
            known=field in self.known_fields(plain),
            enumerated=field in self.enumerations(plain),
            whole_term=name in state.get("whole_term_fields", ()),
        )

    def _mapped(self, rule: Rule, field: str) -> tuple[str, Mapping[str, Any]]:
        """A field's name here, and the state that the pipeline reaches on the rule."""
        plain = next(r for r in rule.sigma().rules if isinstance(r, SigmaRule))
        plain.fields = [field]
        processing = self.processing()
        processing.apply(plain)
        return str(plain.fields[0]) if plain.fields else field, processing.state

    @staticmethod
    def _log_source_matches(item: Any, rule: SigmaRule | SigmaCorrelationRule) -> bool:
        conditions = item.rule_conditions
        listed = conditions.values() if isinstance(conditions, dict) else conditions
        sources = [c for c in listed if type(c).__name__ == "LogsourceCondition"]
        return not sources or any(c.match(rule) for c in sources)


def load_pipelines(root: Path, folder: Path | None = None) -> dict[str, Pipeline]:
    """Every pipeline of ``folder`` (default: pipelines/ of ``root``): those of the platforms, and of what a
    platform serves besides.

    All that is wrong with any of them is raised in one `PackError`.
    """
    folder = folder or root / "pipelines"
    found: dict[str, Pipeline] = {}
    findings: list[Finding] = []
    for name in sorted({*PLATFORMS, *(path.stem for path in folder.glob("*.yml"))}):
        try:
            found[name] = load_pipeline(name, folder / f"{name}.yml")
        except PackError as error:
            findings += error.findings
    if findings:
        raise PackError(findings)
    return found


def load_pipeline(platform: str, path: Path) -> Pipeline:
    """The pipeline file of a platform. Raises `PackError` with every fault.

    The document is judged before pySigma reads it: reading a hostile one must not reach for anything.
    """
    return _pipeline(platform, path, read_text(path))


@lru_cache(maxsize=32)
def _pipeline(platform: str, path: Path, text: str) -> Pipeline:
    documents = load_documents(path, text)
    if len(documents) != 1:
        what, todo = "is not one pipeline", "write one YAML mapping with transformations"
        raise PackError.at(path, 1, what, todo, pipeline_document.PIPELINE)
    if faults := pipeline_document.faults(documents[0]):
        raise PackError(faults)
    pipeline = Pipeline(platform, path, documents[0])
    pipeline.processing()
    check_shapes(documents[0])
    return pipeline

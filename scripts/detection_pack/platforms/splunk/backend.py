"""Sigma to SPL: the stock Splunk backend with what it lacks or gets wrong.

Stock pySigma writes substrings for whole terms, ``*`` for Sigma's ``?`` and for a literal asterisk, case
sensitive and ungrouped field references, and loses events without a group field. Here every condition is a
`Predicate`: a search that finds at least the events and a where that decides. What SPL cannot say is
refused with `RefusedValue`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from sigma.backends.splunk.splunk import SplunkBackend
from sigma.conversion.state import ConversionState
from sigma.types import CompareOperators, SigmaRegularExpression, SigmaString, SpecialChars

from detection_pack.languages.spl.author_regex import author_regex
from detection_pack.languages.spl.spl_characters import TERM_END, TERM_START, literal
from detection_pack.languages.spl.spl_literals import (
    Alternative,
    alternative,
    eval_field,
    parts_of,
    search_field,
    search_text,
)
from detection_pack.model.list_table import ListTable, cell_of
from detection_pack.model.refused_value import RefusedValue
from detection_pack.model.windows import Overlapping
from detection_pack.platforms.aliases import COUNTED_BY_ALIAS, rule_key, several
from detection_pack.platforms.splunk.correlations import correlated
from detection_pack.platforms.splunk.predicates import (
    Predicate,
    TextMatch,
    asked_cell,
    atom,
    both,
    deciding,
    either,
    is_multivalue,
    lookups,
    matching,
    negation,
    search_terms,
    text_predicate,
)
from detection_pack.platforms.terms import file_name, whole_term


class PackSplunkBackend(SplunkBackend):
    """``prefix`` is that of the macros that a rule's user tunes: the name of the rule's file.

    ``shown`` says how many of a rule's fields, the first ones, belong to the alert view.
    """

    #: A number that never satisfies the comparison stands in for an absent or non-numeric value.
    compare_defaults: ClassVar[dict[CompareOperators, tuple[str, int]]] = {
        CompareOperators.LT: ("<", 0),
        CompareOperators.LTE: ("<=", 1),
        CompareOperators.GT: (">", 0),
        CompareOperators.GTE: (">=", -1),
    }

    #: Of the column of each alias the field by rule (`platforms.aliases`).
    aliases: Mapping[str, Mapping[str, str]] = {}

    def __init__(
        self,
        processing_pipeline: Any = None,
        prefix: str = "rule",
        shown: int = 0,
        windows: Overlapping | None = None,
        firsts_only: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(processing_pipeline, **options)
        self.prefix = prefix
        self.shown = shown
        self.windows = windows
        self.firsts_only = firsts_only
        self.scheduled = False
        self._conditions: dict[str, Predicate] = {}
        self.lists: Mapping[str, ListTable] = {}
        self.lists_asked: set[str] = set()

    # pySigma types these methods as giving text; here each gives a `Predicate`, hence Any.

    def _part(self, cond: Any, state: ConversionState) -> Predicate:
        converted: Any = self.convert_condition(cond, state)
        assert isinstance(converted, Predicate)
        return converted

    # --- boolean operators ---------------------------------------------------------------------------

    def convert_condition_or(self, cond: Any, state: ConversionState) -> Any:
        return either([self._part(arg, state) for arg in cond.args])

    def convert_condition_as_in_expression(self, cond: Any, state: ConversionState) -> Any:
        return self.convert_condition_or(cond, state)

    def convert_condition_and(self, cond: Any, state: ConversionState) -> Any:
        return both([self._part(arg, state) for arg in cond.args])

    def convert_condition_not(self, cond: Any, state: ConversionState) -> Any:
        return negation(self._part(cond.args[0], state))

    # --- a field against a value ---------------------------------------------------------------------

    def convert_condition_field_eq_val_str(self, cond: Any, state: ConversionState) -> Any:
        return self._text(cond.field, cond.value, state, cased=False)

    def convert_condition_field_eq_val_str_case_sensitive(self, cond: Any, state: ConversionState) -> Any:
        return self._text(cond.field, cond.value, state, cased=True)

    def _text(self, name: str, value: SigmaString, state: ConversionState, cased: bool) -> Predicate:
        if (cell := cell_of(value, self.lists)) is not None:
            self.lists_asked.add(cell.use)
            return asked_cell(cell, name, self._derived(name, state))
        parts = parts_of(value, name)
        derived = self._derived(name, state)
        if not parts or parts == ("",):
            # An empty value is an absent one, as on the platforms that keep none.
            return negation(self._present(name, state))
        if all(p == SpecialChars.WILDCARD_MULTI for p in parts):
            return self._present(name, state)
        file_field = self._listed("file_name_fields", state).get(name)
        if file_field and (file := file_name(value)):
            name, parts = str(file_field), (file,)
        found, exact = search_text(parts)
        # A cased value is a substring on every platform.
        term = None if cased else whole_term(value)
        if term is not None:
            one = Alternative(
                TERM_START if term.bounded_left else "",
                literal(term.text, cased),
                TERM_END if term.bounded_right else "",
            )
        else:
            one = alternative(parts, cased)
        exact = exact and term is None and not cased
        return text_predicate(TextMatch(name, (found,), (one,), exact, cased, derived))

    def convert_condition_field_eq_val_num(self, cond: Any, state: ConversionState) -> Any:
        number, name = cond.value.number, cond.field
        where = f"coalesce(tonumber({eval_field(name)}),{number + 1})={number}"
        if is_multivalue(name):
            where = f"isnotnull(mvfilter(tonumber({eval_field(name)})={number}))"
        return atom(name, f"{search_field(name)}={number}", where, True, self._derived(name, state))

    def convert_condition_field_eq_val_bool(self, cond: Any, state: ConversionState) -> Any:
        return self._text(cond.field, SigmaString(str(cond.value.boolean).lower()), state, cased=False)

    def convert_condition_field_compare_op_val(self, cond: Any, state: ConversionState) -> Any:
        name, number = cond.field, cond.value.number.number
        if cond.value.op == CompareOperators.NEQ:
            cond.value = cond.value.number
            return negation(self.convert_condition_field_eq_val_num(cond, state))
        operator, offset = self.compare_defaults[cond.value.op]
        where = f"coalesce(tonumber({eval_field(name)}),{number + offset}){operator}{number}"
        if is_multivalue(name):
            where = f"isnotnull(mvfilter(tonumber({eval_field(name)}){operator}{number}))"
        # search compares as text where the field holds no number, so where decides.
        found = f"{search_field(name)}{operator}{number}"
        return atom(name, found, where, False, self._derived(name, state))

    def convert_condition_field_eq_val_re(self, cond: Any, state: ConversionState) -> Any:
        where = matching(cond.field, author_regex(cond.value, cond.field))
        if not is_multivalue(cond.field) and _matches_nothing(cond.value):
            # Such a pattern finds the empty string, which an absent field is not.
            where = f"isnotnull({eval_field(cond.field)}) AND {where}"
            derived = frozenset({cond.field} if self._derived(cond.field, state) else ())
            return Predicate(None, where, False, derived=derived, compound=True)
        return atom(cond.field, None, where, False, self._derived(cond.field, state))

    def convert_condition_field_eq_val_cidr(self, cond: Any, state: ConversionState) -> Any:
        name, network = eval_field(cond.field), str(cond.value.network)
        where = f'cidrmatch("{network}", coalesce({name},""))'
        if is_multivalue(cond.field):
            where = f'isnotnull(mvfilter(cidrmatch("{network}", {name})))'
        return atom(cond.field, None, where, False, self._derived(cond.field, state))

    def convert_condition_field_exists(self, cond: Any, state: ConversionState) -> Any:
        return self._present(cond.field, state)

    def _present(self, name: str, state: ConversionState) -> Predicate:
        """The field has a value, and not an empty one."""
        if is_multivalue(name):
            # What != means for a field of several values is not documented; mvfilter says it.
            return atom(name, None, f'isnotnull(mvfilter({eval_field(name)}!=""))', False, False)
        where = f'coalesce({eval_field(name)},"")!=""'
        return atom(name, f'{search_field(name)}!=""', where, True, self._derived(name, state))

    def convert_condition_field_not_exists(self, cond: Any, state: ConversionState) -> Any:
        return negation(self.convert_condition_field_exists(cond, state))

    def convert_condition_field_eq_val_null(self, cond: Any, state: ConversionState) -> Any:
        return self.convert_condition_field_not_exists(cond, state)

    def convert_condition_field_eq_field(self, cond: Any, state: ConversionState) -> Any:
        """Both fields present and not empty, compared without regard to case.

        An absent field equals nothing, not even another absent one, so ``not a|fieldref: b`` is true then.
        """
        names = (cond.field, cond.value.field)
        if any(is_multivalue(n) for n in names):
            raise RefusedValue("SPL cannot compare fields that hold several values", cond.value.field)
        a, b = (f'lower(coalesce({eval_field(n)},""))' for n in names)
        if not (cond.value.starts_with or cond.value.ends_with):
            compared = f"{a}={b}"
        elif cond.value.starts_with and cond.value.ends_with:
            raise RefusedValue("SPL cannot search a field for the text of another", cond.value.field)
        elif cond.value.starts_with:
            compared = f"substr({a},1,len({b}))={b}"
        else:
            compared = f"len({a})>=len({b}) AND substr({a},-len({b}))={b}"
        where = f'coalesce({eval_field(names[1])},"")!="" AND {compared}'
        present = " ".join(f'{search_field(n)}!=""' for n in names if not self._derived(n, state))
        needed = frozenset(n for n in names if self._derived(n, state))
        return Predicate(present or None, where, False, derived=needed, compound=True)

    def convert_condition_field_eq_val_timestamp_part(self, cond: Any, state: ConversionState) -> Any:
        raise RefusedValue("a part of a time depends on the time zone of Splunk's user", cond.field)

    def convert_condition_field_eq_query_expr(self, cond: Any, state: ConversionState) -> Any:
        raise RefusedValue("a query expression is not checked by the pack", cond.field)

    # --- a value without a field ---------------------------------------------------------------------

    def convert_condition_val_str(self, cond: Any, state: ConversionState) -> Any:
        """A keyword: its text anywhere in the event, which `_raw` holds as its source wrote it.

        A character that JSON or XML escapes is not in `_raw` as such, so a keyword with one is refused.
        """
        parts = [p for p in parts_of(cond.value, "") if p != SpecialChars.WILDCARD_MULTI]
        text = parts[0] if len(parts) == 1 else None
        if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9 ._:/@=,;()-]*[A-Za-z0-9].*", text):
            raise RefusedValue("only a keyword of plain characters can be found in the raw event", str(text))
        if re.search(r"[^A-Za-z0-9 ._:/@=,;()-]", text):
            raise RefusedValue(
                "a keyword holds a character that the raw event may write in another way", text
            )
        runs = " ".join(f'"*{run}*"' for run in re.findall(r"[A-Za-z0-9]+", text))
        where = f'match(coalesce(_raw,""), "(?i){literal(text, cased=False)}")'
        return Predicate(runs, where, False, compound=True)

    def convert_condition_val_num(self, cond: Any, state: ConversionState) -> Any:
        cond.value = SigmaString(str(cond.value))
        return self.convert_condition_val_str(cond, state)

    def convert_condition_val_re(self, cond: Any, state: ConversionState) -> Any:
        raise RefusedValue("a regular expression needs a field", str(cond.value.regexp))

    # --- the query -----------------------------------------------------------------------------------

    def finish_query(self, rule: Any, query: Any, state: ConversionState) -> str:
        """The search of one rule, one command a line."""
        macro = state.processing_state.get("source_macro")
        if not isinstance(macro, str):
            raise RefusedValue("the pipeline names no source macro for this log source", "logsource")
        terms = search_terms(query)
        where, derived = deciding(query)
        lines = [f"`{macro}` earliest=`{self.prefix}_lookback` latest=now" + (f" {terms}" if terms else "")]
        expressions = self._listed("derived_fields", state)
        lines += [f"| eval {eval_field(n)}={expressions[n]}" for n in sorted(derived)]
        lines += lookups(query)
        if where:
            lines.append(f"| where {where}")
        text = "\n".join(lines)
        self._conditions[text] = query
        return text

    def finalize_query(self, rule: Any, query: Any, index: int, state: Any, output_format: str) -> Any:
        return query

    def convert_correlation_rule(
        self, rule: Any, output_format: Any = None, method: Any = None, callback: Any = None
    ) -> list[str]:
        bases = []
        named: dict[str, list[str]] = {}
        state: Mapping[str, Any] = {}
        shown: list[str] = []
        for reference in rule.rules or ():
            converted = reference.rule.get_conversion_result()
            if len(converted) != 1:
                raise RefusedValue("a rule with several conditions cannot be correlated", reference.reference)
            state = {**state, **reference.rule.get_conversion_states()[0].processing_state}
            bases.append((reference.reference, converted[0]))
            named[reference.reference] = self._alias_lines(reference.rule, converted[0])
            fields = list(reference.rule.fields[: self.shown])
            if len(bases) > 1 and fields != shown:
                raise RefusedValue("the correlated rules name the fields of the alert differently", "rules")
            shown = fields
        if not bases:
            raise RefusedValue("SPL has no exact form of an extended correlation condition", "correlation")
        if len(bases) > 1 and rule.type.name not in ("TEMPORAL", "TEMPORAL_ORDERED"):
            bases = self._counting_once(rule, bases)
        bases = [(name, "\n".join([text, *named[name]])) for name, text in bases]
        counted = (shown, self.windows, self.firsts_only, self.scheduled)
        return [correlated(rule, bases, state, self.prefix, *counted)]

    def _counting_once(self, rule: Any, bases: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """One search for several rules, so that an event that more than one of them matches counts once. Of
        rules that read other sources no event can be another's."""
        states = [reference.rule.get_conversion_states()[0] for reference in rule.rules]
        macros = [state.processing_state.get("source_macro") for state in states]
        if len(set(macros)) == len(macros):
            return bases
        if several(self.aliases):
            raise RefusedValue(COUNTED_BY_ALIAS, "aliases")
        derived = [self._listed("derived_fields", state) for state in states]
        if len(set(macros)) > 1 or any(one != derived[0] for one in derived):
            raise RefusedValue(
                "SPL would count an event that several of the rules match more than once", "rules"
            )
        conditions = either([self._conditions[text] for _, text in bases])
        return [(bases[0][0], self.finish_query(None, conditions, states[0]))]

    def _alias_lines(self, rule: Any, text: str) -> list[str]:
        """The commands that make the columns of the aliases of one rule's events."""
        state = rule.get_conversion_states()[0]
        fields = {name: by_rule[rule_key(rule)] for name, by_rule in self.aliases.items()}
        for name in fields.values():
            if is_multivalue(name):
                what = "a field that holds several values can be neither grouped nor counted"
                raise RefusedValue(what, name)
        expressions = self._listed("derived_fields", state)
        lines = [f"| eval {eval_field(n)}={expressions[n]}" for n in fields.values() if n in expressions]
        lines = [line for line in dict.fromkeys(lines) if line not in text.split("\n")]
        people = set(self._listed("identity_fields", state))
        folds = {name for name, by_rule in self.aliases.items() if people & set(by_rule.values())}
        texts = {name: eval_field(field) for name, field in fields.items()}
        made = [f"{name}={f'lower({text})' if name in folds else text}" for name, text in texts.items()]
        return [*lines, *([f"| eval {', '.join(made)}"] if made else [])]

    # --- the pipeline's state ------------------------------------------------------------------------

    @staticmethod
    def _listed(key: str, state: ConversionState) -> Mapping[str, str]:
        """A list or mapping of the pipeline's state, as a mapping."""
        stated = state.processing_state.get(key) or {}
        return stated if isinstance(stated, dict) else {str(name): "" for name in stated}

    def _derived(self, name: str, state: ConversionState) -> bool:
        return name in self._listed("derived_fields", state)


def _matches_nothing(value: SigmaRegularExpression) -> bool:
    flags = 0
    for flag in value.flags:
        flags |= value.sigma_to_python_flags[flag]
    return re.search(str(value.regexp), "", flags) is not None

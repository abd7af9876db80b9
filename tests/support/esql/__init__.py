"""An evaluator of ES|QL, row by row, written from Elastic's documentation alone.

It judges the product's own model, which translates ES|QL to SQL, and shares no code with it: a lexer and a
Pratt parser (`lexer`, `parser`), types and values of the mapping (`values`), expressions and functions
compiled to closures over a row (`expressions`, `functions`), aggregates (`aggregates`), commands (`commands`)
and Lucene's regular expressions matched by derivatives (`lucene_regex`).

In: the query's text and the indices, each with its mapping and its documents (flat, dotted names).
Out: `Result`. What the documentation leaves open, and every command, function or form that is not modelled,
is refused with its position (`Refused`); what Elasticsearch itself would refuse is `VerificationFailed`.

Pages are cited by their path below https://www.elastic.co/docs/reference/query-languages/esql/.
"""

from support.esql.commands import Result, evaluate
from support.esql.errors import Refused, VerificationFailed
from support.esql.values import Field, Index

__all__ = ["Field", "Index", "Refused", "Result", "VerificationFailed", "evaluate"]

// Judges KQL with @kusto/language-service-next, the parser and binder behind the Kusto and Sentinel
// query editors. A snapshot of a query shows that it did not change; this shows that every table, column,
// function and operand type in it exists.
//
// stdin:  {"tables":    {table: {column: type}},
//          "functions": {name: "(parameter: type, …) { body }"},   optional: saved functions, watchlists
//          "queries":   {name: text}}
// stdout: {name: {"diagnostics": [{"code", "severity", "message", "start", "length", "line"}],
//                 "columns": [{"name", "type"}]}}
// start and length count UTF-16 units from 0, line counts from 1. columns is empty where the last
// statement yields no table, so an empty text has no diagnostics and no columns: look at both.
// Bad input ends with one line on stderr and exit code 2.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The package is C# compiled to scripts that hang themselves on the global object: the runtime goes first.
const require = createRequire(import.meta.url);
require("@kusto/language-service-next/bridge.min.js");
require("@kusto/language-service-next/Kusto.Language.Bridge.min.js");
const { GlobalState, KustoCode, Symbols, Syntax } = globalThis.Kusto.Language;

// The scalar types of the language by the name a schema uses; anything else is a mistake in the schema.
// An unknown type must not become `dynamic` or `unknown`: the binder would then accept any comparison.
const TYPES = new Map(
  Object.entries({
    bool: "Bool",
    datetime: "DateTime",
    decimal: "Decimal",
    dynamic: "Dynamic",
    guid: "Guid",
    int: "Int",
    long: "Long",
    real: "Real",
    string: "String",
    timespan: "TimeSpan",
  }).map(([name, property]) => [name, Symbols.ScalarTypes[property]]),
);

/** The elements of a C# list as an array. */
function listed(list) {
  return Array.from({ length: list.Count }, (_, index) => list.getItem(index));
}

function tableSymbol(name, columns) {
  const symbols = Object.entries(columns).map(([column, type]) => {
    const symbol = TYPES.get(type);
    if (symbol === undefined) {
      throw new Error(`table "${name}", column "${column}": unknown type "${type}"`);
    }
    return new Symbols.ColumnSymbol(column, symbol, null, null, null, null);
  });
  return new Symbols.TableSymbol.$ctor4(name, symbols); // (name, columns)
}

function functionSymbol(name, source) {
  const body = source.indexOf("{");
  if (body < 0) {
    throw new Error(`function "${name}": write it as "(parameters) { body }"`);
  }
  // (name, parameter list, body, description)
  return new Symbols.FunctionSymbol.$ctor16(name, source.slice(0, body).trim(), source.slice(body).trim(), "");
}

/** Errors in a saved function do not show in the query that calls it: analyse each as a `let` of its own. */
function checkFunctions(functions, globals) {
  for (const [name, source] of Object.entries(functions)) {
    const [first] = listed(KustoCode.ParseAndAnalyze(`let ${name} = ${source};`, globals).GetDiagnostics());
    if (first !== undefined) {
      throw new Error(`function "${name}": ${first.Message}`);
    }
  }
}

/** A world that holds these tables and functions and nothing else, beside what the language itself has. */
function world(tables, functions) {
  const members = [
    ...Object.entries(tables).map(([name, columns]) => tableSymbol(name, columns)),
    ...Object.entries(functions).map(([name, source]) => functionSymbol(name, source)),
  ];
  // (name, members, is open): not open, so a name that is not among the members does not exist.
  const database = new Symbols.DatabaseSymbol.$ctor1("pack", members, false);
  const cluster = new Symbols.ClusterSymbol.ctor("pack", [database]);
  return GlobalState.Default.WithCluster(cluster).WithDatabase(database);
}

const NUMBERS = new Set(["int", "long", "real", "decimal"]);
const SCALARS = new Set(TYPES.keys());

/** What ==, != and the members of in, has_any and has_all compare, as pairs of expressions. */
function comparisons(root) {
  const { EqualExpression, NotEqualExpression } = Syntax.SyntaxKind;
  const pairs = [];
  Syntax.SyntaxElement.WalkNodes(root, (node) => {
    if (node.Kind === EqualExpression || node.Kind === NotEqualExpression) {
      pairs.push({ left: node.Left, right: node.Right, isMember: false });
    } else if (
      node instanceof Syntax.InExpression ||
      node instanceof Syntax.HasAnyExpression ||
      node instanceof Syntax.HasAllExpression
    ) {
      for (const member of listed(node.Right.Expressions)) {
        pairs.push({ left: node.Left, right: member.Element$1, isMember: true });
      }
    }
  });
  return pairs;
}

/** The name of the scalar type that an expression compares as; a table compares by its first column. */
function comparedType(expression) {
  const type = expression.ResultType;
  const scalar = type instanceof Symbols.TableSymbol ? listed(type.Columns)[0]?.Type : type;
  return scalar && SCALARS.has(scalar.Name) ? scalar.Name : null; // null: an error that is reported already
}

/** Null where two types compare as they are, else the reason why not. */
function mismatch(left, right, isMember) {
  if (left === null || right === null || (NUMBERS.has(left) && NUMBERS.has(right))) return null;
  // A dynamic member of a list may itself be a list, `has_any (names)`: only == needs to know what it holds.
  if (left === "dynamic" && right === "dynamic" && !isMember) {
    return "Cannot compare dynamic values without explicit cast.";
  }
  if (left === right || left === "dynamic" || right === "dynamic") return null;
  return `Cannot compare values of types ${left} and ${right}. Try adding explicit casts.`;
}

// The binder declares == and `in` for any scalar against any scalar, so `RecordType == 50` on a string column
// passes it and then fails on the service (SEM0064; two dynamics: SEM0001). The same rule is held here under
// a code of our own. It errs on the strict side: a cast in the query always satisfies it.
function comparisonErrors(root) {
  return comparisons(root).flatMap(({ left, right, isMember }) => {
    const Message = mismatch(comparedType(left), comparedType(right), isMember);
    if (Message === null) return [];
    const Start = left.TextStart;
    return [{ Code: "PACK001", Severity: "Error", Message, Start, Length: right.End - Start }];
  });
}

function judge(text, globals) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  const diagnostics = [...listed(code.GetDiagnostics()), ...comparisonErrors(code.Syntax)]
    .map((found) => ({
      code: found.Code,
      severity: found.Severity,
      message: found.Message,
      start: found.Start,
      length: found.Length,
      line: text.slice(0, found.Start).split("\n").length,
    }))
    .sort((a, b) => a.start - b.start || (a.code < b.code ? -1 : 1));
  const result = code.ResultType;
  const columns =
    result instanceof Symbols.TableSymbol
      ? listed(result.Columns).map((column) => ({ name: column.Name, type: column.Type.Name }))
      : [];
  return { diagnostics, columns };
}

try {
  const { tables, functions = {}, queries } = JSON.parse(readFileSync(0, "utf8"));
  const globals = world(tables, functions);
  checkFunctions(functions, globals);
  const verdicts = Object.entries(queries).map(([name, text]) => [name, judge(text, globals)]);
  process.stdout.write(JSON.stringify(Object.fromEntries(verdicts)));
} catch (error) {
  process.stderr.write(`kql judge: ${error.message}\n`);
  process.exitCode = 2;
}

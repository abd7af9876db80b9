-- What the Splunk models of log sources may use, and what they fill.
--
-- In: raw of one source, and in it the column _fields: the fields that KV_MODE=json shows of the record under their own
-- names, of those that the search reads. A nested object is dotted, an array is `Name{}`, a member that is JSON null is
-- no field: `$.Parameters[0].Name` is `Parameters{}.Name`.
--
-- Out: splunk_events BY NAME, one row a record: _id, _time (TIMESTAMP), sourcetype, and where they are not the default
-- "index" (main), source, tag (VARCHAR[]), _raw. Every other column is a search-time field of its name: VARCHAR where it
-- has one value at most, else VARCHAR[]. Two columns stand for many fields: _fields as it is, and _named_values, a JSON list
-- of objects whose Value is a field of its Name (the first that has one) where the record has no such field itself.
-- So this is a whole model: INSERT INTO splunk_events BY NAME SELECT _id, _time, 'x' AS sourcetype, _fields FROM raw;
-- A search finds no event without a _time.
--
-- A data set of an accelerated data model is a table of its name (with a dot in it): _id, _time, and its fields.

-- What a value of the record is as a field: an object or an array is none itself.
CREATE OR REPLACE MACRO own_text(json) AS CASE WHEN CAST(json AS VARCHAR)[1] NOT IN ('{', '[') THEN json ->> '$' END;
CREATE OR REPLACE MACRO own_texts(json) AS
  CASE WHEN CAST(json AS VARCHAR)[1] NOT IN ('{', '[') AND json ->> '$' IS NOT NULL THEN [json ->> '$'] ELSE CAST([] AS VARCHAR[]) END;

-- Several lists of named values as one, for _named_values; what is no list counts as an empty one.
CREATE OR REPLACE MACRO as_list(json) AS
  CASE WHEN CAST(json AS VARCHAR)[1] = '[' THEN CAST(json AS JSON[]) ELSE CAST([] AS JSON[]) END;
CREATE OR REPLACE MACRO both_lists(one, other) AS
  CASE WHEN other IS NULL THEN one WHEN one IS NULL THEN other
    ELSE to_json(list_concat(as_list(one), as_list(other))) END;
-- The same with objects and arrays as JSON, as spath has them.
CREATE OR REPLACE MACRO json_texts(json) AS
  CASE WHEN json ->> '$' IS NOT NULL THEN [json ->> '$'] ELSE CAST([] AS VARCHAR[]) END;

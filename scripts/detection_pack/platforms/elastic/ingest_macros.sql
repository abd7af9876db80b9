-- What the Elastic models of log sources may use, and what they fill.
--
-- In: raw of one source, and in it the column kept: the record's own keys, for what the integration leaves as it is.
--
-- Out: elastic_documents BY NAME, one row a record: _id, index_name, and a column for each field of the document that
-- the integration makes, by its dotted name: text, or JSON where it may hold a list. Null and the empty text are no
-- value. These columns stand for many fields:
--   kept          as it is: the record's keys with one value each, below kept_below under their own names,
--                 without those that not_kept (VARCHAR[]) names for this record
--   named_values  a JSON list of objects: each Value is a field of its Name below named_below, the last of a name
-- The model says kept_below and named_below as macros without parameters.
CREATE OR REPLACE MACRO kept_below() AS '';
CREATE OR REPLACE MACRO named_below() AS '';

-- A time as documents have it, in milliseconds.
CREATE OR REPLACE MACRO iso_time(moment) AS strftime(moment, '%Y-%m-%dT%H:%M:%S.%gZ');

-- A list of named values as the index keeps one that is not nested: all names, all values, and no name with its value.
CREATE OR REPLACE MACRO member_values(json, path) AS
  CASE WHEN CAST(json AS VARCHAR)[1] = '[' THEN
    to_json(list_filter(list_transform(CAST(json AS JSON[]), lambda one: one ->> path), lambda text: text <> '')) END;
CREATE OR REPLACE MACRO all_names(json) AS member_values(json, '$.Name');
CREATE OR REPLACE MACRO all_values(json) AS member_values(json, '$.Value');

-- An address without its brackets and its port: [address]:port, [address], a.b.c.d:port, or the address alone.
CREATE OR REPLACE MACRO without_port(text) AS regexp_replace(
    regexp_replace(text, '(^|[^0-9A-Fa-f:])::ffff:([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)', '\1\2'),
    '^(?:\[([^\]]*)\](?::[0-9]+)?|([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+):[0-9]+)$', '\1\2');

-- What the ingest models of every platform may use. Each runs with raw(_id, _time, _record, …), the records of one
-- log source: _id and _time (in UTC without an offset, null where it cannot be read), the whole record as JSON, and
-- as JSON too one column for each field that source.yml declares (of a nested one also its first part), null where a
-- record lacks it. A model that reads columns is quick; one that reads _record needs every record whole. And with
-- enums(enum, value, name), the source's enumerations, all text, and the macros name_of(enum, value), null where it has
-- no name, spelled(enum, value), then the value as it is, and number_of(enum, name).

-- A JSON value as text; the empty text where there is none.
CREATE OR REPLACE MACRO as_text(json) AS coalesce(json ->> '$', '');
-- What follows the last slash or backslash.
CREATE OR REPLACE MACRO last_part(path) AS regexp_extract(path, '[^\\/]*$');

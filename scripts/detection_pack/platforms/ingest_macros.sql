-- What the ingest models of every platform may use. Each runs with raw(id, time, record JSON), the records of
-- one log source, time in UTC without an offset and null where it cannot be read, and with
-- enums(enum, value, name), the source's enumerations, all text.

-- A top-level field as text; the empty text where there is none.
CREATE OR REPLACE TEMP MACRO field(record, name) AS coalesce(record ->> ('$."' || name || '"'), '');
-- The name of an enumeration's number; any other text as it is.
CREATE OR REPLACE TEMP MACRO spelled(kind, raw) AS
  coalesce((SELECT any_value(e.name) FROM enums e WHERE e.enum = kind AND e.value = raw), raw);
-- What follows the last slash or backslash.
CREATE OR REPLACE TEMP MACRO last_part(path) AS regexp_extract(path, '[^\\/]*$');

-- What the Splunk models of log sources may use, and what they fill.
--
-- In: raw(id, time, record) of one source. Out: splunk_events, one row a record: the search-time fields of the event,
-- each a list of values, and the tags that an event type gives it. A search finds no event without a _time.

CREATE TABLE IF NOT EXISTS splunk_events(id VARCHAR, _time DOUBLE, "index" VARCHAR DEFAULT 'main', sourcetype VARCHAR,
    tag VARCHAR[] DEFAULT [], _raw VARCHAR, fields MAP(VARCHAR, VARCHAR[]));

-- Every value of a record, as KV_MODE=json names it: a nested object is dotted, an array is `Name{}`, a member that is
-- JSON null is no field. `$.Parameters[0].Name` is `Parameters{}.Name`; a key with odd characters is quoted in the path.
CREATE OR REPLACE TEMP TABLE splunk_nodes AS
SELECT
    raw.id,
    node.id AS position,
    replace(regexp_replace(substr(node.fullkey, 3), '\[[0-9]+\]', '{}', 'g'), '"', '') AS name,
    node.atom ->> '$' AS value
FROM raw, json_tree(raw.record) AS node
WHERE node.type NOT IN ('OBJECT', 'ARRAY', 'NULL');

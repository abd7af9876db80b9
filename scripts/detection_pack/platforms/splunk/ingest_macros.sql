-- What the Splunk models of log sources may use, and what they fill.
--
-- In: raw(id, time, record) of one source. Out: splunk_events, one row a record: the search-time fields of the event,
-- each a list of values, and the tags that an event type gives it. A search finds no event without a _time.

CREATE TABLE IF NOT EXISTS splunk_events(id VARCHAR, _time DOUBLE, "index" VARCHAR DEFAULT 'main', sourcetype VARCHAR,
    tag VARCHAR[] DEFAULT [], _raw VARCHAR, fields MAP(VARCHAR, VARCHAR[]));

-- Every value of a record, as KV_MODE=json names it: a nested object is dotted, an array is `Name{}`, a member that is
-- JSON null is no field. `$.Parameters[0].Name` is `Parameters{}.Name`. `position` orders the values of a record.
-- Level by level, each part of a record taken once: json_tree copies the whole record for every value in it.
CREATE OR REPLACE TEMP TABLE splunk_nodes AS
WITH RECURSIVE levels AS (
    SELECT id, CAST([] AS BIGINT[]) AS position, '' AS name, CAST(record AS JSON) AS node FROM raw
    UNION ALL
    SELECT id, list_append(position, index), name || inner_name, inner_node
    FROM (
        SELECT id, position, name, generate_subscripts(members, 1) AS index,
            unnest(members).key AS inner_name, unnest(members).value AS inner_node
        FROM (
            SELECT id, position, name, CASE json_type(node)
                WHEN 'OBJECT' THEN list_transform(
                    map_entries(CAST(node AS MAP(VARCHAR, JSON))),
                    lambda member: {
                        'key': CASE WHEN name = '' THEN '' ELSE '.' END || member.key, 'value': member.value
                    })
                WHEN 'ARRAY' THEN list_transform(
                    CAST(node AS JSON[]), lambda member: {'key': '{}', 'value': member})
                END AS members
            FROM levels
            WHERE json_type(node) IN ('OBJECT', 'ARRAY')
        )
    )
)
SELECT id, position, name, node ->> '$' AS value
FROM levels
WHERE json_type(node) NOT IN ('OBJECT', 'ARRAY', 'NULL');

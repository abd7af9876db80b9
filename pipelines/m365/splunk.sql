-- The search-time fields that Splunk shows of an audit record.
--
-- Records keep their JSON names (Splunk Add-on for Microsoft Office 365; KV_MODE=json). The API sends the numbers of
-- RecordType, LogonType and UserType.

INSERT INTO splunk_events BY NAME
WITH
-- The add-on lifts every cmdlet parameter to a field of its name; a record's own field is not replaced.
parameters AS (
    SELECT
        id,
        [index] AS position,
        parameter ->> '$.Name' AS name,
        parameter ->> '$.Value' AS value
    FROM (
        SELECT id, unnest(listed) AS parameter, generate_subscripts(listed, 1) AS index
        FROM (
            SELECT id, CAST(record -> '$.Parameters' AS JSON[]) AS listed
            FROM raw
            WHERE json_type(record, '$.Parameters') = 'ARRAY'
        )
    )
),
lifted AS (
    SELECT id, min(position) AS position, name, arg_min(value, position) AS value
    FROM parameters p
    WHERE name IS NOT NULL AND value IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM splunk_nodes n WHERE n.id = p.id AND n.name = p.name)
    GROUP BY id, name
),
named AS (
    SELECT id, name, list(value ORDER BY position) AS members
    FROM (SELECT * FROM splunk_nodes UNION ALL SELECT * FROM lifted)
    GROUP BY id, name
),
shown AS (
    SELECT id, map(list(name ORDER BY name), list(members ORDER BY name)) AS fields FROM named GROUP BY id
)
SELECT raw.id, epoch(raw.time) AS _time, 'o365:management:activity' AS sourcetype, CAST(raw.record AS VARCHAR) AS _raw, fields
FROM raw JOIN shown ON shown.id = raw.id;

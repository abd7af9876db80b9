-- The search-time fields that Splunk shows of an audit record.
--
-- Records keep their JSON names (Splunk Add-on for Microsoft Office 365; KV_MODE=json). The API sends the numbers of
-- RecordType, LogonType and UserType.

INSERT INTO splunk_events BY NAME
WITH
-- The add-on lifts every cmdlet parameter to a field of its name; a record's own field is not replaced.
parameters AS (
    SELECT
        raw.id,
        1000000 + index AS position,
        record ->> ('$.Parameters[' || index || '].Name') AS name,
        record ->> ('$.Parameters[' || index || '].Value') AS value
    FROM raw, LATERAL (SELECT unnest(range(CAST(coalesce(json_array_length(record, '$.Parameters'), 0) AS BIGINT))) AS index)
    WHERE json_type(record, '$.Parameters') = 'ARRAY'
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

-- The search-time fields that Splunk shows of each raw record.
--
-- In:  raw(id, kind, record), one row a record, deduplicated; enums(enum, value, name).
-- Out: splunk_events(id, _time in seconds, sourcetype, tag, _raw, fields).
--
-- Office 365 records keep their JSON names (Splunk Add-on for Microsoft Office 365; KV_MODE=json): a nested
-- object is dotted, an array is `Name{}`, a member that is JSON null is no field. The raw API always sends
-- RecordType, LogonType and UserType as integers; events files may name them.
-- Process creations carry the CIM Endpoint.Processes names ("Endpoint" in the Common Information Model
-- manual): process is the command line, process_name the file name. user is modelled without its domain, as
-- Security 4688's user and the reference query's AccountName are; an add-on that aliases Sysmon's User to
-- user shows DOMAIN\user, which changes what an alert shows and what a rule on User finds, nothing else.

CREATE OR REPLACE TABLE splunk_nodes AS
SELECT
    raw.id,
    raw.kind,
    node.id AS position,
    -- `$.Parameters[0].Name` is `Parameters{}.Name`; a key with odd characters is quoted in the path.
    replace(regexp_replace(substr(node.fullkey, 3), '\[[0-9]+\]', '{}', 'g'), '"', '') AS name,
    node.atom ->> '$' AS value
FROM raw, json_tree(raw.record) AS node
WHERE node.type NOT IN ('OBJECT', 'ARRAY', 'NULL');

CREATE OR REPLACE TABLE splunk_m365 AS
WITH numbered AS (
    SELECT n.id, n.position, n.name, coalesce(CAST(e.value AS VARCHAR), n.value) AS value
    FROM splunk_nodes n
    LEFT JOIN enums e
      ON e.name = n.value
     AND e.enum = CASE n.name
            WHEN 'RecordType' THEN 'AuditLogRecordType'
            WHEN 'LogonType' THEN 'LogonType'
            WHEN 'InternalLogonType' THEN 'LogonType'
            WHEN 'UserType' THEN 'UserType' END
    WHERE n.kind = 'm365'
),
-- The add-on lifts every cmdlet parameter to a field of its name; a record's own field is not replaced.
parameters AS (
    SELECT
        raw.id,
        1000000 + index AS position,
        record ->> ('$.Parameters[' || index || '].Name') AS name,
        record ->> ('$.Parameters[' || index || '].Value') AS value
    FROM raw, LATERAL (SELECT unnest(range(CAST(coalesce(json_array_length(record, '$.Parameters'), 0) AS BIGINT))) AS index)
    WHERE kind = 'm365' AND json_type(record, '$.Parameters') = 'ARRAY'
),
lifted AS (
    SELECT id, min(position) AS position, name, arg_min(value, position) AS value
    FROM parameters p
    WHERE name IS NOT NULL AND value IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM numbered n WHERE n.id = p.id AND n.name = p.name)
    GROUP BY id, name
),
named AS (
    SELECT id, name, list(value ORDER BY position) AS members
    FROM (SELECT * FROM numbered UNION ALL SELECT * FROM lifted)
    GROUP BY id, name
)
SELECT id, map(list(name ORDER BY name), list(members ORDER BY name)) AS fields
FROM named
GROUP BY id;

CREATE OR REPLACE TABLE splunk_process AS
WITH named AS (
    SELECT
        id,
        CASE name
            WHEN 'CommandLine' THEN 'process'
            WHEN 'Image' THEN 'process_path'
            WHEN 'ParentCommandLine' THEN 'parent_process'
            WHEN 'ParentImage' THEN 'parent_process_path'
            WHEN 'CurrentDirectory' THEN 'process_current_directory'
            WHEN 'Hashes' THEN 'process_hash'
            WHEN 'IntegrityLevel' THEN 'process_integrity_level'
            WHEN 'OriginalFileName' THEN 'original_file_name'
            WHEN 'ParentProcessGuid' THEN 'parent_process_guid'
            WHEN 'ParentProcessId' THEN 'parent_process_id'
            WHEN 'ProcessGuid' THEN 'process_guid'
            WHEN 'ProcessId' THEN 'process_id'
            WHEN 'Computer' THEN 'dest'
            WHEN 'User' THEN 'user'
        END AS name,
        CASE WHEN name = 'User' THEN regexp_replace(value, '^.*\\', '') ELSE value END AS value
    FROM splunk_nodes
    WHERE kind = 'process'
),
-- The events' own names, which stand beside those that the add-ons give them.
security AS (
    SELECT DISTINCT id FROM splunk_nodes WHERE kind = 'process' AND name = 'EventID' AND value = '4688'
),
own_names AS (
    SELECT n.id,
        CASE WHEN s.id IS NULL THEN n.name ELSE CASE n.name
            WHEN 'Image' THEN 'NewProcessName'
            WHEN 'CommandLine' THEN 'Process_Command_Line'
            WHEN 'ParentImage' THEN 'ParentProcessName'
            WHEN 'User' THEN 'SubjectUserName'
            ELSE n.name END END AS name,
        CASE WHEN s.id IS NOT NULL AND n.name = 'User' THEN regexp_replace(n.value, '^.*\\', '')
            ELSE n.value END AS value
    FROM splunk_nodes n LEFT JOIN security s ON s.id = n.id
    WHERE n.kind = 'process'
        AND n.name IN ('Image', 'CommandLine', 'ParentImage', 'ParentCommandLine', 'User', 'Computer',
            'Company', 'Description', 'Product')
    UNION ALL
    -- Security 4688 has the two parts of the account apart (Splunk Add-on for Microsoft Windows, XML events).
    SELECT n.id, 'SubjectDomainName', regexp_extract(n.value, '^(.*)\\', 1)
    FROM splunk_nodes n JOIN security s ON s.id = n.id
    WHERE n.kind = 'process' AND n.name = 'User' AND contains(n.value, '\')
    UNION ALL
    SELECT raw.id, 'EventCode', CASE WHEN s.id IS NULL THEN '1' ELSE '4688' END
    FROM raw LEFT JOIN security s ON s.id = raw.id WHERE raw.kind = 'process'
    UNION ALL
    SELECT raw.id, 'source', CASE WHEN s.id IS NULL THEN 'XmlWinEventLog:Microsoft-Windows-Sysmon/Operational'
        ELSE 'XmlWinEventLog:Security' END
    FROM raw LEFT JOIN security s ON s.id = raw.id WHERE raw.kind = 'process'
),
file_names AS (
    SELECT id, CASE name WHEN 'process_path' THEN 'process_name' ELSE 'parent_process_name' END AS name,
           regexp_replace(value, '(?s)^.*[\\/]', '') AS value
    FROM named
    WHERE name IN ('process_path', 'parent_process_path')
),
listed AS (
    SELECT id, name, list(value) AS members
    FROM (
        SELECT * FROM named WHERE name IS NOT NULL
        UNION ALL SELECT * FROM file_names
        UNION ALL SELECT * FROM own_names
    )
    GROUP BY id, name
)
SELECT id, map(list(name ORDER BY name), list(members ORDER BY name)) AS fields
FROM listed
GROUP BY id;

-- Times without an offset are in the session's zone, UTC (a cast to TIMESTAMP would ignore an offset). A record without a readable time has none here, and no search finds it.
CREATE OR REPLACE TABLE splunk_events AS
SELECT
    raw.id,
    epoch(TRY_CAST(raw.record ->> (CASE raw.kind WHEN 'm365' THEN '$.CreationTime' ELSE '$.UtcTime' END)
        AS TIMESTAMPTZ)) AS _time,
    CASE raw.kind WHEN 'm365' THEN 'o365:management:activity' ELSE 'XmlWinEventLog' END AS sourcetype,
    CASE raw.kind WHEN 'm365' THEN CAST([] AS VARCHAR[]) ELSE ['process', 'report'] END AS tag,
    CAST(raw.record AS VARCHAR) AS _raw,
    coalesce(m.fields, p.fields) AS fields
FROM raw
LEFT JOIN splunk_m365 m ON m.id = raw.id
LEFT JOIN splunk_process p ON p.id = raw.id;

-- The data set Endpoint.Processes of the Common Information Model (Splunk_SA_CIM, Endpoint.json): events with
-- the tags process and report, each field under the name of the data set. The model calculates some fields,
-- which are "unknown" where the event has none; a missing process name it takes from the command line.
-- An empty value is not in the summary of an accelerated model, so it is null here.
CREATE OR REPLACE TABLE splunk_endpoint_processes AS
WITH values_of AS (
    SELECT e.id, e._time, entry.key AS name, list_filter(entry.value, lambda v: v <> '') AS members
    FROM splunk_events e, LATERAL (SELECT unnest(map_entries(e.fields)) AS entry)
    WHERE list_contains(e.tag, 'process') AND list_contains(e.tag, 'report')
),
calculated AS (
    SELECT e.id, e._time, field.name,
        CASE
            WHEN field.command_line IS NULL THEN 'unknown'
            WHEN regexp_matches(e.fields[field.command_line][1], '^\s*(?:".[^\n]*\\([^"]+)")')
                THEN regexp_extract(e.fields[field.command_line][1], '^\s*(?:".[^\n]*\\([^"]+)")', 1)
            WHEN regexp_matches(e.fields[field.command_line][1], '^(?:.[^\n]*\\)?([^\s"]+)(?:\s|$)')
                THEN regexp_extract(e.fields[field.command_line][1], '^(?:.[^\n]*\\)?([^\s"]+)(?:\s|$)', 1)
            ELSE 'unknown'
        END AS value
    FROM splunk_events e,
        (VALUES ('dest', NULL), ('user', NULL), ('process', NULL), ('parent_process', NULL),
                ('original_file_name', NULL), ('process_name', 'process'),
                ('parent_process_name', 'parent_process')) AS field(name, command_line)
    WHERE list_contains(e.tag, 'process') AND list_contains(e.tag, 'report')
),
filled AS (
    SELECT id, _time, name, members FROM values_of WHERE len(members) > 0
    UNION ALL
    SELECT c.id, c._time, c.name, [c.value]
    FROM calculated c
    LEFT JOIN values_of v ON v.id = c.id AND v.name = c.name AND len(v.members) > 0
    WHERE v.id IS NULL
)
SELECT id, any_value(_time) AS _time,
    map(list('Processes.' || name ORDER BY name), list(members ORDER BY name)) AS fields
FROM filled
GROUP BY id;

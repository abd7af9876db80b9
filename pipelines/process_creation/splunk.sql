-- The search-time fields that Splunk shows of a process creation.
--
-- Process creations carry the CIM Endpoint.Processes names ("Endpoint" in the Common Information Model
-- manual): process is the command line, process_name the file name. user is modelled without its domain, as
-- Security 4688's user and the reference query's AccountName are; an add-on that aliases Sysmon's User to
-- user shows DOMAIN\user, which changes what an alert shows and what a rule on User finds, nothing else.

INSERT INTO splunk_events BY NAME
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
),
-- The events' own names, which stand beside those that the add-ons give them.
security AS (
    SELECT DISTINCT id FROM splunk_nodes WHERE name = 'EventID' AND value = '4688'
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
    WHERE n.name IN ('Image', 'CommandLine', 'ParentImage', 'ParentCommandLine', 'User', 'Computer',
            'Company', 'Description', 'Product')
    UNION ALL
    -- Security 4688 has the two parts of the account apart (Splunk Add-on for Microsoft Windows, XML events).
    SELECT n.id, 'SubjectDomainName', regexp_extract(n.value, '^(.*)\\', 1)
    FROM splunk_nodes n JOIN security s ON s.id = n.id
    WHERE n.name = 'User' AND contains(n.value, '\')
    UNION ALL
    SELECT raw.id, 'EventCode', CASE WHEN s.id IS NULL THEN '1' ELSE '4688' END
    FROM raw LEFT JOIN security s ON s.id = raw.id
    UNION ALL
    SELECT raw.id, 'source', CASE WHEN s.id IS NULL THEN 'XmlWinEventLog:Microsoft-Windows-Sysmon/Operational'
        ELSE 'XmlWinEventLog:Security' END
    FROM raw LEFT JOIN security s ON s.id = raw.id
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
),
shown AS (
    SELECT id, map(list(name ORDER BY name), list(members ORDER BY name)) AS fields FROM listed GROUP BY id
)
SELECT raw.id, epoch(raw.time) AS _time, 'XmlWinEventLog' AS sourcetype, ['process', 'report'] AS tag,
    CAST(raw.record AS VARCHAR) AS _raw, fields
FROM raw JOIN shown ON shown.id = raw.id;

-- The data set Endpoint.Processes of the Common Information Model (Splunk_SA_CIM, Endpoint.json): events with
-- the tags process and report, each field under the name of the data set. The model calculates some fields,
-- which are "unknown" where the event has none; a missing process name it takes from the command line.
-- An empty value is not in the summary of an accelerated model, so it is null here.
CREATE TABLE IF NOT EXISTS "Endpoint.Processes"(id VARCHAR, _time DOUBLE, fields MAP(VARCHAR, VARCHAR[]));
INSERT INTO "Endpoint.Processes" BY NAME
WITH values_of AS (
    SELECT e.id, e._time, entry.key AS name, list_filter(entry.value, lambda v: v <> '') AS members
    FROM splunk_events e, LATERAL (SELECT unnest(map_entries(e.fields)) AS entry)
    WHERE e.id IN (SELECT id FROM raw)
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
    WHERE e.id IN (SELECT id FROM raw)
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

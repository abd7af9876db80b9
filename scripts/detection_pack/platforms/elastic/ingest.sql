-- What Elastic holds of a raw record: the o365 integration's ingest pipeline, and the process fields that
-- Elastic Defend, Winlogbeat and the Windows packages share. Source: elastic/integrations,
-- packages/o365/data_stream/audit/elasticsearch/ingest_pipeline/default.yml.
--
-- In:  raw(id, kind, record), event_codes(value, code), enums(enum, value, name)
-- Out: elastic_documents(id, index_name, document), the document with flat dotted names
--
-- On ExchangeItem the pipeline moves MailboxOwnerUPN to user.email and, further down, writes UserId over it
-- whenever UserId is one address. Records in which the owner is still there are known too, so both shapes are
-- modelled: the variable keeps_item_owner says which. The pack's queries must give one answer on both.

CREATE OR REPLACE TEMP MACRO utc_text(text) AS strftime(
    TRY_CAST(regexp_replace(replace(text, ' ', 'T'), '(\.\d{6})\d*|Z$', '\1', 'g') AS TIMESTAMP),
    '%Y-%m-%dT%H:%M:%S.%gZ');
CREATE OR REPLACE TEMP MACRO is_address(text) AS len(string_split(text, '@')) = 2;
-- The pipeline's grok: [address]:port, [address], a.b.c.d:port, or the address alone.
CREATE OR REPLACE TEMP MACRO without_port(text) AS regexp_replace(
    regexp_replace(text, '::ffff:([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)', '\1'),
    '^(?:\[([^\]]*)\](?::[0-9]+)?|([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+):[0-9]+)$', '\1\2');
-- One digest of Sysmon's Hashes, `SHA1=…,MD5=…`, in lower case (packages/windows, sysmon_operational).
CREATE OR REPLACE TEMP MACRO digest(record, kind) AS
    lower(regexp_extract(record ->> '$.Hashes', '(?i)(?:^|,)' || kind || '=([0-9a-f]+)', 1));
CREATE OR REPLACE TEMP MACRO file_of(path) AS regexp_extract(path, '[^\\/]*$');

CREATE OR REPLACE TEMP TABLE audit AS
WITH parsed AS (
    SELECT id, record::JSON AS record, record::JSON ->> '$.RecordType' AS stated FROM raw WHERE kind = 'm365'
)
SELECT
    parsed.*,
    -- The API sends the number; an events file may hold its digits or its symbolic name.
    COALESCE(code.value, enum.value, stated) AS record_type
FROM parsed
LEFT JOIN event_codes AS code ON code.code = stated
LEFT JOIN enums AS enum ON enum.enum = 'AuditLogRecordType' AND enum.name = stated AND code.value IS NULL;

CREATE OR REPLACE TEMP TABLE audit_common AS
SELECT
    audit.id,
    json_object(
        '@timestamp', utc_text(record ->> '$.CreationTime'),
        'event.id', record ->> '$.Id',
        'event.action', record ->> '$.Operation',
        'event.provider', record ->> '$.Workload',
        'event.code', code.code,
        'event.dataset', 'o365.audit',
        'organization.id', lower(record ->> '$.OrganizationId'),
        'user_agent.original', record ->> '$.UserAgent',
        'source.ip', without_port(COALESCE(
            record ->> '$.ClientIPAddress', record ->> '$.ClientIP', record ->> '$.ActorIpAddress')),
        'client.ip', without_port(COALESCE(
            record ->> '$.ClientIPAddress', record ->> '$.ClientIP', record ->> '$.ActorIpAddress')),
        'user.id', CASE WHEN code.code = 'ExchangeItem'
            THEN COALESCE(record ->> '$.UserId', record ->> '$.LogonUserSid') ELSE record ->> '$.UserId' END,
        'user.name', CASE WHEN is_address(record ->> '$.UserId')
            THEN string_split(record ->> '$.UserId', '@')[1] END,
        'user.domain', CASE WHEN is_address(record ->> '$.UserId')
            THEN string_split(record ->> '$.UserId', '@')[2] END,
        'user.email', CASE WHEN getvariable('keeps_item_owner') OR NOT is_address(record ->> '$.UserId')
            THEN COALESCE(
                CASE WHEN code.code = 'ExchangeItem' THEN record ->> '$.MailboxOwnerUPN' END,
                CASE WHEN is_address(record ->> '$.UserId') THEN record ->> '$.UserId' END)
            ELSE COALESCE(
                CASE WHEN is_address(record ->> '$.UserId') THEN record ->> '$.UserId' END,
                CASE WHEN code.code = 'ExchangeItem' THEN record ->> '$.MailboxOwnerUPN' END) END,
        'process.name', CASE WHEN code.code = 'ExchangeItem' THEN record ->> '$.ClientProcessName' END,
        'o365.audit.RecordType', record_type,
        'o365.audit.Parameters._raw', CASE WHEN json_type(record -> '$.Parameters') = 'VARCHAR'
            THEN record ->> '$.Parameters' END
    ) AS document
FROM audit LEFT JOIN event_codes AS code ON code.value = record_type;

-- Everything else stays below o365.audit under its own name; a field that is renamed is gone there.
CREATE OR REPLACE TEMP TABLE audit_kept AS
WITH valued AS (
    -- By json_each: a name with a quote or a backslash in it cannot stand in a JSON path.
    SELECT audit.id, record, record_type, entry.key AS name, entry.value AS value
    FROM audit, json_each(record) AS entry WHERE NOT contains(entry.key, '"')
)
SELECT id, json_group_object('o365.audit.' || name, value ->> '$') AS document
FROM valued
WHERE json_type(value) NOT IN ('NULL', 'ARRAY', 'OBJECT')
    AND name NOT IN ('ClientIPAddress', 'Id', 'Operation', 'OrganizationId', 'Parameters', 'RecordType',
                     'UserAgent', 'Workload')
    -- Of the addresses only the first that is there is moved away.
    AND NOT (name = 'ClientIP' AND record ->> '$.ClientIPAddress' IS NULL)
    AND NOT (name = 'ActorIpAddress' AND record ->> '$.ClientIPAddress' IS NULL
             AND record ->> '$.ClientIP' IS NULL)
    AND NOT (record_type = '2' AND name IN (
        'ClientProcessName', 'LogonUserDisplayName', 'MailboxOwnerUPN', 'OrganizationName', 'OriginatingServer'))
    AND NOT (record_type = '1' AND name IN ('OrganizationName', 'OriginatingServer'))
GROUP BY id;

CREATE OR REPLACE TEMP TABLE audit_parameters AS
WITH listed AS (
    SELECT id, unnest(CAST(record -> '$.Parameters' AS JSON[])) AS parameter
    FROM audit WHERE json_type(record -> '$.Parameters') = 'ARRAY'
), named AS (
    SELECT id, parameter ->> '$.Name' AS name, last(parameter ->> '$.Value') AS value
    FROM listed WHERE parameter ->> '$.Name' IS NOT NULL AND parameter ->> '$.Value' IS NOT NULL
    GROUP BY ALL
)
SELECT id, json_group_object('o365.audit.Parameters.' || name, value) AS document FROM named GROUP BY id;

CREATE OR REPLACE TEMP TABLE processes AS
SELECT
    id,
    json_object(
        '@timestamp', utc_text(record ->> '$.UtcTime'),
        'event.category', 'process',
        'event.type', COALESCE(record -> '$.EventType', '"start"'::JSON),
        'process.executable', record ->> '$.Image',
        'process.name', file_of(record ->> '$.Image'),
        'process.command_line', record ->> '$.CommandLine',
        'process.pid', record ->> '$.ProcessId',
        'process.working_directory', record ->> '$.CurrentDirectory',
        'process.hash.md5', digest(record, 'MD5'),
        'process.hash.sha1', digest(record, 'SHA1'),
        'process.hash.sha256', digest(record, 'SHA256'),
        'process.pe.imphash', digest(record, 'IMPHASH'),
        -- Elastic Defend writes the level in lower case; Sysmon 1 and Security 4688 keep their own field.
        'process.Ext.token.integrity_level_name', CASE WHEN record ->> '$.EventID' IS NULL
            THEN lower(record ->> '$.IntegrityLevel') END,
        'winlog.event_data.IntegrityLevel', CASE WHEN record ->> '$.EventID' = '1'
            THEN record ->> '$.IntegrityLevel' END,
        'winlog.event_data.MandatoryLabel', CASE WHEN record ->> '$.EventID' = '4688'
            THEN record ->> '$.IntegrityLevel' END,
        'process.pe.original_file_name', record ->> '$.OriginalFileName',
        'process.pe.product', record ->> '$.Product',
        'process.pe.company', record ->> '$.Company',
        'process.pe.description', record ->> '$.Description',
        'process.parent.executable', record ->> '$.ParentImage',
        'process.parent.name', file_of(record ->> '$.ParentImage'),
        'process.parent.command_line', record ->> '$.ParentCommandLine',
        'process.parent.pid', record ->> '$.ParentProcessId',
        'user.name', regexp_extract(record ->> '$.User', '[^\\]*$'),
        'user.domain', regexp_extract(record ->> '$.User', '^([^\\]*)\\', 1),
        'host.name', record ->> '$.Computer'
    ) AS document
FROM (SELECT id, record::JSON AS record FROM raw WHERE kind = 'process');

-- Empty and null values are dropped.
CREATE OR REPLACE TABLE elastic_documents AS
WITH pieces AS (
    SELECT id, 'logs-o365.audit-default' AS index_name, document FROM audit_common
    UNION ALL SELECT id, 'logs-o365.audit-default', document FROM audit_kept
    UNION ALL SELECT id, 'logs-o365.audit-default', document FROM audit_parameters
    UNION ALL SELECT id, 'logs-endpoint.events.process-default', document FROM processes
), filled AS (
    -- A list stays a list: a process that is over soon is one event of the types start and end.
    SELECT pieces.id, index_name, entry.key AS name, entry.value ->> '$' AS value,
        CASE WHEN json_type(entry.value) = 'ARRAY' THEN entry.value ELSE to_json(value) END AS held
    FROM pieces, json_each(document) AS entry
)
SELECT id, index_name, json_group_object(name, held) AS document
FROM filled WHERE value IS NOT NULL AND value <> '' AND NOT contains(name, '"') GROUP BY id, index_name;

-- What Elastic holds of an audit record: the o365 integration's ingest pipeline. Source: elastic/integrations,
-- packages/o365/data_stream/audit/elasticsearch/ingest_pipeline/default.yml.
--
-- On ExchangeItem the pipeline moves MailboxOwnerUPN to user.email and, further down, writes UserId over it
-- whenever UserId is one address. Records in which the owner is still there are known too, so both shapes are
-- modelled: the variable keeps_item_owner says which. The pack's queries must give one answer on both.

CREATE OR REPLACE TEMP MACRO is_address(text) AS len(string_split(text, '@')) = 2;
-- The pipeline's grok: [address]:port, [address], a.b.c.d:port, or the address alone.
CREATE OR REPLACE TEMP MACRO without_port(text) AS regexp_replace(
    regexp_replace(text, '(^|[^0-9A-Fa-f:])::ffff:([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)', '\1\2'),
    '^(?:\[([^\]]*)\](?::[0-9]+)?|([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+):[0-9]+)$', '\1\2');

CREATE OR REPLACE TEMP TABLE audit AS
SELECT raw.id, raw.time, raw.record,
    -- An events file may hold the integration's own name of a type.
    COALESCE(code.value, raw.record ->> '$.RecordType') AS record_type
FROM raw
LEFT JOIN enums AS code ON code.enum = 'IntegrationRecordType' AND code.name = raw.record ->> '$.RecordType';

INSERT INTO elastic_pieces BY NAME
SELECT
    audit.id,
    'logs-o365.audit-default' AS index_name,
    json_object(
        '@timestamp', iso_time(time),
        'event.id', record ->> '$.Id',
        'event.action', record ->> '$.Operation',
        'event.provider', record ->> '$.Workload',
        'event.code', code.name,
        'event.dataset', 'o365.audit',
        'organization.id', lower(record ->> '$.OrganizationId'),
        'user_agent.original', record ->> '$.UserAgent',
        'source.ip', without_port(COALESCE(
            record ->> '$.ClientIPAddress', record ->> '$.ClientIP', record ->> '$.ActorIpAddress')),
        'client.ip', without_port(COALESCE(
            record ->> '$.ClientIPAddress', record ->> '$.ClientIP', record ->> '$.ActorIpAddress')),
        'user.id', CASE WHEN code.name = 'ExchangeItem'
            THEN COALESCE(record ->> '$.UserId', record ->> '$.LogonUserSid') ELSE record ->> '$.UserId' END,
        'user.name', CASE WHEN is_address(record ->> '$.UserId')
            THEN string_split(record ->> '$.UserId', '@')[1] END,
        'user.domain', CASE WHEN is_address(record ->> '$.UserId')
            THEN string_split(record ->> '$.UserId', '@')[2] END,
        'user.email', CASE WHEN coalesce(getvariable('keeps_item_owner'), true) OR NOT is_address(record ->> '$.UserId')
            THEN COALESCE(
                CASE WHEN code.name = 'ExchangeItem' THEN record ->> '$.MailboxOwnerUPN' END,
                CASE WHEN is_address(record ->> '$.UserId') THEN record ->> '$.UserId' END)
            ELSE COALESCE(
                CASE WHEN is_address(record ->> '$.UserId') THEN record ->> '$.UserId' END,
                CASE WHEN code.name = 'ExchangeItem' THEN record ->> '$.MailboxOwnerUPN' END) END,
        'process.name', CASE WHEN code.name = 'ExchangeItem' THEN record ->> '$.ClientProcessName' END,
        'o365.audit.RecordType', record_type,
        'o365.audit.Parameters._raw', CASE WHEN json_type(record -> '$.Parameters') = 'VARCHAR'
            THEN record ->> '$.Parameters' END
    ) AS document
FROM audit LEFT JOIN enums AS code ON code.enum = 'IntegrationRecordType' AND code.value = record_type;

-- Everything else stays below o365.audit under its own name; a field that is renamed is gone there.
INSERT INTO elastic_pieces BY NAME
WITH valued AS (
    -- By json_each: a name with a quote or a backslash in it cannot stand in a JSON path.
    SELECT audit.id, record, record_type, entry.key AS name, entry.value AS value
    FROM audit, json_each(record) AS entry WHERE NOT contains(entry.key, '"')
)
SELECT id, 'logs-o365.audit-default' AS index_name, json_group_object('o365.audit.' || name, value ->> '$') AS document
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

INSERT INTO elastic_pieces BY NAME
WITH listed AS (
    SELECT id, unnest(CAST(record -> '$.Parameters' AS JSON[])) AS parameter
    FROM audit WHERE json_type(record -> '$.Parameters') = 'ARRAY'
), named AS (
    SELECT id, parameter ->> '$.Name' AS name, last(parameter ->> '$.Value') AS value
    FROM listed WHERE parameter ->> '$.Name' IS NOT NULL AND parameter ->> '$.Value' IS NOT NULL
    GROUP BY ALL
)
SELECT id, 'logs-o365.audit-default' AS index_name, json_group_object('o365.audit.Parameters.' || name, value) AS document FROM named GROUP BY id;

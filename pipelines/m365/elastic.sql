-- What Elastic holds of an audit record: the o365 integration's ingest pipeline. Source: elastic/integrations,
-- packages/o365/data_stream/audit/elasticsearch/ingest_pipeline/default.yml.
--
-- On ExchangeItem the pipeline moves MailboxOwnerUPN to user.email and, further down, writes UserId over it
-- whenever UserId is one address. Records in which the owner is still there are known too, so both shapes are
-- modelled: the variable keeps_item_owner says which. The pack's queries must give one answer on both.

CREATE OR REPLACE MACRO is_address(text) AS len(string_split(text, '@')) = 2;
CREATE OR REPLACE MACRO kept_below() AS 'o365.audit';
CREATE OR REPLACE MACRO named_below() AS 'o365.audit.Parameters';
INSERT INTO elastic_documents BY NAME
WITH told AS (
    -- An events file may hold the integration's own name of a type.
    SELECT *, COALESCE(number_of('IntegrationRecordType', "RecordType" ->> '$'), "RecordType" ->> '$') AS type_number,
        "UserId" ->> '$' AS account, "MailboxOwnerUPN" ->> '$' AS owner,
        without_port(COALESCE("ClientIPAddress" ->> '$', "ClientIP" ->> '$', "ActorIpAddress" ->> '$')) AS address
    FROM raw
), audit AS (
    SELECT *, name_of('IntegrationRecordType', type_number) AS type_name,
        CASE WHEN is_address(account) THEN account END AS account_address
    FROM told
)
SELECT
    _id, 'logs-o365.audit-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    "Id" ->> '$' AS "event.id",
    "Operation" ->> '$' AS "event.action",
    "Workload" ->> '$' AS "event.provider",
    type_name AS "event.code",
    'o365.audit' AS "event.dataset",
    lower("OrganizationId" ->> '$') AS "organization.id",
    "UserAgent" ->> '$' AS "user_agent.original",
    address AS "source.ip",
    address AS "client.ip",
    CASE WHEN type_name = 'ExchangeItem' THEN COALESCE(account, "LogonUserSid" ->> '$') ELSE account END AS "user.id",
    string_split(account_address, '@')[1] AS "user.name",
    string_split(account_address, '@')[2] AS "user.domain",
    CASE WHEN coalesce(getvariable('keeps_item_owner'), true) OR account_address IS NULL
        THEN COALESCE(CASE WHEN type_name = 'ExchangeItem' THEN owner END, account_address)
        ELSE COALESCE(account_address, CASE WHEN type_name = 'ExchangeItem' THEN owner END) END AS "user.email",
    CASE WHEN type_name = 'ExchangeItem' THEN "ClientProcessName" ->> '$' END AS "process.name",
    type_number AS "o365.audit.RecordType",
    "Item" ->> '$.ParentFolder.MemberRights' AS "o365.audit.Item.ParentFolder.MemberRights",
    "Item" ->> '$.ParentFolder.MemberSid' AS "o365.audit.Item.ParentFolder.MemberSid",
    "Item" ->> '$.ParentFolder.MemberUpn' AS "o365.audit.Item.ParentFolder.MemberUpn",
    "Item" ->> '$.ParentFolder.Name' AS "o365.audit.Item.ParentFolder.Name",
    "Item" ->> '$.ParentFolder.Path' AS "o365.audit.Item.ParentFolder.Path",
    CASE WHEN json_type("Parameters") = 'VARCHAR' THEN "Parameters" ->> '$' END AS "o365.audit.Parameters._raw",
    all_names("OperationProperties") AS "o365.audit.OperationProperties.Name",
    all_values("OperationProperties") AS "o365.audit.OperationProperties.Value",
    -- Everything else stays below o365.audit under its own name; a field that is renamed is gone there.
    kept,
    list_concat(
        ['ClientIPAddress', 'Id', 'Operation', 'OrganizationId', 'Parameters', 'RecordType', 'UserAgent', 'Workload'],
        -- Of the addresses only the first that is there is moved away.
        CASE WHEN "ClientIPAddress" ->> '$' IS NOT NULL THEN CAST([] AS VARCHAR[])
            WHEN "ClientIP" ->> '$' IS NULL THEN ['ClientIP', 'ActorIpAddress'] ELSE ['ClientIP'] END,
        CASE type_number
            WHEN '1' THEN ['OrganizationName', 'OriginatingServer']
            WHEN '2' THEN ['ClientProcessName', 'LogonUserDisplayName', 'MailboxOwnerUPN', 'OrganizationName',
                'OriginatingServer']
            ELSE CAST([] AS VARCHAR[]) END
    ) AS not_kept,
    "Parameters" AS named_values
FROM audit;

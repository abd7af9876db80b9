-- What Elastic holds of a compliance record: the o365 integration's ingest pipeline. Source: elastic/integrations,
-- packages/o365/data_stream/audit/elasticsearch/ingest_pipeline/default.yml.
CREATE OR REPLACE MACRO kept_below() AS 'o365.audit';
CREATE OR REPLACE MACRO named_below() AS 'o365.audit.ExtendedProperties';
-- A list of objects that no field list names is indexed as the values of each member.
CREATE OR REPLACE MACRO resources(interaction, path) AS member_values(json_extract(interaction, '$.AccessedResources'), path);
INSERT INTO elastic_documents BY NAME
WITH told AS (
    SELECT *, without_port("ClientIP" ->> '$') AS address,
        -- An events file may hold the type's name.
        COALESCE(number_of('AuditLogRecordType', "RecordType" ->> '$'), "RecordType" ->> '$') AS type_number
    FROM raw
)
SELECT
    _id, 'logs-o365.audit-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    "Id" ->> '$' AS "event.id",
    "Operation" ->> '$' AS "event.action",
    "Workload" ->> '$' AS "event.provider",
    name_of('AuditLogRecordType', type_number) AS "event.code",
    'o365.audit' AS "event.dataset",
    lower("OrganizationId" ->> '$') AS "organization.id",
    address AS "source.ip",
    address AS "client.ip",
    "UserId" ->> '$' AS "user.id",
    type_number AS "o365.audit.RecordType",
    -- A text of parameters is kept beside the place of the named ones.
    CASE WHEN json_type("Parameters") = 'VARCHAR' THEN "Parameters" ->> '$' END AS "o365.audit.Parameters._raw",
    CASE WHEN json_type("DataSources") = 'ARRAY' THEN "DataSources" END AS "o365.audit.DataSources",
    CASE WHEN json_type("ExchangeLocations") = 'ARRAY' THEN "ExchangeLocations" END AS "o365.audit.ExchangeLocations",
    CASE WHEN json_type("SharepointLocations") = 'ARRAY' THEN "SharepointLocations" END
        AS "o365.audit.SharepointLocations",
    resources("CopilotEventData", '$.Action') AS "o365.audit.CopilotEventData.AccessedResources.Action",
    resources("CopilotEventData", '$.Name') AS "o365.audit.CopilotEventData.AccessedResources.Name",
    resources("CopilotEventData", '$.SiteUrl') AS "o365.audit.CopilotEventData.AccessedResources.SiteUrl",
    resources("CopilotEventData", '$.Type') AS "o365.audit.CopilotEventData.AccessedResources.Type",
    "CopilotEventData" ->> '$.AppHost' AS "o365.audit.CopilotEventData.AppHost",
    "CopilotEventData" ->> '$.ThreadId' AS "o365.audit.CopilotEventData.ThreadId",
    kept,
    ['ClientIP', 'Id', 'Operation', 'OrganizationId', 'Parameters', 'RecordType', 'Workload'] AS not_kept,
    "ExtendedProperties" AS named_values
FROM told;

-- What Elastic holds of a directory audit record: the o365 integration's ingest pipeline. Source: elastic/integrations,
-- packages/o365/data_stream/audit/elasticsearch/ingest_pipeline/default.yml.
--
-- Every property that was changed is a field of its name, in which dots and blanks are underscores, with the old and the
-- new value below it.
CREATE OR REPLACE MACRO kept_below() AS 'o365.audit';
CREATE OR REPLACE MACRO named_below() AS 'o365.audit.ModifiedProperties';
CREATE OR REPLACE MACRO as_field(one, which) AS
  json_object('Name', regexp_replace(one ->> '$.Name', '[. ]', '_', 'g') || '.' || which, 'Value', one ->> ('$.' || which));
INSERT INTO elastic_documents BY NAME
WITH told AS (
    SELECT *, coalesce(number_of('AuditLogRecordType', "RecordType" ->> '$'), "RecordType" ->> '$') AS type_number
    FROM acts
)
SELECT
    _id, 'logs-o365.audit-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    "Id" ->> '$' AS "event.id",
    activity AS "event.action",
    "Workload" ->> '$' AS "event.provider",
    name_of('AuditLogRecordType', type_number) AS "event.code",
    'o365.audit' AS "event.dataset",
    lower("OrganizationId" ->> '$') AS "organization.id",
    without_port(nullif(address, '')) AS "source.ip",
    without_port(nullif(address, '')) AS "client.ip",
    "UserId" ->> '$' AS "user.id",
    "ObjectId" ->> '$' AS "user.target.id",
    type_number AS "o365.audit.RecordType",
    kept,
    ['ActorIpAddress', 'ClientIP', 'Id', 'Operation', 'OrganizationId', 'RecordType', 'Workload'] AS not_kept,
    to_json(list_concat(list_transform(changed_properties, lambda one: as_field(one, 'NewValue')),
        list_transform(changed_properties, lambda one: as_field(one, 'OldValue')))) AS named_values
FROM told;

-- The search-time fields that Splunk shows of a request: the record as the event hub has it, under its own names.
-- Permissions that another platform's export has as a list are put back into the text that they are in the record.
CREATE OR REPLACE MACRO as_logged(json) AS
  CASE WHEN json_type(json) = 'ARRAY' THEN array_to_string(json ->> '$[*]', ' ') ELSE json ->> '$' END;

INSERT INTO splunk_events BY NAME
SELECT
  _id, _time, 'azure:monitor:aad' AS sourcetype, _record AS _raw, _fields,
  as_logged(coalesce("properties.roles", "properties" -> '$.roles')) AS "properties.roles",
  as_logged(coalesce("properties.scopes", "properties" -> '$.scopes')) AS "properties.scopes"
FROM raw;

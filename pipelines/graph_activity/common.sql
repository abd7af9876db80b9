-- A request with its parts as columns of their own: the record has them below `properties`, and search results of
-- Splunk as flat names. Permissions are one text, divided by blanks; what another export has as a list becomes it.
CREATE OR REPLACE MACRO one_text(json) AS
  CASE WHEN json_type(json) = 'ARRAY' THEN array_to_string(json ->> '$[*]', ' ') ELSE as_text(json) END;

CREATE OR REPLACE VIEW requests AS
SELECT
  _id, _time, _record,
  coalesce(nullif(as_text("callerIpAddress"), ''), one_text(coalesce("properties.ipAddress", "properties" -> '$.ipAddress')))
    AS address,
  as_text("category") AS kind,
  as_text("operationName") AS action,
  one_text(coalesce("properties.appId", "properties" -> '$.appId')) AS application,
  one_text(coalesce("properties.clientAuthMethod", "properties" -> '$.clientAuthMethod')) AS authentication,
  one_text(coalesce("properties.operationId", "properties" -> '$.operationId')) AS batch,
  one_text(coalesce("properties.requestId", "properties" -> '$.requestId')) AS request,
  one_text(coalesce("properties.requestMethod", "properties" -> '$.requestMethod')) AS method,
  one_text(coalesce("properties.requestUri", "properties" -> '$.requestUri')) AS uri,
  one_text(coalesce("properties.responseSizeBytes", "properties" -> '$.responseSizeBytes')) AS bytes,
  one_text(coalesce("properties.responseStatusCode", "properties" -> '$.responseStatusCode')) AS status,
  one_text(coalesce("properties.roles", "properties" -> '$.roles')) AS roles,
  one_text(coalesce("properties.scopes", "properties" -> '$.scopes')) AS scopes,
  one_text(coalesce("properties.servicePrincipalId", "properties" -> '$.servicePrincipalId')) AS principal,
  one_text(coalesce("properties.signInActivityId", "properties" -> '$.signInActivityId')) AS sign_in,
  one_text(coalesce("properties.userAgent", "properties" -> '$.userAgent')) AS agent,
  one_text(coalesce("properties.userId", "properties" -> '$.userId')) AS account
FROM raw;

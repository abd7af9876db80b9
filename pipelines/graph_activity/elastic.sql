-- What Elastic holds of a request: the azure integration's ingest pipeline. Source: elastic/integrations,
-- packages/azure/data_stream/graphactivitylogs/elasticsearch/ingest_pipeline/default.yml and its test records.
--
-- Empty texts and nulls are dropped. The pipeline of 2024 fills user.id of users alone; the newer one writes the
-- service principal there where there is no user (its expected test documents).

-- uri_parts hands out path and query as java.net.URI decodes them, or as they are where the address is no valid URI.
CREATE OR REPLACE MACRO path_of(uri) AS regexp_extract(uri, '^[A-Za-z]+://[^/?#]*([^?#]*)', 1);
CREATE OR REPLACE MACRO listed(text) AS CASE WHEN text <> '' THEN to_json(string_split(text, ' ')) END;

INSERT INTO elastic_documents BY NAME
SELECT
  _id, 'logs-azure.graphactivitylogs-default' AS index_name,
  iso_time(_time) AS "@timestamp",
  'azure.graphactivitylogs' AS "event.dataset",
  action AS "event.action",
  kind AS "azure.graphactivitylogs.category",
  application AS "azure.graphactivitylogs.properties.app_id",
  authentication AS "azure.graphactivitylogs.properties.client_auth_method",
  batch AS "azure.graphactivitylogs.properties.operation_id",
  listed(roles) AS "azure.graphactivitylogs.properties.roles",
  listed(scopes) AS "azure.graphactivitylogs.properties.scopes",
  principal AS "azure.graphactivitylogs.properties.service_principal_id",
  sign_in AS "azure.graphactivitylogs.properties.sign_in_activity_id",
  request AS "http.request.id",
  method AS "http.request.method",
  bytes AS "http.response.bytes",
  status AS "http.response.status_code",
  address AS "source.ip",
  address AS "client.ip",
  uri AS "url.original",
  CASE WHEN regexp_matches(uri, '^[!-~]*$') AND NOT regexp_matches(uri, '["<>\\^`{|}]')
    THEN url_decode(replace(path_of(uri), '+', '%2B')) ELSE path_of(uri) END AS "url.path",
  coalesce(nullif(account, ''), principal) AS "user.id",
  agent AS "user_agent.original"
FROM requests;

-- What Elastic holds of an activity's event: the ingest pipelines of the integration google_workspace, one data stream an
-- application. Source: elastic/integrations, packages/google_workspace, data_stream/{admin,token,vault}.

-- The pipeline of Vault takes two parameters apart: lines of `key: "value"`, and `key: value, key: value`.
CREATE OR REPLACE MACRO detail(text, wanted) AS
    nullif(trim(regexp_extract(text, '(?:^|\n)' || wanted || ': ([^\n]*)', 1), E' \t\r\n"'), '');
CREATE OR REPLACE MACRO part(text, wanted) AS nullif(regexp_extract(text, '(?:^|, )' || wanted || ': ((?:[^,]|,[^ ])*)', 1), '');

INSERT INTO elastic_documents BY NAME
SELECT
    _id, 'logs-google_workspace.' || _log || '-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    _qualifier ->> '$' AS "event.id",
    CASE WHEN _log = 'vault' THEN replace(_name ->> '$', '_', '-') ELSE _name ->> '$' END AS "event.action",
    _log AS "event.provider",
    'google_workspace.' || _log AS "event.dataset",
    _customer ->> '$' AS "organization.id",
    _address ->> '$' AS "source.ip",
    _email ->> '$' AS "user.email",
    _email ->> '$' AS "source.user.email",
    _profile ->> '$' AS "user.id",
    -- The pipeline of Vault writes another field.
    CASE WHEN _log <> 'vault' THEN _caller ->> '$' END AS "google_workspace.actor.type",
    _key ->> '$' AS "google_workspace.actor.key",
    CASE WHEN _log = 'vault' THEN _name ->> '$' END AS "google_workspace.vault.name",
    CASE WHEN _log = 'vault' THEN _type ->> '$' END AS "google_workspace.vault.type",
    CASE WHEN _log <> 'vault' THEN _type ->> '$' END AS "google_workspace.event.type",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'API_CLIENT_NAME') END AS "google_workspace.admin.api.client.name",
    CASE WHEN _log = 'admin' THEN values_of(_parameters, 'API_SCOPES') END AS "google_workspace.admin.api.scopes",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'APPLICATION_NAME') END AS "google_workspace.admin.application.name",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'DOMAIN_NAME') END AS "google_workspace.admin.domain.name",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'EMAIL_MONITOR_DEST_EMAIL') END AS "google_workspace.admin.email_monitor.dest_email",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'INVESTIGATION_DATA_SOURCE') END AS "google_workspace.admin.investigation.data_source",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'NEW_VALUE') END AS "google_workspace.admin.new_value",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'OLD_VALUE') END AS "google_workspace.admin.old_value",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'ORG_UNIT_NAME') END AS "google_workspace.admin.org_unit.name",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'SETTING_NAME') END AS "google_workspace.admin.setting.name",
    CASE WHEN _log = 'admin' THEN value_of(_parameters, 'USER_EMAIL') END AS "google_workspace.admin.user.email",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'api_name') END AS "google_workspace.token.api_name",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'app_name') END AS "google_workspace.token.app_name",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'client_id') END AS "google_workspace.token.client.id",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'client_type') END AS "google_workspace.token.client.type",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'method_name') END AS "google_workspace.token.method_name",
    CASE WHEN _log = 'token' THEN value_of(_parameters, 'product_bucket') END AS "google_workspace.token.product_bucket",
    CASE WHEN _log = 'token' THEN values_of(_parameters, 'scope') END AS "google_workspace.token.scope.value",
    CASE WHEN _log = 'vault' THEN detail(value_of(_parameters, 'additional_details'), 'export_format') END
        AS "google_workspace.vault.additional_details.export_format",
    CASE WHEN _log = 'vault' THEN detail(value_of(_parameters, 'additional_details'), 'type') END
        AS "google_workspace.vault.additional_details.type",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'additional_details') END
        AS "google_workspace.vault.additional_details_raw",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'matter_id') END AS "google_workspace.vault.matter_id",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'organizational_unit_name') END
        AS "google_workspace.vault.organizational_unit_name",
    CASE WHEN _log = 'vault' THEN part(value_of(_parameters, 'query'), 'type') END AS "google_workspace.vault.query.type",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'query') END AS "google_workspace.vault.query_raw",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'resource_name') END AS "google_workspace.vault.resource_name",
    CASE WHEN _log = 'vault' THEN value_of(_parameters, 'resource_url') END AS "url.full",
    CASE _log WHEN 'vault' THEN value_of(_parameters, 'target_user') WHEN 'admin' THEN value_of(_parameters, 'USER_EMAIL') END
        AS "user.target.email"
FROM (SELECT *, _application ->> '$' AS _log FROM activity)
-- Other applications have data streams of their own, or none (Takeout); no rule of the pack reads them.
WHERE _log IN ('admin', 'token', 'vault');

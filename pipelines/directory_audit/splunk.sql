-- The search-time fields that Splunk shows of a directory audit record: its own JSON names (Splunk Add-on for Microsoft
-- Office 365; KV_MODE=json). No property of ModifiedProperties is lifted to a field: searches take one out of the text.
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'o365:management:activity' AS sourcetype, _record AS _raw, _fields, activity AS "Operation"
FROM acts
WHERE NOT of_entra;
-- The same of a diagnostic setting's record, as the Splunk Add-on for Microsoft Cloud Services takes it from an event hub
-- (fields and example of splunk/security_content, azure_active_directory_add_app_role_assignment_to_service_principal).
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'azure:monitor:aad' AS sourcetype,
  'AuditLogs' AS category,
  regexp_replace(activity, '\.$', '') AS "operationName",
  lower(nullif(as_text("ResultStatus"), '')) AS "properties.result",
  nullif(address, '') AS "properties.initiatedBy.user.ipAddress",
  CASE WHEN NOT by_service THEN "UserId" ->> '$' END AS "properties.initiatedBy.user.userPrincipalName",
  CASE WHEN by_service THEN (as_text("UserId"))[18:] END AS "properties.initiatedBy.app.servicePrincipalId",
  CASE WHEN by_service THEN list_filter(listed("Actor"), lambda one: (one ->> '$.Type') = '1')[1] ->> '$.ID' END
    AS "properties.initiatedBy.app.displayName",
  -- What spath finds of the event's text.
  list_transform(changed_properties, lambda one: one ->> '$.Name')
    AS "_raw{}.properties.targetResources{}.modifiedProperties{}.displayName",
  list_transform(modified, lambda one: CAST(one AS VARCHAR))
    AS "_raw{}.properties.targetResources{}.modifiedProperties{}",
  -- The event's text, as far as searches read it.
  CAST(to_json({
    time: CAST(_time AS VARCHAR),
    category: 'AuditLogs',
    operationName: regexp_replace(activity, '\.$', ''),
    properties: {id: "Id" ->> '$', targetResources: [{modifiedProperties: modified}]}
  }) AS VARCHAR) AS _raw
FROM (
  SELECT *, starts_with(as_text("UserId"), 'ServicePrincipal_') AS by_service,
    list_transform(changed_properties, lambda one: json_object('displayName', one ->> '$.Name',
      'oldValue', as_in_entra(one ->> '$.OldValue'), 'newValue', as_in_entra(one ->> '$.NewValue'))) AS modified
  FROM acts
)
WHERE of_entra;

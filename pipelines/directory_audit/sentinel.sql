-- What a diagnostic setting of Microsoft Entra makes of an act: AuditLogs of Azure Monitor's reference. Sources: the
-- table's reference, exported rows (OTRF Security-Datasets), and one act in both forms (splunk/security_content,
-- o365_add_app_role_assignment_to_service_principal and azure_active_directory_add_app_role_assignment_to_service_principal).
--
-- Of the list of identifiers of an actor or a resource, the first of a type: 1 is its name.
CREATE OR REPLACE MACRO identifier(listed, kind) AS
  list_filter(listed, lambda one: (one ->> '$.Type') = kind)[1] ->> '$.ID';

INSERT INTO AuditLogs BY NAME
SELECT
  _id AS _EventId,
  _time AS TimeGenerated,
  as_text("Id") AS Id,
  regexp_replace(activity, '\.$', '') AS OperationName,
  regexp_replace(activity, '\.$', '') AS ActivityDisplayName,
  _time AS ActivityDateTime,
  '1.0' AS OperationVersion,
  as_text("Category") AS Category,
  as_text("InterSystemsId") AS CorrelationId,
  as_text("OrganizationId") AS AADTenantId,
  lower(as_text("ResultStatus")) AS Result,
  'Core Directory' AS LoggedByService,
  CASE WHEN starts_with(as_text("UserId"), 'ServicePrincipal_')
    THEN json_object('app', json_object('appId', NULL, 'displayName', identifier(listed("Actor"), '1'),
      'servicePrincipalId', (as_text("UserId"))[18:], 'servicePrincipalName', NULL))
    ELSE json_object('user', json_object('id', NULL, 'displayName', NULL, 'userPrincipalName', "UserId" ->> '$',
      'ipAddress', nullif(address, ''), 'roles', json('[]'))) END AS InitiatedBy,
  json_array(json_object('id', listed("Target")[2] ->> '$.ID', 'displayName', identifier(listed("Target"), '1'),
    'type', listed("Target")[3] ->> '$.ID',
    'modifiedProperties', list_transform(changed_properties, lambda one: json_object('displayName', one ->> '$.Name',
      'oldValue', as_in_entra(one ->> '$.OldValue'), 'newValue', as_in_entra(one ->> '$.NewValue'))),
    'administrativeUnits', json('[]'))) AS TargetResources,
  'AuditLogs' AS "Type"
FROM acts
WHERE _time IS NOT NULL;

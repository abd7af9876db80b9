-- What the Office 365 connector makes of an audit record: OfficeActivity of Azure Monitor's reference. A column that
-- the connector does not fill keeps its default: the empty string for text, null for everything else. Sources: the
-- OfficeActivity table reference, a real exported row (OTRF Security-Datasets).

-- Exchange, SharePoint, OneDrive and Teams only: compliance records (Workload SecurityComplianceCenter) never
-- reach the table. Names for every record type but 50, which the one real exported row spells in digits.
INSERT INTO OfficeActivity BY NAME
WITH office AS (
  SELECT id, time, record,
    CASE WHEN regexp_full_match(field(record, 'RecordType'), '[0-9]+') THEN spelled('AuditLogRecordType', field(record, 'RecordType'))
         ELSE field(record, 'RecordType') END AS type_name
  FROM raw
)
SELECT
  id AS _EventId,
  field(record, 'Id') AS OfficeId,
  CASE WHEN type_name = 'ExchangeItemAggregated' THEN '50' ELSE type_name END AS RecordType,
  time AS TimeGenerated,
  field(record, 'Operation') AS Operation,
  field(record, 'OrganizationId') AS OrganizationId,
  field(record, 'OrganizationName') AS OrganizationName,
  spelled('UserType', field(record, 'UserType')) AS UserType,
  field(record, 'UserKey') AS UserKey,
  field(record, 'Workload') AS OfficeWorkload,
  field(record, 'ResultStatus') AS ResultStatus,
  field(record, 'ObjectId') AS OfficeObjectId,
  field(record, 'UserId') AS UserId,
  field(record, 'ClientIP') AS ClientIP,
  field(record, 'ClientIPAddress') AS Client_IPAddress,
  field(record, 'ClientInfoString') AS ClientInfoString,
  field(record, 'ClientAppId') AS ClientAppId,
  field(record, 'ClientProcessName') AS ClientProcessName,
  field(record, 'ClientVersion') AS ClientVersion,
  field(record, 'ClientMachineName') AS ClientMachineName,
  field(record, 'AppId') AS AppId,
  CASE field(record, 'ExternalAccess') WHEN 'true' THEN 'True' WHEN 'false' THEN 'False'
    ELSE field(record, 'ExternalAccess') END AS ExternalAccess,
  field(record, 'OriginatingServer') AS OriginatingServer,
  spelled('LogonType', field(record, 'LogonType')) AS Logon_Type,
  TRY_CAST(nullif(field(record, 'InternalLogonType'), '') AS INTEGER) AS InternalLogonType,
  field(record, 'MailboxGuid') AS MailboxGuid,
  field(record, 'MailboxOwnerUPN') AS MailboxOwnerUPN,
  field(record, 'MailboxOwnerSid') AS MailboxOwnerSid,
  field(record, 'LogonUserSid') AS LogonUserSid,
  field(record, 'LogonUserDisplayName') AS LogonUserDisplayName,
  field(record, 'Parameters') AS Parameters,
  record -> '$.OperationProperties' AS OperationProperties,
  field(record, 'Folders') AS Folders,
  field(record, 'Folder') AS Folder,
  field(record, 'Item') AS Item,
  field(record, 'DestFolder') AS DestFolder,
  field(record, 'DestMailboxOwnerUPN') AS DestMailboxOwnerUPN,
  field(record, 'SendAsUserSmtp') AS SendAsUserSmtp,
  field(record, 'SendOnBehalfOfUserSmtp') AS SendOnBehalfOfUserSmtp,
  -- The connector leaves UserAgent empty on every Exchange row.
  CASE WHEN type_name LIKE 'Exchange%' THEN '' ELSE field(record, 'UserAgent') END AS UserAgent,
  'OfficeActivity' AS "Type"
FROM office
WHERE type_name NOT IN ('Discovery') AND type_name NOT LIKE 'SecurityComplianceCenter%'
  AND field(record, 'Workload') NOT IN ('SecurityComplianceCenter', 'AzureActiveDirectory')
  AND time IS NOT NULL;

-- What the Office 365 connector makes of an audit record: OfficeActivity of Azure Monitor's reference. A column that
-- the connector does not fill keeps its default: the empty string for text, null for everything else. Sources: the
-- OfficeActivity table reference, a real exported row (OTRF Security-Datasets).

-- Exchange, SharePoint, OneDrive and Teams only: compliance records (Workload SecurityComplianceCenter) never
-- reach the table. Names for every record type but 50, which the one real exported row spells in digits.
INSERT INTO OfficeActivity BY NAME
WITH office AS (
  SELECT *,
    CASE WHEN regexp_full_match(as_text("RecordType"), '[0-9]+') THEN spelled('AuditLogRecordType', as_text("RecordType"))
         ELSE as_text("RecordType") END AS type_name
  FROM raw
)
SELECT
  _id AS _EventId,
  as_text("Id") AS OfficeId,
  CASE WHEN type_name = 'ExchangeItemAggregated' THEN '50' ELSE type_name END AS RecordType,
  _time AS TimeGenerated,
  as_text("Operation") AS Operation,
  as_text("OrganizationId") AS OrganizationId,
  as_text("OrganizationName") AS OrganizationName,
  spelled('UserType', as_text("UserType")) AS UserType,
  as_text("UserKey") AS UserKey,
  as_text("Workload") AS OfficeWorkload,
  as_text("ResultStatus") AS ResultStatus,
  as_text("ObjectId") AS OfficeObjectId,
  as_text("UserId") AS UserId,
  as_text("ClientIP") AS ClientIP,
  as_text("ClientIPAddress") AS Client_IPAddress,
  as_text("ClientInfoString") AS ClientInfoString,
  as_text("ClientAppId") AS ClientAppId,
  as_text("ClientProcessName") AS ClientProcessName,
  as_text("ClientVersion") AS ClientVersion,
  as_text("ClientMachineName") AS ClientMachineName,
  as_text("AppId") AS AppId,
  CASE as_text("ExternalAccess") WHEN 'true' THEN 'True' WHEN 'false' THEN 'False'
    ELSE as_text("ExternalAccess") END AS ExternalAccess,
  as_text("OriginatingServer") AS OriginatingServer,
  spelled('LogonType', as_text("LogonType")) AS Logon_Type,
  TRY_CAST(nullif(as_text("InternalLogonType"), '') AS INTEGER) AS InternalLogonType,
  as_text("MailboxGuid") AS MailboxGuid,
  as_text("MailboxOwnerUPN") AS MailboxOwnerUPN,
  as_text("MailboxOwnerSid") AS MailboxOwnerSid,
  as_text("LogonUserSid") AS LogonUserSid,
  as_text("LogonUserDisplayName") AS LogonUserDisplayName,
  as_text("Parameters") AS Parameters,
  "OperationProperties" AS OperationProperties,
  as_text("Folders") AS Folders,
  as_text("Folder") AS Folder,
  as_text("Item") AS Item,
  as_text("DestFolder") AS DestFolder,
  as_text("DestMailboxOwnerUPN") AS DestMailboxOwnerUPN,
  as_text("SendAsUserSmtp") AS SendAsUserSmtp,
  as_text("SendOnBehalfOfUserSmtp") AS SendOnBehalfOfUserSmtp,
  -- The connector leaves UserAgent empty on every Exchange row.
  CASE WHEN type_name LIKE 'Exchange%' THEN '' ELSE as_text("UserAgent") END AS UserAgent,
  'OfficeActivity' AS "Type"
FROM office
WHERE type_name NOT IN ('Discovery') AND type_name NOT LIKE 'SecurityComplianceCenter%'
  AND as_text("Workload") NOT IN ('SecurityComplianceCenter', 'AzureActiveDirectory')
  AND _time IS NOT NULL;

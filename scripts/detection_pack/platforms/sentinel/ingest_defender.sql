-- What Defender XDR makes of a raw record, in the advanced hunting schema.
--
-- Reads raw(id, kind, record JSON); fills CloudAppEvents and DeviceProcessEvents. The record of an Office 365
-- activity stands as it is in RawEventData, compliance records among them. A column that is not filled keeps
-- its default. _EventId is ours. Sources: the advanced hunting reference of both tables.

CREATE OR REPLACE TEMP MACRO field(record, name) AS coalesce(record ->> ('$."' || name || '"'), '');
CREATE OR REPLACE TEMP MACRO last_part(path) AS regexp_extract(path, '[^\\/]*$');

INSERT INTO CloudAppEvents BY NAME
SELECT
  id AS _EventId,
  utc(field(record, 'CreationTime')) AS "Timestamp",
  field(record, 'Operation') AS ActionType,
  field(record, 'Workload') AS Application,
  field(record, 'UserId') AS AccountId,
  field(record, 'ObjectId') AS ObjectName,
  id AS ReportId,
  record AS RawEventData
FROM raw
WHERE kind = 'm365' AND utc(field(record, 'CreationTime')) IS NOT NULL;

-- ReportId is a counter of the device; here it counts the rows.
INSERT INTO DeviceProcessEvents BY NAME
SELECT
  id AS _EventId,
  utc(field(record, 'UtcTime')) AS "Timestamp",
  row_number() OVER (ORDER BY id) AS ReportId,
  field(record, 'Computer') AS DeviceId,
  field(record, 'Computer') AS DeviceName,
  'ProcessCreated' AS ActionType,
  last_part(field(record, 'Image')) AS FileName,
  field(record, 'Image') AS FolderPath,
  field(record, 'CommandLine') AS ProcessCommandLine,
  TRY_CAST(nullif(field(record, 'ProcessId'), '') AS BIGINT) AS ProcessId,
  field(record, 'IntegrityLevel') AS ProcessIntegrityLevel,
  field(record, 'OriginalFileName') AS ProcessVersionInfoOriginalFileName,
  field(record, 'Product') AS ProcessVersionInfoProductName,
  field(record, 'Company') AS ProcessVersionInfoCompanyName,
  field(record, 'Description') AS ProcessVersionInfoFileDescription,
  last_part(field(record, 'User')) AS AccountName,
  CASE WHEN contains(field(record, 'User'), '\') THEN split_part(field(record, 'User'), '\', 1) ELSE '' END AS AccountDomain,
  last_part(field(record, 'ParentImage')) AS InitiatingProcessFileName,
  field(record, 'ParentImage') AS InitiatingProcessFolderPath,
  field(record, 'ParentCommandLine') AS InitiatingProcessCommandLine,
  TRY_CAST(nullif(field(record, 'ParentProcessId'), '') AS BIGINT) AS InitiatingProcessId,
  last_part(field(record, 'ParentUser')) AS InitiatingProcessAccountName
FROM raw
WHERE kind = 'process' AND utc(field(record, 'UtcTime')) IS NOT NULL;

-- What the ingest models of several platforms share: reads raw(id, time, record JSON).

-- One digest of Sysmon's Hashes, `SHA1=…,MD5=…`, in lower case.
CREATE OR REPLACE TEMP MACRO digest(record, kind) AS
  lower(regexp_extract(field(record, 'Hashes'), '(?i)(?:^|,)' || kind || '=([0-9a-f]+)', 1));

-- The columns that Sentinel and Defender XDR name alike. Sources: the references of both tables.
CREATE OR REPLACE TEMP VIEW process_columns AS
SELECT
  id AS _EventId,
  time AS moment,
  'ProcessCreated' AS ActionType,
  field(record, 'Computer') AS DeviceName,
  last_part(field(record, 'Image')) AS FileName,
  field(record, 'Image') AS FolderPath,
  field(record, 'CommandLine') AS ProcessCommandLine,
  TRY_CAST(nullif(field(record, 'ProcessId'), '') AS BIGINT) AS ProcessId,
  field(record, 'IntegrityLevel') AS ProcessIntegrityLevel,
  field(record, 'OriginalFileName') AS ProcessVersionInfoOriginalFileName,
  field(record, 'Product') AS ProcessVersionInfoProductName,
  field(record, 'Company') AS ProcessVersionInfoCompanyName,
  field(record, 'Description') AS ProcessVersionInfoFileDescription,
  digest(record, 'MD5') AS MD5,
  digest(record, 'SHA1') AS SHA1,
  digest(record, 'SHA256') AS SHA256,
  last_part(field(record, 'User')) AS AccountName,
  CASE WHEN contains(field(record, 'User'), '\') THEN split_part(field(record, 'User'), '\', 1) ELSE '' END AS AccountDomain,
  last_part(field(record, 'ParentImage')) AS InitiatingProcessFileName,
  field(record, 'ParentImage') AS InitiatingProcessFolderPath,
  field(record, 'ParentCommandLine') AS InitiatingProcessCommandLine,
  TRY_CAST(nullif(field(record, 'ParentProcessId'), '') AS BIGINT) AS InitiatingProcessId,
  last_part(field(record, 'ParentUser')) AS InitiatingProcessAccountName
FROM raw
WHERE time IS NOT NULL;

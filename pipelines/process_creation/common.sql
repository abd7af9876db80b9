-- What the ingest models of several platforms share.

-- One digest of Sysmon's Hashes, `SHA1=…,MD5=…`, in lower case.
CREATE OR REPLACE MACRO digest(hashes, kind) AS
  lower(regexp_extract(as_text(hashes), '(?i)(?:^|,)' || kind || '=([0-9a-f]+)', 1));

-- The columns that Sentinel and Defender XDR name alike. Sources: the references of both tables.
CREATE OR REPLACE VIEW process_columns AS
SELECT
  _id AS _EventId,
  _time AS moment,
  'ProcessCreated' AS ActionType,
  as_text("Computer") AS DeviceName,
  last_part(as_text("Image")) AS FileName,
  as_text("Image") AS FolderPath,
  as_text("CommandLine") AS ProcessCommandLine,
  TRY_CAST(nullif(as_text("ProcessId"), '') AS BIGINT) AS ProcessId,
  as_text("IntegrityLevel") AS ProcessIntegrityLevel,
  as_text("OriginalFileName") AS ProcessVersionInfoOriginalFileName,
  as_text("Product") AS ProcessVersionInfoProductName,
  as_text("Company") AS ProcessVersionInfoCompanyName,
  as_text("Description") AS ProcessVersionInfoFileDescription,
  digest("Hashes", 'MD5') AS MD5,
  digest("Hashes", 'SHA1') AS SHA1,
  digest("Hashes", 'SHA256') AS SHA256,
  last_part(as_text("User")) AS AccountName,
  CASE WHEN contains(as_text("User"), '\') THEN split_part(as_text("User"), '\', 1) ELSE '' END AS AccountDomain,
  last_part(as_text("ParentImage")) AS InitiatingProcessFileName,
  as_text("ParentImage") AS InitiatingProcessFolderPath,
  as_text("ParentCommandLine") AS InitiatingProcessCommandLine,
  TRY_CAST(nullif(as_text("ParentProcessId"), '') AS BIGINT) AS InitiatingProcessId,
  last_part(as_text("ParentUser")) AS InitiatingProcessAccountName
FROM raw
WHERE _time IS NOT NULL;

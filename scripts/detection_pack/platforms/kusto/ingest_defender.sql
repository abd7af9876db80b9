-- What Defender XDR makes of a raw record, in the advanced hunting schema.
--
-- Reads raw(id, kind, record JSON); fills CloudAppEvents and DeviceProcessEvents. The record of an Office 365
-- activity stands as it is in RawEventData, compliance records among them. A column that is not filled keeps
-- its default. _EventId is ours. ingest_common.sql comes first. Sources: the advanced hunting reference of both tables.

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
SELECT * EXCLUDE (moment), moment AS "Timestamp", row_number() OVER (ORDER BY _EventId) AS ReportId,
  DeviceName AS DeviceId
FROM process_columns;

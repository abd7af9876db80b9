-- What Defender XDR makes of an audit record: CloudAppEvents of the advanced hunting reference. The record stands
-- as it is in RawEventData, compliance records among them.
INSERT INTO CloudAppEvents BY NAME
SELECT
  id AS _EventId,
  time AS "Timestamp",
  field(record, 'Operation') AS ActionType,
  field(record, 'Workload') AS Application,
  field(record, 'UserId') AS AccountId,
  field(record, 'ObjectId') AS ObjectName,
  id AS ReportId,
  record AS RawEventData
FROM raw
WHERE time IS NOT NULL;

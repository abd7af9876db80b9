-- What Defender XDR makes of an audit record: CloudAppEvents of the advanced hunting reference. The record stands
-- as it is in RawEventData, compliance records among them.
INSERT INTO CloudAppEvents BY NAME
SELECT
  _id AS _EventId,
  _time AS "Timestamp",
  as_text("Operation") AS ActionType,
  as_text("Workload") AS Application,
  as_text("UserId") AS AccountId,
  as_text("ObjectId") AS ObjectName,
  _id AS ReportId,
  _record AS RawEventData
FROM raw
WHERE _time IS NOT NULL;

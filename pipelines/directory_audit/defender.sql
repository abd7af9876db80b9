-- What Defender XDR makes of a directory audit record: CloudAppEvents of the advanced hunting reference, the record as it
-- is in RawEventData.
INSERT INTO CloudAppEvents BY NAME
SELECT
  _id AS _EventId,
  _time AS "Timestamp",
  activity AS ActionType,
  as_text("UserId") AS AccountId,
  as_text("ObjectId") AS ObjectName,
  address AS IPAddress,
  _id AS ReportId,
  _record AS RawEventData
FROM acts
WHERE _time IS NOT NULL;

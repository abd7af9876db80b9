-- What the ingest models of several platforms share.
--
-- CloudAppEvents carries an audit record as it is in RawEventData; the app connector of Microsoft 365 feeds it in
-- Defender XDR and in Sentinel alike. That records of these types reach it is inferred from published rules on
-- AdminMailAccess, which is of the same workload.
CREATE OR REPLACE VIEW cloud_app_events AS
SELECT
  _id AS _EventId,
  _time AS moment,
  as_text("Operation") AS ActionType,
  as_text("UserId") AS AccountId,
  as_text("ObjectId") AS ObjectName,
  as_text("ClientIP") AS IPAddress,
  _id AS ReportId,
  _record AS RawEventData
FROM raw
WHERE _time IS NOT NULL;

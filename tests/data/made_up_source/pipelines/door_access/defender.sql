INSERT INTO DoorGuardEvents BY NAME
SELECT _id AS _EventId, _time AS "Timestamp", _id AS ReportId, spelled('DoorEvent', as_text("kind")) AS ActionType,
  coalesce("actor" ->> '$.email', '') AS AccountUpn, _record AS RawRecord
FROM raw WHERE _time IS NOT NULL;

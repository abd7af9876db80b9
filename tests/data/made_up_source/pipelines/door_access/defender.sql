INSERT INTO DoorGuardEvents BY NAME
SELECT id AS _EventId, time AS "Timestamp", id AS ReportId, spelled('DoorEvent', field(record, 'kind')) AS ActionType,
  coalesce(record ->> '$.actor.email', '') AS AccountUpn, record AS RawRecord
FROM raw WHERE time IS NOT NULL;

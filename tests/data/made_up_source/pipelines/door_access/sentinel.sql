INSERT INTO DoorGuard_CL BY NAME
SELECT id AS _EventId, time AS TimeGenerated, field(record, 'site') AS Site,
  TRY_CAST(field(record, 'serial') AS BIGINT) AS Serial, field(record, 'door') AS DoorName,
  TRY_CAST(field(record, 'kind') AS INTEGER) AS EventKind,
  coalesce(record ->> '$.actor.email', '') AS ActorEmail, coalesce(record ->> '$.actor.badge', '') AS ActorBadge,
  coalesce(record ->> '$.reader.ip', '') AS ReaderAddress
FROM raw WHERE time IS NOT NULL;

INSERT INTO DoorGuard_CL BY NAME
SELECT _id AS _EventId, _time AS TimeGenerated, as_text("site") AS Site,
  TRY_CAST(as_text("serial") AS BIGINT) AS Serial, as_text("door") AS DoorName,
  TRY_CAST(as_text("kind") AS INTEGER) AS EventKind,
  coalesce("actor" ->> '$.email', '') AS ActorEmail, coalesce("actor" ->> '$.badge', '') AS ActorBadge,
  coalesce("reader" ->> '$.ip', '') AS ReaderAddress
FROM raw WHERE _time IS NOT NULL;

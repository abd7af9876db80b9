INSERT INTO elastic_pieces BY NAME
SELECT id, 'logs-doorguard.access-default' AS index_name, json_object(
  '@timestamp', iso_time(time), 'event.id', id,
  'event.action', spelled('DoorEvent', field(record, 'kind')), 'user.email', record ->> '$.actor.email',
  'source.ip', record ->> '$.reader.ip', 'doorguard.badge', record ->> '$.actor.badge',
  'doorguard.door', record ->> '$.door') AS document
FROM raw;

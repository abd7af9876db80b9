INSERT INTO elastic_documents BY NAME
SELECT _id, 'logs-doorguard.access-default' AS index_name, iso_time(_time) AS "@timestamp", _id AS "event.id",
  spelled('DoorEvent', as_text("kind")) AS "event.action", "actor" ->> '$.email' AS "user.email",
  "reader" ->> '$.ip' AS "source.ip", "actor" ->> '$.badge' AS "doorguard.badge", "door" ->> '$' AS "doorguard.door"
FROM raw;

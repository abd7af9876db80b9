INSERT INTO splunk_events BY NAME
WITH named AS (SELECT id, name, list(value ORDER BY position) AS members FROM splunk_nodes GROUP BY id, name),
shown AS (SELECT id, map(list(name ORDER BY name), list(members ORDER BY name)) AS fields FROM named GROUP BY id)
SELECT raw.id, epoch(raw.time) AS _time, 'doors' AS "index", 'doorguard:json' AS sourcetype,
  CAST(raw.record AS VARCHAR) AS _raw, fields
FROM raw JOIN shown ON shown.id = raw.id;

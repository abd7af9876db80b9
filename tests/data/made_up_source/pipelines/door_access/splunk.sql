INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'doors' AS "index", 'doorguard:json' AS sourcetype, _record AS _raw, _fields FROM raw;

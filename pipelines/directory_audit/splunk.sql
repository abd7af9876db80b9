-- The search-time fields that Splunk shows of a directory audit record: its own JSON names (Splunk Add-on for Microsoft
-- Office 365; KV_MODE=json). No property of ModifiedProperties is lifted to a field: searches take one out of the text.
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'o365:management:activity' AS sourcetype, _record AS _raw, _fields, activity AS "Operation"
FROM acts;

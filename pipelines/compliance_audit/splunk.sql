-- The search-time fields that Splunk shows of a compliance record: its own JSON names (Splunk Add-on for Microsoft Office
-- 365; KV_MODE=json), and the named values that the add-on lifts.
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'o365:management:activity' AS sourcetype, _record AS _raw, _fields,
    "ExtendedProperties" AS _named_values
FROM raw;

-- The search-time fields that Splunk shows of an audit record.
--
-- Records keep their JSON names (Splunk Add-on for Microsoft Office 365; KV_MODE=json). The API sends the numbers of
-- RecordType, LogonType and UserType. The add-on lifts every cmdlet parameter, operation property and extended property
-- to a field of its name (fields of its example events in splunk/security_content, o365_mailitemsaccessed); a record's
-- own field is not replaced.
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'o365:management:activity' AS sourcetype, _record AS _raw, _fields,
    both_lists(both_lists("Parameters", "OperationProperties"), "ExtendedProperties") AS _named_values
FROM raw;

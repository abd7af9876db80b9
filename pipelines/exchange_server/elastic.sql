-- What the Elastic Agent makes of such an event (elastic/integrations, packages/winlog).
INSERT INTO elastic_documents BY NAME
SELECT
    _id,
    'logs-winlog.winlog-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    "EventID" ->> '$' AS "event.code",
    "Channel" ->> '$' AS "winlog.channel",
    "Computer" ->> '$' AS "host.name",
    "CmdletName" ->> '$' AS "winlog.event_data.param1",
    "CmdletParameters" ->> '$' AS "winlog.event_data.param2",
    "Caller" ->> '$' AS "winlog.event_data.param3",
    "CallerSid" ->> '$' AS "winlog.event_data.param4",
    "ManagementHost" ->> '$' AS "winlog.event_data.param6"
FROM raw;

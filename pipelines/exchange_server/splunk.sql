-- The search-time fields of such an event in Splunk. Both forms of input are here: an event in text has no caller, so a
-- record without one stands for it.
INSERT INTO splunk_events BY NAME
WITH told AS (
    SELECT *, own_text("Caller") IS NOT NULL AS is_xml FROM raw
)
SELECT
    _id, _time, _record AS _raw,
    CASE WHEN is_xml THEN 'XmlWinEventLog' ELSE 'MSExchange:management' END AS sourcetype,
    CASE WHEN is_xml THEN 'XmlWinEventLog:' ELSE 'WinEventLog:' END || own_text("Channel") AS source,
    own_text("EventID") AS "EventCode",
    own_text("Channel") AS "Channel",
    own_text("Computer") AS "Computer",
    CASE WHEN is_xml THEN concat('<Data>', xml_text(as_text("CmdletName")), '</Data><Data>',
        xml_text(as_text("CmdletParameters")), '</Data><Data>', xml_text(as_text("Caller")), '</Data><Data>',
        as_text("CallerSid"), '</Data><Data>', as_text("CallerSid"), '</Data><Data>', xml_text(as_text("ManagementHost")),
        '</Data><Data></Data>') END AS "EventData_Xml",
    CASE WHEN NOT is_xml THEN concat(CASE WHEN as_text("EventID") = '6' THEN 'Cmdlet failed. Cmdlet '
        ELSE 'Cmdlet suceeded. Cmdlet ' END, as_text("CmdletName"), ', parameters ', as_text("CmdletParameters"), '.') END AS "Message"
FROM told;

-- The search-time fields that the Splunk Add-on for Microsoft Windows shows of a script block in XML.
INSERT INTO splunk_events BY NAME
SELECT
    _id, _time, 'XmlWinEventLog' AS sourcetype, 'XmlWinEventLog:' || own_text("Channel") AS source, _record AS _raw,
    own_text("EventID") AS "EventCode",
    own_text("Channel") AS "Channel",
    own_text("Computer") AS "Computer",
    own_text("UserID") AS "UserID",
    own_text("MessageNumber") AS "MessageNumber",
    own_text("MessageTotal") AS "MessageTotal",
    xml_text(own_text("ScriptBlockText")) AS "ScriptBlockText",
    own_text("ScriptBlockId") AS "ScriptBlockId",
    xml_text(own_text("Path")) AS "Path"
FROM raw;

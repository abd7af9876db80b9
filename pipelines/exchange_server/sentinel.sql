-- What the Azure Monitor Agent makes of such an event: Event of Azure Monitor's reference. UserName is not the caller.
INSERT INTO Event BY NAME
SELECT
  _id AS _EventId,
  _time AS TimeGenerated,
  as_text("Computer") AS Computer,
  as_text("Channel") AS EventLog,
  'MSExchange CmdletLogs' AS "Source",
  TRY_CAST(nullif(as_text("EventID"), '') AS INTEGER) AS EventID,
  concat('<Param>', xml_text(as_text("CmdletName")), '</Param><Param>', xml_text(as_text("CmdletParameters")),
    '</Param><Param>', xml_text(as_text("Caller")), '</Param><Param>', as_text("CallerSid"), '</Param><Param>',
    as_text("CallerSid"), '</Param><Param>', xml_text(as_text("ManagementHost")), '</Param>') AS ParameterXml,
  concat(CASE WHEN as_text("EventID") = '6' THEN 'Cmdlet failed. Cmdlet ' ELSE 'Cmdlet suceeded. Cmdlet ' END,
    as_text("CmdletName"), ', parameters ', as_text("CmdletParameters"), '.') AS RenderedDescription,
  'Event' AS "Type"
FROM raw
WHERE _time IS NOT NULL;

-- What the Azure Monitor Agent makes of a script block: Event of Azure Monitor's reference. Values are escaped in
-- EventData and ParameterXml, and not in the rendered text.
INSERT INTO Event BY NAME
SELECT
  _id AS _EventId,
  _time AS TimeGenerated,
  as_text("Computer") AS Computer,
  as_text("Channel") AS EventLog,
  CASE WHEN as_text("Channel") LIKE 'PowerShellCore/%' THEN 'PowerShellCore' ELSE 'Microsoft-Windows-PowerShell' END
    AS "Source",
  TRY_CAST(nullif(as_text("EventID"), '') AS INTEGER) AS EventID,
  '<DataItem Type="System.XmlData" time="' || strftime(_time, '%Y-%m-%dT%H:%M:%S.%fZ')
    || '" sourceHealthServiceId="00000000-0000-0000-0000-000000000000">'
    || '<EventData xmlns="http://schemas.microsoft.com/win/2004/08/events/event">'
    || '<Data Name="MessageNumber">' || as_text("MessageNumber") || '</Data>'
    || '<Data Name="MessageTotal">' || as_text("MessageTotal") || '</Data>'
    || '<Data Name="ScriptBlockText">' || xml_text(as_text("ScriptBlockText")) || '</Data>'
    || '<Data Name="ScriptBlockId">' || as_text("ScriptBlockId") || '</Data>'
    || '<Data Name="Path">' || xml_text(as_text("Path")) || '</Data></EventData></DataItem>' AS EventData,
  '<Param>' || as_text("MessageNumber") || '</Param><Param>' || as_text("MessageTotal") || '</Param><Param>'
    || xml_text(as_text("ScriptBlockText")) || '</Param><Param>' || as_text("ScriptBlockId") || '</Param><Param>'
    || xml_text(as_text("Path")) || '</Param>' AS ParameterXml,
  'Creating Scriptblock text (' || as_text("MessageNumber") || ' of ' || as_text("MessageTotal") || '):' || chr(10)
    || as_text("ScriptBlockText") || chr(10) || chr(10) || 'ScriptBlock ID: ' || as_text("ScriptBlockId") || chr(10)
    || 'Path: ' || as_text("Path") AS RenderedDescription,
  as_text("UserID") AS UserName,
  'Event' AS "Type"
FROM raw
WHERE _time IS NOT NULL;

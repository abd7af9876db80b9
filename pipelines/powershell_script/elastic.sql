-- What the Windows integration makes of a script block (elastic/integrations, packages/windows,
-- powershell_operational). It does not collect the channel of PowerShell 7, which Winlogbeat does. An event of another
-- channel has no text in these fields, nor one of this channel by another number.
INSERT INTO elastic_documents BY NAME
WITH told AS (
    SELECT *, coalesce("Channel" ->> '$', '') IN ('Microsoft-Windows-PowerShell/Operational', 'PowerShellCore/Operational')
        AND coalesce("EventID" ->> '$', '') = '4104' AS is_block
    FROM raw
)
SELECT
    _id,
    CASE WHEN "Channel" ->> '$' = 'Microsoft-Windows-PowerShell/Operational'
        THEN 'logs-windows.powershell_operational-default' ELSE 'winlogbeat-default' END AS index_name,
    iso_time(_time) AS "@timestamp",
    'process' AS "event.category",
    "EventID" ->> '$' AS "event.code",
    "Channel" ->> '$' AS "winlog.channel",
    "Computer" ->> '$' AS "host.name",
    "UserID" ->> '$' AS "user.id",
    "MessageNumber" ->> '$' AS "powershell.sequence",
    "MessageTotal" ->> '$' AS "powershell.total",
    CASE WHEN is_block THEN "ScriptBlockText" ->> '$' END AS "powershell.file.script_block_text",
    CASE WHEN is_block THEN "ScriptBlockId" ->> '$' END AS "powershell.file.script_block_id",
    "Path" ->> '$' AS "file.path"
FROM told;

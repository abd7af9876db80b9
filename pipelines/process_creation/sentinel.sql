-- What the Defender XDR connector makes of a process creation: DeviceProcessEvents of Azure Monitor's reference.
INSERT INTO DeviceProcessEvents BY NAME
SELECT * EXCLUDE (moment), moment AS TimeGenerated, 'DeviceProcessEvents' AS "Type" FROM process_columns;

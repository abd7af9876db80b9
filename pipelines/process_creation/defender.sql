-- What Defender XDR makes of a process creation: DeviceProcessEvents of the advanced hunting reference. ReportId
-- is a counter of the device; here it counts the rows.
INSERT INTO DeviceProcessEvents BY NAME
SELECT * EXCLUDE (moment), moment AS "Timestamp", row_number() OVER (ORDER BY _EventId) AS ReportId,
  DeviceName AS DeviceId
FROM process_columns;

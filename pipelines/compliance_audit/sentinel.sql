-- What the Defender XDR connector brings of a compliance record: CloudAppEvents of Azure Monitor's reference. The
-- Office 365 connector has none: OfficeActivity holds Exchange, SharePoint and Teams alone.
INSERT INTO CloudAppEvents BY NAME
SELECT * EXCLUDE (moment), moment AS TimeGenerated, 'CloudAppEvents' AS "Type" FROM cloud_app_events;

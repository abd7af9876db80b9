-- What Defender XDR makes of a compliance record: CloudAppEvents of the advanced hunting reference.
INSERT INTO CloudAppEvents BY NAME
SELECT * EXCLUDE (moment), moment AS "Timestamp" FROM cloud_app_events;

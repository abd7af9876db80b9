-- What the diagnostic setting makes of a request: MicrosoftGraphActivityLogs of Azure Monitor's reference.
INSERT INTO MicrosoftGraphActivityLogs BY NAME
SELECT
  _id AS _EventId,
  _time AS TimeGenerated,
  application AS AppId,
  TRY_CAST(nullif(authentication, '') AS INTEGER) AS ClientAuthMethod,
  address AS IPAddress,
  batch AS OperationId,
  request AS RequestId,
  method AS RequestMethod,
  uri AS RequestUri,
  TRY_CAST(nullif(bytes, '') AS INTEGER) AS ResponseSizeBytes,
  TRY_CAST(nullif(status, '') AS INTEGER) AS ResponseStatusCode,
  roles AS Roles,
  scopes AS Scopes,
  principal AS ServicePrincipalId,
  sign_in AS SignInActivityId,
  agent AS UserAgent,
  account AS UserId,
  'MicrosoftGraphActivityLogs' AS "Type"
FROM requests
WHERE _time IS NOT NULL;

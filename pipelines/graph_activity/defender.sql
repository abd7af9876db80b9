-- What Defender XDR makes of a request: GraphAPIAuditEvents of the advanced hunting schema, which has neither
-- application permissions nor a user agent. EntityType tells whose token it was ("user" in published queries); that it
-- is "servicePrincipal" for an application's is inferred. ReportId is modelled as the request's own identifier.
INSERT INTO GraphAPIAuditEvents BY NAME
SELECT
  _id AS _EventId,
  _time AS "Timestamp",
  _id AS ReportId,
  application AS ApplicationId,
  account AS AccountObjectId,
  CASE WHEN account <> '' THEN 'user' ELSE 'servicePrincipal' END AS EntityType,
  address AS IpAddress,
  batch AS OperationId,
  request AS RequestId,
  method AS RequestMethod,
  uri AS RequestUri,
  status AS ResponseStatusCode,
  scopes AS Scopes,
  principal AS ServicePrincipalId,
  sign_in AS UniqueTokenIdentifier
FROM requests
WHERE _time IS NOT NULL;

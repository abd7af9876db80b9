-- What the connector "Google Workspace Activities" makes of an activity: one row of GoogleWorkspaceReports an event.
-- Sources: the table's reference, and the connector in Azure-Sentinel (Solutions/GoogleWorkspaceReports).
--
-- The connector's transform takes events[].parameters over as EventParameters; what the JSON in that column looks
-- like is not documented. Modelled is the API's own list, each parameter's name before its value; the pack's queries
-- read a mapping from names to values as well.

CREATE OR REPLACE MACRO member(one, kind) AS coalesce(',"' || kind || '":' || CAST(one -> ('$.' || kind) AS VARCHAR), '');
CREATE OR REPLACE MACRO as_in_the_row(listed) AS
  CASE WHEN json_type(listed) = 'ARRAY' THEN
    json('[' || array_to_string(list_transform(CAST(listed AS JSON[]), lambda one:
      '{"name":' || CAST(one -> '$.name' AS VARCHAR) || member(one, 'value') || member(one, 'multiValue')
      || member(one, 'intValue') || member(one, 'multiIntValue') || member(one, 'boolValue')
      || member(one, 'messageValue') || member(one, 'multiMessageValue') || '}'), ',') || ']') END;

INSERT INTO GoogleWorkspaceReports BY NAME
SELECT
  _id AS _EventId,
  _time AS TimeGenerated,
  as_text(_application) AS IdApplicationName,
  as_text(_customer) AS IdCustomerId,
  CAST(epoch(_time) AS BIGINT) :: VARCHAR AS IdTime,
  as_text(_qualifier) AS IdUniqueQualifier,
  as_text(_caller) AS ActorCallerType,
  as_text(_email) AS ActorEmail,
  as_text(_key) AS ActorKey,
  as_text(_profile) AS ActorProfileId,
  as_text(_address) AS SrcIpAddr,
  as_text(_type) AS EventType,
  as_text(_name) AS EventName,
  as_in_the_row(_parameters) AS EventParameters,
  'GoogleWorkspaceReports' AS "Type"
FROM activity
-- The connector asks for 22 applications; neither Vault nor Takeout is among them.
WHERE _time IS NOT NULL AND as_text(_application) NOT IN ('vault', 'takeout');

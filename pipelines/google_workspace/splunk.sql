-- The search-time fields that Splunk shows of an activity's event.
--
-- The Splunk Add-on for Google Workspace keeps the API's JSON, but for `events`: each of them is an event of its own
-- and stands in `event` (data_sources/google_workspace.yml of splunk/security_content). KV_MODE=json shows a parameter
-- as event.parameters{}.name and .value, two lists that do not go together where another parameter has multiValue:
-- searches take a parameter out of the text.
INSERT INTO splunk_events BY NAME
SELECT _id, _time, 'gws:reports:' || as_text(_application) AS sourcetype,
    json_object(
        'kind', 'admin#reports#activity',
        'id', json_object('time', _happened, 'uniqueQualifier', _qualifier, 'applicationName', _application,
            'customerId', _customer),
        'actor', json_object('callerType', _caller, 'email', _email, 'profileId', _profile, 'key', _key),
        'ipAddress', _address,
        'event', json_object('type', _type, 'name', _name, 'parameters', _parameters)
    ) AS _raw,
    _fields
FROM activity
-- The add-on has no input for Vault, Takeout and some others.
WHERE as_text(_application) NOT IN ('vault', 'takeout', 'user_accounts', 'gmail');

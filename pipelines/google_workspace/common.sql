-- What the ingest models of several platforms share: one row an event of an activity, its parts as columns.

-- A parameter of the event by its name, as the API writes it: {name, value | multiValue | boolValue | …}.
CREATE OR REPLACE MACRO named(listed, wanted) AS
  CASE WHEN json_type(listed) = 'ARRAY' THEN list_filter(CAST(listed AS JSON[]), lambda one: one ->> '$.name' = wanted)[-1] END;
CREATE OR REPLACE MACRO value_of(listed, wanted) AS
  coalesce(named(listed, wanted) ->> '$.value', named(listed, wanted) ->> '$.intValue', named(listed, wanted) ->> '$.boolValue');
CREATE OR REPLACE MACRO values_of(listed, wanted) AS named(listed, wanted) -> '$.multiValue';

-- Exports of tables have the parts of the activity under their paths with dots. The names begin with an underscore, as
-- no key of a record does that might stand beside them.
CREATE OR REPLACE VIEW activity AS
SELECT
  *,
  coalesce("id.applicationName", "id" -> '$.applicationName') AS _application,
  coalesce("id.customerId", "id" -> '$.customerId') AS _customer,
  coalesce("id.time", "id" -> '$.time') AS _happened,
  coalesce("id.uniqueQualifier", "id" -> '$.uniqueQualifier') AS _qualifier,
  coalesce("actor.callerType", "actor" -> '$.callerType') AS _caller,
  coalesce("actor.email", "actor" -> '$.email') AS _email,
  coalesce("actor.key", "actor" -> '$.key') AS _key,
  coalesce("actor.profileId", "actor" -> '$.profileId') AS _profile,
  coalesce("event.name", "event" -> '$.name') AS _name,
  coalesce("event.type", "event" -> '$.type') AS _type,
  coalesce("event.parameters", "event" -> '$.parameters') AS _parameters,
  "ipAddress" AS _address
FROM raw;

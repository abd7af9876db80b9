-- What the ingest models of several platforms share: one row an act, its properties as objects.
CREATE OR REPLACE MACRO listed(json) AS
  CASE WHEN json_type(json) = 'ARRAY' THEN CAST(json AS JSON[]) ELSE CAST([] AS JSON[]) END;

-- A value as Entra's own audit log has it: null where it is empty, else JSON text, in quotation marks unless it is a list
-- or an object already.
CREATE OR REPLACE MACRO as_in_entra(text) AS
  CASE WHEN coalesce(text, '') = '' THEN NULL
    WHEN json_type(TRY_CAST(text AS JSON)) IN ('ARRAY', 'OBJECT') THEN CAST(json(TRY_CAST(text AS JSON)) AS VARCHAR)
    ELSE CAST(to_json(text) AS VARCHAR) END;
CREATE OR REPLACE VIEW acts AS
SELECT *,
  -- An act of Entra's own audit log lacks the period that the unified audit log puts behind its name.
  CASE WHEN as_text("Operation") = '' OR ends_with(as_text("Operation"), '.') THEN as_text("Operation")
    ELSE as_text("Operation") || '.' END AS activity,
  list_filter(listed("ModifiedProperties"), lambda one: json_type(one) = 'OBJECT') AS changed_properties,
  coalesce(nullif(as_text("ClientIP"), ''), as_text("ActorIpAddress")) AS address,
  -- Only Entra's own log has the category of an act.
  as_text("Category") <> '' AS of_entra
FROM raw;

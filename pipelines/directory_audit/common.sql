-- What the ingest models of several platforms share: one row an act, its properties as objects.
CREATE OR REPLACE MACRO listed(json) AS
  CASE WHEN json_type(json) = 'ARRAY' THEN CAST(json AS JSON[]) ELSE CAST([] AS JSON[]) END;

CREATE OR REPLACE VIEW acts AS
SELECT *,
  -- An act of Entra's own audit log lacks the period that the unified audit log puts behind its name.
  CASE WHEN as_text("Operation") = '' OR ends_with(as_text("Operation"), '.') THEN as_text("Operation")
    ELSE as_text("Operation") || '.' END AS activity,
  list_filter(listed("ModifiedProperties"), lambda one: json_type(one) = 'OBJECT') AS properties,
  coalesce(nullif(as_text("ClientIP"), ''), as_text("ActorIpAddress")) AS address
FROM raw;

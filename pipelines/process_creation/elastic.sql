-- What Elastic holds of a process creation: the fields that Elastic Defend, Winlogbeat and the Windows packages share
-- (elastic/integrations, packages/endpoint, packages/windows, packages/system).

INSERT INTO elastic_documents BY NAME
SELECT
    _id,
    'logs-endpoint.events.process-default' AS index_name,
    iso_time(_time) AS "@timestamp",
    'process' AS "event.category",
    COALESCE("EventType", '"start"'::JSON) AS "event.type",
    "Image" ->> '$' AS "process.executable",
    last_part("Image" ->> '$') AS "process.name",
    "CommandLine" ->> '$' AS "process.command_line",
    "ProcessId" ->> '$' AS "process.pid",
    "CurrentDirectory" ->> '$' AS "process.working_directory",
    digest("Hashes", 'MD5') AS "process.hash.md5",
    digest("Hashes", 'SHA1') AS "process.hash.sha1",
    digest("Hashes", 'SHA256') AS "process.hash.sha256",
    digest("Hashes", 'IMPHASH') AS "process.pe.imphash",
    -- Elastic Defend writes the level in lower case; Sysmon 1 and Security 4688 keep their own field.
    CASE WHEN "EventID" ->> '$' IS NULL THEN lower("IntegrityLevel" ->> '$') END
        AS "process.Ext.token.integrity_level_name",
    CASE WHEN "EventID" ->> '$' = '1' THEN "IntegrityLevel" ->> '$' END AS "winlog.event_data.IntegrityLevel",
    CASE WHEN "EventID" ->> '$' = '4688' THEN "IntegrityLevel" ->> '$' END AS "winlog.event_data.MandatoryLabel",
    "OriginalFileName" ->> '$' AS "process.pe.original_file_name",
    "Product" ->> '$' AS "process.pe.product",
    "Company" ->> '$' AS "process.pe.company",
    "Description" ->> '$' AS "process.pe.description",
    "ParentImage" ->> '$' AS "process.parent.executable",
    last_part("ParentImage" ->> '$') AS "process.parent.name",
    "ParentCommandLine" ->> '$' AS "process.parent.command_line",
    "ParentProcessId" ->> '$' AS "process.parent.pid",
    regexp_extract("User" ->> '$', '[^\\]*$') AS "user.name",
    regexp_extract("User" ->> '$', '^([^\\]*)\\', 1) AS "user.domain",
    "Computer" ->> '$' AS "host.name"
FROM raw;

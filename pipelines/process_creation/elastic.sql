-- What Elastic holds of a process creation: the fields that Elastic Defend, Winlogbeat and the Windows packages share
-- (elastic/integrations, packages/endpoint, packages/windows, packages/system).

INSERT INTO elastic_pieces BY NAME
SELECT
    id,
    'logs-endpoint.events.process-default' AS index_name,
    json_object(
        '@timestamp', iso_time(time),
        'event.category', 'process',
        'event.type', COALESCE(record ->> '$.EventType', 'start'),
        'process.executable', record ->> '$.Image',
        'process.name', last_part(record ->> '$.Image'),
        'process.command_line', record ->> '$.CommandLine',
        'process.pid', record ->> '$.ProcessId',
        'process.working_directory', record ->> '$.CurrentDirectory',
        'process.hash.md5', digest(record, 'MD5'),
        'process.hash.sha1', digest(record, 'SHA1'),
        'process.hash.sha256', digest(record, 'SHA256'),
        'process.pe.imphash', digest(record, 'IMPHASH'),
        -- Elastic Defend writes the level in lower case; Sysmon 1 and Security 4688 keep their own field.
        'process.Ext.token.integrity_level_name', CASE WHEN record ->> '$.EventID' IS NULL
            THEN lower(record ->> '$.IntegrityLevel') END,
        'winlog.event_data.IntegrityLevel', CASE WHEN record ->> '$.EventID' = '1'
            THEN record ->> '$.IntegrityLevel' END,
        'winlog.event_data.MandatoryLabel', CASE WHEN record ->> '$.EventID' = '4688'
            THEN record ->> '$.IntegrityLevel' END,
        'process.pe.original_file_name', record ->> '$.OriginalFileName',
        'process.pe.product', record ->> '$.Product',
        'process.pe.company', record ->> '$.Company',
        'process.pe.description', record ->> '$.Description',
        'process.parent.executable', record ->> '$.ParentImage',
        'process.parent.name', last_part(record ->> '$.ParentImage'),
        'process.parent.command_line', record ->> '$.ParentCommandLine',
        'process.parent.pid', record ->> '$.ParentProcessId',
        'user.name', regexp_extract(record ->> '$.User', '[^\\]*$'),
        'user.domain', regexp_extract(record ->> '$.User', '^([^\\]*)\\', 1),
        'host.name', record ->> '$.Computer'
    ) AS document
FROM raw;

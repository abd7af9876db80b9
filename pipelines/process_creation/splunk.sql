-- The search-time fields that Splunk shows of a process creation.
--
-- Process creations carry the CIM Endpoint.Processes names ("Endpoint" in the Common Information Model
-- manual): process is the command line, process_name the file name. user is modelled without its domain, as
-- Security 4688's user and the reference query's AccountName are; an add-on that aliases Sysmon's User to
-- user shows DOMAIN\user, which changes what an alert shows and what a rule on User finds, nothing else.
-- Beside them stand the events' own names, of the form in which an event was collected: XML (renderXml = true), or
-- text, where a record has the key RenderedAsText. Security 4688 has the two parts of the account apart. In text its
-- fields are the labels of the message, words joined by underscores, its two accounts are values of one field, and the
-- host is in the head of the event, also for Sysmon (Splunk Add-on for Microsoft Windows, sourcetype WinEventLog).
CREATE OR REPLACE MACRO file_name(path) AS regexp_replace(path, '(?s)^.*[\\/]', '');
CREATE OR REPLACE MACRO without_domain(account) AS regexp_replace(account, '^.*\\', '');
INSERT INTO splunk_events BY NAME
WITH told AS (
    SELECT *, coalesce("EventID" ->> '$' = '4688', false) AS is_security,
        "RenderedAsText" ->> '$' IS NOT NULL AS is_text,
        own_text("Image") AS started, own_text("ParentImage") AS starter, own_text("User") AS account
    FROM raw
)
SELECT
    _id, _time, CASE WHEN is_text THEN 'WinEventLog' ELSE 'XmlWinEventLog' END AS sourcetype, ['process', 'report'] AS tag, _record AS _raw,
    own_text("CommandLine") AS process,
    started AS process_path,
    file_name(started) AS process_name,
    own_text("ParentCommandLine") AS parent_process,
    starter AS parent_process_path,
    file_name(starter) AS parent_process_name,
    own_text("CurrentDirectory") AS process_current_directory,
    own_text("Hashes") AS process_hash,
    own_text("IntegrityLevel") AS process_integrity_level,
    own_text("OriginalFileName") AS original_file_name,
    own_text("ParentProcessGuid") AS parent_process_guid,
    own_text("ParentProcessId") AS parent_process_id,
    own_text("ProcessGuid") AS process_guid,
    own_text("ProcessId") AS process_id,
    own_text("Computer") AS dest,
    without_domain(account) AS "user",
    CASE WHEN is_security THEN '4688' ELSE '1' END AS "EventCode",
    CASE WHEN is_text THEN 'WinEventLog:' ELSE 'XmlWinEventLog:' END
        || CASE WHEN is_security THEN 'Security' ELSE 'Microsoft-Windows-Sysmon/Operational' END AS source,
    CASE WHEN NOT is_text THEN own_text("Computer") END AS "Computer",
    CASE WHEN is_text THEN own_text("Computer") END AS "ComputerName",
    own_text("ParentCommandLine") AS "ParentCommandLine",
    own_text("Company") AS "Company",
    own_text("Description") AS "Description",
    own_text("Product") AS "Product",
    CASE WHEN NOT (is_security AND is_text) THEN own_text("CommandLine") END AS "CommandLine",
    CASE WHEN is_security AND NOT is_text THEN started END AS "NewProcessName",
    CASE WHEN is_security AND NOT is_text THEN starter END AS "ParentProcessName",
    CASE WHEN is_security AND NOT is_text THEN without_domain(account) END AS "SubjectUserName",
    CASE WHEN is_security AND NOT is_text THEN domain END AS "SubjectDomainName",
    CASE WHEN is_security AND is_text THEN started END AS "New_Process_Name",
    CASE WHEN is_security AND is_text THEN own_text("CommandLine") END AS "Process_Command_Line",
    CASE WHEN is_security AND is_text THEN starter END AS "Creator_Process_Name",
    CASE WHEN is_security AND is_text AND account IS NOT NULL THEN [without_domain(account), '-'] END AS "Account_Name",
    CASE WHEN is_security AND is_text AND domain IS NOT NULL THEN [domain, '-'] END AS "Account_Domain",
    -- Sysmon's Image, CommandLine, ParentImage, User: the events' own.
    CASE WHEN NOT is_security THEN _fields END AS _fields
FROM (
    SELECT *, CASE WHEN contains(account, '\') THEN regexp_extract(account, '^(.*)\\', 1) END AS domain FROM told
);

-- The data set Endpoint.Processes of the Common Information Model (Splunk_SA_CIM, Endpoint.json): events with
-- the tags process and report, each field under the name of the data set. The model calculates some fields,
-- which are "unknown" where the event has none; a missing process name it takes from the command line.
-- An empty value is not in the summary of an accelerated model, so it is null here.
CREATE OR REPLACE MACRO known(value) AS coalesce(nullif(value, ''), 'unknown');
CREATE OR REPLACE MACRO started(command_line) AS CASE
    WHEN regexp_matches(command_line, '^\s*(?:".[^\n]*\\([^"]+)")')
        THEN regexp_extract(command_line, '^\s*(?:".[^\n]*\\([^"]+)")', 1)
    WHEN regexp_matches(command_line, '^(?:.[^\n]*\\)?([^\s"]+)(?:\s|$)')
        THEN regexp_extract(command_line, '^(?:.[^\n]*\\)?([^\s"]+)(?:\s|$)', 1)
    ELSE 'unknown' END;
INSERT INTO "Endpoint.Processes" BY NAME
SELECT
    _id, _time,
    known(dest) AS "Processes.dest",
    known("user") AS "Processes.user",
    known(process) AS "Processes.process",
    known(parent_process) AS "Processes.parent_process",
    known(original_file_name) AS "Processes.original_file_name",
    coalesce(nullif(process_name, ''), started(process)) AS "Processes.process_name",
    coalesce(nullif(parent_process_name, ''), started(parent_process)) AS "Processes.parent_process_name",
    nullif(process_path, '') AS "Processes.process_path",
    nullif(parent_process_path, '') AS "Processes.parent_process_path",
    nullif(process_current_directory, '') AS "Processes.process_current_directory",
    nullif(process_hash, '') AS "Processes.process_hash",
    nullif(process_integrity_level, '') AS "Processes.process_integrity_level",
    nullif(process_guid, '') AS "Processes.process_guid",
    nullif(process_id, '') AS "Processes.process_id",
    nullif(parent_process_guid, '') AS "Processes.parent_process_guid",
    nullif(parent_process_id, '') AS "Processes.parent_process_id"
FROM splunk_events;

"""A month of one tenant's Exchange audit records as a file, made by DuckDB: a million a few seconds."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb

#: The log source of the records.
SOURCE = "m365"
#: Kinds of records with their share of the whole in per cent: the operations, the record type.
_KINDS = """(VALUES
    (0, 30, 50, ['MailItemsAccessed']),
    (30, 55, 2, ['Create', 'Send', 'Update', 'FolderBind', 'MailItemsAccessed']),
    (55, 80, 3, ['Move', 'MoveToDeletedItems', 'SoftDelete', 'HardDelete']),
    (80, 100, 1, ['Set-Mailbox', 'Set-User', 'New-InboxRule', 'Add-MailboxPermission', 'Set-MailboxPlan'])
) AS kinds(low, high, type, operations)"""
_CLIENTS = """[
    'Client=MSExchangeRPC', 'Client=OWA;Action=ViaProxy', 'Client=REST;;', 'Client=REST;Client=RESTSystem;;',
    'Client=OutlookService;Outlook-iOS/2.0;', 'Client=POP3/IMAP4;Protocol=IMAP4',
    'Client=ActiveSync;UserAgent=Apple-iPhone9C1/1402.100;Action=/Microsoft-Server-ActiveSync/default.eas',
    'Client=WebServices;Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.13801; Pro)[AppId=a];',
    'Client=OWA;Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Edge/14;'
]"""
#: Random numbers of a record that do not depend on threads or on the order of rows.
_RANDOM = "CAST(hash(i, {salt}) % {below} AS BIGINT)"


def _random(salt: int, below: int | str) -> str:
    return _RANDOM.format(salt=salt, below=below)


def write(path: Path, count: int, users: int = 2000, attacks: int = 20, first: int = 0) -> None:
    """Write ``count`` records of about 1 KB as JSON lines, the same for the same arguments.

    One record in ten is of another's mailbox. ``attacks`` records of a scripted client are spread over the
    whole, and one account opens ten mailboxes in an hour. ``first`` is the number of the first record.
    """
    every = max(1, count // max(1, attacks))
    sql = f"""
    COPY (
    SELECT json_merge_patch('{{}}', to_json(records)) FROM (
    WITH drawn AS (
        SELECT i, type,
            list_extract(operations, 1 + {_random(1, "len(operations)")}) AS operation,
            'user' || {_random(2, users)} || '@contoso.example' AS account,
            CASE WHEN {_random(3, 10)} = 0 THEN 'user' || {_random(4, users)} || '@contoso.example' END
                AS other,
            TIMESTAMP '2026-03-01' + to_seconds({_random(5, 31 * 86400)}) AS moment,
            '203.0.' || {_random(6, 256)} || '.' || {_random(7, 256)} AS address,
            CASE WHEN i % {every} = 0 THEN 'Client=WebServices;python-requests/2.25.1[AppId=b];'
                ELSE list_extract({_CLIENTS}, 1 + {_random(8, 9)}) END AS client
        FROM range({first}, {first + count}) AS rows(i)
        JOIN {_KINDS} ON {_random(9, 100)} >= low AND {_random(9, 100)} < high
    ), known AS (
        SELECT *, coalesce(other, account) AS owner FROM drawn
    )
    SELECT strftime(moment, '%Y-%m-%dT%H:%M:%S') AS CreationTime,
        md5(i::VARCHAR) AS Id, operation AS Operation,
        '6f9619ff-8b86-4d01-b42d-00cf4fc964ff' AS OrganizationId, type AS RecordType,
        'Succeeded' AS ResultStatus, '1003200' || {_random(2, users)} AS UserKey, 0 AS UserType, 1 AS Version,
        'Exchange' AS Workload,
        CASE WHEN type = 1 THEN address || ':' || (1024 + {_random(10, 60000)})
            WHEN type <> 50 THEN address END AS ClientIP,
        account AS UserId, '00000003-0000-0000-c000-000000000000' AS AppId,
        CASE WHEN type <> 1 THEN address END AS ClientIPAddress,
        CASE WHEN type <> 1 THEN client END AS ClientInfoString,
        CASE WHEN type <> 1 THEN false END AS ExternalAccess,
        CASE WHEN type <> 1 THEN 0 END AS InternalLogonType,
        CASE WHEN type <> 1 THEN CASE WHEN other IS NULL THEN 0 ELSE 2 END END AS LogonType,
        CASE WHEN type <> 1 THEN 'S-1-5-21-1-2-3-' || {_random(2, users)} END AS LogonUserSid,
        CASE WHEN type <> 1 THEN md5(owner) END AS MailboxGuid,
        CASE WHEN type <> 1 THEN 'S-1-5-21-1-2-3-' || md5(owner)[:6] END AS MailboxOwnerSid,
        CASE WHEN type <> 1 THEN owner END AS MailboxOwnerUPN,
        'contoso.example' AS OrganizationName, 'AM6PR01MB0001 (15.20.8489.018)' AS OriginatingServer,
        CASE WHEN type = 1 THEN 'EURPR01A001.PROD.OUTLOOK.COM/contoso.example/' || owner END AS ObjectId,
        CASE WHEN type = 1 THEN [
            {{'Name': 'Identity', 'Value': owner}}, {{'Name': 'AccessRights', 'Value': 'ReadPermission'}},
            {{'Name': 'Comment', 'Value': repeat('note ' || i || ' ', 20)}}] END AS Parameters,
        CASE WHEN type IN (2, 50) THEN {{'Id': repeat(md5(i::VARCHAR), 2), 'Subject': 'Subject of item ' || i,
            'InternetMessageId': '<' || md5(i::VARCHAR) || '@contoso.example>',
            'ParentFolder': {{'Id': repeat(md5(owner), 2), 'Path': '\\Inbox'}}}} END AS Item,
        CASE WHEN type = 3 THEN [{{'Id': repeat(md5(i::VARCHAR), 2), 'Subject': 'Subject ' || i,
            'ParentFolder': {{'Id': repeat(md5(owner), 2), 'Path': '\\Inbox'}}}}] END AS AffectedItems,
        CASE WHEN type = 50 THEN [{{'Name': 'MailAccessType', 'Value': 'Bind'}},
            {{'Name': 'IsThrottled', 'Value': 'False'}}] END AS OperationProperties
    FROM known
    ) AS records
    ) TO '{str(path).replace("'", "''")}' (FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x1e')
    """
    with duckdb.connect() as connection:
        connection.execute(sql)
        if first == 0:
            _burst(path)


def _burst(path: Path) -> None:
    """Ten mailboxes that one account works in within an hour."""

    with path.open("a", encoding="utf-8") as file:
        for n in range(10):
            record = {
                "CreationTime": f"2026-03-15T10:{n * 5:02d}:00",
                "Id": f"burst-{n}",
                "Operation": "Create",
                "RecordType": 2,
                "Workload": "Exchange",
                "UserId": "intruder@contoso.example",
                "ClientIP": "198.51.100.7",
                "ClientIPAddress": "198.51.100.7",
                "ClientInfoString": "Client=OWA;Action=ViaProxy",
                "LogonType": 2,
                "MailboxGuid": f"burst-mailbox-{n}",
                "MailboxOwnerUPN": f"user{n}@contoso.example",
            }
            file.write(json.dumps(record) + "\n")

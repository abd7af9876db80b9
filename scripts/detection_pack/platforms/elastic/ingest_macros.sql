-- What the Elastic models of log sources may use, and what they fill.
--
-- In: raw(id, time, record) of one source. Out: elastic_pieces, any number of rows a record: its index and a part of the
-- document, with flat dotted names. The pieces of a record are one document; empty and null values are dropped.

CREATE TABLE IF NOT EXISTS elastic_pieces(id VARCHAR, index_name VARCHAR, document JSON);

-- A time as documents have it, in milliseconds.
CREATE OR REPLACE TEMP MACRO iso_time(moment) AS strftime(moment, '%Y-%m-%dT%H:%M:%S.%gZ');

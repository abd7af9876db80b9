-- What the ingest models of several platforms share.

-- A value as the text of an XML element. Windows writes quotes and line breaks as they are.
CREATE OR REPLACE MACRO xml_text(value) AS
  replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;');

-- The statements that install guard.sql in the current database, none when this very text is installed with these names: its
-- text; the role that is to be its definer (empty: whoever installs it); the accounts of the guard's login (user@host,
-- divided by commas) or its role (without @); and the daemons' logins (divided by commas; NULL or empty: lease only).
--
-- A role cannot log in, and it stays when accounts come and go. Only with full fencing it may lock accounts, see the sessions
-- of others and end them. Executed one by one: each of these statements commits by itself, the version comes last.
WITH RECURSIVE given AS (
  SELECT %s AS text, COALESCE(%s, '') AS owner, %s AS callers, COALESCE(%s, '') AS logins,
         CONCAT(CHAR(10 USING utf8mb4), '//', CHAR(10 USING utf8mb4)) AS divider
), wanted AS (
  SELECT given.*, MD5(CONCAT_WS(divider, text, owner, callers, logins)) AS version,
         CONCAT('`', REPLACE(owner, '`', '``'), '`') AS definer,
         -- In the name of a whole database, _ stands for any letter.
         CONCAT('`', REPLACE(DATABASE(), '_', CONCAT(CHAR(92 USING utf8mb4), '_')), '`') AS place
    FROM given
), parts (part, number, rest, divider) AS (
  SELECT CAST('' AS CHAR(65535)), 0, CONCAT(text, divider), divider FROM given
  UNION ALL
  SELECT SUBSTRING_INDEX(rest, divider, 1), number + 1, SUBSTRING(rest, LOCATE(divider, rest) + CHAR_LENGTH(divider)), divider
    FROM parts WHERE rest <> ''
), accounts (account, rest) AS (
  SELECT CAST('' AS CHAR(300)), CONCAT(callers, ',') FROM given
  UNION ALL
  SELECT SUBSTRING_INDEX(rest, ',', 1), SUBSTRING(rest, LOCATE(',', rest) + 1) FROM accounts WHERE rest <> ''
), functions (name) AS (
  VALUES ('look'), ('take'), ('fence'), ('renew'), ('release'), ('request')
)
SELECT statement FROM (
  SELECT 1 AS step, 0 AS number, CONCAT('CREATE ROLE IF NOT EXISTS ', definer) AS statement FROM wanted WHERE owner <> ''
  UNION ALL
  SELECT 2, 0, CONCAT('GRANT SELECT, EXECUTE ON ', place, '.* TO ', definer) FROM wanted WHERE owner <> ''
  UNION ALL
  SELECT 3, 0, CONCAT('GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO ', definer) FROM wanted
   WHERE owner <> '' AND logins <> ''
  UNION ALL
  SELECT 3, 0, CONCAT('REVOKE CREATE USER, PROCESS, CONNECTION ADMIN ON *.* FROM ', definer) FROM wanted
   WHERE owner <> '' AND logins = ''
  UNION ALL
  SELECT 4, 0, CONCAT('GRANT SELECT ON mysql.global_priv TO ', definer) FROM wanted WHERE owner <> '' AND logins <> ''
  UNION ALL
  SELECT 5, parts.number,
         IF(owner = '', part, REPLACE(part, 'DEFINER = CURRENT_USER', CONCAT('DEFINER = ', definer)))
    FROM wanted JOIN parts ON parts.number > 0
  UNION ALL
  SELECT 6, 0, CONCAT('GRANT UPDATE ON dagster_guard_lease TO ', definer) FROM wanted WHERE owner <> ''
  UNION ALL
  -- A login that is none of them any more stays fenced: its daemon may still run.
  SELECT 7, 0, CONCAT('UPDATE dagster_guard_lease SET logins = ', IF(logins = '', 'NULL', CONCAT(
           '(SELECT GROUP_CONCAT(DISTINCT name) FROM JSON_TABLE(CONCAT(''["'', REPLACE(CONCAT_WS('','', ', QUOTE(logins),
           ', logins), '','', ''","''), ''"]''), ''$[*]'' COLUMNS (name VARCHAR(128) PATH ''$'')) AS names)'))) FROM wanted
  UNION ALL
  SELECT 8, 0, CONCAT('GRANT EXECUTE ON PROCEDURE dagster_guard_', name, ' TO ',
                      IF(LOCATE('@', account) = 0, CONCAT('`', REPLACE(account, '`', '``'), '`'),
                         CONCAT(QUOTE(SUBSTRING(account, 1, CHAR_LENGTH(account) - LOCATE('@', REVERSE(account)))), '@',
                                QUOTE(SUBSTRING_INDEX(account, '@', -1)))))
    FROM wanted JOIN functions JOIN accounts ON account <> ''
  UNION ALL
  SELECT 9, 0, CONCAT('ALTER TABLE dagster_guard_lease COMMENT = ', QUOTE(version)) FROM wanted
) AS statements, wanted
WHERE version <> COALESCE((SELECT TABLE_COMMENT FROM information_schema.TABLES
                            WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'dagster_guard_lease'), '')
ORDER BY step, statements.number

-- Who may do what in Dagster's tables. Answers with the statements that are missing, for whoever may grant there. Given are
-- the logins (JSON: web, daemon, code, run, read), each of which has a role of its name, and the role through which every
-- login reads (NULL: a server of the user's own).
--
-- A login writes what its process writes in Dagster's source. The letters: a INSERT, w UPDATE, d DELETE. Everybody reads.
-- More that somebody has granted to a role stays, also for a whole database. The fence (fence.sql) judges rows; this is about
-- tables, and concerns logins that the fence does not know.
WITH given AS (
  SELECT %s AS logins, %s AS app
), tables (place, web, daemon, code, run, reader) AS (VALUES
  ('runs', 'awd', 'aw', '', 'aw', ''),
  ('run_tags', 'awd', 'awd', '', 'awd', ''),
  ('snapshots', 'awd', 'a', '', 'a', ''),
  ('event_logs', 'awd', 'a', 'a', 'a', ''),
  ('asset_keys', 'awd', 'aw', 'aw', 'aw', ''),
  ('asset_event_tags', 'awd', 'a', 'a', 'a', ''),
  ('asset_check_executions', 'awd', 'aw', 'aw', 'aw', ''),
  ('dynamic_partitions', 'awd', 'ad', 'ad', 'ad', ''),
  -- The first step of a pool makes its limit and slots, whoever runs it. A step waits in pending_steps.
  ('concurrency_limits', 'awd', 'awd', '', 'awd', ''),
  ('concurrency_slots', 'awd', 'awd', '', 'awd', ''),
  ('pending_steps', 'awd', 'awd', '', 'awd', ''),
  ('bulk_actions', 'awd', 'aw', '', '', ''),
  ('backfill_tags', 'awd', 'a', '', '', ''),
  ('jobs', 'awd', 'awd', '', '', ''),
  ('instigators', 'awd', 'awd', '', '', ''),
  -- A code server keeps the version of its state there (defs_state_storage). The daemon's cursors are behind the fence.
  ('kvs', 'awd', 'aw', 'aw', 'aw', ''),
  -- The first page that a webserver shows makes its row, a read-only webserver's too.
  ('instance_info', 'a', 'a', '', '', 'a'),
  -- The command line wipes them. Only a daemon writes them: the fence refuses the rows of webservers, and says why.
  ('daemon_heartbeats', 'awd', 'awd', '', '', ''),
  ('job_ticks', 'awd', 'awd', '', '', ''),
  ('asset_daemon_asset_evaluations', 'awd', 'awd', '', '', ''),
  -- Of migrations. `dagster instance reindex` marks what it has done.
  ('secondary_indexes', 'aw', '', '', '', ''),
  ('alembic_version', '', '', '', '', '')
), owned AS (
  -- A table of a later Dagster is for the services until it stands above. The lease of the daemon is none.
  SELECT here.TABLE_NAME AS place, COALESCE(t.web, 'awd') AS web, COALESCE(t.daemon, 'awd') AS daemon,
         COALESCE(t.code, '') AS code, COALESCE(t.run, '') AS run, COALESCE(t.reader, '') AS reader
    FROM given JOIN information_schema.TABLES here LEFT JOIN tables t ON t.place = here.TABLE_NAME
   WHERE here.TABLE_SCHEMA = DATABASE() AND here.TABLE_TYPE = 'BASE TABLE' AND LEFT(here.TABLE_NAME, 13) <> 'dagster_guard'
     AND (t.place IS NOT NULL OR given.app IS NOT NULL)
), letters (letter, privilege) AS (VALUES
  ('a', 'Insert'), ('w', 'Update'), ('d', 'Delete')
), kinds (kind) AS (VALUES
  ('web'), ('daemon'), ('code'), ('run'), ('read')
), logins AS (
  SELECT kind, JSON_VALUE(logins, CONCAT('$.', kind)) AS login FROM given JOIN kinds
), places AS (
  -- In a grant on a whole database, _ stands for any letter, so it has a backslash before it.
  SELECT DATABASE() AS name, REPLACE(DATABASE(), '_', CONCAT(CHAR(92), '_')) AS pattern
), members AS (
  -- A role has what the roles have that were granted to it.
  SELECT DISTINCT login, login AS role FROM logins
  UNION
  SELECT l.login, m.Role FROM logins l JOIN mysql.roles_mapping m ON m.Host = '' AND m.User = l.login
), whole AS (
  SELECT m.login, MAX(d.Select_priv = 'Y') AS `select`, MAX(d.Insert_priv = 'Y') AS `insert`,
         MAX(d.Update_priv = 'Y') AS `update`, MAX(d.Delete_priv = 'Y') AS `delete`
    FROM members m JOIN places JOIN mysql.db d ON d.Host = '' AND d.User = m.role AND d.Db IN (name, pattern)
   GROUP BY m.login
), wanted AS (
  SELECT DISTINCT o.place, l.login, p.letter, p.privilege
    FROM owned o JOIN logins l JOIN letters p JOIN places
    LEFT JOIN whole w ON w.login = l.login
    LEFT JOIN mysql.tables_priv t ON t.Host = '' AND t.Db = places.name AND t.User = l.login AND t.Table_name = o.place
   WHERE LOCATE(p.letter, CASE l.kind WHEN 'web' THEN o.web WHEN 'daemon' THEN o.daemon WHEN 'code' THEN o.code
                                      WHEN 'run' THEN o.run ELSE o.reader END) > 0
     AND NOT COALESCE(CASE p.letter WHEN 'a' THEN w.`insert` WHEN 'w' THEN w.`update` ELSE w.`delete` END, 0)
     AND NOT COALESCE(FIND_IN_SET(p.privilege, t.Table_priv), 0)
)
SELECT statement FROM (
  SELECT 1 AS step, CONCAT('GRANT SELECT ON `', pattern, '`.* TO `', l.login, '`') AS statement
    FROM (SELECT DISTINCT login FROM logins) l JOIN places LEFT JOIN whole w ON w.login = l.login
   WHERE NOT COALESCE(w.`select`, 0)
  UNION ALL
  SELECT 2, CONCAT('GRANT ', GROUP_CONCAT(UPPER(privilege) ORDER BY letter SEPARATOR ', '), ' ON `', place, '` TO `', login, '`')
    FROM wanted GROUP BY place, login
  UNION ALL
  -- What Dagster knows of the partitions of an asset is kept beside it by whoever looks, a read-only webserver too.
  SELECT 3, CONCAT('GRANT UPDATE (cached_status_data) ON `', c.TABLE_NAME, '` TO `', l.login, '`')
    FROM logins l JOIN places JOIN information_schema.COLUMNS c LEFT JOIN whole w ON w.login = l.login
    LEFT JOIN mysql.tables_priv t ON t.Host = '' AND t.Db = places.name AND t.User = l.login AND t.Table_name = c.TABLE_NAME
    LEFT JOIN mysql.columns_priv p ON p.Host = '' AND p.Db = places.name AND p.User = l.login
                                  AND p.Table_name = c.TABLE_NAME AND p.Column_name = c.COLUMN_NAME
   WHERE l.kind = 'read' AND c.TABLE_SCHEMA = DATABASE() AND c.TABLE_NAME = 'asset_keys' AND c.COLUMN_NAME = 'cached_status_data'
     AND NOT COALESCE(w.`update`, 0) AND NOT COALESCE(FIND_IN_SET('Update', t.Table_priv), 0)
     AND NOT COALESCE(FIND_IN_SET('Update', p.Column_priv), 0)
) AS statements
ORDER BY step, statement

-- Who may do what in Dagster's tables. Answers with the statements that are missing, for the owner of the tables. Given are
-- the logins (JSON: web, daemon, code, run, read), and the group role through which every login once wrote every table
-- (NULL: a server of the user's own, where nothing is taken away).
--
-- A login writes what its process writes in Dagster's source. The letters are PostgreSQL's own: a INSERT, w UPDATE,
-- d DELETE. Everybody reads. More that somebody has granted to a login stays. The fence (fence.sql) judges rows; this is
-- about tables, and concerns logins that the fence does not know.
--
-- The login of code servers has no right that the login of runs lacks, so code servers of an earlier release, which have
-- that one, go on until they are replaced.
WITH given AS (
  SELECT %s::json AS logins, %s::text AS app
), tables (place, web, daemon, code, run, read) AS (VALUES
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
  -- A table of a later Dagster is for the services until it stands above.
  SELECT c.oid, c.relname AS place, format('%%I.%%I', n.nspname, c.relname) AS name, c.relowner, c.relacl,
         coalesce(t.web, 'awd') AS web, coalesce(t.daemon, 'awd') AS daemon, coalesce(t.code, '') AS code,
         coalesce(t.run, '') AS run, coalesce(t.read, '') AS read
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN tables t ON t.place = c.relname, given
   WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND (t.place IS NOT NULL OR given.app IS NOT NULL)
), letters (letter, privilege) AS (VALUES
  ('a', 'INSERT'), ('w', 'UPDATE'), ('d', 'DELETE'), ('r', 'SELECT')
), logins AS (
  SELECT kind, login, r.oid FROM given, json_each_text(logins) AS known(kind, login) JOIN pg_roles r ON r.rolname = login
), wanted AS (
  SELECT DISTINCT o.oid, o.name, l.login, p.letter, p.privilege
    FROM owned o CROSS JOIN logins l CROSS JOIN given
    JOIN letters p ON p.letter = 'r'
      OR position(p.letter IN CASE l.kind WHEN 'web' THEN o.web WHEN 'daemon' THEN o.daemon WHEN 'code' THEN o.code
                                          WHEN 'run' THEN o.run ELSE o.read END) > 0
   WHERE NOT pg_has_role(l.oid, o.relowner, 'USAGE')  -- a login that is the owner's may do all
     AND CASE WHEN given.app IS NULL OR p.letter = 'r' THEN NOT has_table_privilege(l.oid, o.oid, p.privilege)
              ELSE NOT EXISTS (SELECT FROM aclexplode(o.relacl) a WHERE a.grantee = l.oid AND a.privilege_type = p.privilege)
         END
), sequences AS (
  -- What gives a new row its number, to whoever inserts rows.
  SELECT DISTINCT format('%%I.%%I', n.nspname, s.relname) AS name, l.login
    FROM owned o CROSS JOIN logins l CROSS JOIN given
    JOIN pg_depend d ON d.refobjid = o.oid AND d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass
                    AND d.deptype = 'a'
    JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
   WHERE NOT pg_has_role(l.oid, o.relowner, 'USAGE')
     AND position('a' IN CASE l.kind WHEN 'web' THEN o.web WHEN 'daemon' THEN o.daemon WHEN 'code' THEN o.code
                                     WHEN 'run' THEN o.run ELSE o.read END) > 0
     AND CASE WHEN given.app IS NULL THEN NOT has_sequence_privilege(l.oid, s.oid, 'USAGE')
              ELSE NOT EXISTS (SELECT FROM aclexplode(s.relacl) a WHERE a.grantee = l.oid AND a.privilege_type = 'USAGE') END
)
SELECT statement FROM (
  SELECT 1 AS step, format('GRANT %%s ON TABLE %%s TO %%I', string_agg(privilege, ', ' ORDER BY letter), name, login) AS statement
    FROM wanted GROUP BY name, login
  UNION ALL
  SELECT 2, format('GRANT USAGE ON SEQUENCE %%s TO %%I', name, login) FROM sequences
  UNION ALL
  -- What Dagster knows of the partitions of an asset is kept beside it by whoever looks, a read-only webserver too.
  SELECT 3, format('GRANT UPDATE (cached_status_data) ON TABLE %%s TO %%I', o.name, l.login)
    FROM owned o JOIN logins l ON l.kind = 'read'
    JOIN pg_attribute c ON c.attrelid = o.oid AND c.attname = 'cached_status_data' AND NOT c.attisdropped, given
   WHERE o.place = 'asset_keys' AND NOT pg_has_role(l.oid, o.relowner, 'USAGE')
     AND CASE WHEN given.app IS NULL THEN NOT has_column_privilege(l.oid, o.oid, c.attnum, 'UPDATE')
              ELSE NOT EXISTS (SELECT FROM aclexplode(c.attacl) a WHERE a.grantee = l.oid AND a.privilege_type = 'UPDATE') END
  UNION ALL
  -- Last, in the same transaction: what every login had through the group.
  SELECT 4, format('REVOKE INSERT, UPDATE, DELETE ON TABLE %%s FROM %%I', name, app)
    FROM owned, given
   WHERE EXISTS (SELECT FROM aclexplode(relacl) a JOIN pg_roles r ON r.oid = a.grantee
                  WHERE r.rolname = app AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE'))
  UNION ALL
  SELECT 5, format('REVOKE ALL ON SEQUENCE %%I.%%I FROM %%I', n.nspname, s.relname, app)
    FROM given, pg_class s JOIN pg_namespace n ON n.oid = s.relnamespace
   WHERE n.nspname = current_schema() AND s.relkind = 'S'
     AND EXISTS (SELECT FROM aclexplode(s.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = app)
  UNION ALL
  SELECT 6, format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I IN SCHEMA %%I REVOKE %%s FROM %%I', o.rolname, n.nspname,
                   CASE d.defaclobjtype WHEN 'r' THEN 'INSERT, UPDATE, DELETE ON TABLES' ELSE 'ALL ON SEQUENCES' END, app)
    FROM given, pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace JOIN pg_roles o ON o.oid = d.defaclrole
   WHERE n.nspname = current_schema() AND pg_has_role(current_user, o.oid, 'USAGE')
     AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a JOIN pg_roles r ON r.oid = a.grantee
                  WHERE r.rolname = app AND (d.defaclobjtype = 'S'
                                             OR (d.defaclobjtype = 'r' AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE'))))
) AS statements
ORDER BY step, statement

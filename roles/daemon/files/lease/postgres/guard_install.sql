-- The statements that install guard.sql, none when this very text is installed with these roles, and the guard's login
-- has its rights: its text, owner of the schema, the guard's login, and the group role of the daemons' logins (NULL:
-- lease only; ansible-core 2.16 gives an empty text for it).
WITH given AS (
  SELECT %s::text AS sql, %s::text AS owner, %s::text AS caller, nullif(%s::text, '') AS logins
), wanted AS (
  SELECT *, md5(concat_ws(E'\x1f', sql, owner, caller, coalesce(logins, 'none'))) AS version FROM given
)
SELECT statement FROM (
  SELECT 1 AS step, format('CREATE SCHEMA IF NOT EXISTS dagster_guard AUTHORIZATION %%I', owner) AS statement FROM wanted
  UNION ALL
  SELECT 2, format('GRANT CONNECT ON DATABASE %%I TO %%I', current_database(), caller) FROM wanted
   WHERE NOT has_database_privilege(caller, current_database(), 'CONNECT')
  UNION ALL
  SELECT 3, format('SET ROLE %%I', owner) FROM wanted
  UNION ALL
  SELECT 4, sql FROM wanted
  UNION ALL
  SELECT 5, format('UPDATE dagster_guard.lease SET logins = %%L', logins) FROM wanted
  UNION ALL
  SELECT 6, format('GRANT USAGE ON SCHEMA dagster_guard TO %%I', caller) FROM wanted
  UNION ALL
  SELECT 7, format('GRANT EXECUTE ON FUNCTION dagster_guard.%%I TO %%I', name, caller)
    FROM wanted, unnest(ARRAY['look', 'take', 'fence', 'renew', 'release', 'request']) AS name
  UNION ALL
  SELECT 8, format('COMMENT ON SCHEMA dagster_guard IS %%L', version) FROM wanted
  UNION ALL
  SELECT 9, 'RESET ROLE'
) AS statements, wanted
WHERE obj_description(to_regnamespace('dagster_guard'), 'pg_namespace') IS DISTINCT FROM wanted.version
   -- A login that was dropped by hand and made again has lost its rights.
   OR NOT EXISTS (SELECT FROM pg_roles
                   WHERE rolname = caller AND has_schema_privilege(pg_roles.oid, to_regnamespace('dagster_guard'), 'USAGE'))
ORDER BY step

-- The statements that are missing inside the database for the group roles owner and app. app connects and reads; which login
-- writes what is said by the owner of the tables (rights.sql of role daemon), once there are any.
WITH groups AS (
  SELECT %s::text AS owner, %s::text AS app
), acl AS (
  SELECT grantee, privilege_type FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba)))
   WHERE d.datname = current_database()
)
SELECT statement FROM (
  SELECT 1 AS step, format('REVOKE ALL ON DATABASE %%I FROM PUBLIC', current_database()) AS statement
   WHERE EXISTS (SELECT FROM acl WHERE grantee = 0)
  UNION ALL
  SELECT 2, format('GRANT CONNECT ON DATABASE %%I TO %%I', current_database(), app)
    FROM groups
   WHERE NOT EXISTS (SELECT FROM acl JOIN pg_roles r ON r.oid = acl.grantee WHERE r.rolname = app AND privilege_type = 'CONNECT')
  UNION ALL
  SELECT 3, format('ALTER SCHEMA public OWNER TO %%I', owner)
    FROM groups JOIN pg_namespace n ON n.nspname = 'public' JOIN pg_roles r ON r.oid = n.nspowner
   WHERE r.rolname <> owner
  UNION ALL
  SELECT 4, format('GRANT USAGE ON SCHEMA public TO %%I', app)
    FROM groups
   WHERE NOT EXISTS (SELECT FROM pg_namespace n, aclexplode(n.nspacl) a JOIN pg_roles r ON r.oid = a.grantee
                      WHERE n.nspname = 'public' AND r.rolname = app AND a.privilege_type = 'USAGE')
  UNION ALL
  SELECT 5, format('ALTER DEFAULT PRIVILEGES FOR ROLE %%I IN SCHEMA public GRANT SELECT ON TABLES TO %%I', owner, app)
    FROM groups
   WHERE NOT EXISTS (SELECT FROM pg_default_acl d JOIN pg_roles o ON o.oid = d.defaclrole, aclexplode(d.defaclacl) a
                       JOIN pg_roles g ON g.oid = a.grantee
                      WHERE d.defaclobjtype = 'r' AND o.rolname = owner AND g.rolname = app AND a.privilege_type = 'SELECT')
  UNION ALL
  SELECT 6, format('GRANT SELECT ON TABLE %%I TO %%I', c.relname, app)
    FROM groups, pg_class c
   WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
     AND EXISTS (SELECT FROM pg_roles WHERE rolname = app) AND NOT has_table_privilege(app, c.oid, 'SELECT')
  UNION ALL
  -- Nobody of ours makes a temporary table.
  SELECT 7, format('REVOKE TEMPORARY ON DATABASE %%I FROM %%I', current_database(), app)
    FROM groups
   WHERE EXISTS (SELECT FROM acl JOIN pg_roles r ON r.oid = acl.grantee WHERE r.rolname = app AND privilege_type = 'TEMPORARY')
) AS statements
ORDER BY step

-- The statements that are missing for roles (JSON: name, login, verifier, member_of, acts_as_group, createrole, fenced_by,
-- connections), database and owner, and for files (JSON: paths) that the server reads again without a restart. Whether a fenced login may log in is the business of guard.sql alone: it is made shut out.
WITH wanted AS (
  SELECT * FROM json_to_recordset(%s::json)
    AS role(name text, login boolean, verifier text, member_of text[], acts_as_group boolean, createrole boolean,
            fenced_by text, connections int)
), database AS (
  SELECT %s::text AS name, %s::text AS owner
), files AS (
  SELECT max((pg_stat_file(path, true)).modification) AS written FROM json_array_elements_text(%s::json) AS known(path)
)
SELECT statement FROM (
  -- A file knows whole seconds only.
  SELECT 0 AS step, 'SELECT pg_reload_conf()' AS statement FROM files WHERE written >= date_trunc('second', pg_conf_load_time())
  UNION ALL
  SELECT 1,
         format('CREATE ROLE %%I %%s', name,
                CASE WHEN fenced_by IS NOT NULL THEN format('NOLOGIN PASSWORD %%L', verifier)
                     WHEN login THEN format('LOGIN PASSWORD %%L', verifier) ELSE 'NOLOGIN' END)
    FROM wanted
   WHERE name NOT IN (SELECT rolname FROM pg_authid)
  UNION ALL
  -- A login that is only shut out keeps its password, and its readers need no restart.
  SELECT 2, format('ALTER ROLE %%I %%s', name, CASE WHEN NOT login THEN 'NOLOGIN' WHEN rolpassword = verifier THEN 'LOGIN'
                                                    ELSE format('LOGIN PASSWORD %%L', verifier) END)
    FROM wanted JOIN pg_authid ON rolname = name
   WHERE fenced_by IS NULL AND (rolcanlogin <> login OR (login AND rolpassword IS DISTINCT FROM verifier))
  UNION ALL
  SELECT 2, format('ALTER ROLE %%I PASSWORD %%L', name, verifier)
    FROM wanted JOIN pg_authid ON rolname = name
   WHERE fenced_by IS NOT NULL AND rolpassword IS DISTINCT FROM verifier
  UNION ALL
  SELECT 3, format('ALTER ROLE %%I CONNECTION LIMIT %%s', name, connections)
    FROM wanted LEFT JOIN pg_authid ON rolname = name
   WHERE connections IS NOT NULL AND connections IS DISTINCT FROM rolconnlimit
  UNION ALL
  SELECT 3, format('ALTER ROLE %%I NOSUPERUSER NOCREATEDB %%s NOREPLICATION NOBYPASSRLS', name,
                   CASE WHEN createrole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END)
    FROM wanted LEFT JOIN pg_authid ON rolname = name
   WHERE rolsuper OR rolcreatedb OR coalesce(rolcreaterole, false) <> coalesce(createrole, false) OR rolreplication
      OR rolbypassrls
  UNION ALL
  SELECT 4, format('GRANT %%I TO %%I', member.group_name, name)
    FROM wanted, unnest(member_of) AS member(group_name)
   WHERE NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
                      WHERE g.rolname = member.group_name AND u.rolname = wanted.name)
  UNION ALL
  -- From PostgreSQL 16 on, CREATEROLE alone alters no role: it takes the admin option on each.
  SELECT 4, format('GRANT %%I TO %%I WITH ADMIN TRUE, INHERIT FALSE, SET FALSE', name, fenced_by)
    FROM wanted
   WHERE fenced_by IS NOT NULL AND current_setting('server_version_num')::int >= 160000
     AND NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
                      WHERE g.rolname = wanted.name AND u.rolname = wanted.fenced_by AND m.admin_option)
  UNION ALL
  SELECT 5, format('ALTER ROLE %%I SET role = %%L', name, member_of[1])
    FROM wanted
   WHERE acts_as_group
     AND NOT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles u ON u.oid = s.setrole
                      WHERE u.rolname = wanted.name AND s.setdatabase = 0 AND 'role=' || wanted.member_of[1] = ANY (s.setconfig))
  UNION ALL
  SELECT 6, format('CREATE DATABASE %%I OWNER %%I ENCODING ''UTF8'' TEMPLATE template0', name, owner)
    FROM database
   WHERE name NOT IN (SELECT datname FROM pg_database)
  UNION ALL
  SELECT 7, format('ALTER DATABASE %%I OWNER TO %%I', database.name, owner)
    FROM database JOIN pg_database d ON d.datname = database.name JOIN pg_roles r ON r.oid = d.datdba
   WHERE r.rolname <> database.owner
) AS statements
ORDER BY step

-- The statements that are missing for roles (JSON: name, member_of), accounts (JSON: user, host, hash, role, tls, connections,
-- fenced), the database, the role that owns it, and the role through which every login reads. Executed one by one: each of
-- them commits by itself.
--
-- Roles hold the grants, because a login has an account for each address from which it comes. Whether a fenced login may log
-- in is the business of guard.sql alone: its account is made locked. A daemon of which the inventory knows nothing any more
-- stays a member of its role, so that the fence ends its sessions, and is locked.
WITH given AS (
  SELECT %s AS roles, %s AS accounts, %s AS db, %s AS owner, %s AS app, %s AS daemons
), places AS (
  -- In a grant on a whole database, _ stands for any letter, so it has a backslash before it.
  SELECT db AS name, REPLACE(db, '_', CONCAT(CHAR(92), '_')) AS pattern, owner, app, daemons FROM given
), roles AS (
  SELECT DISTINCT r.name FROM given, JSON_TABLE(roles, '$[*]' COLUMNS (name VARCHAR(128) PATH '$.name')) AS r
), members AS (
  SELECT m.name, m.role
    FROM given, JSON_TABLE(roles, '$[*]' COLUMNS (name VARCHAR(128) PATH '$.name',
                                                  NESTED PATH '$.member_of[*]' COLUMNS (role VARCHAR(128) PATH '$'))) AS m
   WHERE m.role IS NOT NULL
), wanted AS (
  SELECT a.user, a.host, a.hash, a.role, a.tls, a.connections, a.fenced,
         CONCAT(QUOTE(a.user), '@', QUOTE(a.host)) AS account
    FROM given, JSON_TABLE(accounts, '$[*]' COLUMNS (user VARCHAR(128) PATH '$.user', host VARCHAR(255) PATH '$.host',
                                                     hash VARCHAR(41) PATH '$.hash', role VARCHAR(128) PATH '$.role',
                                                     tls INT PATH '$.tls', connections INT PATH '$.connections',
                                                     fenced INT PATH '$.fenced')) AS a
), there AS (
  SELECT User AS user, Host AS host, CONCAT(QUOTE(User), '@', QUOTE(Host)) AS account,
         COALESCE(JSON_VALUE(Priv, '$.plugin'), '') AS plugin,
         COALESCE(JSON_VALUE(Priv, '$.authentication_string'), '') AS hash,
         COALESCE(JSON_VALUE(Priv, '$.ssl_type'), 0) AS tls,
         COALESCE(JSON_VALUE(Priv, '$.max_user_connections'), 0) AS connections,
         COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) IN ('1', 'true') AS locked,
         COALESCE(JSON_VALUE(Priv, '$.is_role'), 0) IN ('1', 'true') AS is_role,
         COALESCE(JSON_VALUE(Priv, '$.default_role'), '') AS role,
         COALESCE(JSON_VALUE(Priv, '$.access'), 0) AS access
    FROM mysql.global_priv
)
SELECT statement FROM (
  SELECT 1 AS step, CONCAT('CREATE ROLE `', name, '`') AS statement
    FROM roles WHERE name NOT IN (SELECT user FROM there WHERE is_role)
  UNION ALL
  SELECT 2, CONCAT('CREATE DATABASE `', name, '` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin')
    FROM places WHERE name NOT IN (SELECT SCHEMA_NAME FROM information_schema.SCHEMATA)
  UNION ALL
  SELECT 2, CONCAT('ALTER DATABASE `', name, '` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin')
    FROM places JOIN information_schema.SCHEMATA ON SCHEMA_NAME = name WHERE DEFAULT_COLLATION_NAME <> 'utf8mb4_bin'
  UNION ALL
  SELECT 3, CONCAT('GRANT ALL PRIVILEGES ON `', pattern, '`.* TO `', owner, '` WITH GRANT OPTION')
    FROM places
   WHERE NOT EXISTS (SELECT 1 FROM mysql.db d
                      WHERE d.Host = '' AND d.User = owner AND d.Db = pattern
                        AND 'YYYYYYYYYYYYYY' = CONCAT(Select_priv, Insert_priv, Update_priv, Delete_priv, Create_priv, Drop_priv,
                                                      Grant_priv, References_priv, Index_priv, Alter_priv, Create_routine_priv,
                                                      Alter_routine_priv, Execute_priv, Trigger_priv))
  UNION ALL
  -- Who grants has to see what is granted already. Nothing in these tables is a secret.
  SELECT 3, CONCAT('GRANT SELECT ON mysql.', seen.name, ' TO `', owner, '`')
    FROM places JOIN (SELECT 'db' AS name UNION ALL SELECT 'tables_priv' UNION ALL SELECT 'columns_priv'
                      UNION ALL SELECT 'roles_mapping') AS seen
   WHERE NOT EXISTS (SELECT 1 FROM mysql.tables_priv t
                      WHERE t.Host = '' AND t.Db = 'mysql' AND t.User = owner AND t.Table_name = seen.name
                        AND FIND_IN_SET('Select', t.Table_priv))
  UNION ALL
  SELECT 3, CONCAT('GRANT SELECT ON `', pattern, '`.* TO `', app, '`')
    FROM places
   WHERE NOT EXISTS (SELECT 1 FROM mysql.db d WHERE d.Host = '' AND d.User = app AND d.Db = pattern AND d.Select_priv = 'Y')
  UNION ALL
  SELECT 4, CONCAT('GRANT `', role, '` TO `', name, '`')
    FROM members
   WHERE NOT EXISTS (SELECT 1 FROM mysql.roles_mapping m WHERE m.Host = '' AND m.User = members.name AND m.Role = members.role)
  UNION ALL
  SELECT 5, CONCAT('CREATE USER ', account, ' IDENTIFIED VIA mysql_native_password USING ', QUOTE(hash),
                   IF(tls, ' REQUIRE SSL', ''), ' WITH MAX_USER_CONNECTIONS ', connections, IF(fenced, ' ACCOUNT LOCK', ''))
    FROM wanted WHERE (user, host) NOT IN (SELECT user, host FROM there)
  UNION ALL
  SELECT 6, CONCAT('ALTER USER ', w.account, IF(w.tls, ' REQUIRE SSL', ' REQUIRE NONE'), ' WITH MAX_USER_CONNECTIONS ',
                   w.connections)
    FROM wanted w JOIN there t ON t.user = w.user AND t.host = w.host
   WHERE w.tls <> t.tls OR w.connections <> t.connections
  UNION ALL
  -- Of a login that is locked and not fenced any more.
  SELECT 6, CONCAT('ALTER USER ', w.account, ' ACCOUNT UNLOCK')
    FROM wanted w JOIN there t ON t.user = w.user AND t.host = w.host WHERE t.locked AND NOT w.fenced
  UNION ALL
  -- No account of ours has a right on the whole server.
  SELECT 6, CONCAT('REVOKE ALL PRIVILEGES, GRANT OPTION FROM ', w.account)
    FROM wanted w JOIN there t ON t.user = w.user AND t.host = w.host WHERE t.access <> 0
  UNION ALL
  SELECT 7, CONCAT('GRANT `', role, '` TO ', account)
    FROM wanted
   WHERE role <> '' AND NOT EXISTS (SELECT 1 FROM mysql.roles_mapping m JOIN there t ON t.user = m.User AND t.host = m.Host
                                     WHERE m.User = wanted.user AND m.Host = wanted.host AND m.Role = wanted.role AND t.access = 0)
  UNION ALL
  SELECT 8, CONCAT('SET DEFAULT ROLE `', w.role, '` FOR ', w.account)
    FROM wanted w LEFT JOIN there t ON t.user = w.user AND t.host = w.host
   WHERE w.role <> '' AND COALESCE(t.role, '') <> w.role
  UNION ALL
  -- From another address than those of its processes. Roles keep the grants.
  SELECT 9, CONCAT('DROP USER ', account)
    FROM there
   WHERE NOT is_role AND user IN (SELECT user FROM wanted) AND (user, host) NOT IN (SELECT user, host FROM wanted)
  UNION ALL
  SELECT 9, CONCAT('ALTER USER ', account, ' ACCOUNT LOCK')
    FROM there JOIN places JOIN mysql.roles_mapping m ON m.User = there.user AND m.Host = there.host AND m.Role = daemons
   WHERE NOT is_role AND NOT locked AND m.Admin_option = 'N' AND there.user NOT IN (SELECT user FROM wanted)
  UNION ALL
  SELECT 10, CONCAT('ALTER USER ', w.account, ' IDENTIFIED VIA mysql_native_password USING ', QUOTE(w.hash))
    FROM wanted w JOIN there t ON t.user = w.user AND t.host = w.host
   WHERE t.plugin <> 'mysql_native_password' OR t.hash <> w.hash
) AS statements
ORDER BY step, statement

-- What the daemon's guard (role daemon) asks of PostgreSQL: one lease, changed only by compare-and-set, and the fence
-- behind it. Everything belongs to the role that runs this file; the guard's login may execute the functions granted at
-- the end of the installation and touch nothing itself. The same functions in another dialect are all that another
-- database needs.
--
-- The row: epoch counts the holders (a fencing token), generation every renewal. A candidate judges a lease by watching
-- the two stand still on its own clock, so no time of this server or of another host is in here.

CREATE TABLE IF NOT EXISTS dagster_guard.lease (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  epoch bigint NOT NULL DEFAULT 0,
  generation bigint NOT NULL DEFAULT 0,
  holder text NOT NULL DEFAULT '',  -- the host, empty when the lease is free
  boot text NOT NULL DEFAULT '',    -- the holder's boot, so that a clone of the host is somebody else
  wanted text NOT NULL DEFAULT '',  -- the host that a switchover asks for
  logins name                       -- group role of the daemons' logins; NULL: lease only, no login is fenced
);
INSERT INTO dagster_guard.lease DEFAULT VALUES ON CONFLICT DO NOTHING;

-- The daemons' logins.
CREATE OR REPLACE FUNCTION dagster_guard.logins() RETURNS TABLE (login name, allowed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT DISTINCT u.rolname, u.rolcanlogin
    FROM dagster_guard.lease l JOIN pg_roles g ON g.rolname = l.logins
    JOIN pg_auth_members m ON m.roleid = g.oid JOIN pg_roles u ON u.oid = m.member
   WHERE u.rolname <> current_user  -- PostgreSQL 16 makes a creator a member of what it creates
$$;

-- Lets this login in and no other one; without a name none at all.
CREATE OR REPLACE FUNCTION dagster_guard.admit(p_login text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  known record;
BEGIN
  IF (SELECT logins FROM dagster_guard.lease) IS NULL THEN
    RETURN;
  END IF;
  IF p_login IS NOT NULL AND p_login NOT IN (SELECT login FROM dagster_guard.logins()) THEN
    RAISE EXCEPTION 'login % is not a member of role %', p_login, (SELECT logins FROM dagster_guard.lease)
      USING HINT = 'Run the play of the database again, it makes a login for each daemon host.';
  END IF;
  FOR known IN SELECT * FROM dagster_guard.logins() WHERE allowed IS DISTINCT FROM (login = coalesce(p_login, '')) LOOP
    EXECUTE format('ALTER ROLE %I %s', known.login, CASE WHEN known.allowed THEN 'NOLOGIN' ELSE 'LOGIN' END);
  END LOOP;
END $$;

-- The row, and the newest heartbeat of Dagster's daemon as text: a caller only sees whether it changes. Empty: none yet;
-- NULL: it cannot be read, as before the first migration.
CREATE OR REPLACE FUNCTION dagster_guard.look()
RETURNS TABLE (epoch bigint, generation bigint, holder text, boot text, wanted text, heartbeat text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT l.epoch, l.generation, l.holder, l.boot, l.wanted INTO epoch, generation, holder, boot, wanted
    FROM dagster_guard.lease l;
  IF has_table_privilege(to_regclass('public.daemon_heartbeats'), 'SELECT') THEN
    EXECUTE 'SELECT coalesce(max("timestamp")::text, '''') FROM public.daemon_heartbeats' INTO heartbeat;
  END IF;
  RETURN NEXT;
END $$;

-- Takes the lease if the row still is what the caller has seen. The other logins are shut out in the same transaction.
CREATE OR REPLACE FUNCTION dagster_guard.take(p_holder text, p_boot text, p_login text, p_epoch bigint, p_generation bigint)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE dagster_guard.lease
     SET epoch = epoch + 1, generation = generation + 1, holder = p_holder, boot = p_boot, wanted = ''
   WHERE epoch = p_epoch AND generation = p_generation;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM dagster_guard.admit(p_login);
  RETURN true;
END $$;

-- Ends every session of a daemon. A transaction of its own after take: before its commit an old daemon could come back.
-- The taker's own login is among them, because its new daemon does not run yet.
CREATE OR REPLACE FUNCTION dagster_guard.fence(p_epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM FROM dagster_guard.lease WHERE epoch = p_epoch FOR SHARE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN (SELECT login FROM dagster_guard.logins());
  RETURN true;
END $$;

-- Keeps the lease. Sessions of logins that are shut out are ended again: one may have been half-way in at the fence.
CREATE OR REPLACE FUNCTION dagster_guard.renew(p_holder text, p_boot text, p_epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE dagster_guard.lease SET generation = generation + 1
   WHERE epoch = p_epoch AND holder = p_holder AND boot = p_boot;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE usename IN (SELECT login FROM dagster_guard.logins() WHERE NOT allowed);
  RETURN true;
END $$;

-- Gives the lease back once the daemon has ended; no login is let in until the next take.
CREATE OR REPLACE FUNCTION dagster_guard.release(p_holder text, p_boot text, p_epoch bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE dagster_guard.lease SET generation = generation + 1, holder = '', boot = ''
   WHERE epoch = p_epoch AND holder = p_holder AND boot = p_boot;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM dagster_guard.admit(NULL);
  RETURN true;
END $$;

-- Asks the holder to hand over to this host. The generation stays: a dead holder must not look alive through it.
CREATE OR REPLACE FUNCTION dagster_guard.request(p_holder text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  UPDATE dagster_guard.lease SET wanted = p_holder
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA dagster_guard FROM PUBLIC;

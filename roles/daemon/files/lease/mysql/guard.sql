-- What the daemon's guard (role daemon) asks of MariaDB: one lease, changed only by compare-and-set, and the fence behind it.
-- Everything runs with the rights of its definer; the guard's login may execute what the installation grants to it and
-- touch nothing itself. A line `//` ends a statement.
--
-- The row: epoch counts the holders (a fencing token), generation every renewal. A candidate judges a lease by watching
-- the two stand still on its own clock, so no time of this server or of another host is in here.
--
-- ACCOUNT LOCK commits by itself, so a take cannot be one transaction. First the row changes, in one statement. Then the
-- accounts follow the row, each with a statement of its own. Whoever was stopped in between and goes on after the next take
-- changes nothing, because
--   - before each statement the row is asked again for the epoch of the caller,
--   - a named lock lets one session at a time lock accounts. Who has the lease ends the session that has held it for too
--     long, and goes on once that one is gone. So the accounts follow the newest row last,
--   - what ends sessions knows them by their numbers, which are never used again, and looks for the newest number before it
--     asks for the epoch. So it cannot meet a session that began after a later take.

CREATE TABLE IF NOT EXISTS dagster_guard_lease (
  one BOOLEAN NOT NULL DEFAULT TRUE PRIMARY KEY CHECK (one),
  epoch BIGINT NOT NULL DEFAULT 0,
  generation BIGINT NOT NULL DEFAULT 0,
  holder VARCHAR(255) NOT NULL DEFAULT '',  -- the host, empty when the lease is free
  boot VARCHAR(255) NOT NULL DEFAULT '',    -- the holder's boot, so that a clone of the host is somebody else
  wanted VARCHAR(255) NOT NULL DEFAULT '',  -- the host that a switchover asks for
  login VARCHAR(128),                       -- of the holder's daemon
  admitted BOOLEAN NOT NULL DEFAULT FALSE,  -- whether that login is let in: from the fence to the release
  logins VARCHAR(4000)                      -- the daemons' logins, divided by commas; NULL: lease only, none is fenced
) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4 COLLATE = utf8mb4_bin
//
INSERT IGNORE INTO dagster_guard_lease (one) VALUES (TRUE)
//
-- Locks the account of each daemon but the one that the row lets in, while the row is of this epoch. A login may have an
-- account for each of several hosts.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_settle(p_epoch BIGINT)
BEGIN
  DECLARE v_name VARCHAR(128) DEFAULT CONCAT('dagster_guard.', DATABASE());  -- such a lock is the server's, not the database's
  DECLARE v_statement TEXT;
  DECLARE v_holder BIGINT;
  DECLARE CONTINUE HANDLER FOR 1094 SET v_holder = NULL;  -- it has ended by itself
  DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN
    DO RELEASE_LOCK(v_name);
    RESIGNAL;
  END;
  IF (SELECT logins FROM dagster_guard_lease WHERE epoch = p_epoch) IS NOT NULL THEN
    IF NOT COALESCE(GET_LOCK(v_name, 0.5), FALSE) THEN
      SET v_holder = IS_USED_LOCK(v_name);
      IF v_holder IS NOT NULL AND EXISTS (SELECT 1 FROM dagster_guard_lease WHERE epoch = p_epoch) THEN
        KILL v_holder;
      END IF;
      IF NOT COALESCE(GET_LOCK(v_name, 1), FALSE) THEN
        SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'another guard is still at work on the accounts of the daemons';
      END IF;
    END IF;
    each_account: LOOP
      SET v_statement = (
        SELECT CONCAT('ALTER USER ', QUOTE(g.User), '@', QUOTE(g.Host),
                      IF(l.admitted AND g.User <=> l.login, ' ACCOUNT UNLOCK', ' ACCOUNT LOCK'))
          FROM dagster_guard_lease l JOIN mysql.global_priv g ON FIND_IN_SET(g.User, l.logins) AND g.Host <> ''
         WHERE l.epoch = p_epoch
           AND COALESCE(JSON_VALUE(g.Priv, '$.account_locked'), 0) IN ('1', 'true') = (l.admitted AND g.User <=> l.login)
         LIMIT 1);
      IF v_statement IS NULL THEN
        LEAVE each_account;
      END IF;
      EXECUTE IMMEDIATE v_statement;
    END LOOP;
    DO RELEASE_LOCK(v_name);
  END IF;
END
//
-- Ends the sessions of all daemons that the row does not let in, while it is of this epoch, and says how many there were.
-- A session that has not finished its login is among them: the server shows it under its name before it looks at the account.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_expel(p_epoch BIGINT, OUT p_number INT)
BEGIN
  DECLARE v_newest BIGINT;
  DECLARE v_session BIGINT DEFAULT 0;
  DECLARE CONTINUE HANDLER FOR 1094 SET v_session = v_session;  -- it has ended by itself
  SET p_number = 0;
  IF (SELECT logins FROM dagster_guard_lease) IS NOT NULL THEN
    SET v_newest = (SELECT MAX(ID) FROM information_schema.PROCESSLIST);
    each_session: LOOP
      SET v_session = (
        SELECT MIN(p.ID)
          FROM dagster_guard_lease l JOIN information_schema.PROCESSLIST p ON FIND_IN_SET(p.USER, l.logins)
         WHERE l.epoch = p_epoch AND NOT (l.admitted AND p.USER <=> l.login) AND p.ID > v_session AND p.ID <= v_newest);
      IF v_session IS NULL THEN
        LEAVE each_session;
      END IF;
      KILL v_session;
      SET p_number = p_number + 1;
    END LOOP;
  END IF;
END
//
-- The row, and the newest heartbeat of Dagster's daemon as text: a caller only sees whether it changes. Empty: none yet;
-- NULL: it cannot be read, as before the first migration.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_look()
BEGIN
  DECLARE v_heartbeat TEXT;
  BEGIN
    DECLARE CONTINUE HANDLER FOR 1142, 1143, 1146 SET v_heartbeat = NULL;
    SET v_heartbeat = (SELECT COALESCE(CAST(MAX(timestamp) AS CHAR), '') FROM daemon_heartbeats);
  END;
  SELECT epoch, generation, holder, boot, wanted, v_heartbeat FROM dagster_guard_lease;
END
//
-- Takes the lease if the row still is what the caller has seen. Then no daemon is let in, until the fence.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_take(
  p_holder VARCHAR(255), p_boot VARCHAR(255), p_login VARCHAR(128), p_epoch BIGINT, p_generation BIGINT)
BEGIN
  DECLARE v_taken BOOLEAN;
  DECLARE v_message VARCHAR(512);
  IF NOT FIND_IN_SET(p_login, (SELECT logins FROM dagster_guard_lease)) THEN
    SET v_message = CONCAT('login ', p_login, ' is none of the daemons'' logins;',
                           ' run the play of the database again, it makes a login for each daemon host');
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = v_message;
  END IF;
  UPDATE dagster_guard_lease
     SET epoch = epoch + 1, generation = generation + 1, holder = p_holder, boot = p_boot, wanted = '', login = p_login,
         admitted = FALSE
   WHERE epoch = p_epoch AND generation = p_generation;
  SET v_taken = ROW_COUNT() > 0;
  IF v_taken THEN
    CALL dagster_guard_settle(p_epoch + 1);
  END IF;
  SELECT v_taken;
END
//
-- Ends every session of a daemon, and lets the login of the holder in once there are none. Its new daemon does not run yet.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_fence(p_epoch BIGINT)
BEGIN
  DECLARE v_number INT DEFAULT 0;
  DECLARE v_looks INT DEFAULT 0;
  DECLARE v_quiet INT DEFAULT 0;
  -- Once more, because who took the lease may have been stopped before it was done.
  CALL dagster_guard_settle(p_epoch);
  -- While a session is in a trigger, the server shows it under the name of who made the trigger. So one look is not enough.
  WHILE v_quiet < 3 DO
    CALL dagster_guard_expel(p_epoch, v_number);
    SET v_looks = v_looks + 1;
    SET v_quiet = IF(v_number = 0, v_quiet + 1, 0);
    IF v_looks > 100 THEN
      SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'a session of an earlier daemon does not end';
    END IF;
    DO SLEEP(0.02);
  END WHILE;
  UPDATE dagster_guard_lease SET admitted = TRUE WHERE epoch = p_epoch AND holder <> '';
  CALL dagster_guard_settle(p_epoch);
  SELECT EXISTS (SELECT 1 FROM dagster_guard_lease WHERE epoch = p_epoch);
END
//
-- Keeps the lease. Accounts that do not follow the row any more are locked again, and sessions that are not let in ended.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_renew(p_holder VARCHAR(255), p_boot VARCHAR(255), p_epoch BIGINT)
BEGIN
  DECLARE v_kept BOOLEAN;
  DECLARE v_number INT;
  UPDATE dagster_guard_lease SET generation = generation + 1 WHERE epoch = p_epoch AND holder = p_holder AND boot = p_boot;
  SET v_kept = ROW_COUNT() > 0;
  IF v_kept THEN
    CALL dagster_guard_settle(p_epoch);
    CALL dagster_guard_expel(p_epoch, v_number);
  END IF;
  SELECT v_kept;
END
//
-- Gives the lease back once the daemon has ended; no login is let in until the next fence.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_release(p_holder VARCHAR(255), p_boot VARCHAR(255), p_epoch BIGINT)
BEGIN
  DECLARE v_released BOOLEAN;
  UPDATE dagster_guard_lease SET generation = generation + 1, admitted = FALSE
   WHERE epoch = p_epoch AND holder = p_holder AND boot = p_boot;
  SET v_released = ROW_COUNT() > 0;
  IF v_released THEN
    CALL dagster_guard_settle(p_epoch);
    UPDATE dagster_guard_lease SET generation = generation + 1, holder = '', boot = ''
     WHERE epoch = p_epoch AND holder = p_holder AND boot = p_boot;
    SET v_released = ROW_COUNT() > 0;
  END IF;
  SELECT v_released;
END
//
-- Asks the holder to hand over to this host. The generation stays: a dead holder must not look alive through it.
CREATE OR REPLACE DEFINER = CURRENT_USER PROCEDURE dagster_guard_request(p_holder VARCHAR(255))
BEGIN
  UPDATE dagster_guard_lease SET wanted = p_holder;
  SELECT TRUE;
END

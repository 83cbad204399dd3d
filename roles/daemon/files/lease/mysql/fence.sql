-- The fence in Dagster's own tables: what only a daemon does, only the daemons' logins may do. Answers with the statements
-- that are missing, for the owner of the tables: the daemons' logins (divided by commas; NULL or empty: no fence), the unit of
-- the daemon, and the command for Dagster's command line.
--
-- A daemon that somebody starts with the login of the webservers is refused at the first of its writes, each time before the
-- effect: Dagster writes that a run is starting before it starts its container, and a tick before it evaluates. The rows
-- beside these are there because Dagster goes on after an error: a second daemon would run interrupted ticks and backfills
-- again under the eyes of the first one, and move cursors of work that it was not let do.
--
-- deed is what a second daemon is told that it may not do. A row costs only its condition when that does not hold. The rest,
-- which reads the long column or other rows, is asked of other logins than the daemons' alone: whatever a trigger reads stays
-- locked until the transaction ends. For the same reason no trigger reads who has the lease, or a daemon that hangs in a
-- transaction would keep everybody from taking it.
--
-- MariaDB has one trigger for all that concerns a table and an event. It needs nothing but the tables of Dagster, because a
-- trigger that lacks something refuses all. Its definer is the role of who installs it, if there is one: that stays when
-- accounts come and go.
WITH given AS (
  SELECT COALESCE(%s, '') AS daemons, %s AS unit, %s AS command
), events (event) AS (
  VALUES ('INSERT'), ('UPDATE')
), fence (number, place, events, cause, rest, deed) AS (
  VALUES
  (1, 'daemon_heartbeats', 'INSERT OR UPDATE', 'TRUE', 'TRUE', 'send a heartbeat of the daemon'),
  (1, 'job_ticks', 'INSERT OR UPDATE', 'TRUE', 'TRUE', 'evaluate a schedule or sensor'),
  (1, 'asset_daemon_asset_evaluations', 'INSERT OR UPDATE', 'TRUE', 'TRUE', 'evaluate assets'),
  -- A webserver starts and stops schedules and sensors and sets a cursor. The time of the last evaluation goes on only with
  -- one, and what a webserver writes back may be older than the row.
  (1, 'jobs', 'UPDATE', 'NEW.status = OLD.status',
   'COALESCE(NULLIF(REGEXP_SUBSTR(NEW.job_body, @last), @none) + 0e0, 0)
      > COALESCE(NULLIF(REGEXP_SUBSTR(OLD.job_body, @last), @none) + 0e0, 0)',
   'evaluate a schedule or sensor'),
  (1, 'instigators', 'UPDATE', 'NEW.status = OLD.status',
   'COALESCE(NULLIF(REGEXP_SUBSTR(NEW.instigator_body, @last), @none) + 0e0, 0)
      > COALESCE(NULLIF(REGEXP_SUBSTR(OLD.instigator_body, @last), @none) + 0e0, 0)',
   'evaluate a schedule or sensor'),
  -- A webserver asks for a backfill, cancels it and resumes it. dagster job backfill writes its own when it has ended.
  (1, 'bulk_actions', 'UPDATE', 'NEW.status = OLD.status OR NEW.status NOT IN (''CANCELING'', ''REQUESTED'')', 'TRUE',
   'go on with a backfill'),
  -- Whether a run of a backfill is one that the daemon makes: somebody has asked for that backfill, and it is no run of it
  -- once more.
  (1, 'runs', 'INSERT', 'NEW.backfill_id IS NOT NULL',
   'EXISTS (SELECT 1 FROM bulk_actions WHERE `key` = NEW.backfill_id) AND NOT EXISTS (SELECT 1 FROM runs
        WHERE run_id = REGEXP_SUBSTR(NEW.run_body, ''(?<="parent_run_id": ")[^"]+'') AND backfill_id = NEW.backfill_id)',
   'go on with a backfill'),
  -- Somebody who runs such a run once more from the UI keeps these tags beside that of the first run; retries of the daemon
  -- are numbered.
  (2, 'runs', 'INSERT', 'TRUE',
   'NEW.run_body REGEXP ''"dagster/(tick|asset_evaluation_id)": "'' AND NEW.run_body NOT REGEXP ''"dagster/parent_run_id": "'''
   ' OR NEW.run_body REGEXP ''"dagster/retry_number": "''', 'ask for a run'),
  -- A webserver writes ASSET_DAEMON_PAUSED there.
  (1, 'kvs', 'INSERT OR UPDATE', 'NEW.`key` REGEXP ''^(EVENT_LOG_CONSUMER_CURSOR|ASSET_DAEMON_CURSOR|MIGRATED_)''', 'TRUE',
   'move a cursor of the daemon'),
  -- Of two daemons that have both read QUEUED, the later one writes what is there already. Who adds a tag writes another one.
  (1, 'runs', 'UPDATE', 'NEW.status = ''STARTING''', 'NOT OLD.status <=> ''STARTING'' OR NEW.run_body <=> OLD.run_body',
   'launch a run'),
  (1, 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''PIPELINE_STARTING''', 'TRUE', 'launch a run'),
  (2, 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''FRESHNESS_STATE_CHANGE''', 'TRUE', 'evaluate assets'),
  (3, 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''ENGINE_EVENT''',
   'LOCATE(''Launching a new run worker to resume run'', NEW.event) > 0', 'resume a run')
), owner AS (
  SELECT COALESCE(CONCAT(CURRENT_ROLE(), '@'), CURRENT_USER()) AS definer,
         CONCAT('`', COALESCE(CURRENT_ROLE(), REPLACE(CURRENT_USER(), '@', '`@`')), '`') AS quoted,
         SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AS login
), wanted AS (
  SELECT LOWER(CONCAT('dagster_fence_', place, '_', event)) AS name, place, event, definer, quoted, REPLACE(REPLACE(CONCAT(
'BEGIN
  IF ', GROUP_CONCAT(cause ORDER BY number SEPARATOR ' OR '), ' THEN BEGIN
    DECLARE v_login VARCHAR(128) DEFAULT LEFT(USER(), CHAR_LENGTH(USER()) - LOCATE(''@'', REVERSE(USER())));
    DECLARE v_deed VARCHAR(64);
    DECLARE v_message VARCHAR(512);
    IF NOT FIND_IN_SET(v_login, ', QUOTE(CONCAT_WS(',', daemons, owner.login, 'root')), ') THEN
      SET v_deed = CASE', GROUP_CONCAT('
        WHEN (', cause, ') AND (', rest, ') THEN ', QUOTE(deed) ORDER BY number SEPARATOR ''), '
      END;
      IF v_deed IS NOT NULL THEN
        SET v_message = CONCAT(''login '', v_login, '' may not '', v_deed, '': only the one daemon of this database may, and it''
          '' has a login of its own. A second daemon that was started by hand can do nothing here; end it. Unit '', ', QUOTE(unit), ',
          '' runs the one daemon, and systemctl status '', ', QUOTE(unit), ', '' says on which host. For the rest of''
          '' Dagster''''s command line use '', ', QUOTE(command), ', ''.'');
        SIGNAL SQLSTATE ''42000'' SET MYSQL_ERRNO = 1142, MESSAGE_TEXT = v_message;
      END IF;
    END IF;
  END; END IF;
END'), '@none', ''''''), '@last', '''(?<="last_tick_start_timestamp": |"last_iteration_timestamp": )[0-9.]+''') AS body
    FROM given JOIN owner JOIN fence JOIN events ON LOCATE(event, events)
    JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = DATABASE() AND t.TABLE_NAME = place
   WHERE daemons <> ''
   GROUP BY place, event
), found AS (
  SELECT TRIGGER_NAME AS name, DEFINER AS definer, ACTION_STATEMENT AS body
    FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE() AND TRIGGER_NAME REGEXP '^dagster_fence_'
)
-- Who reads a table for long keeps a trigger from being made, and everybody else from the table as long as that waits.
SELECT CONCAT('SET STATEMENT lock_wait_timeout = 10 FOR ', statement) AS statement FROM (
  SELECT 1 AS step, CONCAT('DROP TRIGGER ', name) AS statement FROM found WHERE name NOT IN (SELECT name FROM wanted)
  UNION ALL
  SELECT 2, CONCAT('CREATE OR REPLACE DEFINER = ', quoted, ' TRIGGER ', name, ' BEFORE ', event, ' ON ', place,
                   ' FOR EACH ROW ', body)
    FROM wanted WHERE (name, definer, body) NOT IN (SELECT name, definer, body FROM found)
) AS statements
ORDER BY step, statement

-- The fence in Dagster's own tables: what only a daemon does, only the daemons' logins may do. Answers with the statements
-- that are missing, for the owner of the tables: the group role of the daemons' logins (NULL: no fence), the unit of the
-- daemon, and the command for Dagster's command line.
--
-- A daemon that somebody starts with the login of the webservers is refused at the first of its writes, each time before the
-- effect: Dagster writes that a run is starting before it starts its container, and a tick before it evaluates. The rows
-- beside these are there because Dagster goes on after an error: a second daemon would run interrupted ticks and backfills
-- again under the eyes of the first one, and move cursors of work that it was not let do.
--
-- deed is what a second daemon is told that it may not do. A row costs only its condition when that does not hold. The rest,
-- which reads the long column, is asked of other logins than the daemons' alone.
WITH given AS (
  SELECT %s::text AS daemons, %s::text AS unit, %s::text AS command
), fence (name, place, events, condition, rest, deed) AS (VALUES
  ('heartbeat', 'daemon_heartbeats', 'INSERT OR UPDATE', 'true', 'true', 'send a heartbeat of the daemon'),
  ('tick', 'job_ticks', 'INSERT OR UPDATE', 'true', 'true', 'evaluate a schedule or sensor'),
  ('evaluation', 'asset_daemon_asset_evaluations', 'INSERT OR UPDATE', 'true', 'true', 'evaluate assets'),
  -- A webserver starts and stops schedules and sensors and sets a cursor. The time of the last evaluation goes on only with
  -- one, and what a webserver writes back may be older than the row.
  ('evaluated', 'jobs', 'UPDATE', 'NEW.status = OLD.status',
   'public.dagster_fence_evaluated(NEW.job_body) > public.dagster_fence_evaluated(OLD.job_body)',
   'evaluate a schedule or sensor'),
  ('evaluated', 'instigators', 'UPDATE', 'NEW.status = OLD.status',
   'public.dagster_fence_evaluated(NEW.instigator_body) > public.dagster_fence_evaluated(OLD.instigator_body)',
   'evaluate a schedule or sensor'),
  -- A webserver asks for a backfill, cancels it and resumes it. dagster job backfill writes its own when it has ended.
  ('backfill', 'bulk_actions', 'UPDATE', 'NEW.status = OLD.status OR NEW.status NOT IN (''CANCELING'', ''REQUESTED'')', 'true',
   'go on with a backfill'),
  ('backfill', 'runs', 'INSERT', 'NEW.backfill_id IS NOT NULL',
   'public.dagster_fence_requested(NEW.backfill_id, NEW.run_body)', 'go on with a backfill'),
  -- Somebody who runs such a run once more from the UI keeps these tags beside that of the first run; retries of the daemon
  -- are numbered.
  ('request', 'runs', 'INSERT', 'true',
   'NEW.run_body ~ ''"dagster/(tick|asset_evaluation_id)": "'' AND NEW.run_body !~ ''"dagster/parent_run_id": "'''
   ' OR NEW.run_body ~ ''"dagster/retry_number": "''', 'ask for a run'),
  -- A webserver writes ASSET_DAEMON_PAUSED there.
  ('cursor', 'kvs', 'INSERT OR UPDATE', 'NEW.key ~ ''^(EVENT_LOG_CONSUMER_CURSOR|ASSET_DAEMON_CURSOR|MIGRATED_)''', 'true',
   'move a cursor of the daemon'),
  ('launch', 'runs', 'UPDATE OF status', 'NEW.status = ''STARTING''', 'true', 'launch a run'),
  ('launch', 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''PIPELINE_STARTING''', 'true', 'launch a run'),
  ('freshness', 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''FRESHNESS_STATE_CHANGE''', 'true', 'evaluate assets'),
  ('resume', 'event_logs', 'INSERT', 'NEW.dagster_event_type = ''ENGINE_EVENT''',
   'NEW.event LIKE ''%%Launching a new run worker to resume run%%''', 'resume a run')
), triggers AS (
  SELECT format('CREATE TRIGGER dagster_fence_%%s BEFORE %%s ON public.%%I FOR EACH ROW'
                ' WHEN ((%%s) AND NOT pg_has_role(current_user, %%L, ''MEMBER'') AND NOT pg_has_role(current_user, %%L, ''MEMBER'')'
                ' AND (%%s)) EXECUTE FUNCTION public.dagster_fence(%%L, %%L, %%L)',
                fence.name, events, place, condition, daemons, owner.rolname, rest, deed, unit, command) AS statement
    FROM given, fence JOIN pg_class c ON c.oid = to_regclass('public.' || place) JOIN pg_roles owner ON owner.oid = c.relowner
   WHERE daemons IS NOT NULL
), functions (place, statement) AS (VALUES
  (1, $sql$
CREATE FUNCTION public.dagster_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING
    ERRCODE = 'insufficient_privilege',
    MESSAGE = format('login %%s may not %%s: only the one daemon of this database may, and it has a login of its own',
                     session_user, TG_ARGV[0]),
    HINT = format('A second daemon that was started by hand can do nothing here; end it. Unit %%s runs the one daemon, and'
                  ' systemctl status %%s says on which host. For the rest of Dagster''s command line use %%s.',
                  TG_ARGV[1], TG_ARGV[1], TG_ARGV[2]);
END $$$sql$),
  -- When a schedule or sensor was last looked at, by the text in which Dagster keeps its state.
  (2, $sql$
CREATE FUNCTION public.dagster_fence_evaluated(state text) RETURNS float8 LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(substring(state FROM '"last_(?:tick_start|iteration)_timestamp": ([0-9.]+)')::float8, 0)
$$$sql$),
  -- Whether a run of a backfill is one that the daemon makes: somebody has asked for that backfill, and it is no run of it
  -- once more.
  (3, $sql$
CREATE FUNCTION public.dagster_fence_requested(backfill text, run text) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM public.bulk_actions WHERE key = backfill)
     AND NOT EXISTS (SELECT FROM public.runs
                      WHERE run_id = substring(run FROM '"parent_run_id": "([^"]+)"') AND backfill_id = backfill)
$$$sql$)
), wanted AS (
  SELECT count(*) AS number, md5(string_agg(statement, E'\x1f' ORDER BY statement)
                                 || (SELECT string_agg(statement, E'\x1f' ORDER BY place) FROM functions)) AS version
    FROM triggers
), found AS (
  SELECT count(*) AS number, obj_description(to_regprocedure('public.dagster_fence()'), 'pg_proc') AS version
    FROM pg_trigger WHERE tgfoid = to_regprocedure('public.dagster_fence()') AND tgenabled = 'O'
)
SELECT statement FROM (
  SELECT 1 AS step, 'DROP FUNCTION public.dagster_fence() CASCADE' AS statement
   WHERE to_regprocedure('public.dagster_fence()') IS NOT NULL
  UNION ALL
  SELECT 2, 'DROP FUNCTION IF EXISTS public.dagster_fence_evaluated(text), public.dagster_fence_requested(text, text)'
  UNION ALL
  SELECT 3, statement FROM functions, wanted WHERE number > 0
  UNION ALL
  SELECT 4, statement FROM triggers
  UNION ALL
  SELECT 5, format('COMMENT ON FUNCTION public.dagster_fence() IS %%L', version) FROM wanted WHERE number > 0
) AS statements, wanted, found
WHERE (wanted.number, wanted.version) IS DISTINCT FROM (found.number, found.version)
ORDER BY step

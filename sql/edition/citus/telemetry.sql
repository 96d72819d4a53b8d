-- requires: edition/citus/on_shards.sql
--
-- What one server does with its readings, done by every shard with its own.

create or replace function telemetry.repair_latest()
returns bigint
language sql
security definer -- the ingest role that calls it at its start may not read the log
set search_path = pg_catalog, pg_temp
as $$
    select sum(s.result::bigint)
    from ops.on_shards('select telemetry.repair_latest_{shard}()') as s (result);
$$;
comment on function telemetry.repair_latest() is
    'Repairs every shard''s latest readings: sql/telemetry/repair_latest.sql.';

create or replace function telemetry.make_chunks(p_days timestamptz[])
returns void
language sql
security definer -- the ingest role may append, not delete
set search_path = pg_catalog, pg_temp
as $$
    select count(*)
    from ops.on_shards(format('select telemetry.make_chunks_{shard}(%L)', p_days));
$$;
comment on function telemetry.make_chunks(timestamptz[]) is
    'Makes the chunks on every shard: sql/telemetry/make_chunks.sql.';

create or replace function telemetry.rollup_refresh_steps(p_is_scheduled boolean)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('select ops.on_shards(%L, %s)', step.what, step.shard_id)
    from ops.on_living_shards(
        format(
            'select coalesce(jsonb_agg(jsonb_build_object(''shard_id'', {shard}, ''what'', s)), ''[]'') '
            'from telemetry.rollup_refresh_steps_{shard}(%L) as s',
            p_is_scheduled
        )
    ) as s (steps)
    cross join lateral jsonb_to_recordset(s.steps::jsonb) as step (shard_id bigint, what text);
$$;
comment on function telemetry.rollup_refresh_steps(boolean) is
    'Statements that refresh the rollups of every shard that can be reached, each to be run by itself.';

create or replace function telemetry.hasten_rollups(p_from timestamptz, p_to timestamptz)
returns double precision
language sql
security definer -- policies are their owner's
set search_path = pg_catalog, pg_temp
as $$
    select avg(s.share::double precision)
    from ops.on_shards(format('select telemetry.hasten_rollups_{shard}(%L, %L)', p_from, p_to))
        as s (share);
$$;
comment on function telemetry.hasten_rollups(timestamptz, timestamptz) is
    'Has the rollups of every shard refreshed now: sql/edition/*/refresh.sql.';

-- requires: archive/range.sql, edition/community/policy.sql
-- where: shards
--
-- How the rollups are brought up to date on demand; policies do it by themselves every few minutes.

create or replace function telemetry.rollup_refresh_steps(p_is_scheduled boolean)
returns setof text
language sql
stable
begin atomic
    -- what is cold would be erased
    select telemetry.refresh_call(s.rollup, archive.hot_from(), time_bucket(s.width, now()))
    from telemetry.rollups() as s
    where not p_is_scheduled
    order by s.no;
end;
comment on function telemetry.rollup_refresh_steps(boolean) is
    'Statements that refresh the rollups, in order, each to be run outside a transaction; scheduled: '
    'only those that nobody else runs regularly.';

-- Whoever may not refresh wakes the policies that do: one stage at a time, each when the one below is done.
-- What is left is read from TimescaleDB's own logs, in microseconds, and not from how a policy's last run
-- ended: some runs are said to have failed that have done all their work.
create or replace function telemetry.hasten_rollups(p_from timestamptz, p_to timestamptz)
returns double precision
language plpgsql
security definer -- policies are their owner's
set search_path = pg_catalog, pg_temp
as $$
declare
    v_newest constant timestamptz := (select max(r.ts) from telemetry.reading as r);
    v_from constant timestamptz :=
        greatest(p_from, archive.hot_from(), (select min(r.ts) from telemetry.reading as r));
    v_stage record;
    v_left double precision;
begin
    for v_stage in
        select
            s.no,
            j.job_id,
            j.next_start,
            g.mat_hypertable_id,
            g.raw_hypertable_id,
            int8range(
                _timescaledb_functions.to_unix_microseconds(e.starts_at),
                _timescaledb_functions.to_unix_microseconds(e.ends_at)
            ) as wanted
        from telemetry.rollups() as s
        join _timescaledb_catalog.continuous_agg as g
            on format('%s.%s', g.user_view_schema, g.user_view_name) = s.rollup
        join timescaledb_information.jobs as j
            on j.proc_name = 'policy_refresh_continuous_aggregate'
            and (j.config ->> 'mat_hypertable_id')::integer = g.mat_hypertable_id
        cross join lateral (
            -- no more than the policy's window
            select
                greatest(
                    public.time_bucket(s.width, v_from),
                    public.time_bucket(
                        s.width, now() - (j.config ->> 'start_offset')::interval + s.width)
                ) as starts_at,
                least(
                    public.time_bucket(s.width, least(p_to, v_newest)) + s.width,
                    public.time_bucket(s.width, now() - (j.config ->> 'end_offset')::interval)
                ) as ends_at
        ) as e
        where e.starts_at < e.ends_at
        order by s.no
    loop
        select sum(upper(r.part) - lower(r.part))::double precision
            / (upper(v_stage.wanted) - lower(v_stage.wanted))
        into v_left
        from (
            select
                unnest(
                    range_agg(
                        int8range(l.lowest, nullif(l.greatest, 9223372036854775807), '[]')
                        * v_stage.wanted
                    )
                ) as part
            from (
                select m.lowest_modified_value, m.greatest_modified_value
                from _timescaledb_catalog.continuous_aggs_materialization_invalidation_log as m
                where m.materialization_id = v_stage.mat_hypertable_id
                union all
                select h.lowest_modified_value, h.greatest_modified_value
                from _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log as h
                where h.hypertable_id = v_stage.raw_hypertable_id
            ) as l (lowest, greatest)
        ) as r;
        if v_left > 0 then
            if v_stage.next_start > clock_timestamp() then
                perform public.alter_job(v_stage.job_id, next_start => now());
            end if;
            return (3 - v_stage.no + least(v_left, 1)) / 3;
        end if;
    end loop;
    return 0;
end;
$$;
comment on function telemetry.hasten_rollups(timestamptz, timestamptz) is
    'Has the rollups of that time (p_from null: from the oldest reading on) refreshed now, and says which '
    'share of it is not yet. To be asked again until there is none.';

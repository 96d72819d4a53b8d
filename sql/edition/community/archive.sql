-- requires: archive/range.sql, edition/community/policy.sql
-- where: coordinator, shards
--
-- A continuous aggregate that is refreshed over a dropped chunk loses its history there. So the
-- policies' windows move first, and whoever refreshes starts at archive.hot_from().

create or replace function archive.rollup_steps(p_from timestamptz, p_to timestamptz)
returns setof text
language sql
stable
begin atomic
    select telemetry.refresh_call(
        s.rollup,
        time_bucket(w.width, p_from),
        time_bucket(w.width, p_to + w.width - interval '1 microsecond')
    )
    from telemetry.rollups() as s
    -- whole hours of minutes, or the hours' edges would lack some
    cross join lateral (select greatest(s.width, interval '1 hour') as width) as w
    -- some tenant's readings of that time have expired: its rollups are all there is of them
    where isempty(archive.frozen(p_from, p_to))
    order by s.no;
end;
comment on function archive.rollup_steps(timestamptz, timestamptz) is
    'Statements that bring the rollups of a range of hot readings up to date, each to be run by itself.';

create or replace function archive.protect_rollups(p_to timestamptz)
returns void
language sql
begin atomic
    select
        alter_job(
            j.job_id,
            config => jsonb_set(
                j.config, '{start_offset}',
                -- also widens it again: the window moves on with the clock, the border does not
                to_jsonb((now() - greatest(p_to, archive.hot_from()))::text)
            )
        )
    from timescaledb_information.jobs as j
    where j.proc_name = 'policy_refresh_continuous_aggregate'
        and greatest(p_to, archive.hot_from()) is not null
        -- named by the aggregate or, in earlier versions, by the table behind it
        and exists (
            select
            from timescaledb_information.continuous_aggregates as c
            where format('%I.%I', c.view_schema, c.view_name) in (
                    select p.rollup from telemetry.rollups() as p
                )
                and (
                    (j.hypertable_schema, j.hypertable_name) = (c.view_schema, c.view_name)
                    or (j.hypertable_schema, j.hypertable_name)
                        = (c.materialization_hypertable_schema, c.materialization_hypertable_name)
                )
        );
end;
comment on function archive.protect_rollups(timestamptz) is
    'Keeps scheduled refreshes off everything cold and everything before p_to (null: nothing else).';

-- A refresh takes its window along from its beginning, and writes for as long as it runs.
create or replace function archive.running_refreshes()
returns setof text
language sql
stable
begin atomic
    select format('%s since %s', a.pid, a.backend_start)
    from pg_stat_activity as a
    where a.datname = current_database()
        and a.application_name like 'Refresh Continuous Aggregate%';
end;
comment on function archive.running_refreshes() is
    'Scheduled refreshes that run now, each by a name that no later one has.';

create or replace function archive.hold_rollups(p_from timestamptz, p_to timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
    v_late integer;
begin
    -- a refresh holds its aggregate's table exclusively while it writes
    for v_name in
        select format('%I.%I', c.materialization_hypertable_schema, c.materialization_hypertable_name)
        from timescaledb_information.continuous_aggregates as c
        where format('%I.%I', c.view_schema, c.view_name) in (
            select p.rollup from telemetry.rollups() as p
        )
        order by 1
    loop
        execute format('lock table %s in share mode', v_name);
    end loop;
    select count(*) into v_late
    from timescaledb_information.jobs as j
    where j.proc_name = 'policy_refresh_continuous_aggregate'
        and (
            j.config ->> 'start_offset' is null
            or (j.config ->> 'start_offset')::interval > clock_timestamp() - p_to
        );
    if v_late > 0 then
        raise exception '% refresh policies reach before %', v_late, p_to
            using errcode = 'object_not_in_prerequisite_state';
    end if;
end;
$$;
comment on function archive.hold_rollups(timestamptz, timestamptz) is
    'Refuses while a refresh policy reaches into the range; keeps refreshes out until the commit.';

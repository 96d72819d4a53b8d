-- requires: edition/community/rollup.sql
-- where: coordinator, shards
--
-- How the rollups' policies work.
--
-- A refresh goes through its window in batches, each a transaction. As delivered a batch has ten buckets: a
-- month of history that comes late is thousands of commits, and whoever else refreshes meets one of them.
--
-- What is not refreshed yet is aggregated by every question on the fly, over readings that lie in order of
-- time and not of sensor. Only whole minutes can be refreshed, so each is right after its end, and not
-- more than once a minute: a late reading has the whole of its minute aggregated again. Hours and days
-- follow when minutes are done, so that no two are at it together.
--
-- Fixed times: a run that failed, which one that met another refresh has, is tried at the next of them.
-- Without, TimescaleDB would wait ever longer.

create or replace function telemetry.rollups()
returns table (
    no integer, rollup text, width interval, buckets_per_batch integer, every interval, after interval,
    end_offset interval
)
language sql
immutable
begin atomic
    select v.no, v.rollup, v.width, v.buckets_per_batch, v.every, v.after, v.end_offset
    from (
        values
            (
                1, 'telemetry.rollup_1m', interval '1 minute', 1440,
                interval '1 minute', interval '5 seconds', interval '2 seconds'
            ),
            (
                2, 'telemetry.rollup_1h', interval '1 hour', 744,
                interval '5 minutes', interval '20 seconds', interval '2 seconds'
            ),
            (
                3, 'telemetry.rollup_1d', interval '1 day', 366,
                interval '30 minutes', interval '35 seconds', interval '1 hour'
            )
    ) as v (no, rollup, width, buckets_per_batch, every, after, end_offset);
end;
comment on function telemetry.rollups() is
    'The rollups, each made of the one before it: width of a bucket, how many buckets one transaction of a '
    'refresh takes, how often a policy refreshes it, how long after the full minute, and up to how long ago.';

create or replace function telemetry.refresh_call(
    p_rollup text, p_from timestamptz, p_to timestamptz
)
returns text
language sql
stable
begin atomic
    select
        format('call public.refresh_continuous_aggregate(%L, %L, %L', p_rollup, p_from, p_to)
        || case
            -- earlier versions have no options, and no batches either
            when exists (
                select
                from pg_catalog.pg_proc as f
                where f.pronamespace = 'public'::regnamespace
                    and f.proname = 'refresh_continuous_aggregate'
                    and 'options' = any (f.proargnames)
            ) then format(
                ', options => %L', jsonb_build_object('buckets_per_batch', p.buckets_per_batch)
            )
            else ''
        end
        || ')'
    from telemetry.rollups() as p
    where p.rollup = p_rollup;
end;
comment on function telemetry.refresh_call(text, timestamptz, timestamptz) is
    'The statement that refreshes a rollup from p_from (null: its beginning) to p_to.';

-- it said the same of one rollup
drop function if exists telemetry.buckets_per_batch(text);

select
    alter_job(
        j.job_id,
        schedule_interval => p.every,
        retry_period => p.every,
        fixed_schedule => true,
        initial_start => timestamptz '2000-01-01 00:00:00+00' + p.after,
        config => j.config || jsonb_build_object(
            'buckets_per_batch', p.buckets_per_batch,
            'end_offset', p.end_offset::text
        )
    )
from telemetry.rollups() as p
join timescaledb_information.continuous_aggregates as c
    on format('%I.%I', c.view_schema, c.view_name) = p.rollup
join timescaledb_information.jobs as j
    on j.proc_name = 'policy_refresh_continuous_aggregate'
    -- named by the aggregate or, in earlier versions, by the table behind it
    and (j.hypertable_schema, j.hypertable_name) in (
        (c.view_schema, c.view_name),
        (c.materialization_hypertable_schema, c.materialization_hypertable_name)
    );

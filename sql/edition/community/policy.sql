-- requires: edition/community/rollup.sql
-- where: coordinator, shards
--
-- How the rollups' policies work.
--
-- A refresh goes through its window in batches, each a transaction. As delivered a batch has ten buckets: a
-- month of history that comes late is thousands of commits, and whoever else refreshes meets one of them.
--
-- What is not refreshed yet is aggregated by every question on the fly, over readings that lie in order of
-- time and not of sensor. So minutes follow soon. A run that failed is tried again after one, two, up to
-- twenty of its retry periods; as delivered each is as long as the schedule, so a policy that meets others
-- more than once comes five times as seldom.

create or replace function telemetry.buckets_per_batch(p_rollup text)
returns integer
language sql
immutable
begin atomic
    select
        case p_rollup
            when 'telemetry.rollup_1m' then 1440
            when 'telemetry.rollup_1h' then 744
            when 'telemetry.rollup_1d' then 366
        end;
end;
comment on function telemetry.buckets_per_batch(text) is
    'How many buckets of a rollup one transaction of a refresh takes; null for what is no rollup of ours.';

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
                from pg_catalog.pg_proc as p
                where p.pronamespace = 'public'::regnamespace
                    and p.proname = 'refresh_continuous_aggregate'
                    and 'options' = any (p.proargnames)
            ) then format(
                ', options => %L',
                jsonb_build_object('buckets_per_batch', telemetry.buckets_per_batch(p_rollup))
            )
            else ''
        end
        || ')';
end;
comment on function telemetry.refresh_call(text, timestamptz, timestamptz) is
    'The statement that refreshes a rollup from p_from (null: its beginning) to p_to.';

select
    alter_job(
        j.job_id,
        schedule_interval => p.every,
        retry_period => p.every / 20,
        config => j.config || jsonb_build_object(
            'buckets_per_batch', telemetry.buckets_per_batch(p.rollup),
            'end_offset', p.end_offset::text
        )
    )
from (
    values
        -- readings that come later than this are taken in by the next run
        ('telemetry.rollup_1m', interval '15 seconds', interval '15 seconds'),
        ('telemetry.rollup_1h', interval '5 minutes', interval '1 hour'),
        ('telemetry.rollup_1d', interval '30 minutes', interval '1 day')
) as p (rollup, every, end_offset)
join timescaledb_information.continuous_aggregates as c
    on format('%I.%I', c.view_schema, c.view_name) = p.rollup
join timescaledb_information.jobs as j
    on j.proc_name = 'policy_refresh_continuous_aggregate'
    -- named by the aggregate or, in earlier versions, by the table behind it
    and (j.hypertable_schema, j.hypertable_name) in (
        (c.view_schema, c.view_name),
        (c.materialization_hypertable_schema, c.materialization_hypertable_name)
    );

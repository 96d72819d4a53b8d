-- requires: edition/community/rollup.sql
-- where: coordinator, shards
--
-- A refresh goes through its window in batches, each a transaction. As delivered a batch has ten buckets: a
-- month of history that comes late is thousands of commits, and whoever else refreshes meets one of them.

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
        config => j.config || jsonb_build_object('buckets_per_batch', b.buckets)
    )
from timescaledb_information.continuous_aggregates as c
cross join lateral telemetry.buckets_per_batch(
    format('%I.%I', c.view_schema, c.view_name)
) as b (buckets)
join timescaledb_information.jobs as j
    on j.proc_name = 'policy_refresh_continuous_aggregate'
    -- named by the aggregate or, in earlier versions, by the table behind it
    and (j.hypertable_schema, j.hypertable_name) in (
        (c.view_schema, c.view_name),
        (c.materialization_hypertable_schema, c.materialization_hypertable_name)
    )
where b.buckets is not null;

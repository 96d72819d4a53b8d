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
    from (
        values
            (1, 'telemetry.rollup_1m', interval '1 minute'),
            (2, 'telemetry.rollup_1h', interval '1 hour'),
            (3, 'telemetry.rollup_1d', interval '1 day')
    ) as s (no, rollup, width)
    where not p_is_scheduled
    order by s.no;
end;
comment on function telemetry.rollup_refresh_steps(boolean) is
    'Statements that refresh the rollups, in order, each to be run outside a transaction; scheduled: '
    'only those that nobody else runs regularly.';

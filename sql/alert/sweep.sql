-- requires: alert/evaluate.sql
-- requires: alert/decide.sql
-- where: shards
--
-- Readings that came by another door (a COPY by hand, a restore), and what two writers at once could
-- not see of each other, go through the same door as everything else.

create or replace function alert.sweep(p_from timestamptz, p_to timestamptz)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    -- readings that an unresolved episode should have seen
    insert into alert.candidate (sensor_id, ts, value, metric_id)
    select r.sensor_id, r.ts, r.value, r.metric_id
    from alert.episode as e
    join telemetry.reading as r
        on r.sensor_id = e.sensor_id and r.metric_id = e.metric_id and r.ts > e.evaluated_at
    where e.state <> 'resolved'
    group by r.sensor_id, r.ts, r.value, r.metric_id;
    get diagnostics v_count = row_count;

    -- violations in the range that no episode covers
    with stream as materialized (
        select r.sensor_id, r.metric_id
        from telemetry.reading as r
        where r.ts >= p_from and r.ts < p_to
        group by r.sensor_id, r.metric_id
    ),
    rule as materialized (
        select r.*
        from (
            select array_agg(s.sensor_id) as sensor_ids, array_agg(s.metric_id) as metric_ids
            from stream as s
        ) as a
        cross join lateral alert.rules_for(a.sensor_ids, a.metric_ids) as r
    )
    insert into alert.candidate (sensor_id, ts, value, metric_id)
    select distinct r.sensor_id, r.ts, r.value, r.metric_id
    from telemetry.reading as r
    join rule as t on t.sensor_id = r.sensor_id and t.metric_id = r.metric_id
    where r.ts >= p_from and r.ts < p_to
        and alert.judge(r.value, t.side, t.limit_value, t.hysteresis) = 1
        and not exists (
            select
            from alert.episode as e
            where e.sensor_id = r.sensor_id and e.metric_id = r.metric_id
                and e.severity = t.severity and e.side = t.side
                and r.ts between e.opened_at and coalesce(e.resolved_at, 'infinity')
        );

    -- nobody can clear an alert whose limit is gone
    perform alert.decide(e.episode_id, e.tenant_id, 'resolved', 'headwater', 'threshold withdrawn')
    from alert.episode as e
    where e.state not in ('pending', 'resolved')
        and not exists (
            select
            from alert.rules_for(array[e.sensor_id], array[e.metric_id]) as r
            where r.severity = e.severity and r.side = e.side
        );
    return v_count;
end;
$$;
comment on function alert.sweep(timestamptz, timestamptz) is
    'Judges stored readings in [p_from, p_to) that no episode covers, and whatever unresolved episodes '
    'have missed; resolves alerts whose threshold is gone. Running it twice changes nothing more. '
    'Returns how many missed readings were judged.';

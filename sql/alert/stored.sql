-- requires: alert/judge.sql
-- where: shards
--
-- What the evaluation must know of stored readings. Functions of their own, because a plan over the
-- hypertable costs by the chunk to begin, and most batches never need it.

drop function if exists alert.count_stored(bigint, smallint, timestamptz, bigint);

create or replace function alert.count_stored(
    p_sensor_ids bigint[],
    p_metric_ids smallint[],
    p_from timestamptz[],
    p_to timestamptz
)
returns table (no bigint, reading_count bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_from constant timestamptz := (select min(f.ts) from unnest(p_from) as f (ts));
    -- what other senders deliver at the same time is not far ahead
    v_near constant timestamptz := p_to + interval '1 minute';
begin
    return query
    -- One walk for all: where no index has the sensor first, it passes everybody's readings.
    with near as materialized (
        select r.sensor_id, r.metric_id, r.ts
        from telemetry.reading as r
        where r.ts between v_from and v_near
            and r.sensor_id = any (p_sensor_ids) and r.metric_id = any (p_metric_ids)
    )
    select
        a.no,
        count(n.ts) + exists (
            select
            from telemetry.reading as r
            where r.sensor_id = a.sensor_id and r.metric_id = a.metric_id and r.ts > v_near
        )::integer
    from unnest(p_sensor_ids, p_metric_ids, p_from)
        with ordinality as a (sensor_id, metric_id, ts, no)
    left join near as n
        on n.sensor_id = a.sensor_id and n.metric_id = a.metric_id and n.ts >= a.ts
    group by a.no, a.sensor_id, a.metric_id;
end;
$$;
comment on function alert.count_stored(bigint[], smallint[], timestamptz[], timestamptz) is
    'How many readings datastreams (pairwise arrays; no: the position there) have from p_from on; all '
    'that are well after p_to count as one.';

create or replace function alert.stored_around(
    p_sensor_id bigint,
    p_metric_id smallint,
    p_from timestamptz,
    p_to timestamptz,
    p_side text,
    p_limit_value double precision,
    p_hysteresis double precision
)
returns table (ts timestamptz, value double precision, judgement integer)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_after constant timestamptz := coalesce((
        select r.ts
        from telemetry.reading as r
        where r.sensor_id = p_sensor_id and r.metric_id = p_metric_id and r.ts < p_from
            and alert.judge(r.value, p_side, p_limit_value, p_hysteresis) = -1
        order by r.ts desc
        limit 1
    ), '-infinity');
    v_until constant timestamptz := coalesce((
        select r.ts
        from telemetry.reading as r
        where r.sensor_id = p_sensor_id and r.metric_id = p_metric_id and r.ts > p_to
            and alert.judge(r.value, p_side, p_limit_value, p_hysteresis) = -1
        order by r.ts
        limit 1
    ), 'infinity');
begin
    return query
    select r.ts, r.value, alert.judge(r.value, p_side, p_limit_value, p_hysteresis)
    from telemetry.reading as r
    where r.sensor_id = p_sensor_id and r.metric_id = p_metric_id
        and r.ts > v_after and r.ts <= v_until;
end;
$$;
comment on function alert.stored_around(
    bigint, smallint, timestamptz, timestamptz, text, double precision, double precision
) is
    'A datastream''s readings, judged, from after the last clear one before p_from to the first clear '
    'one after p_to (infinity: all).';

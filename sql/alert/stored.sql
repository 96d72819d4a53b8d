-- requires: alert/judge.sql
-- where: shards
--
-- What the evaluation must know of stored readings. Functions of their own, because a plan over the
-- hypertable costs by the chunk to begin, and most batches never need it.

create or replace function alert.count_stored(
    p_sensor_id bigint,
    p_metric_id smallint,
    p_from timestamptz,
    p_at_most bigint
)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select count(*)
        from (
            select 1
            from telemetry.reading as r
            where r.sensor_id = p_sensor_id and r.metric_id = p_metric_id and r.ts >= p_from
            limit p_at_most
        ) as stored
    );
end;
$$;
comment on function alert.count_stored(bigint, smallint, timestamptz, bigint) is
    'How many readings a datastream has from p_from on; stops counting at p_at_most.';

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

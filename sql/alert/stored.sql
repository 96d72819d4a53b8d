-- requires: alert/judge.sql
-- where: shards
--
-- What the evaluation must know of stored readings. Functions of their own, because a plan over the
-- hypertable costs by the chunk to begin, and most batches never need it.

drop function if exists alert.count_stored(bigint, smallint, timestamptz, bigint);
drop function if exists alert.count_stored(bigint[], smallint[], timestamptz[], timestamptz);

create or replace function alert.count_stored(
    p_sensor_ids bigint[],
    p_metric_ids smallint[],
    p_from timestamptz[],
    p_counts bigint[],
    p_to timestamptz
)
returns table (no bigint, reading_count bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    c_many constant integer := 100;
    v_from constant timestamptz := (select min(f.ts) from unnest(p_from) as f (ts));
    -- what other senders deliver at the same time is not far ahead
    v_near constant timestamptz := p_to + interval '1 minute';
    v_moments timestamptz[];
    v_has_later boolean;
    v_is_few boolean;
    v_sensor_ids bigint[];
    v_metric_ids smallint[];
begin
    -- Where no index has the sensor first, a look passes everybody's readings. Clocks of whole seconds
    -- leave few distinct times, though, and the index leads from each to the next. As few statements as can
    -- be: each is planned anew, so that it leaves chunks out.
    with recursive moment as (
        (
            select r.ts, 1 as no
            from telemetry.reading as r
            where r.ts >= v_from and r.ts <= v_near
            order by r.ts
            limit 1
        )
        union all
        select
            (
                select r.ts
                from telemetry.reading as r
                -- v_from, too: the planner leaves out older chunks by it
                where r.ts > m.ts and r.ts > v_from and r.ts <= v_near
                order by r.ts
                limit 1
            ),
            m.no + 1
        from moment as m
        where m.ts is not null and m.no < c_many
    )
    select
        coalesce(array_agg(m.ts) filter (where m.ts is not null), '{}'),
        count(m.ts) < c_many,
        -- in the order of the index: the planner would rather read all than believe that there is none
        (
            select r.ts
            from telemetry.reading as r
            where r.ts > v_near
            order by r.ts
            limit 1
        ) is not null
    into v_moments, v_is_few, v_has_later
    from moment as m;

    -- who knows a reading for each of those times has nothing to look for
    select array_agg(distinct a.sensor_id), array_agg(distinct a.metric_id)
    into v_sensor_ids, v_metric_ids
    from unnest(p_sensor_ids, p_metric_ids, p_from, p_counts)
        as a (sensor_id, metric_id, ts, reading_count)
    where not v_is_few
        or a.reading_count < (select count(*) from unnest(v_moments) as m (ts) where m.ts >= a.ts);

    if v_sensor_ids is null and not v_has_later then
        return query
        select a.no, a.reading_count
        from unnest(p_counts) with ordinality as a (reading_count, no);
        return;
    end if;

    return query
    -- one walk for all
    with near as materialized (
        select r.sensor_id, r.metric_id, r.ts
        from telemetry.reading as r
        where v_sensor_ids is not null and not v_is_few and r.ts between v_from and v_near
            and r.sensor_id = any (v_sensor_ids) and r.metric_id = any (v_metric_ids)
        union all
        select r.sensor_id, r.metric_id, r.ts
        from telemetry.reading as r
        where v_sensor_ids is not null and v_is_few and r.ts = any (v_moments)
            and r.sensor_id = any (v_sensor_ids) and r.metric_id = any (v_metric_ids)
    )
    select
        a.no,
        greatest(a.reading_count, count(n.ts)) + exists (
            select
            from telemetry.reading as r
            where r.sensor_id = a.sensor_id and r.metric_id = a.metric_id and r.ts > v_near
        )::integer
    from unnest(p_sensor_ids, p_metric_ids, p_from, p_counts)
        with ordinality as a (sensor_id, metric_id, ts, reading_count, no)
    left join near as n
        on n.sensor_id = a.sensor_id and n.metric_id = a.metric_id and n.ts >= a.ts
    group by a.no, a.sensor_id, a.metric_id, a.reading_count;
end;
$$;
comment on function alert.count_stored(
    bigint[], smallint[], timestamptz[], bigint[], timestamptz
) is
    'How many readings datastreams (pairwise arrays; no: the position there) have from p_from on, of which '
    'the caller knows p_counts; all that are well after p_to count as one.';

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

-- requires: alert/judge.sql
-- where: shards
--
-- What the evaluation must know of stored readings. Functions of their own, because a plan over the
-- hypertable costs by the chunk to begin, and most batches never need it.

drop function if exists alert.count_stored(bigint, smallint, timestamptz, bigint);
drop function if exists alert.count_stored(bigint[], smallint[], timestamptz[], timestamptz);
drop function if exists alert.count_stored(
    bigint[], smallint[], timestamptz[], bigint[], timestamptz
);

create or replace function alert.have_more_stored(
    p_sensor_ids bigint[],
    p_metric_ids smallint[],
    p_from timestamptz[],
    p_counts bigint[],
    p_to timestamptz
)
returns boolean[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    c_many constant integer := 100;
    v_first timestamptz := p_from[1];
    v_from timestamptz;
    -- what other senders deliver at the same time is not far ahead
    v_near constant timestamptz := p_to + interval '1 minute';
    v_moments timestamptz[];
    v_end timestamptz;
    v_is_near boolean;
    v_count bigint;
    v_have_more boolean[];
begin
    foreach v_from in array p_from loop
        v_first := least(v_first, v_from);
    end loop;

    -- Where no index has the sensor first, a look passes everybody's readings. Clocks of whole seconds
    -- leave few distinct times, though, and the index leads from each to the next, up to the first that is
    -- not near.
    v_moments := array(
        with recursive moment as (
            select v_first - interval '1 microsecond' as ts, 0 as no
            union all
            select
                (
                    select r.ts
                    from telemetry.reading as r
                    -- v_first, too: older chunks are left out by it
                    where r.ts > m.ts and r.ts >= v_first
                    order by r.ts
                    limit 1
                ),
                m.no + 1
            from moment as m
            where m.ts <= v_near and m.no < c_many
        )
        select m.ts
        from moment as m
        order by m.no
    );
    v_end := v_moments[cardinality(v_moments)];
    v_is_near := v_end is null or v_end > v_near;
    v_moments := v_moments[2:cardinality(v_moments) - v_is_near::integer];

    if v_end is null then
        -- who knows a reading for each of those times has nothing to look for
        for v_no in 1 .. cardinality(p_from) loop
            v_count := 0;
            for v_at in reverse cardinality(v_moments) .. 1 loop
                exit when v_moments[v_at] < p_from[v_no] or v_count > p_counts[v_no];
                v_count := v_count + 1;
            end loop;
            v_have_more[v_no] := v_count > p_counts[v_no];
        end loop;
        if true <> all (v_have_more) then
            return v_have_more;
        end if;
        return array(
            select
                v_have_more[a.no] and a.reading_count < (
                    select count(*)
                    from telemetry.reading as r
                    where r.ts = any (v_moments) and r.ts >= a.ts
                        and r.sensor_id = a.sensor_id and r.metric_id = a.metric_id
                )
            from unnest(p_sensor_ids, p_metric_ids, p_from, p_counts)
                with ordinality as a (sensor_id, metric_id, ts, reading_count, no)
            order by a.no
        );
    end if;

    return array(
        -- at the times, or, where they are too many, one walk for all
        with near as materialized (
            select r.sensor_id, r.metric_id, r.ts
            from telemetry.reading as r
            where v_is_near and r.ts = any (v_moments)
                and r.sensor_id = any (p_sensor_ids) and r.metric_id = any (p_metric_ids)
            union all
            select r.sensor_id, r.metric_id, r.ts
            from telemetry.reading as r
            where not v_is_near and r.ts between v_first and v_near
                and r.sensor_id = any (p_sensor_ids) and r.metric_id = any (p_metric_ids)
        )
        select
            a.reading_count < count(n.ts)
            or exists (
                select
                from telemetry.reading as r
                where r.sensor_id = a.sensor_id and r.metric_id = a.metric_id and r.ts > v_near
            )
        from unnest(p_sensor_ids, p_metric_ids, p_from, p_counts)
            with ordinality as a (sensor_id, metric_id, ts, reading_count, no)
        left join near as n
            on n.sensor_id = a.sensor_id and n.metric_id = a.metric_id and n.ts >= a.ts
        group by a.no, a.sensor_id, a.metric_id, a.ts, a.reading_count
        order by a.no
    );
end;
$$;
comment on function alert.have_more_stored(
    bigint[], smallint[], timestamptz[], bigint[], timestamptz
) is
    'Whether datastreams (pairwise arrays) have more than p_counts stored readings from p_from on; what the '
    'caller knows ends at p_to.';

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
set plan_cache_mode = auto -- rare, and it may reach far back: worth a plan that leaves chunks out
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

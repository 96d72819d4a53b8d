-- A chunk as its readers want it: a column's values side by side as bytes, and for each piece what
-- PostgreSQL itself counted, added up and hashed. That spares both ends a protocol message a reading, and it
-- is the database's half of the proof that nothing changed on the way (app/archive/chunk.py).
--
-- Turning a value into bytes is the dearest step. So flags are sent only where they are not the usual one, or
-- in one number with sensor and metric; and what a columnstore answers for a thousand readings at once,
-- sums and rare flags, is asked of it by itself.

drop function if exists archive.pieces_of_sensors(timestamptz, timestamptz, bigint, bigint);
create or replace function archive.pieces_of_sensors(
    p_from timestamptz, p_to timestamptz, p_first bigint, p_last bigint, p_usual smallint
)
returns table (
    sensor_id bigint, metric_id smallint, row_count bigint, first_us bigint, last_us bigint,
    value_sum double precision, ts bytea, value bytea, flag_ts bytea, flag bytea, sha256 bytea
)
language plpgsql -- a distributed server plans no statement with an SQL function's parameters
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = 'force_custom_plan' -- with the times known, a whole chunk is not compared with them
as $$
begin
    return query
    select
        p.sensor_id, p.metric_id, s.row_count, (extract(epoch from s.first_ts) * 1000000)::bigint,
        (extract(epoch from s.last_ts) * 1000000)::bigint, s.value_sum, p.ts, p.value,
        coalesce(f.flag_ts, ''), coalesce(f.flag, ''),
        sha256(
            sha256(p.ts) || sha256(p.value) || sha256(coalesce(f.flag_ts, ''))
            || sha256(coalesce(f.flag, ''))
        )
    from (
        select
            r.sensor_id, r.metric_id, string_agg(timestamptz_send(r.ts), null::bytea) as ts,
            string_agg(float8send(r.value), null::bytea) as value
        from telemetry.reading as r
        where r.ts >= p_from and r.ts < p_to and r.sensor_id between p_first and p_last
        group by r.sensor_id, r.metric_id
    ) as p
    join (
        select
            r.sensor_id, r.metric_id, count(*) as row_count, min(r.ts) as first_ts,
            max(r.ts) as last_ts, sum(r.value) as value_sum
        from telemetry.reading as r
        where r.ts >= p_from and r.ts < p_to and r.sensor_id between p_first and p_last
        group by r.sensor_id, r.metric_id
    ) as s on s.sensor_id = p.sensor_id and s.metric_id = p.metric_id
    left join (
        select
            r.sensor_id, r.metric_id, string_agg(timestamptz_send(r.ts), null::bytea) as flag_ts,
            string_agg(int2send(r.quality), null::bytea) as flag
        from telemetry.reading as r
        where r.ts >= p_from and r.ts < p_to and r.sensor_id between p_first and p_last
            and r.quality <> p_usual
        group by r.sensor_id, r.metric_id
    ) as f on f.sensor_id = p.sensor_id and f.metric_id = p.metric_id;
end;
$$;
comment on function archive.pieces_of_sensors(
    timestamptz, timestamptz, bigint, bigint, smallint
) is
    'Readings of some sensors in [p_from, p_to), a row a series: the way to read a columnstore chunk, '
    'which keeps series together. ts and value are the values'' binary forms; flag has the qualities other '
    'than p_usual, and flag_ts the times of their readings.';

drop function if exists archive.piece_of_pages(regclass, bigint, bigint);
create or replace function archive.piece_of_pages(p_chunk regclass, p_first bigint, p_last bigint)
returns table (
    row_count bigint, first_us bigint, last_us bigint, value_sum double precision, key bytea,
    ts bytea, value bytea, sha256 bytea
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        $query$
            select
                p.row_count, (extract(epoch from p.first_ts) * 1000000)::bigint,
                (extract(epoch from p.last_ts) * 1000000)::bigint, p.value_sum, p.key, p.ts, p.value,
                sha256(sha256(p.key) || sha256(p.ts) || sha256(p.value))
            from (
                select
                    count(*) as row_count, min(r.ts) as first_ts, max(r.ts) as last_ts,
                    sum(r.value) as value_sum,
                    string_agg(
                        -- a sensor beyond 2^43 is an error, not another sensor
                        int8send(r.sensor_id * 1048576 + (r.metric_id * 16 + r.quality)), null::bytea
                    ) as key,
                    string_agg(timestamptz_send(r.ts), null::bytea) as ts,
                    string_agg(float8send(r.value), null::bytea) as value
                from %s as r
                where r.ctid >= %L::tid and r.ctid < %L::tid
            ) as p
            where p.row_count > 0
        $query$,
        p_chunk, format('(%s,0)', p_first), format('(%s,0)', p_last)
    );
end;
$$;
comment on function archive.piece_of_pages(regclass, bigint, bigint) is
    'Readings in the pages [p_first, p_last) of a row store chunk as they lie there, all in one row, or '
    'none: grouping them costs less where they arrive. A reading''s key is its sensor_id * 2^20 + '
    'metric_id * 2^4 + quality; ts and value as in archive.pieces_of_sensors().';

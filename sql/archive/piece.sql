-- A chunk as its readers want it: series by series, a column's values side by side as bytes, and for each
-- piece what PostgreSQL itself counted, added up and hashed. That spares both ends a protocol message a
-- reading, and it is the database's half of the proof that nothing changed on the way
-- (app/archive/chunk.py).

create or replace function archive.pieces_of_sensors(
    p_from timestamptz, p_to timestamptz, p_first bigint, p_last bigint
)
returns table (
    sensor_id bigint, metric_id smallint, row_count bigint, first_us bigint, last_us bigint,
    value_sum double precision, ts bytea, value bytea, quality bytea, sha256 bytea
)
language plpgsql -- a distributed server plans no statement with an SQL function's parameters
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        p.sensor_id, p.metric_id, p.row_count, (extract(epoch from p.first_ts) * 1000000)::bigint,
        (extract(epoch from p.last_ts) * 1000000)::bigint, p.value_sum, p.ts, p.value, p.quality,
        sha256(sha256(p.ts) || sha256(p.value) || sha256(p.quality))
    from (
        select
            r.sensor_id, r.metric_id, count(*) as row_count, min(r.ts) as first_ts,
            max(r.ts) as last_ts, sum(r.value) as value_sum,
            string_agg(timestamptz_send(r.ts), null::bytea) as ts,
            string_agg(float8send(r.value), null::bytea) as value,
            string_agg(int2send(r.quality), null::bytea) as quality
        from telemetry.reading as r
        where r.ts >= p_from and r.ts < p_to and r.sensor_id between p_first and p_last
        group by r.sensor_id, r.metric_id
    ) as p;
end;
$$;
comment on function archive.pieces_of_sensors(timestamptz, timestamptz, bigint, bigint) is
    'Readings of some sensors in [p_from, p_to), a row a series: the way to read a columnstore chunk, '
    'which keeps series together. ts, value and quality are the values'' binary forms.';

create or replace function archive.piece_of_pages(p_chunk regclass, p_first bigint, p_last bigint)
returns table (
    row_count bigint, first_us bigint, last_us bigint, value_sum double precision, sensor_id bytea,
    metric_id bytea, ts bytea, value bytea, quality bytea, sha256 bytea
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
                (extract(epoch from p.last_ts) * 1000000)::bigint, p.value_sum, p.sensor_id,
                p.metric_id, p.ts, p.value, p.quality,
                sha256(
                    sha256(p.sensor_id) || sha256(p.metric_id) || sha256(p.ts) || sha256(p.value)
                    || sha256(p.quality)
                )
            from (
                select
                    count(*) as row_count, min(r.ts) as first_ts, max(r.ts) as last_ts,
                    sum(r.value) as value_sum,
                    string_agg(int8send(r.sensor_id), null::bytea) as sensor_id,
                    string_agg(int2send(r.metric_id), null::bytea) as metric_id,
                    string_agg(timestamptz_send(r.ts), null::bytea) as ts,
                    string_agg(float8send(r.value), null::bytea) as value,
                    string_agg(int2send(r.quality), null::bytea) as quality
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
    'none: grouping them costs less where they arrive. Columns as in archive.pieces_of_sensors().';

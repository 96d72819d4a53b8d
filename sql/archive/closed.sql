-- where: coordinator, shards

create or replace function archive.closed_chunks(p_before timestamptz)
returns table (range_from timestamptz, range_to timestamptz, chunk regclass, is_columnar boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        c.range_start, c.range_end,
        format('%I.%I', c.chunk_schema, c.chunk_name)::regclass,
        c.is_compressed
    from timescaledb_information.chunks as c
    where format('%I.%I', c.hypertable_schema, c.hypertable_name) = 'telemetry.reading'
        and c.range_end <= p_before
$$;
comment on function archive.closed_chunks(timestamptz) is
    'Chunks of readings that ended by then, with their ranges.';

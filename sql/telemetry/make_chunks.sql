-- where: shards
-- Whoever creates a chunk holds a lock on the hypertable until its commit: two connections that load
-- new days would wait for each other. So the chunks are made beforehand, in a transaction of their own.

create or replace function telemetry.make_chunks(p_days timestamptz[])
returns void
language plpgsql
security definer -- the ingest role may append, not delete
set search_path = pg_catalog, pg_temp
as $$
begin
    -- nothing but a row makes a chunk on every edition; nobody ever sees this one
    insert into telemetry.reading (sensor_id, ts, value, metric_id, quality)
    select 0, d.day, 0, 0, 9
    from unnest(p_days) as d (day)
    where not exists (
        select
        from timescaledb_information.chunks as c
        where format('%I.%I', c.hypertable_schema, c.hypertable_name) = 'telemetry.reading'
            and d.day >= c.range_start and d.day < c.range_end
    );
    if found then
        delete from telemetry.reading as r
        where r.ts = any (p_days) and r.sensor_id = 0 and r.metric_id = 0;
    end if;
end;
$$;
comment on function telemetry.make_chunks(timestamptz[]) is
    'Makes the chunks that readings at these times will need, where they are missing.';

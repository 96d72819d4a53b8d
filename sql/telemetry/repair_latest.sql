-- where: shards
-- Latest readings are written right after the readings' commit; a process that dies in between leaves
-- them behind by what it had committed in its last moments.

create or replace function telemetry.repair_latest()
returns bigint
language sql
security definer -- the ingest role that calls it at its start may not read the log
set search_path = pg_catalog, pg_temp
begin atomic
    with recent as materialized (
        select min(l.first_ts) as from_ts, max(l.last_ts) as to_ts
        from telemetry.ingest_log as l
        where l.created_at > (
            select max(n.created_at) - interval '1 minute' from telemetry.ingest_log as n
        )
        -- one range a day, as the log has it: a single late reading must not widen the others
        group by date_trunc('day', l.first_ts, 'UTC')
    ),
    newest as (
        select distinct on (r.sensor_id, r.metric_id)
            r.sensor_id, r.metric_id, r.ts, r.value, r.quality
        from recent as n
        join telemetry.reading as r on r.ts >= n.from_ts and r.ts <= n.to_ts
        order by r.sensor_id, r.metric_id, r.ts desc
    ),
    repaired as (
        insert into telemetry.latest_reading as l (sensor_id, metric_id, ts, value, quality)
        select n.sensor_id, n.metric_id, n.ts, n.value, n.quality
        from newest as n
        on conflict (sensor_id, metric_id) do update set
            ts = excluded.ts,
            value = excluded.value,
            quality = excluded.quality
        where excluded.ts > l.ts
        returning 1
    )
    select count(*) from repaired;
end;
comment on function telemetry.repair_latest() is
    'Brings telemetry.latest_reading up to date with the last minute of the ingest log; returns how '
    'many datastreams were behind.';

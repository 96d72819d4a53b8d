-- requires: alert/bucket.sql
-- where: shards
--
-- What writers remember and how they learn that it is old.

-- what it was before
drop function if exists alert.changed_since(smallint[], bigint[]);

create or replace function alert.changed_since(p_versions bigint[])
returns table (bucket smallint, version bigint, sensor_ids bigint[], metric_ids smallint[])
language plpgsql -- keeps the plan; every transaction of a writer asks
stable
-- the ingest role may not read episodes
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        w.bucket, w.version, coalesce(s.sensor_ids, '{}'), coalesce(s.metric_ids, '{}')
    from alert.watch as w
    cross join lateral (
        select array_agg(e.sensor_id) as sensor_ids, array_agg(e.metric_id) as metric_ids
        from alert.episode as e
        where e.state <> 'resolved' and alert.bucket_of(e.sensor_id) = w.bucket
    ) as s
    -- by position: the one look of every transaction, and a join would be most of it
    where w.version <> p_versions[w.bucket + 2];
end;
$$;
comment on function alert.changed_since(bigint[]) is
    'Buckets whose version is another than the one given (from that of the thresholds, -1, on), with their '
    'datastreams (pairwise arrays) that have an unresolved episode, one entry for each.';

create or replace function alert.tg_threshold__outdate()
returns trigger
language plpgsql
security definer -- whoever changes a threshold or a sensor need not know of the writers' memory
set search_path = pg_catalog, pg_temp
as $$
begin
    update alert.watch as w set version = w.version + 1 where w.bucket = -1;
    return null;
end;
$$;
comment on function alert.tg_threshold__outdate() is
    'Makes writers load the bands anew before they rely on them again.';

create or replace trigger _500_outdate
after insert or update or delete on alert.threshold
for each statement execute function alert.tg_threshold__outdate();

-- a sensor that moves to another site comes under other limits
create or replace trigger _500_outdate
after update on telemetry.sensor
for each statement execute function alert.tg_threshold__outdate();

-- an index for the list of sensors, small because few episodes are unresolved
create index if not exists episode_unresolved_bucket_idx
    on alert.episode (alert.bucket_of(sensor_id), sensor_id) where state <> 'resolved';

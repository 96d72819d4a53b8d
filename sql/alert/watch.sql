-- requires: alert/bucket.sql
-- where: shards
--
-- What writers remember and how they learn that it is old.

-- its columns can't be changed otherwise
drop function if exists alert.changed_since(smallint[], bigint[]);

create or replace function alert.changed_since(p_buckets smallint[], p_versions bigint[])
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
    from unnest(p_buckets, p_versions) as known (bucket, version)
    join alert.watch as w on w.bucket = known.bucket
    cross join lateral (
        select array_agg(e.sensor_id) as sensor_ids, array_agg(e.metric_id) as metric_ids
        from alert.episode as e
        where e.state <> 'resolved' and alert.bucket_of(e.sensor_id) = w.bucket
    ) as s
    where w.version <> known.version;
end;
$$;
comment on function alert.changed_since(smallint[], bigint[]) is
    'Of the given buckets those whose version is another by now, with their datastreams (pairwise arrays) '
    'that have an unresolved episode, one entry for each.';

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

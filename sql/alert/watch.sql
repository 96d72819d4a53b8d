-- What writers remember and how they learn that it is old.

create or replace function alert.bucket_of(p_sensor_id bigint)
returns smallint
language sql
immutable
parallel safe
return (p_sensor_id & 255)::smallint;
comment on function alert.bucket_of(bigint) is
    'The bucket of alert.watch, and of the evaluation''s locks, that a sensor belongs to.';

create or replace function alert.changed_since(p_buckets smallint[], p_versions bigint[])
returns table (bucket smallint, version bigint, sensor_ids bigint[])
language plpgsql -- keeps the plan; every transaction of a writer asks
stable
-- the ingest role may not read episodes
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        w.bucket, w.version,
        array(
            select distinct e.sensor_id
            from alert.episode as e
            where e.state <> 'resolved' and alert.bucket_of(e.sensor_id) = w.bucket
        )
    from unnest(p_buckets, p_versions) as known (bucket, version)
    join alert.watch as w on w.bucket = known.bucket
    where w.version <> known.version;
end;
$$;
comment on function alert.changed_since(smallint[], bigint[]) is
    'Of the given buckets those whose version is another by now, with their sensors that have an '
    'unresolved episode.';

create or replace function alert.bands()
returns table (
    tenant_id integer,
    site_id bigint,
    sensor_id bigint,
    metric_id smallint,
    low double precision,
    high double precision
)
language sql
stable
-- the ingest role may not read thresholds
security definer
set search_path = pg_catalog, pg_temp
begin atomic
    select
        t.tenant_id, t.site_id, t.sensor_id, t.metric_id,
        coalesce(max(t.limit_value) filter (where t.side = 'low'), '-infinity'),
        coalesce(min(t.limit_value) filter (where t.side = 'high'), 'infinity')
    from alert.threshold as t
    where t.is_enabled
    group by t.tenant_id, t.site_id, t.sensor_id, t.metric_id;
end;
comment on function alert.bands() is
    'For each scope and metric the band, limits included, in which values violate no limit of that '
    'scope. Inside the bands of all scopes that could apply to it, a value violates nothing.';

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

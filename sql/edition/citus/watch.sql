-- where: placements
--
-- The writers' memory for those who write through the coordinator: the version of the thresholds as on one
-- server; which sensors have an unresolved episode only the shards know, so it is asked each time.
--
-- It runs as whoever asks, unlike its twin: Citus refuses to read shards as one role where the transaction has
-- written to them as another, and the writer has just sent its readings.

create or replace function alert.watched_living()
returns bigint[]
language sql
security definer -- only the owner may ask shards one by one, on connections of their own
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(distinct s.sensor_id)
    from run_command_on_placements(
        'alert.episode',
        'select array_agg(e.sensor_id) from %s as e where e.state <> ''resolved'''
    ) as p
    cross join lateral unnest(
        case when p.success and p.result <> '' then p.result::bigint[] end
    ) as s (sensor_id);
$$;
comment on function alert.watched_living() is
    'Sensors with an unresolved episode on the nodes that can be reached.';

create or replace function alert.changed_since(p_buckets smallint[], p_versions bigint[])
returns table (bucket smallint, version bigint, sensor_ids bigint[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sensor_ids bigint[];
begin
    return query
    select w.bucket, w.version, array[]::bigint[]
    from unnest(p_buckets, p_versions) as known (bucket, version)
    join alert.watch as w on w.bucket = known.bucket
    where w.bucket = -1 and w.version <> known.version;
    begin
        select array_agg(distinct e.sensor_id)
        into v_sensor_ids
        from alert.episode as e
        where e.state <> 'resolved' and alert.bucket_of(e.sensor_id) = any (p_buckets);
    exception
        when connection_failure then
            -- what lies on the node that is away, nobody can write either
            v_sensor_ids := alert.watched_living();
    end;
    return query
    select
        b.bucket, 0::bigint,
        array(select s from unnest(v_sensor_ids) as s where alert.bucket_of(s) = b.bucket)
    from unnest(p_buckets) as b (bucket)
    where b.bucket >= 0;
end;
$$;
comment on function alert.changed_since(smallint[], bigint[]) is
    'The given buckets with their sensors that have an unresolved episode; bucket -1, the thresholds, only '
    'where its version is another by now.';

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
    'Makes those who write through the coordinator load the bands anew.';

create or replace trigger _500_outdate
after insert or update or delete on alert.threshold
for each statement execute function alert.tg_threshold__outdate();

create or replace trigger _500_outdate
after update on telemetry.sensor
for each statement execute function alert.tg_threshold__outdate();

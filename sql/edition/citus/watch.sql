-- where: placements
--
-- The writers' memory for those who write through the coordinator: the version of the thresholds as on one
-- server; which datastreams have an unresolved episode only the shards know, so it is asked each time.
--
-- It runs as whoever asks, unlike its twin: Citus refuses to read shards as one role where the transaction has
-- written to them as another, and the writer has just sent its readings.

drop function if exists alert.watched_living();

create or replace function alert.watched_living()
returns table (sensor_id bigint, metric_id smallint)
language sql
security definer -- only the owner may ask shards one by one, on connections of their own
set search_path = pg_catalog, pg_temp
as $$
    select s.pairs[no][1], s.pairs[no][2]::smallint
    from run_command_on_placements(
        'alert.episode',
        'select array_agg(array[e.sensor_id, e.metric_id]) from %s as e where e.state <> ''resolved'''
    ) as p
    cross join lateral (
        select case when p.success and p.result <> '' then p.result::bigint[] end as pairs
    ) as s
    cross join lateral generate_subscripts(s.pairs, 1) as no;
$$;
comment on function alert.watched_living() is
    'Datastreams with an unresolved episode on the nodes that can be reached, once for each.';

-- what it was before
drop function if exists alert.changed_since(smallint[], bigint[]);

create or replace function alert.changed_since(p_versions bigint[])
returns table (bucket smallint, version bigint, sensor_ids bigint[], metric_ids smallint[])
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sensor_ids bigint[];
    v_metric_ids smallint[];
begin
    return query
    select w.bucket, w.version, array[]::bigint[], array[]::smallint[]
    from alert.watch as w
    where w.bucket = -1 and w.version <> p_versions[1];
    begin
        select array_agg(e.sensor_id), array_agg(e.metric_id)
        into v_sensor_ids, v_metric_ids
        from alert.episode as e
        where e.state <> 'resolved';
    exception
        when connection_failure then
            -- what lies on the node that is away, nobody can write either
            select array_agg(e.sensor_id), array_agg(e.metric_id)
            into v_sensor_ids, v_metric_ids
            from alert.watched_living() as e;
    end;
    return query
    select
        b.bucket::smallint, 0::bigint,
        coalesce(array_agg(s.sensor_id) filter (where s.sensor_id is not null), '{}'),
        coalesce(array_agg(s.metric_id) filter (where s.sensor_id is not null), '{}')
    from generate_series(0, 255) as b (bucket)
    left join unnest(v_sensor_ids, v_metric_ids) as s (sensor_id, metric_id)
        on alert.bucket_of(s.sensor_id) = b.bucket
    group by b.bucket;
end;
$$;
comment on function alert.changed_since(bigint[]) is
    'All buckets with their datastreams (pairwise arrays) that have an unresolved episode, one entry '
    'for each; bucket -1, the thresholds, only where its version is another than the first given.';

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

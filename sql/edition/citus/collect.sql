-- requires: alert/collect.sql, alert/ring.sql
--
-- Events of a group of shards that is on the way to another node stay with it until it is there: nobody may
-- delete them meanwhile, and the events of all others need not wait for that.

create or replace function alert.append_events(p_events alert.outbox_shard[])
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into alert.outbox (
        tenant_id, site_id, sensor_id, episode_id, kind, severity, ts, value, created_at
    )
    select
        e.tenant_id, e.site_id, e.sensor_id, e.episode_id, e.kind, e.severity, e.ts, e.value,
        e.created_at
    from unnest(p_events) with ordinality as e
    order by e.ordinality;
    perform alert.ring();
    return cardinality(p_events);
end;
$$;
comment on function alert.append_events(alert.outbox_shard[]) is
    'Puts events that shards have noted into alert.outbox, in their order, and rings; how many.';

create or replace function alert.collect()
returns bigint
language plpgsql
security definer -- whoever listens may not delete
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events alert.outbox_shard[];
begin
    if exists (select from ops.shard_move as m where m.finished_at is null) then
        return alert.collect_living();
    end if;
    -- one collector at a time; whoever comes second finds what came meanwhile
    perform pg_advisory_xact_lock(7204, 0);
    select array_agg(o order by o.created_at, o.outbox_id)
    into v_events
    from alert.outbox_shard as o;
    if v_events is null then
        return 0;
    end if;
    delete from alert.outbox_shard as o
    where o.outbox_id = any (array(select e.outbox_id from unnest(v_events) as e));
    return alert.append_events(v_events);
end;
$$;
comment on function alert.collect() is
    'Brings the events that shards have noted into alert.outbox, in one transaction; how many.';

-- The same events, read from each shard by itself. Deleting them reaches only the shards they came from,
-- so what is told is deleted in the same transaction here, too.
create or replace function alert.collect_living()
returns bigint
language plpgsql
security definer -- whoever listens may not delete
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events alert.outbox_shard[];
begin
    perform pg_advisory_xact_lock(7204, 0);
    select array_agg(o order by o.created_at, o.outbox_id)
    into v_events
    from run_command_on_placements(
        'alert.outbox_shard', 'select coalesce(jsonb_agg(o), ''[]'') from %s as o'
    ) as p
    cross join lateral jsonb_populate_recordset(
        null::alert.outbox_shard, case when p.success then p.result::jsonb end
    ) as o
    where get_shard_id_for_distribution_column('telemetry.reading', o.sensor_id) <> all (array(
        select m.shard_id from ops.shard_move as m where m.finished_at is null
    ));
    if v_events is null then
        return 0;
    end if;
    execute format(
        'delete from alert.outbox_shard as o where o.sensor_id = any (%L) and o.outbox_id = any (%L)',
        array(select distinct e.sensor_id from unnest(v_events) as e),
        array(select e.outbox_id from unnest(v_events) as e)
    );
    return alert.append_events(v_events);
end;
$$;
comment on function alert.collect_living() is
    'alert.collect from those nodes that can be reached: slower, it connects to each anew.';

-- requires: alert/ring.sql, alert/watch.sql
-- where: shards
--
-- What follows from a change of episodes, whoever made it: events for the outbox, a new version of the
-- writers' memory, the bell.

create or replace function alert.tg_episode__tell()
returns trigger
language plpgsql
-- whoever may change an episode need not know who is told
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_before alert.episode[];
    v_after alert.episode[];
begin
    if tg_op <> 'INSERT' then
        select array_agg(b) into v_before from before as b;
    end if;
    if tg_op <> 'DELETE' then
        select array_agg(a) into v_after from after as a;
    end if;

    -- writers that remember which sensors have an unresolved episode have to look again; an array, because
    -- to IN the planner would compare all buckets
    with outdated as (
        update alert.watch as w
        set version = w.version + 1
        where w.bucket = any (array(
            select alert.bucket_of(coalesce(a.sensor_id, b.sensor_id))
            from unnest(v_after) as a
            full join unnest(v_before) as b on b.episode_id = a.episode_id
            where
                (coalesce(a.state, 'resolved') = 'resolved') <> (coalesce(b.state, 'resolved') = 'resolved')
        ))
    )
    insert into alert.outbox (
        tenant_id, site_id, sensor_id, episode_id, kind, severity, ts, value
    )
    select a.tenant_id, a.site_id, a.sensor_id, a.episode_id, k.kind, a.severity, k.ts, a.peak
    from unnest(v_after) as a
    left join unnest(v_before) as b on b.episode_id = a.episode_id
    cross join lateral (
        select 1 as no, 'raised' as kind, a.opened_at as ts
        where a.state <> 'pending' and coalesce(b.state, 'pending') = 'pending'
        union all
        select 2, a.state, now()
        where a.state in ('acknowledged', 'investigating') and a.state is distinct from b.state
        union all
        select 3, 'resolved', a.resolved_at
        where a.state = 'resolved' and b.state is distinct from 'resolved'
    ) as k
    order by a.opened_at, a.episode_id, k.no;
    if found then
        perform alert.ring();
    end if;
    return null;
end;
$$;
comment on function alert.tg_episode__tell() is
    'Appends what happened to the outbox, outdates what writers remember of the sensors and rings once.';

create or replace trigger _500_tell_insert
after insert on alert.episode
referencing new table as after
for each statement execute function alert.tg_episode__tell();

create or replace trigger _500_tell_update
after update on alert.episode
referencing old table as before new table as after
for each statement execute function alert.tg_episode__tell();

create or replace trigger _500_tell_delete
after delete on alert.episode
referencing old table as before
for each statement execute function alert.tg_episode__tell();

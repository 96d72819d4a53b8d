-- requires: alert/ring.sql, alert/watch.sql
-- where: shards
--
-- What follows from a change of an episode, whoever made it: events for the outbox, a new version of the
-- writers' memory, the bell.
--
-- By the row: most transactions change few, and a statement over transition tables costs as much as a dozen
-- rows. Rows come after their statement, when all of its episodes are locked.

create or replace function alert.tg_episode__tell()
returns trigger
language plpgsql
-- whoever may change an episode need not know who is told
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- an episode that is not there is as good as a resolved one, and nobody knows of it yet
    v_was constant text := case when tg_op <> 'INSERT' then old.state end;
    v_is constant text := case when tg_op <> 'DELETE' then new.state end;
    v_sensor_id constant bigint := case when tg_op = 'DELETE' then old.sensor_id else new.sensor_id end;
begin
    -- writers that remember which sensors have an unresolved episode have to look again
    if (coalesce(v_was, 'resolved') = 'resolved') <> (coalesce(v_is, 'resolved') = 'resolved') then
        update alert.watch as w
        set version = w.version + 1
        where w.bucket = alert.bucket_of(v_sensor_id);
    end if;

    insert into alert.outbox (tenant_id, site_id, sensor_id, episode_id, kind, severity, ts, value)
    select
        new.tenant_id, new.site_id, new.sensor_id, new.episode_id, k.kind, new.severity,
        case k.kind when 'raised' then new.opened_at when 'resolved' then new.resolved_at else now() end,
        new.peak
    from unnest(array[
        case when v_is <> 'pending' and coalesce(v_was, 'pending') = 'pending' then 'raised' end,
        case when v_is in ('acknowledged', 'investigating', 'resolved') then v_is end
    ]) as k (kind)
    where k.kind is not null;
    if found then
        perform alert.ring();
    end if;
    return null;
end;
$$;
comment on function alert.tg_episode__tell() is
    'Appends what happened to an episode to the outbox, outdates what writers remember of its sensor and rings.';

create or replace trigger _500_tell_insert
after insert on alert.episode
for each row execute function alert.tg_episode__tell();

create or replace trigger _500_tell_update
after update on alert.episode
for each row when (new.state <> old.state) execute function alert.tg_episode__tell();

create or replace trigger _500_tell_delete
after delete on alert.episode
for each row when (old.state <> 'resolved') execute function alert.tg_episode__tell();

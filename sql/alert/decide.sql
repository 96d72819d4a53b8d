-- requires: alert/tell.sql
-- where: coordinator, shards
--
-- What people decide about an alert.

create or replace function alert.decide(
    p_episode_id bigint,
    p_tenant_id integer,
    p_state text,
    p_by text,
    p_note text
)
returns alert.episode
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_sensor_id bigint;
    v_now constant timestamptz := now();
    v_episode alert.episode;
begin
    -- by sensor, so that a distributed server locks one row on one shard
    select e.sensor_id
    into v_sensor_id
    from alert.episode as e
    where e.episode_id = p_episode_id;

    select e.*
    into v_episode
    from alert.episode as e
    where e.sensor_id = v_sensor_id
        and e.episode_id = p_episode_id
        and (p_tenant_id is null or e.tenant_id = p_tenant_id)
        and e.state <> 'pending'
    for update;
    if not found then
        return null;
    end if;
    if v_episode.state = 'resolved' or v_episode.state = p_state
        or p_state not in ('acknowledged', 'investigating', 'resolved') then
        raise exception using
            errcode = 'HW409',
            message = format('alert %s is %s and cannot become %s',
                p_episode_id, v_episode.state, p_state);
    end if;

    update alert.episode as e
    set state = p_state,
        acknowledged_at = coalesce(e.acknowledged_at, v_now),
        acknowledged_by = coalesce(e.acknowledged_by, p_by),
        resolved_at = case when p_state = 'resolved' then greatest(v_now, e.evaluated_at) end,
        resolved_by = case when p_state = 'resolved' then p_by end,
        note = coalesce(p_note, e.note)
    where e.sensor_id = v_sensor_id and e.episode_id = p_episode_id
    returning e.* into v_episode;

    perform alert.ring();
    return v_episode;
end;
$$;
comment on function alert.decide(bigint, integer, text, text, text) is
    'Acknowledges, investigates or resolves an alert for a person, with an optional note; null where '
    'the tenant (null: any) has no such alert; SQLSTATE HW409 where its state does not permit it.';

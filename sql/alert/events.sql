-- Events with their alerts, as live clients get them, on one server.

create or replace function alert.events_after(
    p_after bigint, p_gaps bigint[], p_tenant_id integer, p_count bigint
)
returns table (
    outbox_id bigint, kind text, tenant_id integer, ts timestamptz, value double precision,
    created_at timestamptz, alert_id bigint, tenant text, sensor text, site text, region text,
    metric text, unit text, severity text, side text, state text, "limit" double precision,
    peak double precision, opened_at timestamptz, last_at timestamptz, resolved_at timestamptz,
    readings bigint, acknowledged_at timestamptz, acknowledged_by text, resolved_by text, note text
)
language plpgsql -- keeps the plan, as SQL would not
stable
-- writers ask in the message that commits, and may read nothing else
security definer
set search_path = pg_catalog, pg_temp
-- what is good for one event is good for many: each alert by its key, never all of them
set plan_cache_mode = force_generic_plan
as $$
begin
    return query
    with page as materialized (
        select o.outbox_id, o.kind, o.tenant_id, o.episode_id, o.ts, o.value, o.created_at
        from alert.outbox as o
        where o.outbox_id = any (p_gaps) and (p_tenant_id is null or o.tenant_id = p_tenant_id)
        union all
        (
            select o.outbox_id, o.kind, o.tenant_id, o.episode_id, o.ts, o.value, o.created_at
            from alert.outbox as o
            where o.outbox_id > p_after and (p_tenant_id is null or o.tenant_id = p_tenant_id)
            order by o.outbox_id
            limit p_count
        )
    )
    select
        o.outbox_id, o.kind, o.tenant_id, o.ts, o.value, o.created_at, a.episode_id, a.slug, a.uid,
        a.site_code, a.region, a.metric_code, a.unit, a.severity, a.side, a.state, a.limit_value,
        a.peak, a.opened_at, a.last_at, a.resolved_at, a.reading_count, a.acknowledged_at,
        a.acknowledged_by, a.resolved_by, a.note
    from page as o
    cross join lateral (
        select
            e.*, t.slug, s.uid, p.code as site_code, p.region, m.code as metric_code, m.unit
        from alert.episode as e
        join telemetry.sensor as s on s.sensor_id = e.sensor_id
        join identity.tenant as t on t.tenant_id = e.tenant_id
        join telemetry.metric as m on m.metric_id = e.metric_id
        left join telemetry.site as p on p.site_id = e.site_id
        where e.episode_id = o.episode_id
        limit 1
    ) as a
    order by o.outbox_id;
end;
$$;
comment on function alert.events_after(bigint, bigint[], integer, bigint) is
    'Events after an identifier, so many at most, and those of p_gaps that are there by now, in order, with '
    'their alerts as they are now; of one tenant or (null) of all. On one server.';

-- name: outbox_collect
select alert.collect() as collected;

-- name: outbox_events
select
    o.outbox_id, o.kind, o.tenant_id, o.ts, o.value, o.created_at,
    a.alert_id, a.tenant, a.sensor, a.site, a.region, a.metric, a.unit, a.severity, a.side, a.state,
    a."limit", a.peak, a.opened_at, a.last_at, a.resolved_at, a.readings, a.acknowledged_at,
    a.acknowledged_by, a.resolved_by, a.note
from alert.outbox as o
join lateral (
    select
        e.episode_id as alert_id, t.slug as tenant, s.uid as sensor, p.code as site, p.region,
        m.code as metric, m.unit, e.severity, e.side, e.state, e.limit_value as "limit", e.peak,
        e.opened_at, e.last_at, e.resolved_at, e.reading_count as readings, e.acknowledged_at,
        e.acknowledged_by, e.resolved_by, e.note
    from alert.episode as e
    join telemetry.sensor as s on s.sensor_id = e.sensor_id
    join identity.tenant as t on t.tenant_id = e.tenant_id
    join telemetry.metric as m on m.metric_id = e.metric_id
    left join telemetry.site as p on p.site_id = e.site_id
    where e.episode_id = o.episode_id
) as a on true
where (o.outbox_id > %(after)s::bigint or o.outbox_id = any(%(gaps)s::bigint[]))
    and (%(tenant_id)s::integer is null or o.tenant_id = %(tenant_id)s::integer)
order by o.outbox_id
limit %(count)s::bigint;

-- name: outbox_newest
select coalesce(max(o.outbox_id), 0) as outbox_id
from alert.outbox as o;

-- name: outbox_known
select o.outbox_id
from alert.outbox as o
where o.outbox_id > %(after)s::bigint and o.outbox_id <= %(upto)s::bigint
order by o.outbox_id;

-- name: outbox_is_apart
select exists (select from pg_catalog.pg_extension as x where x.extname = 'citus') as is_apart;

-- name: outbox_collect
select alert.collect() as collected;

-- name: outbox_collect_living
select alert.collect_living() as collected;

-- name: outbox_events
select
    e.outbox_id, e.kind, e.tenant_id, e.ts, e.value, e.created_at, e.alert_id, e.tenant, e.sensor,
    e.site, e.region, e.metric, e.unit, e.severity, e.side, e.state, e."limit", e.peak, e.opened_at,
    e.last_at, e.resolved_at, e.readings, e.acknowledged_at, e.acknowledged_by, e.resolved_by, e.note
from alert.events_after(
    %(after)s::bigint, %(gaps)s::bigint[], %(tenant_id)s::integer, %(count)s::bigint
) as e
order by e.outbox_id;

-- name: outbox_page
select o.outbox_id, o.kind, o.tenant_id, o.sensor_id, o.episode_id, o.ts, o.value, o.created_at
from alert.outbox as o
where (o.outbox_id > %(after)s::bigint or o.outbox_id = any(%(gaps)s::bigint[]))
    and (%(tenant_id)s::integer is null or o.tenant_id = %(tenant_id)s::integer)
order by o.outbox_id
limit %(count)s::bigint;

-- name: outbox_alerts
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
where e.sensor_id = any(%(sensor_ids)s::bigint[]) and e.episode_id = any(%(episode_ids)s::bigint[])
order by e.episode_id;

-- name: outbox_newest
select coalesce(max(o.outbox_id), 0) as outbox_id
from alert.outbox as o;

-- name: outbox_known
select o.outbox_id
from alert.outbox as o
where o.outbox_id > %(after)s::bigint and o.outbox_id <= %(upto)s::bigint
order by o.outbox_id;

-- name: alerts_page
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
where (%(tenant_id)s::integer is null or e.tenant_id = %(tenant_id)s::integer)
    and (%(episode_id)s::bigint is null or e.episode_id = %(episode_id)s::bigint)
    and (%(states)s::text[] is null or e.state = any(%(states)s::text[]))
    and (%(severities)s::text[] is null or e.severity = any(%(severities)s::text[]))
    and (%(site_ids)s::bigint[] is null or e.site_id = any(%(site_ids)s::bigint[]))
    and (%(regions)s::text[] is null or p.region = any(%(regions)s::text[]))
    and (%(sensor_ids)s::bigint[] is null or e.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(metric_ids)s::smallint[] is null or e.metric_id = any(%(metric_ids)s::smallint[]))
    and (%(from_ts)s::timestamptz is null or e.opened_at >= %(from_ts)s::timestamptz)
    and (%(to_ts)s::timestamptz is null or e.opened_at < %(to_ts)s::timestamptz)
    and (
        %(before_ts)s::timestamptz is null
        or (e.opened_at, e.episode_id) < (%(before_ts)s::timestamptz, %(before_id)s::bigint)
    )
order by e.opened_at desc, e.episode_id desc
limit %(count)s::bigint;

-- name: alert_decide
select d.episode_id
from alert.decide(
    %(episode_id)s::bigint, %(tenant_id)s::integer, %(state)s::text, %(by)s::text, %(note)s::text
) as d
where d.episode_id is not null;

-- name: thresholds_page
select
    h.threshold_id,
    case
        when h.sensor_id is not null then 'sensor'
        when h.site_id is not null then 'site'
        when h.tenant_id is not null then 'tenant'
        else 'platform'
    end as scope,
    t.slug as tenant, p.code as site, s.uid as sensor, m.code as metric, m.unit, h.severity,
    h.side, h.limit_value as "limit", h.hysteresis,
    extract(epoch from h.min_duration)::double precision as min_duration_seconds, h.is_enabled,
    h.title, h.updated_at
from alert.threshold as h
join telemetry.metric as m on m.metric_id = h.metric_id
left join identity.tenant as t on t.tenant_id = h.tenant_id
left join telemetry.site as p on p.site_id = h.site_id
left join telemetry.sensor as s on s.sensor_id = h.sensor_id
where (
        %(tenant_id)s::integer is null
        or h.tenant_id is null
        or h.tenant_id = %(tenant_id)s::integer
    )
    and (%(threshold_id)s::bigint is null or h.threshold_id = %(threshold_id)s::bigint)
    and (%(site_ids)s::bigint[] is null or h.site_id = any(%(site_ids)s::bigint[]))
    and (%(sensor_ids)s::bigint[] is null or h.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(metric_ids)s::smallint[] is null or h.metric_id = any(%(metric_ids)s::smallint[]))
    and h.threshold_id > %(after_id)s::bigint
order by h.threshold_id
limit %(count)s::bigint;

-- name: threshold_upsert
insert into alert.threshold (
    tenant_id, site_id, sensor_id, metric_id, severity, side, limit_value, hysteresis, min_duration,
    is_enabled, title
)
values (
    %(tenant_id)s::integer, %(site_id)s::bigint, %(sensor_id)s::bigint, %(metric_id)s::smallint,
    %(severity)s::text, %(side)s::text, %(limit_value)s::double precision,
    %(hysteresis)s::double precision, %(min_duration)s::interval, %(is_enabled)s::boolean,
    %(title)s::text
)
on conflict on constraint threshold_scope_key do update set
    limit_value = excluded.limit_value,
    hysteresis = excluded.hysteresis,
    min_duration = excluded.min_duration,
    is_enabled = excluded.is_enabled,
    title = excluded.title,
    updated_at = excluded.updated_at
returning threshold_id;

-- name: threshold_delete
delete from alert.threshold as h
where h.threshold_id = %(threshold_id)s::bigint
    and (%(tenant_id)s::integer is null or h.tenant_id = %(tenant_id)s::integer)
returning h.threshold_id;

-- name: unit_of
select u.factor, u.shift, u.refusal
from telemetry.metric_unit as u
where u.metric_id = %(metric_id)s::smallint and u.unit = %(unit)s::text;

-- name: demo_threshold_put
insert into alert.threshold (
    tenant_id, sensor_id, metric_id, severity, side, limit_value, hysteresis, min_duration
)
select
    %(tenant_id)s, s.sensor_id, m.metric_id, %(severity)s, %(side)s, %(limit_value)s,
    %(hysteresis)s, make_interval(secs => %(min_duration)s)
from telemetry.metric as m
left join telemetry.sensor as s on s.tenant_id = %(tenant_id)s and s.uid = %(sensor)s
where m.code = %(metric)s
on conflict on constraint threshold_scope_key do update set
    limit_value = excluded.limit_value,
    hysteresis = excluded.hysteresis,
    min_duration = excluded.min_duration,
    is_enabled = true,
    updated_at = excluded.updated_at;

-- name: demo_forget_alerts
delete from alert.episode where tenant_id = %(tenant_id)s;

-- name: demo_forget_thresholds
delete from alert.threshold where tenant_id = %(tenant_id)s;

-- name: demo_forget_keys
delete from identity.api_key where tenant_id = %(tenant_id)s and title like 'demo:%%';

-- name: demo_forget_log
insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)
select r.sensor_id, min(r.ts), max(r.ts), count(*)
from telemetry.reading as r
join telemetry.sensor as s on s.sensor_id = r.sensor_id
where s.tenant_id = %(tenant_id)s
group by r.sensor_id, date_trunc('day', r.ts, 'UTC');

-- name: demo_forget_readings
delete from telemetry.reading as r
using telemetry.sensor as s
where s.sensor_id = r.sensor_id and s.tenant_id = %(tenant_id)s;

-- name: demo_forget_latest
delete from telemetry.latest_reading as l
using telemetry.sensor as s
where s.sensor_id = l.sensor_id and s.tenant_id = %(tenant_id)s;

-- name: demo_reading_count
select count(*)
from telemetry.reading as r
join telemetry.sensor as s on s.sensor_id = r.sensor_id
where s.tenant_id = %(tenant_id)s;

-- name: demo_alerts
select
    a.sensor, a.metric, a.severity, a.side, a.opened_at, a.last_at, a.resolved_at, a.peak,
    a.reading_count
from analytics.alert as a
where a.tenant_id = %(tenant_id)s;

-- name: demo_rollup_differences
with raw as (
    select
        r.sensor_id, r.metric_id, time_bucket(%(width)s::interval, r.ts) as bucket, count(*) as n,
        avg(r.value) as value_avg, min(r.value) as value_min, max(r.value) as value_max,
        sum(r.value) as value_sum, sum(r.value * r.value) as value_sum_sq,
        (array_agg(r.value order by r.ts))[1] as value_first,
        (array_agg(r.value order by r.ts desc))[1] as value_last,
        count(*) filter (where r.quality = 3) as n_suspect,
        count(*) filter (where r.quality = 4) as n_fail
    from telemetry.reading as r
    where %(since)s::timestamptz is null or r.ts >= %(since)s::timestamptz
    group by r.sensor_id, r.metric_id, time_bucket(%(width)s::interval, r.ts)
)
select
    count(*) as row_count,
    count(*) filter (
        where (raw.n, raw.value_min, raw.value_max, raw.value_first, raw.value_last, raw.n_suspect, raw.n_fail)
                is distinct from
                (r.n, r.value_min, r.value_max, r.value_first, r.value_last, r.n_suspect, r.n_fail)
            or abs(raw.value_avg - r.value_avg) > 1e-12 * greatest(abs(raw.value_avg), 1)
            or abs(raw.value_sum - r.value_sum) > 1e-12 * greatest(abs(raw.value_sum), 1)
            or abs(raw.value_sum_sq - r.value_sum_sq) > 1e-12 * greatest(raw.value_sum_sq, 1)
    ) as difference_count
from raw
full join (
    select '1m' as rollup, m.* from analytics.reading_1m as m where %(rollup)s = '1m'
    union all
    select '1h', h.* from analytics.reading_1h as h where %(rollup)s = '1h'
    union all
    select '1d', d.* from analytics.reading_1d as d where %(rollup)s = '1d'
) as r using (sensor_id, metric_id, bucket)
where %(since)s::timestamptz is null or bucket >= %(since)s::timestamptz;

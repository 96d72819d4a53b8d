-- name: tenant_id_by_slug
select t.tenant_id
from identity.tenant as t
where t.slug = %(slug)s::text;

-- name: sensors_named
select s.uid, s.sensor_id
from telemetry.sensor as s
where s.uid = any(%(uids)s::text[])
    and (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer);

-- name: sensors_within
select s.sensor_id
from telemetry.sensor as s
where (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
order by s.sensor_id
limit %(count)s::bigint;

-- name: sites_named
select p.code, p.site_id
from telemetry.site as p
where p.code = any(%(codes)s::text[])
    and (%(tenant_id)s::integer is null or p.tenant_id = %(tenant_id)s::integer);

-- name: metrics_named
select a.alias as name, m.metric_id, m.code, m.unit
from telemetry.metric_alias as a
join telemetry.metric as m on m.metric_id = a.metric_id
where a.alias = any(%(names)s::text[]);

-- name: sensors_page
with page as materialized (
    select
        s.sensor_id, s.uid as sensor, t.slug as tenant, s.title, p.code as site, p.region, s.status,
        extract(epoch from s.expected_interval)::double precision as expected_interval_seconds,
        s.is_auto_registered, s.created_at
    from telemetry.sensor as s
    join identity.tenant as t on t.tenant_id = s.tenant_id
    left join telemetry.site as p on p.site_id = s.site_id
    where (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
        and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
        and (%(regions)s::text[] is null or p.region = any(%(regions)s::text[]))
        and (%(statuses)s::text[] is null or s.status = any(%(statuses)s::text[]))
        and (
            %(pattern)s::text is null
            or s.uid ilike %(pattern)s::text
            or s.title ilike %(pattern)s::text
        )
        and (
            %(after_uid)s::text is null
            or (s.uid, s.sensor_id) > (%(after_uid)s::text, %(after_id)s::bigint)
        )
    order by s.uid, s.sensor_id
    limit %(count)s::bigint
),
-- apart, because a distributed server joins no page of sensors with what shards have
reported as materialized (
    select r.sensor_id, max(r.ts) as last_ts, array_agg(m.code order by m.code) as metrics
    from telemetry.latest_reading as r
    join telemetry.metric as m on m.metric_id = r.metric_id
    where r.sensor_id in (select p.sensor_id from page as p)
    group by r.sensor_id
)
select
    p.sensor_id, p.sensor, p.tenant, p.title, p.site, p.region, p.status,
    p.expected_interval_seconds, p.is_auto_registered, p.created_at, r.last_ts,
    coalesce(r.metrics, '{}') as metrics
from page as p
left join reported as r on r.sensor_id = p.sensor_id
order by p.sensor, p.sensor_id;

-- name: sites_page
select
    p.site_id, p.code as site, t.slug as tenant, p.title, p.region, p.latitude, p.longitude,
    p.created_at,
    (select count(*) from telemetry.sensor as s where s.site_id = p.site_id) as sensors
from telemetry.site as p
join identity.tenant as t on t.tenant_id = p.tenant_id
where (%(tenant_id)s::integer is null or p.tenant_id = %(tenant_id)s::integer)
    and (%(regions)s::text[] is null or p.region = any(%(regions)s::text[]))
    and (
        %(after_code)s::text is null
        or (p.code, p.site_id) > (%(after_code)s::text, %(after_id)s::bigint)
    )
order by p.code, p.site_id
limit %(count)s::bigint;

-- name: metrics_all
select
    m.code as metric, m.title, m.unit, m.plausible_min, m.plausible_max, m.usgs_parameter,
    m.wqx_characteristic,
    (
        select coalesce(array_agg(a.alias order by a.alias), '{}')
        from telemetry.metric_alias as a
        where a.metric_id = m.metric_id
    ) as aliases,
    (
        select
            coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'unit', u.unit, 'factor', u.factor, 'shift', u.shift, 'refusal', u.refusal
                    )
                    order by u.unit
                ),
                '[]'
            )
        from telemetry.metric_unit as u
        where u.metric_id = m.metric_id
    ) as units
from telemetry.metric as m
order by m.code;

-- name: latest_page
select
    s.uid as sensor, s.sensor_id, p.code as site, m.code as metric, m.metric_id, l.ts, l.value,
    m.unit, l.quality
from telemetry.latest_reading as l
join telemetry.sensor as s on s.sensor_id = l.sensor_id
join telemetry.metric as m on m.metric_id = l.metric_id
left join telemetry.site as p on p.site_id = s.site_id
where (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(sensor_ids)s::bigint[] is null or l.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
    and (%(metric_ids)s::smallint[] is null or l.metric_id = any(%(metric_ids)s::smallint[]))
    and (
        %(after_sensor_id)s::bigint is null
        or (l.sensor_id, l.metric_id)
            > (%(after_sensor_id)s::bigint, %(after_metric_id)s::smallint)
    )
order by l.sensor_id, l.metric_id
limit %(count)s::bigint;

-- name: readings_raw
select
    s.uid as sensor, m.code as metric, r.ts, r.value, m.unit, r.quality, r.sensor_id, r.metric_id
from telemetry.reading as r
join telemetry.sensor as s on s.sensor_id = r.sensor_id
join telemetry.metric as m on m.metric_id = r.metric_id
where r.ts >= %(after_ts)s::timestamptz
    and r.ts < %(to_ts)s::timestamptz
    and (r.ts, r.sensor_id, r.metric_id)
        > (%(after_ts)s::timestamptz, %(after_sensor_id)s::bigint, %(after_metric_id)s::smallint)
    and (%(sensor_ids)s::bigint[] is null or r.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(metric_ids)s::smallint[] is null or r.metric_id = any(%(metric_ids)s::smallint[]))
    and (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
order by r.ts, r.sensor_id, r.metric_id
limit %(count)s::bigint
offset %(skip)s::bigint;

-- name: readings_rollup
select
    s.uid as sensor, m.code as metric, r.bucket, r.n, r.value_avg as avg, r.value_min as min,
    r.value_max as max, r.value_first as first, r.value_last as last, m.unit, r.n_suspect,
    r.n_fail, r.sensor_id, r.metric_id, false as is_filled
from (
    select
        '1m' as resolution, b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min,
        b.value_max, b.value_first, b.value_last, b.n_suspect, b.n_fail
    from analytics.reading_1m as b
    where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
    union all
    select
        '1h', b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min, b.value_max,
        b.value_first, b.value_last, b.n_suspect, b.n_fail
    from analytics.reading_1h as b
    where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
    union all
    select
        '1d', b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min, b.value_max,
        b.value_first, b.value_last, b.n_suspect, b.n_fail
    from analytics.reading_1d as b
    where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
) as r
join telemetry.sensor as s on s.sensor_id = r.sensor_id
join telemetry.metric as m on m.metric_id = r.metric_id
where r.resolution = %(resolution)s::text
    and r.bucket >= %(after_ts)s::timestamptz
    and r.bucket < %(to_ts)s::timestamptz
    and (r.bucket, r.sensor_id, r.metric_id)
        > (%(after_ts)s::timestamptz, %(after_sensor_id)s::bigint, %(after_metric_id)s::smallint)
    and (%(metric_ids)s::smallint[] is null or r.metric_id = any(%(metric_ids)s::smallint[]))
    and (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
order by r.bucket, r.sensor_id, r.metric_id
limit %(count)s::bigint
offset %(skip)s::bigint;

-- name: series_count
select count(*) as series
from telemetry.latest_reading as l
join telemetry.sensor as s on s.sensor_id = l.sensor_id
where (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(sensor_ids)s::bigint[] is null or l.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
    and (%(metric_ids)s::smallint[] is null or l.metric_id = any(%(metric_ids)s::smallint[]));

-- name: readings_filled
with found as materialized (
    select
        s.uid as sensor, m.code as metric, m.unit, r.sensor_id, r.metric_id, r.bucket, r.n,
        r.value_avg, r.value_min, r.value_max, r.value_first, r.value_last, r.n_suspect, r.n_fail
    from (
        select
            '1m' as resolution, b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min,
            b.value_max, b.value_first, b.value_last, b.n_suspect, b.n_fail
        from analytics.reading_1m as b
        where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
        union all
        select
            '1h', b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min, b.value_max,
            b.value_first, b.value_last, b.n_suspect, b.n_fail
        from analytics.reading_1h as b
        where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
        union all
        select
            '1d', b.sensor_id, b.metric_id, b.bucket, b.n, b.value_avg, b.value_min, b.value_max,
            b.value_first, b.value_last, b.n_suspect, b.n_fail
        from analytics.reading_1d as b
        where %(sensor_ids)s::bigint[] is null or b.sensor_id = any(%(sensor_ids)s::bigint[])
    ) as r
    join telemetry.sensor as s on s.sensor_id = r.sensor_id
    join telemetry.metric as m on m.metric_id = r.metric_id
    where r.resolution = %(resolution)s::text
        and r.bucket >= %(from_ts)s::timestamptz
        and r.bucket < %(to_ts)s::timestamptz
        and (%(metric_ids)s::smallint[] is null or r.metric_id = any(%(metric_ids)s::smallint[]))
        and (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
        and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]))
),
grid as (
    select
        series.sensor, series.metric, series.unit, series.sensor_id, series.metric_id, step.bucket,
        f.n, f.value_avg, f.value_min, f.value_max, f.value_first, f.value_last, f.n_suspect,
        f.n_fail
    from (
        select distinct f.sensor, f.metric, f.unit, f.sensor_id, f.metric_id
        from found as f
    ) as series
    cross join generate_series(
        %(from_ts)s::timestamptz,
        %(to_ts)s::timestamptz - interval '1 microsecond',
        %(step)s::interval
    ) as step (bucket)
    left join found as f
        on f.sensor_id = series.sensor_id and f.metric_id = series.metric_id
        and f.bucket = step.bucket
),
-- every value begins a run with the empty buckets after it, and ends one with those before it
numbered as (
    select
        g.*,
        count(g.value_avg) over (
            partition by g.sensor_id, g.metric_id
            order by g.bucket
        ) as run_after,
        count(g.value_avg) over (
            partition by g.sensor_id, g.metric_id
            order by g.bucket desc
        ) as run_before
    from grid as g
),
neighboured as (
    select
        n.*,
        max(n.value_avg) over previous as previous_value,
        min(n.bucket) filter (where n.value_avg is not null) over previous as previous_at,
        max(n.value_avg) over following as next_value,
        max(n.bucket) filter (where n.value_avg is not null) over following as next_at
    from numbered as n
    window
        previous as (partition by n.sensor_id, n.metric_id, n.run_after),
        following as (partition by n.sensor_id, n.metric_id, n.run_before)
)
select
    b.sensor, b.metric, b.bucket, coalesce(b.n, 0) as n,
    case
        when b.value_avg is not null then b.value_avg
        when %(fill)s::text = 'previous' then b.previous_value
        when %(fill)s::text = 'linear' then
            b.previous_value
            + (b.next_value - b.previous_value)
            * extract(epoch from b.bucket - b.previous_at)::double precision
            / extract(epoch from b.next_at - b.previous_at)::double precision
    end as avg,
    b.value_min as min, b.value_max as max, b.value_first as first, b.value_last as last, b.unit,
    coalesce(b.n_suspect, 0) as n_suspect, coalesce(b.n_fail, 0) as n_fail, b.sensor_id,
    b.metric_id, b.n is null as is_filled
from neighboured as b
where (b.bucket, b.sensor_id, b.metric_id)
    > (%(after_ts)s::timestamptz, %(after_sensor_id)s::bigint, %(after_metric_id)s::smallint)
order by b.bucket, b.sensor_id, b.metric_id
limit %(count)s::bigint;

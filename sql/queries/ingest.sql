-- name: metric_channels
select
    m.metric_id, m.code, m.unit, m.plausible_min, m.plausible_max,
    array(
        select a.alias from telemetry.metric_alias as a where a.metric_id = m.metric_id
    ) as aliases,
    coalesce((
        select jsonb_object_agg(
            u.unit, jsonb_build_array(u.factor, u.shift, u.refusal)
        )
        from telemetry.metric_unit as u
        where u.metric_id = m.metric_id
    ), '{}') as units
from telemetry.metric as m
order by m.metric_id;

-- name: sensors_by_uid
select s.uid, s.sensor_id, s.status, s.site_id
from telemetry.sensor as s
where s.tenant_id = %(tenant_id)s and s.uid = any(%(uids)s);

-- name: sensors_register
insert into telemetry.sensor (tenant_id, uid, is_auto_registered)
select %(tenant_id)s, u.uid, true
from unnest(%(uids)s::text[]) as u (uid)
order by u.uid
on conflict (tenant_id, uid) do nothing;

-- name: reply_get
select r.body_sha256, r.status, r.reply
from telemetry.ingest_reply as r
where r.api_key_id = %(api_key_id)s and r.idempotency_key = %(idempotency_key)s;

-- name: reply_put
insert into telemetry.ingest_reply (api_key_id, idempotency_key, body_sha256, status, reply)
values (%(api_key_id)s, %(idempotency_key)s, %(body_sha256)s, %(status)s, %(reply)s)
on conflict (api_key_id, idempotency_key) do nothing;

-- name: staged_table
create temporary table if not exists staged (
    sensor_id bigint not null,
    ts timestamptz not null,
    value double precision not null,
    metric_id smallint not null,
    no integer not null
) on commit delete rows;

-- name: staged_plan_begin
select set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true);

-- name: staged_known
select
    coalesce(array_agg(s.no) filter (where r.value = s.value), '{}') as same_nos,
    coalesce(array_agg(s.no) filter (where r.value <> s.value), '{}') as other_nos
from pg_temp.staged as s
join telemetry.reading as r
    on r.ts = s.ts and r.sensor_id = s.sensor_id and r.metric_id = s.metric_id
-- said as constants, so that the planner leaves all other chunks out
where r.ts >= timestamptz 'epoch' + %(first_us)s * interval '1 microsecond'
    and r.ts <= timestamptz 'epoch' + %(last_us)s * interval '1 microsecond';

-- name: staged_plan_end
select set_config('enable_hashjoin', 'on', true), set_config('enable_mergejoin', 'on', true);

-- name: grid_known
select
    array_agg(r.ts) as ts, array_agg(r.sensor_id) as sensor_ids,
    array_agg(r.metric_id) as metric_ids, array_agg(r.value) as values
from telemetry.reading as r
-- the index leads from one match to the next
where r.ts = any(%(ts)s::timestamptz[])
    and r.sensor_id = any(%(sensor_ids)s::bigint[]) and r.metric_id = any(%(metric_ids)s::smallint[])
    -- said as constants, as above
    and r.ts >= timestamptz 'epoch' + %(first_us)s * interval '1 microsecond'
    and r.ts <= timestamptz 'epoch' + %(last_us)s * interval '1 microsecond';

-- name: log_and_watch
with logged as (
    insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count)
    select
        s.sensor_id,
        timestamptz 'epoch' + l.first_us * interval '1 microsecond',
        timestamptz 'epoch' + l.last_us * interval '1 microsecond',
        l.reading_count
    from unnest(%(first_us)s::bigint[], %(last_us)s::bigint[], %(reading_count)s::integer[])
        as l (first_us, last_us, reading_count)
    cross join unnest(%(sensor_ids)s::bigint[]) as s (sensor_id)
)
select c.bucket, c.version, c.sensor_ids, c.metric_ids
from alert.changed_since(%(versions)s::bigint[]) as c;

-- name: candidates_put
insert into alert.candidate (sensor_id, ts, value, metric_id)
select c.sensor_id, timestamptz 'epoch' + c.us * interval '1 microsecond', c.value, c.metric_id
from unnest(
    %(sensor_ids)s::bigint[], %(us)s::bigint[],
    %(values)s::double precision[], %(metric_ids)s::smallint[]
) as c (sensor_id, us, value, metric_id);

-- name: bands
select b.tenant_id, b.site_id, b.sensor_id, b.metric_id, b.low, b.high
from alert.bands() as b;

-- name: latest_put
insert into telemetry.latest_reading as o (sensor_id, metric_id, ts, value, quality)
select
    l.sensor_id, l.metric_id, timestamptz 'epoch' + l.us * interval '1 microsecond', l.value, l.quality
from unnest(
    %(sensor_id)s::bigint[], %(metric_id)s::smallint[], %(us)s::bigint[],
    %(value)s::double precision[], %(quality)s::smallint[]
) as l (sensor_id, metric_id, us, value, quality)
order by l.sensor_id, l.metric_id
on conflict (sensor_id, metric_id) do update set
    ts = excluded.ts,
    value = excluded.value,
    quality = excluded.quality
where excluded.ts > o.ts;

-- name: latest_repair
select telemetry.repair_latest();

-- name: ring
select alert.ring();

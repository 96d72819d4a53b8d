-- name: import_lock
select pg_try_advisory_lock(7203, %(tenant_id)s);

-- name: import_file_get
select f.import_file_id, f.reading_count, f.rejected, f.stored, f.duplicate, f.conflict,
    f.finished_at is not null as is_finished
from telemetry.import_file as f
where f.tenant_id = %(tenant_id)s and f.sha256 = %(sha256)s;

-- name: import_file_put
insert into telemetry.import_file (tenant_id, sha256, name, reading_count, rejected)
values (%(tenant_id)s, %(sha256)s, %(name)s, %(reading_count)s, %(rejected)s)
on conflict (tenant_id, sha256) do update set
    name = excluded.name,
    reading_count = excluded.reading_count,
    rejected = excluded.rejected,
    stored = 0,
    duplicate = 0,
    conflict = 0,
    finished_at = null
returning import_file_id;

-- name: import_file_finish
update telemetry.import_file as f
set stored = p.stored,
    duplicate = p.duplicate,
    conflict = p.conflict,
    finished_at = now()
from (
    select
        i.no as import_file_id,
        coalesce(sum(p.stored), 0) as stored,
        coalesce(sum(p.duplicate), 0) as duplicate,
        coalesce(sum(p.conflict), 0) as conflict
    from unnest(%(import_file_ids)s::bigint[]) as i (no)
    left join telemetry.import_part as p on p.import_file_id = i.no
    group by i.no
) as p
where f.import_file_id = p.import_file_id;

-- name: import_part_get
select
    (extract(epoch from p.first_ts) * 1000000)::bigint as first_us,
    (extract(epoch from p.last_ts) * 1000000)::bigint as last_us,
    p.stored, p.duplicate, p.conflict
from telemetry.import_part as p
where p.import_file_id = %(import_file_id)s
order by p.first_ts;

-- name: import_part_put
insert into telemetry.import_part (import_file_id, first_ts, last_ts, stored, duplicate, conflict)
select
    p.import_file_id,
    timestamptz 'epoch' + p.first_us * interval '1 microsecond',
    timestamptz 'epoch' + p.last_us * interval '1 microsecond',
    p.stored, p.duplicate, p.conflict
from unnest(
    %(import_file_id)s::bigint[], %(first_us)s::bigint[], %(last_us)s::bigint[],
    %(stored)s::bigint[], %(duplicate)s::bigint[], %(conflict)s::bigint[]
) as p (import_file_id, first_us, last_us, stored, duplicate, conflict)
on conflict (import_file_id, first_ts) do nothing;

-- name: import_part_forget
delete from telemetry.import_part as p
where p.import_file_id = any(%(import_file_ids)s::bigint[]);

-- name: import_chunks
select telemetry.make_chunks(array(
    select timestamptz 'epoch' + d.us * interval '1 microsecond'
    from unnest(%(days_us)s::bigint[]) as d (us)
));

-- name: import_analyze
analyze pg_temp.staged;

-- name: import_known
select
    coalesce(array_agg(s.no) filter (where r.value = s.value), '{}') as same_nos,
    coalesce(array_agg(s.no) filter (where r.value <> s.value), '{}') as other_nos
from pg_temp.staged as s
join telemetry.reading as r
    on r.ts = s.ts and r.sensor_id = s.sensor_id and r.metric_id = s.metric_id
-- said as constants, so that the planner leaves all other chunks and sensors out
where r.ts >= timestamptz 'epoch' + %(first_us)s * interval '1 microsecond'
    and r.ts <= timestamptz 'epoch' + %(last_us)s * interval '1 microsecond'
    and r.sensor_id = any(%(sensor_ids)s::bigint[]);

-- name: import_log
-- created_at: what looks for fresh arrivals (the repair of latest readings) must pass these by
insert into telemetry.ingest_log (sensor_id, first_ts, last_ts, reading_count, created_at)
select
    l.sensor_id,
    timestamptz 'epoch' + l.first_us * interval '1 microsecond',
    timestamptz 'epoch' + l.last_us * interval '1 microsecond',
    l.reading_count,
    '-infinity'
from unnest(
    %(sensor_id)s::bigint[], %(first_us)s::bigint[], %(last_us)s::bigint[],
    %(reading_count)s::integer[]
) as l (sensor_id, first_us, last_us, reading_count);

-- name: import_latest
insert into telemetry.latest_reading (sensor_id, metric_id, ts, value, quality)
select r.sensor_id, r.metric_id, r.ts, r.value, r.quality
from unnest(%(sensor_id)s::bigint[], %(metric_id)s::smallint[], %(us)s::bigint[])
    as l (sensor_id, metric_id, us)
join telemetry.reading as r
    on r.sensor_id = l.sensor_id and r.metric_id = l.metric_id
    and r.ts = timestamptz 'epoch' + l.us * interval '1 microsecond'
where r.ts >= timestamptz 'epoch' + %(first_us)s * interval '1 microsecond'
    and r.ts <= timestamptz 'epoch' + %(last_us)s * interval '1 microsecond'
order by r.sensor_id, r.metric_id
on conflict (sensor_id, metric_id) do update set
    ts = excluded.ts,
    value = excluded.value,
    quality = excluded.quality
where excluded.ts > latest_reading.ts;

-- name: import_judge
select alert.sweep(
    timestamptz 'epoch' + %(from_us)s * interval '1 microsecond',
    timestamptz 'epoch' + %(to_us)s * interval '1 microsecond'
);

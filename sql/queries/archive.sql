-- name: cold_exports
select c.export_id
from archive.cold_range as c
where c.range_from < %(range_to)s::timestamptz and c.range_to > %(range_from)s::timestamptz
order by c.export_id;

-- name: staged_cold
create temporary table staged_cold (
    sensor_id bigint not null,
    metric_id smallint not null,
    ts timestamptz not null,
    value double precision not null,
    quality smallint not null
) on commit drop;

-- name: restored_put
insert into archive.restored (range_from, range_to, export_id, row_count)
values (
    %(range_from)s::timestamptz, %(range_to)s::timestamptz, %(export_id)s::bigint,
    %(row_count)s::bigint
)
on conflict (range_from, range_to) do update set
    export_id = excluded.export_id, row_count = excluded.row_count, restored_at = excluded.restored_at;

-- name: status_states
select
    e.state, e.is_late, count(*) as exports, coalesce(sum(e.row_count), 0)::bigint as row_count,
    coalesce(sum(e.byte_count), 0)::bigint as byte_count, min(e.range_from) as range_from,
    max(e.range_to) as range_to, coalesce(sum(e.duplicate_count), 0)::bigint as duplicate_count,
    coalesce(sum(e.conflict_count), 0)::bigint as conflict_count
from archive.export as e
group by e.state, e.is_late
order by e.state, e.is_late;

-- name: status_problems
select e.export_id, e.range_from, e.state, coalesce(e.problem, e.check_problem) as problem
from archive.export as e
where e.problem is not null or e.check_problem is not null
order by e.export_id;

-- name: status_waiting
select count(*) as chunks
from archive.closed_chunks(date_trunc('day', now() - %(age)s::interval, 'UTC')) as c;

-- name: status_restored
select count(*) as ranges, min(r.range_from) as range_from, max(r.range_to) as range_to
from archive.restored as r
where r.export_id is null
having count(*) > 0;

-- name: expiry_due
select p.tenant_id, date_trunc('day', now() - p.keep_days * interval '1 day', 'UTC') as until
from archive.tenant_policy as p
where not p.is_held and p.keep_days is not null
order by p.tenant_id;

-- name: expiry_exports
select e.export_id
from archive.export as e
where e.state = 'dropped' and e.range_to <= %(until)s::timestamptz
order by e.export_id;

-- name: expiry_mark
update archive.tenant_policy as p
set expired_until = greatest(p.expired_until, %(until)s::timestamptz)
where p.tenant_id = %(tenant_id)s::integer and not p.is_held
returning p.tenant_id;

-- name: manifest_expire
delete from archive.export_sensor as m
using archive.export as e, telemetry.sensor as s
where e.export_id = m.export_id and s.sensor_id = m.sensor_id
    and e.state = 'dropped' and e.range_to <= %(until)s::timestamptz
    and s.tenant_id = %(tenant_id)s::integer;

-- name: policy_keep
insert into archive.tenant_policy (tenant_id, keep_days)
select t.tenant_id, %(keep_days)s::integer
from identity.tenant as t
where t.slug = %(slug)s::text
on conflict (tenant_id) do update set keep_days = excluded.keep_days, changed_at = excluded.changed_at
returning tenant_id;

-- name: policy_hold
insert into archive.tenant_policy (tenant_id, is_held, hold_reason)
select t.tenant_id, %(reason)s::text is not null, %(reason)s::text
from identity.tenant as t
where t.slug = %(slug)s::text
on conflict (tenant_id) do update set
    is_held = excluded.is_held, hold_reason = excluded.hold_reason, changed_at = excluded.changed_at
returning tenant_id;

-- name: policies
select t.slug, p.keep_days, p.is_held, p.hold_reason
from archive.tenant_policy as p
join identity.tenant as t on t.tenant_id = p.tenant_id
order by t.slug;

-- name: check_exports
select e.export_id, e.range_from, e.snapshot_id, e.checksum_kind
from archive.export as e
where e.state = 'dropped'
order by e.range_from, e.export_id;

-- name: check_files
select
    case when d.path_is_relative then
        %(data_path)s::text
        || case when s.path_is_relative then s.path else '' end
        || case when t.path_is_relative then t.path else '' end
        || d.path
    else d.path end as path,
    d.file_size_bytes
from lake.ducklake_data_file as d
join lake.ducklake_table as t on t.table_id = d.table_id and t.end_snapshot is null
join lake.ducklake_schema as s on s.schema_id = t.schema_id and s.end_snapshot is null
where d.begin_snapshot = %(snapshot_id)s::bigint and d.end_snapshot is null
order by d.data_file_id;

-- name: check_manifest
select m.sensor_id, m.row_count, m.first_ts, m.last_ts, m.value_sum, m.checksum
from archive.export_sensor as m
where m.export_id = %(export_id)s::bigint;

-- name: check_expired
select s.sensor_id
from archive.export as e
join archive.tenant_policy as p on p.expired_until >= e.range_to
join telemetry.sensor as s on s.tenant_id = p.tenant_id
where e.export_id = %(export_id)s::bigint;

-- name: export_checked
update archive.export as e
set checked_at = now(), check_problem = %(problem)s::text
where e.export_id = %(export_id)s::bigint;

-- name: restore_ranges
select c.range_from, c.range_to
from archive.cold_range as c
where c.range_from < %(range_to)s::timestamptz and c.range_to > %(range_from)s::timestamptz
    and not exists (
        select from archive.restored as r
        where r.range_from <= c.range_from and r.range_to >= c.range_to and r.export_id is null
    )
    and not exists (
        select from archive.export as e
        where e.state <> 'dropped' and e.range_from < c.range_to and e.range_to > c.range_from
    )
group by c.range_from, c.range_to
order by c.range_from;

-- name: restore_release
delete from archive.restored as r
where r.export_id is null
    and r.range_from < %(range_to)s::timestamptz and r.range_to > %(range_from)s::timestamptz
returning r.range_from, r.range_to;

-- name: cold_ranges
select c.export_id, c.range_from, c.range_to
from archive.cold_range as c
where c.range_from < %(range_to)s::timestamptz and c.range_to > %(range_from)s::timestamptz
order by c.range_from, c.export_id;

-- name: cold_sensors
select s.sensor_id, s.uid
from telemetry.sensor as s
where (%(tenant_id)s::integer is null or s.tenant_id = %(tenant_id)s::integer)
    and (%(sensor_ids)s::bigint[] is null or s.sensor_id = any(%(sensor_ids)s::bigint[]))
    and (%(site_ids)s::bigint[] is null or s.site_id = any(%(site_ids)s::bigint[]));

-- name: cold_metrics
select m.metric_id, m.code, m.unit
from telemetry.metric as m;

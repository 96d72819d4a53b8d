-- name: exports_unfinished
select e.export_id, e.range_from, e.range_to, e.is_late, e.state, e.hot_count, e.merge_from, e.merge_to
from archive.export as e
where e.state <> 'dropped'
order by e.range_from;

-- name: export_claim
select e.export_id, e.range_from, e.range_to, e.is_late, e.state, e.hot_count, e.merge_from, e.merge_to
from archive.claim_chunk(now() - %(age)s::interval) as e;

-- name: export_get
select e.export_id, e.range_from, e.range_to, e.is_late, e.state, e.hot_count, e.merge_from, e.merge_to
from archive.export as e
where e.export_id = %(export_id)s::bigint;

-- name: export_chunk
select
    c.chunk::text as chunk, c.is_columnar,
    pg_relation_size(c.chunk) / current_setting('block_size')::bigint as page_count
from archive.closed_chunks(%(range_to)s::timestamptz) as c
where c.range_from = %(range_from)s::timestamptz and c.range_to = %(range_to)s::timestamptz;

-- name: export_session
select
    set_config('jit', 'off', false) as jit,
    -- a piece stays in memory on its way out of its function
    set_config('work_mem', '64MB', false) as work_mem,
    set_config('max_parallel_workers_per_gather', '0', false) as workers;

-- name: export_sensors
select r.sensor_id, count(*) as row_count
from telemetry.reading as r
where r.ts >= %(range_from)s::timestamptz and r.ts < %(range_to)s::timestamptz
group by r.sensor_id
order by r.sensor_id;

-- name: export_pieces_of_sensors
select
    p.sensor_id, p.metric_id, p.row_count, p.first_us, p.last_us, p.value_sum, p.ts, p.value,
    p.quality, p.sha256
from archive.pieces_of_sensors(
    %(range_from)s::timestamptz, %(range_to)s::timestamptz, %(first)s::bigint, %(last)s::bigint
) as p;

-- name: export_piece_of_pages
select
    p.row_count, p.first_us, p.last_us, p.value_sum, p.sensor_id, p.metric_id, p.ts, p.value,
    p.quality, p.sha256
from archive.piece_of_pages(%(chunk)s::text::regclass, %(first)s::bigint, %(last)s::bigint) as p;

-- name: export_late_hours
select
    date_trunc('hour', min(r.ts), 'UTC') as merge_from,
    date_trunc('hour', max(r.ts) + interval '1 hour', 'UTC') as merge_to
from telemetry.reading as r
where r.ts >= %(range_from)s::timestamptz and r.ts < %(range_to)s::timestamptz;

-- name: export_files
select count(*) as file_count, coalesce(sum(d.file_size_bytes), 0)::bigint as byte_count
from lake.ducklake_data_file as d
where d.begin_snapshot = %(snapshot_id)s::bigint;

-- name: export_is_done
update archive.export as e
set
    state = 'exported', exported_at = now(), snapshot_id = %(snapshot_id)s::bigint,
    file_count = %(file_count)s::integer, byte_count = %(byte_count)s::bigint,
    attempt_count = e.attempt_count + 1, problem = null
where e.export_id = %(export_id)s::bigint;

-- name: export_is_verified
update archive.export as e
set
    state = 'verified', verified_at = now(), row_count = %(row_count)s::bigint,
    hot_count = %(hot_count)s::bigint, first_ts = %(first_ts)s::timestamptz,
    last_ts = %(last_ts)s::timestamptz, value_sum = %(value_sum)s::double precision,
    checksum_kind = %(checksum_kind)s::smallint, problem = null
where e.export_id = %(export_id)s::bigint;

-- name: export_starts_over
update archive.export as e
set
    state = 'pending', problem = %(problem)s::text, attempt_count = e.attempt_count + 1
where e.export_id = %(export_id)s::bigint;

-- name: export_failed
update archive.export as e
set problem = %(problem)s::text, attempt_count = e.attempt_count + 1
where e.export_id = %(export_id)s::bigint;

-- name: manifest_clear
delete from archive.export_sensor as m where m.export_id = %(export_id)s::bigint;

-- name: manifest_put
insert into archive.export_sensor (
    export_id, sensor_id, row_count, first_ts, last_ts, value_sum, checksum
)
select %(export_id)s::bigint, m.sensor_id, m.row_count, m.first_ts, m.last_ts, m.value_sum, m.checksum
from unnest(
    %(sensor_ids)s::bigint[], %(row_counts)s::bigint[], %(first_ts)s::timestamptz[],
    %(last_ts)s::timestamptz[], %(value_sums)s::double precision[], %(checksums)s::numeric[]
) as m (sensor_id, row_count, first_ts, last_ts, value_sum, checksum);

-- name: rollup_steps
select s.step
from archive.rollup_steps(%(range_from)s::timestamptz, %(range_to)s::timestamptz) as s (step);

-- name: rollups_protect
select archive.protect_rollups(%(range_to)s::timestamptz)::text as done;

-- name: rollups_running
select count(*) as refreshes
from pg_stat_activity as a
where a.datname = current_database()
    and a.application_name like 'Refresh Continuous Aggregate%%'
    and a.backend_start < %(before)s::timestamptz;

-- name: chunk_drop
select archive.drop_chunk(%(export_id)s::bigint) as dropped_count;

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

-- name: export_merges
update archive.export as e
set
    merge_from = %(merge_from)s::timestamptz, merge_to = %(merge_to)s::timestamptz,
    duplicate_count = case
        when e.merge_from is null then %(duplicate_count)s::bigint else e.duplicate_count
    end,
    conflict_count = e.conflict_count + %(conflict_count)s::bigint
where e.export_id = %(export_id)s::bigint;

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

-- name: sensor_tenants
select s.sensor_id, s.tenant_id
from telemetry.sensor as s
order by s.sensor_id;

-- name: hot_islands
select c.range_from, c.range_to
from archive.closed_chunks(archive.hot_from()) as c
where not exists (
    select from archive.cold_range as d
    where d.range_from < c.range_to and d.range_to > c.range_from
)
order by c.range_from;

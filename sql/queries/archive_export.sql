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
    p.flag_ts, p.flag, p.sha256
from archive.pieces_of_sensors(
    %(range_from)s::timestamptz, %(range_to)s::timestamptz, %(first)s::bigint, %(last)s::bigint,
    %(usual)s::smallint
) as p;

-- name: export_piece_of_pages
select
    p.row_count, p.first_us, p.last_us, p.value_sum, p.key, p.ts, p.value, p.sha256
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
select r.refresh
from archive.running_refreshes() as r (refresh);

-- name: chunk_drop
select archive.drop_chunk(%(export_id)s::bigint) as dropped_count;

-- name: export_merges
update archive.export as e
set
    merge_from = %(merge_from)s::timestamptz, merge_to = %(merge_to)s::timestamptz,
    duplicate_count = case
        when e.merge_from is null then %(duplicate_count)s::bigint else e.duplicate_count
    end,
    conflict_count = e.conflict_count + %(conflict_count)s::bigint
where e.export_id = %(export_id)s::bigint;

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

-- name: sql_pass
select identity.sql_pass(%(tenant_id)s::integer);

-- name: sql_begin
select
    set_config('headwater.pass', %(pass)s::text, true),
    set_config('search_path', 'public', true),
    set_config('statement_timeout', %(timeout)s::text, true),
    set_config('idle_in_transaction_session_timeout', '60s', true),
    set_config('work_mem', '32MB', true),
    set_config('cursor_tuple_fraction', '1', true),
    set_config('jit', 'off', true);

-- name: sql_reads_as
select
    set_config('TimeZone', %(timezone)s::text, true),
    set_config('DateStyle', %(datestyle)s::text, true);

-- name: sql_sensors
select s.sensor_id
from tenant.sensor as s
where s.tenant_id = %(tenant_id)s::integer
limit %(count)s::bigint;

-- name: sql_now
select now();

-- name: sql_interval
select
    (extract(year from v.i) * 12 + extract(month from v.i))::bigint as months,
    extract(day from v.i)::bigint as days,
    (
        extract(hour from v.i) * 3600000000 + extract(minute from v.i) * 60000000
        + extract(microseconds from v.i)
    )::bigint as microseconds
from (select %(text)s::text::interval as i) as v;

-- name: sql_moment
select case %(kind)s::text
    when 'timestamptz' then %(text)s::text::timestamptz::text
    when 'timestamp' then %(text)s::text::timestamp::text
    when 'date' then %(text)s::text::date::text
end as moment;

-- name: sql_hot_from
select archive.hot_from();

-- name: sql_cold_exports
select c.export_id
from archive.cold_range as c
where (%(lower)s::timestamptz is null or c.range_to > %(lower)s::timestamptz)
    and (%(upper)s::timestamptz is null or c.range_from <= %(upper)s::timestamptz)
order by c.export_id;

-- name: sql_cold_files
select
    case when d.path_is_relative then
        %(data_path)s::text
        || case when s.path_is_relative then s.path else '' end
        || case when t.path_is_relative then t.path else '' end
        || d.path
    else d.path end as path,
    d.record_count as row_count, d.file_size_bytes as byte_count,
    coalesce(x.delete_count, 0) as deleted_count
from lake.ducklake_data_file as d
join lake.ducklake_table as t on t.table_id = d.table_id and t.end_snapshot is null
join lake.ducklake_schema as s on s.schema_id = t.schema_id and s.end_snapshot is null
join lake.ducklake_file_partition_value as v
    on v.data_file_id = d.data_file_id and v.partition_key_index = 2
left join lake.ducklake_delete_file as x
    on x.data_file_id = d.data_file_id and x.end_snapshot is null
where d.end_snapshot is null
    and (%(tenant_id)s::integer is null or v.partition_value = %(tenant_id)s::integer::text)
    and exists (
        select from archive.export as e
        where e.state = 'dropped' and e.snapshot_id = d.begin_snapshot
            and e.export_id = any(%(export_ids)s::bigint[])
            -- what is kept no longer may still lie there
            and not exists (
                select from archive.tenant_policy as p
                where p.tenant_id::text = v.partition_value and p.expired_until >= e.range_to
            )
    )
order by d.data_file_id;

-- name: sql_lake
select archive.hot_from() as hot_from, m.value as data_path
from lake.ducklake_metadata as m
where m.key = 'data_path' and m.scope is null;

-- name: sql_cancel
select pg_cancel_backend(a.pid) as is_sent
from pg_stat_activity as a
where a.application_name = %(application)s::text and a.usename = current_user;

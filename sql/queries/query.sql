-- name: sql_pass
select identity.sql_pass(%(tenant_id)s::integer);

-- name: sql_hot_from
select archive.hot_from();

-- name: sql_begin
select
    set_config('headwater.pass', %(pass)s::text, true),
    set_config('search_path', 'public', true),
    set_config('statement_timeout', %(timeout)s::text, true),
    set_config('idle_in_transaction_session_timeout', '60s', true),
    set_config('work_mem', '32MB', true),
    set_config('cursor_tuple_fraction', '1', true),
    set_config('jit', 'off', true);

-- name: sql_sensors
select s.sensor_id
from tenant.sensor as s
where s.tenant_id = %(tenant_id)s::integer
limit %(count)s::bigint;

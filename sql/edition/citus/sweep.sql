-- requires: edition/citus/on_shards.sql, edition/citus/collect.sql

create or replace function alert.sweep(p_from timestamptz, p_to timestamptz)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    select sum(s.result::bigint) into v_count
    from ops.on_shards(format('select alert.sweep_{shard}(%L, %L)', p_from, p_to)) as s (result);
    perform alert.collect();
    return v_count;
end;
$$;
comment on function alert.sweep(timestamptz, timestamptz) is
    'Sweeps every shard: sql/alert/sweep.sql.';

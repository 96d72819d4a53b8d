-- requires: edition/citus/on_shards.sql

create or replace function alert.sweep(p_from timestamptz, p_to timestamptz)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(sum(s.result::bigint), 0)
        from ops.on_living_shards(
            format('select alert.sweep_{shard}(%L, %L)', p_from, p_to)
        ) as s (result)
    );
end;
$$;
comment on function alert.sweep(timestamptz, timestamptz) is
    'Sweeps every shard that can be reached: sql/alert/sweep.sql. What it raises waits there for alert.collect.';

-- requires: ops/size.sql

create or replace function ops.size_of(p_table regclass)
returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
    select case
        when exists (select from pg_dist_partition as p where p.logicalrelid = p_table)
            then citus_total_relation_size(p_table, fail_on_error => false)
        else pg_total_relation_size(p_table)
    end;
$$;
comment on function ops.size_of(regclass) is
    'Bytes that a table and its indexes take, on all nodes together.';

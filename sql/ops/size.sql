create or replace function ops.size_of(p_table regclass)
returns bigint
language sql
return pg_total_relation_size(p_table);
comment on function ops.size_of(regclass) is 'Bytes that a table and its indexes take.';

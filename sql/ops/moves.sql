create or replace function ops.unfinished_moves()
returns table (
    shard_id bigint, source text, target text, state text, is_running boolean, problem text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select null::bigint, null::text, null::text, null::text, null::boolean, null::text where false;
$$;
comment on function ops.unfinished_moves() is
    'Groups of shards that are on the way to another node: none on one server. is_running: a command is at '
    'it; where none is, `headwater cluster rebalance` goes on.';

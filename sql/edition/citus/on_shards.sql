-- Runs what was made on shards, on the shards. Each shard's part is a transaction of its own, so only what
-- may be done twice is done this way.

create or replace function ops.ask_shards(p_command text, p_shard_id bigint default null)
returns table (node text, is_done boolean, result text)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hosts text[];
    v_ports integer[];
    v_commands text[];
begin
    select
        array_agg(d.nodename order by s.shardid),
        array_agg(d.nodeport order by s.shardid),
        array_agg(replace(p_command, '{shard}', s.shardid::text) order by s.shardid)
    into v_hosts, v_ports, v_commands
    from pg_dist_shard as s
    join pg_dist_placement as p on p.shardid = s.shardid
    join pg_dist_node as d on d.groupid = p.groupid and d.noderole = 'primary'
    where s.logicalrelid = 'telemetry.reading'::regclass
        and (p_shard_id is null or s.shardid = p_shard_id);

    return query
    select
        format('%s:%s', a.node_name, a.node_port),
        a.success,
        nullif(case when a.success then a.result else regexp_replace(a.result, '^ERROR: +', '') end, '')
    from master_run_on_worker(v_hosts, v_ports, v_commands, true) as a;
end;
$$;
comment on function ops.ask_shards(text, bigint) is
    'Runs a statement on every group of shards (or one), {shard} in it replaced by its number: the node, '
    'whether it went well, and the first column of the answer (null where it is empty) or what went wrong.';

create or replace function ops.errcode_of(p_message text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
return case
    -- the words of Citus and TimescaleDB come in one language only, PostgreSQL's in that of lc_messages
    when p_message like 'failed to connect to %' then '08006'
    when p_message like '% due to a concurrent refresh' then '55P03'
    when p_message like '%canceling statement due to lock timeout' then '55P03'
    when p_message like '%deadlock detected' then '40P01'
    when p_message like '% is moving to another node' then 'HW423'
    else 'P0001'
end;
comment on function ops.errcode_of(text) is
    'SQLSTATE of what a shard answered: Citus passes on the first line of an error and nothing else.';

create or replace function ops.on_shards(p_command text, p_shard_id bigint default null)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_answer record;
begin
    for v_answer in select a.* from ops.ask_shards(p_command, p_shard_id) as a loop
        if not v_answer.is_done then
            raise exception '%', v_answer.result
                using
                    detail = format('on node %s', v_answer.node),
                    errcode = ops.errcode_of(v_answer.result);
        end if;
        return next v_answer.result;
    end loop;
end;
$$;
comment on function ops.on_shards(text, bigint) is
    'ops.ask_shards, of which only the answers count. Raises where one fails.';

create or replace function ops.on_living_shards(p_command text)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_answer record;
begin
    for v_answer in select a.* from ops.ask_shards(p_command) as a loop
        if v_answer.is_done then
            return next v_answer.result;
        else
            raise warning '%', v_answer.result using detail = format('on node %s', v_answer.node);
        end if;
    end loop;
end;
$$;
comment on function ops.on_living_shards(text) is
    'ops.on_shards for what is done again and again: where it fails, a warning says so.';

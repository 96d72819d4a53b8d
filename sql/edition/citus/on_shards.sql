-- Runs what was made on shards, on the shards. Each shard's part is a transaction of its own, so only what
-- may be done twice is done this way.

create or replace function ops.on_shards(p_command text, p_shard_id bigint default null)
returns setof text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hosts text[];
    v_ports integer[];
    v_commands text[];
    v_answer record;
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

    for v_answer in
        select a.* from master_run_on_worker(v_hosts, v_ports, v_commands, true) as a
    loop
        if not v_answer.success then
            raise exception '%', v_answer.result
                using detail = format('on node %s:%s', v_answer.node_name, v_answer.node_port);
        end if;
        return next nullif(v_answer.result, '');
    end loop;
end;
$$;
comment on function ops.on_shards(text, bigint) is
    'Runs a statement on every group of shards (or one), {shard} in it replaced by its number; the first '
    'column of each answer, null where it is empty. Raises where one fails.';

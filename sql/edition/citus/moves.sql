-- requires: ops/moves.sql, edition/citus/on_shards.sql, edition/citus/fence.sql, edition/citus/moved.sql
--
-- What is said of moves that are not finished, and how they end when whoever began them is dead.

create or replace function ops.unfinished_moves()
returns table (
    shard_id bigint, source text, target text, state text, is_running boolean, problem text
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        m.shard_id,
        coalesce(format('%s:%s', s.nodename, s.nodeport), 'a node that was removed'),
        coalesce(format('%s:%s', t.nodename, t.nodeport), 'a node that was removed'),
        m.state,
        exists (
            select
            from pg_locks as l
            where l.locktype = 'advisory' and l.objsubid = 1 and l.granted
                and l.database = (select d.oid from pg_database as d where d.datname = current_database())
                and ((l.classid::bigint << 32) | l.objid::bigint) = 0x6865616477617465
        ),
        m.problem
    from ops.shard_move as m
    left join pg_dist_node as s on s.groupid = m.source_node and s.noderole = 'primary'
    left join pg_dist_node as t on t.groupid = m.target_node and t.noderole = 'primary'
    where m.finished_at is null
    order by m.move_id;
$$;
comment on function ops.unfinished_moves() is
    'Groups of shards that are on the way to another node. is_running: a command (app/migrate/engine.py: '
    'LOCK_KEY) is at it; where none is, `headwater cluster rebalance` goes on.';

create or replace function ops.ask_node(p_node integer, p_command text)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_host text;
    v_port integer;
    v_answer record;
begin
    select d.nodename, d.nodeport
    into v_host, v_port
    from pg_dist_node as d
    where d.groupid = p_node and d.noderole = 'primary';
    if not found then
        return true;
    end if;
    select a.success, a.result
    into strict v_answer
    from master_run_on_worker(array[v_host], array[v_port], array[p_command], false) as a;
    if not v_answer.success then
        raise warning '%', v_answer.result using detail = format('on node %s:%s', v_host, v_port);
    end if;
    return v_answer.success;
end;
$$;
comment on function ops.ask_node(integer, text) is
    'Runs a statement on a node by its number; whether that went well, a warning says why not. True for a '
    'node that is no part of the cluster any more: nothing is left to be done there.';

create or replace function ops.settle_moves()
returns bigint
language plpgsql
security definer -- the jobs may not change shards
set search_path = pg_catalog, pg_temp
as $$
declare
    v_move record;
    v_drop text;
    v_count bigint := 0;
begin
    -- a command at work holds the first; whoever died, and is just committing all the same, the second
    if not (pg_try_advisory_xact_lock(0x6865616477617465) and pg_try_advisory_xact_lock(0x73686172646D6F76))
    then
        return 0;
    end if;
    for v_move in
        select
            m.move_id, m.shard_id, m.source_node, m.target_node, m.switched_at,
            p.groupid = m.target_node as has_switched,
            array_agg(o.shardid) as shard_ids,
            array_agg(format('%s_%s', o.logicalrelid, o.shardid)) as tables
        from ops.shard_move as m
        join pg_dist_placement as p on p.shardid = m.shard_id
        join pg_dist_shard as a on a.shardid = m.shard_id
        join pg_dist_partition as ap on ap.logicalrelid = a.logicalrelid
        join pg_dist_partition as op on op.colocationid = ap.colocationid
        join pg_dist_shard as o
            on o.logicalrelid = op.logicalrelid and o.shardminvalue = a.shardminvalue
        where m.finished_at is null
        group by m.move_id, p.groupid
        order by m.move_id
    loop
        v_drop := format(
            'select ops.drop_shards(%s, %L::bigint[])', v_move.shard_id, v_move.shard_ids);
        if v_move.has_switched then
            -- who began before the switch may still be on the way to read the old place
            if not exists (
                select
                from pg_stat_activity as a
                where a.xact_start < v_move.switched_at and a.state <> 'idle'
                    and a.datname = current_database() and a.backend_type = 'client backend'
            ) and ops.ask_node(v_move.source_node, v_drop) then
                update ops.shard_move as m
                set state = 'done', finished_at = clock_timestamp()
                where m.move_id = v_move.move_id;
                v_count := v_count + 1;
            end if;
        elsif ops.ask_node(
            v_move.source_node, format('select ops.unfence_shards(%L::text[])', v_move.tables)
        ) then
            update ops.shard_move as m
            set state = 'undoing', problem = coalesce(m.problem, 'its command is gone')
            where m.move_id = v_move.move_id;
            if ops.ask_node(v_move.target_node, v_drop) then
                update ops.shard_move as m
                set state = 'undone', finished_at = clock_timestamp()
                where m.move_id = v_move.move_id;
                v_count := v_count + 1;
            end if;
        end if;
    end loop;
    return v_count;
end;
$$;
comment on function ops.settle_moves() is
    'Ends moves whose command is gone (app/cluster/move.py): before the switch writers are let in again and '
    'the copy is removed, after it the old place is. What a node that is away keeps, waits for the next '
    'time. How many moves ended; 0 while a command is at work.';

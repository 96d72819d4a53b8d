-- The book of moves, and what Citus knows and does; only on a coordinator. app/cluster/ runs these.

-- name: moves_begun
select m.move_id, m.shard_id, m.source_node, m.target_node, m.state, m.problem
from ops.shard_move as m
where m.finished_at is null
order by m.move_id;

-- name: move_plan
insert into ops.shard_move (shard_id, source_node, target_node)
values (%(shard_id)s, %(source_node)s, %(target_node)s)
returning move_id, shard_id, source_node, target_node, state, problem;

-- name: move_note
update ops.shard_move as m
set
    state = %(state)s,
    problem = coalesce(%(problem)s, m.problem),
    finished_at = case when %(state)s in ('done', 'undone') then clock_timestamp() end
where m.move_id = %(move_id)s;

-- name: move_switch
update ops.shard_move as m
set state = 'switched', switched_at = clock_timestamp()
where m.move_id = %(move_id)s
returning pg_notify('shards_moved', m.shard_id::text);

-- name: move_readers
-- who began before the switch may have looked up the old place, and not have read there yet
select count(*)
from ops.shard_move as m
join pg_catalog.pg_stat_activity as a
    on a.xact_start < m.switched_at and a.pid <> pg_backend_pid() and a.state <> 'idle'
where m.move_id = %(move_id)s
    and a.datname = current_database() and a.backend_type = 'client backend';

-- name: moves_settle
select ops.settle_moves() as settled_count;

-- name: move_lock
select pg_advisory_xact_lock(%(key)s);

-- name: group_place
select p.groupid
from pg_catalog.pg_dist_placement as p
where p.shardid = %(shard_id)s;

-- name: group_lock
-- 7: ExclusiveLock, which Citus takes, too, before it moves; whoever writes has a share lock
select lock_shard_metadata(7, %(shard_ids)s);

-- name: group_copy
select citus_move_shard_placement(
    %(shard_id)s, %(source_host)s, %(source_port)s, %(target_host)s, %(target_port)s, 'block_writes'
);

-- name: leftovers_drop
call citus_cleanup_orphaned_resources();

-- name: nodes_all
select
    n.groupid as number, n.nodename as host, n.nodeport as port,
    n.shouldhaveshards as takes_shards,
    exists (select from ops.nodes_aside() as a where a.node = n.groupid) as is_aside
from pg_catalog.pg_dist_node as n
where n.noderole = 'primary' and n.isactive
order by n.groupid;

-- name: node_add
select citus_add_node(%(host)s, %(port)s);

-- name: node_synced
select n.metadatasynced
from pg_catalog.pg_dist_node as n
where n.nodename = %(host)s and n.nodeport = %(port)s;

-- name: node_stop_taking
select citus_set_node_property(%(host)s, %(port)s, 'shouldhaveshards', false);

-- name: node_take
select citus_set_node_property(%(host)s, %(port)s, 'shouldhaveshards', true);

-- name: node_remove
select citus_remove_node(%(host)s, %(port)s);

-- name: nodes_aside
select a.node from ops.nodes_aside() as a;

-- name: node_set_aside
select ops.set_node_aside(%(node)s);

-- name: node_resync
select ops.resync_node(%(node)s) as is_done;

-- name: node_take_back
select ops.take_node_back(%(node)s) as is_done;

-- name: session
select a.pid, a.backend_start
from pg_catalog.pg_stat_activity as a
where a.pid = pg_backend_pid();

-- name: references_later
set citus.replicate_reference_tables_on_activate = off;

-- name: references_copy
-- from the coordinator, which is there; Citus itself would take any, also one that is away
select citus_copy_shard_placement(
    r.shard_id, c.nodename, c.nodeport, w.nodename, w.nodeport, 'block_writes'
)
from (
    select min(s.shardid) as shard_id
    from pg_catalog.pg_dist_shard as s
    join pg_catalog.pg_dist_partition as t on t.logicalrelid = s.logicalrelid
    where t.partmethod = 'n' and t.repmodel = 't'
) as r
join pg_catalog.pg_dist_node as c on c.groupid = 0
join pg_catalog.pg_dist_node as w on w.groupid > 0 and w.noderole = 'primary' and w.isactive
where not exists (
    select
    from pg_catalog.pg_dist_placement as p
    where p.shardid = r.shard_id and p.groupid = w.groupid
);

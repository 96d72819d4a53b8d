-- role: superuser
--
-- A worker that can't be reached would keep all others from changing anything: every worker knows all
-- places, and Citus tells all of them or none. So it is set aside first (app/cluster/away.py), and told
-- everything anew when it is back (edition/citus/back.sql).
--
-- What runs with a superuser's rights here calls nothing but the catalogue: whoever owns schema ops could
-- put another function in the place of one of ours.

create or replace function ops.set_node_aside(p_node integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set citus.enable_metadata_sync = off -- of those it would tell another may be away as well
as $$
begin
    insert into ops.node_aside (node) values (p_node) on conflict do nothing;
    perform stop_metadata_sync_to_node(d.nodename, d.nodeport, false)
    from pg_dist_node as d
    where d.groupid = p_node and d.noderole = 'primary' and d.hasmetadata;
end;
$$;
comment on function ops.set_node_aside(integer) is
    'Lets the others change without this node, which keeps what it has; until ops.resync_node().';

create or replace function ops.resync_node(p_node integer)
returns boolean
language plpgsql
security definer -- the jobs may not change nodes
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_there boolean;
begin
    -- a command at work sees to it itself
    if not pg_try_advisory_xact_lock(0x6865616477617465) then
        return false;
    end if;
    select bool_and(a.success)
    into v_is_there
    from pg_dist_node as d
    cross join lateral master_run_on_worker(
        array[d.nodename], array[d.nodeport], array['select 1'], false
    ) as a
    where d.groupid = p_node and d.noderole = 'primary';
    if not v_is_there then
        return false;
    end if;
    perform start_metadata_sync_to_node(d.nodename, d.nodeport)
    from pg_dist_node as d
    where d.groupid = p_node and d.noderole = 'primary' and not d.hasmetadata;
    return true;
end;
$$;
comment on function ops.resync_node(integer) is
    'Tells a node that was set aside everything anew; false: it is still away, or a command is at work. Then '
    'comes, in a transaction of its own, ops.take_node_back().';

-- sql/identity/grants.sql passes them on
revoke all on function
    ops.set_node_aside(integer), ops.resync_node(integer)
from public;
grant execute on function
    ops.set_node_aside(integer), ops.resync_node(integer)
to headwater_owner with grant option;

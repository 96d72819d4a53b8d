-- requires: edition/citus/moves.sql
-- role: superuser
--
-- A worker that can't be reached would keep all others from changing anything: every worker knows all
-- places, and Citus tells all of them or none. So it is set aside first (app/cluster/away.py), and told
-- everything anew when it is back.

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

create or replace function ops.nodes_aside()
returns table (node integer, since timestamptz)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select d.groupid, a.since
    from pg_dist_node as d
    left join ops.node_aside as a on a.node = d.groupid
    where d.groupid > 0 and d.noderole = 'primary' and d.isactive
        and (a.node is not null or not d.hasmetadata)
    order by d.groupid;
$$;
comment on function ops.nodes_aside() is
    'Nodes that have not been told of everything yet; since: null where somebody else has seen to that.';

create or replace function ops.resync_node(p_node integer)
returns boolean
language plpgsql
security definer -- the jobs may not change nodes
set search_path = pg_catalog, pg_temp
as $$
begin
    -- a command at work sees to it itself
    if not (pg_try_advisory_xact_lock(0x6865616477617465) and ops.ask_node(p_node, 'select 1')) then
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

create or replace function ops.take_node_back(p_node integer)
returns boolean
language plpgsql
security definer -- the jobs may not change nodes
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Citus has made its images of the tables anew, with the coordinator's grants
    if not ops.ask_node(p_node, 'select ops.grant_on_node()') then
        return false;
    end if;
    delete from ops.node_aside as a where a.node = p_node;
    return true;
end;
$$;
comment on function ops.take_node_back(integer) is
    'Whatever else ops.resync_node() has to be followed by; false: the node went away again.';

-- sql/identity/grants.sql passes them on
revoke all on function
    ops.set_node_aside(integer), ops.nodes_aside(), ops.resync_node(integer),
    ops.take_node_back(integer)
from public;
grant execute on function
    ops.set_node_aside(integer), ops.nodes_aside(), ops.resync_node(integer),
    ops.take_node_back(integer)
to headwater_owner with grant option;

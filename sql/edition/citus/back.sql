-- requires: edition/citus/away.sql, edition/citus/moves.sql
--
-- Nodes that were set aside: which there are, and what is left to do for one that is back.

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

-- where: nodes
--
-- Is the copy of a shard equal to the original, and how to be rid of one of them.

create or replace function ops.digest(p_table text)
returns table (row_count bigint, checksum numeric)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select count(*), coalesce(sum(hash_record_extended(t, 0)), 0) from %s as t',
        p_table::regclass
    );
end;
$$;
comment on function ops.digest(text) is
    'What another order of the same rows has, too, and other rows do not: their number and a checksum of '
    'all columns.';

create or replace function ops.rollup_digest(p_table text)
returns table (
    row_count bigint, checksum numeric, value_sum double precision, value_avg double precision,
    value_sum_sq double precision
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select count(*), '
        'coalesce(sum(hash_record_extended(row(t.sensor_id, t.metric_id, t.bucket, t.n, '
        't.value_min, t.value_max, t.value_first, t.value_last, t.n_suspect, t.n_fail), 0)), 0), '
        'coalesce(sum(abs(t.value_sum)), 0), coalesce(sum(abs(t.value_avg)), 0), '
        'coalesce(sum(t.value_sum_sq), 0) from %s as t',
        p_table::regclass
    );
end;
$$;
comment on function ops.rollup_digest(text) is
    'The same of a rollup. Its sums depend on the order of the readings in the last digits, so they stand '
    'beside the checksum, in mixed units.';

create or replace function ops.drop_shards(p_shard_id bigint, p_shard_ids bigint[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set citus.enable_ddl_propagation = off
set citus.enable_manual_changes_to_shards = on
set citus.override_table_visibility = off
set lock_timeout = '5s'
as $$
declare
    v_ours constant oid[] := array(
        select n.oid
        from pg_namespace as n
        join pg_roles as r on r.oid = n.nspowner and r.rolname = 'headwater_owner'
    );
    v_numbered constant text := format('_(%s)$', array_to_string(p_shard_id || p_shard_ids, '|'));
    v_what text;
begin
    -- a command on its way holds it, and may have lost the cluster meanwhile
    perform pg_advisory_xact_lock(0x6865616477617465);
    if exists (
        select
        from pg_dist_placement as p
        join pg_dist_local_group as g on g.groupid = p.groupid
        where p.shardid = p_shard_id
    ) then
        raise exception 'shards % lie here: they are not dropped', p_shard_id;
    end if;
    -- the last made rests on those before
    foreach v_what in array array(
        select format('drop materialized view if exists %I.%I cascade', c.user_view_schema, c.user_view_name)
        from _timescaledb_catalog.continuous_agg as c
        where c.user_view_name ~ v_numbered
        order by c.mat_hypertable_id desc
    )
    loop
        execute v_what;
    end loop;
    -- with its triggers on reference tables
    foreach v_what in array array(
        select format('drop routine if exists %s cascade', p.oid::regprocedure)
        from pg_proc as p
        where p.pronamespace = any (v_ours) and p.proname ~ v_numbered
    )
    loop
        execute v_what;
    end loop;
    foreach v_what in array array(
        select
            format(
                'drop %s if exists %I.%I cascade',
                case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end,
                n.nspname, c.relname
            )
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where c.relnamespace = any (v_ours) and c.relname ~ v_numbered and c.relkind in ('r', 'v', 'S')
        order by c.relkind desc
    )
    loop
        execute v_what;
    end loop;
    delete from ops.applied as a where a.shard_id = p_shard_id;
end;
$$;
comment on function ops.drop_shards(bigint, bigint[]) is
    'Removes whatever this node has of a group of shards: that of its readings, and the others. Refuses '
    'where the group lies here.';

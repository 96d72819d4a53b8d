-- where: nodes
--
-- While a group of shards moves (app/cluster/move.py) nobody may write to it. Citus holds those who come
-- through the coordinator; whoever writes straight to the shard's node meets this fence, which outlives
-- every crash: SQLSTATE HW423. The copy that stays behind keeps it until it is dropped.

create or replace function ops.tg_shard__refuse()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '%.% is moving to another node', tg_table_schema, tg_table_name
        using
            errcode = 'HW423',
            hint = 'Look up where the shard lies now, and write again.';
end;
$$;
comment on function ops.tg_shard__refuse() is
    'Refuses every write with SQLSTATE HW423: the shard is moving, or has moved, to another node.';

create or replace function ops.fence_shard(p_table text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_table constant regclass := to_regclass(p_table);
begin
    -- a rollup is a view or a table of its own, and nobody writes to it by this name
    if v_table is null or (select c.relkind <> 'r' from pg_class as c where c.oid = v_table) then
        return;
    end if;
    -- waits for those who are writing
    execute format(
        'create or replace trigger _000_moving before insert or update or delete or truncate on %s '
        'for each statement execute function ops.tg_shard__refuse()',
        v_table
    );
end;
$$;
comment on function ops.fence_shard(text) is
    'Waits for the writers of a shard and refuses all later ones, until ops.unfence_shard().';

create or replace function ops.unfence_shard(p_table text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from pg_trigger as t
        where t.tgrelid = to_regclass(p_table) and t.tgname = '_000_moving' and t.tgqual is null
    ) then
        -- to drop it would wait for whoever reads the shard, be it a copy for a server that stands still
        execute format(
            'create or replace trigger _000_moving before insert or update or delete or truncate on %s '
            'for each statement when (false) execute function ops.tg_shard__refuse()',
            to_regclass(p_table)
        );
    end if;
end;
$$;
comment on function ops.unfence_shard(text) is
    'Lets writers in again. The fence stays, open, and waits for the next move.';

create or replace function ops.unfence_shards(p_tables text[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set citus.enable_ddl_propagation = off
set citus.enable_manual_changes_to_shards = on
set citus.override_table_visibility = off
set lock_timeout = '5s'
as $$
begin
    -- as in ops.drop_shards()
    perform pg_advisory_xact_lock(0x6865616477617465);
    perform ops.unfence_shard(t) from unnest(p_tables) as t;
    perform ops.schedule_shard_jobs(p_tables, true);
end;
$$;
comment on function ops.unfence_shards(text[]) is
    'Lets writers and policies in again, for whoever asks from another node.';

create or replace function ops.fenced_shards()
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select t.tgrelid::regclass::text
    from pg_trigger as t
    where t.tgname = '_000_moving' and t.tgqual is null;
$$;
comment on function ops.fenced_shards() is 'Tables on this node that nobody may write to.';

create or replace function ops.shard_jobs(p_tables text[])
returns table (job_id integer, is_scheduled boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select j.job_id, j.scheduled
    from timescaledb_information.jobs as j
    where coalesce(j.config ->> 'hypertable_id', j.config ->> 'mat_hypertable_id')::integer in (
        select h.id
        from _timescaledb_catalog.hypertable as h
        where format('%s.%s', h.schema_name, h.table_name) = any (p_tables)
        union all
        select c.mat_hypertable_id
        from _timescaledb_catalog.continuous_agg as c
        where format('%s.%s', c.user_view_schema, c.user_view_name) = any (p_tables)
    );
$$;
comment on function ops.shard_jobs(text[]) is 'Policies of hypertables and continuous aggregates.';

-- What an operator has switched off bears no mark, and stays off.
create or replace function ops.schedule_shard_jobs(p_tables text[], p_is_scheduled boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.alter_job(
        j.job_id,
        scheduled => p_is_scheduled,
        config => case
            when p_is_scheduled then c.config - 'is_moving'
            else c.config || '{"is_moving": true}'
        end
    )
    from ops.shard_jobs(p_tables) as j
    join timescaledb_information.jobs as c on c.job_id = j.job_id
    where j.is_scheduled <> p_is_scheduled
        and (not p_is_scheduled or c.config ? 'is_moving');
end;
$$;
comment on function ops.schedule_shard_jobs(text[], boolean) is
    'Stops the policies of shards, or lets those run again that it has stopped; one that is running goes '
    'on to its end.';

create or replace function ops.named_shard_jobs(p_tables text[])
returns table (job_id integer, name text, is_off boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        c.job_id,
        -- the table behind an aggregate has another number on each node
        format(
            '%s %s.%s', c.proc_name, coalesce(a.user_view_schema, h.schema_name),
            coalesce(a.user_view_name, h.table_name)
        ),
        not c.scheduled and not c.config ? 'is_moving'
    from ops.shard_jobs(p_tables) as j
    join timescaledb_information.jobs as c on c.job_id = j.job_id
    join _timescaledb_catalog.hypertable as h
        on h.id = coalesce(c.config ->> 'hypertable_id', c.config ->> 'mat_hypertable_id')::integer
    left join _timescaledb_catalog.continuous_agg as a on a.mat_hypertable_id = h.id;
$$;
comment on function ops.named_shard_jobs(text[]) is
    'Policies of shards by names that are the same on every node; is_off: somebody has switched it off, '
    'and not ops.schedule_shard_jobs().';

create or replace function ops.running_shard_jobs(p_tables text[])
returns bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select count(*)
    from ops.shard_jobs(p_tables) as j
    join timescaledb_information.job_stats as s on s.job_id = j.job_id
    where s.job_status = 'Running';
$$;
comment on function ops.running_shard_jobs(text[]) is 'How many policies of these shards run just now.';

-- requires: archive/move.sql, edition/*/archive.sql, edition/citus/on_shards.sql
--
-- A chunk is, on a distributed server, the chunks of all shards that have one for its range. They go
-- together or not at all: an order to each shard, in one transaction of all nodes.

create or replace function archive.closed_chunks(p_before timestamptz)
returns table (range_from timestamptz, range_to timestamptz, chunk regclass, is_columnar boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    -- by series, as from a columnstore: a shard's pages mean nothing here
    select c.range_from, c.range_to, null::regclass, true
    from ops.on_shards(
        format(
            'select jsonb_agg(jsonb_build_object('
            '''range_from'', c.range_from, ''range_to'', c.range_to)) '
            'from archive.closed_chunks_{shard}(%L) as c',
            p_before
        )
    ) as s (chunks)
    cross join lateral jsonb_to_recordset(s.chunks::jsonb)
        as c (range_from timestamptz, range_to timestamptz)
    group by c.range_from, c.range_to
$$;
comment on function archive.closed_chunks(timestamptz) is
    'Ranges of the chunks of readings that ended by then, on any shard.';

create or replace function archive.rollup_steps(p_from timestamptz, p_to timestamptz)
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select format('select ops.on_shards(%L, %s)', step.what, step.shard_id)
    from ops.on_shards(
        format(
            'select jsonb_agg(jsonb_build_object(''shard_id'', {shard}, ''what'', s)) '
            'from archive.rollup_steps_{shard}(%L, %L) as s',
            p_from, p_to
        )
    ) as s (steps)
    cross join lateral jsonb_to_recordset(s.steps::jsonb) as step (shard_id bigint, what text);
$$;
comment on function archive.rollup_steps(timestamptz, timestamptz) is
    'Statements that bring every shard''s rollups of a range of hot readings up to date.';

create or replace function archive.protect_rollups(p_to timestamptz)
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select count(*)
    from ops.on_shards(format('select archive.protect_rollups_{shard}(%L)', p_to));
$$;
comment on function archive.protect_rollups(timestamptz) is
    'Keeps the shards'' scheduled refreshes off everything cold and everything before p_to.';

create or replace function archive.running_refreshes()
returns setof text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select r.refresh
    from ops.on_shards(
        'select jsonb_agg(r) from archive.running_refreshes_{shard}() as r'
    ) as s (refreshes)
    cross join lateral jsonb_array_elements_text(s.refreshes::jsonb) as r (refresh);
$$;
comment on function archive.running_refreshes() is
    'Scheduled refreshes that run on the workers now, each by a name that no later one has.';

create or replace function archive.drop_chunk(p_export_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_export archive.export;
    v_count bigint;
begin
    select e.* into strict v_export
    from archive.export as e where e.export_id = p_export_id for update;
    if v_export.state <> 'verified' then
        raise exception 'export % is %, not verified', p_export_id, v_export.state
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    -- the order to the shards and the entry in a reference table in one transaction
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    begin
        insert into archive.chunk_drop (sensor_id, export_id, range_from, range_to)
        select g.sensor_id, v_export.export_id, v_export.range_from, v_export.range_to
        from archive.one_sensor_a_shard() as g (sensor_id);
        select sum(d.dropped_count) into v_count
        from archive.chunk_drop as d where d.export_id = p_export_id;
        if v_count <> v_export.hot_count and not (v_count = 0 and v_export.is_late) then
            raise exception 'there are % readings, not %', v_count, v_export.hot_count
                using errcode = 'HW409';
        end if;
        delete from archive.chunk_drop as d where d.export_id = p_export_id;
    exception
        when sqlstate 'HW409' then
            if v_count < v_export.hot_count then
                raise exception 'the chunk of export % is gone, or a part of it', p_export_id
                    using errcode = 'object_not_in_prerequisite_state';
            end if;
            update archive.export as e
            set state = 'pending', problem = format(
                '%s readings came after the export; it starts over', v_count - v_export.hot_count)
            where e.export_id = p_export_id;
            return -1;
    end;
    delete from archive.restored as r where r.export_id = p_export_id;
    update archive.export as e
    set state = 'dropped', dropped_at = now(), problem = null
    where e.export_id = p_export_id;
    return v_count;
end;
$$;
comment on function archive.drop_chunk(bigint) is
    'Drops the chunks of a verified export on all shards, if none has changed since; returns their '
    'readings, or -1 where late ones came and the export starts over. Cold from this commit on.';

create or replace function archive.one_sensor_a_shard()
returns setof bigint
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select min(n)
    from generate_series(1, 100000) as n
    group by get_shard_id_for_distribution_column('telemetry.reading', n::bigint);
$$;
comment on function archive.one_sensor_a_shard() is
    'Numbers that lie on different shards, one on each: to send each shard one row.';

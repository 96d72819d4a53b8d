-- requires: archive/closed.sql, archive/range.sql, archive/piece.sql, edition/*/archive.sql
--
-- The steps of an export that PostgreSQL takes. One process at a time: the archive job's advisory lock.
-- Lock order: rollups (7202, 0), then the chunk, as late readings' writers know only the chunk.

create or replace function archive.claim_chunk(p_before timestamptz)
returns setof archive.export
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- one after the other, because a distributed server joins no function with tables
    v_chunks constant tstzrange[] := array(
        select tstzrange(c.range_from, c.range_to)
        from archive.closed_chunks(date_trunc('day', p_before, 'UTC')) as c
        order by c.range_from
    );
    v_taken constant tstzmultirange := coalesce((
        select range_agg(tstzrange(e.range_from, e.range_to))
        from archive.export as e
        where e.state <> 'dropped'
    ), '{}') + coalesce((
        select range_agg(tstzrange(r.range_from, r.range_to))
        from archive.restored as r
        where r.export_id is null
    ), '{}');
    v_range tstzrange;
    v_is_late boolean;
begin
    select c.chunk into v_range
    from unnest(v_chunks) with ordinality as c (chunk, no)
    where not c.chunk && v_taken
    order by c.no
    limit 1;
    if v_range is null then
        return;
    end if;
    select count(*) > 0 into v_is_late
    from archive.cold_range as d
    where d.range_from < upper(v_range) and d.range_to > lower(v_range);
    return query
    insert into archive.export (range_from, range_to, is_late)
    values (lower(v_range), upper(v_range), v_is_late)
    returning *;
end;
$$;
comment on function archive.claim_chunk(timestamptz) is
    'Claims the oldest closed chunk that nobody has claimed and nobody wants hot; no row: none is left.';

create or replace function archive.drop_chunk(p_export_id bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_export archive.export;
    v_chunk regclass;
    v_count bigint;
    v_dropped text[];
begin
    -- a rollup's refresh that read the chunk before must not write after
    perform pg_advisory_xact_lock(7202, 0);
    select e.* into strict v_export
    from archive.export as e where e.export_id = p_export_id for update;
    if v_export.state <> 'verified' then
        raise exception 'export % is %, not verified', p_export_id, v_export.state
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    select c.chunk into v_chunk
    from archive.closed_chunks(v_export.range_to) as c
    where c.range_from = v_export.range_from and c.range_to = v_export.range_to;

    if v_chunk is not null then
        perform archive.hold_rollups(v_export.range_from, v_export.range_to);
        -- nobody adds a reading from here to the commit
        execute format('lock table %s in access exclusive mode', v_chunk);
        select count(*) into v_count
        from telemetry.reading as r
        where r.ts >= v_export.range_from and r.ts < v_export.range_to;
        if v_count <> v_export.hot_count then
            update archive.export as e
            set state = 'pending', problem = format(
                '%s readings came after the export; it starts over', v_count - v_export.hot_count)
            where e.export_id = p_export_id;
            return -1;
        end if;
        select array_agg(d::text) into v_dropped
        from public.drop_chunks(
            'telemetry.reading', older_than => v_export.range_to, newer_than => v_export.range_from
        ) as d;
        if cardinality(v_dropped) is distinct from 1 then
            raise exception 'the range of export % holds chunks %, not one', p_export_id, v_dropped;
        end if;
    elsif v_export.hot_count > 0 and not v_export.is_late then
        raise exception 'the chunk of export % is gone', p_export_id
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    delete from archive.restored as r where r.export_id = p_export_id;
    update archive.export as e
    set state = 'dropped', dropped_at = now(), problem = null
    where e.export_id = p_export_id;
    return coalesce(v_count, 0);
end;
$$;
comment on function archive.drop_chunk(bigint) is
    'Drops the chunk of a verified export, if it has not changed since; returns its readings, or -1 '
    'where late ones came and the export starts over. The range is cold from this commit on.';

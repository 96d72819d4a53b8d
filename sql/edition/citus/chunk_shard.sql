-- requires: archive/closed.sql, edition/*/archive.sql
-- where: shards
--
-- What a shard does with the order to drop a chunk, in the transaction that gives it to all shards.

create or replace function archive.tg_chunk_drop__drop()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_order record;
    v_chunk regclass;
    v_count bigint := 0;
begin
    select o.export_id, o.range_from, o.range_to into strict v_order from ordered as o;
    select c.chunk into v_chunk
    from archive.closed_chunks(v_order.range_to) as c
    where c.range_from = v_order.range_from and c.range_to = v_order.range_to;

    if v_chunk is not null then
        -- a rollup's refresh that read the chunk before must not write after; shared, because other
        -- shards of this node do the same in the same transaction
        perform pg_advisory_xact_lock_shared(7202, 0);
        perform archive.hold_rollups(v_order.range_from, v_order.range_to);
        -- nobody adds a reading from here to the commit
        execute format('lock table %s in access exclusive mode', v_chunk);
        select count(*) into v_count
        from telemetry.reading as r
        where r.ts >= v_order.range_from and r.ts < v_order.range_to;
        perform public.drop_chunks(
            'telemetry.reading', older_than => v_order.range_to, newer_than => v_order.range_from
        );
    end if;
    update archive.chunk_drop as d
    set dropped_count = v_count
    where d.export_id = v_order.export_id;
    return null;
end;
$$;
comment on function archive.tg_chunk_drop__drop() is
    'Drops the shard''s chunk of the order''s range and notes how many readings it had; whoever ordered it '
    'compares and takes all of it back where they are not as many as were verified.';

create or replace trigger _500_drop
after insert on archive.chunk_drop
referencing new table as ordered
for each statement execute function archive.tg_chunk_drop__drop();

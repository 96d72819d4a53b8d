-- requires: edition/apache/refresh.sql, archive/range.sql
-- where: coordinator, shards
--
-- Stored rollups of a cold range stay as they are: telemetry.refresh_rollup_range() leaves frozen
-- buckets out. Before a chunk goes, its buckets must be stored.

create or replace function archive.rollup_steps(p_from timestamptz, p_to timestamptz)
returns setof text
language sql
stable
begin atomic
    select 'call telemetry.refresh_rollups()'
    union all
    select format(
        'do $do$ begin perform pg_advisory_xact_lock(7202, 0); '
        'call telemetry.refresh_rollup_range(%L, %L); end $do$', p_from, p_to);
end;
comment on function archive.rollup_steps(timestamptz, timestamptz) is
    'Statements that bring the rollups of a range of hot readings up to date, each to be run by itself.';

create or replace function archive.protect_rollups(p_to timestamptz)
returns void
language sql
begin atomic
    select null::void;
end;
comment on function archive.protect_rollups(timestamptz) is
    'Keeps scheduled refreshes off everything cold; nothing to do here, they look for themselves.';

create or replace function archive.running_refreshes()
returns setof text
language sql
stable
begin atomic
    select null::text where false;
end;
comment on function archive.running_refreshes() is
    'Refreshes that may reach into what is cold; none, they look for themselves.';

create or replace function archive.hold_rollups(p_from timestamptz, p_to timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if telemetry.rollup_until('1d') < p_to then
        raise exception 'the rollups reach only to %', telemetry.rollup_until('1d')
            using errcode = 'object_not_in_prerequisite_state';
    end if;
end;
$$;
comment on function archive.hold_rollups(timestamptz, timestamptz) is
    'Refuses where the rollups of the range are not stored yet; keeps refreshes out until the commit.';

-- where: coordinator, shards
-- Which ranges are cold, and which rollups must therefore be left as they are.

create or replace view archive.cold_range as
select e.range_from, e.range_to, e.export_id
from archive.export as e
where e.state = 'dropped';
comment on view archive.cold_range is
    'Exports that count, and their ranges; late readings may be hot beside them.';

create or replace function archive.frozen(p_from timestamptz, p_to timestamptz)
returns tstzmultirange
language plpgsql -- a distributed server plans no statement with an SQL function's parameters
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return
        tstzmultirange(tstzrange(p_from, p_to))
        * coalesce((
            select range_agg(tstzrange(c.range_from, c.range_to))
            from archive.cold_range as c
            where c.range_from < p_to and c.range_to > p_from
        ), '{}')
        - coalesce((
            select range_agg(tstzrange(r.range_from, r.range_to))
            from archive.restored as r
            where r.range_from < p_to and r.range_to > p_from
                -- what has expired does not come back
                and not exists (
                    select from archive.tenant_policy as p where p.expired_until > r.range_from
                )
        ), '{}');
end;
$$;
comment on function archive.frozen(timestamptz, timestamptz) is
    'The part of [p_from, p_to) whose rollups can no longer be computed from the hot readings alone.';

create or replace function archive.hot_from()
returns timestamptz
language sql
stable
begin atomic
    select max(c.range_to) from archive.cold_range as c;
end;
comment on function archive.hot_from() is
    'From here on every reading is hot; null: nothing is cold. Refreshing a rollup that starts earlier '
    'would erase its history.';

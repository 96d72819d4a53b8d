-- where: coordinator, shards
--
-- Half of the proof that no rule can care about a reading; alert.changed_since() has the other half.

create or replace function alert.bands()
returns table (
    tenant_id integer,
    site_id bigint,
    sensor_id bigint,
    metric_id smallint,
    low double precision,
    high double precision
)
language sql
stable
-- the ingest role may not read thresholds
security definer
set search_path = pg_catalog, pg_temp
begin atomic
    select
        t.tenant_id, t.site_id, t.sensor_id, t.metric_id,
        coalesce(max(t.limit_value) filter (where t.side = 'low'), '-infinity'),
        coalesce(min(t.limit_value) filter (where t.side = 'high'), 'infinity')
    from alert.threshold as t
    where t.is_enabled
    group by t.tenant_id, t.site_id, t.sensor_id, t.metric_id
    -- the same everywhere
    order by t.tenant_id, t.site_id, t.sensor_id, t.metric_id;
end;
comment on function alert.bands() is
    'For each scope and metric the band, limits included, in which values violate no limit of that '
    'scope. Inside the bands of all scopes that could apply to it, a value violates nothing.';

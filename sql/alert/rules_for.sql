-- where: shards
-- The limits that apply to datastreams, most specific scope first.

-- its result may have changed
drop function if exists alert.rules_for(bigint[], smallint[]);

create or replace function alert.rules_for(p_sensor_ids bigint[], p_metric_ids smallint[])
returns table (
    no bigint,
    sensor_id bigint,
    metric_id smallint,
    severity text,
    side text,
    tenant_id integer,
    site_id bigint,
    threshold_id bigint,
    limit_value double precision,
    hysteresis double precision,
    min_duration interval
)
language sql
stable
parallel safe
begin atomic
    with winner as (
        select distinct on (r.severity, r.side, u.no)
            u.no, u.sensor_id, u.metric_id, r.severity, r.side, s.tenant_id, s.site_id,
            r.threshold_id, r.limit_value, r.hysteresis, r.min_duration, r.is_enabled
        from unnest(p_sensor_ids, p_metric_ids) with ordinality as u (sensor_id, metric_id, no)
        join telemetry.sensor as s on s.sensor_id = u.sensor_id
        -- each by an index of its own; an OR over them would take the metric out and read all of a sensor's
        cross join lateral (
            select t.*
            from alert.threshold as t
            where t.sensor_id = u.sensor_id and t.metric_id = u.metric_id
            union all
            select t.*
            from alert.threshold as t
            where t.site_id = s.site_id and t.metric_id = u.metric_id
            union all
            select t.*
            from alert.threshold as t
            where t.metric_id = u.metric_id and t.site_id is null and t.sensor_id is null
                and (t.tenant_id = s.tenant_id or t.tenant_id is null)
        ) as r
        -- nulls come last: the sensor's own, its site's, its tenant's, the platform's
        order by r.severity, r.side, u.no, r.sensor_id, r.site_id, r.tenant_id
    )
    select
        w.no, w.sensor_id, w.metric_id, w.severity, w.side, w.tenant_id, w.site_id,
        w.threshold_id, w.limit_value, w.hysteresis, w.min_duration
    from winner as w
    where w.is_enabled;
end;
comment on function alert.rules_for(bigint[], smallint[]) is
    'The enabled limits of the given datastreams (pairwise arrays; no: position), one per severity and side: '
    'the sensor''s own, else its site''s, its tenant''s, the platform''s.';

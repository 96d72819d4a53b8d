-- where: shards
-- The limits that apply to datastreams, most specific scope first.

create or replace function alert.rules_for(p_sensor_ids bigint[], p_metric_ids smallint[])
returns table (
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
    with stream as materialized (
        select u.sensor_id, u.metric_id, s.tenant_id, s.site_id
        from unnest(p_sensor_ids, p_metric_ids) as u (sensor_id, metric_id)
        join telemetry.sensor as s on s.sensor_id = u.sensor_id
    ),
    -- four equi-joins, one a scope: an OR over them would join every rule with every datastream
    applicable as (
        select st.sensor_id, st.metric_id, st.tenant_id, st.site_id, 4 as specificity, t.threshold_id
        from stream as st
        join alert.threshold as t on t.sensor_id = st.sensor_id and t.metric_id = st.metric_id
        union all
        select st.sensor_id, st.metric_id, st.tenant_id, st.site_id, 3, t.threshold_id
        from stream as st
        join alert.threshold as t on t.site_id = st.site_id and t.metric_id = st.metric_id
        union all
        select st.sensor_id, st.metric_id, st.tenant_id, st.site_id, 2, t.threshold_id
        from stream as st
        join alert.threshold as t on t.metric_id = st.metric_id and t.tenant_id = st.tenant_id
        where t.site_id is null and t.sensor_id is null
        union all
        select st.sensor_id, st.metric_id, st.tenant_id, st.site_id, 1, t.threshold_id
        from stream as st
        join alert.threshold as t on t.metric_id = st.metric_id
        where t.tenant_id is null
    ),
    winner as (
        select distinct on (a.sensor_id, a.metric_id, t.severity, t.side)
            a.sensor_id, a.metric_id, t.severity, t.side, a.tenant_id, a.site_id,
            t.threshold_id, t.limit_value, t.hysteresis, t.min_duration, t.is_enabled
        from applicable as a
        join alert.threshold as t on t.threshold_id = a.threshold_id
        order by a.sensor_id, a.metric_id, t.severity, t.side, a.specificity desc
    )
    select
        w.sensor_id, w.metric_id, w.severity, w.side, w.tenant_id, w.site_id,
        w.threshold_id, w.limit_value, w.hysteresis, w.min_duration
    from winner as w
    where w.is_enabled;
end;
comment on function alert.rules_for(bigint[], smallint[]) is
    'The enabled limits of the given datastreams (pairwise arrays), one per severity and side: '
    'the sensor''s own, else its site''s, its tenant''s, the platform''s.';

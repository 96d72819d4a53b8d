-- requires: edition/*/rollup.sql
--
-- The contract: what analysts, dashboards and exports read. Columns are added, never renamed.

create or replace view analytics.sensor as
select
    s.sensor_id, t.slug as tenant, s.uid as sensor, s.title, s.status, s.expected_interval,
    p.code as site, p.title as site_title, p.region, p.latitude, p.longitude, s.tenant_id, s.site_id
from telemetry.sensor as s
join identity.tenant as t on t.tenant_id = s.tenant_id
left join telemetry.site as p on p.site_id = s.site_id;
comment on view analytics.sensor is 'Sensors with their site and tenant.';
comment on column analytics.sensor.latitude is 'Degrees north, WGS 84.';
comment on column analytics.sensor.longitude is 'Degrees east, WGS 84.';

create or replace view analytics.site as
select
    p.site_id, t.slug as tenant, p.code as site, p.title, p.region, p.latitude, p.longitude,
    p.tenant_id
from telemetry.site as p
join identity.tenant as t on t.tenant_id = p.tenant_id;
comment on view analytics.site is 'Places where sensors are.';
comment on column analytics.site.latitude is 'Degrees north, WGS 84.';
comment on column analytics.site.longitude is 'Degrees east, WGS 84.';

create or replace view analytics.metric as
select
    m.metric_id, m.code as metric, m.title, m.unit, m.plausible_min, m.plausible_max,
    m.usgs_parameter, m.wqx_characteristic
from telemetry.metric as m;
comment on view analytics.metric is 'What is measured, and the unit of every value of it.';
comment on column analytics.metric.plausible_min is 'In the metric''s unit.';
comment on column analytics.metric.plausible_max is 'In the metric''s unit.';

create or replace view analytics.reading as
select r.ts, r.sensor_id, r.metric_id, r.value, r.quality
from telemetry.reading as r;
comment on view analytics.reading is
    'Every stored reading. Join analytics.sensor and analytics.metric for names.';
comment on column analytics.reading.value is 'In the metric''s unit.';
comment on column analytics.reading.quality is
    'QARTOD flag: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing.';

create or replace view analytics.latest as
select
    t.slug as tenant, s.uid as sensor, p.code as site, p.region, m.code as metric, l.ts, l.value,
    m.unit, l.quality, l.sensor_id, l.metric_id, s.tenant_id
from telemetry.latest_reading as l
join telemetry.sensor as s on s.sensor_id = l.sensor_id
join identity.tenant as t on t.tenant_id = s.tenant_id
join telemetry.metric as m on m.metric_id = l.metric_id
left join telemetry.site as p on p.site_id = s.site_id;
comment on view analytics.latest is 'The newest reading of every datastream, with names.';
comment on column analytics.latest.value is 'In `unit`.';

create or replace view analytics.alert as
select
    e.episode_id, t.slug as tenant, s.uid as sensor, p.code as site, p.region, m.code as metric,
    m.unit, e.severity, e.side, e.state, e.limit_value, e.peak, e.opened_at, e.last_at,
    e.resolved_at, e.reading_count, e.acknowledged_at, e.acknowledged_by, e.resolved_by, e.note,
    e.created_at, e.sensor_id, e.metric_id, e.tenant_id
from alert.episode as e
join identity.tenant as t on t.tenant_id = e.tenant_id
join telemetry.sensor as s on s.sensor_id = e.sensor_id
join telemetry.metric as m on m.metric_id = e.metric_id
left join telemetry.site as p on p.site_id = e.site_id
where e.state <> 'pending';
comment on view analytics.alert is 'Alerts, past and present, with names.';
comment on column analytics.alert.limit_value is 'In `unit`.';
comment on column analytics.alert.peak is 'Most extreme violating value, in `unit`.';

create or replace view analytics.reading_1m as
select
    r.sensor_id, r.metric_id, r.bucket, r.n, r.value_avg, r.value_min, r.value_max, r.value_sum,
    r.value_sum_sq, r.value_first, r.value_last, r.n_suspect, r.n_fail
from telemetry.rollup_1m as r;

create or replace view analytics.reading_1h as
select
    r.sensor_id, r.metric_id, r.bucket, r.n, r.value_avg, r.value_min, r.value_max, r.value_sum,
    r.value_sum_sq, r.value_first, r.value_last, r.n_suspect, r.n_fail
from telemetry.rollup_1h as r;

create or replace view analytics.reading_1d as
select
    r.sensor_id, r.metric_id, r.bucket, r.n, r.value_avg, r.value_min, r.value_max, r.value_sum,
    r.value_sum_sq, r.value_first, r.value_last, r.n_suspect, r.n_fail
from telemetry.rollup_1d as r;

comment on view analytics.reading_1m is
    'Readings by minute: count, mean, extremes, sum, sum of squares, first and last value, flags. All '
    'values in the metric''s unit; flagged readings count like others.';
comment on view analytics.reading_1h is 'The same by hour.';
comment on view analytics.reading_1d is 'The same by UTC day.';

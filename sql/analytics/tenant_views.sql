-- requires: analytics/tenant_pass.sql, analytics/reading.sql
--
-- The contract for one tenant: each view of schema analytics once more, with the same columns and only the
-- rows that identity.visible_tenants() allows.
--
-- All are security barriers: else a cast or a division by zero in somebody's WHERE could run on another
-- tenant's row before the filter and tell its value in an error. Conditions on times and numbers still reach
-- the indexes (their operators are leakproof); joins with `sensor` by name do not, so long spans of one sensor
-- are asked for as `sensor_id = (select sensor_id from sensor where …)`.

create or replace view tenant.sensor with (security_barrier) as
select
    v.sensor_id, v.tenant, v.sensor, v.title, v.status, v.expected_interval, v.site,
    v.site_title, v.region, v.latitude, v.longitude, v.tenant_id, v.site_id
from analytics.sensor as v
where v.tenant_id = any ((select identity.visible_tenants())::integer[]);
comment on view tenant.sensor is 'The tenant''s sensors with their site.';

create or replace view tenant.site with (security_barrier) as
select
    v.site_id, v.tenant, v.site, v.title, v.region, v.latitude, v.longitude, v.tenant_id
from analytics.site as v
where v.tenant_id = any ((select identity.visible_tenants())::integer[]);
comment on view tenant.site is 'The tenant''s places.';

create or replace view tenant.metric with (security_barrier) as
select
    v.metric_id, v.metric, v.title, v.unit, v.plausible_min, v.plausible_max,
    v.usgs_parameter, v.wqx_characteristic
from analytics.metric as v;
comment on view tenant.metric is 'What is measured, and the unit of every value of it.';

create or replace view tenant.reading with (security_barrier) as
select
    v.ts, v.sensor_id, v.metric_id, v.value, v.quality
from analytics.reading as v
where v.sensor_id in (
    select s.sensor_id
    from telemetry.sensor as s
    where s.tenant_id = any ((select identity.visible_tenants())::integer[])
);
comment on view tenant.reading is 'Every stored reading of the tenant.';

create or replace view tenant.latest with (security_barrier) as
select
    v.tenant, v.sensor, v.site, v.region, v.metric, v.ts, v.value, v.unit, v.quality,
    v.sensor_id, v.metric_id, v.tenant_id
from analytics.latest as v
where v.tenant_id = any ((select identity.visible_tenants())::integer[]);
comment on view tenant.latest is 'The newest reading of every datastream of the tenant, with names.';

create or replace view tenant.alert with (security_barrier) as
select
    v.episode_id, v.tenant, v.sensor, v.site, v.region, v.metric, v.unit, v.severity,
    v.side, v.state, v.limit_value, v.peak, v.opened_at, v.last_at, v.resolved_at,
    v.reading_count, v.acknowledged_at, v.acknowledged_by, v.resolved_by, v.note,
    v.created_at, v.sensor_id, v.metric_id, v.tenant_id
from analytics.alert as v
where v.tenant_id = any ((select identity.visible_tenants())::integer[]);
comment on view tenant.alert is 'The tenant''s alerts, past and present, with names.';

create or replace view tenant.reading_1m with (security_barrier) as
select
    v.sensor_id, v.metric_id, v.bucket, v.n, v.value_avg, v.value_min, v.value_max,
    v.value_sum, v.value_sum_sq, v.value_first, v.value_last, v.n_suspect, v.n_fail
from analytics.reading_1m as v
where v.sensor_id in (
    select s.sensor_id
    from telemetry.sensor as s
    where s.tenant_id = any ((select identity.visible_tenants())::integer[])
);
comment on view tenant.reading_1m is 'The tenant''s readings by minute.';

create or replace view tenant.reading_1h with (security_barrier) as
select
    v.sensor_id, v.metric_id, v.bucket, v.n, v.value_avg, v.value_min, v.value_max,
    v.value_sum, v.value_sum_sq, v.value_first, v.value_last, v.n_suspect, v.n_fail
from analytics.reading_1h as v
where v.sensor_id in (
    select s.sensor_id
    from telemetry.sensor as s
    where s.tenant_id = any ((select identity.visible_tenants())::integer[])
);
comment on view tenant.reading_1h is 'The tenant''s readings by hour.';

create or replace view tenant.reading_1d with (security_barrier) as
select
    v.sensor_id, v.metric_id, v.bucket, v.n, v.value_avg, v.value_min, v.value_max,
    v.value_sum, v.value_sum_sq, v.value_first, v.value_last, v.n_suspect, v.n_fail
from analytics.reading_1d as v
where v.sensor_id in (
    select s.sensor_id
    from telemetry.sensor as s
    where s.tenant_id = any ((select identity.visible_tenants())::integer[])
);
comment on view tenant.reading_1d is 'The tenant''s readings by UTC day.';

-- version: 1
-- apply: once
--
-- Rollups as continuous aggregates, each on the one below it. Real-time: what is not materialised yet
-- is aggregated on the fly. Refresh policies run inside the database and follow its own invalidation
-- log, so late readings of any age are taken in.

create materialized view telemetry.rollup_1m
with (timescaledb.continuous, timescaledb.materialized_only = false)
as
select
    r.sensor_id,
    r.metric_id,
    time_bucket(interval '1 minute', r.ts) as bucket,
    count(*) as n,
    sum(r.value) / count(*) as value_avg,
    min(r.value) as value_min,
    max(r.value) as value_max,
    sum(r.value) as value_sum,
    sum(r.value * r.value) as value_sum_sq,
    first(r.value, r.ts) as value_first,
    last(r.value, r.ts) as value_last,
    count(*) filter (where r.quality = 3) as n_suspect,
    count(*) filter (where r.quality = 4) as n_fail
from telemetry.reading as r
group by r.sensor_id, r.metric_id, time_bucket(interval '1 minute', r.ts)
with no data;

create materialized view telemetry.rollup_1h
with (timescaledb.continuous, timescaledb.materialized_only = false)
as
select
    m.sensor_id,
    m.metric_id,
    time_bucket(interval '1 hour', m.bucket) as bucket,
    sum(m.n)::bigint as n,
    sum(m.value_sum) / sum(m.n)::double precision as value_avg,
    min(m.value_min) as value_min,
    max(m.value_max) as value_max,
    sum(m.value_sum) as value_sum,
    sum(m.value_sum_sq) as value_sum_sq,
    first(m.value_first, m.bucket) as value_first,
    last(m.value_last, m.bucket) as value_last,
    sum(m.n_suspect)::bigint as n_suspect,
    sum(m.n_fail)::bigint as n_fail
from telemetry.rollup_1m as m
group by m.sensor_id, m.metric_id, time_bucket(interval '1 hour', m.bucket)
with no data;

create materialized view telemetry.rollup_1d
with (timescaledb.continuous, timescaledb.materialized_only = false)
as
select
    h.sensor_id,
    h.metric_id,
    time_bucket(interval '1 day', h.bucket) as bucket,
    sum(h.n)::bigint as n,
    sum(h.value_sum) / sum(h.n)::double precision as value_avg,
    min(h.value_min) as value_min,
    max(h.value_max) as value_max,
    sum(h.value_sum) as value_sum,
    sum(h.value_sum_sq) as value_sum_sq,
    first(h.value_first, h.bucket) as value_first,
    last(h.value_last, h.bucket) as value_last,
    sum(h.n_suspect)::bigint as n_suspect,
    sum(h.n_fail)::bigint as n_fail
from telemetry.rollup_1h as h
group by h.sensor_id, h.metric_id, time_bucket(interval '1 day', h.bucket)
with no data;

comment on view telemetry.rollup_1m is 'Readings by minute; read it through analytics.reading_1m.';
comment on view telemetry.rollup_1h is 'Readings by hour; read it through analytics.reading_1h.';
comment on view telemetry.rollup_1d is 'Readings by UTC day; read it through analytics.reading_1d.';

select add_continuous_aggregate_policy(
    'telemetry.rollup_1m', start_offset => null, end_offset => interval '1 minute',
    schedule_interval => interval '1 minute'
);
select add_continuous_aggregate_policy(
    'telemetry.rollup_1h', start_offset => null, end_offset => interval '1 hour',
    schedule_interval => interval '5 minutes'
);
select add_continuous_aggregate_policy(
    'telemetry.rollup_1d', start_offset => null, end_offset => interval '1 day',
    schedule_interval => interval '30 minutes'
);

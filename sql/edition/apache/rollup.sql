-- requires: edition/apache/rollup_tables.sql, archive/range.sql, edition/citus/shard.sql
-- where: shards
--
-- The rollups' views and their refresh. One UTC day is one transaction, so a refresh that is killed
-- has done whole days and the log still lists the others.

create or replace function telemetry.rollup_until(p_rollup text)
returns timestamptz
language sql
stable
parallel safe
begin atomic
    select w.materialised_until from telemetry.rollup_watermark as w where w.rollup = p_rollup;
end;
comment on function telemetry.rollup_until(text) is
    'Where the stored part of a rollup (1m, 1h, 1d) ends and the computed part begins.';

create or replace view telemetry.rollup_1m as
select
    s.sensor_id, s.metric_id, s.bucket, s.n, s.value_avg, s.value_min, s.value_max, s.value_sum,
    s.value_sum_sq, s.value_first, s.value_last, s.n_suspect, s.n_fail
from telemetry.rollup_1m_stored as s
where s.bucket < (select telemetry.rollup_until('1m'))
union all
select
    r.sensor_id,
    r.metric_id,
    time_bucket(interval '1 minute', r.ts),
    count(*),
    sum(r.value) / count(*),
    min(r.value),
    max(r.value),
    sum(r.value),
    sum(r.value * r.value),
    first(r.value, r.ts),
    last(r.value, r.ts),
    count(*) filter (where r.quality = 3),
    count(*) filter (where r.quality = 4)
from telemetry.reading as r
where r.ts >= (select telemetry.rollup_until('1m'))
group by r.sensor_id, r.metric_id, time_bucket(interval '1 minute', r.ts);

create or replace view telemetry.rollup_1h as
select
    s.sensor_id, s.metric_id, s.bucket, s.n, s.value_avg, s.value_min, s.value_max, s.value_sum,
    s.value_sum_sq, s.value_first, s.value_last, s.n_suspect, s.n_fail
from telemetry.rollup_1h_stored as s
where s.bucket < (select telemetry.rollup_until('1h'))
union all
select
    m.sensor_id,
    m.metric_id,
    time_bucket(interval '1 hour', m.bucket),
    sum(m.n)::bigint,
    sum(m.value_sum) / sum(m.n)::double precision,
    min(m.value_min),
    max(m.value_max),
    sum(m.value_sum),
    sum(m.value_sum_sq),
    first(m.value_first, m.bucket),
    last(m.value_last, m.bucket),
    sum(m.n_suspect)::bigint,
    sum(m.n_fail)::bigint
from telemetry.rollup_1m as m
where m.bucket >= (select telemetry.rollup_until('1h'))
group by m.sensor_id, m.metric_id, time_bucket(interval '1 hour', m.bucket);

create or replace view telemetry.rollup_1d as
select
    s.sensor_id, s.metric_id, s.bucket, s.n, s.value_avg, s.value_min, s.value_max, s.value_sum,
    s.value_sum_sq, s.value_first, s.value_last, s.n_suspect, s.n_fail
from telemetry.rollup_1d_stored as s
where s.bucket < (select telemetry.rollup_until('1d'))
union all
select
    h.sensor_id,
    h.metric_id,
    time_bucket(interval '1 day', h.bucket),
    sum(h.n)::bigint,
    sum(h.value_sum) / sum(h.n)::double precision,
    min(h.value_min),
    max(h.value_max),
    sum(h.value_sum),
    sum(h.value_sum_sq),
    first(h.value_first, h.bucket),
    last(h.value_last, h.bucket),
    sum(h.n_suspect)::bigint,
    sum(h.n_fail)::bigint
from telemetry.rollup_1h as h
where h.bucket >= (select telemetry.rollup_until('1d'))
group by h.sensor_id, h.metric_id, time_bucket(interval '1 day', h.bucket);

comment on view telemetry.rollup_1m is 'Readings by minute; read it through analytics.reading_1m.';
comment on view telemetry.rollup_1h is 'Readings by hour; read it through analytics.reading_1h.';
comment on view telemetry.rollup_1d is 'Readings by UTC day; read it through analytics.reading_1d.';

create or replace procedure telemetry.refresh_rollup_range(p_from timestamptz, p_to timestamptz)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- whole hours for the hours, whole days for the days
    v_hour_from constant timestamptz := date_trunc('hour', p_from, 'UTC');
    v_day_from constant timestamptz := date_trunc('day', p_from, 'UTC');
    v_hour_to constant timestamptz :=
        date_trunc('hour', p_to + interval '1 hour' - interval '1 microsecond', 'UTC');
    v_day_to constant timestamptz :=
        date_trunc('day', p_to + interval '1 day' - interval '1 microsecond', 'UTC');
    v_frozen constant tstzmultirange := archive.frozen(v_hour_from, v_hour_to);
begin
    -- buckets of cold ranges can't be computed from what is hot: they stay as they are
    delete from telemetry.rollup_1m_stored as s
    where s.bucket >= v_hour_from and s.bucket < v_hour_to and not s.bucket <@ v_frozen;
    insert into telemetry.rollup_1m_stored (
        sensor_id, metric_id, bucket, n, value_avg, value_min, value_max, value_sum, value_sum_sq,
        value_first, value_last, n_suspect, n_fail
    )
    select
        r.sensor_id, r.metric_id, public.time_bucket(interval '1 minute', r.ts), count(*),
        sum(r.value) / count(*), min(r.value), max(r.value), sum(r.value), sum(r.value * r.value),
        public.first(r.value, r.ts), public.last(r.value, r.ts),
        count(*) filter (where r.quality = 3), count(*) filter (where r.quality = 4)
    from telemetry.reading as r
    where r.ts >= v_hour_from and r.ts < v_hour_to and not r.ts <@ v_frozen
    group by 1, 2, 3;

    delete from telemetry.rollup_1h_stored as s where s.bucket >= v_hour_from and s.bucket < v_hour_to;
    insert into telemetry.rollup_1h_stored (
        sensor_id, metric_id, bucket, n, value_avg, value_min, value_max, value_sum, value_sum_sq,
        value_first, value_last, n_suspect, n_fail
    )
    select
        m.sensor_id, m.metric_id, public.time_bucket(interval '1 hour', m.bucket), sum(m.n),
        sum(m.value_sum) / sum(m.n)::double precision, min(m.value_min), max(m.value_max),
        sum(m.value_sum), sum(m.value_sum_sq), public.first(m.value_first, m.bucket),
        public.last(m.value_last, m.bucket), sum(m.n_suspect), sum(m.n_fail)
    from telemetry.rollup_1m_stored as m
    where m.bucket >= v_hour_from and m.bucket < v_hour_to
    group by 1, 2, 3;

    delete from telemetry.rollup_1d_stored as s where s.bucket >= v_day_from and s.bucket < v_day_to;
    insert into telemetry.rollup_1d_stored (
        sensor_id, metric_id, bucket, n, value_avg, value_min, value_max, value_sum, value_sum_sq,
        value_first, value_last, n_suspect, n_fail
    )
    select
        h.sensor_id, h.metric_id, public.time_bucket(interval '1 day', h.bucket), sum(h.n),
        sum(h.value_sum) / sum(h.n)::double precision, min(h.value_min), max(h.value_max),
        sum(h.value_sum), sum(h.value_sum_sq), public.first(h.value_first, h.bucket),
        public.last(h.value_last, h.bucket), sum(h.n_suspect), sum(h.n_fail)
    from telemetry.rollup_1h_stored as h
    where h.bucket >= v_day_from and h.bucket < v_day_to
    group by 1, 2, 3;
end;
$$;
comment on procedure telemetry.refresh_rollup_range(timestamptz, timestamptz) is
    'Computes the stored rollups of [p_from, p_to) anew, widened to whole hours and days.';

-- version: 1
-- apply: once
--
-- Rollups without continuous aggregates: a table a size and a watermark. Buckets before the watermark
-- are read from the table, later ones from the readings (or the next finer rollup). The ingest log
-- says which days have changed since.

create index reading_sensor_id_metric_id_ts_idx
    on telemetry.reading (sensor_id, metric_id, ts);
comment on index telemetry.reading_sensor_id_metric_id_ts_idx is
    'One sensor''s readings, which a columnstore would keep together.';

create table telemetry.rollup_1m_stored (
    sensor_id bigint not null,
    bucket timestamptz not null,
    metric_id smallint not null,
    n bigint not null,
    value_avg double precision not null,
    value_min double precision not null,
    value_max double precision not null,
    value_sum double precision not null,
    value_sum_sq double precision not null,
    value_first double precision not null,
    value_last double precision not null,
    n_suspect bigint not null,
    n_fail bigint not null
);
create table telemetry.rollup_1h_stored (like telemetry.rollup_1m_stored including all);
create table telemetry.rollup_1d_stored (like telemetry.rollup_1m_stored including all);
comment on table telemetry.rollup_1m_stored is 'Materialised minutes; read analytics.reading_1m.';
comment on table telemetry.rollup_1h_stored is 'Materialised hours; read analytics.reading_1h.';
comment on table telemetry.rollup_1d_stored is 'Materialised UTC days; read analytics.reading_1d.';

select create_hypertable(
    'telemetry.rollup_1m_stored', by_range('bucket', interval '7 days'),
    create_default_indexes => false
);
select create_hypertable(
    'telemetry.rollup_1h_stored', by_range('bucket', interval '90 days'),
    create_default_indexes => false
);
select create_hypertable(
    'telemetry.rollup_1d_stored', by_range('bucket', interval '1000 days'),
    create_default_indexes => false
);
create unique index rollup_1m_stored_key
    on telemetry.rollup_1m_stored (sensor_id, metric_id, bucket);
create unique index rollup_1h_stored_key
    on telemetry.rollup_1h_stored (sensor_id, metric_id, bucket);
create unique index rollup_1d_stored_key
    on telemetry.rollup_1d_stored (sensor_id, metric_id, bucket);
create index rollup_1m_stored_bucket_idx on telemetry.rollup_1m_stored (bucket);
create index rollup_1h_stored_bucket_idx on telemetry.rollup_1h_stored (bucket);
create index rollup_1d_stored_bucket_idx on telemetry.rollup_1d_stored (bucket);

create table telemetry.rollup_watermark (
    rollup text not null,
    materialised_until timestamptz not null default '-infinity',
    constraint rollup_watermark_pkey primary key (rollup),
    constraint rollup_watermark_rollup_check check (rollup in ('1m', '1h', '1d'))
);
comment on table telemetry.rollup_watermark is
    'Buckets before this time are read from the stored rollup, later ones are computed.';
insert into telemetry.rollup_watermark (rollup) values ('1m'), ('1h'), ('1d');

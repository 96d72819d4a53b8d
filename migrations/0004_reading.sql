-- Readings: narrow, fixed width, nothing that can be derived.
--
-- The natural key puts time first: readings arrive in time order, so the index grows at its right
-- edge; sensor first costs more than half of the ingest rate. Fast reads of one sensor come from the
-- columnstore or, where there is none, from a second index (see sql/edition).
-- No foreign key, row trigger or transition-table trigger here: each makes COPY several times slower.

create table telemetry.reading (
    sensor_id bigint not null,
    ts timestamptz not null,
    value double precision not null,
    metric_id smallint not null,
    quality smallint not null default 2,
    constraint reading_quality_check check (quality in (1, 2, 3, 4, 9))
);
comment on table telemetry.reading is 'One value of one metric of one sensor at one time.';
comment on column telemetry.reading.ts is 'When it was measured, by the sensor''s clock.';
comment on column telemetry.reading.value is 'Value in the metric''s stored unit (telemetry.metric.unit).';
comment on column telemetry.reading.quality is
    'QARTOD flag: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing. A flag never deletes a value.';

select create_hypertable(
    'telemetry.reading', by_range('ts', interval '1 day'), create_default_indexes => false
);
create unique index reading_ts_sensor_id_metric_id_key
    on telemetry.reading (ts, sensor_id, metric_id);

create table telemetry.latest_reading (
    sensor_id bigint not null,
    metric_id smallint not null,
    ts timestamptz not null,
    value double precision not null,
    quality smallint not null,
    constraint latest_reading_pkey primary key (sensor_id, metric_id)
) with (fillfactor = 70);
comment on table telemetry.latest_reading is
    'The newest reading of every datastream. Written right after the readings'' commit, derived from '
    'them, and repaired from the ingest log where a process died in between.';
comment on column telemetry.latest_reading.value is 'Value in the metric''s stored unit.';

create table telemetry.ingest_log (
    ingest_log_id bigint generated always as identity,
    first_ts timestamptz not null,
    last_ts timestamptz not null,
    reading_count integer not null,
    created_at timestamptz not null default now(),
    rolled_up_at timestamptz,
    constraint ingest_log_pkey primary key (ingest_log_id),
    constraint ingest_log_range_check check (first_ts <= last_ts)
);
comment on table telemetry.ingest_log is
    'One row per transaction and UTC day of readings written, in the writer''s transaction: what the '
    'rollups of the Apache edition and the repair of latest readings must look at again.';
comment on column telemetry.ingest_log.first_ts is 'Oldest reading of the batch on that UTC day.';
comment on column telemetry.ingest_log.last_ts is 'Newest reading of the batch on that UTC day.';
comment on column telemetry.ingest_log.rolled_up_at is 'When the rollups had taken it in; null: not yet.';
create index ingest_log_pending_idx on telemetry.ingest_log (first_ts) where rolled_up_at is null;
create index ingest_log_created_at_idx on telemetry.ingest_log (created_at);

create table telemetry.ingest_reply (
    api_key_id bigint not null,
    idempotency_key text not null,
    body_sha256 bytea not null,
    status smallint not null,
    reply bytea not null,
    created_at timestamptz not null default now(),
    constraint ingest_reply_pkey primary key (api_key_id, idempotency_key),
    constraint ingest_reply_api_key_id_fkey
        foreign key (api_key_id) references identity.api_key on delete cascade,
    constraint ingest_reply_key_check check (length(idempotency_key) between 1 and 255)
);
comment on table telemetry.ingest_reply is
    'Replies to requests that carried an Idempotency-Key, repeated to whoever sends the key again.';
create index ingest_reply_created_at_idx on telemetry.ingest_reply (created_at);

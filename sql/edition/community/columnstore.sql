-- version: 1
-- apply: once
--
-- Early columnstore: what is older than a day is compressed 10 to 60 times, and one sensor's readings
-- lie together there, which the time-first key of the row store denies them.

alter table telemetry.reading set (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'sensor_id, metric_id',
    timescaledb.compress_orderby = 'ts'
);
select add_compression_policy('telemetry.reading', compress_after => interval '1 day');

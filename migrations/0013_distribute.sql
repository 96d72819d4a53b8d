-- edition: citus
-- role: superuser
-- The tables of a database that is spread over the nodes of a Citus cluster.
--
-- Readings, and what is joined to them or derived from them on the spot, are distributed by sensor and
-- lie together. What everybody joins and few change is a reference table, whole on every node: sensors
-- too, because their names are unique in a tenant and because a rule needs a sensor's site wherever its
-- readings are (some 200 bytes a sensor and node). The rest stays on the coordinator.
--
-- What a shard is on its worker (a hypertable, continuous aggregates, triggers) is made there:
-- sql/edition/citus/ and every file with `-- where: shards`.

-- a hypertable can't be distributed; its shards become hypertables
create table telemetry.reading_plain (like telemetry.reading including all);
drop table telemetry.reading;
alter table telemetry.reading_plain rename to reading;
alter index telemetry.reading_plain_ts_sensor_id_metric_id_idx
    rename to reading_ts_sensor_id_metric_id_key;
alter table telemetry.reading owner to headwater_owner;
comment on table telemetry.reading is 'One value of one metric of one sensor at one time.';

select create_reference_table('identity.tenant');
select create_reference_table('telemetry.metric');
select create_reference_table('telemetry.metric_alias');
select create_reference_table('telemetry.metric_unit');
select create_reference_table('telemetry.site');
select create_reference_table('telemetry.sensor');
select create_reference_table('alert.threshold');
-- shards ask which ranges are cold before they refresh a rollup
select create_reference_table('archive.export');
select create_reference_table('archive.restored');
select create_reference_table('archive.tenant_policy');

select create_distributed_table('telemetry.reading', 'sensor_id', colocate_with => 'none');
select create_distributed_table(
    'telemetry.latest_reading', 'sensor_id', colocate_with => 'telemetry.reading'
);
select create_distributed_table('alert.candidate', 'sensor_id', colocate_with => 'telemetry.reading');

alter table telemetry.ingest_log drop constraint ingest_log_pkey;
alter table telemetry.ingest_log
    add constraint ingest_log_pkey primary key (sensor_id, ingest_log_id);
select create_distributed_table(
    'telemetry.ingest_log', 'sensor_id', colocate_with => 'telemetry.reading'
);

-- uniqueness across shards comes from the numbers' ranges: sql/edition/citus/shard.sql
alter table alert.outbox drop constraint outbox_episode_id_fkey;
alter table alert.episode drop constraint episode_pkey;
alter table alert.episode add constraint episode_pkey primary key (sensor_id, episode_id);
select create_distributed_table('alert.episode', 'sensor_id', colocate_with => 'telemetry.reading');

create table alert.outbox_shard (
    sensor_id bigint not null,
    outbox_id bigint not null,
    tenant_id integer not null,
    site_id bigint,
    episode_id bigint not null,
    kind text not null,
    severity text not null,
    ts timestamptz not null,
    value double precision not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint outbox_shard_pkey primary key (sensor_id, outbox_id)
);
alter table alert.outbox_shard owner to headwater_owner;
comment on table alert.outbox_shard is
    'Events that shards have noted, on their way to alert.outbox; alert.collect() brings them there.';
comment on column alert.outbox_shard.ts is 'Reading time of the change.';
comment on column alert.outbox_shard.value is
    'Peak at the time of the change, in the metric''s stored unit.';
select create_distributed_table(
    'alert.outbox_shard', 'sensor_id', colocate_with => 'telemetry.reading'
);

create table telemetry.rollup_1m (
    sensor_id bigint not null,
    metric_id smallint not null,
    bucket timestamptz not null,
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
create table telemetry.rollup_1h (like telemetry.rollup_1m including all);
create table telemetry.rollup_1d (like telemetry.rollup_1m including all);
alter table telemetry.rollup_1m owner to headwater_owner;
alter table telemetry.rollup_1h owner to headwater_owner;
alter table telemetry.rollup_1d owner to headwater_owner;
comment on table telemetry.rollup_1m is 'Readings by minute; read it through analytics.reading_1m.';
comment on table telemetry.rollup_1h is 'Readings by hour; read it through analytics.reading_1h.';
comment on table telemetry.rollup_1d is 'Readings by UTC day; read it through analytics.reading_1d.';
select create_distributed_table(
    'telemetry.rollup_1m', 'sensor_id', colocate_with => 'telemetry.reading'
);
select create_distributed_table(
    'telemetry.rollup_1h', 'sensor_id', colocate_with => 'telemetry.reading'
);
select create_distributed_table(
    'telemetry.rollup_1d', 'sensor_id', colocate_with => 'telemetry.reading'
);

create table archive.chunk_drop (
    sensor_id bigint not null,
    export_id bigint not null,
    range_from timestamptz not null,
    range_to timestamptz not null,
    dropped_count bigint,
    constraint chunk_drop_pkey primary key (sensor_id, export_id)
);
alter table archive.chunk_drop owner to headwater_owner;
comment on table archive.chunk_drop is
    'Orders to the shards to drop a chunk, one each; they last as long as the transaction that gives them.';
comment on column archive.chunk_drop.sensor_id is 'A number that lies on the shard.';
comment on column archive.chunk_drop.dropped_count is 'Readings that the shard''s chunk had.';
select create_distributed_table(
    'archive.chunk_drop', 'sensor_id', colocate_with => 'telemetry.reading'
);

-- What is measured (metric), where (site) and by what (sensor). A datastream, in the words of OGC
-- SensorThings, is one (sensor, metric).

create table telemetry.metric (
    metric_id smallint not null,
    code text not null,
    title text not null,
    unit text not null,
    plausible_min double precision not null,
    plausible_max double precision not null,
    usgs_parameter text,
    wqx_characteristic text,
    constraint metric_pkey primary key (metric_id),
    constraint metric_code_key unique (code),
    constraint metric_code_check check (code ~ '^[a-z][a-z0-9_]*$'),
    constraint metric_plausible_check check (plausible_min < plausible_max)
);
comment on table telemetry.metric is
    'Observed properties with the unit they are stored in; seeded by sql/telemetry/metric_catalogue.sql.';
comment on column telemetry.metric.unit is 'Unit of every stored value of this metric.';
comment on column telemetry.metric.plausible_min is
    'Lowest plausible value, in the metric''s unit; below it a reading is stored with quality 4 (fail).';
comment on column telemetry.metric.plausible_max is
    'Highest plausible value, in the metric''s unit; above it a reading is stored with quality 4 (fail).';
comment on column telemetry.metric.usgs_parameter is 'USGS five-digit parameter code.';
comment on column telemetry.metric.wqx_characteristic is 'Characteristic name of the Water Quality Exchange.';

create table telemetry.metric_alias (
    alias text not null,
    metric_id smallint not null,
    constraint metric_alias_pkey primary key (alias),
    constraint metric_alias_metric_id_fkey foreign key (metric_id) references telemetry.metric,
    constraint metric_alias_alias_check check (alias = lower(alias))
);
comment on table telemetry.metric_alias is
    'Other names that senders use for a metric, in lower case: ph, temp, do_mgl, 00400.';

create table telemetry.metric_unit (
    metric_id smallint not null,
    unit text not null,
    factor double precision,
    shift double precision not null default 0,
    refusal text,
    constraint metric_unit_pkey primary key (metric_id, unit),
    constraint metric_unit_metric_id_fkey foreign key (metric_id) references telemetry.metric,
    constraint metric_unit_factor_check check ((factor is null) = (refusal is not null)),
    constraint metric_unit_unit_check check (unit = lower(unit) and unit !~ '\s\s|^\s|\s$')
);
comment on table telemetry.metric_unit is
    'Units accepted for a metric: stored value = sent value * factor + shift.';
comment on column telemetry.metric_unit.unit is
    'Unit as sent, normalised: lower case, single spaces, u for micro, deg for the degree sign.';
comment on column telemetry.metric_unit.factor is
    'Stored unit per sent unit; null where the unit is ambiguous and refused.';
comment on column telemetry.metric_unit.shift is 'Added after the factor, in the stored unit.';
comment on column telemetry.metric_unit.refusal is
    'Why the unit is refused and what to send instead, told to the sender.';

create table telemetry.site (
    site_id bigint generated always as identity,
    tenant_id integer not null,
    code text not null,
    title text not null,
    region text,
    latitude double precision,
    longitude double precision,
    created_at timestamptz not null default now(),
    constraint site_pkey primary key (site_id),
    constraint site_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint site_tenant_id_code_key unique (tenant_id, code),
    constraint site_latitude_check check (latitude between -90 and 90),
    constraint site_longitude_check check (longitude between -180 and 180),
    constraint site_point_check check ((latitude is null) = (longitude is null))
);
comment on table telemetry.site is 'A place where sensors are: intake, reservoir, river station.';
comment on column telemetry.site.region is 'Catchment, district or zone that alerts and reports group by.';
comment on column telemetry.site.latitude is 'Degrees north, WGS 84.';
comment on column telemetry.site.longitude is 'Degrees east, WGS 84.';
create index site_region_idx on telemetry.site (tenant_id, region);

create table telemetry.sensor (
    sensor_id bigint generated always as identity,
    tenant_id integer not null,
    site_id bigint,
    uid text not null,
    title text,
    status text not null default 'active',
    expected_interval interval,
    is_auto_registered boolean not null default false,
    created_at timestamptz not null default now(),
    constraint sensor_pkey primary key (sensor_id),
    constraint sensor_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint sensor_site_id_fkey foreign key (site_id) references telemetry.site,
    constraint sensor_tenant_id_uid_key unique (tenant_id, uid),
    constraint sensor_uid_check check (length(uid) between 1 and 128),
    constraint sensor_status_check check (status in ('active', 'maintenance', 'retired'))
);
comment on table telemetry.sensor is 'A device; it may report many metrics.';
comment on column telemetry.sensor.uid is 'The sender''s own name for the device, unique in its tenant.';
comment on column telemetry.sensor.status is
    'active, maintenance (readings kept), retired (readings refused).';
comment on column telemetry.sensor.expected_interval is 'How often a reading of each metric is expected.';
create index sensor_site_id_idx on telemetry.sensor (site_id);

create table identity.api_key_sensor (
    api_key_id bigint not null,
    sensor_id bigint not null,
    constraint api_key_sensor_pkey primary key (api_key_id, sensor_id),
    constraint api_key_sensor_api_key_id_fkey
        foreign key (api_key_id) references identity.api_key on delete cascade,
    constraint api_key_sensor_sensor_id_fkey
        foreign key (sensor_id) references telemetry.sensor on delete cascade
);
comment on table identity.api_key_sensor is 'The sensors that a scoped key may write.';

-- Thresholds, the candidates' door, episodes and the outbox.

create table alert.threshold (
    threshold_id bigint generated always as identity,
    tenant_id integer,
    site_id bigint,
    sensor_id bigint,
    metric_id smallint not null,
    severity text not null,
    side text not null,
    limit_value double precision not null,
    hysteresis double precision not null default 0,
    min_duration interval not null default interval '0',
    is_enabled boolean not null default true,
    title text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint threshold_pkey primary key (threshold_id),
    constraint threshold_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint threshold_site_id_fkey foreign key (site_id) references telemetry.site on delete cascade,
    constraint threshold_sensor_id_fkey
        foreign key (sensor_id) references telemetry.sensor on delete cascade,
    constraint threshold_metric_id_fkey foreign key (metric_id) references telemetry.metric,
    constraint threshold_scope_check check (
        (site_id is null or sensor_id is null)
        and (tenant_id is not null or (site_id is null and sensor_id is null))
    ),
    constraint threshold_scope_key
        unique nulls not distinct (tenant_id, site_id, sensor_id, metric_id, severity, side),
    constraint threshold_severity_check check (severity in ('warning', 'critical')),
    constraint threshold_side_check check (side in ('low', 'high')),
    constraint threshold_limit_check check (
        limit_value > '-infinity' and limit_value < 'infinity'
    ),
    constraint threshold_hysteresis_check check (hysteresis >= 0 and hysteresis < 'infinity'),
    constraint threshold_min_duration_check check (min_duration >= interval '0')
);
comment on table alert.threshold is
    'One limit on one side at one severity. The most specific scope wins: sensor, then site, then '
    'tenant, then the platform''s default (no tenant); a disabled row switches the limit off for its scope.';
comment on column alert.threshold.side is 'high: values above the limit violate it; low: values below.';
comment on column alert.threshold.limit_value is 'In the metric''s stored unit.';
comment on column alert.threshold.hysteresis is
    'How far inside the limit a value must come back before it counts as clear, in the metric''s unit.';
comment on column alert.threshold.min_duration is
    'How long values must violate, by the readings'' own times, before an alert is raised.';
create index threshold_sensor_id_idx on alert.threshold (sensor_id, metric_id)
    where sensor_id is not null;
create index threshold_site_id_idx on alert.threshold (site_id, metric_id)
    where site_id is not null;
create index threshold_metric_id_idx on alert.threshold (metric_id, tenant_id)
    where site_id is null and sensor_id is null;

create unlogged table alert.candidate (
    sensor_id bigint not null,
    ts timestamptz not null,
    value double precision not null,
    metric_id smallint not null
);
comment on table alert.candidate is
    'The evaluation''s door: readings put in here are judged by a statement trigger in the same '
    'transaction. Its rows have no further use and are truncated by a job.';
comment on column alert.candidate.value is 'Value in the metric''s stored unit.';

create table alert.episode (
    episode_id bigint generated always as identity,
    tenant_id integer not null,
    site_id bigint,
    sensor_id bigint not null,
    metric_id smallint not null,
    threshold_id bigint,
    severity text not null,
    side text not null,
    state text not null,
    limit_value double precision not null,
    opened_at timestamptz not null,
    last_at timestamptz not null,
    evaluated_at timestamptz not null,
    resolved_at timestamptz,
    peak double precision not null,
    reading_count bigint not null,
    created_at timestamptz not null default now(),
    acknowledged_at timestamptz,
    acknowledged_by text,
    resolved_by text,
    note text,
    constraint episode_pkey primary key (episode_id),
    constraint episode_sensor_id_fkey foreign key (sensor_id) references telemetry.sensor,
    constraint episode_metric_id_fkey foreign key (metric_id) references telemetry.metric,
    constraint episode_threshold_id_fkey
        foreign key (threshold_id) references alert.threshold on delete set null,
    constraint episode_state_check check (
        state in ('pending', 'open', 'acknowledged', 'investigating', 'resolved')
    ),
    constraint episode_severity_check check (severity in ('warning', 'critical')),
    constraint episode_side_check check (side in ('low', 'high')),
    constraint episode_resolved_check check ((state = 'resolved') = (resolved_at is not null))
);
comment on table alert.episode is
    'One alert for one cause (sensor, metric, severity, side), from the first violating reading to the '
    'first clear one. Pending ones have not lasted their minimum duration and are nobody''s business yet.';
comment on column alert.episode.limit_value is 'The limit that was violated, in the metric''s stored unit.';
comment on column alert.episode.opened_at is 'Time of the first violating reading.';
comment on column alert.episode.last_at is 'Time of the last violating reading.';
comment on column alert.episode.evaluated_at is 'Time of the newest reading that was judged for it.';
comment on column alert.episode.resolved_at is
    'Time of the reading that cleared it, or of the person''s decision.';
comment on column alert.episode.peak is 'Most extreme violating value, in the metric''s stored unit.';
comment on column alert.episode.reading_count is 'Number of violating readings.';
create unique index episode_one_unresolved
    on alert.episode (sensor_id, metric_id, severity, side) where state <> 'resolved';
comment on index alert.episode_one_unresolved is 'At most one alert per cause, whoever races.';
create index episode_cause_idx on alert.episode (sensor_id, metric_id, opened_at);
create index episode_tenant_id_opened_at_idx on alert.episode (tenant_id, opened_at desc, episode_id desc);
create index episode_unresolved_idx on alert.episode (tenant_id, severity) where state <> 'resolved';

create type alert.outcome as (
    episode_id bigint,
    tenant_id integer,
    site_id bigint,
    sensor_id bigint,
    metric_id smallint,
    threshold_id bigint,
    severity text,
    side text,
    limit_value double precision,
    state text,
    opened_at timestamptz,
    last_at timestamptz,
    evaluated_at timestamptz,
    resolved_at timestamptz,
    peak double precision,
    reading_count bigint
);
comment on type alert.outcome is
    'What the evaluation of a batch decided about one episode; no episode_id: a new one.';

create table alert.outbox (
    outbox_id bigint generated always as identity,
    tenant_id integer not null,
    site_id bigint,
    episode_id bigint not null,
    kind text not null,
    severity text not null,
    ts timestamptz not null,
    value double precision not null,
    created_at timestamptz not null default clock_timestamp(),
    constraint outbox_pkey primary key (outbox_id),
    constraint outbox_episode_id_fkey
        foreign key (episode_id) references alert.episode on delete cascade,
    constraint outbox_kind_check check (kind in ('raised', 'acknowledged', 'investigating', 'resolved'))
);
comment on table alert.outbox is
    'Every change of an alert''s state, appended in the transaction that made it. Whoever must tell '
    'somebody reads here; the notification on channel alert_raised only says that it is worth looking.';
comment on column alert.outbox.ts is 'Reading time of the change.';
comment on column alert.outbox.value is 'Peak at the time of the change, in the metric''s stored unit.';
create index outbox_created_at_idx on alert.outbox (created_at);
create index outbox_episode_id_idx on alert.outbox (episode_id);

-- The cold tier: what was exported to the lake, how far each export got, and what proves it.
--
-- Schema `lake` holds the catalogue of the DuckLake; DuckDB makes and keeps its tables. Schema
-- `archive` is ours: one row an export, the manifest of each, ranges that are hot again, and how long
-- each tenant's cold data is kept.

create schema archive;
comment on schema archive is 'Book-keeping of the cold tier: exports, manifests, retention.';
create schema lake;
comment on schema lake is 'Catalogue of the DuckLake, made and kept by DuckDB; change nothing here by hand.';
alter default privileges in schema lake grant select on tables to headwater_app, headwater_analyst;

create table archive.export (
    export_id bigint generated always as identity,
    range_from timestamptz not null,
    range_to timestamptz not null,
    is_late boolean not null,
    state text not null default 'pending',
    claimed_at timestamptz not null default now(),
    exported_at timestamptz,
    verified_at timestamptz,
    dropped_at timestamptz,
    merge_from timestamptz,
    merge_to timestamptz,
    row_count bigint,
    hot_count bigint,
    duplicate_count bigint not null default 0,
    conflict_count bigint not null default 0,
    first_ts timestamptz,
    last_ts timestamptz,
    value_sum double precision,
    snapshot_id bigint,
    file_count integer,
    byte_count bigint,
    attempt_count integer not null default 0,
    problem text,
    checked_at timestamptz,
    check_problem text,
    constraint export_pkey primary key (export_id),
    constraint export_range_check check (range_from < range_to),
    constraint export_state_check check (state in ('pending', 'exported', 'verified', 'dropped')),
    constraint export_merge_check check ((merge_from is null) = (merge_to is null))
);
comment on table archive.export is
    'One attempt to move one chunk''s readings to the lake: pending, exported, verified, dropped. Rows '
    'in the lake carry the export''s number; only those of dropped exports count as cold.';
comment on column archive.export.range_from is 'Begin of the chunk, inclusive.';
comment on column archive.export.range_to is 'End of the chunk, exclusive.';
comment on column archive.export.is_late is
    'True: the range was cold already; the export holds only what came late.';
comment on column archive.export.merge_from is
    'Late exports: begin of the whole hours whose cold rows were put beside the late ones, so that '
    'rollups can be computed anew; null: none.';
comment on column archive.export.merge_to is 'End of those hours, exclusive.';
comment on column archive.export.row_count is 'Readings in the lake that carry this export''s number.';
comment on column archive.export.hot_count is
    'Readings in the chunk when it was verified; the chunk is dropped only if it has as many still.';
comment on column archive.export.duplicate_count is
    'Late readings whose key was cold already: the first stored value stays.';
comment on column archive.export.conflict_count is 'Those of them that had another value.';
comment on column archive.export.value_sum is 'Sum of the values read back; mixes units, proves only.';
comment on column archive.export.snapshot_id is 'Snapshot of the lake that added the files.';
comment on column archive.export.byte_count is 'Size of the files, in bytes.';
comment on column archive.export.problem is 'Why the last attempt went no further; null: it did.';
comment on column archive.export.check_problem is 'What `headwater archive verify` found last; null: nothing.';
create unique index export_unfinished_key on archive.export (range_from) where state <> 'dropped';
create index export_range_idx on archive.export (range_from, range_to) where state = 'dropped';

create table archive.export_sensor (
    export_id bigint not null,
    sensor_id bigint not null,
    row_count bigint not null,
    first_ts timestamptz not null,
    last_ts timestamptz not null,
    value_sum double precision not null,
    checksum numeric not null,
    constraint export_sensor_pkey primary key (export_id, sensor_id),
    constraint export_sensor_export_id_fkey
        foreign key (export_id) references archive.export on delete cascade
);
comment on table archive.export_sensor is
    'Manifest of an export, a row a sensor: what the lake must still hold whenever it is asked.';
comment on column archive.export_sensor.value_sum is 'Sum of values of all metrics; proves only.';
comment on column archive.export_sensor.checksum is
    'Sum over the readings of archive.fingerprint(); sql/archive/digest.sql says how.';

create table archive.restored (
    range_from timestamptz not null,
    range_to timestamptz not null,
    export_id bigint,
    row_count bigint not null,
    restored_at timestamptz not null default now(),
    constraint restored_pkey primary key (range_from, range_to),
    constraint restored_export_id_fkey
        foreign key (export_id) references archive.export on delete cascade
);
comment on table archive.restored is
    'Cold ranges whose readings are all in hot chunks again; they stay in the lake, too.';
comment on column archive.restored.export_id is
    'Set: only until that export of late readings is done; null: until somebody lets go of it.';

create table archive.tenant_policy (
    tenant_id integer not null,
    keep_days integer,
    is_held boolean not null default false,
    hold_reason text,
    expired_until timestamptz not null default '-infinity',
    changed_at timestamptz not null default now(),
    constraint tenant_policy_pkey primary key (tenant_id),
    constraint tenant_policy_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint tenant_policy_keep_days_check check (keep_days > 0),
    constraint tenant_policy_hold_check check (is_held = (hold_reason is not null))
);
comment on table archive.tenant_policy is 'How long a tenant''s cold readings are kept; no row: for ever.';
comment on column archive.tenant_policy.keep_days is 'Days after which cold readings go; null: for ever.';
comment on column archive.tenant_policy.is_held is 'Legal hold: nothing is deleted while it lasts.';
comment on column archive.tenant_policy.expired_until is
    'Cold readings of exports that ended by then are gone, or about to go.';

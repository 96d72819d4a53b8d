-- The ledger of `headwater import`: which stretches of which files are in. A part's row is written in the
-- transaction of its readings, so a killed import goes on where it stopped.

create table telemetry.import_file (
    import_file_id bigint generated always as identity,
    tenant_id integer not null,
    sha256 bytea not null,
    name text not null,
    reading_count bigint not null,
    rejected bigint not null,
    stored bigint not null default 0,
    duplicate bigint not null default 0,
    conflict bigint not null default 0,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint import_file_pkey primary key (import_file_id),
    constraint import_file_tenant_id_sha256_key unique (tenant_id, sha256),
    constraint import_file_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint import_file_sha256_check check (octet_length(sha256) = 32)
);
comment on table telemetry.import_file is 'A file of history that an import has begun or finished.';
comment on column telemetry.import_file.sha256 is
    'SHA-256 of the file''s bytes and of the options that change what they mean.';
comment on column telemetry.import_file.reading_count is 'Readings in it that could be stored.';
comment on column telemetry.import_file.rejected is
    'Readings in it that could not; when a later run counts otherwise, the file is gone through anew.';
comment on column telemetry.import_file.finished_at is 'When all of it was in; null: not yet.';

create table telemetry.import_part (
    import_file_id bigint not null,
    first_ts timestamptz not null,
    last_ts timestamptz not null,
    stored bigint not null,
    duplicate bigint not null,
    conflict bigint not null,
    constraint import_part_pkey primary key (import_file_id, first_ts),
    constraint import_part_import_file_id_fkey
        foreign key (import_file_id) references telemetry.import_file on delete cascade,
    constraint import_part_range_check check (first_ts <= last_ts)
);
comment on table telemetry.import_part is
    'Stretches of an unfinished file that are in: every reading from first_ts to last_ts.';
comment on column telemetry.import_part.first_ts is 'Its oldest reading in this file.';
comment on column telemetry.import_part.last_ts is 'Its newest reading in this file.';

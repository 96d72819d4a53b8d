-- Exports prove themselves by a checksum over bits, which Python computes on both sides, instead of the
-- arithmetic that PostgreSQL and DuckDB both had to do; manifests say which kind they have.

alter table archive.export add column checksum_kind smallint not null default 1;
comment on column archive.export.checksum_kind is
    'What the manifest''s checksums are: 1 sums of a fingerprint by arithmetic (earlier versions), 2 sums '
    'of a hash over bits (app/archive/digest.py).';
comment on column archive.export_sensor.checksum is
    'Sum over the readings of a number that any other time, metric, value or flag would change; '
    'archive.export.checksum_kind says which.';
drop function if exists archive.digest(timestamptz, timestamptz);
drop function if exists archive.fingerprint(timestamptz, smallint, double precision, smallint);

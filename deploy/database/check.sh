#!/bin/sh
# Run while the image is built: starts a throw-away server with what the nodes load (and any further
# server options), and uses it.
set -eu

bin=${PGBIN:-/usr/lib/postgresql/17/bin}
folder=$(mktemp -d)
trap '"$bin/pg_ctl" --pgdata="$folder/data" --mode=immediate stop >/dev/null 2>&1 || true
    rm -rf "$folder"' EXIT

"$bin/initdb" --pgdata="$folder/data" --username=postgres --auth=trust >/dev/null
"$bin/pg_ctl" --pgdata="$folder/data" --log="$folder/log" --wait start --options="\
    -c shared_preload_libraries=citus,timescaledb -c listen_addresses= \
    -c unix_socket_directories=$folder -c timescaledb.telemetry_level=off $*" >/dev/null ||
    { cat "$folder/log" >&2 && exit 1; }
"$bin/psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host "$folder" --username postgres <<'SQL'
create extension citus;
create extension timescaledb;
create table reading (ts timestamptz not null, value double precision);
select create_hypertable('reading', by_range('ts')) \g /dev/null
insert into reading select now() - n * interval '1 hour', n from generate_series(1, 100) as n;
alter table reading set (timescaledb.compress);
select compress_chunk(c) from show_chunks('reading') as c \g /dev/null
select count(*) from reading \g /dev/null
select count(*) > 0 as has_toolkit from pg_available_extensions
where name = 'timescaledb_toolkit' \gset
\if :has_toolkit
create extension timescaledb_toolkit;
\else
\warn 'timescaledb_toolkit is not here'
\endif
SQL

#!/bin/sh
# Run once, when the database container makes its cluster: login roles with their passwords.
# The migrations give them their rights.
set -eu

for role in owner app ingest analyst sql grafana; do
    name="headwater_$role"
    variable="HEADWATER_$(echo "$role" | tr '[:lower:]' '[:upper:]')_PASSWORD"
    eval "password=\$$variable"
    psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set name="$name" --set password="$password" \
        --username postgres --dbname postgres <<'SQL'
create role :"name" login password :'password';
SQL
done
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
    --command 'alter database headwater owner to headwater_owner'

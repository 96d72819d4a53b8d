-- where: placements
-- Processes remember the catalogue; a statement that changes it rings, once, whatever it touched.

create or replace function ops.tg_catalogue__ring()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('catalogue_changed', '');
    return null;
end;
$$;
comment on function ops.tg_catalogue__ring() is
    'Tells the processes that what they remember of tenants, keys, sensors or metrics is old.';

create or replace trigger _900_ring
after insert or update or delete on identity.tenant
for each statement execute function ops.tg_catalogue__ring();

create or replace trigger _900_ring
after insert or update or delete on identity.api_key
for each statement execute function ops.tg_catalogue__ring();

create or replace trigger _900_ring
after insert or delete on identity.api_key_sensor
for each statement execute function ops.tg_catalogue__ring();

create or replace trigger _900_ring
after update or delete on telemetry.sensor
for each statement execute function ops.tg_catalogue__ring();

-- a new sensor makes nothing old that is remembered of others
create or replace function ops.tg_sensor__ring()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_notify('sensor_created', '');
    return null;
end;
$$;
comment on function ops.tg_sensor__ring() is
    'Tells the processes that sensors they did not find may be there by now.';

create or replace trigger _910_ring_created
after insert on telemetry.sensor
for each statement execute function ops.tg_sensor__ring();

create or replace trigger _900_ring
after insert or update or delete on telemetry.metric
for each statement execute function ops.tg_catalogue__ring();

create or replace trigger _900_ring
after insert or update or delete on telemetry.metric_alias
for each statement execute function ops.tg_catalogue__ring();

create or replace trigger _900_ring
after insert or update or delete on telemetry.metric_unit
for each statement execute function ops.tg_catalogue__ring();

-- role: superuser
-- Roles and schemas. Roles are cluster-wide, so they may exist already; passwords are the
-- operator's business (the local runtime sets its own), never a migration's.

create extension if not exists timescaledb;

do $$
declare
    v_role text;
begin
    foreach v_role in array array[
        'headwater_owner', 'headwater_app', 'headwater_ingest',
        'headwater_analyst', 'headwater_grafana'
    ] loop
        if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
            execute pg_catalog.format('create role %I login', v_role);
        end if;
    end loop;
end
$$;

comment on role headwater_owner is
    'Owns every object; migrations act as it, nothing else does.';
comment on role headwater_app is
    'The API and the jobs: reads everything, changes catalogue, thresholds and alert states.';
comment on role headwater_ingest is
    'The readings'' writers: append readings and candidates, nothing else.';
comment on role headwater_analyst is
    'People''s SQL: reads the contract views in schema analytics, nothing else.';
comment on role headwater_grafana is
    'Dashboards: reads the contract views in schema analytics, nothing else.';

do $$
begin
    execute pg_catalog.format(
        'grant create, temporary on database %I to headwater_owner', pg_catalog.current_database());
    execute pg_catalog.format(
        'revoke temporary on database %I from public', pg_catalog.current_database());
    execute pg_catalog.format(
        'grant temporary on database %I to headwater_ingest', pg_catalog.current_database());
end
$$;

revoke create on schema public from public;

create schema if not exists identity authorization headwater_owner;
create schema if not exists telemetry authorization headwater_owner;
create schema if not exists alert authorization headwater_owner;
create schema if not exists analytics authorization headwater_owner;
create schema if not exists ops authorization headwater_owner;

comment on schema identity is 'Who may do what: tenants and API keys.';
comment on schema telemetry is 'Sites, sensors, metrics and the readings themselves.';
comment on schema alert is 'Thresholds, candidates, episodes and the outbox.';
comment on schema analytics is 'The contract: views that analysts, dashboards and exports read.';
comment on schema ops is 'The platform''s own book-keeping: migrations, heartbeats.';

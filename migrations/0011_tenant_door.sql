-- role: superuser
-- The door for people's SQL that shows one tenant's rows: schema `tenant` holds the contract's views once
-- more, filtered by who asks. `headwater_sql` is the API's login there; logins of single tenants
-- (`headwater tenant login`) are its members.

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'headwater_sql') then
        create role headwater_sql login;
    end if;
    -- unqualified names mean the contract, and nothing is written by mistake
    alter role headwater_analyst set search_path = analytics, public;
    alter role headwater_analyst set default_transaction_read_only = on;
    -- what sorts and joins spill; only a superuser may say so
    begin
        alter role headwater_sql set temp_file_limit = '2GB';
    exception
        when insufficient_privilege then
            raise notice 'temp_file_limit of headwater_sql stays the server''s';
    end;
end
$$;
comment on role headwater_sql is
    'People''s SQL of one tenant: reads the views in schema tenant, and only rows of the tenant that its '
    'pass names.';

create schema tenant authorization headwater_owner;
comment on schema tenant is
    'The contract of schema analytics for one tenant: the same views and columns, with its rows only.';

create table identity.analyst_login (
    role_name name not null,
    tenant_id integer not null,
    created_at timestamptz not null default now(),
    constraint analyst_login_pkey primary key (role_name),
    constraint analyst_login_tenant_id_fkey foreign key (tenant_id) references identity.tenant
);
alter table identity.analyst_login owner to headwater_owner;
comment on table identity.analyst_login is
    'Database logins of people, each bound to the tenant whose rows it sees in schema tenant.';

create table identity.pass_secret (
    is_only boolean not null default true,
    secret bytea not null,
    constraint pass_secret_pkey primary key (is_only),
    constraint pass_secret_only_check check (is_only),
    constraint pass_secret_length_check check (octet_length(secret) = 32)
);
alter table identity.pass_secret owner to headwater_owner;
comment on table identity.pass_secret is
    'What identity.sql_pass() signs with. Replace the row to make every pass worthless at once.';
insert into identity.pass_secret (secret)
values (sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')));

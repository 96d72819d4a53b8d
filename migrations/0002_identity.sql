-- Tenants and the API keys that act for them.

create table identity.tenant (
    tenant_id integer generated always as identity,
    slug text not null,
    title text not null,
    is_auto_register boolean not null default false,
    created_at timestamptz not null default now(),
    constraint tenant_pkey primary key (tenant_id),
    constraint tenant_slug_key unique (slug),
    constraint tenant_slug_check check (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$')
);
comment on table identity.tenant is
    'An organisation: utility, river authority or laboratory. Everything else belongs to one.';
comment on column identity.tenant.slug is 'Short name used in URLs, commands and views.';
comment on column identity.tenant.is_auto_register is
    'True: a reading of an unknown sensor registers it; false: the reading is rejected.';

create table identity.api_key (
    api_key_id bigint generated always as identity,
    tenant_id integer,
    role text not null,
    title text not null,
    prefix text not null,
    secret_sha256 bytea not null,
    is_sensor_scoped boolean not null default false,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    constraint api_key_pkey primary key (api_key_id),
    constraint api_key_tenant_id_fkey foreign key (tenant_id) references identity.tenant,
    constraint api_key_prefix_key unique (prefix),
    constraint api_key_role_check check (
        role in ('device', 'operator', 'scientist', 'admin', 'super_admin', 'integration')
    ),
    constraint api_key_tenant_check check (tenant_id is not null or role = 'super_admin'),
    constraint api_key_secret_check check (octet_length(secret_sha256) = 32)
);
comment on table identity.api_key is
    'Keys for the HTTP API, shown once as hw_<prefix>_<secret> and kept as a digest.';
comment on column identity.api_key.tenant_id is 'Null only for the platform''s super admins.';
comment on column identity.api_key.role is
    'What the key may do; app/identity/permission.py lists the permissions of each role.';
comment on column identity.api_key.prefix is 'Public part of the key, names it in lists and logs.';
comment on column identity.api_key.secret_sha256 is
    'SHA-256 of the whole key. A plain digest is enough for 256 random bits.';
comment on column identity.api_key.is_sensor_scoped is
    'True: the key writes only the sensors in identity.api_key_sensor.';

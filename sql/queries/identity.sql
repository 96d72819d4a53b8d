-- name: tenant_insert
insert into identity.tenant (slug, title, is_auto_register)
values (%(slug)s, %(title)s, %(is_auto_register)s)
on conflict (slug) do update set
    title = excluded.title,
    is_auto_register = excluded.is_auto_register
returning tenant_id;

-- name: tenant_list
select t.tenant_id, t.slug, t.title, t.is_auto_register
from identity.tenant as t
order by t.slug;

-- name: tenant_by_slug
select t.tenant_id, t.slug, t.title, t.is_auto_register
from identity.tenant as t
where t.slug = %(slug)s;

-- name: api_key_insert
insert into identity.api_key (
    tenant_id, role, title, prefix, secret_sha256, is_sensor_scoped, expires_at
)
values (
    %(tenant_id)s, %(role)s, %(title)s, %(prefix)s, %(secret_sha256)s, %(is_sensor_scoped)s,
    %(expires_at)s
)
returning api_key_id;

-- name: api_key_scope
insert into identity.api_key_sensor (api_key_id, sensor_id)
select %(api_key_id)s, s.sensor_id
from telemetry.sensor as s
where s.tenant_id = %(tenant_id)s and s.uid = any(%(uids)s)
returning sensor_id;

-- name: api_key_list
select
    k.api_key_id, k.prefix, k.role, k.title, t.slug as tenant, k.is_sensor_scoped, k.created_at,
    k.expires_at, k.revoked_at
from identity.api_key as k
left join identity.tenant as t on t.tenant_id = k.tenant_id
order by k.api_key_id;

-- name: api_key_revoke
update identity.api_key
set revoked_at = now()
where prefix = %(prefix)s and revoked_at is null
returning api_key_id;

-- name: principals_by_digest
select
    k.secret_sha256, k.prefix as name, k.api_key_id, k.tenant_id, k.role,
    case
        when k.is_sensor_scoped then
            coalesce((
                select array_agg(s.sensor_id)
                from identity.api_key_sensor as s
                where s.api_key_id = k.api_key_id
            ), '{}')
    end as sensor_ids,
    coalesce(t.is_auto_register, false) as is_auto_register,
    k.readings_per_second as key_readings_per_second, k.burst_readings as key_burst,
    t.readings_per_second as tenant_readings_per_second, t.burst_readings as tenant_burst
from identity.api_key as k
left join identity.tenant as t on t.tenant_id = k.tenant_id
where k.secret_sha256 = any(%(digests)s::bytea[])
    and k.revoked_at is null
    and (k.expires_at is null or k.expires_at > now());

-- name: login_tenant
select l.tenant_id
from identity.analyst_login as l
where l.role_name = %(login)s::text;

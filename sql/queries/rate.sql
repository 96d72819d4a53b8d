-- name: tenant_rate_set
update identity.tenant
set
    readings_per_second = %(readings_per_second)s,
    burst_readings = %(burst_readings)s
where slug = %(slug)s
returning tenant_id;

-- name: api_key_rate_set
update identity.api_key
set
    readings_per_second = %(readings_per_second)s,
    burst_readings = %(burst_readings)s
where prefix = %(prefix)s
returning api_key_id;

-- name: rate_list
select 'tenant' as kind, t.slug as name, t.readings_per_second, t.burst_readings
from identity.tenant as t
where t.readings_per_second is not null or t.burst_readings is not null
union all
select 'key' as kind, k.prefix as name, k.readings_per_second, k.burst_readings
from identity.api_key as k
where
    (k.readings_per_second is not null or k.burst_readings is not null)
    and k.revoked_at is null
order by kind desc, name;

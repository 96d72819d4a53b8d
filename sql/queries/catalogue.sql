-- name: site_put
insert into telemetry.site (tenant_id, code, title, region, latitude, longitude)
values (%(tenant_id)s, %(code)s, %(title)s, %(region)s, %(latitude)s, %(longitude)s)
on conflict (tenant_id, code) do update set
    title = excluded.title,
    region = coalesce(excluded.region, site.region),
    latitude = coalesce(excluded.latitude, site.latitude),
    longitude = coalesce(excluded.longitude, site.longitude)
returning site_id;

-- name: site_by_code
select p.site_id
from telemetry.site as p
where p.tenant_id = %(tenant_id)s and p.code = %(code)s;

-- name: sensor_put
insert into telemetry.sensor (tenant_id, site_id, uid, title, status, expected_interval)
values (
    %(tenant_id)s, %(site_id)s, %(uid)s, %(title)s, coalesce(%(status)s, 'active'),
    make_interval(secs => %(interval_seconds)s)
)
on conflict (tenant_id, uid) do update set
    site_id = coalesce(excluded.site_id, sensor.site_id),
    title = coalesce(excluded.title, sensor.title),
    status = coalesce(%(status)s, sensor.status),
    expected_interval = coalesce(excluded.expected_interval, sensor.expected_interval)
returning sensor_id;

-- name: site_list
select p.site, p.title, p.region, p.latitude, p.longitude
from analytics.site as p
where p.tenant_id = %(tenant_id)s
order by p.site;

-- name: sensor_list
select s.sensor, s.title, s.site, s.status, s.expected_interval
from analytics.sensor as s
where s.tenant_id = %(tenant_id)s
order by s.sensor;

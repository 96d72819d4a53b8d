-- Rate limits of one's own for tenants and keys.

alter table identity.tenant
    add column readings_per_second double precision,
    add column burst_readings double precision,
    add constraint tenant_rate_check check (
        readings_per_second >= 0 and readings_per_second < 'infinity'
        and burst_readings >= 1 and burst_readings < 'infinity'
    );
comment on column identity.tenant.readings_per_second is
    'Readings a second that all keys of the tenant may send together; null: the settings'' default, 0: no limit.';
comment on column identity.tenant.burst_readings is
    'Readings that may come at once; null: ten seconds'' worth, or the settings'' default without a rate.';

alter table identity.api_key
    add column readings_per_second double precision,
    add column burst_readings double precision,
    add constraint api_key_rate_check check (
        readings_per_second >= 0 and readings_per_second < 'infinity'
        and burst_readings >= 1 and burst_readings < 'infinity'
    );
comment on column identity.api_key.readings_per_second is
    'Readings a second that the key may send; null: the settings'' default of its role, 0: no limit.';
comment on column identity.api_key.burst_readings is
    'Readings that may come at once; null: ten seconds'' worth, or the settings'' default without a rate.';

-- where: nodes
-- The doorbell: whoever hears it reads the outbox. No content, so a missed one only delays.

create or replace function alert.ring()
returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    -- A transaction that another server began ends in two phases, and then it may not notify: that
    -- server rings.
    select pg_notify('alert_raised', '')
    where current_setting('application_name') not like 'citus\_internal%';
$$;
comment on function alert.ring() is
    'Tells listeners on channel alert_raised, once after the commit, that the state of an alert changed.';

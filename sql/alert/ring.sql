-- where: nodes
-- The doorbell: whoever hears it reads the outbox. No content, so a missed one only delays.

create or replace function alert.ring()
returns void
language plpgsql -- keeps the plan, as SQL would not
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A transaction that another server began ends in two phases, and then it may not notify: that
    -- server rings.
    if current_setting('application_name') not like 'citus\_internal%' then
        perform pg_notify('alert_raised', '');
    end if;
end;
$$;
comment on function alert.ring() is
    'Tells listeners on channel alert_raised, once after the commit, that the state of an alert changed.';

-- The outbox is where events are read from. On one server they are written there.

create or replace function alert.collect()
returns bigint
language sql
return 0;
comment on function alert.collect() is
    'Brings events that were noted elsewhere into alert.outbox; how many. On one server there are none.';

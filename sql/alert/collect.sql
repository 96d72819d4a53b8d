-- The outbox is where events are read from. On one server they are written there.

create or replace function alert.collect()
returns bigint
language sql
return 0;
comment on function alert.collect() is
    'Brings events that were noted elsewhere into alert.outbox; how many. On one server there are none.';

create or replace function alert.collect_living()
returns bigint
language sql
return 0;
comment on function alert.collect_living() is
    'alert.collect from those nodes that can be reached. On one server there is nothing to collect.';

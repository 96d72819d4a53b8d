-- What lets a writer prove that no rule can care about a reading: the band in which a datastream's
-- values violate nothing, and the sensors that have an unresolved episode. Writers remember both and ask
-- in every transaction whether their memory is still true; the versions here are the answer.

create table alert.watch (
    bucket smallint not null,
    version bigint not null default 0,
    constraint watch_pkey primary key (bucket)
) with (fillfactor = 50);
comment on table alert.watch is
    'Versions of what writers remember: bucket -1 the thresholds, 0 to 255 which sensors (by '
    'sensor_id & 255) have an unresolved episode.';

insert into alert.watch (bucket) select generate_series(-1, 255);

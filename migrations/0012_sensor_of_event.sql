-- Events and log rows name a sensor, so that on a distributed server they lie where its readings lie.
-- What the evaluation of a batch decides is a row of alert.episode; a type of its own is not needed.

alter table alert.outbox add column sensor_id bigint;
update alert.outbox as o
set sensor_id = e.sensor_id
from alert.episode as e
where e.episode_id = o.episode_id;
alter table alert.outbox alter column sensor_id set not null;
comment on column alert.outbox.sensor_id is 'The sensor whose alert changed.';

alter table telemetry.ingest_log add column sensor_id bigint not null default 0;
comment on column telemetry.ingest_log.sensor_id is
    'A sensor of the batch; on a distributed server the row lies on its shard.';

-- takes alert.derive() along, which is made anew with all of sql/
drop type alert.outcome cascade;

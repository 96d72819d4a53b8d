-- name: heartbeat_ages
select h.process, extract(epoch from now() - h.beaten_at)::double precision as age_seconds
from ops.heartbeat as h
order by h.process;

-- requires: analytics/tenant_views.sql, identity/grants_sql.sql
--
-- Who asks is known on the coordinator only. A part of a query that reads a table which is nowhere else is
-- answered there, and never sent to a worker with the rest: so the views ask through such a table.

create table if not exists identity.here (
    is_here boolean not null default true,
    constraint here_pkey primary key (is_here),
    constraint here_is_here_check check (is_here)
);
comment on table identity.here is
    'One row, on the coordinator: what is asked together with it is asked here.';
insert into identity.here (is_here) values (true) on conflict do nothing;
grant select on identity.here to headwater_sql;

do $$
declare
    v_view regclass;
    v_definition text;
begin
    for v_view in
        select c.oid
        from pg_catalog.pg_class as c
        where c.relnamespace = 'tenant'::regnamespace and c.relkind = 'v'
    loop
        -- those that ask through it already stay as they are
        v_definition := regexp_replace(
            pg_get_viewdef(v_view),
            '(SELECT identity\.visible_tenants\(\) AS visible_tenants)(?!\s+FROM)',
            '\1 FROM identity.here',
            'g'
        );
        execute format('create or replace view %s with (security_barrier) as %s', v_view, v_definition);
    end loop;
end
$$;

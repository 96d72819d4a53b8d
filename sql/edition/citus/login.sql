-- requires: identity/login.sql

create or replace function identity.admit(p_role name, p_password text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- the coordinator asks the workers as the login itself
    delete from pg_dist_authinfo as a where a.rolename = p_role;
    if p_password is not null then
        insert into pg_dist_authinfo (nodeid, rolename, authinfo)
        values (0, p_role, 'password=' || p_password);
        execute format('alter role %I set citus.max_adaptive_executor_pool_size = 2', p_role);
        -- one session there is several here
        perform run_command_on_workers(format('alter role %I connection limit -1', p_role));
    end if;
end;
$$;
comment on function identity.admit(name, text) is
    'Lets a login of people through from the coordinator to the workers; null as password: no longer. '
    'The password must need no quoting.';

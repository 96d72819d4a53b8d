-- requires: edition/citus/reference_grants.sql, edition/citus/on_shards.sql, analytics/tenant_pass.sql
-- where: placements
-- role: superuser
--
-- What the coordinator reads of its own copies of reference tables it reads as whoever asks, not as the
-- owner of the view. So the wall of one tenant's SQL stands on the copies themselves. Nobody but the
-- owner and the API sends statements to the workers, where there is no such wall.

do $$
declare
    v_name text;
    v_condition text;
begin
    for v_name, v_condition in
        values
            ('identity.tenant', 'tenant_id = any ((select identity.visible_tenants())::integer[])'),
            ('telemetry.site', 'tenant_id = any ((select identity.visible_tenants())::integer[])'),
            ('telemetry.sensor', 'tenant_id = any ((select identity.visible_tenants())::integer[])')
    loop
        execute format('alter table %s enable row level security', v_name);
        execute format('drop policy if exists one_tenant on %s', v_name);
        execute format('drop policy if exists everybody on %s', v_name);
        execute format(
            'create policy one_tenant on %s for select to headwater_sql using (%s)',
            v_name, v_condition
        );
        execute format(
            'create policy everybody on %s to headwater_app, headwater_analyst, headwater_grafana '
            'using (true) with check (true)',
            v_name
        );
    end loop;
end
$$;

do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid::regprocedure
        from pg_catalog.pg_proc as p
        where p.proname in (
            'run_command_on_workers', 'run_command_on_all_nodes', 'run_command_on_coordinator',
            'run_command_on_placements', 'run_command_on_colocated_placements',
            'run_command_on_shards', 'master_run_on_worker', 'worker_create_or_replace_object'
        )
    loop
        execute format('revoke execute on function %s from public', v_function);
        execute format(
            'grant execute on function %s to headwater_owner, headwater_app', v_function);
    end loop;
end
$$;

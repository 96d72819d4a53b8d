-- Who sees which tenant's rows in schema `tenant`.
--
-- A login of identity.analyst_login sees its tenant, by session_user: no `set` changes that. The API's login
-- headwater_sql serves all tenants, one a transaction, so it must show a pass in the setting
-- `headwater.pass`: the tenant, signed. Only the API's main role can have one made. A person who got arbitrary
-- SQL past the API's guard could set the setting, but not make a pass for another tenant.

create or replace function identity.pass_signature(p_text text)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    -- twice, so that a longer text's signature can't be had from a shorter one's
    select encode(sha256(s.secret || sha256(s.secret || convert_to(p_text, 'UTF8'))), 'hex')
    from identity.pass_secret as s;
$$;
comment on function identity.pass_signature(text) is
    'What stands behind the dot of a pass. Runs as its owner: nobody else reads the secret.';

create or replace function identity.sql_pass(p_tenant_id integer)
returns text
language sql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
    select w.word || '.' || identity.pass_signature(w.word)
    from (select coalesce(p_tenant_id::text, 'all') as word) as w;
$$;
comment on function identity.sql_pass(integer) is
    'A pass to one tenant''s rows in schema tenant; null: to every tenant''s.';

create or replace function identity.visible_tenants()
returns integer[]
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_pass constant text := coalesce(current_setting('headwater.pass', true), '');
    v_word constant text := split_part(v_pass, '.', 1);
begin
    if session_user <> 'headwater_sql' then
        return array(
            select l.tenant_id from identity.analyst_login as l where l.role_name = session_user);
    end if;
    if v_word = '' or v_pass <> v_word || '.' || identity.pass_signature(v_word) then
        return '{}';
    end if;
    if v_word = 'all' then
        return array(select t.tenant_id from identity.tenant as t);
    end if;
    return array[v_word::integer];
end;
$$;
comment on function identity.visible_tenants() is
    'Tenants whose rows the session sees in schema tenant. Runs as its owner: it reads the secret and who is '
    'bound to what.';

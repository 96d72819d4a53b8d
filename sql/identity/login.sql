-- What a new database login needs besides its role. On one server: nothing.

create or replace function identity.admit(p_role name, p_password text)
returns void
language sql
begin atomic
    select null::void;
end;
comment on function identity.admit(name, text) is
    'Lets a login of people reach whatever it may read; null as password: no longer.';

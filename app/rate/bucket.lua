-- Takes from the token buckets of many requests in one call. A request gets all it asks for or nothing,
-- and what is refused costs nothing; requests of one call are served in order.
--
-- A bucket is one number: the time at which it will be full again, in microseconds since 2026 by Redis'
-- own clock (no API host's clock matters). Taking n tokens moves that time n * us_per_token further; it
-- may lie `burst_us` ahead at most. A bucket that is full needs no memory: what expires was full.
--
-- Tenants and keys: one string each. Sensors: one hash for 64 of them, which Redis keeps as a listpack
-- of 16 bytes a sensor (30 once the catch-up allowance was needed); fields 0..63 are the requests,
-- 64..127 the catch-up readings.
--
-- ARGV[1]: msgpack of {sensor, asks}
--   sensor: {us_per_request, burst_us, us_per_catch_up, catch_up_us}
--   ask: {tenant_id, us, burst_us, key_id, us, burst_us, readings, groups}; us = 0: no limit
--   group: {group_no, {member, …}, {readings, …}}
-- Returns msgpack of an answer for each ask:
--   {wait_tenant_us, wait_key_us, wait_sensor_us, left_tenant, left_key, left_sensor, left_catch_up,
--    {refused sensor_id, …}}; waits are 0 where it is granted; left is -1 where there is no
-- limit, left_catch_up also where it was not needed.

local EPOCH = 1767225600
local GROUP = 64
local MOST_NAMED = 10

local clock = redis.call('TIME')
local now = (tonumber(clock[1]) - EPOCH) * 1000000 + tonumber(clock[2])
local input = cmsgpack.unpack(ARGV[1])
local request_us, request_burst = input[1][1], input[1][2]
local catch_us, catch_burst = input[1][3], input[1][4]
local max, min = math.max, math.min
-- a thousandth of a token, against rounding
local SLACK = 0.001
local request_slack = request_us * SLACK

local singles, dirty_singles = {}, {}
local groups = {}
local names = {t = {}, k = {}}

-- The limits are part of the name: whoever gets others begins with a full bucket, at once.
local function single_name(kind, id, us, burst)
    local known = names[kind][id]
    if not known or known[2] ~= us or known[3] ~= burst then
        known = {'headwater:rate:' .. kind .. id .. ':' .. us .. ':' .. burst, us, burst}
        names[kind][id] = known
    end
    return known[1]
end

local function single(key)
    local full_at = singles[key]
    if not full_at then
        full_at = tonumber(redis.call('GET', key) or 0)
        singles[key] = full_at
    end
    return max(full_at, now)
end

-- The group's hash with the wanted fields in memory.
local function group_of(key, wanted)
    local group = groups[key]
    if not group then
        group = {full_at = {}, dirty = {}, is_dirty = false}
        groups[key] = group
    end
    local full_at, missing = group.full_at, {}
    for i = 1, #wanted do
        if not full_at[wanted[i]] then
            missing[#missing + 1] = wanted[i]
        end
    end
    if #missing > 0 then
        local found = redis.call('HMGET', key, unpack(missing))
        for i = 1, #missing do
            full_at[missing[i]] = tonumber(found[i] or 0)
        end
    end
    return group
end

-- Microseconds until `cost` is there; 0: it is. More than a whole bucket waits for a full one.
local function wait(full_at, cost, burst, us)
    local missing = full_at + min(cost, burst) - now - burst
    if missing > us * SLACK then
        return missing
    end
    return 0
end

local function left(full_at, burst, us)
    return max(0, math.floor((now + burst - full_at) / us + SLACK))
end

local function serve(ask)
    local tenant_us, tenant_burst, key_us, key_burst = ask[2], ask[3], ask[5], ask[6]
    local readings = ask[7]
    local tenant_key = single_name('t', ask[1], tenant_us, tenant_burst)
    local api_key = single_name('k', ask[4], key_us, key_burst)
    local tenant_at, key_at = 0, 0
    local wait_tenant, wait_key, wait_sensor = 0, 0, 0
    local left_tenant, left_key, left_sensor, left_catch_up = -1, -1, -1, -1
    local refused, taken = {}, {}

    if tenant_us > 0 then
        tenant_at = single(tenant_key)
        wait_tenant = wait(tenant_at, readings * tenant_us, tenant_burst, tenant_us)
    end
    if key_us > 0 then
        key_at = single(api_key)
        wait_key = wait(key_at, readings * key_us, key_burst, key_us)
    end
    local last_request_at, last_catch_at = now, nil
    for _, part in ipairs(ask[8]) do
        local members, counts = part[2], part[3]
        local key = 'headwater:rate:s' .. ask[1] .. ':' .. part[1]
        local group = group_of(key, members)
        left_sensor = 0
        for i = 1, #members do
            local member = members[i]
            local request_at = max(group.full_at[member], now)
            local missing = request_at + request_us - now - request_burst
            if missing <= request_slack then
                request_at = request_at + request_us
                taken[#taken + 1] = {group, member, request_at}
            else
                if catch_us > 0 then
                    local field = member + GROUP
                    group_of(key, {field})
                    local catch_at = max(group.full_at[field], now)
                    if catch_at + counts[i] * catch_us <= now + catch_burst then
                        missing = 0
                        catch_at = catch_at + counts[i] * catch_us
                        taken[#taken + 1] = {group, field, catch_at}
                    end
                    last_catch_at = max(last_catch_at or now, catch_at)
                end
                if missing > 0 then
                    wait_sensor = max(wait_sensor, missing)
                    if #refused < MOST_NAMED then
                        refused[#refused + 1] = part[1] * GROUP + member
                    end
                end
            end
            if request_at > last_request_at then
                last_request_at = request_at
            end
        end
    end

    if wait_tenant == 0 and wait_key == 0 and wait_sensor == 0 then
        if tenant_us > 0 then
            tenant_at = tenant_at + readings * tenant_us
            singles[tenant_key] = tenant_at
            dirty_singles[tenant_key] = true
        end
        if key_us > 0 then
            key_at = key_at + readings * key_us
            singles[api_key] = key_at
            dirty_singles[api_key] = true
        end
        for _, one in ipairs(taken) do
            one[1].full_at[one[2]] = one[3]
            one[1].dirty[one[2]] = true
            one[1].is_dirty = true
        end
    end
    if left_sensor == 0 then
        left_sensor = left(last_request_at, request_burst, request_us)
    end
    if last_catch_at then
        left_catch_up = left(last_catch_at, catch_burst, catch_us)
    end
    if tenant_us > 0 then
        left_tenant = left(tenant_at, tenant_burst, tenant_us)
    end
    if key_us > 0 then
        left_key = left(key_at, key_burst, key_us)
    end
    return {
        math.ceil(wait_tenant), math.ceil(wait_key), math.ceil(wait_sensor),
        left_tenant, left_key, left_sensor, left_catch_up, refused
    }
end

local answers = {}
for i, ask in ipairs(input[2]) do
    answers[i] = serve(ask)
end

for key in pairs(dirty_singles) do
    local full_at = singles[key]
    redis.call('SET', key, string.format('%.3f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
end
local keep_ms = math.ceil(max(request_burst, catch_burst) / 1000) + 1
for key, group in pairs(groups) do
    if group.is_dirty then
        local pairs_to_set = {}
        for field in pairs(group.dirty) do
            pairs_to_set[#pairs_to_set + 1] = field
            pairs_to_set[#pairs_to_set + 1] = string.format('%.0f', group.full_at[field])
        end
        redis.call('HSET', key, unpack(pairs_to_set))
        redis.call('PEXPIRE', key, keep_ms)
    end
end
return cmsgpack.pack(answers)

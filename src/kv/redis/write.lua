-- Makes all changes or none. KEYS: the bucket's hash, the set of buckets, then each key and its
-- trace. ARGV: the bucket's name, then for each key what to do (put, delete, or check for a key that
-- must have a value), the revision that it must have (or nothing), the lifetime (nothing, +length or
-- end, in milliseconds) and the value. Gives 0 and the revisions; or what stands against it (1 the
-- revision, 2 the size, 3 the type), the number of the key, and the size limit.

local FIELDS = 4
local known = redis.call('HMGET', options, 'created', 'ttl', 'max_value_size')
local created, ttl, limit = known[1], tonumber(known[2] or 0), tonumber(known[3] or 0)
local count = (#ARGV - 1) / FIELDS

for i = 1, count do
  local at = 2 + (i - 1) * FIELDS
  local change, expected, value = ARGV[at], ARGV[at + 1], ARGV[at + 3]
  if change == 'put' and limit > 0 and #value > limit then
    return { 2, i, limit }
  end
  if expected ~= '' then
    local found, revision = current(KEYS[1 + 2 * i], KEYS[2 + 2 * i])
    if revision == -1 then
      return { 3, i, 0 }
    end
    if revision ~= tonumber(expected) or (change == 'check' and not found) then
      return { 1, i, 0 }
    end
  end
end

-- Traces first: a value without one that fits is taken for another program's, never the reverse.
local function put(key, trace, lifetime, value)
  local own = 0
  if string.sub(lifetime, 1, 1) == '+' then
    own = millis + tonumber(string.sub(lifetime, 2))
  elseif lifetime ~= '' then
    own = tonumber(lifetime)
    if own <= millis then
      local revision = leave_tombstone(trace)
      redis.call('UNLINK', key)
      return revision
    end
  end
  local till = own
  if ttl > 0 and (till == 0 or millis + ttl < till) then
    till = millis + ttl
  end
  local revision = next_revision()
  local facts = { text(revision), text(own), text(till), redis.sha1hex(value) }
  store(trace, table.concat(facts, ' '), till)
  store(key, value, till)
  return revision
end

local function delete(key, trace)
  local known = redis.call('GET', trace)
  if redis.call('EXISTS', key) == 0 and not (known and string.find(known, ' ', 1, true)) then
    return tonumber(known or 0) or 0
  end
  local revision = leave_tombstone(trace)
  redis.call('UNLINK', key)
  return revision
end

local done = { 0 }
for i = 1, count do
  local at = 2 + (i - 1) * FIELDS
  local key, trace = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
  if ARGV[at] == 'put' then
    if not created then
      created = text(millis)
      redis.call('HSET', options, 'created', created)
      redis.call('SADD', KEYS[2], ARGV[1])
    end
    done[#done + 1] = put(key, trace, ARGV[at + 2], ARGV[at + 3])
  elseif ARGV[at] == 'delete' then
    done[#done + 1] = delete(key, trace)
  end
end
return done

-- Begins every script about keys: a key's value, and the trace of it that is kept beside it.
--
-- A trace is text. After a delete it is the revision of the delete, and stays for a minute. Beside
-- a value it is the value's revision, the end of its own lifetime, the end of all, and the value's
-- digest, with an x before the digest of a value that another program stored. Ends are Unix times
-- in milliseconds, 0 for none. Where the trace does not fit the value, another program wrote it.
--
-- KEYS[1] is the bucket's hash.

local options = KEYS[1]
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local millis = math.floor(micros / 1000)

local function text(number)
  return string.format('%.0f', number)
end

-- Revisions are microseconds of this server's clock that never go back, also when the bucket's hash
-- is lost: no revision is ever given twice.
local last
local function next_revision()
  last = last or tonumber(redis.call('HGET', options, 'revision') or 0)
  last = math.max(micros, last + 1)
  redis.call('HSET', options, 'revision', text(last))
  return last
end

local function store(key, value, till)
  if till == 0 then
    redis.call('SET', key, value)
  else
    redis.call('SET', key, value, 'PXAT', text(till))
  end
end

local function leave_tombstone(trace)
  local revision = next_revision()
  redis.call('SET', trace, text(revision), 'PX', 60000)
  return revision
end

-- When a key ends, exactly.
local function end_of(key)
  local left = redis.call('PTTL', key)
  if left < 0 then
    return 0
  end
  local at = redis.pcall('PEXPIRETIME', key)
  if type(at) == 'number' then
    return at
  end
  -- Before Redis 7.0: what is left from now, where now is the same before and after asking.
  local now
  for _ = 1, 16 do
    local before, after
    before = redis.call('TIME')
    left = redis.call('PTTL', key)
    after = redis.call('TIME')
    now = math.floor((before[1] * 1000000 + before[2]) / 1000)
    if now == math.floor((after[1] * 1000000 + after[2]) / 1000) then
      break
    end
  end
  return now + left
end

-- The value (false for none), its revision (that of a delete, 0 for no trace, -1 for what is no
-- string), the end of its own lifetime, its end, and whether another program stored it.
local function current(key, trace)
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then
    if string.find(value.err, 'WRONGTYPE', 1, true) then
      return false, -1, 0, 0, false
    end
    error(value.err)
  end
  local known = redis.call('GET', trace)
  local revision, own, till, digest = string.match(known or '', '^(%d+) (%d+) (%d+) (%w+)$')
  if not value then
    if revision then
      return false, leave_tombstone(trace), 0, 0, false
    end
    return false, tonumber(known or 0) or 0, 0, 0, false
  end
  local sum = redis.sha1hex(value)
  local at = end_of(key)
  if digest == sum or digest == 'x' .. sum then
    -- Another program may have changed the lifetime alone.
    if tonumber(till) ~= at then
      own = at
    end
    return value, tonumber(revision), tonumber(own), at, digest ~= sum
  end
  local new = next_revision()
  store(trace, table.concat({ text(new), text(at), text(at), 'x' .. sum }, ' '), at)
  return value, new, at, at, true
end


-- Makes a bucket, or changes one. KEYS: the bucket's hash, the set of buckets. ARGV: the bucket's
-- name, what to do (make leaves one that is there as it is, change does not), then the options as
-- fields and values. Gives 1 for a bucket that was made.

local time = redis.call('TIME')
local millis = string.format('%.0f', math.floor(time[1] * 1000 + time[2] / 1000))
local made = redis.call('HSETNX', KEYS[1], 'created', millis)
if made == 1 then
  redis.call('SADD', KEYS[2], ARGV[1])
end
if made == 1 or ARGV[2] == 'change' then
  for i = 3, #ARGV, 2 do
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return made

-- The sum of the sizes of the values under KEYS.

local bytes = 0
for i = 1, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[i])
  if type(size) == 'number' then
    bytes = bytes + size
  end
end
return bytes

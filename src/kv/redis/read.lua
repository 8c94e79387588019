-- Reads keys. KEYS: the bucket's hash, then each key and its trace.

local found = {}
for i = 2, #KEYS, 2 do
  local value, revision, own, till, foreign = current(KEYS[i], KEYS[i + 1])
  found[#found + 1] = { value, revision, own, till, foreign and 1 or 0 }
end
return found

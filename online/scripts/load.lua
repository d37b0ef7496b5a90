-- Reads the last snapshot in one step.  KEYS: meta, slots 0 to 2.  Answer: {cursor, version, chunk, ...} or {}.
local state = redis.call('HMGET', KEYS[1], 'snapshot', 'snapshot_cursor', 'version')
if not state[1] then return {} end
local answer = {state[2], tonumber(state[3])}
local slot = KEYS[2 + tonumber(state[1])]
for chunk = 0, redis.call('HLEN', slot) - 1 do answer[#answer + 1] = redis.call('HGET', slot, chunk) end
return answer

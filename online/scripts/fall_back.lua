-- Returns to the snapshot before the last, parts included.
-- KEYS: meta, parts, undo.  ARGV: epoch.  Answer: 'OK', 'FENCED' or 'NONE'.
local meta, parts, undo = KEYS[1], KEYS[2], KEYS[3]
local state = redis.call('HMGET', meta, 'epoch', 'previous', 'previous_cursor')
if state[1] ~= ARGV[1] then return 'FENCED' end
if not state[2] then return 'NONE' end
local changed = redis.call('HGETALL', undo)
for i = 1, #changed, 2 do
  local old = changed[i + 1]
  if string.sub(old, 1, 1) == '1' then
    redis.call('HSET', parts, changed[i], string.sub(old, 2))
  else
    redis.call('HDEL', parts, changed[i])
  end
end
redis.call('DEL', undo)
redis.call('HDEL', meta, 'previous', 'previous_cursor')
redis.call('HSET', meta, 'snapshot', state[2], 'snapshot_cursor', state[3])
redis.call('HINCRBY', meta, 'version', 1)
return 'OK'

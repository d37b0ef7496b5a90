-- Uploads one chunk of a large snapshot into a slot that no pointer names.
-- KEYS: meta, slot.  ARGV: epoch, slot's name, chunk's number, bytes.  Answer: 'OK' or 'FENCED'.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
local pointers = redis.call('HMGET', KEYS[1], 'snapshot', 'previous')
if pointers[1] == ARGV[2] or pointers[2] == ARGV[2] then return 'FENCED' end
if ARGV[3] == '0' then redis.call('DEL', KEYS[2]) end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 'OK'

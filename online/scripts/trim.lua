-- Removes entries before an id, never one whose id is still remembered.
-- KEYS: entries, meta.  ARGV: epoch, id.  Answer: the number removed, or 'FENCED'.
local state = redis.call('HMGET', KEYS[2], 'epoch', 'forgotten')
if state[1] ~= ARGV[1] then return 'FENCED' end
if not state[2] then return 0 end
-- An entry that has been forgotten may go; the first remembered one comes after it.
local ms, seq = string.match(state[2], '^(%d+)-(%d+)$')
local limit_ms, limit_seq = string.match(ARGV[2], '^(%d+)-(%d+)$')
local before = ARGV[2]
if tonumber(limit_ms) > tonumber(ms) or (limit_ms == ms and tonumber(limit_seq) > tonumber(seq)) then
  before = ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
return redis.call('XTRIM', KEYS[1], 'MINID', '=', before)

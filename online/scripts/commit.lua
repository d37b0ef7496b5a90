-- Makes a learner's progress visible, all or nothing, if its epoch is the newest and Redis the run it has read from.
-- KEYS: meta, reports, parts, undo, slot, staged, then for each family: index, order.
-- ARGV: epoch, run, cursor, learned, slot's name ('' without a snapshot), verified, inline snapshot ('' if staged),
--       reports kept, window, pieces staged, then counts and values of: reports (id, bytes), parts staged (name,
--       number of pieces), parts set (name, bytes), parts removed (name), families, each with: fields set (name, bytes),
--       fields removed (name).
-- Answer: 'OK', 'FENCED' or 'RESTARTED'.  Redis does not roll back: all checks come before the first write.
local meta, reports, parts, undo, slot, staged = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local epoch, run, cursor, learned = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local slot_name, verified, inline = ARGV[5], ARGV[6], ARGV[7]
local kept, window = ARGV[8], tonumber(ARGV[9])
local pieces = tonumber(ARGV[10])
local at = 10

local function take()
  at = at + 1
  return ARGV[at]
end

local function newer(left, right)
  local left_ms, left_seq = string.match(left, '^(%d+)-(%d+)$')
  local right_ms, right_seq = string.match(right, '^(%d+)-(%d+)$')
  left_ms, right_ms = tonumber(left_ms), tonumber(right_ms)
  if left_ms ~= right_ms then return left_ms > right_ms end
  return tonumber(left_seq) > tonumber(right_seq)
end

local state = redis.call('HMGET', meta, 'epoch', 'last', 'cursor', 'snapshot', 'snapshot_cursor', 'previous', 'reported')
if state[1] ~= epoch then return 'FENCED' end
if string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') ~= run then return 'RESTARTED' end
if newer(cursor, state[2] or '0-0') then return 'RESTARTED' end
if pieces > 0 and redis.call('HLEN', staged) ~= pieces then return 'RESTARTED' end
local old_cursor, snapshot, previous = state[3] or '0-0', state[4], state[6]

-- A replay brings reports that are there already: they come in order, so only the first new one is searched for.
local count, fresh = tonumber(take()), false
local reported = state[7] or '0-0'
for _ = 1, count do
  local id, payload = take(), take()
  if not fresh then fresh = newer(id, reported) end
  if fresh then
    redis.call('XADD', reports, id, 'p', payload)
    reported = id
  end
end
if fresh then
  redis.call('XTRIM', reports, 'MAXLEN', '~', kept)
  redis.call('HSET', meta, 'reported', reported)
end

local promote = slot_name ~= '' and verified == '1' and snapshot
if promote then
  previous = snapshot
  redis.call('DEL', undo)
  redis.call('HSET', meta, 'previous', previous, 'previous_cursor', state[5])
end

-- What the previous snapshot had, kept once: '1' and the bytes, or '0' for nothing.
local function remember(name)
  if not previous or redis.call('HEXISTS', undo, name) == 1 then return end
  local old = redis.call('HGET', parts, name)
  redis.call('HSET', undo, name, old and ('1' .. old) or '0')
end

for part = 1, tonumber(take()) do
  local name, found = take(), {}
  for piece = 1, tonumber(take()) do found[piece] = redis.call('HGET', staged, part .. ':' .. piece) end
  remember(name)
  redis.call('HSET', parts, name, table.concat(found))
end
if pieces > 0 then redis.call('UNLINK', staged) end
for _ = 1, tonumber(take()) do
  local name, bytes = take(), take()
  remember(name)
  redis.call('HSET', parts, name, bytes)
end
for _ = 1, tonumber(take()) do
  local name = take()
  remember(name)
  redis.call('HDEL', parts, name)
end

local moved = newer(cursor, old_cursor)
for family = 1, tonumber(take()) do
  local index, order = KEYS[5 + 2 * family], KEYS[6 + 2 * family]
  for _ = 1, tonumber(take()) do
    local name, bytes = take(), take()
    if moved and redis.call('HSET', index, name, bytes) == 1 then
      redis.call('ZADD', order, redis.call('HINCRBY', meta, 'indexed', 1), name)
    end
  end
  for _ = 1, tonumber(take()) do
    local name = take()
    if moved then
      redis.call('HDEL', index, name)
      redis.call('ZREM', order, name)
    end
  end
  local excess = redis.call('ZCARD', order) - window
  if excess > 0 then
    local oldest = redis.call('ZPOPMIN', order, excess)
    for i = 1, #oldest, 2 do redis.call('HDEL', index, oldest[i]) end
  end
end

-- The pointer last: a reader sees the old snapshot whole, or the new one.
if slot_name ~= '' then
  if inline ~= '' then
    redis.call('DEL', slot)
    redis.call('HSET', slot, '0', inline)
  end
  redis.call('HSET', meta, 'snapshot', slot_name, 'snapshot_cursor', cursor)
  redis.call('HINCRBY', meta, 'version', 1)
end
if moved then redis.call('HSET', meta, 'cursor', cursor, 'learned', learned) end
redis.call('HINCRBY', meta, 'beat', 1)
return 'OK'

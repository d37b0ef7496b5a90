-- Appends the drafts whose id is new, and answers for every draft.
-- KEYS: entries, ids, meta.  ARGV: window, then for each draft: id, digest, header, payload.
-- Answer: the number of the first entry appended, then for each draft its entry's id where it was appended now (numbers
-- run on), else {status, entry id, number, header, payload}: status 1 known, 2 taken by another request.
local entries, ids, meta = KEYS[1], KEYS[2], KEYS[3]
local window = tonumber(ARGV[1])
local drafts = (#ARGV - 1) / 4

local asked = {}
for i = 1, drafts do asked[i] = ARGV[4 * i - 2] end
local known = redis.call('HMGET', ids, unpack(asked))

-- Numbers are set before the first XADD: if Redis refuses a later one, a gap is noticed, a number used twice is not.
local first_seen, fresh = {}, 0
for i = 1, drafts do
  if not known[i] and not first_seen[asked[i]] then
    first_seen[asked[i]] = i
    fresh = fresh + 1
  end
end
local number = 0
if fresh > 0 then number = redis.call('HINCRBY', meta, 'number', fresh) - fresh end

local answers, remembered, new, last = {number + 1}, {}, {}, nil
local function stored(i, status, place)
  local entry = redis.call('XRANGE', entries, place, place)[1]
  local fields = entry and entry[2] or {'', '', '', '0', '', '', '', ''}
  answers[i + 1] = {status, place, tonumber(fields[4]), fields[6], fields[8]}
end

for i = 1, drafts do
  local id, digest = asked[i], ARGV[4 * i - 1]
  local place = known[i]
  if not place and first_seen[id] ~= i then place = remembered[id] end
  if place then
    local entry_id, old_digest = string.match(place, '^(%d+%-%d+) (.*)$')
    stored(i, digest == old_digest and 1 or 2, entry_id)
  else
    number = number + 1
    last = redis.call('XADD', entries, '*', 'i', id, 'n', number, 'h', ARGV[4 * i], 'p', ARGV[4 * i + 1])
    place = last .. ' ' .. digest
    remembered[id] = place
    new[#new + 1] = id
    new[#new + 1] = place
    answers[i + 1] = last
  end
end

if last then
  redis.call('HSET', ids, unpack(new))
  redis.call('HSET', meta, 'last', last)
  -- The window is counted in entries, never in seconds: a clock that jumps must change nothing.
  local excess = redis.call('HLEN', ids) - window
  if excess > 0 then
    local oldest = redis.call('HGET', meta, 'forgotten') or '0-0'
    local forgotten = redis.call('XRANGE', entries, '(' .. oldest, '+', 'COUNT', excess)
    for _, entry in ipairs(forgotten) do redis.call('HDEL', ids, entry[2][2]) end
    redis.call('HSET', meta, 'forgotten', forgotten[#forgotten][1])
  end
end
return answers

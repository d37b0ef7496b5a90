-- Forgets all that a learner has made, so that it begins again with the first entry. Entries and their ids stay.
-- KEYS: meta, reports, parts, undo, staged, slots 0 to 2, then for each family: index, order.  ARGV: epoch.
-- Answer: 'OK' or 'FENCED'.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
redis.call('HDEL', KEYS[1], 'snapshot', 'snapshot_cursor', 'previous', 'previous_cursor', 'cursor', 'reported', 'learned')
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 'OK'

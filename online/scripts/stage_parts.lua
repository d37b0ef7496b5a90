-- Uploads pieces of large parts, for the commit that follows to put in place.
-- KEYS: meta, staged.  ARGV: epoch, '1' for the first call of a commit, then field and bytes of each piece.
-- Answer: 'OK' or 'FENCED'.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
if ARGV[2] == '1' then redis.call('DEL', KEYS[2]) end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
return 'OK'

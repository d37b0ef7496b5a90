-- Says that the owner is alive.  KEYS: meta.  ARGV: epoch.  Answer: 'OK' or 'FENCED'.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 'FENCED' end
redis.call('HINCRBY', KEYS[1], 'beat', 1)
return 'OK'

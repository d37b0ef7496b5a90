-- Makes the caller the partition's one writer: the new epoch fences all others.  KEYS: meta.  ARGV: owner.
local epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HINCRBY', KEYS[1], 'beat', 1)
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return {epoch, string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')}

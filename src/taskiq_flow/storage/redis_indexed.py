"""Values in Redis whose keys are listed from an index instead of a scan of the whole server."""

from __future__ import annotations

import math
from typing import Any

from taskiq_flow.storage.redis import RedisStorageAdapter
from taskiq_flow.storage.rules import check_ttl, key_bytes, key_text, parse_pattern
from taskiq_flow.storage.written import write_value

# The index is a sorted set of keys by when they expire, so it forgets them with their values, and
# goes with the last of them.
_INDEX_LIVES = """
local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
if last[2] == 'inf' then
  redis.call('PERSIST', KEYS[2])
elseif last[2] then
  redis.call('PEXPIREAT', KEYS[2], math.ceil(last[2] * 1000))
end
"""

# KEYS: value, index   ARGV: key, text after the time, milliseconds to live or '', 'NX' or ''
_SET = f"""
local at = redis.call('TIME')
local now = at[1] + at[2] / 1000000
local kept = {{KEYS[1], string.format('%.6f', now) .. '\\n' .. ARGV[2]}}
local over = '+inf'
if ARGV[3] ~= '' then
  kept[#kept + 1] = 'PX'
  kept[#kept + 1] = ARGV[3]
  over = string.format('%.3f', now + ARGV[3] / 1000)
end
if ARGV[4] ~= '' then kept[#kept + 1] = ARGV[4] end
if not redis.call('SET', unpack(kept)) then return 0 end
redis.call('ZADD', KEYS[2], over, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
{_INDEX_LIVES}
return 1
"""
_DELETE = f"""
redis.call('ZREM', KEYS[2], ARGV[1])
{_INDEX_LIVES}
return redis.call('DEL', KEYS[1])
"""
_KEYS = """
local at = redis.call('TIME')
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. at[1] + at[2] / 1000000, '+inf')
"""


class IndexedRedisStorageAdapter(RedisStorageAdapter):
    """A `RedisStorageAdapter` for few keys beside many others: `keys` takes one call.

    The prefix needs a hash tag (``{…}``) on a cluster, so that values and index are together.
    """

    async def delete(self, key: str) -> bool:
        name, index = self._name(key), self._index
        with self.reaching():
            return bool(await self._client.eval(_DELETE, 2, name, index, key_bytes(key)))

    async def keys(self, pattern: str = "*") -> list[str]:
        wanted = parse_pattern(pattern)
        with self.reaching():
            found: list[bytes] = await self._client.eval(_KEYS, 1, self._index)
        return sorted(key for key in map(key_text, found) if wanted.matches(key))

    async def _write(
        self, key: str, value: Any, ttl_seconds: float | None, *, only_new: bool
    ) -> bool:
        name, index = self._name(key), self._index
        ttl = check_ttl("ttl_seconds", ttl_seconds) or self.ttl_seconds
        body = write_value(key, value, self._limit)
        lives = "" if ttl is None else math.ceil(ttl * 1000)
        how = "NX" if only_new else ""
        with self.reaching():
            return bool(
                await self._client.eval(_SET, 2, name, index, key_bytes(key), body, lives, how)
            )

    def _name(self, key: str) -> bytes:
        return self._prefix + b"value:" + key_bytes(key)

    @property
    def _index(self) -> bytes:
        return self._prefix + b"index"

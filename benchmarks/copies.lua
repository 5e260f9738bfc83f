-- Copies an ended run of a namespace (KEYS[1] is its prefix), all of whose times move with its creation.
-- ARGV: the run's id, how long keys are kept in ms; then of each copy its id, time of creation, header,
-- and what `i:of` says of it.
local P, example, keep, call = KEYS[1], ARGV[1], ARGV[2], redis.call
local unpacked, pack = cmsgpack.unpack, cmsgpack.pack

local fields = call('HGETALL', P .. 'r:' .. example)
local values, events = call('HGETALL', P .. 'v:' .. example), call('LRANGE', P .. 'e:' .. example, 0, -1)
local lines, progress = call('LRANGE', P .. 'l:' .. example, 0, -1), call('HGETALL', P .. 'p:' .. example)
assert(call('EXISTS', P .. 'k:' .. example) == 0, 'runs with items are not copied')

local packed, created = {}, nil -- numbers of what has times in it
for k = 2, #fields, 2 do
  local name = fields[k - 1]
  if name == 'r' or name:find('^[dx]%d') then
    packed[k] = unpacked(fields[k])
    if name == 'r' then created = packed[k].created end
  end
end

for a = 3, #ARGV, 4 do
  local id, at, header, of = ARGV[a], tonumber(ARGV[a + 1]), ARGV[a + 2], ARGV[a + 3]
  local function moved(time) return at + (time - created) end
  local own, st = {}, nil
  for k = 1, #fields do
    local copy = {}
    for field, value in pairs(packed[k] or {}) do copy[field] = value end
    for _, field in ipairs({'created', 'started', 'ended', 'deadline', 'retry', 'due', 'ready'}) do
      if type(copy[field]) == 'number' then copy[field] = moved(copy[field]) end
    end
    if fields[k - 1] == 'r' then
      st, copy.name = copy, id
    end
    own[k] = packed[k] and pack(copy) or fields[k - 1] == 'j' and header or fields[k]
  end
  call('HSET', P .. 'r:' .. id, unpack(own))
  call('HSET', P .. 'v:' .. id, unpack(values))
  if #lines > 0 then call('RPUSH', P .. 'l:' .. id, unpack(lines)) end
  if #progress > 0 then call('HSET', P .. 'p:' .. id, unpack(progress)) end
  local entry, rows = {'r', id, 's', 0}, {}
  for k = 1, #events do
    local time, rest = events[k]:match('^([^|]*)(|.*)$')
    rows[k] = string.format('%.17g', moved(tonumber(time))) .. rest
    entry[#entry + 1], entry[#entry + 2] = 'e', rows[k]
  end
  call('RPUSH', P .. 'e:' .. id, unpack(rows))
  call('XADD', P .. 'feed', 'MAXLEN', '~', 100000, '*', unpack(entry))
  local told = cjson.decode(of)
  for _, index in ipairs(told.indexes) do call('ZADD', P .. index, st.created, id) end
  call('ZADD', P .. 'i:names', 0, told.indexes[2]:sub(5))
  call('ZADD', P .. 'i:s:' .. st.s, st.created, id)
  call('ZADD', P .. 'i:e:' .. st.s, st.ended, id)
  call('HSET', P .. 'i:of', id, of)
  for kind in ('rvelp'):gmatch('.') do call('PEXPIRE', P .. kind .. ':' .. id, keep) end
end

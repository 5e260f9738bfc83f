-- One atomic operation on the runs of a namespace: taskiq_flow.model.transitions, said in Lua.
--
-- KEYS[1] is the namespace's prefix; its hash tag keeps all keys in one slot of a cluster.
-- ARGV: operation, time ('' asks the server), lease, kick, retention in ms, run id, its own ones.
-- Values, plans and errors are opaque bytes: cjson would turn [] into {} and round big numbers.
--
-- r:<run>     hash  r state | j m error: only for readers | L lines logged
--                   of step i: h<i> record, c<i> successors, u<i> sources, b<i> blob, d<i> state,
--                   e<i> error; of its slot n: x<i>.<n> state, a<i>.<n> last answer
--                   E<event> steps that wait for it
-- v:<run>     hash  plan; values by key; payloads by !event
-- q:<run>:<k> hash  sequence k by index           e:<run> list events    l:<run> list log
-- y:<run>:<i> zset  items of a map due again      w:<run>:<i> hash       how often they failed
-- b:<run>     list  slots behind max_parallel     p:<run> hash progress  k:<run> set more keys
-- due:<queue> zset  run|step|slot by time; steps -1 -2 -3 are deadline, publish, notify
-- i:<index>   zset  runs by creation (i:e:<status>: by end)  i:of hash  indexes and key of a run
-- i:names     zset  names of runs in alphabetical order
-- key:<key>, tick:<tick> string   backlog:<name> set   lh: lw: ln: la:<limit>  holders, queue, times
local P, A, op, call = KEYS[1], ARGV, ARGV[1], redis.call
local encode, decode, fmt = cmsgpack.pack, cmsgpack.unpack, string.format
local min, max = math.min, math.max
local now, lease, kick, id = tonumber(A[2]), tonumber(A[3]), tonumber(A[4]), A[6]
if not now then
  local t = call('TIME')
  now = (t[1] * 1000 + math.floor(t[2] / 1000)) / 1000
end
local NOW = fmt('%.17g', now) -- exact, where `tostring` keeps 14 digits
local FINAL = {COMPLETED = true, FAILED = true, CANCELLED = true, SKIPPED = true}

local function float(number) return number == now and NOW or number and fmt('%.17g', number) end
local function put(list, field, value) list[#list + 1], list[#list + 2] = field, value end
local function bulk(command, key, list) -- `unpack` of some thousands overflows Lua's stack
  for first = 1, #list, 1000 do
    call(command, key, unpack(list, first, min(first + 999, #list)))
  end
end
local function hmget(key, fields)
  local found = {}
  for first = 1, #fields, 1000 do
    local page = call('HMGET', key, unpack(fields, first, min(first + 999, #fields)))
    for k = 1, #page do found[first + k - 1] = page[k] end
  end
  return found
end

-- a run, loaded as far as it is touched; what was loaded is saved ---------------------------

local function blank(run_id, st)
  return {id = run_id, key = P .. 'r:' .. run_id, st = st, raw = {}, heads = {}, steps = {},
    slots = {}, due = {}, ready = {}, freed = {}, events = {}, fields = {}, values = {}}
end
local function load(run_id, i, n)
  local run, found = blank(run_id), nil
  if i then
    local h, d, x = 'h' .. i, 'd' .. i, 'x' .. i .. '.' .. n
    found = call('HMGET', run.key, 'r', h, d, x)
    run.raw[h], run.raw[d], run.raw[x] = found[2], found[3], found[4]
  else
    found = call('HMGET', run.key, 'r')
  end
  if not found[1] then return nil end -- unknown, expired, or still in creation
  run.st = decode(found[1])
  run.was = run.st.s
  return run
end
local function read(run, field)
  local raw = run.raw[field]
  if raw == nil then
    raw = call('HGET', run.key, field)
    run.raw[field] = raw
  end
  return raw
end
local function head(run, i)
  local h = run.heads[i] or cjson.decode(read(run, 'h' .. i))
  run.heads[i] = h
  return h
end
local function peek(run, i)
  if run.steps[i] then return run.steps[i] end
  local raw = read(run, 'd' .. i)
  if raw then return decode(raw) end
  local h = head(run, i)
  if h.done then
    return {s = h.done, ended = run.st.created, w = 0, k = 0, out = h.out, length = h.length}
  end
  return {s = 'WAITING', w = h.w, k = h.k or 0, length = h.length, left = h.length, cursor = 0}
end
local function step(run, i)
  run.steps[i] = peek(run, i)
  return run.steps[i]
end
local function follower(run, i) -- a step that is likely to be opened
  if not run.steps[i] then
    local h, d = 'h' .. i, 'd' .. i
    local found = call('HMGET', run.key, h, d)
    run.raw[h], run.raw[d] = found[1], found[2]
  end
  return step(run, i)
end
local function slot(run, i, n)
  local name = i .. '.' .. n
  if not run.slots[name] then
    local raw = read(run, 'x' .. name)
    if not raw then return nil end
    local x = decode(raw)
    x.i, x.n, run.slots[name], run.due[name] = tonumber(i), tonumber(n), x, x.due
  end
  return run.slots[name]
end
local function event(run, kind, i, n, attempt, detail)
  local list = run.events
  list[#list + 1] = table.concat({NOW, kind, i or '', n or '', attempt, detail or ''}, '|')
end
local function keys_of(run_id)
  local keys = call('SMEMBERS', P .. 'k:' .. run_id)
  for k = 1, #keys do keys[k] = P .. keys[k] end
  for kind in ('rvelpbk'):gmatch('.') do keys[#keys + 1] = P .. kind .. ':' .. run_id end
  return keys
end
local function expire(keys, milliseconds)
  for k = 1, #keys do call('PEXPIRE', keys[k], milliseconds) end
end
local function close(run)
  local st, due = run.st, P .. 'due:' .. run.st.queue
  if st.deadline then call('ZREM', due, run.id .. '|-1|0') end
  if st.publish then call('ZADD', due, now + 5, run.id .. '|-2|0') end
  if st.notify then call('ZADD', due, now + 5, run.id .. '|-3|0') end
  call('ZADD', P .. 'i:e:' .. st.s, st.ended, run.id)
  local keys, key = keys_of(run.id), st.named and P .. 'key:' .. st.name
  if key and call('GET', key) == run.id then keys[#keys + 1] = key end
  expire(keys, A[5])
  call('PUBLISH', P .. 'ended', run.id .. ' ' .. st.s)
end
local function save(run)
  local st, fields = run.st, run.fields
  put(fields, 'r', encode(st))
  for i, d in pairs(run.steps) do put(fields, 'd' .. i, encode(d)) end
  for name, x in pairs(run.slots) do
    -- Of a slot that is done nobody asks for more than its last finish.
    put(fields, 'x' .. name, encode(x.s == 'D' and {s = 'D', finish = x.finish} or x))
    if x.due ~= run.due[name] and not (x.due and FINAL[st.s]) then -- nothing is due any more
      local due, member = P .. 'due:' .. head(run, x.i).queue, run.id .. '|' .. x.i .. '|' .. x.n
      if x.due then call('ZADD', due, x.due, member) else call('ZREM', due, member) end
    end
  end
  bulk('HSET', run.key, fields)
  bulk('HSET', P .. 'v:' .. run.id, run.values)
  for first = 1, #run.events, 500 do
    local rows, entry = {unpack(run.events, first, min(first + 499, #run.events))}, {}
    local seq = call('RPUSH', P .. 'e:' .. run.id, unpack(rows)) - #rows
    for k = 1, #rows do put(entry, 'e', rows[k]) end
    call('XADD', P .. 'feed', 'MAXLEN', '~', 100000, '*', 'r', run.id, 's', seq, unpack(entry))
  end
  if st.s == run.was then return end
  if run.was then call('ZREM', P .. 'i:s:' .. run.was, run.id) end
  call('ZADD', P .. 'i:s:' .. st.s, st.created, run.id)
  if st.backlog and st.s ~= 'PENDING' then call('SREM', P .. 'backlog:' .. st.backlog, run.id) end
  if FINAL[st.s] then close(run) end
end

-- opening and claiming ------------------------------------------------------------------------

local function make_ready(x, keep)
  x.s, x.due, x.kicks = 'R', now + kick, 0
  if not keep then x.ready = now end
end
local function open_slot(run, i, n)
  local name = i .. '.' .. n
  local x = run.slots[name] or {i = i, n = n, kicks = 0}
  x.s, x.due, x.ready, run.slots[name] = 'R', now + kick, now, x
  run.ready[#run.ready + 1] = x
end
local function sleep(run, i, status, due)
  run.slots[i .. '.0'] = {i = i, n = 0, s = status, due = due, ready = now}
  run.retry_at = due and min(due, run.retry_at or due) or run.retry_at
  return false
end
local function open_items(run, d, h, i)
  d.left, d.out = d.length, d.length
  local suffix = run.id .. ':' .. i
  call('SADD', P .. 'k:' .. run.id, 'q:' .. suffix, 'y:' .. suffix, 'w:' .. suffix)
  for n = 0, min(h.slots, d.length) - 1 do open_slot(run, i, n) end
  return d.length == 0
end
local function open_step(run, d, i) -- true when that alone completes it
  local h = head(run, i)
  d.s = 'READY'
  if h.kind == 'timer' then
    return sleep(run, i, 'T', now + (h.delay or 0))
  elseif h.kind == 'event' then
    local payload = call('HGET', P .. 'v:' .. run.id, '!' .. (h.event or ''))
    if payload then
      put(run.values, i, payload)
      return true
    end
    event(run, 'step_parked', i, 0, 0, h.event)
    return sleep(run, i, 'P', h.delay and now + h.delay)
  elseif h.kind == 'map' then
    if not d.length and h.items_from then d.length = peek(run, h.items_from).out end
    if d.length then return open_items(run, d, h, i) end
  end
  open_slot(run, i, 0)
  return false
end
local function first_retry(run, i)
  local first = call('ZRANGE', P .. 'y:' .. run.id .. ':' .. i, 0, 0, 'WITHSCORES')
  return tonumber(first[2]), first[1]
end
local function rests(run, x) -- put a slot that finds nothing to do aside, until a retry if any
  local h, d = head(run, x.i), peek(run, x.i)
  if not FINAL[d.s] then
    if h.kind ~= 'map' or not d.length then return false end
    if #(x.items or {}) > 0 or d.cursor < d.length then return false end
    local at = d.again and first_retry(run, x.i)
    if at then
      if at > now then x.s, x.due, x.ready = 'T', at, at end
      return at > now
    end
  end
  x.s, x.due = 'D', nil
  return true
end
local function take_items(run, x, d, h, want)
  local at, number
  if d.again then at, number = first_retry(run, x.i) end
  x.lost, x.items = 0, {}
  if at and at <= now then
    call('ZREM', P .. 'y:' .. run.id .. ':' .. x.i, number)
    x.items[1] = tonumber(number)
    return
  end
  local share = max(1, math.floor((d.length - d.cursor) / h.slots))
  local stop = min(d.length, d.cursor + min(max(1, want), share))
  for k = d.cursor, stop - 1 do x.items[#x.items + 1] = k end
  d.cursor = stop
end
local function claim(run, x, token, want)
  local st, h, d = run.st, head(run, x.i), step(run, x.i)
  if h.kind == 'map' and d.length and #(x.items or {}) == 0 then take_items(run, x, d, h, want) end
  x.s, x.due, x.token, x.last, x.started, x.kicks = 'X', now + lease, token, token, now, 0
  st.running = st.running + 1
  if st.s == 'PENDING' then
    st.s, st.started = 'RUNNING', now
    event(run, 'run_started', nil, nil, 0)
  end
  d.started = d.started or now
  if d.s ~= 'RUNNING' then
    d.s, d.retry = 'RUNNING', nil
    event(run, 'step_started', x.i, x.n, (x.attempt or 0) + 1)
  end
  run.claim = x
end
local function go_on(run, h, token, want)
  if run.st.most and run.st.running >= run.st.most then return end
  for k, x in ipairs(run.ready) do
    local other = head(run, x.i)
    if not other.limits and other.queue == h.queue and other.route == h.route then
      table.remove(run.ready, k)
      return claim(run, x, token, want)
    end
  end
end
local function unblock(run)
  local st = run.st
  while st.most and not FINAL[st.s] and st.running + #run.ready < st.most do
    local at = call('LPOP', P .. 'b:' .. run.id)
    if not at then return end
    local x = slot(run, at:match('(%d+)%.(%d+)'))
    -- The room must not go to one that would not use it: nobody else would wake the next.
    if x and x.s == 'B' and not rests(run, x) then
      make_ready(x)
      run.ready[#run.ready + 1] = x
    end
  end
end

-- limits --------------------------------------------------------------------------------------

local function free_at(limit)
  if limit.most then
    local known = call('HMGET', P .. 'clock', 'last', 'hold')
    local last, hold = tonumber(known[1] or nil), tonumber(known[2] or 0)
    -- After an outage holders may read as expired only because nobody could renew their leases.
    if not last or (now - last <= lease / 2 and now >= hold) then
      call('ZREMRANGEBYSCORE', P .. 'lh:' .. limit.key, '-inf', now)
    end
    if call('ZCARD', P .. 'lh:' .. limit.key) >= limit.most then
      -- The more wait, the longer each sleeps: together they look 200 times a second at most.
      return now + min(max(1, call('ZCARD', P .. 'lw:' .. limit.key) / 200), 15)
    end
  end
  if limit.rate then
    local at = tonumber(call('GET', P .. 'ln:' .. limit.key) or 0) - (limit.burst - 1) / limit.rate
    if at > now then
      local asked = P .. 'la:' .. limit.key
      local turn = max(at, tonumber(call('GET', asked) or 0) + 1 / (limit.rate * 8))
      turn = min(turn, max(at, now + 15))
      call('SET', asked, float(turn), 'EX', math.ceil(turn - now) + 60)
      return turn
    end
  end
end
local function take(limits, who)
  local retry_at
  for _, limit in ipairs(limits) do
    local at, queue = free_at(limit), P .. 'lw:' .. limit.key
    retry_at = at and max(retry_at or 0, at) or retry_at
    if at and limit.most then
      -- By rank, then in the order in which they came: both fit into the digits of a score.
      local came = call('HINCRBY', P .. 'clock', 'waiting', 1)
      call('ZADD', queue, 'NX', (limit.rank or 0) * 2 ^ 38 + came, who)
      call('EXPIRE', queue, 3600)
    end
  end
  for _, limit in ipairs(retry_at and {} or limits) do
    local held, next_at = P .. 'lh:' .. limit.key, P .. 'ln:' .. limit.key
    call('ZREM', P .. 'lw:' .. limit.key, who)
    if limit.most then
      call('ZADD', held, now + lease, who)
      call('EXPIRE', held, 3600)
    end
    if limit.rate then
      local at = max(tonumber(call('GET', next_at) or 0), now) + 1 / limit.rate
      call('SET', next_at, float(at), 'EX', math.ceil(at - now) + 60)
    end
  end
  return retry_at
end
local function leave(run, limits, x)
  for _, limit in ipairs(limits or {}) do
    if call('ZREM', P .. 'lh:' .. limit.key, run.id .. '|' .. x.i .. '|' .. x.n) == 1 then
      run.freed[#run.freed + 1] = call('ZPOPMIN', P .. 'lw:' .. limit.key)[1]
    end
  end
end

local function give_back(run, x)
  run.st.running = run.st.running - 1
  x.token, x.last = nil, nil
  leave(run, head(run, x.i).limits, x)
  if FINAL[run.st.s] or FINAL[peek(run, x.i).s] then x.s, x.due = 'D', nil end
end

-- endings -------------------------------------------------------------------------------------

local function end_run(run, status, err, reason)
  local st = run.st
  st.s, st.ended, st.reason = status, now, reason
  if err then put(run.fields, 'error', err) end
  run.ended, run.ready, run.claim = true, {}, nil
  event(run, 'run_' .. status:lower(), nil, nil, 0, reason)
end
local function settle(run, todo, skip) -- todo: {step, how it ended or nil to open it}, a queue
  local st, k = run.st, 1
  while todo[k] do
    local i, status = todo[k][1], todo[k][2]
    local d = step(run, i)
    k = k + 1
    if status or open_step(run, d, i) then
      status = status or 'COMPLETED'
      d.s, d.ended, d.retry = status, now, nil
      st.rem = st.rem - 1
      local tries = (d.attempt or 0) + (status == 'COMPLETED' and 1 or 0)
      event(run, 'step_' .. status:lower(), i, nil, status == 'SKIPPED' and 0 or tries)
      for c in (read(run, 'c' .. i) or ''):gmatch('%d+') do
        local f = follower(run, tonumber(c))
        f.w = f.w - 1
        if status == 'SKIPPED' or skip and (skip == true or skip[c]) then f.k = f.k + 1 end
        if f.w == 0 and not FINAL[f.s] then -- one taken over from an earlier run has ended before
          local h = head(run, tonumber(c))
          local runs = f.k == 0 or h.join == 'any' and f.k < h.need
          todo[#todo + 1] = {tonumber(c), not runs and 'SKIPPED' or nil}
        end
      end
      skip = nil
    end
  end
  if st.rem == 0 then end_run(run, st.failed and 'FAILED' or 'COMPLETED') end
end
local function fail(run, i, err, on_failure)
  local st, d = run.st, step(run, i)
  put(run.fields, 'e' .. i, err)
  st.failures = st.failures + 1
  if on_failure == 'stop' then
    d.s, d.ended, d.retry = 'FAILED', now, nil
    event(run, 'step_failed', i, nil, d.attempt or 0)
    st.failed, st.rem = i, st.rem - 1
    end_run(run, 'FAILED', err)
    return
  end
  if on_failure == 'later' and not st.failed then
    st.failed = i
    put(run.fields, 'error', err)
  end
  d.out = nil -- what a map has done so far is not its output
  if on_failure == 'pass' then put(run.values, i, 'null') end
  settle(run, {{i, 'FAILED'}}, on_failure == 'skip' or on_failure == 'later')
end
local function back_off(run, x, d, h, at)
  x.s, x.due, x.ready, run.retry_at = 'T', at, at, at
  if h.kind ~= 'map' then d.s, d.retry = 'RETRYING', at end
  event(run, 'step_retrying', x.i, x.n, x.attempt or 0, fmt('%.3f', at))
end
local function record_items(run, x, d, h, a) -- a: errors, then, error, done, retries, …
  local i, ended, done = x.i, {}, {}
  local items, tries = P .. 'q:' .. run.id .. ':' .. i, P .. 'w:' .. run.id .. ':' .. i
  local k = a + 5
  for _ = 1, A[a + 3] do
    put(done, A[k], A[k + 1])
    if not ended[tonumber(A[k])] then d.left = d.left - 1 end
    ended[tonumber(A[k])] = true
    if d.again then call('HDEL', tries, A[k]) end
    k = k + 2
  end
  bulk('HSET', items, done)
  d.failed, run.st.failures = (d.failed or 0) + A[a], run.st.failures + A[a]
  for _ = 1, A[a + 4] do
    d.again, ended[tonumber(A[k])] = true, true
    call('HINCRBY', tries, A[k], 1)
    put(run.fields, 'e' .. i, A[k + 2])
    call('ZADD', P .. 'y:' .. run.id .. ':' .. i, now + A[k + 1], fmt('%09d', A[k]))
    k = k + 3
  end
  local left = {}
  for _, number in ipairs(x.items or {}) do
    if not ended[number] then left[#left + 1] = number end
  end
  x.items, x.lost = left, 0
  local at = d.again and first_retry(run, i)
  if A[a + 1] ~= '' then
    d.failed = d.failed + 1
    fail(run, i, A[a + 2], A[a + 1])
  elseif d.left == 0 then
    settle(run, {{i, 'COMPLETED'}})
  elseif #left > 0 or d.cursor < d.length or at and at <= now then
    make_ready(x)
    table.insert(run.ready, 1, x)
  elseif at then
    back_off(run, x, d, h, at)
  end
end
local function record(run, x, d, h, kind, a)
  local i = x.i
  if kind == 'done' then
    local skip
    for c in A[a + 1]:gmatch('%d+') do skip = skip or {}; skip[c] = true end
    put(run.values, i, A[a])
    settle(run, {{i, 'COMPLETED'}}, skip)
  elseif kind == 'sequence' then
    d.out = tonumber(A[a])
    settle(run, {{i, 'COMPLETED'}})
  elseif kind == 'items' then
    record_items(run, x, d, h, a)
  elseif kind == 'expanded' then
    d.length = tonumber(A[a])
    if open_items(run, d, h, i) then settle(run, {{i, 'COMPLETED'}}) end
  elseif kind == 'aborted' then
    end_run(run, 'CANCELLED', nil, A[a])
  elseif kind == 'parked' then
    x.s, x.due = 'P', A[a] ~= '' and now + A[a] or nil
    event(run, 'step_parked', i, x.n, (x.attempt or 0) + 1)
  else
    x.attempt, d.attempt = (x.attempt or 0) + 1, (d.attempt or 0) + 1
    if kind == 'failed' then
      fail(run, i, A[a], A[a + 1])
    else
      x.lost = 0
      put(run.fields, 'e' .. i, A[a])
      back_off(run, x, d, h, now + A[a + 1])
    end
  end
end

-- what callers get ----------------------------------------------------------------------------

local function rows(run, list)
  for _, x in ipairs(run.ready) do
    local h = head(run, x.i)
    list[#list + 1] = {run.id, x.i, x.n, h.queue, h.route, h.task}
  end
  return list
end
local function apply(run) -- save, and wake who waited for a limit: of any run, so after saving
  save(run)
  local list = rows(run, {})
  for _, who in ipairs(run.freed) do
    local other_id, i, n = who:match('^(.*)|(%d+)|(%d+)$')
    local other = load(other_id, i, n)
    local x = other and slot(other, i, n)
    if x and x.s == 'T' and not FINAL[other.st.s] then
      make_ready(x, true)
      other.ready[1] = x
      save(other)
      rows(other, list)
    end
  end
  return list
end
local function outputs(run, keys, must_be_whole) -- {key, length} stands for a sequence
  local values = hmget(P .. 'v:' .. run.id, keys)
  for k = 1, #keys do
    local i = tonumber(keys[k])
    if not values[k] and i >= 0 and read(run, 'h' .. i) then
      local d = peek(run, i)
      local shown = d.out and (not must_be_whole or d.s == 'COMPLETED')
      values[k] = shown and {i, d.out} or false
    end
  end
  return values
end
local function grant(run, x)
  local i, st, h, d = x.i, run.st, head(run, x.i), peek(run, x.i)
  local items, numbers, keys = {}, x.items or {}, {}
  if #numbers > 0 then
    local source = h.items_from and peek(run, h.items_from).out and h.items_from or -1000000000 - i
    local stored = hmget(P .. 'q:' .. run.id .. ':' .. source, numbers)
    local tries = d.again and hmget(P .. 'w:' .. run.id .. ':' .. i, numbers) or {}
    for k = 1, #numbers do items[k] = {numbers[k], stored[k], tonumber(tries[k] or 0)} end
  end
  local told = call('HMGET', run.key, 'b' .. i, 'u' .. i)
  for key in (told[2] or ''):gmatch('[^,]+') do keys[#keys + 1] = key end
  local expand = h.kind == 'map' and not d.length and 1 or 0
  return {i, x.n, x.token, told[1], outputs(run, keys), x.attempt or 0, x.lost or 0,
    float(x.started), float(x.ready), float(st.started or st.created), st.name,
    float(st.deadline) or false, items, d.length or false, expand, x.note or false,
    float(d.started)}
end
local function unsettled(run)
  local list, st = {}, run.st
  if st.notify then list[1] = {'notify', run.id, false, st.parent} end
  if st.publish then list[#list + 1] = {'publish', run.id, false, st.parent or false} end
  return list
end
local function delay_of(queue) return tonumber(call('HGET', P .. 'delays', queue) or 0) end

-- the operations of every step ----------------------------------------------------------------

if op == 'start' then -- slot, token, want
  local i, n, token = tonumber(A[7]), tonumber(A[8]), A[9]
  local run = load(id, i, n)
  if not run then return {'gone'} end
  if FINAL[run.st.s] then return {'ended'} end
  local x, st = slot(run, i, n), run.st
  if not x then return {'gone'} end
  local h = head(run, i)
  if FINAL[peek(run, i).s] or x.s == 'D' then return {'done'} end
  if x.s == 'X' then return x.token == token and {'', grant(run, x)} or {'running'} end
  local due = x.s == 'T' and h.kind ~= 'timer' and x.due <= now
  if x.s ~= 'R' and not due then return {'waiting', float(x.due)} end
  if rests(run, x) then
    save(run)
    return x.due and {'waiting', float(x.due)} or {'done'}
  end
  if st.most and st.running >= st.most then
    x.s, x.due = 'B', nil
    call('RPUSH', P .. 'b:' .. id, i .. '.' .. n)
    save(run)
    return {'limited'}
  end
  local retry_at = h.limits and take(h.limits, id .. '|' .. i .. '|' .. n)
  if retry_at then
    x.s, x.due = 'T', retry_at
    save(run)
    return {'limited', float(retry_at)}
  end
  local released = x.started and x.started >= x.ready
  if x.s == 'R' and x.kicks == 0 and not released and not h.limits then
    -- What a first message took in this queue lately, so that a backlog is not doubled.
    call('HSET', P .. 'delays', h.queue, float(max(now - x.ready, delay_of(h.queue) * 0.9)))
  end
  claim(run, x, token, tonumber(A[10]))
  save(run)
  return {'', grant(run, x)}
end

if op == 'finish' then -- slot, token, next token, want, kind, …
  local i, n, token, next_token = tonumber(A[7]), tonumber(A[8]), A[9], A[10]
  local run = load(id, i, n)
  local x = run and slot(run, i, n)
  if not x then return {0} end
  local st, field = run.st, 'a' .. i .. '.' .. n
  if x.finish == token then
    local answer = decode(read(run, field))
    local y = answer.to and not FINAL[st.s] and slot(run, answer.to.i, answer.to.n)
    local holds = y and y.s == 'X' and y.token == answer.token and not FINAL[peek(run, y.i).s]
    run.ready = answer.ready
    return {1, rows(run, {}), holds and grant(run, y) or false, answer.ended and st.s or false,
      float(answer.retry_at) or false, answer.ended and unsettled(run) or {}}
  end
  local holds = x.s == 'X' and x.token == token
  -- Its lease ran out, but nobody took it since; a limit may have put it off.
  local late = (x.s == 'R' or x.s == 'T' or x.s == 'B') and x.last == token
  if FINAL[st.s] and holds then -- too late to count, but others get its place
    give_back(run, x)
    return {0, apply(run)}
  end
  if FINAL[st.s] or not holds and not late then return {0} end
  local key = A[12] == 'sequence' and i or A[12] == 'expanded' and -1000000000 - i
  -- Stored before, and forgotten if this server has taken over from one that failed since.
  if key and call('HLEN', P .. 'q:' .. id .. ':' .. key) < tonumber(A[13]) then return {0} end
  local h, d = head(run, i), step(run, i)
  if holds then st.running = st.running - 1
  elseif x.s == 'B' then call('LREM', P .. 'b:' .. id, 0, i .. '.' .. n) end
  leave(run, h.limits, x)
  x.token, x.last, x.s, x.due = nil, nil, 'D', nil
  -- A step may have ended while one of its slots ran: another of its items failed for good.
  if not FINAL[d.s] then record(run, x, d, h, A[12], 13) end
  unblock(run)
  if next_token ~= '' and not FINAL[st.s] then go_on(run, h, next_token, tonumber(A[11])) end
  local ready, to = {}, run.claim
  for k, y in ipairs(run.ready) do ready[k] = {i = y.i, n = y.n} end
  x.finish = token
  put(run.fields, field, encode({ready = ready, to = to and {i = to.i, n = to.n},
    token = next_token, ended = run.ended, retry_at = run.retry_at}))
  local list = apply(run)
  return {1, list, to and grant(run, to) or false, run.ended and st.s or false,
    float(run.retry_at) or false, run.ended and unsettled(run) or {}}
end

if op == 'renew' then -- (run, step, slot, token)…
  local lost = {}
  for k = 6, #A, 4 do
    local i, n, token = tonumber(A[k + 1]), tonumber(A[k + 2]), A[k + 3]
    local run = load(A[k], i, n)
    local x = run and slot(run, i, n)
    local holds = x and x.s == 'X' and x.token == token
    if not run or FINAL[run.st.s] then
      put(lost, token, run and run.st.s == 'CANCELLED' and 'cancelled' or 'ended')
    elseif not holds then
      put(lost, token, 'taken')
    elseif FINAL[peek(run, i).s] then
      put(lost, token, 'ended')
    end
    if holds then -- of what has ended too, until it is given back: a thread may still work
      x.due = now + lease
      for _, limit in ipairs(head(run, i).limits or {}) do
        local held = P .. 'lh:' .. limit.key
        call('ZADD', held, 'XX', x.due, run.id .. '|' .. i .. '|' .. n)
        call('EXPIRE', held, 3600)
      end
      save(run)
    end
  end
  return lost
end

if op == 'release' then -- slot, token, delay
  local i, n = tonumber(A[7]), tonumber(A[8])
  local run = load(id, i, n)
  local x = run and slot(run, i, n)
  if not x or x.s ~= 'X' or x.token ~= A[9] then return {} end
  give_back(run, x)
  if x.s == 'X' and tonumber(A[10]) > 0 then
    x.s, x.due = 'T', now + A[10]
  elseif x.s == 'X' then
    make_ready(x, true)
    run.ready[1] = x
  end
  unblock(run)
  return apply(run)
end

-- the others, and what only they need: a call defines every function that stands above its own --

local function lose(run, x, d, h)
  run.st.running = run.st.running - 1
  x.lost, d.lost, x.token = (x.lost or 0) + 1, (d.lost or 0) + 1, nil
  event(run, 'step_lost', x.i, x.n, (x.attempt or 0) + 1, tostring(x.lost))
  if x.lost >= h.lost_most then
    x.s, x.due = 'D', nil
    fail(run, x.i, '#poison', 'stop')
    return
  end
  make_ready(x) -- x.last stays: a late finish counts as long as nobody else began
  run.ready[#run.ready + 1] = x
end
local function wake(run, x, hold)
  if not x.due or x.due > now then return end
  local h, d = head(run, x.i), step(run, x.i)
  if x.s == 'X' and now < hold then
    x.due = hold
    return
  elseif FINAL[d.s] then
    if x.s == 'X' then run.st.running = run.st.running - 1 end
    x.token, x.s, x.due = nil, 'D', nil
  elseif x.s == 'X' then
    lose(run, x, d, h)
  elseif x.s == 'R' then
    x.due, x.kicks = now + kick * 2 ^ min(x.kicks, 6), x.kicks + 1
    run.ready[1] = x
  elseif x.s == 'T' and h.kind == 'timer' then
    x.s, x.due = 'D', nil
    settle(run, {{x.i, 'COMPLETED'}})
  elseif x.s == 'T' then
    make_ready(x, true)
    run.ready[1] = x
  elseif x.s == 'P' then
    x.s, x.due = 'D', nil
    fail(run, x.i, '#event-timeout', h.on_failure)
  end
  unblock(run)
end

local ENDS = {'COMPLETED', 'FAILED', 'CANCELLED'}
local function forget(run_id) -- a run that has ended, also when its keys have expired
  local of = cjson.decode(call('HGET', P .. 'i:of', run_id) or '{"indexes":[]}')
  for _, index in ipairs(of.indexes) do call('ZREM', P .. index, run_id) end
  for _, status in ipairs(ENDS) do
    call('ZREM', P .. 'i:s:' .. status, run_id)
    call('ZREM', P .. 'i:e:' .. status, run_id)
  end
  local named = of.indexes[2] -- see `indexes` in redis_arguments.py
  if named and call('EXISTS', P .. named) == 0 then call('ZREM', P .. 'i:names', named:sub(5)) end
  if of.key and call('GET', P .. of.key) == run_id then call('DEL', P .. of.key) end
  for _, name in ipairs(keys_of(run_id)) do call('UNLINK', name) end
  call('HDEL', P .. 'i:of', run_id)
end
local function forget_ended(before, limit)
  local count = 0
  for _, status in ipairs(ENDS) do
    local index = P .. 'i:e:' .. status
    local old = call('ZRANGEBYSCORE', index, '-inf', '(' .. before, 'LIMIT', 0, limit - count)
    for k = 1, #old do forget(old[k]) end
    count = count + #old
  end
  return count
end
local function store_part(first) -- groups of: key, how many, fields and values
  while A[first] do
    local last = first + 1 + A[first + 1]
    for k = first + 2, last, 1000 do
      call('HSET', P .. A[first], unpack(A, k, min(k + 999, last)))
    end
    if A[first]:sub(1, 2) == 'q:' then call('SADD', P .. 'k:' .. id, A[first]) end
    first = last + 1
  end
end
local function keep_ttl(run, key) -- written after the end, it goes with the run
  if FINAL[run.st.s] then call('PEXPIRE', key, call('PTTL', run.key)) end
end
local function snapshot(run)
  local st, raw = run.st, call('HMGET', run.key, 'j', 'm', 'error')
  return {run.id, raw[1], raw[2], raw[3], st.s, float(st.created), float(st.started) or false,
    float(st.ended) or false, float(st.deadline) or false, st.rem, st.failed or false,
    st.reason or false, st.failures}
end

if op == 'due' then -- limit, queues…
  local clock, base, limit = P .. 'clock', kick, tonumber(A[7])
  local known = call('HMGET', clock, 'last', 'hold')
  local last, hold = tonumber(known[1] or nil), tonumber(known[2] or 0)
  -- After a gap nobody could renew either: no lease ends for one more lease.
  if not last or now - last > lease / 2 then hold = last and now + lease or 0 end
  call('HSET', clock, 'last', float(now), 'hold', float(hold))
  local wakes, looked = {}, 0
  local function wake_one(run_id, i, n)
    local run = load(run_id, i, n)
    if not run then return end
    local st, kind = run.st, i == -2 and 'publish' or i == -3 and 'notify'
    if kind then
      if not st[kind] then return end
      call('ZADD', P .. 'due:' .. st.queue, now + 5, run_id .. '|' .. i .. '|0')
      wakes[#wakes + 1] = {kind, run_id, false, st.parent or false}
      return
    end
    if FINAL[st.s] then return end
    local x = i >= 0 and slot(run, i, n)
    if x then
      run.due[i .. '.' .. n] = nil -- it was taken out
      wake(run, x, hold)
    elseif i == -1 and st.deadline <= now then
      end_run(run, 'FAILED', '#deadline')
    end
    for _, row in ipairs(apply(run)) do wakes[#wakes + 1] = {'kick', row[1], row, false} end
    for _, row in ipairs(run.ended and unsettled(run) or {}) do wakes[#wakes + 1] = row end
  end
  for k = 8, #A do
    local queue = P .. 'due:' .. A[k]
    kick = max(base, 3 * delay_of(A[k]))
    while #wakes < limit and looked < 1000 do
      local members = call('ZRANGEBYSCORE', queue, '-inf', now, 'LIMIT', 0, limit - #wakes)
      if #members == 0 then break end
      looked = looked + #members
      for _, member in ipairs(members) do
        local run_id, i, n = member:match('^(.*)|(%-?%d+)|(%d+)$')
        call('ZREM', queue, member)
        wake_one(run_id, tonumber(i), tonumber(n))
      end
    end
  end
  return wakes
end

if op == 'settle' then -- kind
  local run, step_of = load(id), {publish = -2, notify = -3}
  if not run or not FINAL[run.st.s] then return end
  call('ZREM', P .. 'due:' .. run.st.queue, id .. '|' .. step_of[A[7]] .. '|0')
  run.st[A[7]] = nil
  save(run)
end

if op == 'cancel' then -- reason, a token of the call: a repeated one gets the same answer
  local run = load(id)
  if not run then return 0 end
  if FINAL[run.st.s] then return run.st.by == A[8] and 1 or 0 end
  run.st.by = A[8]
  end_run(run, 'CANCELLED', nil, A[7])
  save(run)
  return 1
end

if op == 'resume' then -- slot, note
  local run = load(id, A[7], A[8])
  local x = run and slot(run, A[7], A[8])
  if not x or FINAL[run.st.s] or x.s ~= 'P' then return {} end
  x.note = A[9]
  make_ready(x)
  run.ready[1] = x
  return apply(run)
end

if op == 'send_event' then -- name, payload
  local run = load(id)
  if not run or FINAL[run.st.s] then return end
  event(run, 'event_received', nil, nil, 0, A[7])
  call('HSET', P .. 'v:' .. id, '!' .. A[7], A[8])
  for i in (read(run, 'E' .. A[7]) or ''):gmatch('%d+') do
    local x = slot(run, i, 0)
    if x and x.s == 'P' then
      x.s, x.due = 'D', nil
      put(run.values, i, A[8])
      settle(run, {{tonumber(i), 'COMPLETED'}})
    end
  end
  return apply(run)
end

if op == 'part' then -- groups; a run is not there before `create` has sealed it
  if call('HEXISTS', P .. 'r:' .. id, 'r') == 1 then return 0 end
  store_part(7)
  expire(keys_of(id), 3600000)
  return 1
end

if op == 'create' then -- header, setup, groups…
  local set, key = cjson.decode(A[8]), P .. 'r:' .. id
  local run = load(id)
  if run then
    for _, field in ipairs(FINAL[run.st.s] and {} or call('HKEYS', key)) do
      local i, n = field:match('^x(%d+)%.(%d+)$')
      local x = i and slot(run, i, n)
      if x and x.s == 'R' then run.ready[#run.ready + 1] = x end
    end
    local held = set.start and not FINAL[run.st.s] and slot(run, set.start, 0)
    if held and held.s == 'X' and held.token == set.token then return {'', {}, grant(run, held)} end
    table.sort(run.ready, function(x, y) return x.i < y.i or x.i == y.i and x.n < y.n end)
    return {'', rows(run, {})}
  end
  local refused
  local other = set.key and call('GET', P .. 'key:' .. set.key)
  local holder = other and load(other)
  if holder and not FINAL[holder.st.s] then
    refused = {'key', other}
  elseif set.tick and call('EXISTS', P .. 'tick:' .. set.tick) == 1 then
    refused = {'tick'}
  elseif set.backlog and call('SCARD', P .. 'backlog:' .. set.backlog) >= set.backlog_most then
    refused = {'backlog'}
  end
  if refused then
    call('UNLINK', unpack(keys_of(id)))
    return refused
  end
  forget_ended(float(now - A[5] / 1000), 2) -- two for each new one: what expired never piles up
  store_part(9)
  if set.last >= 0 and call('HEXISTS', key, 'h0') + call('HEXISTS', key, 'h' .. set.last) < 2 then
    return {'expired'}
  end
  local keys = keys_of(id)
  for k = 1, #keys do call('PERSIST', keys[k]) end
  local st = {s = 'PENDING', rem = set.rem, created = now, running = 0, failures = 0,
    deadline = set.timeout and now + set.timeout, most = set.most, publish = set.publish,
    parent = set.parent, notify = set.parent and true, queue = set.queue,
    name = set.key or id, named = set.key and true, backlog = set.backlog}
  local of = {indexes = set.indexes, key = set.key and 'key:' .. set.key}
  run = blank(id, st)
  put(run.fields, 'j', A[7])
  for _, index in ipairs(set.indexes) do call('ZADD', P .. index, now, id) end
  call('ZADD', P .. 'i:names', 0, set.indexes[2]:sub(5))
  call('HSET', P .. 'i:of', id, cjson.encode(of))
  if of.key then call('SET', P .. of.key, id) end
  if set.tick then call('SET', P .. 'tick:' .. set.tick, id, 'PX', max(A[5] + 0, 604800000)) end
  if set.backlog then call('SADD', P .. 'backlog:' .. set.backlog, id) end
  if st.deadline then call('ZADD', P .. 'due:' .. st.queue, st.deadline, id .. '|-1|0') end
  kick = max(kick, 3 * delay_of(st.queue))
  event(run, 'run_created', nil, nil, 0)
  local todo = {}
  for k, i in ipairs(set.open) do
    local f, h = step(run, i), head(run, i)
    todo[k] = {i, f.k > 0 and not (h.join == 'any' and f.k < h.need) and 'SKIPPED' or nil}
  end
  settle(run, todo)
  local first = set.start and slot(run, set.start, 0)
  if first then
    run.ready = {}
    claim(run, first, set.token, 1)
  end
  return {'', apply(run), first and grant(run, first)}
end

if op == 'put_items' then -- slot, token, key, first index, values…
  local i, n = tonumber(A[7]), tonumber(A[8])
  local run = load(id, i, n)
  local x = run and not FINAL[run.st.s] and slot(run, i, n)
  if not x or x.token ~= A[9] then return 0 end
  local suffix, fields = 'q:' .. id .. ':' .. A[10], {}
  for k = 12, #A do put(fields, A[11] + k - 12, A[k]) end
  call('SADD', P .. 'k:' .. id, suffix)
  bulk('HSET', P .. suffix, fields)
  return 1
end

if op == 'values' then -- keys…
  local run = load(id)
  return run and outputs(run, {unpack(A, 7)}, true) or false
end

if op == 'plan' then return load(id) and call('HGET', P .. 'v:' .. id, 'plan') end

if op == 'get' then -- first and last step wanted
  local run = load(id)
  if not run then return false end
  local steps, first, last = {}, tonumber(A[7]), tonumber(A[8])
  for i = first, last do
    local field = 'd' .. i
    local raw = call('HMGET', run.key, field, 'h' .. i, 'e' .. i)
    if not raw[2] then break end
    run.raw[field], run.raw['h' .. i] = raw[1], raw[2]
    local d = (raw[1] or raw[2]:find('"done"', 1, true)) and peek(run, i)
    if d and (d.started or d.ended) then
      local progress = call('HGET', P .. 'p:' .. id, i)
      local done = d.length and d.length - (d.left or 0)
      steps[#steps + 1] = {i, raw[2], d.s, float(d.started) or false, float(d.ended) or false,
        d.attempt or 0, d.lost or 0, raw[3], float(d.retry) or false, d.length or false, done or 0,
        d.failed or 0, progress}
    end
  end
  return {snapshot(run), steps}
end

if op == 'slots' then -- so many at the most, how many limits, limits…, steps…
  local run, found, held, most = load(id), {}, {}, tonumber(A[7])
  for k = 9, 8 + A[8] do
    local holders = call('ZRANGE', P .. 'lh:' .. A[k], 0, 999)
    table.sort(holders) -- the oldest runs first, and not who was renewed longest ago
    held[k - 8] = {call('ZCARD', P .. 'lh:' .. A[k]), {unpack(holders, 1, 10)}}
  end
  for k = 9 + A[8], run and not FINAL[run.st.s] and #A or 0 do
    local i, fields = tonumber(A[k]), {}
    local d = call('HEXISTS', run.key, 'h' .. i) == 1 and peek(run, i)
    local count = d and not FINAL[d.s] and max(1, min(head(run, i).slots or 1, d.length or 1)) or 0
    for n = 0, count - 1 do fields[n + 1] = 'x' .. i .. '.' .. n end
    for n, raw in ipairs(hmget(run.key, fields)) do
      local x = raw and decode(raw)
      if x and x.s ~= 'D' and #found < most then
        found[#found + 1] = {i, n - 1, x.s, float(x.due) or false, float(x.ready),
          float(x.started) or false, x.token or false, x.lost or 0, x.kicks or 0}
      end
    end
    if #found >= most then break end
  end
  return {NOW, found, held}
end

if op == 'ending' then -- keys…
  local run = load(id)
  if not run then return 'gone' end
  return FINAL[run.st.s] and {snapshot(run), outputs(run, {unpack(A, 7)}, true)} or false
end

-- Lists and counts. What is walked is in order of age: the shortest index of what is asked for, or
-- those of the names that begin as asked for, merged; the others are asked about a hundred runs at
-- once. A call looks at some thousand runs and says where to go on, however many are stored; few that
-- are found by their ends are put in order.
if op == 'list_runs' or op == 'count_runs' then
  -- (id: the last one seen or '') its time or '', since, until, limit, ended since, ended until (''
  -- where neither is asked for), status, beginning of the name, indexes…
  local LOOKED, SORTED, BATCH, NAMES = 1000, 2000, 100, 1000
  forget_ended(float(now - A[5] / 1000), 100) -- what has expired does not count
  local at, since, till, limit, search = A[7], A[8], A[9], tonumber(A[10]), A[14]
  local counts, always = op == 'count_runs', since == '-inf' and till == 'inf'
  local walked, fewest -- keys of indexes, and how many runs stand there
  for k = 15, #A do
    local count = call('ZCOUNT', P .. A[k], since, '(' .. till)
    if not fewest or count < fewest then walked, fewest = {P .. A[k]}, count end
  end
  local ends, ended, named, by_name = {}, 0, nil, false
  if A[11] ~= '' then
    for k, status in ipairs(A[13] ~= '' and {A[13]} or ENDS) do
      ends[k] = P .. 'i:e:' .. status
      ended = ended + call('ZCOUNT', ends[k], A[11], '(' .. A[12])
    end
  end
  if search ~= '' then
    local from, to, most = '[' .. search, '[' .. search .. '\255', NAMES
    local names = call('ZRANGEBYLEX', P .. 'i:names', from, to, 'LIMIT', 0, most + 1)
    named = #names <= most and 0
    for k = 1, named and #names or 0 do
      names[k] = P .. 'i:n:' .. names[k]
      named = named + call('ZCOUNT', names[k], since, '(' .. till)
    end
    if named and named <= fewest then walked, fewest, by_name = names, named, true end
  end

  if counts then -- what one index, or several that are of one kind, know by themselves
    local alone, sum = #A == 15 and (A[15] == 'i:all' or A[13] ~= ''), nil
    if search ~= '' then
      sum = #ends == 0 and A[15] == 'i:all' and named
    elseif #ends > 0 then
      sum = always and alone and ended
    elseif #A == 15 then
      sum = fewest
    elseif always and fewest <= 20 * LOOKED then
      local both = {'ZINTERCARD', #A - 14} -- Redis 7
      for k = 15, #A do both[#both + 1] = P .. A[k] end
      if limit < fewest then put(both, 'LIMIT', limit) end
      sum = redis.pcall(unpack(both))
      sum = type(sum) == 'number' and sum
    end
    if sum then return {min(sum, limit), 1, '', ''} end
  end

  local by_end = #ends > 0 and ended <= min(SORTED, fewest)
  if by_end then walked, by_name = {}, false end
  -- What an index says of a run stands between the brackets of a list, so no other text does.
  local beginning = search ~= '' and not by_name
    and cjson.encode({'i:all', 'i:n:' .. search}):sub(1, -3)
  local own = not by_name and walked[1]
  local function matching(ids) -- by the number of each
    local kept = {}
    for k = 1, #ids do kept[k] = true end
    for j = 15, #A do
      if P .. A[j] ~= own and A[j] ~= 'i:all' then
        local scores = call('ZMSCORE', P .. A[j], unpack(ids))
        for k = 1, #ids do kept[k] = kept[k] and scores[k] end
      end
    end
    if #ends > 0 and not by_end then
      local low, high, found = tonumber(A[11]), tonumber(A[12]), {}
      for _, key in ipairs(ends) do
        local scores = call('ZMSCORE', key, unpack(ids))
        for k = 1, #ids do
          local time = scores[k] and tonumber(scores[k])
          found[k] = found[k] or time and time >= low and time < high
        end
      end
      for k = 1, #ids do kept[k] = kept[k] and found[k] end
    end
    if beginning then
      local told = call('HMGET', P .. 'i:of', unpack(ids))
      for k = 1, #ids do kept[k] = kept[k] and told[k] and told[k]:find(beginning, 1, true) end
    end
    return kept
  end

  -- By bytes, as Redis orders what has the same score; `<` asks the server's locale.
  local function is_less(one, other)
    local k = 1
    while one:byte(k) and one:byte(k) == other:byte(k) do k = k + 1 end
    return (one:byte(k) or -1) < (other:byte(k) or -1)
  end
  local before, skip, last, made, streams = tonumber(at), 0, 0, nil, {}
  local function stretch(key) -- the ranks between which to walk
    local first
    if before then
      local tied = call('ZREVRANGEBYSCORE', key, at, at)
      first = call('ZCOUNT', key, '(' .. at, '+inf')
      for k = 1, #tied do
        if is_less(tied[k], id) then break end
        first = first + 1
      end
    else
      -- What came later than the ends asked for need not be looked at; see SQL's.
      local latest = #ends > 0 and float(min(tonumber(till), tonumber(A[12]) + 60)) or till
      first = call('ZCOUNT', key, latest, '+inf')
    end
    return first, call('ZCOUNT', key, since, '+inf')
  end
  local function page(key, first, stop, ...)
    return first < stop and call('ZREVRANGE', key, first, stop - 1, ...) or {}
  end
  local function advance(stream)
    stream.k = stream.k + 2
    if not stream.page[stream.k] then
      local stop = min(stream.skip + stream.chunk, stream.last)
      stream.page = page(stream.key, stream.skip, stop, 'WITHSCORES')
      stream.k, stream.skip = 1, stop
    end
    stream.member, stream.time = stream.page[stream.k], tonumber(stream.page[stream.k + 1])
  end
  if by_end then
    local earliest, latest, times = tonumber(since), tonumber(till), {}
    made = {}
    for _, key in ipairs(ends) do
      local members = call('ZREVRANGEBYSCORE', key, '(' .. A[12], A[11])
      for start = 1, #members, 100 do
        local ids = {unpack(members, start, min(start + 99, #members))}
        local scores = call('ZMSCORE', P .. 'i:all', unpack(ids))
        for k = 1, #ids do
          local time, member = scores[k] and tonumber(scores[k]), ids[k]
          if time and time >= earliest and time < latest
              and (not before or time < before or time == before and is_less(member, id)) then
            made[#made + 1], times[member] = member, time
          end
        end
      end
    end
    table.sort(made, function(x, y)
      return times[x] > times[y] or times[x] == times[y] and is_less(y, x)
    end)
  elseif #walked == 1 then
    skip, last = stretch(walked[1])
  else
    local chunk = max(2, math.floor(BATCH / #walked))
    for k = 1, #walked do
      local first, stop = stretch(walked[k])
      streams[k] = {key = walked[k], chunk = chunk, skip = first, last = stop, page = {}, k = -1}
      advance(streams[k])
    end
  end
  local function following() -- the next runs; at the end fewer than BATCH
    local ids = {}
    if made then
      ids = {unpack(made, skip + 1, min(skip + BATCH, #made))}
    elseif #walked == 1 then
      ids = page(walked[1], skip, min(skip + BATCH, last))
    end
    skip = skip + BATCH
    while #streams > 0 and #ids < BATCH do
      local newest = streams[1]
      for k = 2, #streams do
        local stream = streams[k]
        if stream.member and (not newest.member or stream.time > newest.time
            or stream.time == newest.time and is_less(newest.member, stream.member)) then
          newest = stream
        end
      end
      if not newest.member then break end
      ids[#ids + 1] = newest.member
      advance(newest)
    end
    return ids
  end

  local found, count, gone, looked, done = {}, 0, {}, 0, false
  local function show(member)
    local run = load(member)
    if run then found[#found + 1] = snapshot(run) else gone[#gone + 1] = member end
    return run
  end
  while not done and looked < LOOKED and count < limit do
    local ids = following()
    local kept = #ids > 0 and matching(ids)
    done, looked = #ids < BATCH, looked + #ids * (1 + #streams / 100)
    for k = 1, #ids do
      if count == limit then
        done = false
        break
      end
      id = ids[k]
      if kept[k] and (counts or show(id)) then count = count + 1 end
    end
  end
  at = call('ZSCORE', P .. 'i:all', id) or at
  for k = 1, #gone do -- their keys expired
    for _, key in ipairs(walked) do call('ZREM', key, gone[k]) end
    forget(gone[k])
  end
  return {counts and count or found, done and 1 or 0, id, at}
end

if op == 'count_ended' then -- edges…
  local counts = {}
  for k = 7, #A - 1 do
    for _, status in ipairs(ENDS) do
      counts[#counts + 1] = call('ZCOUNT', P .. 'i:e:' .. status, A[k], '(' .. A[k + 1])
    end
  end
  return counts
end

if op == 'ended_last' then -- how many: ids and times in turns, of each status
  local last = {}
  for _, status in ipairs(ENDS) do
    for _, part in ipairs(call('ZREVRANGE', P .. 'i:e:' .. status, 0, A[7] - 1, 'WITHSCORES')) do
      last[#last + 1] = part
    end
  end
  return last
end

if op == 'step_rows' then -- the most steps of a run, (from there on) run ids…
  local runs, looked = {}, 0
  for k = 8, #A do
    if looked > 1000 then break end
    local run = load(A[k])
    local told = run and cjson.decode(call('HGET', run.key, 'j'))
    local total, steps = told and told.total or 0, {}
    for i = 0, total <= tonumber(A[7]) and total - 1 or -1 do
      local raw = call('HMGET', run.key, 'd' .. i, 'h' .. i)
      local d = raw[1] and decode(raw[1])
      if d and d.started and d.ended then
        local h = cjson.decode(raw[2])
        steps[#steps + 1] = {h.name, h.task, float(d.started), float(d.ended), d.attempt or 0,
          d.s == 'FAILED' and 1 or 0}
      end
    end
    runs[#runs + 1], looked = {total, told and told.name or '', steps}, looked + total
  end
  return runs
end

if op == 'delete' then
  local run = load(id)
  if not run or not FINAL[run.st.s] then return 0 end
  forget(id)
  return 1
end

if op == 'purge' then return forget_ended(A[7], A[8]) end -- before, limit

if op == 'note_progress' then -- step, progress
  local run, key = load(id), P .. 'p:' .. id
  if not run then return end
  call('HSET', key, A[7], A[8])
  keep_ttl(run, key)
end

if op == 'append_log' then -- lines…
  local run, key = load(id), P .. 'l:' .. id
  if not run then return end
  call('RPUSH', key, unpack(A, 7))
  call('LTRIM', key, -10000, -1)
  call('HINCRBY', run.key, 'L', #A - 6)
  keep_ttl(run, key)
end

if op == 'log' then -- after, limit
  local key, after = P .. 'l:' .. id, tonumber(A[7])
  local first = tonumber(call('HGET', P .. 'r:' .. id, 'L') or 0) - call('LLEN', key)
  local start = max(after, first)
  return {start, call('LRANGE', key, start - first, start - first + A[8] - 1)}
end

if op == 'ended_among' then -- (from the id on) run ids…
  local found = {}
  for k = 6, #A do
    local run = load(A[k])
    if not run then put(found, A[k], 'CANCELLED') end
    if run and FINAL[run.st.s] then put(found, A[k], run.st.s) end
  end
  return found
end

if op == 'announce' then -- (id: the worker) record, for how long
  local alive, records = P .. 'workers', P .. 'worker'
  for _, gone in ipairs(call('ZRANGEBYSCORE', alive, '-inf', now)) do
    call('ZREM', alive, gone)
    call('HDEL', records, gone)
  end
  call('ZADD', alive, now + A[8], id)
  call('HSET', records, id, A[7])
end

if op == 'withdraw' then -- (id: the worker)
  call('ZREM', P .. 'workers', id)
  call('HDEL', P .. 'worker', id)
end

if op == 'workers' then
  return hmget(P .. 'worker', call('ZRANGEBYSCORE', P .. 'workers', '(' .. float(now), '+inf'))
end

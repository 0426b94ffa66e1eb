-- The script of wrk: sends the requests of a load, and counts only responses that match an open request as correct.
-- Arguments: the file with users and tokens, the kind of request, the mean pause in ms, and a name for this run.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } timespec_t; int clock_gettime(int, timespec_t *);")
local clock = ffi.new("timespec_t")

local LISTED = 50
local BROWSERS = 20
local WRITES = { { "list", 30 }, { "get", 40 }, { "patch", 80 }, { "create", 100 } }
local MIX = { { "list", 70 }, { "get", 90 }, { "patch", 98 }, { "create", 100 } }
local OVERDUE_MS = 3000

local accounts, kind, run
local number, is_first_request = 0, true
local threads = {}

-- By the name of a user: the ETag of the list; and the reverse.
local etags, owners = {}, {}

-- By the key of an open request: the times at which the same request was sent again.
local repeated = {}

-- Read when the run is over; `open` has the time at which each request without a response was sent, by its key.
open, times, correct, wrong, first_failure = {}, {}, 0, 0, ""

local function now_ms()
  ffi.C.clock_gettime(1, clock)
  return tonumber(clock.s) * 1000 + tonumber(clock.ns) / 1e6
end

local function head(method, user)
  local host = wrk.host .. ":" .. wrk.port
  local rest = " HTTP/1.1\r\nHost: " .. host .. "\r\nAuthorization: Bearer " .. user.token .. "\r\n"
  return method .. " /api/" .. user.name .. "/tasks", rest
end

local function with_body(method, user, path, title)
  local first, rest = head(method, user)
  local body = '{"title":"' .. title .. '"}'
  return first .. path .. rest .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local function without_body(user, path, header)
  local first, rest = head("GET", user)
  return first .. path .. rest .. (header or "") .. "\r\n"
end

-- Each function returns the key of the expected response, and the request.
local requests = {}

function requests.list()
  local user = accounts.users[math.random(#accounts.users)]
  return "list " .. user.name, without_body(user, "")
end

-- What a browser does: it sends the ETag of the list that it has. There are few, so that nearly all have one.
function requests.unchanged()
  local user = accounts.users[math.random(BROWSERS)]
  local etag = etags[user.name]
  if not etag then
    return "list " .. user.name, without_body(user, "")
  end
  return "unchanged " .. user.name, without_body(user, "", "If-None-Match: " .. etag .. "\r\n")
end

function requests.get()
  local id = math.random(#accounts.users * LISTED)
  return "task " .. id, without_body(accounts.users[(id - 1) % #accounts.users + 1], "/" .. id)
end

function requests.patch()
  local id, title = math.random(#accounts.users * LISTED), "Patched " .. run .. " " .. number
  local user = accounts.users[(id - 1) % #accounts.users + 1]
  return "task " .. id .. " " .. title, with_body("PATCH", user, "/" .. id, title)
end

function requests.create()
  local user, title = accounts.writers[math.random(#accounts.writers)], "Created " .. run .. " " .. number
  return "new " .. user.name .. " " .. title, with_body("POST", user, "", title)
end

function requests.constant()
  return "constant " .. number, without_body(accounts.users[1], "")
end

local function any_of(shares)
  local chance = math.random(100)
  for _, share in ipairs(shares) do
    if chance <= share[2] then
      return requests[share[1]]()
    end
  end
end

function requests.mix()
  return any_of(MIX)
end

-- A mix in which most requests are writes.
function requests.writes()
  return any_of(WRITES)
end

local function count(body, text)
  local occurrences, place = 0, body:find(text, 1, true)
  while place do
    occurrences, place = occurrences + 1, body:find(text, place + #text, true)
  end
  return occurrences
end

-- Returns the key of a response, or a false value if no request can have such a response.
local function key_of(status, headers, body)
  -- Names of headers have no case, and servers write them in either.
  local etag = headers["ETag"] or headers["etag"]
  if status == 304 then
    return owners[etag] and "unchanged " .. owners[etag]
  end
  if kind == "constant" then
    return status == 200 and body == '{"status":"ok"}' and next(open)
  end
  local member, name = body:match('("user_id":%s*"([^"]*)")')
  if status == 200 and body:byte() == 91 then
    if not (member and count(body, '"id":') == LISTED and count(body, member) == LISTED) then
      return false
    end
    if kind == "unchanged" then
      etags[name], owners[etag] = etag, name
    end
    return "list " .. name
  end
  local id, title = tonumber(body:match('"id":%s*(%d+)')), body:match('"title":%s*"([^"]*)"')
  if status == 200 and id and accounts.users[(id - 1) % #accounts.users + 1].name == name then
    local patched = "task " .. id .. " " .. title
    return open[patched] and patched or "task " .. id
  end
  return status == 201 and name and "new " .. name .. " " .. title
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  accounts, kind, run = dofile(args[1]), args[2], args[4]
  local pause = tonumber(args[3])
  math.randomseed(now_ms())
  if pause > 0 then
    -- Independent clients pause with this distribution, so the load is even from the beginning.
    function delay()
      return -math.log(1 - math.random()) * pause
    end
  end
end

function request()
  number = number + 1
  local key, text = requests[kind]()
  -- wrk calls this function once before the run to inspect a request, which it does not send.
  if not is_first_request then
    if open[key] then
      repeated[key] = repeated[key] or {}
      table.insert(repeated[key], now_ms())
    else
      open[key] = now_ms()
    end
  end
  is_first_request = false
  return text
end

function response(status, headers, body)
  local key = key_of(status, headers, body)
  local sent = key and open[key]
  if not sent then
    wrong, first_failure = wrong + 1, first_failure == "" and status .. " " .. body:sub(1, 200) or first_failure
    return
  end
  open[key] = repeated[key] and table.remove(repeated[key], 1)
  correct = correct + 1
  local tenths = math.floor((now_ms() - sent) * 10)
  times[tenths] = (times[tenths] or 0) + 1
end

function done(summary)
  local thread, latencies, overdue = threads[1], {}, 0
  for _, sent in pairs(thread:get("open")) do
    overdue = overdue + (now_ms() - sent > OVERDUE_MS and 1 or 0)
  end
  for tenths, frequency in pairs(thread:get("times")) do
    table.insert(latencies, string.format("[%d,%d]", tenths, frequency))
  end
  -- A request with a wrong response or a broken connection is still open, and was counted already.
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write
  local wrong_responses = thread:get("wrong")
  print(string.format(
    'result {"correct":%d,"seconds":%f,"wrong":%d,"lost":%d,"overdue":%d,"tenths":[%s]}',
    thread:get("correct"), summary.duration / 1e6, wrong_responses, lost, math.max(0, overdue - wrong_responses - lost),
    table.concat(latencies, ",")
  ))
  print("failure " .. thread:get("first_failure"):gsub("[\r\n]", " "))
end

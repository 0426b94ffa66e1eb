-- Asks wrk's questions, and takes for an answer only what answers a question that is open.
-- Arguments: the file with users and tokens, the kind of question, the mean pause in ms, a name for this run.

local ffi = require("ffi")
ffi.cdef("typedef struct { long s; long ns; } moment_t; int clock_gettime(int, moment_t *);")
local clock = ffi.new("moment_t")

local LISTED = 50
local MIX = { { "list", 70 }, { "get", 90 }, { "patch", 98 }, { "create", 100 } }
local OVERDUE_MS = 3000

local people, kind, run, writers
local number, checked = 0, false
local threads = {}

-- The moments at which a question that is open was asked again.
local later = {}

-- These are read when the run is over; `open` has the moment at which each question was asked that is not answered.
open, times, right, wrong, broken = {}, {}, 0, 0, ""

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

local function plain(user, path)
  local first, rest = head("GET", user)
  return first .. path .. rest .. "\r\n"
end

-- Each gives what names its answer, and the request.
local ask = {}

function ask.list()
  local user = people.users[math.random(#people.users)]
  return "list " .. user.name, plain(user, "")
end

function ask.get()
  local id = math.random(#people.users * LISTED)
  return "task " .. id, plain(people.users[(id - 1) % #people.users + 1], "/" .. id)
end

function ask.patch()
  local id, title = math.random(#people.users * LISTED), "Patched " .. run .. " " .. number
  local user = people.users[(id - 1) % #people.users + 1]
  return "task " .. id .. " " .. title, with_body("PATCH", user, "/" .. id, title)
end

function ask.create()
  local user, title = people.writers[math.random(#people.writers)], "Created " .. run .. " " .. number
  return "new " .. user.name .. " " .. title, with_body("POST", user, "", title)
end

function ask.constant()
  return "constant " .. number, plain(people.users[1], "")
end

function ask.mix()
  local chance = math.random(100)
  for _, one in ipairs(MIX) do
    if chance <= one[2] then
      return ask[one[1]]()
    end
  end
end

local function count(body, text)
  local found, place = 0, body:find(text, 1, true)
  while place do
    found, place = found + 1, body:find(text, place + #text, true)
  end
  return found
end

-- Gives what names the answer, or nothing where it answers nothing that could be asked.
local function named(status, body)
  if kind == "constant" then
    return status == 200 and body == '{"status":"ok"}' and next(open)
  end
  local member, name = body:match('("user_id":%s*"([^"]*)")')
  if status == 200 and body:byte() == 91 then
    return member and count(body, '"id":') == LISTED and count(body, member) == LISTED and "list " .. name
  end
  local id, title = tonumber(body:match('"id":%s*(%d+)')), body:match('"title":%s*"([^"]*)"')
  if status == 200 and id and people.users[(id - 1) % #people.users + 1].name == name then
    local patched = "task " .. id .. " " .. title
    return open[patched] and patched or "task " .. id
  end
  return status == 201 and name and "new " .. name .. " " .. title
end

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  people, kind, run = dofile(args[1]), args[2], args[4]
  local pause = tonumber(args[3])
  math.randomseed(now_ms())
  if pause > 0 then
    -- Those who do not know of each other ask like this: the load is even from the first moment on.
    function delay()
      return -math.log(1 - math.random()) * pause
    end
  end
end

function request()
  number = number + 1
  local name, text = ask[kind]()
  -- wrk asks once only to see what a request looks like, and sends nothing.
  if checked then
    if open[name] then
      later[name] = later[name] or {}
      table.insert(later[name], now_ms())
    else
      open[name] = now_ms()
    end
  end
  checked = true
  return text
end

function response(status, _, body)
  local name = named(status, body)
  local asked = name and open[name]
  if not asked then
    wrong, broken = wrong + 1, broken == "" and status .. " " .. body:sub(1, 200) or broken
    return
  end
  open[name] = later[name] and table.remove(later[name], 1)
  right = right + 1
  local tenths = math.floor((now_ms() - asked) * 10)
  times[tenths] = (times[tenths] or 0) + 1
end

function done(summary)
  local thread, answered, overdue = threads[1], {}, 0
  for _, asked in pairs(thread:get("open")) do
    overdue = overdue + (now_ms() - asked > OVERDUE_MS and 1 or 0)
  end
  for tenths, times_seen in pairs(thread:get("times")) do
    table.insert(answered, string.format("[%d,%d]", tenths, times_seen))
  end
  -- A question whose answer was wrong or whose connection broke is open too, and was counted already.
  local errors = summary.errors
  local lost = errors.connect + errors.read + errors.write
  local refused = thread:get("wrong")
  print(string.format(
    'found {"right":%d,"seconds":%f,"wrong":%d,"lost":%d,"overdue":%d,"tenths":[%s]}',
    thread:get("right"), summary.duration / 1e6, refused, lost, math.max(0, overdue - refused - lost),
    table.concat(answered, ",")
  ))
  print("broken " .. thread:get("broken"):gsub("[\r\n]", " "))
end

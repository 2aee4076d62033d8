-- Coroutines, strings and tables; LuaJIT compiles the loops.
local function exists(name)
    local file = io.open(name)
    return file and file:close()
end

local function worker(seed)
    return coroutine.wrap(function()
        local sum, text = seed, {}
        for step = 1, 40 do
            for i = 1, 200 do sum = (sum * 31 + i * step) % 1000003 end
            text[#text + 1] = ("%d:%s"):format(sum, ("x"):rep(sum % 50))
            coroutine.yield(false)
        end
        return table.concat(text, ",")
    end)
end

local file = io.open("/proc/self/stat")
print("ready " .. file:read("*n"))
file:close()
io.stdout:flush()
local first
while not (first and exists(os.getenv("STOP"))) do
    local running, texts = {}, {}
    for seed = 1, 20 do running[seed] = worker(seed) end
    while #texts < 20 do
        for seed = 1, 20 do
            local text = running[seed] and running[seed]()
            if text then texts[#texts + 1], running[seed] = text, nil end
        end
    end
    local sum, all = 7, table.concat(texts)
    for i = 1, #all do sum = (sum * 33 + all:byte(i)) % 4294967291 end
    local ok, message = pcall(function() error(("e"):rep(100)) end)
    local result = ("%.0f %d %d"):format(sum, #all, #message - #message % 100)
    assert(not ok and (first == nil or first == result), "survive: " .. result)
    first = result
end
print("result " .. first)
os.exit(7)

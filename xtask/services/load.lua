-- wrk's requests: the paths that PATHS names, in turn, and a line of numbers at the end.
local paths = {}
for path in os.getenv("PATHS"):gmatch("%S+") do paths[#paths + 1] = path end
local next_path = 0

function request()
  next_path = next_path % #paths + 1
  return wrk.format("GET", paths[next_path], { ["Accept-Encoding"] = "gzip" })
end

function done(summary)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("load requests %d microseconds %d failed %d\n", summary.requests, summary.duration, failed))
end

-- Pipelining and a report that a program can read.
-- wrk -s wrk.lua URL -- DEPTH [CLOSE]

function init(args)
   local depth = tonumber(args[1] or "1")
   if args[2] == "close" then
      wrk.headers["Connection"] = "close"
   end
   -- wrk asks for the request once and keeps the text, unless a script defines request(), which is then called
   -- for each one.  So the whole pipeline is put where wrk finds that one text.
   local once = wrk.format()
   wrk.format = function()
      return string.rep(once, depth)
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'report {"requests": %d, "seconds": %.6f, "bytes": %d, "errors": ' ..
      '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration / 1e6, summary.bytes,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end

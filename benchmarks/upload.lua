-- A POST of a file's content and a report that a program can read.
-- wrk -s upload.lua URL -- FILE CONTENT-TYPE

function init(args)
   local file = io.open(args[1], "rb")
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   wrk.headers["Content-Type"] = args[2]
   -- wrk asks for the request once and keeps the text
   local once = wrk.format()
   wrk.format = function() return once end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'report {"requests": %d, "seconds": %.6f, "errors": ' ..
      '{"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration / 1e6,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end

-- wrk: requests go round over /s0/, /s1/ … as many as the argument says.
local requests, next = {}, 0
function init(args)
    for i = 0, tonumber(args[1]) - 1 do
        requests[i] = wrk.format("GET", "/s" .. i .. "/")
    end
end
function request()
    local text = requests[next]
    next = next + 1
    if not requests[next] then next = 0 end
    return text
end

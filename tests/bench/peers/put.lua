-- For wrk: writes keys in turn, in the words of one API or the other, with requests made beforehand. Each write has
-- another value than the one before to the same key: what changes nothing need not be written.
--   wrk -s put.lua URL -- kvstore|etcd
local KEYS = 10000
local requests, last, round, threads = { {}, {} }, 0, 1, 0

local digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
    local out = {}
    for at = 1, #text, 3 do
        local a, b, c = text:byte(at, at + 2)
        local n = a * 65536 + (b or 0) * 256 + (c or 0)
        for shift = 18, 0, -6 do
            local digit = math.floor(n / 2 ^ shift) % 64 + 1
            out[#out + 1] = digits:sub(digit, digit)
        end
        if not c then out[#out] = "=" end
        if not b then out[#out - 1] = "=" end
    end
    return table.concat(out)
end

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    for version = 1, 2 do
        local value = string.format("%d of %d%s", version, os.time(), string.rep("x", 100)):sub(1, 100)
        for n = 1, KEYS do
            local key = string.format("bench/%d/%05d", number, n)
            if args[1] == "etcd" then
                local body = string.format('{"key":"%s","value":"%s"}', base64(key), base64(value))
                requests[version][n] = wrk.format("POST", "/v3/kv/put", nil, body)
            else
                requests[version][n] = wrk.format("PUT", "/v1/kv/" .. key, nil, value)
            end
        end
    end
end

function request()
    -- A step that shares no factor with KEYS: neighbours in time are not neighbours in the tree.
    last = (last + 3571) % KEYS
    if last == 0 then round = 3 - round end
    return requests[round][last + 1]
end

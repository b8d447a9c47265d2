-- /etc/apache2/wsgi-oauth.lua: asks /verify about each request, as auth_request of nginx does. Needs the Debian package lua-socket.

local http = require "socket.http"
local ltn12 = require "ltn12"

local SIGN_IN = "http://127.0.0.1:8000/"  -- as in ProxyPass
local NOT_PASSED = {connection = true, ["content-length"] = true, expect = true, ["transfer-encoding"] = true, upgrade = true}

http.TIMEOUT = 10  -- seconds

function verify(r)
    -- Apache calls this function again during a request: for the index of a folder, and for a path that mod_rewrite has changed. By
    -- then, the session cookie is removed, so the new path must have the rules that the user has satisfied.
    local environ = r.subprocess_env
    local rules, verified = environ["SIGN_IN_RULES"] or "", environ["SIGN_IN_VERIFIED"] or environ["REDIRECT_SIGN_IN_VERIFIED"]
    if verified and not r.is_initial_req then
        if verified ~= rules then
            r:err("refused, because SIGN_IN_RULES differ between the requested path and " .. r.uri)
            return 403
        end
        environ["SIGN_IN_VERIFIED"], r.user = rules, r.headers_in["X-Auth-Request-User"]
        return apache2.OK
    end

    -- WebSockets, and no other protocol: with h2c, a client could send requests through Apache that it does not see. With another
    -- Connection, a client could let Apache remove headers about its user and about its connection (RFC 9110 7.6.1).
    local upgrade = r.headers_in["Upgrade"] or ""
    local is_websocket = upgrade:lower() == "websocket"
    r.headers_in["Upgrade"] = is_websocket and "websocket" or nil
    local closes = (r.headers_in["Connection"] or ""):lower():find("close")
    r.headers_in["Connection"] = is_websocket and "upgrade" or closes and "close" or nil

    local headers = {}
    for name, value in pairs(r:headers_in_table()) do
        name = name:lower()
        if name:find("^x%Wauth") then
            r.headers_in[name] = nil  -- an identity header of the client, in any spelling
        elseif not NOT_PASSED[name] then
            headers[name] = value
        end
    end

    -- The sign-in itself is public. Compare the URL that ProxyPass has built, because the URL of a request has many spellings.
    local target = r.filename or ""
    if target:sub(1, #SIGN_IN + 6) == "proxy:" .. SIGN_IN then
        return apache2.OK
    end

    headers["host"] = r.hostname
    headers["x-forwarded-for"] = r.useragent_ip
    headers["x-forwarded-host"] = r.hostname
    headers["x-forwarded-proto"] = "https"
    headers["x-forwarded-method"] = r.method
    headers["x-forwarded-uri"] = r.unparsed_uri

    local body = {}
    local done, status, answer = http.request {
        url = SIGN_IN .. "verify?" .. rules,
        headers = headers,
        redirect = false,
        sink = ltn12.sink.table(body),
    }
    if not done then
        r:err("the sign-in does not answer: " .. tostring(status))
        return 503
    end
    if status == 204 then
        for name, value in pairs(answer) do
            if name:find("^x%-auth%-request%-") then
                r.headers_in[name] = value
            end
        end
        environ["SIGN_IN_VERIFIED"], r.user = rules, answer["x-auth-request-user"]  -- r.user is REMOTE_USER
        -- An access token and the session cookie open every application of the site, so no application sees them.
        r.headers_in["Authorization"] = nil
        local cookies = (headers["cookie"] or ""):gsub("__Host%-wsgi_oauth[^;]*;? ?", "")
        r.headers_in["Cookie"] = cookies ~= "" and cookies or nil
        return apache2.OK
    end

    -- A redirect to the sign-in, or the page about a refusal.
    r.status = status
    for name, value in pairs(answer) do
        if name == "content-type" then
            r.content_type = value
        elseif not NOT_PASSED[name] and name ~= "date" and name ~= "server" then
            r.err_headers_out[name] = value
        end
    end
    r:puts(table.concat(body))
    return apache2.DONE
end

-- AWS: where credentials come from, where requests go, what errors become, and
-- ElastiCache's tokens. Nothing is asked here: what would be is answered by the
-- spec. Whole exchanges are in spec/plugins/vaults/aws.

local stdlib = require("posix.stdlib")
local native = require("native")
local json = require("weir.json")

local now = 1440938160 -- 2015-08-30T12:36:00Z
local NOON = "2015-08-30T13:36:00Z"

native.C = setmetatable({
  weir_now = function() return now end, weir_mono_us = function() return now * 1e6 end,
}, { __index = native.C })

local asked, answers

-- In place of the network: what is asked is kept, and answered by the first pattern of its URL.
package.loaded["weir.http"] = {
  request = function(options)
    asked[#asked + 1] = options
    for _, answer in ipairs(answers) do
      if options.url:find(answer[1]) and (answer.method or options.method) == options.method then
        if type(answer[2]) == "string" then
          return nil, answer[2]
        end
        return { status = answer[2], body = answer[3] or "", headers = answer[4] or {} }
      end
    end
    return nil, "cannot connect to " .. options.url:match("//([^/]+)") .. ": timeout"
  end,
}
package.loaded["weir.timer"] = { sleep = function(s) now = now + s end }

local aws = require("weir.cloud.aws")
local credentials = require("weir.cloud.aws.credentials")
local service = require("weir.cloud.aws.service")

local VARIABLES = {
  "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
  "AWS_DEFAULT_REGION", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME",
  "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
  "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
  "AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT",
  "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS",
}

local function environment(values)
  for _, name in ipairs(VARIABLES) do
    stdlib.setenv(name, values[name])
  end
end

local function agent_answer(id, expiration)
  return json.encode({ Code = "Success", AccessKeyId = id, SecretAccessKey = "s-" .. id,
                       Token = "t-" .. id, Expiration = expiration or NOON })
end

local function sts_answer(id, expiration)
  local xml = [[<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
    <AssumeRoleResult><Credentials><SessionToken>t-ID</SessionToken>
    <SecretAccessKey>s-ID</SecretAccessKey>
    <Expiration>END</Expiration><AccessKeyId>ID</AccessKeyId></Credentials>
    </AssumeRoleResult></AssumeRoleResponse>]]
  return (xml:gsub("ID", id):gsub("END", expiration or NOON))
end

local function file_with(text)
  local path = os.tmpname()
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
  finally(function() os.remove(path) end)
  return path
end

-- without what was learnt before
local function find(inputs)
  package.loaded["weir.cloud.aws.credentials"] = nil
  return require("weir.cloud.aws.credentials").get(inputs or {})
end

describe("weir.cloud.aws", function()
  before_each(function()
    asked, answers = {}, {}
    now = 1440938160
    environment({})
  end)

  teardown(function()
    environment({})
  end)

  describe("credentials", function()
    it("are those of the config first", function()
      environment({ AWS_ACCESS_KEY_ID = "env", AWS_SECRET_ACCESS_KEY = "s" })
      assert.same({ access_key_id = "conf", secret_access_key = "c" },
        find({ access_key_id = "conf", secret_access_key = "c" }))
      local _, err = find({ access_key_id = "conf" })
      assert.equal("an access key in the config needs both its ID and its secret", err)
    end)

    it("are those of the environment", function()
      environment({ AWS_ACCESS_KEY_ID = "env", AWS_SECRET_ACCESS_KEY = "s",
                    AWS_SESSION_TOKEN = "t", AWS_WEB_IDENTITY_TOKEN_FILE = "/nowhere" })
      assert.same({ access_key_id = "env", secret_access_key = "s", session_token = "t" }, find())
      environment({ AWS_ACCESS_KEY_ID = "env" })
      assert.equal("the environment: the environment has AWS_ACCESS_KEY_ID but not the other one",
        select(2, find()))
      environment({ AWS_SECRET_ACCESS_KEY = "s" })
      assert.equal("the environment: the environment has AWS_SECRET_ACCESS_KEY but not the other "
        .. "one", select(2, find()))
      assert.same({}, asked)
    end)

    it("are lent to a web identity", function()
      environment({ AWS_WEB_IDENTITY_TOKEN_FILE = file_with("a.b/c\n"), AWS_REGION = "eu-west-1",
                    AWS_ROLE_ARN = "arn:aws:iam::1:role/r", AWS_ROLE_SESSION_NAME = "me" })
      answers = { { "^https://sts%.eu%-west%-1%.amazonaws%.com/$", 200, sts_answer("WEB") } }
      local found = find()
      assert.equal("WEB", found.access_key_id)
      assert.equal("t-WEB", found.session_token)
      assert.equal(now + 3600, found.ends_at)
      assert.equal("POST", asked[1].method)
      assert.is_nil(asked[1].headers.authorization)
      local form = "&" .. asked[1].body .. "&"
      for _, part in ipairs({ "Action=AssumeRoleWithWebIdentity", "WebIdentityToken=a.b%2Fc",
                              "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr", "RoleSessionName=me",
                              "Version=2011-06-15" }) do
        assert.is_truthy(form:find("&" .. part .. "&", 1, true), part)
      end
    end)

    it("are not looked for elsewhere when the web identity fails", function()
      environment({ AWS_WEB_IDENTITY_TOKEN_FILE = "/nowhere/token", AWS_REGION = "eu-west-1",
                    AWS_ROLE_ARN = "arn:aws:iam::1:role/r" })
      assert.equal("web identity: AWS_WEB_IDENTITY_TOKEN_FILE: /nowhere/token: No such file or "
        .. "directory", select(2, find()))
      environment({ AWS_WEB_IDENTITY_TOKEN_FILE = "/nowhere/token" })
      assert.equal("web identity: AWS_ROLE_ARN is not set", select(2, find()))
      environment({ AWS_WEB_IDENTITY_TOKEN_FILE = file_with("x"), AWS_REGION = "eu-west-1",
                    AWS_ROLE_ARN = "arn:aws:iam::1:role/r" })
      answers = { { "sts", 403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>secret "
        .. "things</Message></Error></ErrorResponse>" } }
      assert.equal("web identity: AccessDenied (the role does not exist, or its trust policy does "
        .. "not allow it)", select(2, find()))
    end)

    it("are those of a container", function()
      environment({ AWS_CONTAINER_CREDENTIALS_RELATIVE_URI = "/v2/credentials/x",
                    AWS_CONTAINER_AUTHORIZATION_TOKEN = "t1" })
      answers = { { "^http://169%.254%.170%.2/v2/credentials/x$", 200, agent_answer("ECS") } }
      assert.equal("ECS", find().access_key_id)
      assert.equal("t1", asked[1].headers.authorization)
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x",
                    AWS_CONTAINER_AUTHORIZATION_TOKEN = "t1",
                    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = file_with("t2\n") })
      answers = { { "^http://127%.0%.0%.1:99/x$", 200, agent_answer("EKS") } }
      assert.equal("EKS", find().access_key_id)
      assert.equal("t2", asked[2].headers.authorization)
    end)

    it("are not asked of strangers in the clear", function()
      for url, good in pairs({
        ["http://169.254.170.2/x"] = true, ["http://169.254.170.23/v1/credentials"] = true,
        ["http://[fd00:ec2::23]/v1"] = true, ["http://[::1]:80/"] = true,
        ["http://localhost:1/"] = true, ["http://127.1.2.3/"] = true,
        ["https://a.example/"] = true,
        ["http://a.example/"] = false, ["http://169.254.169.254/"] = false,
        ["http://localhost.a.example/"] = false, ["http://127.0.0.1.a.example/"] = false,
        ["http://127.0.0.1@a.example/"] = false, ["http://localhost@a.example/"] = false,
        ["http://[::1]@a.example/"] = false, ["http://[::2]/"] = false,
        ["ftp://localhost/"] = false,
        ["http://user:127.0.0.1@a.example/"] = false,
      }) do
        asked = {}
        environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = url })
        local _, err = find()
        assert.equal(good and 1 or 0, #asked, url)
        assert.equal(not good, err:find("must be https, or name this machine", 1, true) ~= nil, url)
      end
    end)

    it("are those of an instance's role, by version 2", function()
      answers = {
        { "^http://169%.254%.169%.254/latest/api/token$", 200, "TOKEN" },
        { "^http://169%.254%.169%.254/latest/meta%-data/iam/security%-credentials/$", 200,
          "my role" },
        { "/security%-credentials/my%%20role$", 200, agent_answer("EC2") },
      }
      assert.equal("EC2", find().access_key_id)
      assert.equal("PUT", asked[1].method)
      assert.equal("300", asked[1].headers["x-aws-ec2-metadata-token-ttl-seconds"])
      assert.equal("TOKEN", asked[2].headers["x-aws-ec2-metadata-token"])
      assert.equal("TOKEN", asked[3].headers["x-aws-ec2-metadata-token"])
      environment({ AWS_EC2_METADATA_SERVICE_ENDPOINT = "http://127.0.0.1:1338/" })
      find()
      assert.equal("http://127.0.0.1:1338/latest/api/token", asked[4].url)
      environment({ AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE = "IPv6" })
      find()
      assert.equal("http://[fd00:ec2::254]/latest/api/token", asked[5].url)
    end)

    it("say where they were looked for", function()
      local everywhere = "no credentials: none in the config, nor by AWS_ACCESS_KEY_ID, "
        .. "AWS_WEB_IDENTITY_TOKEN_FILE or AWS_CONTAINER_CREDENTIALS_FULL_URI in the environment; "
        .. "instance metadata: "
      assert.equal(everywhere .. "cannot connect to 169.254.169.254: timeout", select(2, find()))
      environment({ AWS_EC2_METADATA_DISABLED = "TRUE" })
      assert.equal(everywhere .. "AWS_EC2_METADATA_DISABLED says no", select(2, find()))
      environment({})
      answers = { { "/api/token$", 200, "T" }, { "/security%-credentials/$", 404 } }
      assert.equal(everywhere .. "the instance has no role", select(2, find()))
      answers[2] = { "/security%-credentials/$", 200, "r" }
      for body, why in pairs({
        ["<html>"] = "its answer holds no credentials", ["{}"] = "its answer holds no credentials",
        [agent_answer("OLD", "2015-08-30T12:36:00Z")] = "the credentials that it gives have ended",
      }) do
        answers[3] = { "/security%-credentials/r$", 200, body }
        assert.equal(everywhere .. why, select(2, find()))
      end
    end)

    it("are a role's when one is assumed", function()
      environment({ AWS_ENDPOINT_URL_STS = "http://127.0.0.1:4566/" })
      answers = { { "^http://127%.0%.0%.1:4566/$", 200, sts_answer("ROLE") } }
      local found = find({ access_key_id = "A", secret_access_key = "B", region = "us-east-2",
                           assume_role_arn = "arn:aws:iam::1:role/r" })
      assert.equal("ROLE", found.access_key_id)
      assert.is_truthy((asked[1].body .. "&"):find("Action=AssumeRole&", 1, true))
      assert.is_truthy(asked[1].body:find("RoleSessionName=weir", 1, true))
      assert.matches("^AWS4%-HMAC%-SHA256 Credential=A/20150830/us%-east%-2/sts/aws4_request, ",
        asked[1].headers.authorization)
      answers[1] = { "", 400, "<Error><Code>ValidationError</Code></Error>" }
      assert.equal("cannot assume the role: ValidationError (the role's ARN or the "
        .. "name of the session is malformed)", select(2, find({ access_key_id = "A",
          secret_access_key = "B", region = "us-east-2",
          assume_role_arn = "arn:aws:iam::1:role/x" })))
    end)

    it("are kept until five minutes before their end", function()
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "", 200, agent_answer("ONE") } }
      local inputs = { region = "keep-1" }
      assert.equal("ONE", credentials.get(inputs).access_key_id)
      answers = { { "", 200, agent_answer("TWO", "2015-08-30T14:36:00Z") } }
      now = now + 3299
      assert.equal("ONE", credentials.get(inputs).access_key_id)
      assert.equal(1, #asked)
      now = now + 2
      assert.equal("TWO", credentials.get(inputs).access_key_id)
      assert.equal("TWO", credentials.get(inputs).access_key_id)
      assert.equal(2, #asked)
    end)

    it("end when an agent says so, however it writes UTC", function()
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "", 200, agent_answer("ONE", "2015-08-30T13:36:00.250+00:00") } }
      local inputs = { region = "keep-5" }
      assert.equal(now + 3600, credentials.get(inputs).ends_at)
      answers = { { "", 200, agent_answer("ONE", "tomorrow") } }
      assert.equal("container credentials: it does not say when the credentials end that it gives",
        select(2, credentials.get({ region = "keep-6" })))
    end)

    it("are asked for again when they are refused, but not without end", function()
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "", 200, agent_answer("ONE") } }
      local inputs = { region = "keep-3" }
      credentials.get(inputs)
      for seconds = 0, 40 do
        assert.equal("ONE", credentials.get(inputs, true).access_key_id)
        assert.equal(2 + math.floor(seconds / 15), #asked)
        now = now + 1
      end
    end)

    it("are a role's by other keys when AWS does not know those any longer", function()
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "//127", 200, agent_answer("ONE", "2015-08-30T18:36:00Z") },
                  { "//sts", 200, sts_answer("ROLE") } }
      local inputs = { region = "keep-4", assume_role_arn = "arn:aws:iam::1:role/r" }
      assert.equal("ROLE", credentials.get(inputs).access_key_id)
      answers = { { "//127", 200, agent_answer("TWO", "2015-08-30T18:36:00Z") },
                  { "//sts", 403, "<Error><Code>InvalidClientTokenId</Code></Error>" } }
      now = now + 3601
      assert.equal("cannot assume the role: InvalidClientTokenId (AWS does not know "
        .. "the access key (or its session token))", select(2, credentials.get(inputs)))
      local signers = {}
      for _, request in ipairs(asked) do
        signers[#signers + 1] = (request.headers.authorization or ""):match("Credential=(%w+)/")
      end
      assert.same({ "ONE", "ONE", "TWO" }, signers)
      now = now + 1
      credentials.get(inputs) -- those are new, so they are not what is wrong
      assert.equal(6, #asked)
    end)

    it("are used to their end while their source fails", function()
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "", 200, agent_answer("ONE") } }
      local inputs = { region = "keep-2" }
      assert.equal("ONE", credentials.get(inputs).access_key_id)
      answers = { { "", 500 } }
      now = now + 3400
      assert.equal("ONE", credentials.get(inputs).access_key_id)
      assert.equal("ONE", credentials.get(inputs).access_key_id)
      assert.equal(2, #asked)
      now = now + 201
      assert.equal("container credentials: status 500", select(2, credentials.get(inputs)))
    end)
  end)

  describe("service", function()
    it("knows the regions' endpoints", function()
      for region, host in pairs({
        ["us-east-1"] = "sts.us-east-1.amazonaws.com",
        ["us-gov-west-1"] = "sts.us-gov-west-1.amazonaws.com",
        ["cn-north-1"] = "sts.cn-north-1.amazonaws.com.cn",
        ["us-iso-east-1"] = "sts.us-iso-east-1.c2s.ic.gov",
        ["us-isob-east-1"] = "sts.us-isob-east-1.sc2s.sgov.gov",
        ["eu-isoe-west-1"] = "sts.eu-isoe-west-1.cloud.adc-e.uk",
        ["us-isof-south-1"] = "sts.us-isof-south-1.csp.hci.ic.gov",
        ["eusc-de-east-1"] = "sts.eusc-de-east-1.amazonaws.eu",
      }) do
        assert.equal("https://" .. host, service.endpoint("sts", region, nil, "STS"))
      end
      environment({ AWS_ENDPOINT_URL = "http://127.0.0.1:1/", AWS_ENDPOINT_URL_STS = "" })
      assert.equal("http://127.0.0.1:1", service.endpoint("sts", "us-east-1", nil, "STS"))
      assert.equal("https://a.example/b",
        service.endpoint("sts", "us-east-1", "https://a.example/b/", "STS"))
      assert.is_nil((service.endpoint("sts", "us-east-1", "https://a.example/?b", "STS")))
      assert.is_nil((service.endpoint("sts", "us-east-1", "a.example", "STS")))
    end)

    it("finds the region", function()
      assert.matches("^no region is said", select(2, service.region()))
      environment({ AWS_DEFAULT_REGION = "a-b-1", AWS_REGION = "" })
      assert.equal("a-b-1", service.region())
      environment({ AWS_DEFAULT_REGION = "a-b-1", AWS_REGION = "c-d-1" })
      assert.equal("c-d-1", service.region())
      assert.equal("e-f-1", service.region("e-f-1"))
      assert.is_nil((service.region("a.example/")))
    end)

    local function post()
      return service.post({ url = "http://127.0.0.1:1/", body = "{}", headers = {} },
        { access_key_id = "A", secret_access_key = "B" },
        { service = "secretsmanager", region = "us-east-1" })
    end

    it("says what errors mean, and nothing else of the answer", function()
      for body, text in pairs({
        ['{"__type":"com.amazon#UnrecognizedClientException","message":"secret things"}'] =
          "UnrecognizedClientException (AWS does not know the access key (or its session token))",
        ['{"__type":"ExpiredTokenException","Message":"secret things"}'] =
          "ExpiredTokenException (the session token has ended)",
        ["secret things"] = "status 400",
        ['{"__type":"' .. ("x"):rep(65) .. '"}'] = "status 400",
      }) do
        answers = { { "", 400, body } }
        assert.equal(text, select(2, post()))
      end
    end)

    it("tells of a clock that is wrong", function()
      local body = '{"__type":"InvalidSignatureException"}'
      answers = { { "", 403, body, { date = "Sun, 30 Aug 2015 12:46:00 GMT" } } }
      assert.equal("InvalidSignatureException (this machine's clock is 600 s behind AWS's)",
        select(2, post()))
      answers = { { "", 403, body, { date = "Sun, 30 Aug 2015 12:35:59 GMT" } } }
      assert.equal("InvalidSignatureException (the secret access key is not that of the access "
        .. "key)", select(2, post()))
    end)

    it("asks again where AWS has no time", function()
      answers = { { "", 400, '{"__type":"ThrottlingException"}' } }
      assert.equal("ThrottlingException (AWS is asked too often)", select(2, post()))
      assert.equal(3, #asked)
      answers = { { "", 503 } }
      assert.equal("status 503", select(2, post()))
      assert.equal(6, #asked)
      answers = { { "", "timeout" } }
      assert.equal("timeout", select(2, post()))
      assert.equal(7, #asked)
    end)
  end)

  describe("redis_password", function()
    local cloud, redis

    before_each(function()
      cloud = { auth_provider = "aws", aws_cache_name = "My-Cache", aws_is_serverless = false,
                aws_region = "us-east-1", aws_access_key_id = "AKIDEXAMPLE",
                aws_secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" }
      redis = { host = "127.0.0.1", username = "iam-user-01" }
    end)

    it("is a URL that is signed, without its scheme", function()
      local token, err, ttl_s = aws.redis_password(cloud, redis)
      assert.is_nil(err)
      assert.equal("my-cache/?Action=connect&User=iam-user-01&X-Amz-Algorithm=AWS4-HMAC-SHA256"
        .. "&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Felasticache%2Faws4_request"
        .. "&X-Amz-Date=20150830T123600Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host"
        .. "&X-Amz-Signature=", token:match("^(.*=)%x+$"))
      assert.equal(64, #token:match("%x+$"))
      assert.equal(720, ttl_s)
      assert.same({}, asked)
    end)

    it("says of a serverless cache that it is one", function()
      cloud.aws_is_serverless = nil -- true is its default
      local token = aws.redis_password(cloud, redis)
      assert.matches("^my%-cache/%?Action=connect&ResourceType=ServerlessCache&User=iam", token)
    end)

    it("ends with the credentials that it was made with", function()
      cloud.aws_access_key_id, cloud.aws_secret_access_key = nil, nil
      cloud.aws_region = "us-west-2"
      environment({ AWS_CONTAINER_CREDENTIALS_FULL_URI = "http://127.0.0.1:99/x" })
      answers = { { "", 200, agent_answer("TEMP", "2015-08-30T12:37:40Z") } }
      local token, _, ttl_s = aws.redis_password(cloud, redis)
      assert.equal(80, ttl_s)
      assert.is_truthy(token:find("&X-Amz-Security-Token=t-TEMP&", 1, true))
    end)

    it("needs a name of the cache, a user and a region", function()
      cloud.aws_region = nil
      assert.matches("^no region is said", select(2, aws.redis_password(cloud, redis)))
      redis.username = nil
      assert.equal("ElastiCache with IAM needs a username",
        select(2, aws.redis_password(cloud, redis)))
      cloud.aws_cache_name = nil
      assert.equal("aws_cache_name is not said", select(2, aws.redis_password(cloud, redis)))
    end)
  end)
end)

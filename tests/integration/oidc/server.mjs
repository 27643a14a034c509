// An OAuth 2.0 and OpenID Connect server that go_services did not write: npm's certified oidc-provider.
//
// It listens on a free port of 127.0.0.1, prints one JSON line when it is ready, and ends when its standard input does.
// The environment variable ACCESS_TOKEN_SECONDS sets how long access tokens live, CLIENTS adds clients (JSON). A DPoP
// proof needs a nonce of the server's. Whoever has the initial access token "may-register" may register one. GET /requests
// lists what arrived at the endpoints of the back channel, with the tokens, so that a test sees what a client sent and got.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

import Provider, { errors } from "oidc-provider";

const HOUR = 3600;
const BACK_CHANNEL = new Set([
  "token",
  "userinfo",
  "revocation",
  "introspection",
  "pushed_authorization_request",
  "device_authorization",
  "registration",
]);
const accessTokenSeconds = Number(process.env.ACCESS_TOKEN_SECONDS ?? 300);

const client = {
  client_id: "my-app",
  // Characters that a client has to encode before it builds the Basic header (RFC 6749 §2.3.1).
  client_secret: `100% +/:${randomBytes(16).toString("hex")}`,
  token_endpoint_auth_method: "client_secret_basic",
  application_type: "native", // loopback redirect URIs, whatever their port (RFC 8252 §7.3)
  redirect_uris: ["http://127.0.0.1/callback"],
  grant_types: ["authorization_code", "refresh_token"],
  response_types: ["code"],
};

const server = createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const url = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(url, {
  clients: [client, ...JSON.parse(process.env.CLIENTS ?? "[]")],
  scopes: ["openid", "offline_access", "api:read"],
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `The person ${id}`, email: `${id}@example.com`, email_verified: true }),
  }),
  clockTolerance: 0, // tokens end when they say so
  pkce: { required: () => true },
  rotateRefreshToken: true,
  cookies: { keys: [randomBytes(32).toString("hex")] },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true }, // its own sign-in and consent pages
    dPoP: { enabled: true, nonceSecret: randomBytes(32), requireNonce: () => true },
    introspection: { enabled: true },
    registration: { enabled: true, initialAccessToken: "may-register" },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => {
        if (resource !== "https://api.example") throw new errors.InvalidTarget();
        return { scope: "api:read", audience: resource, accessTokenFormat: "opaque" };
      },
    },
    revocation: { enabled: true },
  },
  ttl: {
    AccessToken: accessTokenSeconds,
    AuthorizationCode: 60,
    Grant: HOUR,
    IdToken: HOUR,
    Interaction: HOUR,
    RefreshToken: HOUR,
    Session: HOUR,
  },
});

const requests = [];

provider.use(async (ctx, next) => {
  await next();
  if (!BACK_CHANNEL.has(ctx.oidc?.route)) return;
  const { grant_type, refresh_token } = ctx.oidc.params ?? {};
  requests.push({
    route: ctx.oidc.route,
    grant_type,
    refresh_token,
    status: ctx.status,
    error: ctx.body?.error,
    issued: ctx.body?.access_token && { access: ctx.body.access_token, refresh: ctx.body.refresh_token },
  });
});
provider.on("server_error", (ctx, error) => console.error(error));

const answer = provider.callback();
server.on("request", (request, response) => {
  if (request.url === "/requests") {
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(requests));
  } else {
    answer(request, response);
  }
});

process.stdin.resume().on("end", () => process.exit());
console.log(JSON.stringify({ url, client_id: client.client_id, client_secret: client.client_secret }));

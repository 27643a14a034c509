// An OAuth 2.0 and OpenID Connect server that go_services did not write: npm's certified oidc-provider.
//
// It listens on a free port of 127.0.0.1, prints one JSON line when it is ready, and ends when its standard input does.
// The environment variable ACCESS_TOKEN_SECONDS sets how long access tokens live, CLIENTS adds clients (JSON). TLS (JSON: key,
// cert and ca in PEM form) has it speak TLS as "localhost" and ask for client certificates. A DPoP proof needs a nonce of the
// server's. Whoever has the initial access token "may-register" may register one. GET /requests
// lists what arrived at the endpoints of the back channel, with the tokens, so that a test sees what a client sent and got.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";

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

const tls = process.env.TLS && JSON.parse(process.env.TLS);
// A certificate of no known authority is let in too: whether it will do is for the client's own method to say.
const server = tls ? createTlsServer({ ...tls, requestCert: true, rejectUnauthorized: false }) : createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const url = `${tls ? "https://localhost" : "http://127.0.0.1"}:${server.address().port}`;

const certificateOf = (ctx) => ctx.socket.getPeerX509Certificate();
const mTLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate: certificateOf,
  certificateAuthorized: (ctx) => ctx.socket.authorized,
  certificateSubjectMatches: (ctx, property, expected) =>
    property === "tls_client_auth_san_email" &&
    certificateOf(ctx).subjectAltName.split(", ").includes(`email:${expected}`),
};

const provider = new Provider(url, {
  clients: [client, ...JSON.parse(process.env.CLIENTS ?? "[]")],
  scopes: ["openid", "offline_access", "api:read"],
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `The person ${id}`, email: `${id}@example.com`, email_verified: true }),
  }),
  clientAuthMethods: [
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "private_key_jwt",
    "none",
    ...(tls ? ["tls_client_auth", "self_signed_tls_client_auth"] : []),
  ],
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
    ...(tls && { mTLS }),
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
    client_id: ctx.oidc.client?.clientId,
    client_auth: ctx.oidc.client?.clientAuthMethod,
    assertion: ctx.oidc.body?.client_assertion,
    proof: ctx.get("DPoP") || undefined,
    token_type: ctx.body?.token_type,
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

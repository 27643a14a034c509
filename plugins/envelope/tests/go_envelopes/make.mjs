// Prints samples of what the Go system (go-services 0.7) sealed, as JSON; samples.json is what it printed.
//
//     node make.mjs > samples.json
//
// It follows the description of the format alone: the prefix `services.secret.v1:` and one JSON object with kid, ver,
// alg, nonce, ciphertext and meta; AES-GCM whose associated data are prefix, key id, version and algorithm joined with
// `|`; key material of 16, 24 or 32 bytes as it is, any other hashed once with SHA-256, both after trimming white space.
// Only Node's standard library is used. Keys, nonces and plaintexts are fixed, so that every run prints the same.
import { createCipheriv, createHash } from "node:crypto";

const PREFIX = "services.secret.v1:";
const ALGORITHM = "aes-256-gcm";

const bytes = (first, count) => Buffer.from(Array.from({ length: count }, (_, n) => (first + n) % 256));
const nonce = (n) => bytes(16 * n, 12);
const text = (material) => ({ material, encoding: "text" });
const binary = (material) => ({ material: material.toString("base64"), encoding: "base64" });

const DEFAULT = { id: "app-key", version: 1, ...text("0123456789abcdef0123456789ABCDEF") };

function keyOf(key) {
  let raw = key.encoding === "base64" ? Buffer.from(key.material, "base64") : Buffer.from(key.material, "utf8");
  raw = Buffer.from(raw.toString("latin1").replace(/^[\t\n\v\f\r ]+|[\t\n\v\f\r ]+$/g, ""), "latin1");
  return [16, 24, 32].includes(raw.length) ? raw : createHash("sha256").update(raw).digest();
}

function seal(key, plaintext, iv, { bound = true } = {}) {
  const raw = keyOf(key);
  const cipher = createCipheriv(`aes-${raw.length * 8}-gcm`, raw, iv);
  if (bound) cipher.setAAD(Buffer.from([PREFIX, key.id, key.version, ALGORITHM].join("|"), "utf8"));
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

const samples = [];

/** One sample: what stands in the row, the keys that are configured, and what it opens to; null where it must not. */
function sample(name, options = {}) {
  const key = options.key ?? DEFAULT;
  const plaintext = Buffer.from(options.plaintext ?? `token of ${name}`, "utf8");
  const iv = options.nonce ?? nonce(samples.length);
  const fields = {
    kid: key.id,
    ver: key.version,
    alg: ALGORITHM,
    nonce: iv.toString("base64"),
    ciphertext: seal(key, plaintext, iv, options).toString("base64"),
    ...(options.meta && { meta: options.meta }),
  };
  for (const [field, value] of Object.entries(options.change ?? {})) {
    if (value === undefined) delete fields[field];
    else fields[field] = typeof value === "function" ? value(fields[field]) : value;
  }
  samples.push({
    name,
    keys: options.keys ?? [key],
    without_prefix: options.withoutPrefix ?? false,
    payload_format: options.format ?? "legacy_token",
    payload_version: 1,
    envelope: (options.prefix ?? PREFIX) + JSON.stringify(fields),
    plaintext: options.refused ? null : plaintext.toString("utf8"),
  });
}

const flipped = (at) => (value) => {
  const raw = Buffer.from(value, "base64");
  raw[at < 0 ? raw.length + at : at] ^= 1;
  return raw.toString("base64");
};
const cut = (from, to) => (value) => Buffer.from(value, "base64").subarray(from, to).toString("base64");
const longer = (value) => Buffer.concat([Buffer.from(value, "base64"), bytes(0, 4)]).toString("base64");

// Keys.
sample("a key of 32 bytes");
sample("a key of 24 bytes", { key: { ...DEFAULT, ...text("0123456789abcdef01234567") } });
sample("a key of 16 bytes", { key: { ...DEFAULT, ...text("0123456789abcdef") } });
sample("a passphrase of another length", { key: { ...DEFAULT, ...text("correct horse battery staple") } });
sample("a passphrase that is not ASCII", { key: { ...DEFAULT, ...text("schlüssel — ключ") } });
sample("a key with white space around it", { key: { ...DEFAULT, ...text("\t 0123456789abcdef\r\n") } });
sample("a binary key", { key: { ...DEFAULT, ...binary(bytes(200, 32)) } });
sample("a binary key that begins and ends with white space", {
  key: { ...DEFAULT, ...binary(Buffer.concat([Buffer.from(" "), bytes(200, 30), Buffer.from("\n")])) },
});
sample("another key id and version", { key: { id: "payments/eu", version: 7, ...text("fedcba9876543210") } });
sample("one of several keys", {
  key: { id: "app-key", version: 2, ...text("the second passphrase") },
  keys: [DEFAULT, { id: "app-key", version: 2, ...text("the second passphrase") }, { ...DEFAULT, id: "other" }],
});

// Fields.
sample("metadata", { meta: { tenant: "t1", purpose: "credentials" } });
sample("no algorithm", { change: { alg: undefined } });
sample("an algorithm in capitals", { change: { alg: "AES-256-GCM" } });
sample("a large plaintext", { plaintext: "0123456789abcdef".repeat(256) });

// Without prefix.
const old = { prefix: "", withoutPrefix: true };
sample("no prefix", old);
sample("no prefix, no key id, no associated data", { ...old, bound: false, change: { kid: undefined } });
sample("no prefix, no version, no associated data", { ...old, bound: false, change: { ver: undefined } });
sample("no prefix, only nonce and ciphertext", {
  ...old,
  bound: false,
  change: { kid: undefined, ver: undefined, alg: undefined },
});
sample("no prefix, key id and version, but no associated data", { ...old, bound: false });

// Credentials.
const active = { format: "active_credential_json" };
sample("a credential with every field", {
  ...active,
  plaintext: JSON.stringify({
    connection_id: "c1",
    token_type: "bearer",
    access_token: "go_at_every_field",
    refresh_token: "go_rt_every_field",
    requested_scopes: ["repo", "user"],
    granted_scopes: ["repo"],
    expires_at: "2027-01-02T03:04:05.678901234Z",
    refreshable: true,
    rotates_at: "2027-02-03T04:05:06Z",
    metadata: {
      id_token: "go_id_every_field",
      aws_access_key_id: "go_aws_id",
      aws_secret_access_key: "go_aws_secret",
      signing_key: "go_signing_key",
      profile: { login: "octocat", raw: { id: 7 } },
      retries: 3,
    },
  }),
});
sample("a credential with few fields", {
  ...active,
  plaintext: JSON.stringify({ access_token: "go_at_few_fields", refreshable: false }),
});
sample("a bare token", { plaintext: "go_at_bare" });

// What must not open.
const refused = { refused: true };
for (const [name, change] of [
  ["the first byte of the ciphertext changed", { ciphertext: flipped(0) }],
  ["the last byte of the tag changed", { ciphertext: flipped(-1) }],
  ["the nonce changed", { nonce: flipped(5) }],
  ["a nonce that is too short", { nonce: cut(0, 11) }],
  ["a nonce that is too long", { nonce: longer }],
  ["no nonce", { nonce: undefined }],
  ["the ciphertext cut short", { ciphertext: cut(0, -1) }],
  ["less than a tag", { ciphertext: cut(0, 15) }],
  ["an empty ciphertext", { ciphertext: "" }],
  ["another key id", { kid: "other-key" }],
  ["another version", { ver: 2 }],
  ["another algorithm", { alg: "kms" }],
  ["an algorithm nobody knows", { alg: "aes-128-cbc" }],
  ["no key id", { kid: undefined }],
  ["no version", { ver: undefined }],
]) {
  sample(`refused: ${name}`, { ...refused, change });
  sample(`refused without prefix too: ${name}`, { ...refused, ...old, change });
}
sample("refused: a key id changed to that of another configured key", {
  ...refused,
  keys: [DEFAULT, { ...DEFAULT, id: "other" }],
  change: { kid: "other" },
});
sample("refused: a version changed to that of another configured key", {
  ...refused,
  keys: [DEFAULT, { ...DEFAULT, version: 2 }],
  change: { ver: 2 },
});
sample("refused: no prefix where that is not switched on", { ...refused, prefix: "" });
sample("refused: no associated data under the prefix", { ...refused, bound: false });
sample("refused: no associated data under the prefix, though the older form is switched on", {
  ...refused,
  bound: false,
  withoutPrefix: true,
});
sample("refused: no key id under the prefix, though the older form is switched on", {
  ...refused,
  bound: false,
  withoutPrefix: true,
  change: { kid: undefined },
});
sample("refused: wrong key material", {
  ...refused,
  keys: [{ ...DEFAULT, ...text("fedcba9876543210FEDCBA9876543210") }],
});

process.stdout.write(JSON.stringify(samples, null, 1) + "\n");

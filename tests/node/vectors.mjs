// Check the encodings of this client against the protocol's test vectors.
//
//     node vectors.mjs FILE

import * as assert from "node:assert";
import * as crypto from "node:crypto";
import * as fs from "node:fs";

import { decode, encode } from "./cbor.mjs";
import { pinText, signedBytes, toFrame } from "./client.mjs";

const PKCS8_ED25519 = "302e020100300506032b657004220420"; // what precedes the 32 bytes of a key

const OF_CBOR = new Set([
  ...["empty", "a duplicate key", "a byte after the end", "cut short", "an indefinite length"],
  ...["a tag", "a tag on a value", "text that is no UTF-8", "nested too deeply"],
]); // the other reasons concern the fields of a frame

const hex = (text) => Buffer.from(text, "hex");
const vectors = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));

/** Return a value of the file, in which {"bytes": HEX} stands for a byte string. */
function fromFile(value) {
  if (Array.isArray(value)) return value.map(fromFile);
  if (typeof value !== "object") return value;
  if (Object.keys(value).join() === "bytes") return hex(value.bytes);
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, fromFile(each)]));
}

/** Return a decoded value with objects instead of Maps. */
function toObjects(value) {
  if (Array.isArray(value)) return value.map(toObjects);
  if (!(value instanceof Map)) return value;
  return Object.fromEntries([...value].map(([key, each]) => [key, toObjects(each)]));
}

for (const { map, frame } of vectors.frames) {
  assert.strictEqual(toFrame(fromFile(map)).toString("hex"), frame);
  assert.deepStrictEqual(toObjects(decode(hex(frame).subarray(4))), fromFile(map));
}
for (const { body } of vectors.accepted) {
  assert.strictEqual(decode(hex(body)).get("type"), "ping");
}
for (const each of vectors.signatures) {
  const signed = signedBytes({
    versions: [each.version, each.version],
    pin: hex(each.pin),
    nonces: [hex(each.server_nonce), hex(each.nonce)],
    key: hex(each.key),
    client: hex(each.client),
    user: each.user,
  });
  assert.strictEqual(signed.toString("hex"), each.signed);
  const der = hex(PKCS8_ED25519 + each.private_key);
  const key = crypto.createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  assert.strictEqual(crypto.sign(null, signed, key).toString("hex"), each.signature);
}
for (const { sha256, text } of vectors.pins) assert.strictEqual(pinText(hex(sha256)), text);

const refused = vectors.malformed.filter(({ why }) => OF_CBOR.has(why));
assert.strictEqual(refused.length, OF_CBOR.size);
for (const { why, body } of refused) {
  assert.throws(() => decode(hex(body)), `accepted: ${why}`);
}
for (const value of [0, 23, 24, 255, 256, 65535, 65536, 2 ** 32, 2 ** 53 - 1, 2n ** 53n, 2n ** 63n]) {
  assert.strictEqual(decode(encode(value)), value);
}
console.log(`${vectors.frames.length} frames, ${vectors.signatures.length} signatures`);

// CBOR (RFC 8949), as much of it as the protocol uses: no tags, no indefinite lengths.

const MAJOR = { natural: 0, negative: 1, bytes: 2, text: 3, array: 4, map: 5, tag: 6, other: 7 };
const DEPTH = 16;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Return the encoding of an object, array, string, Uint8Array, natural number or boolean. */
export function encode(value) {
  if (value === false || value === true) return Buffer.from([value ? 0xf5 : 0xf4]);
  if (typeof value === "number" || typeof value === "bigint") return head(MAJOR.natural, value);
  if (typeof value === "string") {
    const bytes = Buffer.from(value, "utf8");
    return Buffer.concat([head(MAJOR.text, bytes.length), bytes]);
  }
  if (value instanceof Uint8Array) return Buffer.concat([head(MAJOR.bytes, value.length), value]);
  if (Array.isArray(value)) {
    return Buffer.concat([head(MAJOR.array, value.length), ...value.map(encode)]);
  }
  const entries = Object.entries(value).filter(([, each]) => each !== undefined);
  const parts = entries.flatMap(([key, each]) => [encode(key), encode(each)]);
  return Buffer.concat([head(MAJOR.map, entries.length), ...parts]);
}

function head(major, value) {
  const count = BigInt(value);
  if (count < 0n) throw new RangeError("the protocol has no negative numbers");
  if (count < 24n) return Buffer.from([(major << 5) | Number(count)]);
  const size = [1, 2, 4, 8].find((bytes) => count < 1n << BigInt(8 * bytes));
  const bytes = Buffer.alloc(9);
  bytes.writeBigUInt64BE(count, 1);
  bytes[8 - size] = (major << 5) | (24 + Math.log2(size));
  return bytes.subarray(8 - size);
}

/**
 * Return the one item that these bytes hold. A map becomes a Map, whose keys may be of any type; a
 * natural number above 2^53 becomes a BigInt. Throws for anything malformed.
 */
export function decode(bytes) {
  const reader = new Reader(bytes);
  const item = reader.item(DEPTH);
  if (reader.at !== bytes.length) throw new Error("bytes after the item");
  return item;
}

class Reader {
  constructor(bytes) {
    this.bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  take(size) {
    if (this.at + size > this.bytes.length) throw new Error("an item is cut off");
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  item(depth) {
    const [initial] = this.take(1);
    const [major, detail] = [initial >> 5, initial & 31];
    if (major === MAJOR.other) return this.other(detail);
    if (major === MAJOR.tag) throw new Error("a tag");
    const count = this.count(detail);
    if (major === MAJOR.natural) return count;
    if (major === MAJOR.negative) return typeof count === "bigint" ? -1n - count : -1 - count;
    if (typeof count === "bigint") throw new Error("an item is cut off");
    if (major === MAJOR.bytes) return Buffer.from(this.take(count));
    if (major === MAJOR.text) return utf8.decode(this.take(count));
    if (depth === 0) throw new Error("nested too deep");
    if (major === MAJOR.array) return Array.from({ length: count }, () => this.item(depth - 1));
    const map = new Map();
    for (let each = 0; each < count; each++) {
      const key = this.item(depth - 1);
      if (map.has(key)) throw new Error("a duplicate key");
      map.set(key, this.item(depth - 1));
    }
    return map;
  }

  count(detail) {
    if (detail < 24) return detail;
    if (detail > 27) throw new Error("an indefinite length");
    const size = 1 << (detail - 24);
    const value = this.take(size).reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
  }

  other(detail) {
    if (detail >= 20 && detail <= 23) return [false, true, null, undefined][detail - 20];
    if (detail === 25) return this.take(2).fill(0).readInt16BE(); // no known key has one: skip it
    if (detail === 26) return this.take(4).readFloatBE();
    if (detail === 27) return this.take(8).readDoubleBE();
    throw new Error("an unknown simple value");
  }
}

// A client in another language, written from PROTOCOL.md and protocol.cddl alone. It needs Node 20
// and no libraries.
//
//     node client.mjs HOST PORT USER GROUP STATE [PIN]
//
// It joins the group and prints what others post, from the beginning. STATE is a file of its own,
// for its key, the server's pin and its place in the log. Each line of input is posted; "/offline"
// disconnects and "/online" connects again. The end of input ends it.

import * as crypto from "node:crypto";
import * as fs from "node:fs";
import * as net from "node:net";
import * as readline from "node:readline";
import * as tls from "node:tls";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

import { decode, encode } from "./cbor.mjs";

const VERSION = 5;
const PURPOSE = "tchat: I am the person of this name, to this server, now\0";
const FRAME_LIMIT = 65536;
const PING_MS = 15_000;
const SILENCE_MS = 60_000;
const FINAL = new Set([
  ...["bad_name", "bad_version", "replaced", "name_taken", "bad_proof", "bad_link"],
  ...["key_removed", "banned", "not_encrypted"],
  "wrong_pin", // not of the protocol: the server has another key than before
]);

const sha256 = (...parts) => crypto.createHash("sha256").update(Buffer.concat(parts)).digest();
export const pinText = (pin) => `sha256:${pin.toString("base64url")}`;

/** An error with a stable code, from the server or of this client; `final` if it would recur. */
class Failure extends Error {
  constructor(code, text, final = FINAL.has(code)) {
    super(text);
    this.code = code;
    this.final = final;
  }
}

// ------------------------------------------------------------------------- frames

export function toFrame(fields) {
  const body = encode(fields);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, body]);
}

/** Yield each frame of a socket as an object. */
async function* framesOf(socket) {
  let rest = Buffer.alloc(0);
  for await (const chunk of socket) {
    rest = Buffer.concat([rest, chunk]);
    while (rest.length >= 4) {
      const length = rest.readUInt32BE();
      if (length > FRAME_LIMIT) throw new Failure("frame_too_large", "The server sent too much.");
      if (rest.length < 4 + length) break;
      yield Object.fromEntries(decode(rest.subarray(4, 4 + length)));
      rest = rest.subarray(4 + length);
    }
  }
}

// ------------------------------------------------------------------------- identity

/** Return the bytes that a client signs to prove that it has its key. */
export function signedBytes({ versions, pin, nonces, key, client, user }) {
  const numbers = Buffer.alloc(16);
  versions.forEach((version, index) => numbers.writeBigUInt64BE(BigInt(version), 8 * index));
  const place = Buffer.concat([Buffer.from([pin.length]), pin]);
  const who = Buffer.concat([key, client, Buffer.from(user, "utf8")]);
  return Buffer.concat([Buffer.from(PURPOSE, "latin1"), numbers, place, ...nonces, who]);
}

/** What is kept from run to run; it is saved before it is used. */
class State {
  constructor(path) {
    this.path = path;
    const pair = crypto.generateKeyPairSync("ed25519");
    this.kept = {
      key: pair.privateKey.export({ type: "pkcs8", format: "pem" }),
      client: crypto.randomBytes(8).toString("hex"),
      n: 0, // the last number of a command
      seq: 0, // the last event that was shown
      pin: null,
    };
    if (fs.existsSync(path)) this.kept = JSON.parse(fs.readFileSync(path, "utf8"));
    this.private = crypto.createPrivateKey(this.kept.key);
    const jwk = crypto.createPublicKey(this.private).export({ format: "jwk" });
    this.public = Buffer.from(jwk.x, "base64url");
    this.client = Buffer.from(this.kept.client, "hex");
  }

  save(changes) {
    Object.assign(this.kept, changes);
    fs.writeFileSync(`${this.path}.new`, JSON.stringify(this.kept), { mode: 0o600 });
    fs.renameSync(`${this.path}.new`, this.path);
  }
}

// ------------------------------------------------------------------------- one connection

/** Connect with TLS 1.3; resolve to the socket and the pin of the server's key. */
function connect(host, port) {
  return new Promise((resolve, reject) => {
    const name = net.isIP(host) ? {} : { servername: host };
    // The pin identifies the server; it is checked before anything is sent.
    const options = { host, port, ...name, minVersion: "TLSv1.3", rejectUnauthorized: false };
    const socket = tls.connect(options, () => {
      const key = socket.getPeerX509Certificate().publicKey;
      resolve({ socket, pin: sha256(key.export({ type: "spki", format: "der" })) });
    });
    socket.on("error", reject); // later ones end the loop over the frames
  });
}

// ------------------------------------------------------------------------- the client

class Client {
  constructor({ host, port, user, group, state, pin, print }) {
    Object.assign(this, { host, port, user, group, state, print });
    this.expectedPin = pin ?? state.kept.pin;
    this.open = new Map(); // requests without an answer, by id
    this.lastId = 0;
    this.wanted = true; // whether to be connected
    this.attempts = 0;
  }

  /** Stay connected until `end`. Throws a Failure that would recur. */
  async run() {
    while (!this.ended) {
      if (this.wanted) {
        await this.session().catch((error) => {
          if (error.final) throw error;
        });
        this.attempts += 1;
      }
      const backoff = Math.min(100 * 2 ** this.attempts, 30_000);
      await sleep(this.wanted ? backoff * (0.5 + Math.random()) : 10);
    }
  }

  /** One connection from beginning to end. */
  async session() {
    const { socket, pin } = await connect(this.host, this.port);
    this.heard = Date.now();
    const pings = setInterval(() => {
      if (Date.now() - this.heard > SILENCE_MS) socket.destroy(new Error("the server is silent"));
      this.send({ type: "ping" });
    }, PING_MS);
    try {
      this.check(pin);
      this.socket = socket;
      const frames = framesOf(socket);
      await this.authenticate(frames, pin);
      this.attempts = 0;
      const resent = [...this.open.values()].filter(({ fields }) => fields.n !== undefined);
      this.open.clear();
      for (const { fields, settle } of resent) this.sendRequest(fields, settle);
      await Promise.all([this.receive(frames), this.enter()]);
    } finally {
      clearInterval(pings);
      this.socket = undefined;
      this.attached = false;
      socket.destroy();
      for (const [id, { fields, settle }] of this.open) {
        if (fields.n !== undefined) continue; // a command: sent again after the next welcome
        this.open.delete(id);
        settle.reject(new Failure("lost", "The connection was lost."));
      }
    }
  }

  check(pin) {
    const expected = this.expectedPin ?? pinText(pin);
    if (pinText(pin) !== expected) {
      throw new Failure("wrong_pin", `The server's key is ${pinText(pin)}, not ${expected}.`);
    }
    this.expectedPin = expected;
    if (this.state.kept.pin !== expected) this.print(`pin ${expected}`);
    this.state.save({ pin: expected });
  }

  async authenticate(frames, pin) {
    const { public: key, client } = this.state;
    const nonce = crypto.randomBytes(32);
    const hello = { type: "hello", version: VERSION, user: this.user, client, key, nonce };
    this.send(hello);
    const challenge = await expect(frames, "challenge");
    const versions = [VERSION, challenge.version];
    const nonces = [challenge.nonce, nonce];
    const signed = signedBytes({ versions, pin, nonces, key, client, user: this.user });
    this.send({ type: "proof", signature: crypto.sign(null, signed, this.state.private) });
    const welcome = await expect(frames, "welcome");
    if (welcome.version !== VERSION) throw new Failure("bad_version", "Another version is needed.");
    this.print(`welcome ${welcome.user}`);
  }

  /** Join the group unless this client has been in it, and subscribe to its events. */
  async enter() {
    const { standing } = await this.attach();
    if (standing !== "outsider") return;
    await this.command({ type: "join", create: false });
    await this.attach();
  }

  attach() {
    return this.request({ type: "attach", group: this.group, after: this.state.kept.seq });
  }

  post(text) {
    return this.command({ type: "post", text });
  }

  command(fields) {
    this.state.save({ n: this.state.kept.n + 1 });
    return this.request({ ...fields, n: this.state.kept.n, group: this.group });
  }

  // ----------------------------------------------------------------------- sending

  send(fields) {
    this.socket?.write(toFrame(fields));
  }

  /** Resolve to the answer of a request; a command is sent again until there is one. */
  request(fields) {
    return new Promise((resolve, reject) => this.sendRequest(fields, { resolve, reject }));
  }

  sendRequest(fields, settle) {
    const id = ++this.lastId;
    this.open.set(id, { fields, settle });
    this.send({ ...fields, id });
  }

  // ----------------------------------------------------------------------- receiving

  async receive(frames) {
    for await (const frame of frames) {
      this.heard = Date.now();
      this.handle(frame);
    }
    throw new Failure("lost", "The server closed the connection.");
  }

  handle(frame) {
    if (frame.type === "attached") this.onAttached(frame);
    if (frame.type === "event") this.onEvent(frame);
    if (frame.type === "membership") this.onMembership(frame);
    if (frame.type === "goodbye") throw new Failure(frame.code, frame.text);
    if (frame.re !== undefined) this.onAnswer(frame);
    else if (frame.type === "error") throw new Failure(frame.code, frame.text);
  }

  onAnswer(frame) {
    const request = this.open.get(frame.re);
    if (request === undefined) return;
    this.open.delete(frame.re);
    const { fields, settle } = request;
    if (frame.type !== "error") settle.resolve(frame);
    else if (frame.code === "rate_limited") {
      setTimeout(() => this.sendRequest(fields, settle), frame.wait ?? 1000); // with the same n
    } else settle.reject(new Failure(frame.code, frame.text, true));
  }

  onAttached({ standing, first, counted }) {
    this.print(standing);
    this.next = first;
    this.attached = standing === "member";
    if (counted > this.state.kept.n) this.state.save({ n: counted });
  }

  onMembership({ standing, reason, by }) {
    this.print(`${reason} by ${show(by)}`);
    if (standing !== "outsider") this.attach().catch(() => {}); // lost: the next session attaches
  }

  onEvent(event) {
    if (!this.attached) return;
    if (event.seq !== this.next && event.kind !== "created") {
      throw new Failure("gap", `Event ${event.seq} came instead of ${this.next}.`);
    }
    this.next = event.seq + 1;
    const mine = event.client.equals(this.state.client);
    if (event.kind === "posted" && !mine) this.print(`<${show(event.actor)}> ${show(event.text)}`);
    this.state.save({ seq: event.seq });
    this.send({ type: "seen", group: this.group, seq: event.seq });
  }

  // ----------------------------------------------------------------------- input

  async type(line) {
    if (line === "/offline") {
      this.wanted = false;
      this.socket?.destroy();
      this.print("offline");
    } else if (line === "/online") this.wanted = true;
    else {
      const answer = await this.post(line).catch((error) => error);
      if (answer instanceof Error) this.print(`refused ${answer.code}`);
      else this.print(`posted ${answer.seq ?? "before"}`);
    }
  }

  end() {
    this.ended = true;
    this.wanted = false;
    this.socket?.destroy();
  }
}

/** Return the next frame, which must be of this type. */
async function expect(frames, type) {
  const { value: frame, done } = await frames.next();
  if (done) throw new Failure("lost", "The server closed the connection.");
  if (frame.type === "error") throw new Failure(frame.code, frame.text);
  if (frame.type !== type) throw new Failure("malformed", `${frame.type} instead of ${type}.`);
  return frame;
}

/** Return a text for a terminal, on one line. */
function show(text) {
  return text
    .replace(/\n/g, "↵")
    .replace(/[\u0000-\u001f]/g, (each) => String.fromCodePoint(0x2400 + each.charCodeAt(0)))
    .replace(/\u007f/g, "\u2421")
    .replace(/[\u0080-\u009f]|\p{Surrogate}/gu, "\ufffd")
    .replace(/[\p{Bidi_Control}\p{Default_Ignorable_Code_Point}]/gu, "");
}

async function main([host, port, user, group, path, pin]) {
  const state = new State(path);
  const print = (line) => process.stdout.write(`${line}\n`);
  const client = new Client({ host, port: Number(port), user, group, state, pin, print });
  const input = readline.createInterface({ input: process.stdin });
  input.on("line", (line) => client.type(line));
  input.on("close", () => client.end());
  try {
    await client.run();
  } catch (error) {
    process.stderr.write(`${error.code}: ${error.message}\n`);
    process.exit(1);
  }
  process.exit(0);
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await main(process.argv.slice(2));

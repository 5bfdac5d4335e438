// The registry's HTTP API, as everybody has it: requests, and values that are kept fresh by blocking queries.

const TOKEN = "token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

// An answer that is no success; `status` is 0 if there was none.
export class Refused extends Error {
  constructor(status, text) {
    super(text || `status ${status}`);
    this.status = status;
  }
}

class TooLong extends Error {}

async function send(method, where, { signal, body } = {}) {
  const headers = token.get() ? { "X-Consul-Token": token.get() } : {};
  let response;
  try {
    response = await fetch(where, { method, headers, signal, body, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The registry does not answer");
  }
  if (response.ok || response.status === 404) return response;
  throw new Refused(response.status, (await response.text()).trim());
}

// The names of a path, each on its own: what is in them does not count as a part of the path.
export const path = (base, ...names) => [base, ...names.map(encodeURIComponent)].join("/");

// A key's slashes are part of its path.
export const keyPath = (key) => `/v1/kv/${key.split("/").map(encodeURIComponent).join("/")}`;

// The value that is there now; null where there is none.
export async function read(where) {
  const response = await send("GET", where);
  return response.status === 404 ? null : response.json();
}

export async function change(method, where, body) {
  const response = await send(method, where, { body });
  const text = (await response.text()).trim();
  if (response.status === 404) throw new Refused(404, text || "It is not there");
  return text;
}

// A value as base64, as text.
export const decoded = (base64, options) =>
  new TextDecoder("utf-8", options).decode(Uint8Array.from(atob(base64 ?? ""), (c) => c.charCodeAt(0)));

// What is wrong with the queries that are waited on, by their paths; whoever shows it is called when that changes.
export const troubles = new Map();
let told = () => {};
export const onTrouble = (tell) => (told = tell);

function trouble(where, error) {
  if (error === null && !troubles.has(where)) return;
  error === null ? troubles.delete(where) : troubles.set(where, error);
  told();
}

// Calls `show` with each new value of `where` until `signal` aborts; with null where there is nothing. Between two
// answers there are at least `pause` milliseconds. An answer of more than `most` bytes is not taken: `instead` is asked.
export async function watch(where, signal, show, { most = Infinity, instead, pause = 100, isQuiet = () => false } = {}) {
  let index = 0;
  let patience = 250;
  signal.addEventListener("abort", () => trouble(where, null));
  while (!signal.aborted) {
    // A browser has few connections to one host, and who does not look needs none.
    const seen = await visible(signal);
    try {
      const wait = `${where.includes("?") ? "&" : "?"}index=${index}&wait=60s`;
      const response = await send("GET", where + (index ? wait : ""), { signal: seen.signal });
      const value = response.status === 404 ? null : JSON.parse(await text(response, most));
      const next = Number(response.headers.get("X-Consul-Index")) || 0;
      trouble(where, null);
      // An index that fell is from another life of the registry.
      if (next !== index || index === 0) show(value);
      index = next < index ? 0 : next;
      patience = 250;
      await sleep(next === 0 ? 2000 : pause, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof TooLong) {
        where = instead;
        index = 0;
      } else if (error.name !== "AbortError") {
        const refused = error instanceof Refused ? error : new Refused(0, "The registry gives no whole answer");
        if (refused !== error) console.error(error);
        if (!isQuiet() || refused.status === 0 || refused.status >= 500) trouble(where, refused);
        index = 0;
        await sleep(patience, signal);
        patience = Math.min(patience * 2, 10_000);
      }
    } finally {
      seen.abort();
    }
  }
}

async function text(response, most) {
  if (most === Infinity) return response.text();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let taken = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return taken + decoder.decode();
    bytes += value.length;
    if (bytes > most) {
      await reader.cancel();
      throw new TooLong();
    }
    taken += decoder.decode(value, { stream: true });
  }
}

// Once the page is seen: what aborts when it no longer is, or with `signal`.
async function visible(signal) {
  while (document.hidden && !signal.aborted) {
    await new Promise((done) => {
      document.addEventListener("visibilitychange", done, { once: true, signal });
      signal.addEventListener("abort", done, { once: true });
    });
  }
  const seen = new AbortController();
  const end = () => (signal.aborted || document.hidden) && seen.abort();
  document.addEventListener("visibilitychange", end, { signal: seen.signal });
  signal.addEventListener("abort", end, { once: true, signal: seen.signal });
  end();
  return seen;
}

const sleep = (millis, signal) =>
  new Promise((done) => {
    const end = () => (clearTimeout(timer), done());
    const timer = setTimeout(() => (signal.removeEventListener("abort", end), done()), millis);
    signal.addEventListener("abort", end, { once: true });
  });

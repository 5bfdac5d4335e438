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

async function send(method, where, { signal, body } = {}) {
  const headers = token.get() ? { "X-Consul-Token": token.get() } : {};
  let response;
  try {
    response = await fetch(where, { method, headers, signal, body, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "the registry does not answer");
  }
  if (response.ok || response.status === 404) return response;
  throw new Refused(response.status, (await response.text()).trim());
}

// The names of a path, each on its own: what is in them does not count as a part of the path.
export const path = (base, ...names) => [base, ...names.map(encodeURIComponent)].join("/");

// A key's slashes are part of its path.
export const keyPath = (key) => `/v1/kv/${key.split("/").map(encodeURIComponent).join("/")}`;

export const change = async (method, where, body) => {
  const response = await send(method, where, { body });
  if (response.status === 404) throw new Refused(404, (await response.text()).trim() || "it is not there");
  return response.text();
};

// Calls `show` with each new value of `path` until `signal` aborts; with null where there is nothing. `trouble` hears
// what went wrong, and null when all is well again.
export async function watch(where, signal, show, trouble) {
  let index = 0;
  let pause = 250;
  while (!signal.aborted) {
    try {
      const wait = `${where.includes("?") ? "&" : "?"}index=${index}&wait=60s`;
      const response = await send("GET", where + (index ? wait : ""), { signal });
      const value = response.status === 404 ? null : await response.json();
      const next = Number(response.headers.get("X-Consul-Index")) || 0;
      trouble(null);
      // An index that fell is from another life of the registry.
      if (next !== index || index === 0) show(value);
      index = next < index ? 0 : next;
      pause = 250;
      if (next === 0) await sleep(2000, signal);
    } catch (error) {
      if (signal.aborted) return;
      trouble(error);
      index = 0;
      await sleep(pause, signal);
      pause = Math.min(pause * 2, 10_000);
    }
  }
}

const sleep = (millis, signal) =>
  new Promise((done) => {
    const timer = setTimeout(done, millis);
    signal.addEventListener("abort", () => (clearTimeout(timer), done()), { once: true });
  });

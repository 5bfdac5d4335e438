// What the registry holds, asked for once for the whole page: one query that waits serves every view, and the log of
// changes, which begins when the page is opened.

import { decoded, keyPath, read, watch } from "./api.js";
import { catalogChanges, keyChanges, sessionChanges } from "./changes.js";

// So many changes are kept.
const KEPT = 500;

// What has more bytes is not fetched again and again: the names of the keys have to do.
const MOST_OF_KEYS = 1 << 20;

const always = new AbortController().signal;

// A value that is always kept fresh. What is denied matters to those who follow it, and to nobody else.
function feed(where, differences, options = {}) {
  const followers = new Set();
  let last;
  watch(where, always, (value) => {
    const now = value ?? [];
    if (last) record(differences(last, now));
    last = now;
    for (const show of followers) show(now);
  }, { ...options, isQuiet: () => followers.size === 0 });
  return {
    // What it is now is told once the caller has shown itself.
    follow(signal, show) {
      followers.add(show);
      signal.addEventListener("abort", () => followers.delete(show));
      if (last) queueMicrotask(() => signal.aborted || show(last));
    },
  };
}

const log = [];
const readers = new Set();

function record(changes) {
  if (!changes.length) return;
  const at = new Date();
  log.unshift(...changes.map((one) => ({ ...one, at })).toReversed());
  log.length = Math.min(log.length, KEPT);
  for (const show of readers) show(log);
}

export const changes = {
  follow(signal, show) {
    readers.add(show);
    signal.addEventListener("abort", () => readers.delete(show));
    queueMicrotask(() => signal.aborted || show(log));
  },
};

// All nodes with their instances and checks.
export const catalog = feed("/v1/internal/ui/nodes", catalogChanges, { pause: 300 });

// All keys with values and locks; their names alone where that would be too much.
export const keys = feed("/v1/kv/?recurse", (before, after) => keyChanges(before, after, decoded),
  { pause: 1000, most: MOST_OF_KEYS, instead: "/v1/kv/?keys" });

export const sessions = feed("/v1/session/list", sessionChanges);

// Who waits on the catalog is not told what checks say while their states stay. Calls `show` with a function that gives a
// check with its newest output, for the checks that `where` lists.
export function followOutputs(where, signal, show) {
  const key = ({ Node, CheckID }) => JSON.stringify([Node, CheckID]);
  watch(where, signal, (checks) => {
    const outputs = new Map((checks ?? []).map((one) => [key(one), one.Output]));
    show((one) => ({ ...one, Output: outputs.get(key(one)) ?? one.Output }));
  }, { pause: 1000 });
}

// Which version of a service is live; null: none.
export function followRelease(service, signal, show) {
  watch(keyPath(`release/${service.toLowerCase()}`), signal, (value) => show(value ? decoded(value[0].Value).trim() : null));
}

// The agent that answers here: its node, datacenter and version.
let asked = null;
export async function agent() {
  asked ??= read("/v1/agent/self");
  try {
    return (await asked).Config;
  } catch (error) {
    asked = null;
    throw error;
  }
}

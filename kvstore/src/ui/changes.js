// What is different between two answers, told in words, what came first first. Pure.
//
// A change has a `status` (a word of health.js, or "made" and "gone"), what it is `about` and where that is shown
// (`view` and `name`), what happened (`text`), and what a check said (`detail`).

import { instancesOf, meaning, together } from "./health.js";

const byKey = (all, key) => new Map(all.map((one) => [key(one), one]));

// Calls for what is in both, in the newer alone, and in the older alone.
function compare(before, after, key, { both = () => [], made, gone }) {
  const [old, now] = [byKey(before, key), byKey(after, key)];
  return [
    ...after.flatMap((one) => (old.has(key(one)) ? both(old.get(key(one)), one) : made(one))),
    ...before.flatMap((one) => (now.has(key(one)) ? [] : gone(one))),
  ];
}

// Two answers of `/v1/internal/ui/nodes`.
export function catalogChanges(before, after) {
  return [nodeChanges, instanceChanges, checkChanges, usable].flatMap((part) => part(before, after));
}

function nodeChanges(before, after) {
  const of = (node, status, text) => ({ status, view: "node", name: node.Node, about: node.Node, text });
  return compare(before, after, ({ Node }) => Node.toLowerCase(), {
    both: (old, now) =>
      old.Address === now.Address ? [] : of(now, "made", `has the address ${now.Address}, and had ${old.Address}`),
    made: (node) => of(node, "made", `joined, ${node.Address}`),
    gone: (node) => of(node, "gone", "left"),
  });
}

const address = ({ node, service }) => `${service.Address || node.Address}${service.Port ? `:${service.Port}` : ""}`;

const ofInstance = ({ node, service }, status, text) =>
  ({ status, view: "service", name: service.Service, about: service.Service, text: `${service.ID} on ${node.Node} ${text}` });

function instanceChanges(before, after) {
  const key = ({ node, service }) => JSON.stringify([node.Node.toLowerCase(), service.ID]);
  const version = ({ service }) => service.Meta?.version;
  return compare(instancesOf(before), instancesOf(after), key, {
    both: (old, now) => [
      address(old) !== address(now) ? `is at ${address(now)}, and was at ${address(old)}` : null,
      version(old) !== version(now) ? `has version ${version(now) ?? "none"}, and had ${version(old) ?? "none"}` : null,
    ].filter(Boolean).map((text) => ofInstance(now, "made", text)),
    made: (one) => ofInstance(one, "made", `registered at ${address(one)}${version(one) ? `, version ${version(one)}` : ""}`),
    gone: (one) => ofInstance(one, "gone", "deregistered"),
  });
}

function checkChanges(before, after) {
  const all = (nodes) => nodes.flatMap((node) => node.Checks);
  const key = ({ Node, CheckID }) => JSON.stringify([Node.toLowerCase(), CheckID]);
  const of = (check, status, text) => ({
    status,
    view: check.ServiceID ? "service" : "node",
    name: check.ServiceID ? check.ServiceName : check.Node,
    about: check.ServiceID ? check.ServiceName : check.Node,
    text: check.ServiceID ? `${check.ServiceID} on ${check.Node} ${text}` : text,
    detail: check.Output || undefined,
  });
  const name = ({ Name, CheckID }) => Name || CheckID;
  const isWish = (check) => meaning(check) !== check.Status;
  const why = ({ Notes }) => (Notes ? `: ${Notes}` : "");
  return compare(all(before), all(after), key, {
    both: (old, now) =>
      old.Status === now.Status ? [] : of(now, now.Status, `check “${name(now)}”: ${old.Status} → ${now.Status}`),
    // What a new instance brings along is told by its registration; what is wrong with it is told too.
    made: (check) => {
      if (isWish(check)) return of(check, meaning(check), `${meaning(check)} began${why(check)}`);
      return check.Status === "passing" ? [] : of(check, check.Status, `check “${name(check)}” is ${check.Status}`);
    },
    gone: (check) => (isWish(check) ? of(check, "made", `${meaning(check)} ended`) : []),
  });
}

// Services that came to be, went, or have something to offer again or no more.
function usable(before, after) {
  const grouped = (nodes) => {
    const services = new Map();
    for (const { service, status } of instancesOf(nodes)) {
      const key = service.Service.toLowerCase();
      const own = services.get(key) ?? { name: service.Service, statuses: [] };
      own.statuses.push(status);
      services.set(key, own);
    }
    return [...services.values()].map(({ name, statuses }) =>
      ({ name, status: together(statuses), isUp: statuses.some((one) => one === "passing" || one === "warning") }));
  };
  const of = ({ name }, status, text) => ({ status, view: "service", name, about: name, text });
  return compare(grouped(before), grouped(after), ({ name }) => name.toLowerCase(), {
    both: (old, now) => {
      if (old.isUp === now.isUp) return [];
      return now.isUp ? of(now, now.status, "is up again") : of(now, now.status, "is down: no instance can be used");
    },
    made: (service) => of(service, service.status, "is a new service"),
    gone: (service) => of(service, "gone", "has no instance any more"),
  });
}

// Two lists of keys, with their indexes (`?recurse`) or by name alone (`?keys`). `text` reads a value.
export function keyChanges(before, after, text) {
  // The history of releases is written with each of them.
  const entries = (all) => all.map((one) => (typeof one === "string" ? { Key: one } : one))
    .filter(({ Key }) => !Key.startsWith("release-history/"));
  const of = ({ Key }, status, what) => ({ status, view: "keys", name: Key, about: Key, text: what });
  const released = (entry, status, what) => {
    const service = entry.Key.match(/^release\/(.+)$/)?.[1];
    if (!service || entry.Value === undefined) return of(entry, status, what);
    const live = status === "gone" ? "no version is live any more" : `version ${text(entry.Value)} is live`;
    return { status, view: "service", name: service, about: service, text: live };
  };
  return compare(entries(before), entries(after), ({ Key }) => Key, {
    both: (old, now) => {
      if (old.ModifyIndex === undefined || now.ModifyIndex === undefined || old.ModifyIndex === now.ModifyIndex) return [];
      if (!old.Session && now.Session) return of(now, "made", `locked by session ${now.Session}`);
      if (old.Session && !now.Session) return of(now, "made", "unlocked");
      return released(now, "made", "written");
    },
    made: (entry) => released(entry, "made", entry.Session ? `made, locked by session ${entry.Session}` : "made"),
    gone: (entry) => released(entry, "gone", "deleted"),
  });
}

// Two answers of `/v1/session/list`.
export function sessionChanges(before, after) {
  const of = ({ Name, ID, Node }, status, text) =>
    ({ status, view: "sessions", name: "", about: Name || ID, text: `session on ${Node} ${text}` });
  return compare(before, after, ({ ID }) => ID, {
    made: (session) => of(session, "made", session.TTL ? `made, TTL ${session.TTL}` : "made"),
    gone: (session) => of(session, "gone", "ended"),
  });
}

// What nodes, instances and checks amount to. Pure.

// The later, the more it says; the last two are somebody's wish.
export const STATUSES = ["passing", "warning", "critical", "draining", "maintenance"];

const DELIBERATE = ["draining", "maintenance"];

export const worst = (statuses) =>
  statuses.reduce((a, b) => (STATUSES.indexOf(b) > STATUSES.indexOf(a) ? b : a), "passing");

export const NODE_MAINTENANCE = "_node_maintenance";

// What a check says, or why it was put there.
export function meaning({ CheckID, Status }) {
  if (CheckID === NODE_MAINTENANCE || CheckID.startsWith("_service_maintenance:")) return "maintenance";
  if (CheckID.startsWith("_draining:")) return "draining";
  return Status;
}

export const statusOf = (checks) => worst(checks.map(meaning));

// What out of many is in use tells how they are together, unless nothing is in use.
export function together(statuses) {
  const used = statuses.filter((one) => !DELIBERATE.includes(one));
  return worst(used.length ? used : statuses);
}

// Each instance on `nodes` (`/v1/internal/ui/nodes`), with its checks and those of its node.
export const instancesOf = (nodes) =>
  nodes.flatMap((node) => {
    const checks = Map.groupBy(node.Checks, ({ ServiceID }) => ServiceID);
    const ofNode = checks.get("") ?? [];
    return node.Services.map((service) => {
      const own = [...(checks.get(service.ID) ?? []), ...ofNode];
      return { node, service, checks: own, status: statusOf(own) };
    });
  });

// How many there are in each status.
export function count(statuses) {
  const counted = {};
  for (const status of STATUSES) {
    const n = statuses.filter((one) => one === status).length;
    if (n) counted[status] = n;
  }
  return counted;
}

export const counted = (counts) => Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(", ");

// The services that `instances` offer, by name. Names that differ in case only are one.
export function summary(instances) {
  const byName = new Map();
  for (const one of instances) {
    const key = one.service.Service.toLowerCase();
    if (!byName.has(key)) byName.set(key, []);
    byName.get(key).push(one);
  }
  return [...byName.values()]
    .map((own) => {
      const statuses = own.map(({ status }) => status);
      return {
        name: own[0].service.Service,
        tags: [...new Set(own.flatMap(({ service }) => service.Tags ?? []))],
        total: own.length,
        counts: count(statuses),
        status: together(statuses),
      };
    })
    .sort((a, b) => a.name.localeCompare(b.name));
}

// The versions of a service's instances: how many there are, how many pass, and whether it is the live one.
export function versions(instances, live) {
  const byName = new Map();
  for (const { service, status } of instances) {
    const name = service.Meta?.version;
    if (!name) continue;
    const own = byName.get(name) ?? { name, total: 0, passing: 0, isLive: name === live };
    own.total += 1;
    own.passing += status === "passing" ? 1 : 0;
    byName.set(name, own);
  }
  return [...byName.values()].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

export function matches(text, ...fields) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const all = fields.join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
}
